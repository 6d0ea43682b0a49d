// The weight gradient where each group has one channel, and of a single filter on images of one channel: no
// product, but one correlation of two images for each filter.
//
// Numerics plan: the pixels of a block (some rows of at most kBlockColumns columns) go to as many sums as a
// vector has lanes, by their column; at the end of the block these are added in pairs, and the blocks' totals
// one after another, in order of images and blocks.
#pragma once

#include "drivers/weight_gradient.hpp"

namespace windrow {

// Whether it is one, of filters that are not far larger than their results: those have no pixels to fill the
// lanes with. The same for every memory format and number of threads.
template <class T>
bool has_depthwise_gradient(const WeightGradient<T>& problem, const Target& target);

template <class T>
void run_depthwise_gradient(const WeightGradient<T>& problem, const Target& target,
                            const RunContext& context);

template <class T>
WeightGradientCost depthwise_gradient_cost(const WeightGradient<T>& problem, const Target& target);

}  // namespace windrow
