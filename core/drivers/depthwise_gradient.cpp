#include "drivers/depthwise_gradient.hpp"

#include <algorithm>

#include "base/workspace.hpp"
#include "drivers/ahead.hpp"
#include "pack/pixel_strips.hpp"
#include "pack/strips.hpp"

namespace windrow {
namespace {

// These cut the sum over pixels, so they belong to the numerics plan: changing one changes bits of dw.
constexpr Index kBlockColumns = 512;
constexpr Index kBlockPixels = 2048;  // so that a sum of one lane has at most about kChunk terms on AVX-512
// Bytes of one filter in C order: more is no case for this plan.
constexpr Index kMostDepthwiseScratch = Index{1} << 20;

// These only say who does what, and when signals are looked for.
constexpr double kPieceFlops = 5e5;        // of the filters of one piece of work: some 20 us
constexpr double kCheckpointFlops = 2e7;   // between two looks: some ms
constexpr Index kLinePixels = 256;         // at least, of a line of channels: sums move once for all of them
constexpr Index kStripBytes = 40 * 1024;   // more, while they and what they see are in a first-level cache
constexpr Index kLinesBytes = 256 * 1024;  // of the sums of the lines of one piece, where it is more than one
constexpr Index kMostLineBytes = 4 * 1024 * 1024;  // of all scratch memory, with no limit given

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
    is_far_ = blocks * static_cast<double>(blocks_.rows * blocks_.columns) *
                  static_cast<double>(p_.groups * p_.rows * Index{sizeof(T)}) >=
              kFarBytes;
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
        if (is_far_) fetch(dy + p_.dy_channel + place.target, place);
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

  // What the next filter sees of dy, which like x is read for one image after another.
  void fetch(const T* dy, const StripPlace& place) const {
    if (strips_.last().target_stride != 1) return;
    LinesAhead<T> lines{dy, strips_.target_row(), place.rows, ceil_div(place.columns, 64 / Index{sizeof(T)})};
    lines.share(1);
    lines.fetch();
  }

  Index blocks_to_checkpoint_ = 1, piece_filters_ = 1;
  bool is_far_ = false;
};

// Cache lines of channels, lanes along the channels. Needs one row for each channel, and the channels of x
// and dy side by side, or else the pixels of their rows, which are turned over then. Of channels-last arrays
// all lines of a piece see some rows of pixels before the next ones do, so that memory is read in its order.
template <class T>
class ChannelLanes : public Plan<T> {
  using Plan<T>::p_, Plan<T>::kernels_, Plan<T>::grid_, Plan<T>::blocks_, Plan<T>::strips_, Plan<T>::taps_;
  static constexpr Index kChannels = 64 / sizeof(T);

 public:
  ChannelLanes(const WeightGradient<T>& problem, const Target& target)
      : Plan<T>(problem, target),
        rows_(rows_at_a_time()),
        once_(rows_ >= blocks_.rows),
        pixels_(pixels_of(rows_)),
        lines_(lines_of_a_piece()) {}

  Index pieces() const { return ceil_div(p_.groups, lines_ * kChannels); }

  void piece(Index index) const {
    const Index first = index * lines_ * kChannels;
    const Index channels = std::min(lines_ * kChannels, p_.groups - first);
    const Index lines = ceil_div(channels, kChannels);
    Scratch scratch;
    Memory m{.strip = scratch.take<T>(pixels_.elements() + kChannels),  // whole vectors are read
             .dy = scratch.take<T>(dy_elements()),
             .sums = scratch.take<T>(lines_ * sums_of_a_line()),
             .totals = scratch.take<T>(lines_ * taps_ * kChannels),
             .tap = scratch.take<std::ptrdiff_t>(taps_)};
    for (Index t = 0; t < taps_; ++t) m.tap[t] = pixels_.tap_offset(t);
    std::fill_n(m.totals, lines * taps_ * kChannels, T{0});
    // Lanes of no channel, which nothing is turned over into, hold numbers that take no longer than others.
    if (channels % kChannels != 0 && turns_over()) {
      std::fill_n(m.strip, pixels_.elements() + kChannels, T{0});
      std::fill_n(m.dy, dy_elements(), T{0});
    }
    const Index blocks = strips_.blocks_per_image();
    for (Index block = 0; block < p_.images * blocks; ++block) {
      const StripPlace place = strips_.place(block % blocks);
      if (!once_) std::fill_n(m.sums, lines * sums_of_a_line(), T{0});
      for (Index row = 0; row < place.rows; row += rows_) {
        checkpoint();
        const PixelBlock some{.outer = place.outer,
                              .image = block / blocks,
                              .row = place.row + row,
                              .rows = std::min(rows_, place.rows - row),
                              .column = place.column,
                              .columns = place.columns,
                              .target = place.target + row * strips_.target_row()};
        pixels_.fill_constant(some, m.strip);
        for (Index line = 0; line < lines; ++line)
          add_line(some, line, first + line * kChannels, line + 1 == lines, m);
      }
      for (Index line = 0; line < lines && !once_; ++line)
        for (Index v = 0; v < kChannels; v += kernels_.lanes)
          kernels_.add_vectors(m.sums + line * sums_of_a_line() + v * taps_ * kernels_.lanes, taps_,
                               m.totals + line * taps_ * kChannels + v, kChannels);
    }
    for (Index t = 0; t < taps_; ++t) m.tap[t] = this->result_offset(t);
    for (Index c = 0; c < channels; ++c) {
      const T* totals = m.totals + c / kChannels * taps_ * kChannels + c % kChannels;
      T* result = p_.dw + (first + c) * p_.dw_row;
      for (Index t = 0; t < taps_; ++t) this->write(result[m.tap[t]], totals[t * kChannels]);
    }
  }

  Index scratch_bytes() const { return fixed_bytes() + lines_ * line_bytes(); }

 private:
  struct Memory {
    T *strip, *dy, *sums, *totals;
    std::ptrdiff_t* tap;  // where each lies in the strip, in the end in a filter of dw
  };

  bool turns_over() const { return p_.x_channel != 1 || p_.dy_channel != 1; }
  PixelStrips pixels_of(Index rows) const { return {grid_, rows, blocks_.columns, kChannels, kChannels}; }

  // As many as lie in the first-level cache with what they see, in equal shares.
  Index rows_at_a_time() const {
    Index rows = std::clamp<Index>(kLinePixels / blocks_.columns, 1, blocks_.rows);
    while (rows < blocks_.rows &&
           (pixels_of(rows + 1).elements() + (rows + 1) * blocks_.columns * kChannels) * Index{sizeof(T)} <=
               kStripBytes)
      ++rows;
    return ceil_div(blocks_.rows, ceil_div(blocks_.rows, rows));
  }

  // All, or fewer where more threads share them or the sums of all would not stay in the caches.
  Index lines_of_a_piece() const {
    if (turns_over()) return 1;  // planes, read one after another
    const Index room =
        p_.most_scratch == 0 ? kLinesBytes : std::min(kLinesBytes, p_.most_scratch - fixed_bytes());
    const Index most = std::max<Index>(1, room / line_bytes());
    const Index all = ceil_div(p_.groups, kChannels);
    const Index pieces = std::max<Index>(ceil_div(all, most), p_.threads == 1 ? 1 : 2 * p_.threads);
    const Index lines = std::max<Index>(1, ceil_div(all, pieces));
    return ceil_div(lines, parts_for_threads(ceil_div(all, lines), p_.threads, lines));
  }

  Index dy_elements() const { return rows_ * blocks_.columns * kChannels; }
  Index sums_of_a_line() const { return once_ ? 0 : taps_ * kernels_.lanes * kChannels; }
  Index fixed_bytes() const {
    return (pixels_.elements() + kChannels + dy_elements()) * Index{sizeof(T)} +
           taps_ * Index{sizeof(std::ptrdiff_t)};
  }
  Index line_bytes() const { return (sums_of_a_line() + taps_ * kChannels) * Index{sizeof(T)}; }

  // What some rows of pixels add to a line of channels. Meanwhile the line after the next one is fetched (the
  // processor fetches them in pairs) or, with the last one, what the next pixels will read.
  void add_line(const PixelBlock& some, Index line, Index channel, bool is_last, const Memory& m) const {
    const Index lanes = kernels_.lanes, channels = std::min(kChannels, p_.groups - channel);
    const PixelAxis& rows = pixels_.row_axis();
    const auto ahead = [&](Index row, Index image) {
      return is_last ? (once_ ? image : rows_ * row) - line * kChannels : 2 * kChannels;
    };
    const auto copy = [&](const T* from, Index from_pixel, Index from_channel, Index count, Index next,
                          T* to) {
      if (from_channel != 1) {
        kernels_.transpose({.target = to,
                            .target_row = kChannels,
                            .source = from,
                            .source_row = from_channel,
                            .rows = count,
                            .columns = channels,
                            .ahead = next});
        return;
      }
      kernels_.pad({.target = to,
                    .target_row = kChannels,
                    .source = from,
                    .source_row = from_pixel,
                    .step = 1,
                    .rows = count,
                    .width = kChannels,
                    .low = 0,
                    .high = channels,
                    .ahead = next});
    };
    const Index x_ahead = ahead(rows.step * rows.source_stride, p_.x_image);
    pixels_.fill_image(some, p_.x + channel * p_.x_channel, m.strip, [&](const T* from, Index count, T* to) {
      copy(from, pixels_.last().source_stride, p_.x_channel, count, x_ahead, to);
    });
    const T* dy = p_.dy + some.image * p_.dy_image + some.target + channel * p_.dy_channel;
    const Index dy_pixel = strips_.last().target_stride, dy_row = strips_.target_row();
    const Index dy_ahead = ahead(dy_row, p_.dy_image);
    const bool joined = dy_row == some.columns * dy_pixel;
    for (Index r = 0; r < (joined ? 1 : some.rows); ++r)
      copy(dy + r * dy_row, dy_pixel, p_.dy_channel, joined ? some.rows * some.columns : some.columns,
           dy_ahead, m.dy + r * some.columns * kChannels);
    for (Index v = 0; v < channels; v += lanes)
      kernels_.correlate_channels({.dy = m.dy + v,
                                   .dy_row = some.columns * kChannels,
                                   .x = m.strip + v,
                                   .x_row = pixels_.row_step(),
                                   .x_lines = pixels_.pixel_step() / kChannels,
                                   .tap = m.tap,
                                   .taps = taps_,
                                   .rows = some.rows,
                                   .count = some.columns,
                                   .sums = m.sums + line * sums_of_a_line() + v * taps_ * lanes,
                                   .totals = once_ ? m.totals + line * taps_ * kChannels + v : nullptr,
                                   .totals_row = kChannels});
  }

  const Index rows_;  // of pixels that are copied at a time
  const bool once_;   // they are a block: its sums need not be kept
  const PixelStrips pixels_;
  const Index lines_;  // of a piece
};

// Pixels are turned over where that takes less time than what lanes along the pixels lack: vectors of short
// rows are partly empty, and the sums of each tap's lanes are added up for every channel. By measurement, up
// to two vectors of pixels for 3 x 3 taps, four for 5 x 5 and seven for 7 x 7.
template <class T>
bool wants_channel_lanes(const WeightGradient<T>& p, Index lanes) {
  if (p.rows != 1 || p.groups < lanes) return false;
  if (p.x_channel == 1 && p.dy_channel == 1) return true;
  const Index taps = product_of(p.axes, &WindowAxis::kernel);
  return p.x_stride.back() == 1 && p.dy_stride.back() == 1 && 8 * p.axes.back().out <= (taps + 8) * lanes;
}

// Calls body(driver) with the one that serves the problem.
template <class T, class Body>
auto with_driver(const WeightGradient<T>& p, const Target& target, Body&& body) {
  if (wants_channel_lanes(p, target.kernels<T>().lanes)) {
    const ChannelLanes<T> driver(p, target);
    if (driver.scratch_bytes() <= (p.most_scratch == 0 ? kMostLineBytes : p.most_scratch))
      return body(driver);
  }
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
bool has_depthwise_gradient(const WeightGradient<T>& p, const Target& target) {
  if (p.channels != 1 || p.way != WeightWay::kChosen) return false;
  // Small ones of a single filter are units of the other plan.
  if (p.groups == 1 && (p.rows != 1 || p.images * product_of(p.axes, &WindowAxis::out) <= kStripPixels))
    return false;
  const Index most =
      p.most_scratch == 0 ? kMostDepthwiseScratch : std::min(p.most_scratch, kMostDepthwiseScratch);
  return PixelLanes<T>(p, target).scratch_bytes() <= most;
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
template bool has_depthwise_gradient(const WeightGradient<float>&, const Target&);
template bool has_depthwise_gradient(const WeightGradient<double>&, const Target&);
template WeightGradientCost depthwise_gradient_cost(const WeightGradient<float>&, const Target&);
template WeightGradientCost depthwise_gradient_cost(const WeightGradient<double>&, const Target&);

}  // namespace windrow
