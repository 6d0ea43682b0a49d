#include "drivers/turned_channels.hpp"

#include <algorithm>

#include "base/workspace.hpp"

namespace windrow {
namespace {

constexpr Index kImageBytes = 192 << 10;  // of both images that a piece of work turns over
// By measurement: a row of pixels has at most one vector, or one for each so many taps.
constexpr Index kVectorTaps = 28;

Index line_of(Index element) { return static_cast<Index>(kAlignment) / element; }

Index positions(const PixelGrid& grid, Index PixelAxis::* extent) {
  Index count = 1;
  for (const PixelAxis& axis : grid.axes) count *= axis.*extent;
  return count;
}

// Calls body(place, number, count) for each run of neighbouring pixels of an image: where it lies, and the
// numbers of its pixels, row-major.
template <class Body>
void each_run(const std::vector<PixelAxis>& axes, Index PixelAxis::* extent, Index PixelAxis::* stride,
              Body&& body) {
  Index count = 1;
  std::size_t outer = axes.size();
  for (; outer > 0 && axes[outer - 1].*stride == count; --outer) count *= axes[outer - 1].*extent;
  Extents at(outer, 0), all;
  for (std::size_t i = 0; i < outer; ++i) all.push_back(axes[i].*extent);
  Index number = 0;
  do {
    Index place = 0;
    for (std::size_t i = 0; i < outer; ++i) place += at[i] * axes[i].*stride;
    body(place, number, count);
    number += count;
  } while (advance(at, all));
}

template <class T>
class Driver {
 public:
  Driver(const WindowProduct<T>& problem, Index channels, const Target& target)
      : p_(problem),
        channels_(channels),
        target_(target),
        kernels_(target.kernels<T>()),
        blocks_(ceil_div(problem.groups, channels)),
        source_pixels_(positions(problem.grid, &PixelAxis::size)),
        target_pixels_(positions(problem.grid, &PixelAxis::count)),
        turned_(problem.grid) {
    turned_.images = 1;
    Index source_stride = channels, target_stride = channels;
    for (std::size_t i = turned_.axes.size(); i-- > 0;) {
      PixelAxis& axis = turned_.axes[i];
      axis.source_stride = source_stride;
      axis.target_stride = target_stride;
      source_stride *= axis.size;
      target_stride *= axis.count;
    }
  }

  Index pieces() const { return p_.grid.images * blocks_; }

  void piece(Index index) const {
    const Index image = index / blocks_, first = index % blocks_ * channels_;
    Scratch scratch;
    T* source = scratch.take<T>(source_pixels_ * channels_);
    T* result = scratch.take<T>(target_pixels_ * channels_);
    T* target = p_.target + image * p_.grid.target_image + first * p_.target_group;
    WindowProduct<T> some = p_;
    some.grid = turned_;
    some.groups = std::min(channels_, p_.groups - first);
    some.source = source;
    some.target = result;
    some.source_group = some.target_group = 1;
    some.factor += first * p_.factor_group;
    if (some.bias) some.bias += first * p_.bias_stride;
    turn(p_.source + image * p_.grid.source_image + first * p_.source_group, p_.source_group,
         &PixelAxis::size, &PixelAxis::source_stride, some.groups, source);
    if (p_.accumulate)
      turn(target, p_.target_group, &PixelAxis::count, &PixelAxis::target_stride, some.groups, result);
    run_channel_product_here(some, choose_channels(turned_, some.groups), target_);
    each_run(p_.grid.axes, &PixelAxis::count, &PixelAxis::target_stride,
             [&](Index place, Index number, Index count) {
               kernels_.transpose({.target = target + place,
                                   .target_row = p_.target_group,
                                   .source = result + number * channels_,
                                   .source_row = channels_,
                                   .rows = some.groups,
                                   .columns = count,
                                   .ahead = 0});
             });
  }

 private:
  void turn(const T* image, Index channel, Index PixelAxis::* extent, Index PixelAxis::* stride, Index count,
            T* turned) const {
    each_run(p_.grid.axes, extent, stride, [&](Index place, Index number, Index pixels) {
      kernels_.transpose({.target = turned + number * channels_,
                          .target_row = channels_,
                          .source = image + place,
                          .source_row = channel,
                          .rows = pixels,
                          .columns = count,
                          .ahead = 0});
    });
  }

  const WindowProduct<T>& p_;
  const Index channels_;
  const Target& target_;
  const KernelTable<T>& kernels_;
  const Index blocks_, source_pixels_, target_pixels_;
  PixelGrid turned_;
};

}  // namespace

template <class T>
Index choose_turned_channels(const WindowProduct<T>& p, const Tile& tile, Index threads) {
  const PixelAxis& last = p.grid.axes.back();
  const Index taps = p.grid.taps();
  if (p.channels != 1 || p.rows != 1 || p.groups < tile.lanes || last.source_stride != 1 ||
      last.target_stride != 1 || taps > kChunk ||
      kVectorTaps * last.count > std::max(kVectorTaps, taps) * tile.lanes)
    return 0;
  const Index line = line_of(tile.bytes);
  const Index both = positions(p.grid, &PixelAxis::size) + positions(p.grid, &PixelAxis::count);
  const Index lines =
      std::clamp<Index>(kImageBytes / (both * line * tile.bytes), 1, ceil_div(p.groups, line));
  const Index blocks = ceil_div(p.groups, lines * line);
  const Index parts = blocks * parts_for_threads(p.grid.images * blocks, threads, lines);
  return round_up(ceil_div(p.groups, parts), line);
}

template <class T>
void run_turned_channels(const WindowProduct<T>& problem, Index channels, const Target& target,
                         const RunContext& context) {
  const Driver<T> driver(problem, channels, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

Index turned_pieces(const PixelGrid& grid, Index groups, Index channels) {
  return grid.images * ceil_div(groups, channels);
}

Index turned_scratch(const PixelGrid& grid, Index channels, Index element) {
  const Index both = positions(grid, &PixelAxis::size) + positions(grid, &PixelAxis::count);
  return both * channels * element + channel_scratch(grid) + channel_shared(grid, channels, element);
}

template Index choose_turned_channels(const WindowProduct<float>&, const Tile&, Index);
template Index choose_turned_channels(const WindowProduct<double>&, const Tile&, Index);
template void run_turned_channels(const WindowProduct<float>&, Index, const Target&, const RunContext&);
template void run_turned_channels(const WindowProduct<double>&, Index, const Target&, const RunContext&);

}  // namespace windrow
