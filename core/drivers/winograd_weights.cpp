#include "drivers/winograd_weights.hpp"

#include <algorithm>
#include <atomic>

#include "base/workspace.hpp"
#include "drivers/winograd.hpp"

namespace windrow {
namespace {

constexpr Index kWeightChannels = 64;  // whose taps are gathered before they are transformed

}  // namespace

Index winograd_weights(Index groups, Index rows, Index channels, Index tile, const Tile& kernel) {
  return groups * ceil_div(rows, kernel.rows) * (tile + 2) * (tile + 2) *
         winograd_weights_point(channels, kernel);
}

template <class T>
bool transform_weights(const WindowProduct<T>& p, Index tile, T* weights, const Target& target,
                       const RunContext& context) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Tile kernel = tile_of<T>(target);
  const Index row = winograd_weights_row(p.channels, kernel),
              point = winograd_weights_point(p.channels, kernel);
  const Index first = *std::min_element(p.factor_tap.begin(), p.factor_tap.end());
  Index tap[9];
  unsigned seen = 0;
  for (std::size_t t = 0; t < 9; ++t) {
    const Index place = p.factor_tap[t] - first;
    tap[t] = place * kWeightChannels;
    if (place < 9) seen |= 1u << place;
  }
  const bool dense = seen == (1u << 9) - 1;  // the nine taps side by side, in some order
  if (!dense)
    for (Index t = 0; t < 9; ++t) tap[t] = t * kWeightChannels;
  const Index row_tiles = ceil_div(p.rows, kernel.rows), points = (tile + 2) * (tile + 2);
  std::atomic<bool> finite{true};
  parallel_for(context, p.groups * row_tiles, [&](Index piece) {
    const Index group = piece / row_tiles, row0 = piece % row_tiles * kernel.rows;
    Scratch scratch;
    T* taps = scratch.take<T>(9 * kWeightChannels);
    std::fill_n(taps, 9 * kWeightChannels, T{0});
    for (Index c = 0; c < p.channels; c += kWeightChannels) {
      const Index count = std::min(kWeightChannels, p.channels - c);
      for (Index m = row0; m < std::min(p.rows, row0 + kernel.rows); ++m) {
        const T* factor = p.factor + group * p.factor_group + m * p.factor_row + c * p.factor_channel;
        if (dense) {
          kernels.transpose({.target = taps,
                             .target_row = kWeightChannels,
                             .source = factor + first,
                             .source_row = p.factor_channel,
                             .rows = 9,
                             .columns = count,
                             .ahead = 0});
        } else {
          for (std::size_t t = 0; t < 9; ++t)
            kernels.collect({.target = taps + tap[t],
                             .source = factor + p.factor_tap[t],
                             .step = p.factor_channel,
                             .count = count});
        }
        const bool good =
            kernels.winograd_weights({.tile = static_cast<int>(tile),
                                      .source = taps,
                                      .tap = tap,
                                      .target = weights + piece * points * point + (m - row0) * row + c,
                                      .target_point = point,
                                      .count = count});
        if (!good) finite.store(false, std::memory_order_relaxed);
      }
    }
  });
  return finite.load(std::memory_order_relaxed);
}

template bool transform_weights(const WindowProduct<float>&, Index, float*, const Target&, const RunContext&);
template bool transform_weights(const WindowProduct<double>&, Index, double*, const Target&,
                                const RunContext&);

}  // namespace windrow
