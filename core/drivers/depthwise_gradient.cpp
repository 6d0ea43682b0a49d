#include "drivers/depthwise_gradient.hpp"

#include <algorithm>

#include "base/workspace.hpp"
#include "pack/strips.hpp"

namespace windrow {
namespace {

// These cut the sum over pixels, so they belong to the numerics plan: changing one changes bits of dw.
constexpr Index kBlockColumns = 512;
constexpr Index kBlockPixels = 2048;  // so that a sum of one lane has at most about kChunk terms on AVX-512

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
        taps_(grid_.taps()) {}

  // Of a term: in its lane's sum, in the sum of the lanes, and in the total.
  Index roundings() const {
    Index halvings = 0;
    for (int width = kernels_.lanes; width > 1; width /= 2) ++halvings;
    const Index columns = std::min(blocks_.columns, grid_.axes.back().count);
    return blocks_.rows * ceil_div(columns, kernels_.lanes) + halvings +
           p_.images * strips_.blocks_per_image();
  }

  // One filter, all its pixels.
  void filter(Index index) const {
    const Index group = index / p_.rows;
    Scratch scratch;
    T* strip = scratch.take<T>(strips_.elements() + kernels_.lanes);
    T* sums = scratch.take<T>(taps_ * kernels_.lanes);
    T* totals = scratch.take<T>(taps_);
    T* row = scratch.take<T>(blocks_.columns);
    auto* tap = scratch.take<std::ptrdiff_t>(taps_);
    for (Index t = 0; t < taps_; ++t) tap[t] = strips_.tap_offset(t);
    std::fill_n(totals, taps_, T{0});

    const Index ahead = strips_.row_blocks() > 1
                            ? blocks_.rows * strips_.row_axis().step * strips_.row_axis().source_stride
                            : p_.x_channel;
    for (Index image = 0; image < p_.images; ++image) {
      const T* x = p_.x + image * p_.x_image + group * p_.x_channel;
      const T* dy = p_.dy + image * p_.dy_image + index * p_.dy_channel;
      for (Index block = 0; block < strips_.blocks_per_image(); ++block) {
        checkpoint();
        const StripPlace place = strips_.place(block);
        strips_.fill(kernels_, place, x, ahead, strip);
        std::fill_n(sums, taps_ * kernels_.lanes, T{0});
        correlate(place, dy + place.target, strip, tap, row, sums);
        for (Index t = 0; t < taps_; ++t) totals[t] += add_lanes(sums + t * kernels_.lanes);
      }
    }
    write(index, totals);
  }

  WeightGradientCost cost() const {
    const Index elements =
        strips_.elements() + kernels_.lanes + taps_ * (kernels_.lanes + 1) + blocks_.columns;
    return {.scratch_bytes = elements * Index{sizeof(T)} + taps_ * Index{sizeof(std::ptrdiff_t)},
            .partial_bytes = 0,
            .pieces = p_.groups * p_.rows,
            .slots = 1,
            .roundings = roundings()};
  }

 private:
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

  void write(Index filter, const T* totals) const {
    for (Index t = 0; t < taps_; ++t) {
      T* to = p_.dw + filter * p_.dw_row;
      Index rest = t;
      for (std::size_t i = p_.axes.size(); i-- > 0;) {
        to += rest % p_.axes[i].kernel * p_.dw_stride[i];
        rest /= p_.axes[i].kernel;
      }
      *to = p_.accumulate ? *to + totals[t] : totals[t];
    }
  }

  const WeightGradient<T>& p_;
  const KernelTable<T>& kernels_;
  const PixelGrid grid_;
  const StripBlocks blocks_;
  const Strips strips_;
  const Index taps_;
};

}  // namespace

template <class T>
void run_depthwise_gradient(const WeightGradient<T>& problem, const Target& target,
                            const RunContext& context) {
  const Driver<T> driver(problem, target);
  parallel_for(context, problem.groups * problem.rows, [&](Index filter) { driver.filter(filter); });
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
