#include "drivers/winograd_weights.hpp"

#include <algorithm>
#include <atomic>
#include <span>

#include "base/workspace.hpp"
#include "drivers/tile_planes.hpp"
#include "drivers/winograd.hpp"

namespace windrow {
namespace {

constexpr Index kWeightChannels = 64;  // whose taps are gathered before they are transformed

// How the nine taps of a plane are gathered, tap after tap.
struct PlaneTaps {
  std::span<const Index> offsets;  // in the factor
  Index first;                     // the least of them
  bool dense;                      // side by side, in some order: then as they lie
  Index tap[9];                    // where each one is gathered to

  explicit PlaneTaps(std::span<const Index> taps)
      : offsets(taps), first(*std::min_element(taps.begin(), taps.end())) {
    unsigned seen = 0;
    for (std::size_t t = 0; t < 9; ++t) {
      const Index place = offsets[t] - first;
      tap[t] = place * kWeightChannels;
      if (place < 9) seen |= 1u << place;
    }
    dense = seen == (1u << 9) - 1;
    if (!dense)
      for (Index t = 0; t < 9; ++t) tap[t] = t * kWeightChannels;
  }
};

template <class T>
void gather(const KernelTable<T>& kernels, const PlaneTaps& plane, const T* factor, Index channel,
            Index count, T* taps) {
  if (plane.dense) {
    kernels.transpose({.target = taps,
                       .target_row = kWeightChannels,
                       .source = factor + plane.first,
                       .source_row = channel,
                       .rows = 9,
                       .columns = count,
                       .ahead = 0});
    return;
  }
  for (std::size_t t = 0; t < 9; ++t)
    kernels.collect({.target = taps + plane.tap[t],
                     .source = factor + plane.offsets[t],
                     .step = channel,
                     .count = count});
}

}  // namespace

Index winograd_weights(const PixelGrid& grid, Index groups, Index rows, Index channels, Index tile,
                       const Tile& kernel) {
  const Index row = winograd_weights_row(TilePlanes(grid).taps(), channels, kernel);
  return groups * ceil_div(rows, kernel.rows) * (tile + 2) * (tile + 2) * winograd_weights_point(row, kernel);
}

template <class T>
bool transform_weights(const WindowProduct<T>& p, Index tile, T* weights, const Target& target,
                       const RunContext& context) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Tile kernel = tile_of<T>(target);
  const Index planes = TilePlanes(p.grid).taps(), plane_row = winograd_weights_row(1, p.channels, kernel);
  const Index row = planes * plane_row, point = winograd_weights_point(row, kernel);
  const Index row_tiles = ceil_div(p.rows, kernel.rows), points = (tile + 2) * (tile + 2);
  std::atomic<bool> finite{true};
  parallel_for(context, p.groups * row_tiles, [&](Index piece) {
    const Index group = piece / row_tiles, row0 = piece % row_tiles * kernel.rows;
    Scratch scratch;
    T* taps = scratch.take<T>(9 * kWeightChannels);
    std::fill_n(taps, 9 * kWeightChannels, T{0});
    for (Index i = 0; i < planes; ++i) {
      const PlaneTaps plane(std::span(p.factor_tap).subspan(static_cast<std::size_t>(9 * i), 9));
      for (Index c = 0; c < p.channels; c += kWeightChannels) {
        const Index count = std::min(kWeightChannels, p.channels - c);
        for (Index m = row0; m < std::min(p.rows, row0 + kernel.rows); ++m) {
          const T* factor = p.factor + group * p.factor_group + m * p.factor_row + c * p.factor_channel;
          gather(kernels, plane, factor, p.factor_channel, count, taps);
          T* place = weights + piece * points * point + (m - row0) * row + i * plane_row + c;
          const bool good = kernels.winograd_weights({.tile = static_cast<int>(tile),
                                                      .source = taps,
                                                      .tap = plane.tap,
                                                      .target = place,
                                                      .target_point = point,
                                                      .count = count});
          if (!good) finite.store(false, std::memory_order_relaxed);
        }
      }
    }
  });
  return finite.load(std::memory_order_relaxed);
}

template bool transform_weights(const WindowProduct<float>&, Index, float*, const Target&, const RunContext&);
template bool transform_weights(const WindowProduct<double>&, Index, double*, const Target&,
                                const RunContext&);

}  // namespace windrow
