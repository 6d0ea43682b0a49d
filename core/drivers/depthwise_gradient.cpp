#include "drivers/depthwise_gradient.hpp"

#include <algorithm>

#include "base/workspace.hpp"
#include "pack/strips.hpp"

namespace windrow {
namespace {

// These cut the sum over pixels, so they belong to the numerics plan: changing one changes bits of dw.
constexpr Index kBlockColumns = 512;
constexpr Index kBlockPixels = 2048;  // so that a sum of one lane has at most about kChunk terms on AVX-512

// These two only say who does what, and when signals are looked for.
constexpr double kPieceFlops = 5e5;       // of the filters of one piece of work: some 20 us
constexpr double kCheckpointFlops = 2e7;  // between two looks: some ms

// The windows of x as a grid of pixels.
template <class T>
PixelGrid grid_of(const WeightGradient<T>& p) {
  PixelGrid grid;
  for (std::size_t i = 0; i < p.axes.size(); ++i) {
    const WindowAxis& a = p.axes[i];
    PixelAxis axis{.count = a.out,
                   .step = a.stride,
                   .size = a.size,
                   .source_stride = p.x_stride[i],
                   .target_stride = p.dy_stride[i],
                   .tap = {}};
    for (Index t = 0; t < a.kernel; ++t) axis.tap.push_back(t * a.dilation - a.before);
    grid.axes.push_back(std::move(axis));
  }
  grid.images = p.images;
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

template <class T>
class Driver {
 public:
  Driver(const WeightGradient<T>& problem, const Target& target)
      : p_(problem),
        kernels_(target.kernels<T>()),
        grid_(grid_of(problem)),
        blocks_(blocks_of(grid_)),
        strips_(grid_, blocks_),
        taps_(grid_.taps()) {
    const auto at_least_one = [](double count) { return std::max<Index>(1, static_cast<Index>(count)); };
    const double block_flops =
        std::max(1.0, 2.0 * static_cast<double>(taps_ * blocks_.rows * blocks_.columns));
    const auto blocks = static_cast<double>(std::max<Index>(1, p_.images * strips_.blocks_per_image()));
    blocks_to_checkpoint_ = at_least_one(kCheckpointFlops / block_flops);
    piece_filters_ = at_least_one(std::min(kPieceFlops / (block_flops * blocks), 1e6));
  }

  Index pieces() const { return ceil_div(p_.groups * p_.rows, piece_filters_); }

  // Of a term: in its lane's sum, in the sum of the lanes, and in the total.
  Index roundings() const {
    Index halvings = 0;
    for (int width = kernels_.lanes; width > 1; width /= 2) ++halvings;
    const Index columns = std::min(blocks_.columns, grid_.axes.back().count);
    return blocks_.rows * ceil_div(columns, kernels_.lanes) + halvings +
           p_.images * strips_.blocks_per_image();
  }

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
      memory.result[t] = result_offset(t);
    }
    const Index end = std::min(p_.groups * p_.rows, (index + 1) * piece_filters_);
    for (Index f = index * piece_filters_; f < end; ++f) filter(f, memory);
  }

  WeightGradientCost cost() const {
    const Index elements =
        strips_.elements() + kernels_.lanes + taps_ * (kernels_.lanes + 1) + blocks_.columns;
    return {.scratch_bytes = elements * Index{sizeof(T)} + 2 * taps_ * Index{sizeof(std::ptrdiff_t)},
            .partial_bytes = 0,
            .pieces = pieces(),
            .slots = 1,
            .roundings = roundings()};
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
        strips_.fill(kernels_, place, x, ahead, m.strip);
        std::fill_n(m.sums, taps_ * kernels_.lanes, T{0});
        correlate(place, dy + place.target, m.strip, m.tap, m.row, m.sums);
        for (Index t = 0; t < taps_; ++t) m.totals[t] += add_lanes(m.sums + t * kernels_.lanes);
      }
    }
    T* result = p_.dw + index * p_.dw_row;
    for (Index t = 0; t < taps_; ++t) {
      T& entry = result[m.result[t]];
      entry = p_.accumulate ? entry + m.totals[t] : m.totals[t];
    }
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

  T add_lanes(T* lanes) const {
    for (int width = kernels_.lanes / 2; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    return lanes[0];
  }

  // Where a tap's entry lies in a filter of dw.
  Index result_offset(Index tap) const {
    Index offset = 0;
    for (std::size_t i = p_.axes.size(); i-- > 0;) {
      offset += tap % p_.axes[i].kernel * p_.dw_stride[i];
      tap /= p_.axes[i].kernel;
    }
    return offset;
  }

  const WeightGradient<T>& p_;
  const KernelTable<T>& kernels_;
  const PixelGrid grid_;
  const StripBlocks blocks_;
  const Strips strips_;
  const Index taps_;
  Index blocks_to_checkpoint_ = 1, piece_filters_ = 1;
};

}  // namespace

template <class T>
void run_depthwise_gradient(const WeightGradient<T>& problem, const Target& target,
                            const RunContext& context) {
  const Driver<T> driver(problem, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

template <class T>
WeightGradientCost depthwise_gradient_cost(const WeightGradient<T>& problem, const Target& target) {
  return Driver<T>(problem, target).cost();
}

template void run_depthwise_gradient(const WeightGradient<float>&, const Target&, const RunContext&);
template void run_depthwise_gradient(const WeightGradient<double>&, const Target&, const RunContext&);
template WeightGradientCost depthwise_gradient_cost(const WeightGradient<float>&, const Target&);
template WeightGradientCost depthwise_gradient_cost(const WeightGradient<double>&, const Target&);

}  // namespace windrow
