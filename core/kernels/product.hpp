// The register-tiled product. One tile of M rows by V vectors holds its sums in M * V registers; a step of k
// loads V vectors of B, broadcasts M elements of A and does M * V multiply-adds. Order of accumulation: see
// kChunk.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"

namespace {

// Without a step all sums are zero.
template <class T, int M, int V>
void product_of_nothing(const windrow::Product<T>& p, T* const* c) {
  using S = Simd<T>;
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) {
      T* const to = c[m] + v * S::kLanes;
      typename S::V sum = S::zero();
      if (p.accumulate) sum = S::add(S::load(to), sum);
      if (p.bias) sum = S::add(sum, S::all(p.bias[m]));
      S::store(to, sum);
    }
  }
}

// One step of a tile: `use(m, v, sum)` is given each sum after it.
template <class T, int M, int V, class Use>
[[gnu::always_inline]] inline void product_step(const windrow::Product<T>& p, const T* const* a,
                                                std::ptrdiff_t k, typename Simd<T>::V (&sum)[M][V],
                                                const Use& use) {
  using S = Simd<T>;
  const T* row = p.b + p.step[k].b;
  const std::ptrdiff_t column = p.step[k].a;
  typename S::V b[V];
  for (int v = 0; v < V; ++v) b[v] = S::load(row + v * S::kLanes);
  WINDROW_UNROLL
  for (int m = 0; m < M; ++m) {
    const typename S::V factor = S::all(a[m][column]);
    WINDROW_UNROLL
    for (int v = 0; v < V; ++v) use(m, v, S::fma(factor, b[v], sum[m][v]));
  }
}

// The last step of a chunk, whose sums are written as they come: after a loop over all steps, the writing
// would begin late, since the processor guesses wrong where the loop ends.
template <class T, int M, int V, bool kAdd, bool kBias>
[[gnu::always_inline]] inline void product_end(const windrow::Product<T>& p, const T* const* a, T* const* c,
                                               std::ptrdiff_t k, typename Simd<T>::V (&sum)[M][V]) {
  using S = Simd<T>;
  product_step<T, M, V>(p, a, k, sum, [&](int m, int v, typename S::V s) {
    T* const to = c[m] + v * S::kLanes;
    if (kAdd) s = S::add(S::load(to), s);
    if (kBias) s = S::add(s, S::all(p.bias[m]));
    S::store(to, s);
  });
}

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
  if (p.k == 0) return product_of_nothing<T, M, V>(p, c);
  bool add_to_c = p.accumulate;
  std::ptrdiff_t k = 0;
  do {
    const std::ptrdiff_t last = (p.k - k < p.chunk ? p.k : k + p.chunk) - 1;
    typename S::V sum[M][V];
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < V; ++v) sum[m][v] = S::zero();
    for (; k < last; ++k)
      product_step<T, M, V>(p, a, k, sum, [&](int m, int v, typename S::V s) { sum[m][v] = s; });
    const bool bias = p.bias && last + 1 == p.k;
    if (add_to_c) {
      bias ? product_end<T, M, V, true, true>(p, a, c, k, sum)
           : product_end<T, M, V, true, false>(p, a, c, k, sum);
    } else {
      bias ? product_end<T, M, V, false, true>(p, a, c, k, sum)
           : product_end<T, M, V, false, false>(p, a, c, k, sum);
    }
    ++k;
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
