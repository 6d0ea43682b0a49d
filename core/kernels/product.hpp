// The register-tiled product. One tile of M rows by V vectors holds its sums in M * V registers; a step of k
// loads V vectors of B, broadcasts M elements of A and does M * V multiply-adds. Order of accumulation: see
// kChunk.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"

namespace {

template <class T, int M, int V>
void product_tile(const windrow::Product<T>& p) {
  using S = Simd<T>;
  const T* a[M];
  T* c[M];
  for (int m = 0; m < M; ++m) {
    a[m] = p.a + (p.a_at ? p.a_at[m] : m * p.a_row);
    c[m] = p.c + (p.c_at ? p.c_at[m] : m * p.c_row);
    // The tile is written at the end of the chunk: fetch its lines while the sums are made.
    for (int v = 0; v < V; ++v) __builtin_prefetch(c[m] + v * S::kLanes, 1);
  }
  bool add_to_c = p.accumulate;
  std::ptrdiff_t k = 0;
  do {
    const std::ptrdiff_t end = p.k - k < windrow::kChunk ? p.k : k + windrow::kChunk;
    typename S::V sum[M][V];
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < V; ++v) sum[m][v] = S::zero();
    for (; k < end; ++k) {
      const T* row = p.b + p.step[k].b;
      const std::ptrdiff_t column = p.step[k].a;
      typename S::V b[V];
      for (int v = 0; v < V; ++v) b[v] = S::load(row + v * S::kLanes);
      for (int m = 0; m < M; ++m) {
        const typename S::V factor = S::all(a[m][column]);
        for (int v = 0; v < V; ++v) sum[m][v] = S::fma(factor, b[v], sum[m][v]);
      }
    }
    if (add_to_c) {
      WINDROW_UNROLL
      for (int m = 0; m < M; ++m) WINDROW_UNROLL
      for (int v = 0; v < V; ++v) sum[m][v] = S::add(S::load(c[m] + v * S::kLanes), sum[m][v]);
    }
    if (p.bias && k == p.k) {
      WINDROW_UNROLL
      for (int m = 0; m < M; ++m) WINDROW_UNROLL
      for (int v = 0; v < V; ++v) sum[m][v] = S::add(sum[m][v], S::all(p.bias[m]));
    }
    WINDROW_UNROLL
    for (int m = 0; m < M; ++m) WINDROW_UNROLL
    for (int v = 0; v < V; ++v) S::store(c[m] + v * S::kLanes, sum[m][v]);
    add_to_c = true;
  } while (k < p.k);
}

template <class T, int M, int V>
struct ProductTiles {
  // Finds the tile of exactly `rows` by `vectors`, so that edges cost no more than their size.
  static void run(const windrow::Product<T>& p, int rows, int vectors) {
    if (rows < M) {
      if constexpr (M > 1) ProductTiles<T, M - 1, V>::run(p, rows, vectors);
    } else if (vectors < V) {
      if constexpr (V > 1) ProductTiles<T, M, V - 1>::run(p, rows, vectors);
    } else {
      product_tile<T, M, V>(p);
    }
  }
};

template <class T>
void product(const windrow::Product<T>& p, int rows, int vectors) {
  ProductTiles<T, Simd<T>::kRows, Simd<T>::kVectors>::run(p, rows, vectors);
}

// Multiply-adds on independent registers, nothing else: the peak that a product can reach.
template <class T>
double fma_rounds(std::ptrdiff_t rounds) {
  using S = Simd<T>;
  constexpr int kSums = 10;  // enough to hide the latency, few enough for 16 registers
  typename S::V sum[kSums];
  for (int i = 0; i < kSums; ++i) sum[i] = S::all(static_cast<T>(i));
  typename S::V x = S::all(static_cast<T>(0.999)), y = S::all(static_cast<T>(0.001));
  for (std::ptrdiff_t r = 0; r < rounds; ++r) {
    for (int i = 0; i < kSums; ++i) sum[i] = S::fma(sum[i], x, y);
  }
  T out[S::kLanes];
  T volatile sink = 0;
  for (int i = 0; i < kSums; ++i) {
    S::store(out, sum[i]);
    sink = sink + out[0];
  }
  return 2.0 * kSums * S::kLanes * static_cast<double>(rounds);
}

}  // namespace
