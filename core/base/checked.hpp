// What Python has checked in wide numbers before it allocates, asserted once more where the core begins: in
// every build without NDEBUG, which the seeded driver's and the sanitized ones are.
#pragma once

#include <vector>

#include "base/types.hpp"

namespace windrow {

// Whether these are sizes whose product an Index holds, the empty axes counted as one: strides are products
// of the other axes too.
inline bool holds_product(std::initializer_list<Index> outer, const std::vector<WindowAxis>& axes,
                          std::initializer_list<Index WindowAxis::*> of_axis) {
  Index count = 1;
  bool holds = true;
  const auto times = [&](Index size) {
    holds = holds && size >= 0 && !__builtin_mul_overflow(count, std::max<Index>(size, 1), &count);
  };
  for (const Index size : outer) times(size);
  for (const WindowAxis& axis : axes)
    for (Index WindowAxis::* const size : of_axis) times(axis.*size);
  return holds;
}

// Whether an Index holds every position that a window reads, inside or not.
inline bool holds_positions(const std::vector<WindowAxis>& axes) {
  for (const WindowAxis& axis : axes) {
    Index windows, taps, last;
    if (axis.stride < 1 || axis.dilation < 1 || axis.kernel < 1 || axis.before < 0) return false;
    if (__builtin_mul_overflow(std::max<Index>(axis.out - 1, 0), axis.stride, &windows)) return false;
    if (__builtin_mul_overflow(axis.kernel - 1, axis.dilation, &taps)) return false;
    if (__builtin_add_overflow(windows, taps, &last)) return false;
  }
  return true;
}

}  // namespace windrow
