// Windows of an image copied out as columns, in any order of the columns' axes.
#pragma once

#include "base/parallel.hpp"
#include "dispatch/targets.hpp"
#include "drivers/packed_image.hpp"

namespace windrow {

// cols[n, c, k, l] = x[n, c, l * stride + k * dilation - before], outside the image what the border says,
// whose constant is `fill`. Strides in bytes; those of the columns are one per elementary axis (n, c, taps,
// positions). Any elements of `item` bytes.
struct Unfold {
  const PatchShape& shape;
  Index item;
  const char* x;
  const Index* x_strides;
  char* cols;
  const Index* cols_strides;
  const char* fill;
};

void run_unfold(const Unfold& problem, const Target& target, const RunContext& context);

}  // namespace windrow
