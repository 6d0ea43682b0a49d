// Runs of elements to and from a stride: how the input gradient's phases come together, and how the phases of
// a strided window are taken apart.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/masked.hpp"
#include "kernels/simd.hpp"

namespace {

template <class T>
void spread_generic(const windrow::Strided<T>& s) {
  for (std::ptrdiff_t r = 0; r < s.rows; ++r)
    for (std::ptrdiff_t i = 0; i < s.count; ++i)
      s.target[r * s.target_row + i * s.step] = s.source[r * s.source_row + i];
}

template <class T>
void collect_generic(const windrow::Strided<T>& s) {
  for (std::ptrdiff_t r = 0; r < s.rows; ++r)
    for (std::ptrdiff_t i = 0; i < s.count; ++i)
      s.target[r * s.target_row + i] = s.source[r * s.source_row + i * s.step];
}

#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)

struct Spreading {
  static void store(float* target, std::uint32_t lanes, __m512 v) {
    _mm512_mask_storeu_ps(target, static_cast<__mmask16>(lanes), v);
  }
  static void store(double* target, std::uint32_t lanes, __m512d v) {
    _mm512_mask_storeu_pd(target, static_cast<__mmask8>(lanes), v);
  }
  static __m512 load(const float* source, std::uint32_t lanes) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), source);
  }
  static __m512d load(const double* source, std::uint32_t lanes) {
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>(lanes), source);
  }
  // Each lane of the lower (upper) half twice: those at even places are wanted.
  static __m512 twice(__m512 v, bool upper) {
    const __m512i low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(upper ? _mm512_add_epi32(low, _mm512_set1_epi32(8)) : low, v);
  }
  static __m512d twice(__m512d v, bool upper) {
    const __m512i low = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
    return _mm512_permutexvar_pd(upper ? _mm512_add_epi64(low, _mm512_set1_epi64(4)) : low, v);
  }
};

template <class T>
void spread(const windrow::Strided<T>& s) {
  constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes;
  if (s.step != 1 && s.step != 2) return spread_generic(s);
  for (std::ptrdiff_t i = 0; i < s.count; i += kLanes) {
    const std::ptrdiff_t some = s.count - i < kLanes ? s.count - i : kLanes;
    const std::uint32_t lanes = (std::uint32_t{1} << some) - 1;
    const T* source = s.source + i;
    T* target = s.target + i * s.step;
    if (s.step == 1) {
      for (std::ptrdiff_t r = 0; r < s.rows; ++r, source += s.source_row, target += s.target_row)
        Spreading::store(target, lanes, Spreading::load(source, lanes));
      continue;
    }
    const std::uint32_t even = _pdep_u32(lanes, 0x55555555u), upper = even >> kLanes;
    for (std::ptrdiff_t r = 0; r < s.rows; ++r, source += s.source_row, target += s.target_row) {
      const auto v = Spreading::load(source, lanes);
      Spreading::store(target, even, Spreading::twice(v, false));
      if (upper) Spreading::store(target + kLanes, upper, Spreading::twice(v, true));
    }
  }
}

template <class T>
void collect(const windrow::Strided<T>& s) {
  constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes;
  if (s.step != 1 && s.step != 2) return collect_generic(s);
  for (std::ptrdiff_t i = 0; i < s.count; i += kLanes) {
    const std::ptrdiff_t some = s.count - i < kLanes ? s.count - i : kLanes;
    const auto lanes = static_cast<typename Masked::Of<T>>((std::uint32_t{1} << some) - 1);
    const auto zero = Simd<T>::zero();
    const T* source = s.source + i * s.step;
    T* target = s.target + i;
    for (std::ptrdiff_t r = 0; r < s.rows; ++r, source += s.source_row, target += s.target_row) {
      Spreading::store(
          target, lanes,
          s.step == 1 ? Masked::load(zero, lanes, source) : Masked::load_even(zero, lanes, source));
    }
  }
}

#elif defined(WINDROW_MASKED)

// Whole vectors, and lane by lane what is left: masked stores are slow on AMD's AVX2 machines, and so are
// stores to every second lane, which leave `spread` with a stride to the generic form.
template <class T>
void collect(const windrow::Strided<T>& s) {
  using S = Simd<T>;
  constexpr auto kAll = static_cast<typename Masked::Of<T>>((1u << S::kLanes) - 1);
  if (s.step != 1 && s.step != 2) return collect_generic(s);
  for (std::ptrdiff_t r = 0; r < s.rows; ++r) {
    const T* source = s.source + r * s.source_row;
    T* target = s.target + r * s.target_row;
    std::ptrdiff_t i = 0;
    for (; i + S::kLanes <= s.count; i += S::kLanes)
      S::store(target + i, s.step == 1 ? S::load(source + i) : Masked::load_even(kAll, source + 2 * i));
    for (; i < s.count; ++i) target[i] = source[i * s.step];
  }
}

template <class T>
void spread(const windrow::Strided<T>& s) {
  using S = Simd<T>;
  if (s.step != 1) return spread_generic(s);
  for (std::ptrdiff_t r = 0; r < s.rows; ++r) {
    const T* source = s.source + r * s.source_row;
    T* target = s.target + r * s.target_row;
    std::ptrdiff_t i = 0;
    for (; i + S::kLanes <= s.count; i += S::kLanes) S::store(target + i, S::load(source + i));
    for (; i < s.count; ++i) target[i] = source[i];
  }
}

#else

template <class T>
void collect(const windrow::Strided<T>& s) {
  collect_generic(s);
}

template <class T>
void spread(const windrow::Strided<T>& s) {
  spread_generic(s);
}

#endif

}  // namespace
