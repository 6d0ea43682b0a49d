// Winograd's transforms for windows of 3 x 3 taps and tiles of m x m results, m = 2 or 4 (docs/numerics.md
// has the matrices). Lanes are tiles, except for the weights, where they are channels; every lane is computed
// alone, so a tile has the same bits wherever it lies.
//
// Each transform is one along the columns followed by one along the rows, or the other way round, of the
// forms below. Their operations and the order of them belong to the numerics plan.
#pragma once

#include <utility>

#include "kernels/contract.hpp"
#include "kernels/masked.hpp"
#include "kernels/simd.hpp"

namespace {

// Vectors taken apart and put together: lanes only move.
template <class V, int... I>
inline void even_and_odd(V a, V b, V& even, V& odd, std::integer_sequence<int, I...>) {
  even = __builtin_shufflevector(a, b, (2 * I)...);
  odd = __builtin_shufflevector(a, b, (2 * I + 1)...);
}

template <class V, int... I>
inline void alternate(V a, V b, V& low, V& high, std::integer_sequence<int, I...>) {
  constexpr int kLanes = sizeof...(I);
  low = __builtin_shufflevector(a, b, (I / 2 + I % 2 * kLanes)...);
  high = __builtin_shufflevector(a, b, ((kLanes + I) / 2 + I % 2 * kLanes)...);
}

// Lanes 1 .. kLanes - 1 of a, then lane `kNext` of b.
template <int kNext, class V, int... I>
inline V shifted(V a, V b, std::integer_sequence<int, I...>) {
  constexpr int kLanes = sizeof...(I);
  return __builtin_shufflevector(a, b, (I + 1 < kLanes ? I + 1 : kLanes + kNext)...);
}

template <class T>
using Lanes = std::make_integer_sequence<int, Simd<T>::kLanes>;

template <class T, int kTile>
struct Winograd;

// Interpolation at 0, 1, -1 and infinity.
template <class T>
struct Winograd<T, 2> {
  using S = Simd<T>;
  using V = typename S::V;
  static constexpr int kSide = 4;

  static void input(const V (&d)[4], V (&v)[4]) {
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
  }
  static void output(const V (&m)[4], V (&y)[2]) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }
  static void weights(const V (&w)[3], V (&u)[4]) {
    const V half = S::all(static_cast<T>(0.5));
    const V even = half * (w[0] + w[2]);
    u[0] = w[0];
    u[1] = S::fma(half, w[1], even);
    u[2] = even - half * w[1];
    u[3] = w[2];
  }
  // Tile l of a row of kLanes * 2 pixels in[0..1], and the first lanes of the pixels after them.
  static void split(const V (&in)[3], V (&column)[4]) {
    even_and_odd(in[0], in[1], column[0], column[1], Lanes<T>{});
    column[2] = shifted<0>(column[0], in[2], Lanes<T>{});
    column[3] = shifted<1>(column[1], in[2], Lanes<T>{});
  }
  static void join(const V (&column)[2], V (&out)[2]) {
    alternate(column[0], column[1], out[0], out[1], Lanes<T>{});
  }
};

// Interpolation at 0, a, -a, b, -b and infinity, with a = sqrt(1/2), b = sqrt(2).
template <class T>
struct Winograd<T, 4> {
  using S = Simd<T>;
  using V = typename S::V;
  static constexpr int kSide = 6;
  static constexpr T kA = static_cast<T>(0.707106781186547524400844362104849039);
  static constexpr T kB = static_cast<T>(1.41421356237309504880168872420969808);

  static void input(const V (&d)[6], V (&v)[6]) {
    const V middle = S::all(static_cast<T>(-2.5)), two = S::all(static_cast<T>(-2)),
            half = S::all(static_cast<T>(-0.5)), a = S::all(kA), b = S::all(kB);
    v[0] = S::fma(middle, d[2], d[0] + d[4]);
    v[5] = S::fma(middle, d[3], d[1] + d[5]);
    const V even_a = S::fma(two, d[2], d[4]), odd_a = a * S::fma(two, d[1], d[3]);
    v[1] = even_a + odd_a;
    v[2] = even_a - odd_a;
    const V even_b = S::fma(half, d[2], d[4]), odd_b = b * S::fma(half, d[1], d[3]);
    v[3] = even_b + odd_b;
    v[4] = even_b - odd_b;
  }
  static void output(const V (&m)[6], V (&y)[4]) {
    const V sum_a = m[1] + m[2], sum_b = m[3] + m[4];
    const V gap_a = S::all(kA) * (m[1] - m[2]), gap_b = S::all(kB) * (m[3] - m[4]);
    const V two = S::all(static_cast<T>(2)), half = S::all(static_cast<T>(0.5));
    y[0] = m[0] + (sum_a + sum_b);
    y[1] = gap_a + gap_b;
    y[2] = S::fma(two, sum_b, half * sum_a);
    y[3] = S::fma(two, gap_b, S::fma(half, gap_a, m[5]));
  }
  static void weights(const V (&w)[3], V (&u)[6]) {
    // w0 +- a w1 + a^2 w2, over -3/2 or 6.
    const V two = S::all(static_cast<T>(2)), half = S::all(static_cast<T>(0.5)),
            scale_a = S::all(static_cast<T>(-2.0 / 3)), scale_b = S::all(static_cast<T>(1.0 / 6));
    const V even_a = scale_a * S::fma(half, w[2], w[0]), odd_a = scale_a * (S::all(kA) * w[1]);
    const V even_b = scale_b * S::fma(two, w[2], w[0]), odd_b = scale_b * (S::all(kB) * w[1]);
    u[0] = w[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = w[2];
  }
  // The adjoints of `output` and of `weights`: to the points of a tile of results, and to the taps.
  static void results(const V (&y)[4], V (&v)[6]) {
    const V two = S::all(static_cast<T>(2)), half = S::all(static_cast<T>(0.5));
    const V even_a = S::fma(half, y[2], y[0]), odd_a = S::all(kA) * S::fma(half, y[3], y[1]);
    const V even_b = S::fma(two, y[2], y[0]), odd_b = S::all(kB) * S::fma(two, y[3], y[1]);
    v[0] = y[0];
    v[1] = even_a + odd_a;
    v[2] = even_a - odd_a;
    v[3] = even_b + odd_b;
    v[4] = even_b - odd_b;
    v[5] = y[3];
  }
  static void taps(const V (&m)[6], V (&w)[3]) {
    const V scale_a = S::all(static_cast<T>(-2.0 / 3)), scale_b = S::all(static_cast<T>(1.0 / 6)),
            third = S::all(static_cast<T>(1.0 / 3));
    const V sum_a = m[1] + m[2], sum_b = m[3] + m[4];
    const V gap_a = S::all(kA) * (m[1] - m[2]), gap_b = S::all(kB) * (m[3] - m[4]);
    w[0] = S::fma(scale_a, sum_a, S::fma(scale_b, sum_b, m[0]));
    w[1] = S::fma(scale_a, gap_a, scale_b * gap_b);
    w[2] = S::fma(third, sum_b - sum_a, m[5]);
  }
  static void split(const V (&in)[5], V (&column)[6]) {
    V even[2], odd[2];
    even_and_odd(in[0], in[1], even[0], odd[0], Lanes<T>{});
    even_and_odd(in[2], in[3], even[1], odd[1], Lanes<T>{});
    even_and_odd(even[0], even[1], column[0], column[2], Lanes<T>{});
    even_and_odd(odd[0], odd[1], column[1], column[3], Lanes<T>{});
    column[4] = shifted<0>(column[0], in[4], Lanes<T>{});
    column[5] = shifted<1>(column[1], in[4], Lanes<T>{});
  }
  static void join(const V (&column)[4], V (&out)[4]) {
    V even[2], odd[2];
    alternate(column[0], column[2], even[0], even[1], Lanes<T>{});
    alternate(column[1], column[3], odd[0], odd[1], Lanes<T>{});
    alternate(even[0], odd[0], out[0], out[1], Lanes<T>{});
    alternate(even[1], odd[1], out[2], out[3], Lanes<T>{});
  }
};

// Zero times each value that is added, so that what is not finite shows: in a few sums, whose additions need
// not wait for one another.
template <class T>
struct ZeroTimes {
  using V = typename Simd<T>::V;
  V sum[3] = {Simd<T>::zero(), Simd<T>::zero(), Simd<T>::zero()};
  void add(int i, V v) { sum[i % 3] = Simd<T>::fma(v, Simd<T>::zero(), sum[i % 3]); }
  V total() const { return sum[0] + (sum[1] + sum[2]); }
};

// Whether every value that was added to the first lanes of `zeros` as 0 * value was finite.
template <class T>
inline bool all_zero(typename Simd<T>::V zeros, std::ptrdiff_t lanes) {
  T lane[Simd<T>::kLanes];
  Simd<T>::store(lane, zeros);
  bool zero = true;
  for (std::ptrdiff_t i = 0; i < Simd<T>::kLanes && i < lanes; ++i) zero = zero && lane[i] == 0;
  return zero;
}

// The lanes of `mask` from v, the others from `into`.
template <class T>
inline typename Simd<T>::V chosen(typename Simd<T>::V into, std::uint32_t mask, typename Simd<T>::V v) {
#if defined(WINDROW_MASKED)
  return Masked::keep(into, static_cast<typename Masked::Of<T>>(mask), v);
#else
  for (int i = 0; i < Simd<T>::kLanes; ++i)
    if (mask >> i & 1) into[i] = v[i];
  return into;
#endif
}

// kFrom x kFrom vectors to kTo x kTo of them by `transform`, down the columns and then along the rows.
template <class T, int kFrom, int kTo, class Load, class Transform, class Store>
inline void transform_both_ways(const Load& load, const Transform& transform, const Store& store) {
  using V = typename Simd<T>::V;
  V rows[kTo][kFrom];
  WINDROW_UNROLL
  for (int c = 0; c < kFrom; ++c) {
    V from[kFrom], to[kTo];
    WINDROW_UNROLL
    for (int r = 0; r < kFrom; ++r) from[r] = load(r, c);
    transform(from, to);
    WINDROW_UNROLL
    for (int r = 0; r < kTo; ++r) rows[r][c] = to[r];
  }
  WINDROW_UNROLL
  for (int r = 0; r < kTo; ++r) {
    V to[kTo];
    transform(rows[r], to);
    WINDROW_UNROLL
    for (int c = 0; c < kTo; ++c) store(r, c, to[c]);
  }
}

template <class T, int kTile>
bool winograd_input_tiles(const windrow::WinogradInput<T>& p) {
  using W = Winograd<T, kTile>;
  using S = Simd<T>;
  using V = typename S::V;
  constexpr int kSide = W::kSide;
  ZeroTimes<T> zeros;
  for (std::ptrdiff_t tile = 0; tile < p.tiles; tile += S::kLanes) {
    V rows[kSide][kTile + 1];
    WINDROW_UNROLL
    for (int c = 0; c <= kTile; ++c) {
      const T* source = p.source + tile * kTile + c * S::kLanes;
      V d[kSide], v[kSide];
      WINDROW_UNROLL
      for (int r = 0; r < kSide; ++r) d[r] = S::load(source + r * p.source_row);
      W::input(d, v);
      WINDROW_UNROLL
      for (int r = 0; r < kSide; ++r) rows[r][c] = v[r];
    }
    const std::uint32_t ends = p.ends[tile / S::kLanes];
    V edge[2][kSide];
    for (int e = 0; ends && e < 2; ++e) {
      V d[kSide];
      WINDROW_UNROLL
      for (int r = 0; r < kSide; ++r) d[r] = S::load(p.edge + (2 * r + e) * p.edge_row + tile);
      W::input(d, edge[e]);
    }
    T* target = p.target + tile;
    WINDROW_UNROLL
    for (int r = 0; r < kSide; ++r) {
      V column[kSide], v[kSide];
      W::split(rows[r], column);
      for (int e = 0; ends && e < 2; ++e) column[kTile + e] = chosen<T>(column[kTile + e], ends, edge[e][r]);
      W::input(column, v);
      WINDROW_UNROLL
      for (int c = 0; c < kSide; ++c) {
        S::store(target, v[c]);
        target += p.target_point;
        zeros.add(c, v[c]);
      }
    }
  }
  return all_zero<T>(zeros.total(), S::kLanes);
}

template <class T, int kTile>
bool winograd_output_tiles(const windrow::WinogradOutput<T>& p) {
  using W = Winograd<T, kTile>;
  using S = Simd<T>;
  using V = typename S::V;
  constexpr int kSide = W::kSide;
  V zeros = S::zero(), last = S::zero();  // last: of a vector that is not all tiles
  const V bias = S::all(p.bias ? *p.bias : 0);
  for (std::ptrdiff_t tile = 0; tile < p.tiles; tile += S::kLanes) {
    V rows[kTile][kSide];  // [column of the result][row of points]
    const T* source = p.source + tile;
    WINDROW_UNROLL
    for (int r = 0; r < kSide; ++r) {
      V m[kSide], y[kTile];
      WINDROW_UNROLL
      for (int c = 0; c < kSide; ++c) {
        m[c] = S::load(source);
        source += p.source_point;
      }
      W::output(m, y);
      WINDROW_UNROLL
      for (int c = 0; c < kTile; ++c) rows[c][r] = y[c];
    }
    V result[kTile][kTile];
    ZeroTimes<T> here;
    WINDROW_UNROLL
    for (int c = 0; c < kTile; ++c) {
      V y[kTile];
      W::output(rows[c], y);
      WINDROW_UNROLL
      for (int r = 0; r < kTile; ++r) {
        result[r][c] = p.bias ? y[r] + bias : y[r];
        here.add(r, result[r][c]);
      }
    }
    (tile + S::kLanes <= p.tiles ? zeros : last) += here.total();
    WINDROW_UNROLL
    for (int r = 0; r < kTile; ++r) {
      V joined[kTile];
      W::join(result[r], joined);
      T* target = p.target + r * p.target_row + tile * kTile;
      WINDROW_UNROLL
      for (int c = 0; c < kTile; ++c) S::store(target + c * S::kLanes, joined[c]);
    }
  }
  return all_zero<T>(zeros, S::kLanes) && all_zero<T>(last, p.tiles % S::kLanes);
}

template <class T, int kTile>
bool winograd_weights_tiles(const windrow::WinogradWeights<T>& p) {
  using W = Winograd<T, kTile>;
  using S = Simd<T>;
  using V = typename S::V;
  constexpr int kSide = W::kSide;
  ZeroTimes<T> zeros;
  for (std::ptrdiff_t i = 0; i < p.count; i += S::kLanes) {
    const T* source = p.source + i;
    T* target = p.target + i;
    transform_both_ways<T, 3, kSide>([&](int r, int c) { return S::load(source + p.tap[3 * r + c]); },
                                     [](const V(&w)[3], V(&u)[kSide]) { W::weights(w, u); },
                                     [&](int r, int c, V u) {
                                       S::store(target + (r * kSide + c) * p.target_point, u);
                                       zeros.add(c, u);
                                     });
  }
  return all_zero<T>(zeros.total(), S::kLanes);
}

template <class T>
bool winograd_input(const windrow::WinogradInput<T>& p) {
  return p.tile == 2 ? winograd_input_tiles<T, 2>(p) : winograd_input_tiles<T, 4>(p);
}

template <class T>
bool winograd_output(const windrow::WinogradOutput<T>& p) {
  return p.tile == 2 ? winograd_output_tiles<T, 2>(p) : winograd_output_tiles<T, 4>(p);
}

template <class T>
bool winograd_weights(const windrow::WinogradWeights<T>& p) {
  return p.tile == 2 ? winograd_weights_tiles<T, 2>(p) : winograd_weights_tiles<T, 4>(p);
}

}  // namespace
