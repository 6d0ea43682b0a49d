// Windows that share no pixel: the columns are pixels in another order, so that nothing is gained by packing
// a box of them first, and fold has one term per pixel. (Patches of vision transformers, 1 x 1 windows.)
#pragma once

#include "drivers/fold.hpp"
#include "drivers/unfold.hpp"

namespace windrow {

// Both return false, and have done nothing, where they do not serve the problem.

// No more column elements than pixels on each axis, and no window reaches out of the image.
bool unfold_permuted(const Unfold& problem, const Target& target, const RunContext& context);

// Besides, every pixel is in a window: there is one number to each sum, mean, maximum and minimum.
bool fold_permuted(const Fold& problem, const Target& target, const RunContext& context);

}  // namespace windrow
