// Loads of some lanes, which touch no memory of the others. AVX-512 has them; elsewhere kernels go lane by
// lane.
#pragma once

#if defined(__AVX512F__)

#include <immintrin.h>

#include <type_traits>

namespace {

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

}  // namespace

#endif
