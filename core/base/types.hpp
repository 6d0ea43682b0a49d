// The vocabulary that every layer of the core shares. Sizes, strides and offsets are in elements, never
// bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace windrow {

using Index = std::int64_t;          // a size, a stride or a position, in elements
using Extents = std::vector<Index>;  // one value per axis

inline constexpr std::size_t kAlignment = 64;  // bytes: a cache line, and the widest vector of any target

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
constexpr Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }

// How windows lie along one spatial axis: output position p, tap t reads input position
// p * stride + t * dilation - before, and zero where that is outside [0, size).
struct WindowAxis {
  Index size = 1;    // input positions
  Index out = 1;     // output positions
  Index kernel = 1;  // taps
  Index stride = 1;
  Index dilation = 1;
  Index before = 0;  // zeros before the first input position
};

}  // namespace windrow
