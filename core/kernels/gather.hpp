// Vectors put together from runs of memory: how windows of an image become rows of a packed panel.
#pragma once

#include <type_traits>

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"

namespace {

template <class T>
void gather_generic(const windrow::Gather<T>& g) {
  constexpr int kLanes = Simd<T>::kLanes;
  T* target = g.target;
  for (std::ptrdiff_t i = 0; i < g.count; ++i, target += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) target[lane] = 0;
    for (std::int32_t s = g.first[i]; s < g.first[i + 1]; ++s) {
      const T* source = g.source + g.segments[s].offset;
      // A segment's lanes are one run, or (where it was cut out of a longer one) a few.
      for (std::uint32_t rest = g.segments[s].mask; rest; rest &= rest - 1) {
        const int lane = __builtin_ctz(rest);
        target[lane] = source[lane * g.step];
      }
    }
  }
}

#if defined(__AVX512F__)

struct Masked {
  template <class T>
  using Of = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;

  static __m512 load(__m512 into, __mmask16 mask, const float* p) {
    return _mm512_mask_loadu_ps(into, mask, p);
  }
  static __m512d load(__m512d into, __mmask8 mask, const double* p) {
    return _mm512_mask_loadu_pd(into, mask, p);
  }
  // Every second element, from the element that lane 0 would read.
  static __m512 load_even(__m512 into, __mmask16 mask, const float* p) {
    const auto both = _pdep_u32(mask, 0x55555555u);
    const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(both), p);
    const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(both >> 16), p + 16);
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_mask_blend_ps(mask, into, _mm512_permutex2var_ps(low, even, high));
  }
  static __m512d load_even(__m512d into, __mmask8 mask, const double* p) {
    const auto both = _pdep_u32(mask, 0x5555u);
    const __m512d low = _mm512_maskz_loadu_pd(static_cast<__mmask8>(both), p);
    const __m512d high = _mm512_maskz_loadu_pd(static_cast<__mmask8>(both >> 8), p + 8);
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    return _mm512_mask_blend_pd(mask, into, _mm512_permutex2var_pd(low, even, high));
  }
};

template <class T>
void gather(const windrow::Gather<T>& g) {
  using S = Simd<T>;
  T* target = g.target;
  if (g.step == 1) {
    for (std::ptrdiff_t i = 0; i < g.count; ++i, target += S::kLanes) {
      typename S::V v = S::zero();
      for (std::int32_t s = g.first[i]; s < g.first[i + 1]; ++s)
        v = Masked::load(v, static_cast<typename Masked::Of<T>>(g.segments[s].mask),
                         g.source + g.segments[s].offset);
      S::store(target, v);
    }
  } else if (g.step == 2) {
    for (std::ptrdiff_t i = 0; i < g.count; ++i, target += S::kLanes) {
      typename S::V v = S::zero();
      for (std::int32_t s = g.first[i]; s < g.first[i + 1]; ++s)
        v = Masked::load_even(v, static_cast<typename Masked::Of<T>>(g.segments[s].mask),
                              g.source + g.segments[s].offset);
      S::store(target, v);
    }
  } else {
    gather_generic(g);
  }
}

#else

template <class T>
void gather(const windrow::Gather<T>& g) {
  gather_generic(g);
}

#endif

}  // namespace
