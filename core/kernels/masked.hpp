// Loads and stores of some lanes, which touch no memory of the others: bit l of `mask` says whether lane l is
// wanted. Lanes that are not keep what `into` holds, or are zero where there is no `into`. AVX-512 and AVX2
// have such loads; elsewhere kernels go lane by lane.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/simd.hpp"

#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)
#define WINDROW_MASKED

namespace {

struct Masked {
  template <class T>
  using Of = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;

  static __m512 load(__mmask16 mask, const float* p) { return _mm512_maskz_loadu_ps(mask, p); }
  static __m512d load(__mmask8 mask, const double* p) { return _mm512_maskz_loadu_pd(mask, p); }
  static __m512 load(__m512 into, __mmask16 mask, const float* p) {
    return _mm512_mask_loadu_ps(into, mask, p);
  }
  static __m512d load(__m512d into, __mmask8 mask, const double* p) {
    return _mm512_mask_loadu_pd(into, mask, p);
  }
  // The wanted lanes of v, the others of `into`.
  static __m512 keep(__m512 into, __mmask16 mask, __m512 v) { return _mm512_mask_blend_ps(mask, into, v); }
  static __m512d keep(__m512d into, __mmask8 mask, __m512d v) { return _mm512_mask_blend_pd(mask, into, v); }
  // Stores the first lanes: those of a mask without gaps.
  static void store(float* p, __mmask16 mask, __m512 v) { _mm512_mask_storeu_ps(p, mask, v); }
  static void store(double* p, __mmask8 mask, __m512d v) { _mm512_mask_storeu_pd(p, mask, v); }
  // Every second element, from the element that lane 0 would read.
  static __m512 load_even(__mmask16 mask, const float* p) {
    const auto both = _pdep_u32(mask, 0x55555555u);
    const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(both), p);
    const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(both >> 16), p + 16);
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(low, even, high);
  }
  static __m512d load_even(__mmask8 mask, const double* p) {
    const auto both = _pdep_u32(mask, 0x5555u);
    const __m512d low = _mm512_maskz_loadu_pd(static_cast<__mmask8>(both), p);
    const __m512d high = _mm512_maskz_loadu_pd(static_cast<__mmask8>(both >> 8), p + 8);
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    return _mm512_permutex2var_pd(low, even, high);
  }
  // Every step-th element likewise.
  static __m512 load_step(__mmask16 mask, const float* p, int step) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i place = _mm512_mullo_epi32(lane, _mm512_set1_epi32(step));
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, place, p, 4);
  }
  static __m512d load_step(__mmask8 mask, const double* p, int step) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i place = _mm256_mullo_epi32(lane, _mm256_set1_epi32(step));
    return _mm512_mask_i32gather_pd(_mm512_setzero_pd(), mask, place, p, 8);
  }
  static __m512 load_even(__m512 into, __mmask16 mask, const float* p) {
    return keep(into, mask, load_even(mask, p));
  }
  static __m512d load_even(__m512d into, __mmask8 mask, const double* p) {
    return keep(into, mask, load_even(mask, p));
  }
};

}  // namespace

#elif defined(__AVX2__) && !defined(WINDROW_GENERIC)
#define WINDROW_MASKED

namespace {

// AVX2 looks at the highest bit of each lane, to which the lane's bit of the mask is shifted. A shift by the
// width of the lane or more gives 0.
struct Masked {
  template <class T>
  using Of = std::uint32_t;

  static __m256 load(std::uint32_t mask, const float* p) {
    return _mm256_maskload_ps(p, lanes(mask, _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24)));
  }
  static __m256d load(std::uint32_t mask, const double* p) {
    return _mm256_maskload_pd(p, lanes64(mask, _mm256_setr_epi64x(63, 62, 61, 60)));
  }
  static __m256 load(__m256 into, std::uint32_t mask, const float* p) {
    return keep(into, mask, load(mask, p));
  }
  static __m256d load(__m256d into, std::uint32_t mask, const double* p) {
    return keep(into, mask, load(mask, p));
  }
  // The wanted lanes of v, the others of `into`.
  static __m256 keep(__m256 into, std::uint32_t mask, __m256 v) {
    const __m256i which = lanes(mask, _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24));
    return _mm256_blendv_ps(into, v, _mm256_castsi256_ps(which));
  }
  static __m256d keep(__m256d into, std::uint32_t mask, __m256d v) {
    const __m256i which = lanes64(mask, _mm256_setr_epi64x(63, 62, 61, 60));
    return _mm256_blendv_pd(into, v, _mm256_castsi256_pd(which));
  }
  // Stores the first lanes, those of a mask without gaps, in halves of halves: a masked store would cost more
  // than all of them.
  static void store(float* p, std::uint32_t mask, __m256 v) {
    if (mask == 0xff) return _mm256_storeu_ps(p, v);
    __m128 part = _mm256_castps256_ps128(v);
    if (mask & 0x8) {
      _mm_storeu_ps(p, part);
      p += 4;
      mask >>= 4;
      part = _mm256_extractf128_ps(v, 1);
    }
    if (mask & 0x2) {
      _mm_storel_pi(reinterpret_cast<__m64*>(p), part);
      p += 2;
      mask >>= 2;
      part = _mm_movehl_ps(part, part);
    }
    if (mask & 0x1) _mm_store_ss(p, part);
  }
  static void store(double* p, std::uint32_t mask, __m256d v) {
    if (mask == 0xf) return _mm256_storeu_pd(p, v);
    __m128d part = _mm256_castpd256_pd128(v);
    if (mask & 0x2) {
      _mm_storeu_pd(p, part);
      p += 2;
      mask >>= 2;
      part = _mm256_extractf128_pd(v, 1);
    }
    if (mask & 0x1) _mm_store_sd(p, part);
  }
  // Every second element, from the element that lane 0 would read.
  static __m256 load_even(std::uint32_t mask, const float* p) {
    const __m256 low = _mm256_maskload_ps(p, lanes(mask, _mm256_setr_epi32(31, 32, 30, 32, 29, 32, 28, 32)));
    const __m256 high =
        _mm256_maskload_ps(p + 8, lanes(mask, _mm256_setr_epi32(27, 32, 26, 32, 25, 32, 24, 32)));
    const __m256 even = _mm256_shuffle_ps(low, high, 0x88);  // in pairs: 0 2, 4 6 of low and of high
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even), 0xd8));
  }
  static __m256d load_even(std::uint32_t mask, const double* p) {
    const __m256d low = _mm256_maskload_pd(p, lanes64(mask, _mm256_setr_epi64x(63, 64, 62, 64)));
    const __m256d high = _mm256_maskload_pd(p + 4, lanes64(mask, _mm256_setr_epi64x(61, 64, 60, 64)));
    return _mm256_permute4x64_pd(_mm256_unpacklo_pd(low, high), 0xd8);
  }
  static __m256 load_even(__m256 into, std::uint32_t mask, const float* p) {
    return keep(into, mask, load_even(mask, p));
  }
  static __m256d load_even(__m256d into, std::uint32_t mask, const double* p) {
    return keep(into, mask, load_even(mask, p));
  }

 private:
  static __m256i lanes(std::uint32_t mask, __m256i shift) {
    return _mm256_sllv_epi32(_mm256_set1_epi32(static_cast<int>(mask)), shift);
  }
  static __m256i lanes64(std::uint32_t mask, __m256i shift) {
    return _mm256_sllv_epi64(_mm256_set1_epi64x(mask), shift);
  }
};

}  // namespace

#endif

#ifdef WINDROW_MASKED

namespace {

// A mask of the first lanes: so many, none or all of them.
template <class T>
inline Masked::Of<T> first_lanes(std::ptrdiff_t count) {
  constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes;
  return static_cast<Masked::Of<T>>(count <= 0 ? 0 : (1u << (count < kLanes ? count : kLanes)) - 1);
}

// Of the lanes [first, end), as far as there are such.
template <class T>
inline Masked::Of<T> lanes_between(std::ptrdiff_t first, std::ptrdiff_t end) {
  return static_cast<Masked::Of<T>>(first_lanes<T>(end) & ~first_lanes<T>(first));
}

}  // namespace

#endif
