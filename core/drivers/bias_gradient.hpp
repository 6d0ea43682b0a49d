// The bias gradient: db[o] = sum over image and pixel of dy[image, o, pixel].
#pragma once

#include "base/parallel.hpp"

namespace windrow {

template <class T>
struct BiasGradient {
  Index images = 0, channels = 0;
  const T* dy = nullptr;
  Index dy_image = 0, dy_channel = 0;
  Extents size, dy_stride;
  T* db = nullptr;
  Index db_stride = 1;
  bool accumulate = false;
};

// Numerics plan: pixel p of an image goes to partial sum p mod 16; every 16 * kChunk pixels the 16 sums are
// added pairwise to the total; totals are added image by image.
template <class T>
void run_bias_gradient(const BiasGradient<T>& problem, const RunContext& context);

}  // namespace windrow
