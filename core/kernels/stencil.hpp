// Sums of shifted rows: what is left of a product whose result has a single row, as in depthwise convolution.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/masked.hpp"
#include "kernels/simd.hpp"

namespace {

// The first `count` lanes of a vector, where a whole one would leave the caller's memory.
template <class T>
struct FirstLanes {
  using S = Simd<T>;
#ifdef WINDROW_MASKED
  static auto mask(std::ptrdiff_t count) { return static_cast<Masked::Of<T>>((1u << count) - 1); }
  static typename S::V load(const T* p, std::ptrdiff_t count) { return Masked::load(mask(count), p); }
#if defined(__AVX512F__)
  static void store(float* p, __m512 v, std::ptrdiff_t count) { _mm512_mask_storeu_ps(p, mask(count), v); }
  static void store(double* p, __m512d v, std::ptrdiff_t count) { _mm512_mask_storeu_pd(p, mask(count), v); }
#else
  // In halves: the masked stores of AVX2 take dozens of operations on some processors.
  static void store(float* p, __m256 v, std::ptrdiff_t count) {
    __m128 rest = _mm256_castps256_ps128(v);
    if (count & 4) {
      _mm_storeu_ps(p, rest);
      rest = _mm256_extractf128_ps(v, 1);
      p += 4;
    }
    if (count & 2) {
      _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
      rest = _mm_movehl_ps(rest, rest);
      p += 2;
    }
    if (count & 1) _mm_store_ss(p, rest);
  }
  static void store(double* p, __m256d v, std::ptrdiff_t count) {
    __m128d rest = _mm256_castpd256_pd128(v);
    if (count & 2) {
      _mm_storeu_pd(p, rest);
      rest = _mm256_extractf128_pd(v, 1);
      p += 2;
    }
    if (count & 1) _mm_store_sd(p, rest);
  }
#endif
#else
  static typename S::V load(const T* p, std::ptrdiff_t count) {
    T lanes[S::kLanes] = {};
    for (std::ptrdiff_t i = 0; i < count; ++i) lanes[i] = p[i];
    return S::load(lanes);
  }
  static void store(T* p, typename S::V v, std::ptrdiff_t count) {
    T lanes[S::kLanes];
    S::store(lanes, v);
    for (std::ptrdiff_t i = 0; i < count; ++i) p[i] = lanes[i];
  }
#endif
};

// `count` lanes of R rows, in V vectors of which the last may be partial.
template <class T, int R, int V>
void stencil_lanes(const windrow::Stencil<T>& s, const T* x, T* y, std::ptrdiff_t count) {
  using S = Simd<T>;
  const std::ptrdiff_t rest = count - (V - 1) * S::kLanes;
  bool add_to_y = s.accumulate;
  std::ptrdiff_t k = 0;
  do {
    const std::ptrdiff_t end = s.k - k < windrow::kChunk ? s.k : k + windrow::kChunk;
    typename S::V sum[R][V];
    WINDROW_UNROLL
    for (int r = 0; r < R; ++r) {
      WINDROW_UNROLL
      for (int v = 0; v < V; ++v) sum[r][v] = S::zero();
    }
    for (; k < end; ++k) {
      const typename S::V factor = S::all(s.w[s.step[k].a]);
      const T* row = x + s.step[k].b;
      WINDROW_UNROLL
      for (int r = 0; r < R; ++r, row += s.x_row) {
        WINDROW_UNROLL
        for (int v = 0; v < V; ++v) sum[r][v] = S::fma(factor, S::load(row + v * S::kLanes), sum[r][v]);
      }
    }
    T* to = y;
    WINDROW_UNROLL
    for (int r = 0; r < R; ++r, to += s.y_row) {
      T* const last = to + (V - 1) * S::kLanes;
      if (add_to_y) {
        WINDROW_UNROLL
        for (int v = 0; v < V - 1; ++v) sum[r][v] = S::add(S::load(to + v * S::kLanes), sum[r][v]);
        sum[r][V - 1] = S::add(FirstLanes<T>::load(last, rest), sum[r][V - 1]);
      }
      if (s.bias && k == s.k) {
        WINDROW_UNROLL
        for (int v = 0; v < V; ++v) sum[r][v] = S::add(sum[r][v], S::all(*s.bias));
      }
      WINDROW_UNROLL
      for (int v = 0; v < V - 1; ++v) S::store(to + v * S::kLanes, sum[r][v]);
      if (rest == S::kLanes) {
        S::store(last, sum[r][V - 1]);
      } else {
        FirstLanes<T>::store(last, sum[r][V - 1], rest);
      }
    }
    add_to_y = true;
  } while (k < s.k);
}

template <class T, int R>
void stencil_rows(const windrow::Stencil<T>& s, const T* x, T* y) {
  constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes;
  std::ptrdiff_t count = s.count;
  for (; count > 4 * kLanes; count -= 4 * kLanes, x += 4 * kLanes, y += 4 * kLanes)
    stencil_lanes<T, R, 4>(s, x, y, 4 * kLanes);
  if (count > 3 * kLanes) {
    stencil_lanes<T, R, 4>(s, x, y, count);
  } else if (count > 2 * kLanes) {
    stencil_lanes<T, R, 3>(s, x, y, count);
  } else if (count > kLanes) {
    stencil_lanes<T, R, 2>(s, x, y, count);
  } else if (count > 0) {
    stencil_lanes<T, R, 1>(s, x, y, count);
  }
}

// Rows of V vectors, of small images: R at a time, and then those that are left at once.
template <class T, int V, int R = 8 / V>
void stencil_short_rows(const windrow::Stencil<T>& s, const T* x, T* y, std::ptrdiff_t rows) {
  for (; rows >= R; rows -= R, x += R * s.x_row, y += R * s.y_row) stencil_lanes<T, R, V>(s, x, y, s.count);
  if constexpr (R > 1) {
    if (rows > 0) stencil_short_rows<T, V, R - 1>(s, x, y, rows);
  }
}

// Eight sums at a time hide the latency of the multiply-add: of two rows, or of more short ones.
template <class T>
void stencil(const windrow::Stencil<T>& s) {
  constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes;
  if (s.count <= 0) return;
  if (s.count <= kLanes) return stencil_short_rows<T, 1>(s, s.x, s.y, s.rows);
  if (s.count <= 2 * kLanes) return stencil_short_rows<T, 2>(s, s.x, s.y, s.rows);
  std::ptrdiff_t r = 0;
  for (; r + 2 <= s.rows; r += 2) stencil_rows<T, 2>(s, s.x + r * s.x_row, s.y + r * s.y_row);
  if (r < s.rows) stencil_rows<T, 1>(s, s.x + r * s.x_row, s.y + r * s.y_row);
}

}  // namespace
