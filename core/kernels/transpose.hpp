// Small matrices turned over: image planes into channels-last strips and back.
#pragma once

#include "kernels/contract.hpp"
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

#if defined(__AVX512F__)

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

template <class T>
void transpose(const windrow::Transpose<T>& t) {
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

#else

template <class T>
void transpose(const windrow::Transpose<T>& t) {
  transpose_generic(t);
}

#endif

}  // namespace
