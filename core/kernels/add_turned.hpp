// Windows whose sums lie side by side, a vector of them at a time: the columns are turned over in registers,
// so that lanes are windows, and what one tap of all of them adds is one vector. The sums of a run and the
// vector's windows, two vectors, stay in registers over its taps, which come from the last to the first: each
// sum meets its windows in their order. Where sums of neighbouring windows begin 2 or 4 numbers apart, so
// many taps are what one is otherwise: a unit, of 4, 8 or 16 bytes.
#pragma once

#include <type_traits>

#include "kernels/patch_contract.hpp"
#include "kernels/simd.hpp"
#include "kernels/widest.hpp"

#if defined(__AVX2__) && !defined(WINDROW_GENERIC)
#define WINDROW_TURNED

namespace {

// A piece of a run is 16 bytes. join() has those of windows `step` apart in its 128-bit parts; turn() makes
// of the pieces of as many windows as a vector has units one vector for each unit of the piece.
template <int kBytes>
struct Unit {};
inline __m128 piece(const char* p) { return _mm_loadu_ps(reinterpret_cast<const float*>(p)); }

#if defined(__AVX512F__)

inline __m512 join(const char* p, std::ptrdiff_t step) {
  __m512 v = _mm512_castps128_ps512(piece(p));
  v = _mm512_insertf32x4(v, piece(p + step), 1);
  v = _mm512_insertf32x4(v, piece(p + 2 * step), 2);
  return _mm512_insertf32x4(v, piece(p + 3 * step), 3);
}
inline void turn(const char* p, std::ptrdiff_t step, Unit<4>, __m512* v) {
  const __m512 r0 = join(p, 4 * step), r1 = join(p + step, 4 * step);
  const __m512 r2 = join(p + 2 * step, 4 * step), r3 = join(p + 3 * step, 4 * step);
  const __m512 a = _mm512_unpacklo_ps(r0, r1), b = _mm512_unpacklo_ps(r2, r3);
  const __m512 c = _mm512_unpackhi_ps(r0, r1), d = _mm512_unpackhi_ps(r2, r3);
  v[0] = _mm512_shuffle_ps(a, b, 0x44);
  v[1] = _mm512_shuffle_ps(a, b, 0xee);
  v[2] = _mm512_shuffle_ps(c, d, 0x44);
  v[3] = _mm512_shuffle_ps(c, d, 0xee);
}
inline void turn(const char* p, std::ptrdiff_t step, Unit<8>, __m512* v) {
  const __m512d even = _mm512_castps_pd(join(p, 2 * step));
  const __m512d odd = _mm512_castps_pd(join(p + step, 2 * step));
  v[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(even, odd));
  v[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(even, odd));
}
inline void cast(__m512 v, __m512& as) { as = v; }
inline void cast(__m512 v, __m512d& as) { as = _mm512_castps_pd(v); }

// Of the lanes, those from `first` on, or those before it; and of every `unit` of them the first ones.
template <class T>
struct Lanes {
  using Mask = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;
  static Mask from(int first) { return static_cast<Mask>(~0u << first); }
  static Mask before(int first) { return static_cast<Mask>((1u << first) - 1); }
  static Mask of_each(int unit, int first) {
    return static_cast<Mask>(((1u << first) - 1) * (0xffffu / ((1u << unit) - 1)));
  }
  static Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
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
inline void turn(const char* p, std::ptrdiff_t step, Unit<4>, __m256* v) {
  const __m256 r0 = join(p, 4 * step), r1 = join(p + step, 4 * step);
  const __m256 r2 = join(p + 2 * step, 4 * step), r3 = join(p + 3 * step, 4 * step);
  const __m256 a = _mm256_unpacklo_ps(r0, r1), b = _mm256_unpacklo_ps(r2, r3);
  const __m256 c = _mm256_unpackhi_ps(r0, r1), d = _mm256_unpackhi_ps(r2, r3);
  v[0] = _mm256_shuffle_ps(a, b, 0x44);
  v[1] = _mm256_shuffle_ps(a, b, 0xee);
  v[2] = _mm256_shuffle_ps(c, d, 0x44);
  v[3] = _mm256_shuffle_ps(c, d, 0xee);
}
inline void turn(const char* p, std::ptrdiff_t step, Unit<8>, __m256* v) {
  const __m256d even = _mm256_castps_pd(join(p, 2 * step));
  const __m256d odd = _mm256_castps_pd(join(p + step, 2 * step));
  v[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(even, odd));
  v[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(even, odd));
}
inline void cast(__m256 v, __m256& as) { as = v; }
inline void cast(__m256 v, __m256d& as) { as = _mm256_castps_pd(v); }

// Of the lanes, those from `first` on, or those before it; and of every `unit` of them the first ones.
template <class T>
struct Lanes {
  using Mask = __m256i;
  static Mask from(int first) { return _mm256_cmpgt_epi32(lane(), _mm256_set1_epi32(first - 1)); }
  static Mask before(int first) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(first), lane()); }
  static Mask of_each(int unit, int first) {
    const __m256i place = _mm256_and_si256(lane(), _mm256_set1_epi32(unit - 1));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(first), place);
  }
  static Mask both(Mask a, Mask b) { return _mm256_and_si256(a, b); }

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

template <class V>
inline void turn(const char* p, std::ptrdiff_t step, Unit<16>, V* v) {
  v[0] = join(p, step);
}

// The windows that come next but one vector, fetched in the order in which they lie while others are turned
// over: those are read many rows of the columns at a time, in which the processor sees no order.
class NextWindows {
 public:
  // `windows` of them at a time, of so many bytes.
  NextWindows(const windrow::AddRuns& a, std::ptrdiff_t windows, std::ptrdiff_t bytes)
      : first_(2 * windows * a.source_step),
        step_(a.source_step),
        bytes_(bytes),
        few_(windows * bytes <= kNear),
        runs_(windows * bytes < kFew * kLine * a.count ? kFew : 1),
        lines_((windows * bytes * runs_ / kLine + a.count) / a.count) {
    if (step_ - bytes < kLine) bytes_ = step_ = windows * a.source_step;  // without gaps they are one
  }
  // So many go by from one fetch to the next: there are always some lines to fetch, and not many.
  std::ptrdiff_t runs() const { return runs_; }
  void start(const char* source) { window_ = next_ = source + first_; }
  void fetch(int vectors) {
    const char* const end = next_ + vectors * lines_ * kLine;
    if (few_) {  // for the first-level cache
      for (; next_ < end; next_ += kLine) __builtin_prefetch(next_, 0, 3);
    } else {
      for (; next_ < end; next_ += kLine) __builtin_prefetch(next_, 0, 2);
    }
    if (next_ - window_ >= bytes_) next_ = window_ += step_;
  }

 private:
  static constexpr std::ptrdiff_t kLine = 64, kFew = 4, kNear = 4096;
  const char *window_ = nullptr, *next_ = nullptr;
  std::ptrdiff_t first_, step_, bytes_;
  bool few_;
  std::ptrdiff_t runs_, lines_;
};

// Runs of kLength units of neighbouring windows, of as many as kVectors vectors have units or less, but more
// than one vector less. As many as vectors have are read, whatever they are.
template <class T, int kUnit, int kVectors, int kLength>
class TurnedRuns {
  using S = Simd<T>;
  using L = Lanes<T>;
  static constexpr int kNumbers = kUnit / static_cast<int>(sizeof(T)), kUnits = S::kLanes / kNumbers;
  static constexpr int kPiece = 16 / kUnit, kPieces = (kLength + kPiece - 1) / kPiece;

 public:
  // `length` numbers a run; windows `step` bytes apart.
  TurnedRuns(std::ptrdiff_t windows, std::ptrdiff_t length, std::ptrdiff_t step)
      : windows_(static_cast<int>(windows) - (kVectors - 1) * kUnits),
        step_(step),
        wanted_(L::before(windows_ * kNumbers)),
        // The last unit of a run may have fewer numbers.
        at_end_(L::of_each(kNumbers, static_cast<int>(length) - (kLength - 1) * kNumbers)),
        wanted_end_(L::both(wanted_, at_end_)) {}

  // Whether the runs reach the vector of sums after those of the windows.
  bool beyond() const { return windows_ + kLength - 1 > kUnits; }

  // Adds those from `source` on to kVectors + 1 vectors of sums.
  void add_to(typename S::V* sum, const char* source) const {
    WINDROW_UNROLL
    for (int p = kPieces - 1; p >= 0; --p) {
      decltype(join(source, 0)) v[kVectors][kPiece];
      WINDROW_UNROLL
      for (int r = 0; r < kVectors; ++r)
        turn(source + p * 16 + r * kUnits * step_, step_, Unit<kUnit>{}, v[r]);
      WINDROW_UNROLL
      for (int i = kPiece - 1; i >= 0; --i) {
        const int x = p * kPiece + i;
        if (x >= kLength) continue;
        const bool end = kNumbers > 1 && x == kLength - 1;
        WINDROW_UNROLL
        for (int r = 0; r < kVectors; ++r) {
          typename S::V terms;
          cast(v[r][i], terms);
          if (r == kVectors - 1) {
            terms = keep(end ? wanted_end_ : wanted_, terms);
          } else if (end) {
            terms = keep(at_end_, terms);
          }
          if (x == 0) {
            sum[r] = S::add(sum[r], terms);
          } else {
            const typename S::V turned = rotate(terms, x * kNumbers);
            sum[r] = add(sum[r], L::from(x * kNumbers), turned);
            sum[r + 1] = add(sum[r + 1], L::before(x * kNumbers), turned);
          }
        }
      }
    }
  }

 private:
  int windows_;  // of the last vector
  std::ptrdiff_t step_;
  typename L::Mask wanted_, at_end_, wanted_end_;
};

template <class T, int kUnit, int kVectors, int kLength>
void add_turned(const windrow::AddRuns& a, int windows, NextWindows& next) {
  using S = Simd<T>;
  const TurnedRuns<T, kUnit, kVectors, kLength> turned(windows, a.length, a.source_step);
  const bool beyond = turned.beyond();
  char* const totals = a.total;
  const char* const columns = a.source;
  const auto add_run = [&](const windrow::AddRun& run) {
    T* const total = reinterpret_cast<T*>(totals + run.total);
    typename S::V sum[kVectors + 1];
    WINDROW_UNROLL
    for (int r = 0; r < kVectors; ++r) sum[r] = S::load(total + r * S::kLanes);
    sum[kVectors] = beyond ? S::load(total + kVectors * S::kLanes) : S::zero();
    turned.add_to(sum, columns + run.source);
    WINDROW_UNROLL
    for (int r = 0; r < kVectors; ++r) S::store(total + r * S::kLanes, sum[r]);
    if (beyond) S::store(total + kVectors * S::kLanes, sum[kVectors]);
  };
  const windrow::AddRun* const last = a.runs + a.count;
  for (const windrow::AddRun* run = a.runs; run < last;) {
    next.fetch(kVectors);
    const windrow::AddRun* const end = last - run < next.runs() ? last : run + next.runs();
    for (; run < end; ++run) add_run(*run);
  }
}

// Runs of up to so many bytes are added by so many vectors of windows at a time: neighbouring sums are then
// loaded once, but longer runs would have too many lines in use.
template <int kVectors, int kUnit>
constexpr int longest_run = kVectors > 1 ? (kUnit == 16 ? 32 : 16) : kWidest;

template <class T, int kUnit, int kVectors, int kLength = 1>
void add_turned(const windrow::AddRuns& a, int length, int windows, NextWindows& next) {
  if constexpr (kLength * kUnit < longest_run<kVectors, kUnit>)
    if (length > kLength) return add_turned<T, kUnit, kVectors, kLength + 1>(a, length, windows, next);
  add_turned<T, kUnit, kVectors, kLength>(a, windows, next);
}

}  // namespace

#endif
