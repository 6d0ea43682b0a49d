#include "drivers/depthwise_gradient.hpp"

#include <algorithm>

#include "base/workspace.hpp"
#include "pack/pixel_strips.hpp"
#include "pack/strips.hpp"

namespace windrow {
namespace {

// These cut the sum over pixels, so they belong to the numerics plan: changing one changes bits of dw.
constexpr Index kBlockColumns = 512;
constexpr Index kBlockPixels = 2048;  // so that a sum of one lane has at most about kChunk terms on AVX-512

// These only say who does what, and when signals are looked for.
constexpr double kPieceFlops = 5e5;       // of the filters of one piece of work: some 20 us
constexpr double kCheckpointFlops = 2e7;  // between two looks: some ms
constexpr Index kLinePixels =
    256;  // of one line of channels: with what they see, most of a first-level cache

// The windows of x as a grid of pixels.
template <class T>
PixelGrid grid_of(const WeightGradient<T>& p) {
  PixelGrid grid;
  for (std::size_t i = 0; i < p.axes.size(); ++i)
    grid.axes.push_back(window_pixels(p.axes[i], p.x_stride[i], p.dy_stride[i]));
  grid.images = p.images;
  grid.source_image = p.x_image;
  grid.fill = p.fill;
  return grid;
}

StripBlocks blocks_of(const PixelGrid& grid) {
  const Index columns = std::clamp<Index>(grid.axes.back().count, 1, kBlockColumns);
  const Index all_rows = grid.axes.size() > 1 ? grid.axes[grid.axes.size() - 2].count : 1;
  const Index rows = std::clamp<Index>(kBlockPixels / columns, 1, std::max<Index>(1, all_rows));
  return {.rows = ceil_div(std::max<Index>(1, all_rows), ceil_div(std::max<Index>(1, all_rows), rows)),
          .columns = columns,
          .units = 1};
}

// What both drivers share: the plan.
template <class T>
class Plan {
 public:
  Plan(const WeightGradient<T>& problem, const Target& target)
      : p_(problem),
        kernels_(target.kernels<T>()),
        grid_(grid_of(problem)),
        blocks_(blocks_of(grid_)),
        strips_(grid_, blocks_),
        taps_(grid_.taps()) {
    block_flops_ = std::max(1.0, 2.0 * static_cast<double>(taps_ * blocks_.rows * blocks_.columns));
  }

  // Of a term: in its lane's sum, in the sum of the lanes, and in the total.
  Index roundings() const {
    Index halvings = 0;
    for (int width = kernels_.lanes; width > 1; width /= 2) ++halvings;
    const Index columns = std::min(blocks_.columns, grid_.axes.back().count);
    return blocks_.rows * ceil_div(columns, kernels_.lanes) + halvings +
           p_.images * strips_.blocks_per_image();
  }

 protected:
  static Index at_least_one(double count) { return std::max<Index>(1, static_cast<Index>(count)); }

  // Where a tap's entry lies in a filter of dw.
  Index result_offset(Index tap) const {
    Index offset = 0;
    for (std::size_t i = p_.axes.size(); i-- > 0;) {
      offset += tap % p_.axes[i].kernel * p_.dw_stride[i];
      tap /= p_.axes[i].kernel;
    }
    return offset;
  }

  void write(T& entry, T total) const { entry = p_.accumulate ? entry + total : total; }

  const WeightGradient<T>& p_;
  const KernelTable<T>& kernels_;
  const PixelGrid grid_;
  const StripBlocks blocks_;
  const Strips strips_;
  const Index taps_;
  double block_flops_;  // of one filter
};

// One filter after another, lanes along the pixels.
template <class T>
class PixelLanes : public Plan<T> {
  using Plan<T>::p_, Plan<T>::kernels_, Plan<T>::grid_, Plan<T>::blocks_, Plan<T>::strips_, Plan<T>::taps_;
  using Plan<T>::at_least_one;

 public:
  PixelLanes(const WeightGradient<T>& problem, const Target& target) : Plan<T>(problem, target) {
    const auto blocks = static_cast<double>(std::max<Index>(1, p_.images * strips_.blocks_per_image()));
    blocks_to_checkpoint_ = at_least_one(kCheckpointFlops / this->block_flops_);
    piece_filters_ = at_least_one(std::min(kPieceFlops / (this->block_flops_ * blocks), 1e6));
  }

  Index pieces() const { return ceil_div(p_.groups * p_.rows, piece_filters_); }

  // Some filters, one after another, each over all its pixels.
  void piece(Index index) const {
    Scratch scratch;
    Memory memory{.strip = scratch.take<T>(strips_.elements() + kernels_.lanes),
                  .sums = scratch.take<T>(taps_ * kernels_.lanes),
                  .totals = scratch.take<T>(taps_),
                  .row = scratch.take<T>(blocks_.columns),
                  .tap = scratch.take<std::ptrdiff_t>(taps_),
                  .result = scratch.take<std::ptrdiff_t>(taps_)};
    for (Index t = 0; t < taps_; ++t) {
      memory.tap[t] = strips_.tap_offset(t);
      memory.result[t] = this->result_offset(t);
    }
    const Index end = std::min(p_.groups * p_.rows, (index + 1) * piece_filters_);
    for (Index f = index * piece_filters_; f < end; ++f) filter(f, memory);
  }

  Index scratch_bytes() const {
    const Index elements =
        strips_.elements() + kernels_.lanes + taps_ * (kernels_.lanes + 1) + blocks_.columns;
    return elements * Index{sizeof(T)} + 2 * taps_ * Index{sizeof(std::ptrdiff_t)};
  }

 private:
  struct Memory {
    T *strip, *sums, *totals, *row;
    std::ptrdiff_t *tap, *result;  // for each tap: where it lies in the strip, and in a filter of dw
  };

  void filter(Index index, const Memory& m) const {
    std::fill_n(m.totals, taps_, T{0});
    const Index ahead = strips_.row_blocks() > 1
                            ? blocks_.rows * strips_.row_axis().step * strips_.row_axis().source_stride
                            : p_.x_channel;
    Index blocks = 0;
    for (Index image = 0; image < p_.images; ++image) {
      const T* x = p_.x + image * p_.x_image + index / p_.rows * p_.x_channel;
      const T* dy = p_.dy + image * p_.dy_image + index * p_.dy_channel;
      for (Index block = 0; block < strips_.blocks_per_image(); ++block) {
        if (++blocks % blocks_to_checkpoint_ == 0) checkpoint();
        const StripPlace place = strips_.place(block);
        strips_.fill(kernels_, place, x, 1, 0, ahead, m.strip);
        std::fill_n(m.sums, taps_ * kernels_.lanes, T{0});
        correlate(place, dy + place.target, m.strip, m.tap, m.row, m.sums);
        kernels_.add_lanes(m.sums, taps_, m.totals);
      }
    }
    T* result = p_.dw + index * p_.dw_row;
    for (Index t = 0; t < taps_; ++t) this->write(result[m.result[t]], m.totals[t]);
  }

  void correlate(const StripPlace& place, const T* dy, const T* strip, const std::ptrdiff_t* tap, T* row,
                 T* sums) const {
    const Index step = strips_.last().target_stride;
    Correlate<T> c{.dy = dy,
                   .dy_row = strips_.target_row(),
                   .x = strip,
                   .x_row = strips_.row_step(),
                   .tap = tap,
                   .taps = taps_,
                   .rows = place.rows,
                   .count = place.columns,
                   .sums = sums};
    if (step == 1) {
      kernels_.correlate(c);
      return;
    }
    c.rows = 1;
    c.dy = row;
    for (Index r = 0; r < place.rows; ++r, c.x += c.x_row) {
      kernels_.collect(
          {.target = row, .source = dy + r * strips_.target_row(), .step = step, .count = place.columns});
      kernels_.correlate(c);
    }
  }

  Index blocks_to_checkpoint_ = 1, piece_filters_ = 1;
};

// A cache line of channels after another, lanes along the channels. Needs one row for each channel, and the
// channels of x and dy side by side.
template <class T>
class ChannelLanes : public Plan<T> {
  using Plan<T>::p_, Plan<T>::kernels_, Plan<T>::grid_, Plan<T>::blocks_, Plan<T>::strips_, Plan<T>::taps_;
  static constexpr Index kChannels = 64 / sizeof(T);

 public:
  ChannelLanes(const WeightGradient<T>& problem, const Target& target)
      : Plan<T>(problem, target), rows_(std::clamp<Index>(kLinePixels / blocks_.columns, 1, blocks_.rows)) {}

  Index pieces() const { return ceil_div(p_.groups, kChannels); }

  void piece(Index index) const {
    const Index channel = index * kChannels, channels = std::min(kChannels, p_.groups - channel);
    const Index lanes = kernels_.lanes, vectors = ceil_div(channels, lanes);
    const PixelStrips pixels = pixel_strips(channels);
    Scratch scratch;
    T* strip = scratch.take<T>(pixels.elements() + kChannels);  // whole vectors are read
    T* dy = scratch.take<T>(rows_ * blocks_.columns * kChannels);
    T* sums = scratch.take<T>(taps_ * lanes * kChannels);
    T* totals = scratch.take<T>(taps_ * kChannels);
    auto* taps = scratch.take<std::ptrdiff_t>(taps_);
    auto* results = scratch.take<std::ptrdiff_t>(taps_);
    for (Index t = 0; t < taps_; ++t) {
      taps[t] = pixels.tap_offset(t);
      results[t] = this->result_offset(t);
    }
    std::fill_n(dy, rows_ * blocks_.columns * kChannels, T{0});  // of the lanes past the last channel
    std::fill_n(totals, taps_ * kChannels, T{0});
    const Index blocks = strips_.blocks_per_image();
    for (Index block = 0; block < p_.images * blocks; ++block) {
      const StripPlace place = strips_.place(block % blocks);
      const bool once = place.rows <= rows_;  // then sums need not be kept from rows to rows
      if (!once) std::fill_n(sums, taps_ * lanes * kChannels, T{0});
      for (Index row = 0; row < place.rows; row += rows_) {
        checkpoint();
        PixelBlock some{.outer = place.outer,
                        .image = block / blocks,
                        .row = place.row + row,
                        .rows = std::min(rows_, place.rows - row),
                        .column = place.column,
                        .columns = place.columns,
                        .target = place.target + row * strips_.target_row()};
        pixels.fill(kernels_, some, p_.x + channel, 1, strip);
        copy_dy(some, channel, channels, dy);
        for (Index v = 0; v < vectors; ++v)
          kernels_.correlate_channels({.dy = dy + v * lanes,
                                       .dy_row = blocks_.columns * kChannels,
                                       .dy_pixel = kChannels,
                                       .x = strip + v * lanes,
                                       .x_row = pixels.row_step(),
                                       .x_pixel = pixels.pixel_step(),
                                       .tap = taps,
                                       .taps = taps_,
                                       .rows = some.rows,
                                       .count = some.columns,
                                       .sums = sums + v * taps_ * lanes * lanes,
                                       .totals = once ? totals + v * lanes : nullptr,
                                       .totals_row = kChannels});
      }
      for (Index v = 0; v < vectors && !once; ++v)
        kernels_.add_vectors(sums + v * taps_ * lanes * lanes, taps_, totals + v * lanes, kChannels);
    }
    for (Index c = 0; c < channels; ++c) {
      T* result = p_.dw + (channel + c) * p_.dw_row;
      for (Index t = 0; t < taps_; ++t) this->write(result[results[t]], totals[t * kChannels + c]);
    }
  }

  Index scratch_bytes() const {
    const Index elements = pixel_strips(kChannels).elements() + kChannels +
                           rows_ * blocks_.columns * kChannels + taps_ * (kernels_.lanes + 1) * kChannels;
    return elements * Index{sizeof(T)} + 2 * taps_ * Index{sizeof(std::ptrdiff_t)};
  }

 private:
  PixelStrips pixel_strips(Index channels) const {
    return {grid_, rows_, blocks_.columns, channels, kChannels};
  }

  void copy_dy(const PixelBlock& block, Index channel, Index channels, T* to) const {
    const T* from = p_.dy + block.image * p_.dy_image + block.target + channel;
    for (Index r = 0; r < block.rows; ++r, from += strips_.target_row(), to += blocks_.columns * kChannels) {
      for (Index i = 0; i < block.columns; ++i)
        copy_channels(from + i * strips_.last().target_stride, channels, to + i * kChannels);
    }
  }

  const Index rows_;  // of pixels that are copied at a time
};

// Calls body(driver) with the one that serves the problem.
template <class T, class Body>
auto with_driver(const WeightGradient<T>& p, const Target& target, Body&& body) {
  if (p.rows == 1 && p.x_channel == 1 && p.dy_channel == 1 && p.groups >= target.kernels<T>().lanes)
    return body(ChannelLanes<T>(p, target));
  return body(PixelLanes<T>(p, target));
}

}  // namespace

template <class T>
void run_depthwise_gradient(const WeightGradient<T>& problem, const Target& target,
                            const RunContext& context) {
  with_driver(problem, target, [&](const auto& driver) {
    parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
  });
}

template <class T>
WeightGradientCost depthwise_gradient_cost(const WeightGradient<T>& problem, const Target& target) {
  return with_driver(problem, target, [](const auto& driver) {
    return WeightGradientCost{.scratch_bytes = driver.scratch_bytes(),
                              .partial_bytes = 0,
                              .pieces = driver.pieces(),
                              .slots = 1,
                              .roundings = driver.roundings(),
                              .in_lanes = "pixels"};
  });
}

template void run_depthwise_gradient(const WeightGradient<float>&, const Target&, const RunContext&);
template void run_depthwise_gradient(const WeightGradient<double>&, const Target&, const RunContext&);
template WeightGradientCost depthwise_gradient_cost(const WeightGradient<float>&, const Target&);
template WeightGradientCost depthwise_gradient_cost(const WeightGradient<double>&, const Target&);

}  // namespace windrow
