// Windows whose sums lie side by side, a vector of them at a time: the columns are turned over in registers,
// so that lanes are windows, and what one tap of all of them adds is one vector. The sums of a run and the
// vector's windows, two vectors, stay in registers over its taps, which come from the last to the first: each
// sum meets its windows in their order.
#pragma once

#include <type_traits>

#include "kernels/patch_contract.hpp"
#include "kernels/simd.hpp"

#if defined(__AVX2__) && !defined(WINDROW_GENERIC)
#define WINDROW_TURNED

namespace {

// A piece of a run is 16 bytes. join() has those of windows `step` apart in its 128-bit parts; turn() makes
// of the pieces of as many windows as there are lanes one vector for each number of the piece.
inline __m128 piece(const char* p) { return _mm_loadu_ps(reinterpret_cast<const float*>(p)); }

#if defined(__AVX512F__)

inline __m512 join(const char* p, std::ptrdiff_t step) {
  __m512 v = _mm512_castps128_ps512(piece(p));
  v = _mm512_insertf32x4(v, piece(p + step), 1);
  v = _mm512_insertf32x4(v, piece(p + 2 * step), 2);
  return _mm512_insertf32x4(v, piece(p + 3 * step), 3);
}
inline void turn(const char* p, std::ptrdiff_t step, __m512* v) {
  const __m512 r0 = join(p, 4 * step), r1 = join(p + step, 4 * step);
  const __m512 r2 = join(p + 2 * step, 4 * step), r3 = join(p + 3 * step, 4 * step);
  const __m512 a = _mm512_unpacklo_ps(r0, r1), b = _mm512_unpacklo_ps(r2, r3);
  const __m512 c = _mm512_unpackhi_ps(r0, r1), d = _mm512_unpackhi_ps(r2, r3);
  v[0] = _mm512_shuffle_ps(a, b, 0x44);
  v[1] = _mm512_shuffle_ps(a, b, 0xee);
  v[2] = _mm512_shuffle_ps(c, d, 0x44);
  v[3] = _mm512_shuffle_ps(c, d, 0xee);
}
inline void turn(const char* p, std::ptrdiff_t step, __m512d* v) {
  const __m512d even = _mm512_castps_pd(join(p, 2 * step));
  const __m512d odd = _mm512_castps_pd(join(p + step, 2 * step));
  v[0] = _mm512_unpacklo_pd(even, odd);
  v[1] = _mm512_unpackhi_pd(even, odd);
}

// Of the lanes, those from `first` on, or those before it.
template <class T>
struct Lanes {
  using Mask = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;
  static Mask from(int first) { return static_cast<Mask>(~0u << first); }
  static Mask before(int first) { return static_cast<Mask>((1u << first) - 1); }
};
inline __m512 keep(__mmask16 lanes, __m512 v) { return _mm512_maskz_mov_ps(lanes, v); }
inline __m512d keep(__mmask8 lanes, __m512d v) { return _mm512_maskz_mov_pd(lanes, v); }
inline __m512 add(__m512 sum, __mmask16 lanes, __m512 v) { return _mm512_mask_add_ps(sum, lanes, sum, v); }
inline __m512d add(__m512d sum, __mmask8 lanes, __m512d v) { return _mm512_mask_add_pd(sum, lanes, sum, v); }
// Lane l goes to l + x, around.
inline __m512 rotate(__m512 v, int x) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_permutexvar_ps(_mm512_sub_epi32(lane, _mm512_set1_epi32(x)), v);
}
inline __m512d rotate(__m512d v, int x) {
  const __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm512_permutexvar_pd(_mm512_sub_epi64(lane, _mm512_set1_epi64(x)), v);
}

#else

inline __m256 join(const char* p, std::ptrdiff_t step) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(piece(p)), piece(p + step), 1);
}
inline void turn(const char* p, std::ptrdiff_t step, __m256* v) {
  const __m256 r0 = join(p, 4 * step), r1 = join(p + step, 4 * step);
  const __m256 r2 = join(p + 2 * step, 4 * step), r3 = join(p + 3 * step, 4 * step);
  const __m256 a = _mm256_unpacklo_ps(r0, r1), b = _mm256_unpacklo_ps(r2, r3);
  const __m256 c = _mm256_unpackhi_ps(r0, r1), d = _mm256_unpackhi_ps(r2, r3);
  v[0] = _mm256_shuffle_ps(a, b, 0x44);
  v[1] = _mm256_shuffle_ps(a, b, 0xee);
  v[2] = _mm256_shuffle_ps(c, d, 0x44);
  v[3] = _mm256_shuffle_ps(c, d, 0xee);
}
inline void turn(const char* p, std::ptrdiff_t step, __m256d* v) {
  const __m256d even = _mm256_castps_pd(join(p, 2 * step));
  const __m256d odd = _mm256_castps_pd(join(p + step, 2 * step));
  v[0] = _mm256_unpacklo_pd(even, odd);
  v[1] = _mm256_unpackhi_pd(even, odd);
}

// Of the lanes, those from `first` on, or those before it.
template <class T>
struct Lanes {
  using Mask = __m256i;
  static Mask from(int first) { return _mm256_cmpgt_epi32(lane(), _mm256_set1_epi32(first - 1)); }
  static Mask before(int first) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(first), lane()); }

 private:
  static __m256i lane() {
    return sizeof(T) == 4 ? _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)
                          : _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  }
};
inline __m256 keep(__m256i lanes, __m256 v) { return _mm256_and_ps(_mm256_castsi256_ps(lanes), v); }
inline __m256d keep(__m256i lanes, __m256d v) { return _mm256_and_pd(_mm256_castsi256_pd(lanes), v); }
// The others add +0, which changes no sum, since no sum is -0.
inline __m256 add(__m256 sum, __m256i lanes, __m256 v) { return _mm256_add_ps(sum, keep(lanes, v)); }
inline __m256d add(__m256d sum, __m256i lanes, __m256d v) { return _mm256_add_pd(sum, keep(lanes, v)); }
// Lane l goes to l + x, around.
inline __m256 rotate(__m256 v, int x) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_permutevar8x32_ps(v, _mm256_sub_epi32(lane, _mm256_set1_epi32(x)));
}
inline __m256d rotate(__m256d v, int x) { return _mm256_castps_pd(rotate(_mm256_castpd_ps(v), 2 * x)); }

#endif

// The windows that come next, fetched in the order in which they lie while others are turned over: those are
// read many rows of the columns at a time, in which the processor sees no order.
class NextWindows {
 public:
  NextWindows(const windrow::AddRuns& a, std::ptrdiff_t windows, std::ptrdiff_t bytes)
      : window_(a.source + windows * a.source_step),
        step_(a.source_step),
        bytes_(bytes),
        lines_((windows * bytes / kLine + a.count) / a.count) {}
  // What is one run's part.
  void fetch() {
    for (std::ptrdiff_t i = 0; i < lines_; ++i) {
      __builtin_prefetch(window_ + at_, 0, 2);
      at_ += kLine;
      if (at_ < bytes_) continue;
      at_ -= bytes_;
      window_ += step_;
    }
  }

 private:
  static constexpr std::ptrdiff_t kLine = 64;
  const char* window_;
  std::ptrdiff_t at_ = 0, step_, bytes_, lines_;
};

// `windows` of them, no more than a vector has lanes. As many as that are read, whatever they are.
template <class T, int kPieces>
void add_turned(const windrow::AddRuns& a, int windows, NextWindows& next) {
  using S = Simd<T>;
  constexpr int kPiece = 16 / sizeof(T);
  const auto length = static_cast<int>(a.length);
  const bool both = windows + length - 1 > S::kLanes;
  const auto wanted = Lanes<T>::before(windows);
  for (std::ptrdiff_t j = 0; j < a.count; ++j) {
    next.fetch();
    const char* const source = a.source + a.runs[j].source;
    T* const total = reinterpret_cast<T*>(a.total + a.runs[j].total);
    typename S::V low = S::load(total), high = both ? S::load(total + S::kLanes) : S::zero();
    WINDROW_UNROLL
    for (int p = kPieces - 1; p >= 0; --p) {
      if (p * kPiece >= length) continue;
      typename S::V v[kPiece];
      turn(source + p * 16, a.source_step, v);
      WINDROW_UNROLL
      for (int i = kPiece - 1; i >= 0; --i) {
        const int x = p * kPiece + i;
        if (x >= length) continue;
        const typename S::V terms = keep(wanted, v[i]);
        if (x == 0) {
          low = S::add(low, terms);
        } else {
          const typename S::V turned = rotate(terms, x);
          low = add(low, Lanes<T>::from(x), turned);
          high = add(high, Lanes<T>::before(x), turned);
        }
      }
    }
    S::store(total, low);
    if (both) S::store(total + S::kLanes, high);
  }
}

template <class T>
void add_turned(const windrow::AddRuns& a, int windows, NextWindows& next) {
  constexpr int kPiece = 16 / sizeof(T);
  if (a.length <= kPiece) return add_turned<T, 1>(a, windows, next);
  if (a.length <= 2 * kPiece) return add_turned<T, 2>(a, windows, next);
  if constexpr (Simd<T>::kLanes > 2 * kPiece) add_turned<T, 4>(a, windows, next);
}

}  // namespace

#endif
