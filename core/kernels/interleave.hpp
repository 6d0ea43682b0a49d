// Two rows as every second element of one: how two stride phases of the input gradient come together.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"
#include "kernels/stencil.hpp"

namespace {

// Both vectors' elements in turn: the first half of them, and the second.
#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)
inline void zip_lanes(__m512 even, __m512 odd, __m512& low, __m512& high) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  low = _mm512_permutex2var_ps(even, first, odd);
  high = _mm512_permutex2var_ps(even, _mm512_add_epi32(first, _mm512_set1_epi32(8)), odd);
}
inline void zip_lanes(__m512d even, __m512d odd, __m512d& low, __m512d& high) {
  const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  low = _mm512_permutex2var_pd(even, first, odd);
  high = _mm512_permutex2var_pd(even, _mm512_add_epi64(first, _mm512_set1_epi64(4)), odd);
}
#elif defined(__AVX2__) && !defined(WINDROW_GENERIC)
inline void zip_lanes(__m256 even, __m256 odd, __m256& low, __m256& high) {
  const __m256 a = _mm256_unpacklo_ps(even, odd), b = _mm256_unpackhi_ps(even, odd);
  low = _mm256_permute2f128_ps(a, b, 0x20);
  high = _mm256_permute2f128_ps(a, b, 0x31);
}
inline void zip_lanes(__m256d even, __m256d odd, __m256d& low, __m256d& high) {
  const __m256d a = _mm256_unpacklo_pd(even, odd), b = _mm256_unpackhi_pd(even, odd);
  low = _mm256_permute2f128_pd(a, b, 0x20);
  high = _mm256_permute2f128_pd(a, b, 0x31);
}
#elif defined(__aarch64__) && !defined(WINDROW_GENERIC)
inline void zip_lanes(float32x4_t even, float32x4_t odd, float32x4_t& low, float32x4_t& high) {
  low = vzip1q_f32(even, odd);
  high = vzip2q_f32(even, odd);
}
inline void zip_lanes(float64x2_t even, float64x2_t odd, float64x2_t& low, float64x2_t& high) {
  low = vzip1q_f64(even, odd);
  high = vzip2q_f64(even, odd);
}
#else
template <class V>
inline void zip_lanes(V even, V odd, V& low, V& high) {
  constexpr int kLanes = static_cast<int>(sizeof(V) / sizeof(V{}[0]));
  for (int i = 0; i < kLanes / 2; ++i) {
    low[2 * i] = even[i];
    low[2 * i + 1] = odd[i];
    high[2 * i] = even[kLanes / 2 + i];
    high[2 * i + 1] = odd[kLanes / 2 + i];
  }
}
#endif

// By value, as in gather.hpp.
template <class T>
void interleave_pairs(const windrow::Interleave<T> p) {
  using S = Simd<T>;
  constexpr std::ptrdiff_t kLanes = S::kLanes;
  const std::ptrdiff_t count = p.evens + p.odds;  // elements of the target
  std::ptrdiff_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    typename S::V low, high;
    zip_lanes(S::load(p.even + i / 2), S::load(p.odd + i / 2), low, high);
    S::store(p.target + i, low);
    S::store(p.target + i + kLanes, high);
  }
  if (i == count) return;
  typename S::V low, high;
  zip_lanes(S::load(p.even + i / 2), S::load(p.odd + i / 2), low, high);
  if (i + kLanes <= count) {
    S::store(p.target + i, low);
    low = high;
    i += kLanes;
  }
  if (i < count) FirstLanes<T>::store(p.target + i, low, count - i);
}

template <class T>
void interleave(const windrow::Interleave<T>& all) {
  windrow::Interleave<T> p = all;
  for (std::ptrdiff_t r = 0; r < all.rows; ++r) {
    interleave_pairs<T>(p);
    p.target += p.target_row;
    p.even += p.source_row;
    p.odd += p.source_row;
  }
}

}  // namespace
