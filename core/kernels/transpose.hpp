// Small matrices turned over: image planes into channels-last strips and back.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/masked.hpp"
#include "kernels/simd.hpp"

namespace {

template <class T>
void transpose_generic(const windrow::Transpose<T>& t) {
  // Blocks of a cache line square: each line of the source is read once and each line of the target written
  // once.
  constexpr std::ptrdiff_t kBlock = 64 / sizeof(T);
  for (std::ptrdiff_t j0 = 0; j0 < t.columns; j0 += kBlock) {
    const std::ptrdiff_t j1 = j0 + kBlock < t.columns ? j0 + kBlock : t.columns;
    for (std::ptrdiff_t i0 = 0; i0 < t.rows; i0 += kBlock) {
      const std::ptrdiff_t i1 = i0 + kBlock < t.rows ? i0 + kBlock : t.rows;
      for (std::ptrdiff_t i = i0; i < i1; ++i)
        for (std::ptrdiff_t j = j0; j < j1; ++j)
          t.target[i * t.target_row + j] = t.source[j * t.source_row + i];
    }
  }
}

#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)

// A block of 16 x 16 float32 or 8 x 8 float64 in registers. In each step pairs of registers at distance
// `half` exchange halves of their 2 * half wide groups, until row and column numbers have changed places.
template <class T>
struct Block;

template <>
struct Block<float> {
  using V = __m512;
  static constexpr int kSize = 16;
  static V load(const float* p, unsigned lanes) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), p);
  }
  static void store(float* p, unsigned lanes, V v) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(lanes), v);
  }
  static void turn(V* r) {
    V s[16];
    for (int i = 0; i < 16; i += 2) {
      s[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      s[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      for (int j = 0; j < 2; ++j) {
        const __m512d a = _mm512_castps_pd(s[i + j]), b = _mm512_castps_pd(s[i + j + 2]);
        r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
      }
    }
    // r[4 * q + c] holds, in its 128-bit part p, column 4 * p + c of the rows 4 * q .. 4 * q + 3.
    for (int c = 0; c < 4; ++c) {
      const V a = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88), b = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
      const V d = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88),
              e = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
      s[c] = _mm512_shuffle_f32x4(a, d, 0x88);
      s[4 + c] = _mm512_shuffle_f32x4(b, e, 0x88);
      s[8 + c] = _mm512_shuffle_f32x4(a, d, 0xdd);
      s[12 + c] = _mm512_shuffle_f32x4(b, e, 0xdd);
    }
    for (int i = 0; i < 16; ++i) r[i] = s[i];
  }
};

template <>
struct Block<double> {
  using V = __m512d;
  static constexpr int kSize = 8;
  static V load(const double* p, unsigned lanes) {
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>(lanes), p);
  }
  static void store(double* p, unsigned lanes, V v) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(lanes), v);
  }
  static void turn(V* r) {
    V s[8];
    for (int i = 0; i < 8; i += 2) {
      s[i] = _mm512_unpacklo_pd(r[i], r[i + 1]);
      s[i + 1] = _mm512_unpackhi_pd(r[i], r[i + 1]);
    }
    // s[2 * q + c] holds, in its 128-bit part p, column 2 * p + c of the rows 2 * q and 2 * q + 1.
    for (int c = 0; c < 2; ++c) {
      const V a = _mm512_shuffle_f64x2(s[c], s[2 + c], 0x88), b = _mm512_shuffle_f64x2(s[c], s[2 + c], 0xdd);
      const V d = _mm512_shuffle_f64x2(s[4 + c], s[6 + c], 0x88),
              e = _mm512_shuffle_f64x2(s[4 + c], s[6 + c], 0xdd);
      r[c] = _mm512_shuffle_f64x2(a, d, 0x88);
      r[2 + c] = _mm512_shuffle_f64x2(b, e, 0x88);
      r[4 + c] = _mm512_shuffle_f64x2(a, d, 0xdd);
      r[6 + c] = _mm512_shuffle_f64x2(b, e, 0xdd);
    }
  }
};

#elif defined(__AVX2__) && !defined(WINDROW_GENERIC)

// A block of 8 x 8 float32 or 4 x 4 float64 in registers, in the same steps.
template <class T>
struct Block;

template <>
struct Block<float> {
  using V = __m256;
  static constexpr int kSize = 8;
  static V load(const float* p, unsigned lanes) {
    return lanes == 0xff ? _mm256_loadu_ps(p) : Masked::load(lanes, p);
  }
  static void store(float* p, unsigned lanes, V v) { Masked::store(p, lanes, v); }
  static void turn(V* r) {
    V s[8];
    for (int i = 0; i < 8; i += 2) {
      s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    V q[8];
    for (int i = 0; i < 8; i += 4) {
      for (int j = 0; j < 2; ++j) {
        q[i + 2 * j] = _mm256_shuffle_ps(s[i + j], s[i + j + 2], 0x44);
        q[i + 2 * j + 1] = _mm256_shuffle_ps(s[i + j], s[i + j + 2], 0xee);
      }
    }
    // q[4 * h + c] holds, in its 128-bit part p, column 4 * p + c of the rows 4 * h .. 4 * h + 3.
    for (int c = 0; c < 4; ++c) {
      r[c] = _mm256_permute2f128_ps(q[c], q[4 + c], 0x20);
      r[4 + c] = _mm256_permute2f128_ps(q[c], q[4 + c], 0x31);
    }
  }
};

template <>
struct Block<double> {
  using V = __m256d;
  static constexpr int kSize = 4;
  static V load(const double* p, unsigned lanes) {
    return lanes == 0xf ? _mm256_loadu_pd(p) : Masked::load(lanes, p);
  }
  static void store(double* p, unsigned lanes, V v) { Masked::store(p, lanes, v); }
  static void turn(V* r) {
    const V a = _mm256_unpacklo_pd(r[0], r[1]), b = _mm256_unpackhi_pd(r[0], r[1]);
    const V c = _mm256_unpacklo_pd(r[2], r[3]), d = _mm256_unpackhi_pd(r[2], r[3]);
    r[0] = _mm256_permute2f128_pd(a, c, 0x20);
    r[1] = _mm256_permute2f128_pd(b, d, 0x20);
    r[2] = _mm256_permute2f128_pd(a, c, 0x31);
    r[3] = _mm256_permute2f128_pd(b, d, 0x31);
  }
};

#endif

#if defined(WINDROW_MASKED)

// What is left of a block at the edges is loaded by masks.
template <class T>
void transpose_masked(const windrow::Transpose<T>& t) {
  using B = Block<T>;
  const auto some = [](std::ptrdiff_t left) { return static_cast<int>(left < B::kSize ? left : B::kSize); };
  for (std::ptrdiff_t i0 = 0; i0 < t.rows; i0 += B::kSize) {
    const int rows = some(t.rows - i0);
    for (std::ptrdiff_t j0 = 0; j0 < t.columns; j0 += B::kSize) {
      const int columns = some(t.columns - j0);
      typename B::V r[B::kSize];
      const unsigned row_lanes = (1u << rows) - 1, column_lanes = (1u << columns) - 1;
      for (int j = 0; j < B::kSize; ++j)
        r[j] =
            B::load(t.source + (j < columns ? (j0 + j) * t.source_row + i0 : 0), j < columns ? row_lanes : 0);
      B::turn(r);
      T* target = t.target + i0 * t.target_row + j0;
      if (rows == B::kSize) {
        for (int i = 0; i < B::kSize; ++i) B::store(target + i * t.target_row, column_lanes, r[i]);
      } else {
        for (int i = 0; i < rows; ++i) B::store(target + i * t.target_row, column_lanes, r[i]);
      }
    }
  }
}

#endif

#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)

// Columns that fill no more than half of a block: rows of one part of 128 bits, or two, of which a register
// has four after the first steps.
inline __m512d parts_in_turn(__m512d a, __m512d b, bool upper) {
  const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  return _mm512_permutex2var_pd(a, upper ? _mm512_add_epi64(low, _mm512_set1_epi64(4)) : low, b);
}
inline __m512d as_pairs(__m512 v) { return _mm512_castps_pd(v); }
inline __m512d as_pairs(__m512d v) { return v; }
// Half of a vector, by itself: an extraction to memory under a mask would touch the lanes that are left out.
inline __m256d half_of(__m512d v, int half) {
  return in_register(half ? _mm512_extractf64x4_pd(v, 1) : _mm512_castpd512_pd256(v));
}
inline void store_few(float* p, unsigned lanes, __m512d v, int half) {
  _mm256_mask_storeu_ps(p, static_cast<__mmask8>(lanes), _mm256_castpd_ps(half_of(v, half)));
}
inline void store_few(double* p, unsigned lanes, __m512d v, int half) {
  _mm256_mask_storeu_pd(p, static_cast<__mmask8>(lanes), half_of(v, half));
}

// The columns of `kPart` that lie side by side: in part p of vector c, those of row kPart * p + c.
inline void first_steps(__m512* r) {
  const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1]));
  const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
  const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
  const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
  r[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
  r[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
  r[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
  r[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
}
inline void first_steps(__m512d* r) {
  const __m512d a = r[0];
  r[0] = _mm512_unpacklo_pd(a, r[1]);
  r[1] = _mm512_unpackhi_pd(a, r[1]);
}

template <class T>
void transpose_few(const windrow::Transpose<T>& t) {
  using B = Block<T>;
  constexpr int kPart = 16 / sizeof(T);
  const unsigned lanes = (1u << t.columns) - 1;
  for (std::ptrdiff_t i0 = 0; i0 < t.rows; i0 += B::kSize) {
    const int rows = static_cast<int>(t.rows - i0 < B::kSize ? t.rows - i0 : B::kSize);
    const unsigned row_lanes = (1u << rows) - 1;
    typename B::V r[2 * kPart];
    for (int j = 0; j < 2 * kPart; ++j)
      r[j] = B::load(t.source + (j < t.columns ? j * t.source_row + i0 : 0), j < t.columns ? row_lanes : 0);
    first_steps(r);
    first_steps(r + kPart);
    T* target = t.target + i0 * t.target_row;
    for (int p = 0; p < 4; ++p) {
      for (int c = 0; c < kPart; ++c) {
        if (kPart * p + c >= rows) return;
        store_few(target + (kPart * p + c) * t.target_row, lanes,
                  parts_in_turn(as_pairs(r[c]), as_pairs(r[kPart + c]), p >= 2), p % 2);
      }
    }
  }
}

template <class T>
void transpose(const windrow::Transpose<T>& t) {
  t.columns <= static_cast<std::ptrdiff_t>(32 / sizeof(T)) ? transpose_few(t) : transpose_masked(t);
}

#elif defined(__AVX2__) && !defined(WINDROW_GENERIC)

// Blocks of 8 x 8 or 4 x 4 in registers: rows come in by halves, so that only unpacking and shuffling within
// 128 bits is left to do.
inline __m256 halves(const float* low, const float* high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}
inline __m256d halves(const double* low, const double* high) {
  return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(low)), _mm_loadu_pd(high), 1);
}

template <int kSize>
inline void turn_block(float* target, std::ptrdiff_t target_row, const float* source,
                       std::ptrdiff_t source_row);

template <>
inline void turn_block<8>(float* target, std::ptrdiff_t target_row, const float* source,
                          std::ptrdiff_t source_row) {
  const std::ptrdiff_t row3 = 3 * source_row, target_row3 = 3 * target_row;
  for (int i = 0; i < 8; i += 4, source += 4, target += 4 * target_row) {
    const float* const below = source + 4 * source_row;
    const __m256 r0 = halves(source, below), r1 = halves(source + source_row, below + source_row);
    const __m256 r2 = halves(source + 2 * source_row, below + 2 * source_row);
    const __m256 r3 = halves(source + row3, below + row3);
    const __m256 a = _mm256_unpacklo_ps(r0, r1), b = _mm256_unpacklo_ps(r2, r3);
    const __m256 c = _mm256_unpackhi_ps(r0, r1), d = _mm256_unpackhi_ps(r2, r3);
    _mm256_storeu_ps(target, _mm256_shuffle_ps(a, b, 0x44));
    _mm256_storeu_ps(target + target_row, _mm256_shuffle_ps(a, b, 0xee));
    _mm256_storeu_ps(target + 2 * target_row, _mm256_shuffle_ps(c, d, 0x44));
    _mm256_storeu_ps(target + target_row3, _mm256_shuffle_ps(c, d, 0xee));
  }
}

template <>
inline void turn_block<4>(float* target, std::ptrdiff_t target_row, const float* source,
                          std::ptrdiff_t source_row) {
  __m128 r[4];
  for (int j = 0; j < 4; ++j) r[j] = _mm_loadu_ps(source + j * source_row);
  _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]);
  for (int j = 0; j < 4; ++j) _mm_storeu_ps(target + j * target_row, r[j]);
}

template <int kSize>
inline void turn_block(double* target, std::ptrdiff_t target_row, const double* source,
                       std::ptrdiff_t source_row) {
  static_assert(kSize == 4);
  for (int i = 0; i < 4; i += 2, source += 2, target += 2 * target_row) {
    const __m256d even = halves(source, source + 2 * source_row);
    const __m256d odd = halves(source + source_row, source + 3 * source_row);
    _mm256_storeu_pd(target, _mm256_unpacklo_pd(even, odd));
    _mm256_storeu_pd(target + target_row, _mm256_unpackhi_pd(even, odd));
  }
}

// The last blocks lie over the ones before them: there are at least kSize rows and columns. A last row or two
// (the ninth of a 3 x 3 window) are copied element by element, which takes less than another block.
template <int kSize, class T>
void transpose_blocks(const windrow::Transpose<T>& all) {
  windrow::Transpose<T> t = all;
  if (const std::ptrdiff_t left = t.rows % kSize; left <= kSize / 4) {
    t.rows -= left;
    for (std::ptrdiff_t i = t.rows; i < all.rows; ++i)
      for (std::ptrdiff_t j = 0; j < t.columns; ++j)
        t.target[i * t.target_row + j] = t.source[j * t.source_row + i];
  }
  // What a source row shows of one cache line is read at once: rows that lie a power of two apart share sets
  // of the cache, and would shut each other out before the rest of the line is wanted.
  constexpr std::ptrdiff_t kLine = 64 / sizeof(T);
  for (std::ptrdiff_t line = 0; line < t.rows; line += kLine) {
    const std::ptrdiff_t end = line + kLine < t.rows ? line + kLine : t.rows;
    for (std::ptrdiff_t j = 0; j < t.columns; j += kSize) {
      const std::ptrdiff_t j0 = j + kSize <= t.columns ? j : t.columns - kSize;
      for (std::ptrdiff_t i = line; i < end; i += kSize) {
        const std::ptrdiff_t i0 = i + kSize <= t.rows ? i : t.rows - kSize;
        turn_block<kSize>(t.target + i0 * t.target_row + j0, t.target_row, t.source + j0 * t.source_row + i0,
                          t.source_row);
      }
    }
  }
}

template <class T>
void transpose(const windrow::Transpose<T>& t) {
  const std::ptrdiff_t least = t.rows < t.columns ? t.rows : t.columns;
  if constexpr (sizeof(T) == 4)
    if (least >= 8) return transpose_blocks<8>(t);
  if (least >= 4) return transpose_blocks<4>(t);
  transpose_masked(t);
}

#else

template <class T>
void transpose(const windrow::Transpose<T>& t) {
  transpose_generic(t);
}

#endif

}  // namespace
