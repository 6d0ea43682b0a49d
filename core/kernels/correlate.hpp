// The weight gradient of one channel, or of a vector of them: sums over pixels of two images, for several
// shifts of one of them.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"
#include "kernels/stencil.hpp"

namespace {

// K taps at once, each with its own sums in registers; the values of dy are loaded once for all of them.
template <class T, int K>
void correlate_taps(const windrow::Correlate<T>& c, const std::ptrdiff_t* tap, T* sums) {
  using S = Simd<T>;
  typename S::V sum[K];
  WINDROW_UNROLL
  for (int k = 0; k < K; ++k) sum[k] = S::load(sums + k * S::kLanes);
  for (std::ptrdiff_t r = 0; r < c.rows; ++r) {
    const T* dy = c.dy + r * c.dy_row;
    const T* x = c.x + r * c.x_row;
    std::ptrdiff_t i = 0;
    for (; i + S::kLanes <= c.count; i += S::kLanes) {
      const typename S::V v = S::load(dy + i);
      WINDROW_UNROLL
      for (int k = 0; k < K; ++k) sum[k] = S::fma(v, S::load(x + tap[k] + i), sum[k]);
    }
    if (i < c.count) {
      // Both factors are zero in the lanes past the row, whatever lies there.
      const typename S::V v = FirstLanes<T>::load(dy + i, c.count - i);
      WINDROW_UNROLL
      for (int k = 0; k < K; ++k)
        sum[k] = S::fma(v, FirstLanes<T>::load(x + tap[k] + i, c.count - i), sum[k]);
    }
  }
  WINDROW_UNROLL
  for (int k = 0; k < K; ++k) S::store(sums + k * S::kLanes, sum[k]);
}

template <class T>
void correlate(const windrow::Correlate<T>& c) {
  constexpr int kLanes = Simd<T>::kLanes;
  std::ptrdiff_t k = 0;
  for (; k + 9 <= c.taps; k += 9) correlate_taps<T, 9>(c, c.tap + k, c.sums + k * kLanes);
  for (; k + 3 <= c.taps; k += 3) correlate_taps<T, 3>(c, c.tap + k, c.sums + k * kLanes);
  for (; k < c.taps; ++k) correlate_taps<T, 1>(c, c.tap + k, c.sums + k * kLanes);
}

// The sum of so many lanes, added in pairs.
template <class T, int kLanes>
inline T sum_in_pairs(const T* lanes) {
  if constexpr (kLanes == 1) {
    return lanes[0];
  } else {
    using Half __attribute__((vector_size(sizeof(T) * kLanes / 2))) = T;
    Half low, high;
    __builtin_memcpy(&low, lanes, sizeof low);
    __builtin_memcpy(&high, lanes + kLanes / 2, sizeof high);
    low += high;
    T sums[kLanes / 2];
    __builtin_memcpy(sums, &low, sizeof low);
    return sum_in_pairs<T, kLanes / 2>(sums);
  }
}

template <class T>
void add_lanes(const T* sums, std::ptrdiff_t count, T* totals) {
  constexpr int kLanes = Simd<T>::kLanes;
  for (std::ptrdiff_t k = 0; k < count; ++k) totals[k] += sum_in_pairs<T, kLanes>(sums + k * kLanes);
}

// The same of as many vectors as a vector has lanes, lane by lane: totals += the sum of v.
template <class T>
inline void add_in_pairs(typename Simd<T>::V (&v)[Simd<T>::kLanes], T* totals) {
  using S = Simd<T>;
  WINDROW_UNROLL
  for (int half = S::kLanes / 2; half > 0; half /= 2) {
    WINDROW_UNROLL
    for (int i = 0; i < half; ++i) v[i] = S::add(v[i], v[i + half]);
  }
  S::store(totals, S::add(S::load(totals), v[0]));
}

template <class T>
void add_vectors(const T* sums, std::ptrdiff_t count, T* totals, std::ptrdiff_t totals_row) {
  using S = Simd<T>;
  constexpr int kLanes = S::kLanes;
  for (std::ptrdiff_t k = 0; k < count; ++k, sums += kLanes * kLanes, totals += totals_row) {
    typename S::V v[kLanes];
    WINDROW_UNROLL
    for (int i = 0; i < kLanes; ++i) v[i] = S::load(sums + i * kLanes);
    add_in_pairs<T>(v, totals);
  }
}

// A tile of sums in registers: those of kTaps taps and of kSide pixels that follow one another.
constexpr int kMostSide = kVectorRegisters == 32 ? 8 : 4;
template <class T>
constexpr int kSide = Simd<T>::kLanes < kMostSide ? Simd<T>::kLanes : kMostSide;
constexpr int kTaps = 3;

template <class T, int K>
using CorrelateTile = typename Simd<T>::V[K][kSide<T>];

template <class T>
constexpr int kLine = 64 / static_cast<int>(sizeof(T));

// The sums of K taps from tap k on and of kSide pixels from `first` on, in every row and after every round of
// all sums. kRest pixels of each row are left for them after whole rounds. kStep is x_lines, or 0 for any.
template <class T, int K, int kStep, int kRest>
void correlate_tile(const windrow::CorrelateChannels<T>& c, std::ptrdiff_t k, std::ptrdiff_t first,
                    CorrelateTile<T, K>& sums) {
  using S = Simd<T>;
  constexpr int kRound = S::kLanes * kLine<T>;
  const std::ptrdiff_t x_lines = kStep ? kStep : c.x_lines;
  CorrelateTile<T, K> sum;
  WINDROW_UNROLL
  for (int t = 0; t < K; ++t) WINDROW_UNROLL
  for (int i = 0; i < kSide<T>; ++i) sum[t][i] = sums[t][i];
  const T* dy_row = c.dy + first * kLine<T>;
  const T* x_row = c.x + first * x_lines * kLine<T>;
  for (std::ptrdiff_t r = 0; r < c.rows; ++r, dy_row += c.dy_row, x_row += c.x_row) {
    const T* dy = dy_row;
    const T* x[K];
    WINDROW_UNROLL
    for (int t = 0; t < K; ++t) x[t] = x_row + c.tap[k + t];
    const auto add = [&](int i) __attribute__((always_inline)) {
      const typename S::V v = S::load(dy + i * kLine<T>);
      WINDROW_UNROLL
      for (int t = 0; t < K; ++t) sum[t][i] = S::fma(v, S::load(x[t] + i * x_lines * kLine<T>), sum[t][i]);
    };
    for (std::ptrdiff_t left = c.count - first - kRest; left > 0; left -= S::kLanes) {
      WINDROW_UNROLL
      for (int i = 0; i < kSide<T>; ++i) add(i);
      dy += kRound;
      WINDROW_UNROLL
      for (int t = 0; t < K; ++t) x[t] += x_lines * kRound;
    }
    WINDROW_UNROLL
    for (int i = 0; i < kRest; ++i) add(i);
  }
  WINDROW_UNROLL
  for (int t = 0; t < K; ++t) WINDROW_UNROLL
  for (int i = 0; i < kSide<T>; ++i) sums[t][i] = sum[t][i];
}

// Rows of each remainder have their own code: most are shorter than one round.
template <class T, int K, int kStep, int kRest = kSide<T> - 1>
void correlate_any_tile(const windrow::CorrelateChannels<T>& c, std::ptrdiff_t k, std::ptrdiff_t first,
                        CorrelateTile<T, K>& sums) {
  if constexpr (kRest > 0) {
    if ((c.count - first) % Simd<T>::kLanes != kRest)
      return correlate_any_tile<T, K, kStep, kRest - 1>(c, k, first, sums);
  }
  correlate_tile<T, K, kStep, kRest>(c, k, first, sums);
}

template <class T, int K, int kStep>
void correlate_channel_taps(const windrow::CorrelateChannels<T>& c, std::ptrdiff_t k) {
  using S = Simd<T>;
  constexpr int kTiles = S::kLanes / kSide<T>;
  const auto place = [&](int t, int i) { return c.sums + ((k + t) * S::kLanes + i) * S::kLanes; };
  CorrelateTile<T, K> sums[kTiles];
  for (int tile = 0; tile < kTiles; ++tile) {
    const int first = tile * kSide<T>;
    WINDROW_UNROLL
    for (int t = 0; t < K; ++t) WINDROW_UNROLL
    for (int i = 0; i < kSide<T>; ++i) sums[tile][t][i] = c.totals ? S::zero() : S::load(place(t, first + i));
    if (first < c.count) correlate_any_tile<T, K, kStep>(c, k, first, sums[tile]);
  }
  for (int t = 0; t < K; ++t) {
    typename S::V all[S::kLanes];
    WINDROW_UNROLL
    for (int i = 0; i < S::kLanes; ++i) all[i] = sums[i / kSide<T>][t][i % kSide<T>];
    if (c.totals) {
      add_in_pairs<T>(all, c.totals + (k + t) * c.totals_row);
      continue;
    }
    WINDROW_UNROLL
    for (int i = 0; i < S::kLanes; ++i) S::store(place(t, i), all[i]);
  }
}

template <class T>
void correlate_channels(const windrow::CorrelateChannels<T>& c) {
  std::ptrdiff_t k = 0;
  if (c.x_lines == 1) {
    for (; k + kTaps <= c.taps; k += kTaps) correlate_channel_taps<T, kTaps, 1>(c, k);
  } else if (c.x_lines == 2) {
    for (; k + kTaps <= c.taps; k += kTaps) correlate_channel_taps<T, kTaps, 2>(c, k);
  }
  for (; k < c.taps; ++k) correlate_channel_taps<T, 1, 0>(c, k);
}

}  // namespace
