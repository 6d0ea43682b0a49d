// Results brought into limits: the last thing that is done to a tile, while it is in the first-level cache.
#pragma once

#include "kernels/contract.hpp"

namespace {

template <class T>
void limit(const windrow::Limit<T>& p) {
  const T low = p.low, high = p.high;
  for (std::ptrdiff_t r = 0; r < p.rows; ++r) {
    T* target = p.target + r * p.target_row;
    // Comparisons that are false for NaN, which stays so.
    for (std::ptrdiff_t i = 0; i < p.count; ++i) {
      T v = target[i];
      v = low > v ? low : v;
      target[i] = high < v ? high : v;
    }
  }
}

}  // namespace
