#include "drivers/winograd_weights.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <span>

#include "base/workspace.hpp"
#include "drivers/tile_planes.hpp"
#include "drivers/winograd.hpp"

namespace windrow {
namespace {

constexpr Index kWeightChannels = 64;  // whose taps are gathered before they are transformed

// How the taps of a look are gathered, tap after tap.
struct LookTaps {
  bool there[9];    // the window has such a tap
  Index offset[9];  // of it in the factor
  Index first;      // the least of them
  bool dense;       // all nine, side by side in some order: then as they lie
  Index tap[9];     // where each one is gathered to

  LookTaps(const TilePlanes& planes, const Look& look, std::span<const Index> factor_tap) {
    const auto rows = static_cast<Index>(planes.down().tap.size());
    const auto columns = static_cast<Index>(planes.across().tap.size());
    first = std::numeric_limits<Index>::max();
    for (Index t = 0; t < 9; ++t) {
      const Index row = t / kTileTaps, column = t % kTileTaps;
      const Index at = (look.outer * rows + look.down.first + row) * columns + look.across.first + column;
      there[t] = row < look.down.taps && column < look.across.taps;
      offset[t] = there[t] ? factor_tap[static_cast<std::size_t>(at)] : 0;
      if (there[t]) first = std::min(first, offset[t]);
    }
    unsigned seen = 0;
    for (Index t = 0; t < 9 && there[t]; ++t) {
      const Index place = offset[t] - first;
      tap[t] = place * kWeightChannels;
      if (place < 9) seen |= 1u << place;
    }
    dense = seen == (1u << 9) - 1;
    for (Index t = 0; t < 9 && !dense; ++t) tap[t] = t * kWeightChannels;
  }
};

template <class T>
void gather(const KernelTable<T>& kernels, const LookTaps& look, const T* factor, Index channel, Index count,
            T* taps) {
  if (look.dense) {
    kernels.transpose({.target = taps,
                       .target_row = kWeightChannels,
                       .source = factor + look.first,
                       .source_row = channel,
                       .rows = 9,
                       .columns = count,
                       .ahead = 0});
    return;
  }
  for (Index t = 0; t < 9; ++t) {
    T* target = taps + look.tap[t];
    if (look.there[t]) {
      kernels.collect({.target = target, .source = factor + look.offset[t], .step = channel, .count = count});
    } else {
      std::fill_n(target, count, T{0});
    }
  }
}

}  // namespace

Index winograd_weights(const PixelGrid& grid, Index groups, Index rows, Index channels, Index tile,
                       const Tile& kernel) {
  const Index row = winograd_weights_row(TilePlanes(grid).looks(), channels, kernel);
  return groups * ceil_div(rows, kernel.rows) * (tile + 2) * (tile + 2) * winograd_weights_point(row, kernel);
}

template <class T>
bool transform_weights(const WindowProduct<T>& p, Index tile, T* weights, const Target& target,
                       const RunContext& context) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Tile kernel = tile_of<T>(target);
  const TilePlanes planes(p.grid);
  const Index look_row = winograd_weights_row(1, p.channels, kernel);
  const Index row = planes.looks() * look_row, point = winograd_weights_point(row, kernel);
  const Index row_tiles = ceil_div(p.rows, kernel.rows), points = (tile + 2) * (tile + 2);
  std::atomic<bool> finite{true};
  parallel_for(context, p.groups * row_tiles, [&](Index piece) {
    const Index group = piece / row_tiles, row0 = piece % row_tiles * kernel.rows;
    Scratch scratch;
    T* taps = scratch.take<T>(9 * kWeightChannels);
    std::fill_n(taps, 9 * kWeightChannels, T{0});
    for (Index i = 0; i < planes.looks(); ++i) {
      const LookTaps look(planes, planes.look(i), p.factor_tap);
      for (Index c = 0; c < p.channels; c += kWeightChannels) {
        const Index count = std::min(kWeightChannels, p.channels - c);
        for (Index m = row0; m < std::min(p.rows, row0 + kernel.rows); ++m) {
          const T* factor = p.factor + group * p.factor_group + m * p.factor_row + c * p.factor_channel;
          gather(kernels, look, factor, p.factor_channel, count, taps);
          T* place = weights + piece * points * point + (m - row0) * row + i * look_row + c;
          const bool good = kernels.winograd_weights({.tile = static_cast<int>(tile),
                                                      .source = taps,
                                                      .tap = look.tap,
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
