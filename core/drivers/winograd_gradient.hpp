// The weight gradient of windows whose last two axes have 3 taps and step 1, by Winograd's tiles: the adjoint
// of the forward pass by tiles of 4 x 4 results, as one product per interpolation point, whose terms are
// tiles.
//
//   x  --transform--> pixels[point][tile][channel]  --products--> sums[point][row][channel] --> dw
//   dy --transform--> results[point][tile][row]
//
// Each tap of the axes before the last two is a problem by itself, of the planes that it sees.
// docs/numerics.md has the plan.
#pragma once

#include "drivers/weight_gradient.hpp"

namespace windrow {

// Whether there are such tiles: not where dw is beyond the 32 MiB of partial sums, nor under a dilation where
// rows are longer than a thread's memory has room for or the border repeats pixels.
template <class T>
bool has_winograd_gradient(const WeightGradient<T>& problem);

inline constexpr Index kGradientTile = 4;                  // results of a tile, each way ...
inline constexpr Index kGradientSide = kGradientTile + 2;  // ... and its points

// How one call is cut, which says what it takes.
struct WinogradGradientCut {
  Index taps;                      // of the axes before the last two, each a problem by itself
  Index lines, across;             // rows of tiles, of all planes and images, and tiles of a row
  Index units, unit_tiles;         // of tiles that are summed over together, at most so many
  Index slots;                     // in which units are summed apart: these two alone change bits
  Index channels, channel_blocks;  // of a piece of work
  Index channel_shares;            // of threads, where each has channels of its own
  Index rows, row_blocks;
  Index held;  // rows whose sums are held at a time

  // How often the points of all tiles are made, of x and of dy.
  Index pixels_made() const { return row_blocks * (units > slots ? ceil_div(rows, held) : 1); }
  Index results_made() const { return channel_blocks; }
};
template <class T>
WinogradGradientCut winograd_gradient_cut(const WeightGradient<T>& problem, const Target& target);

template <class T>
WeightGradientCost winograd_gradient_cost(const WeightGradient<T>& problem, const Target& target);

// False where a sum is not finite: then dw is not what it should be, unless it was to be added to, when it is
// as it was.
template <class T>
bool run_winograd_gradient(const WeightGradient<T>& problem, const Target& target, const RunContext& context);

}  // namespace windrow
