// The weight gradient of one channel, or of a vector of them: sums over pixels of two images, for several
// shifts of one of them.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"
#include "kernels/stencil.hpp"

namespace {

// K taps at once, each with its own sums in registers; the values of dy are loaded once for all of them.
template <class T, int K>
void correlate_taps(const windrow::Correlate<T>& c, const std::ptrdiff_t* tap, T* sums) {
  using S = Simd<T>;
  typename S::V sum[K];
  WINDROW_UNROLL
  for (int k = 0; k < K; ++k) sum[k] = S::load(sums + k * S::kLanes);
  for (std::ptrdiff_t r = 0; r < c.rows; ++r) {
    const T* dy = c.dy + r * c.dy_row;
    const T* x = c.x + r * c.x_row;
    std::ptrdiff_t i = 0;
    for (; i + S::kLanes <= c.count; i += S::kLanes) {
      const typename S::V v = S::load(dy + i);
      WINDROW_UNROLL
      for (int k = 0; k < K; ++k) sum[k] = S::fma(v, S::load(x + tap[k] + i), sum[k]);
    }
    if (i < c.count) {
      // Both factors are zero in the lanes past the row, whatever lies there.
      const typename S::V v = FirstLanes<T>::load(dy + i, c.count - i);
      WINDROW_UNROLL
      for (int k = 0; k < K; ++k)
        sum[k] = S::fma(v, FirstLanes<T>::load(x + tap[k] + i, c.count - i), sum[k]);
    }
  }
  WINDROW_UNROLL
  for (int k = 0; k < K; ++k) S::store(sums + k * S::kLanes, sum[k]);
}

template <class T>
void correlate(const windrow::Correlate<T>& c) {
  constexpr int kLanes = Simd<T>::kLanes;
  std::ptrdiff_t k = 0;
  for (; k + 9 <= c.taps; k += 9) correlate_taps<T, 9>(c, c.tap + k, c.sums + k * kLanes);
  for (; k + 3 <= c.taps; k += 3) correlate_taps<T, 3>(c, c.tap + k, c.sums + k * kLanes);
  for (; k < c.taps; ++k) correlate_taps<T, 1>(c, c.tap + k, c.sums + k * kLanes);
}

// The sum of so many lanes, added in pairs.
template <class T, int kLanes>
inline T sum_in_pairs(const T* lanes) {
  if constexpr (kLanes == 1) {
    return lanes[0];
  } else {
    using Half __attribute__((vector_size(sizeof(T) * kLanes / 2))) = T;
    Half low, high;
    __builtin_memcpy(&low, lanes, sizeof low);
    __builtin_memcpy(&high, lanes + kLanes / 2, sizeof high);
    low += high;
    T sums[kLanes / 2];
    __builtin_memcpy(sums, &low, sizeof low);
    return sum_in_pairs<T, kLanes / 2>(sums);
  }
}

template <class T>
void add_lanes(const T* sums, std::ptrdiff_t count, T* totals) {
  constexpr int kLanes = Simd<T>::kLanes;
  for (std::ptrdiff_t k = 0; k < count; ++k) totals[k] += sum_in_pairs<T, kLanes>(sums + k * kLanes);
}

// The same of as many vectors as a vector has lanes, lane by lane: totals += the sum of v.
template <class T>
inline void add_in_pairs(typename Simd<T>::V (&v)[Simd<T>::kLanes], T* totals) {
  using S = Simd<T>;
  WINDROW_UNROLL
  for (int half = S::kLanes / 2; half > 0; half /= 2) {
    WINDROW_UNROLL
    for (int i = 0; i < half; ++i) v[i] = S::add(v[i], v[i + half]);
  }
  S::store(totals, S::add(S::load(totals), v[0]));
}

template <class T>
void add_vectors(const T* sums, std::ptrdiff_t count, T* totals, std::ptrdiff_t totals_row) {
  using S = Simd<T>;
  constexpr int kLanes = S::kLanes;
  for (std::ptrdiff_t k = 0; k < count; ++k, sums += kLanes * kLanes, totals += totals_row) {
    typename S::V v[kLanes];
    WINDROW_UNROLL
    for (int i = 0; i < kLanes; ++i) v[i] = S::load(sums + i * kLanes);
    add_in_pairs<T>(v, totals);
  }
}

// Of one tap, in registers; kRest pixels of each row are left after whole rounds of all sums.
template <class T, int kRest>
void correlate_tap(const windrow::CorrelateChannels<T>& c, std::ptrdiff_t k) {
  using S = Simd<T>;
  constexpr int kSums = S::kLanes;
  const std::ptrdiff_t dy_pixel = c.dy_pixel, x_pixel = c.x_pixel, whole = c.count - kRest;
  T* const sums = c.sums + k * kSums * S::kLanes;
  typename S::V sum[kSums];
  WINDROW_UNROLL
  for (int j = 0; j < kSums; ++j) sum[j] = c.totals ? S::zero() : S::load(sums + j * S::kLanes);
  for (std::ptrdiff_t r = 0; r < c.rows; ++r) {
    const T* dy = c.dy + r * c.dy_row;
    const T* x = c.x + r * c.x_row + c.tap[k];
    for (std::ptrdiff_t i = 0; i < whole; i += kSums) {
      WINDROW_UNROLL
      for (int j = 0; j < kSums; ++j, dy += dy_pixel, x += x_pixel)
        sum[j] = S::fma(S::load(dy), S::load(x), sum[j]);
    }
    WINDROW_UNROLL
    for (int j = 0; j < kRest; ++j, dy += dy_pixel, x += x_pixel)
      sum[j] = S::fma(S::load(dy), S::load(x), sum[j]);
  }
  if (c.totals) {
    add_in_pairs<T>(sum, c.totals + k * c.totals_row);
    return;
  }
  WINDROW_UNROLL
  for (int j = 0; j < kSums; ++j) S::store(sums + j * S::kLanes, sum[j]);
}

// One tap at a time: as many sums as a vector has lanes are all the registers of AVX2 that two loads for each
// multiply-add leave. Rows of each remainder have their own code: most are shorter than one round.
template <class T, int kRest = Simd<T>::kLanes - 1>
void correlate_channels(const windrow::CorrelateChannels<T>& c) {
  if constexpr (kRest > 0) {
    if (c.count % Simd<T>::kLanes != kRest) return correlate_channels<T, kRest - 1>(c);
  }
  for (std::ptrdiff_t k = 0; k < c.taps; ++k) correlate_tap<T, kRest>(c, k);
}

}  // namespace
