// Whether there is a NaN or an infinity among some values.
#pragma once

#include <cmath>
#include <limits>

#include "base/types.hpp"

namespace windrow {

template <class T>
bool all_finite(const T* values, Index count) {
  unsigned others = 0;  // no exit from the loop, which takes several values at a time
  for (Index i = 0; i < count; ++i) others |= std::abs(values[i]) <= std::numeric_limits<T>::max() ? 0u : 1u;
  return others == 0;
}

}  // namespace windrow
