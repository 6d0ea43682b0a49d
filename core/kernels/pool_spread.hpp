// The way back of maxima of 2 x 2 windows side by side: every pixel is written once.
//
// A window's value goes to the one of its four pixels that its index names, by four comparisons: no zeros are
// written first, and nothing is read back.
#pragma once

#include "kernels/pool.hpp"

namespace {

// The values of a vector of windows for one of their pixels, in the order of `pool_every_other`.
template <class T>
struct PoolSpreadVector {
  using P = PoolVectors<T>;
  static constexpr int kParts = static_cast<int>(8 / sizeof(T));  // vectors of indices
  typename P::V value;
  typename P::Wide place[kParts];  // from the window's first pixel
  typename P::L found = {};

  PoolSpreadVector(const windrow::PoolSpread<T>& p, std::ptrdiff_t row, std::ptrdiff_t i) {
    constexpr int kWide = kWidest / 8;
    // From a sum that starts at 0, so that -0 becomes 0.
    value = pool_out_of_order(pool_at<typename P::V>(p.value + row * p.value_row + i) + T{0});
    typename P::Wide ramp;
    for (int l = 0; l < kWide; ++l) ramp[l] = l * p.place_step;
    ramp += p.first_place + row * p.place_row + i * p.place_step;
    WINDROW_UNROLL for (int h = 0; h < kParts; ++h) place[h] =
        pool_at<typename P::Wide>(p.indices + row * p.index_row + i + h * kWide) -
        (ramp + h * kWide * p.place_step);
    if constexpr (kParts == 1) place[0] = pool_out_of_order(place[0]);
  }

  typename P::V at(std::int64_t pixel) {
    typename P::L here;
    if constexpr (kParts == 1) {
      here = place[0] == pixel;
    } else {
      here = pool_every_other<0, 0>((typename P::L)(place[0] == pixel), (typename P::L)(place[1] == pixel));
    }
    found |= here;
    return (typename P::V)((typename P::L)value & here);
  }
};

template <class T, bool kChannels>
inline bool pool_spread_rows(const windrow::PoolSpread<T> p) {
  using P = PoolVectors<T>;
  typename P::L all = ~typename P::L{};
  for (std::ptrdiff_t row = 0; row < p.rows; ++row) {
    for (std::ptrdiff_t from = 0; from < p.count; from += P::kLanes) {
      const std::ptrdiff_t i = from < p.count - P::kLanes ? from : p.count - P::kLanes;
      PoolSpreadVector<T> v(p, row, i);
      for (int r = 0; r < 2; ++r) {
        T* to = p.target + row * p.target_row + r * p.next_row;
        const typename P::V left = v.at(r * p.next_row_place), right = v.at(r * p.next_row_place + 1);
        if constexpr (kChannels) {
          pool_store(to + i, pool_in_order(left));
          pool_store(to + p.next_column + i, pool_in_order(right));
        } else {
          typename P::V low, high;
          pool_in_turn(left, right, low, high);
          pool_store(to + 2 * i, low);
          pool_store(to + 2 * i + P::kLanes, high);
        }
      }
      all &= v.found;
    }
  }
  return !PoolMaxPlaces::any(~all);
}

template <class T>
bool pool_spread(const windrow::PoolSpread<T>& p) {
  return p.next_column == 1 ? pool_spread_rows<T, false>(p) : pool_spread_rows<T, true>(p);
}

}  // namespace
