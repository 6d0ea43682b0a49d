#include "plan/choose_gradient.hpp"

#include <algorithm>

#include "drivers/weight_cut.hpp"
#include "plan/choose_winograd.hpp"

namespace windrow {
namespace {

constexpr Index kTile = kGradientTile, kSide = kGradientSide, kPoints = kSide * kSide;
constexpr Index kRowTaps = 3, kTaps = 9;

// Tiles must be this much faster to be taken.
constexpr double kMargin = 0.9;

// Of the axes before the last two: each of them is a problem by itself, for either algorithm.
template <class T>
double outer_taps(const WeightGradient<T>& p) {
  double taps = 1;
  for (std::size_t i = 0; i + 2 < p.axes.size(); ++i) taps *= static_cast<double>(p.axes[i].kernel);
  return taps;
}

}  // namespace

template <class T>
Counts count_winograd_gradient(const WeightGradient<T>& p, const Target& target) {
  const Tile tile = tile_of<T>(target);
  WeightGradient<T> alone = p;
  alone.threads = 1;  // how many there are may not decide between algorithms
  const WinogradGradientCut cut = winograd_gradient_cut(alone, target);
  const double tiles = static_cast<double>(cut.lines * cut.across), points = kPoints * tiles;
  const double pixels = parts(p.channels, tile.lanes) * static_cast<double>(cut.pixels_made());
  const double results = parts(p.rows, tile.lanes) * static_cast<double>(cut.results_made());
  const double sums = static_cast<double>(p.rows) * parts(p.channels, tile.lanes);
  Counts count;
  count[Work::kTile] = points * even_vectors(p.rows, p.channels, tile);
  count[Work::kCall] =
      static_cast<double>(kPoints * cut.units) * parts(p.rows, tile.rows) * parts(p.channels, tile.columns());
  count[Work::kStripRead] = 2 * kPoints * sums * static_cast<double>(cut.units - cut.slots);
  count[Work::kTurn] = kTile * tiles * (kSide * pixels + kTile * results);
  // Rows of strips, which have a line of channels each.
  const Index line = static_cast<Index>(kAlignment) / tile.bytes;
  count[Work::kFillRow] = static_cast<double>(cut.lines) *
                          (kSide * parts(p.channels, line) * static_cast<double>(cut.pixels_made()) +
                           kTile * parts(p.rows, line) * static_cast<double>(cut.results_made()));
  // Lanes are channels, which need not be moved as those of an image's tiles.
  constexpr double kUnmoved = 2.0 / 3;
  count[Work::kInput] = kUnmoved * points * (pixels + results);
  // Back from points to taps: the sums of all points are read; the arithmetic is a quarter of that which
  // makes a tile of results; then a channel's taps are put side by side.
  count[Work::kTileRead] = static_cast<double>(kPoints * cut.slots) * sums;
  const double written = static_cast<double>(kTaps * cut.slots) * sums;
  count[Work::kOutput] = written;
  count[Work::kTurn] += written;
  return count.times(static_cast<double>(p.groups) * outer_taps(p));
}

template <class T>
Counts count_direct_gradient(const WeightGradient<T>& p, const Target& target) {
  const Tile tile = tile_of<T>(target);
  auto pixels = static_cast<double>(p.images), seen = pixels;
  for (const WindowAxis& axis : p.axes) {
    pixels *= static_cast<double>(axis.out);
    seen *= static_cast<double>(axis.size);
  }
  const double outer = outer_taps(p);
  // Runs of neighbouring taps side by side, a block of channels at a time.
  const Index run = p.axes.back().dilation == 1 ? kRowTaps : 1,
              channels = std::min(p.channels, kStripChannels);
  Counts count;
  count[Work::kStripTile] = static_cast<double>(kTaps / run) * outer * pixels * parts(p.channels, channels) *
                            even_vectors(p.rows, run * channels, tile);
  count[Work::kTurn] = (seen + kTaps * outer * static_cast<double>(p.rows)) * parts(p.channels, tile.lanes);
  return count.times(static_cast<double>(p.groups));
}

template <class T>
bool takes_winograd_gradient(const WeightGradient<T>& p, const Target& target) {
  double flops = 2.0 * static_cast<double>(p.groups * p.rows * p.channels * p.images);
  for (const WindowAxis& axis : p.axes) flops *= static_cast<double>(axis.out * axis.kernel);
  if (p.channels < kFewestChannels || flops < kFewestFlops) return false;
  const Tile tile = tile_of<T>(target);
  return predicted(count_winograd_gradient(p, target), tile) <=
         kMargin * predicted(count_direct_gradient(p, target), tile);
}

#define WINDROW_INSTANTIATE(T)                                                      \
  template Counts count_winograd_gradient(const WeightGradient<T>&, const Target&); \
  template Counts count_direct_gradient(const WeightGradient<T>&, const Target&);   \
  template bool takes_winograd_gradient(const WeightGradient<T>&, const Target&);
WINDROW_INSTANTIATE(float)
WINDROW_INSTANTIATE(double)
#undef WINDROW_INSTANTIATE

}  // namespace windrow
