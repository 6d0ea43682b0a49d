#include "drivers/channel_product.hpp"

#include <algorithm>

#include "base/finite.hpp"
#include "base/workspace.hpp"
#include "drivers/tiles.hpp"

namespace windrow {
namespace {

constexpr Index kColumns = 512;      // of one unit at most: a line of a long signal is cut
constexpr double kUnitFlops = 2e7;   // of one unit at most, beyond a single pixel: some ms
constexpr double kPieceFlops = 1e6;  // of one piece of work, where it is several units: some 20 us
constexpr Index kLaneBytes = 512;    // of the channels that one pass over a unit takes: what it reads again
                                     // for each tap then stays in the first-level cache
constexpr Index kWindowBytes = 128;  // the same where the kernel for windows reads each pixel once for a row

Index lines_of(const PixelGrid& grid) {
  Index lines = grid.images;
  for (std::size_t i = 0; i + 1 < grid.axes.size(); ++i) lines *= grid.axes[i].count;
  return lines;
}

Index line_blocks(const PixelGrid& grid, const ChannelBlocks& blocks) {
  return ceil_div(grid.axes.back().count, blocks.columns);
}

template <class T>
class Driver {
 public:
  // `border`: what all channels of a constant border hold, and whether that adds anything to any sum.
  Driver(const WindowProduct<T>& problem, const ChannelBlocks& blocks, const KernelTable<T>& kernels,
         const T* weights, const T* bias, const T* border, bool border_adds)
      : p_(problem),
        blocks_(blocks),
        kernels_(kernels),
        last_(problem.grid.axes.back()),
        outer_(problem.grid.axes.size() - 1),
        taps_(problem.grid.taps()),
        line_blocks_(line_blocks(problem.grid, blocks)),
        units_(lines_of(problem.grid) * line_blocks_),
        lane_block_(kLaneBytes / Index{sizeof(T)}),
        weights_(weights),
        bias_(bias),
        border_(border),
        border_adds_(border_adds) {
    // The pixels [inner0_, inner1_) of a line have all taps of the last axis inside.
    inner0_ = 0;
    inner1_ = last_.count;
    for (const Index tap : last_.tap) {
      inner0_ = std::max(inner0_, tap < 0 ? ceil_div(-tap, last_.step) : 0);
      const Index room = last_.size - 1 - tap;
      inner1_ = std::min(inner1_, room < 0 ? 0 : room / last_.step + 1);
    }
    inner1_ = std::max(inner0_, inner1_);
    // Of three taps most see the image in all but short lines, and there loads of x are not what binds.
    const bool pays = last_taps() > 3 || taps_ > 9 || inner1_ - inner0_ < last_.count - last_.count / 10;
    follow_ = pays && !border_adds_ && last_.step == 1 && taps_ <= kChunk && taps_ > last_taps();
    for (std::size_t t = 1; t < last_.tap.size(); ++t)
      follow_ = follow_ && last_.tap[t] == last_.tap[t - 1] + 1;
  }

  Index pieces() const { return ceil_div(units_, blocks_.units); }

  void piece(Index index) const {
    Scratch scratch;
    auto* taps = scratch.take<ChannelTap<T>>(taps_);
    const Index lines = taps_ / std::max<Index>(1, last_taps());
    auto* line = scratch.take<const T*>(lines);
    auto* rows = scratch.take<ChannelRow<T>>(lines);
    const Index end = std::min(units_, (index + 1) * blocks_.units);
    for (Index unit = index * blocks_.units; unit < end; ++unit) run_unit(unit, line, taps, rows);
  }

 private:
  Index last_taps() const { return static_cast<Index>(last_.tap.size()); }

  void run_unit(Index unit, const T** line, ChannelTap<T>* taps, ChannelRow<T>* rows) const {
    const Index first = unit % line_blocks_ * blocks_.columns;
    const Index end = std::min(last_.count, first + blocks_.columns);
    T* target = place_line(unit / line_blocks_, line);
    if (!follow_) return run_taps(line, first, end, 0, taps, target);
    const bool constant = last_.border == Border::kConstant;
    const Index from = constant ? first : std::clamp(inner0_, first, end);
    const Index to = constant ? end : std::clamp(inner1_, from, end);
    const Index lanes = run_window(line, from, to, rows, target);
    run_taps(line, first, from, 0, taps, target);
    run_taps(line, from, to, lanes, taps, target);
    run_taps(line, to, end, 0, taps, target);
  }

  // By the kernel for taps that follow one another. Returns the channels that it has done.
  Index run_window(const T* const* line, Index first, Index end, ChannelRow<T>* rows, T* target) const {
    const Index whole = p_.groups / kernels_.lanes * kernels_.lanes;
    const Index x_pixel = last_.source_stride, place = first + last_.tap.front();
    Index count = 0;
    for (Index r = 0; r < taps_ / last_taps(); ++r)
      if (line[r])
        rows[count++] = {.w = weights_ + r * last_taps() * p_.groups, .x = line[r] + place * x_pixel};
    const Index most = (last_taps() > 3 ? kWindowBytes : kLaneBytes) / Index{sizeof(T)};
    Index lane = 0;
    const auto run = [&](Index next, Index some) {
      for (Index r = 0; r < count; ++r) {
        rows[r].w += next - lane;
        rows[r].x += next - lane;
      }
      lane = next;
      const bool done = kernels_.channel_window({.row = rows,
                                                 .rows = count,
                                                 .columns = static_cast<int>(last_taps()),
                                                 .w_tap = p_.groups,
                                                 .x_pixel = x_pixel,
                                                 .low = -place,
                                                 .high = last_.size - place,
                                                 .border = border_ + lane,
                                                 .y = target + first * last_.target_stride + lane,
                                                 .y_pixel = last_.target_stride,
                                                 .pixels = end - first,
                                                 .count = some,
                                                 .accumulate = p_.accumulate,
                                                 .bias = bias_ ? bias_ + lane : nullptr});
      if (done)
        limit(kernels_, p_.limits, target + first * last_.target_stride + lane, last_.target_stride,
              end - first, some);
      return done;
    };
    for (Index next = 0; next < whole; next += most)
      if (!run(next, std::min(most, whole - next))) return 0;
    if (whole == 0 || whole == p_.groups || p_.accumulate) return whole;
    // What fills no vector of its own is done with channels before it, which get the same results again.
    run(p_.groups - kernels_.lanes, kernels_.lanes);
    return p_.groups;
  }

  // Tap by tap the channels from `lane` on, cut into single pixels that see the border and what lies between.
  void run_taps(const T* const* line, Index first, Index end, Index lane, ChannelTap<T>* taps,
                T* target) const {
    if (lane == p_.groups) return;
    for (Index pixel = first; pixel < end;) {
      const bool inner = inner0_ <= pixel && pixel < inner1_;
      const Index next = inner ? std::min(end, inner1_) : pixel + 1;
      const Index count = set_taps(line, pixel, lane, taps);
      run_pixels(next - pixel, lane, taps, count, target + pixel * last_.target_stride);
      pixel = next;
    }
  }

  // Sets where each tap of the outer axes finds its line of the source: null where that is a constant.
  // Returns the line of the result.
  T* place_line(Index number, const T** line) const {
    const std::vector<PixelAxis>& axes = p_.grid.axes;
    T* target = p_.target;
    Extents position(outer_), tap(outer_), taps(outer_);
    for (std::size_t i = outer_; i-- > 0;) {
      const Index at = number % axes[i].count;
      number /= axes[i].count;
      position[i] = at * axes[i].step;
      taps[i] = static_cast<Index>(axes[i].tap.size());
      target += at * axes[i].target_stride;
    }
    if (taps_ > 0) {
      do {
        const T* source = p_.source + number * p_.grid.source_image;
        for (std::size_t i = 0; source && i < outer_; ++i) {
          const Index at = axes[i].at(position[i] + axes[i].tap[static_cast<std::size_t>(tap[i])]);
          source = at >= 0 ? source + at * axes[i].source_stride : nullptr;
        }
        *line++ = source;
      } while (advance(tap, taps));
    }
    return target + number * p_.grid.target_image;
  }

  // Returns how many taps a pixel and those like it have.
  Index set_taps(const T* const* line, Index pixel, Index lane, ChannelTap<T>* taps) const {
    const Index step = last_.step * last_.source_stride;
    const T* w = weights_ + lane;
    Index count = 0;
    for (Index t = 0; t < taps_; ++line) {
      for (const Index tap : last_.tap) {
        const Index at = last_.at(pixel * last_.step + tap);
        if (*line && at >= 0) {
          taps[count++] = {.w = w, .x = *line + at * last_.source_stride + lane, .pixel = step};
        } else if (border_adds_) {
          taps[count++] = {.w = w, .x = border_ + lane, .pixel = 0};
        }
        w += p_.groups;
        ++t;
      }
    }
    return count;
  }

  void run_pixels(Index pixels, Index lane, ChannelTap<T>* taps, Index tap_count, T* target) const {
    while (lane < p_.groups) {
      const Index count = pixels == 1 ? p_.groups - lane : std::min(lane_block_, p_.groups - lane);
      kernels_.channels({.tap = taps,
                         .taps = tap_count,
                         .y = target + lane,
                         .y_pixel = last_.target_stride,
                         .pixels = pixels,
                         .count = count,
                         .accumulate = p_.accumulate,
                         .bias = bias_ ? bias_ + lane : nullptr});
      limit(kernels_, p_.limits, target + lane, last_.target_stride, pixels, count);
      lane += count;
      for (Index t = 0; lane < p_.groups && t < tap_count; ++t) {
        taps[t].x += count;
        taps[t].w += count;
      }
    }
  }

  const WindowProduct<T>& p_;
  const ChannelBlocks& blocks_;
  const KernelTable<T>& kernels_;
  const PixelAxis& last_;
  const std::size_t outer_;
  const Index taps_, line_blocks_, units_, lane_block_;
  const T *weights_, *bias_;
  const T* border_;
  const bool border_adds_;
  Index inner0_, inner1_;
  bool follow_;  // the taps of the last axis follow one another, and a border adds nothing
};

// Turns the weights [channel][tap] of all groups over.
template <class T>
void pack_weights(const WindowProduct<T>& p, const KernelTable<T>& kernels, Index taps, T* weights) {
  bool follow = true;  // the taps of a channel lie side by side, in order
  for (Index t = 0; t < taps; ++t) follow = follow && p.factor_tap[static_cast<std::size_t>(t)] == t;
  if (follow) {
    kernels.transpose({.target = weights,
                       .target_row = p.groups,
                       .source = p.factor,
                       .source_row = p.factor_group,
                       .rows = taps,
                       .columns = p.groups,
                       .ahead = 0});
    return;
  }
  for (Index t = 0; t < taps; ++t)
    kernels.collect({.target = weights + t * p.groups,
                     .source = p.factor + p.factor_tap[static_cast<std::size_t>(t)],
                     .step = p.factor_group,
                     .count = p.groups});
}

}  // namespace

ChannelBlocks choose_channels(const PixelGrid& grid, Index groups) {
  const auto at_least_one = [](double count) { return static_cast<Index>(std::max(1.0, count)); };
  const double pixel_flops = std::max(1.0, 2.0 * static_cast<double>(grid.taps() * groups));
  const Index columns = std::min({grid.axes.back().count, kColumns, at_least_one(kUnitFlops / pixel_flops)});
  const double unit_flops = pixel_flops * static_cast<double>(columns);
  return {.columns = std::max<Index>(1, columns), .units = at_least_one(kPieceFlops / unit_flops)};
}

namespace {

// Calls body(driver) with the problem's driver.
template <class T, class Body>
void with_driver(const WindowProduct<T>& problem, const ChannelBlocks& blocks, const Target& target,
                 Body&& body) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index taps = problem.grid.taps(), groups = problem.groups;
  Scratch scratch;
  T* weights = scratch.take<T>(taps * groups);
  pack_weights(problem, kernels, taps, weights);
  T* bias = problem.bias ? scratch.take<T>(groups) : nullptr;
  for (Index g = 0; bias && g < groups; ++g) bias[g] = problem.bias[g * problem.bias_stride];
  // Products of finite weights with zeros leave a sum as it is, as long as it is a single chunk.
  const bool border_adds = problem.grid.fill != 0 || taps > kChunk || !all_finite(weights, taps * groups);
  T* border = scratch.take<T>(groups);
  std::fill_n(border, groups, static_cast<T>(problem.grid.fill));
  body(Driver<T>(problem, blocks, kernels, weights, bias, border, border_adds));
}

}  // namespace

template <class T>
void run_channel_product(const WindowProduct<T>& problem, const ChannelBlocks& blocks, const Target& target,
                         const RunContext& context) {
  with_driver(problem, blocks, target, [&](const Driver<T>& driver) {
    parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
  });
}

template <class T>
void run_channel_product_here(const WindowProduct<T>& problem, const ChannelBlocks& blocks,
                              const Target& target) {
  with_driver(problem, blocks, target, [](const Driver<T>& driver) {
    for (Index piece = 0; piece < driver.pieces(); ++piece) driver.piece(piece);
  });
}

Index channel_pieces(const PixelGrid& grid, const ChannelBlocks& blocks) {
  return ceil_div(lines_of(grid) * line_blocks(grid, blocks), blocks.units);
}

Index channel_scratch(const PixelGrid& grid) {
  constexpr Index kTap = sizeof(ChannelTap<float>) + sizeof(const float*) + sizeof(ChannelRow<float>);
  return grid.taps() * kTap;
}

Index channel_shared(const PixelGrid& grid, Index groups, Index element) {
  return (grid.taps() + 2) * groups * element;
}

template void run_channel_product(const WindowProduct<float>&, const ChannelBlocks&, const Target&,
                                  const RunContext&);
template void run_channel_product(const WindowProduct<double>&, const ChannelBlocks&, const Target&,
                                  const RunContext&);
template void run_channel_product_here(const WindowProduct<float>&, const ChannelBlocks&, const Target&);
template void run_channel_product_here(const WindowProduct<double>&, const ChannelBlocks&, const Target&);

}  // namespace windrow
