// Whether a weight gradient is computed by Winograd's tiles: a pure function of the shapes, the batch
// included, and of the target.
#pragma once

#include "drivers/winograd_gradient.hpp"
#include "plan/costs.hpp"

namespace windrow {

// What the call takes by tiles, and as the direct sum of arrays in C order.
template <class T>
Counts count_winograd_gradient(const WeightGradient<T>& problem, const Target& target);
template <class T>
Counts count_direct_gradient(const WeightGradient<T>& problem, const Target& target);

// What "auto" takes: tiles where they are predicted to be faster, and no promise stands against them.
template <class T>
bool takes_winograd_gradient(const WeightGradient<T>& problem, const Target& target);

}  // namespace windrow
