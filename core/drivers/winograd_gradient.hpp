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

// Why there are no such tiles, or null if there are.
template <class T>
const char* why_no_winograd_gradient(const WeightGradient<T>& problem);

// What one call takes by tiles, by kinds of work: the choice needs no more.
struct WinogradGradientWork {
  double products;    // multiply-adds of whole tiles and vectors
  double transforms;  // of pixels or results, in vectors of tiles' points
  double sums;        // vectors of sums that are read and written again, of all points
  double taps;        // transforms back
};
template <class T>
WinogradGradientWork winograd_gradient_work(const WeightGradient<T>& problem, const Target& target);

template <class T>
WeightGradientCost winograd_gradient_cost(const WeightGradient<T>& problem, const Target& target);

// False where a sum is not finite: then dw is not what it should be, unless it was to be added to, when it is
// as it was.
template <class T>
bool run_winograd_gradient(const WeightGradient<T>& problem, const Target& target, const RunContext& context);

}  // namespace windrow
