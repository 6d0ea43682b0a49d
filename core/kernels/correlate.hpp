// The weight gradient of one channel, or of a vector of them: sums over pixels of two images, for several
// shifts of one of them.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"
#include "kernels/stencil.hpp"
#include "kernels/transpose.hpp"

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
void add_lanes(const T* sums, std::ptrdiff_t count, T* totals) {
  constexpr int kLanes = Simd<T>::kLanes;
  std::ptrdiff_t k = 0;
#ifdef WINDROW_MASKED  // then blocks can be turned over in registers: their lanes are vectors to be added
  for (; k + kLanes <= count; k += kLanes) {
    typename Simd<T>::V v[kLanes];
    WINDROW_UNROLL
    for (int i = 0; i < kLanes; ++i) v[i] = Simd<T>::load(sums + (k + i) * kLanes);
    Block<T>::turn(v);
    add_in_pairs<T>(v, totals + k);
  }
#endif
  for (; k < count; ++k) totals[k] += sum_in_pairs<T, kLanes>(sums + k * kLanes);
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

// A tile of sums in registers: those of some taps and of some pixels that follow one another.
constexpr int kTileTaps = 3;
constexpr int kMostTilePixels = kVectorRegisters == 32 ? 8 : 4;
template <class T>
constexpr int kTilePixels = Simd<T>::kLanes < kMostTilePixels ? Simd<T>::kLanes : kMostTilePixels;
template <class T, int K>
struct CorrelateTile {
  typename Simd<T>::V sum[K][kTilePixels<T>];
};

// Elements from pixel to pixel of dy.
template <class T>
constexpr int kPixelLine = 64 / static_cast<int>(sizeof(T));

// The sums of K taps from tap k on and of the pixels from `first` on that a tile has, in every row and after
// every round of all sums. kRest pixels of each row are left for them after whole rounds. kStep is x_lines,
// which the compiler should know, or 0 for any.
template <class T, int K, int kStep, int kRest>
void correlate_tile(const windrow::CorrelateChannels<T>& c, std::ptrdiff_t k, std::ptrdiff_t first,
                    CorrelateTile<T, K>& result) {
  using S = Simd<T>;
  constexpr int kLine = kPixelLine<T>, kRound = S::kLanes * kLine;
  const std::ptrdiff_t x_line = (kStep ? kStep : c.x_lines) * kLine;
  CorrelateTile<T, K> tile = result;
  const T* dy_row = c.dy + first * kLine;
  const T* x_row = c.x + first * x_line;
  for (std::ptrdiff_t r = 0; r < c.rows; ++r, dy_row += c.dy_row, x_row += c.x_row) {
    const T* dy = dy_row;
    const T* x[K];
    WINDROW_UNROLL
    for (int t = 0; t < K; ++t) x[t] = x_row + c.tap[k + t];
    const auto add = [&](int i) __attribute__((always_inline)) {
      const typename S::V v = S::load(dy + i * kLine);
      WINDROW_UNROLL
      for (int t = 0; t < K; ++t) tile.sum[t][i] = S::fma(v, S::load(x[t] + i * x_line), tile.sum[t][i]);
    };
    for (std::ptrdiff_t left = c.count - first - kRest; left > 0; left -= S::kLanes) {
      WINDROW_UNROLL
      for (int i = 0; i < kTilePixels<T>; ++i) add(i);
      dy += kRound;
      WINDROW_UNROLL
      for (int t = 0; t < K; ++t) x[t] += S::kLanes * x_line;
    }
    WINDROW_UNROLL
    for (int i = 0; i < kRest; ++i) add(i);
  }
  result = tile;
}

// Rows of each remainder have their own code: most are shorter than one round.
template <class T, int K, int kStep, int kRest = kTilePixels<T> - 1>
void correlate_any_tile(const windrow::CorrelateChannels<T>& c, std::ptrdiff_t k, std::ptrdiff_t first,
                        CorrelateTile<T, K>& result) {
  if constexpr (kRest > 0) {
    if ((c.count - first) % Simd<T>::kLanes != kRest)
      return correlate_any_tile<T, K, kStep, kRest - 1>(c, k, first, result);
  }
  correlate_tile<T, K, kStep, kRest>(c, k, first, result);
}

// All sums of K taps, tile after tile.
template <class T, int K, int kStep>
void correlate_channel_taps(const windrow::CorrelateChannels<T>& c, std::ptrdiff_t k) {
  using S = Simd<T>;
  constexpr int kPixels = kTilePixels<T>, kTiles = S::kLanes / kPixels;
  const auto place = [&](int t, int i) { return c.sums + ((k + t) * S::kLanes + i) * S::kLanes; };
  CorrelateTile<T, K> tile[kTiles];
  for (int n = 0; n < kTiles; ++n) {
    const int first = n * kPixels;
    for (int t = 0; t < K; ++t) {
      WINDROW_UNROLL
      for (int i = 0; i < kPixels; ++i)
        tile[n].sum[t][i] = c.totals ? S::zero() : S::load(place(t, first + i));
    }
    if (first < c.count) correlate_any_tile<T, K, kStep>(c, k, first, tile[n]);
  }
  for (int t = 0; t < K; ++t) {
    typename S::V all[S::kLanes];
    WINDROW_UNROLL
    for (int i = 0; i < S::kLanes; ++i) all[i] = tile[i / kPixels].sum[t][i % kPixels];
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
    for (; k + kTileTaps <= c.taps; k += kTileTaps) correlate_channel_taps<T, kTileTaps, 1>(c, k);
  } else if (c.x_lines == 2) {
    for (; k + kTileTaps <= c.taps; k += kTileTaps) correlate_channel_taps<T, kTileTaps, 2>(c, k);
  }
  for (; k < c.taps; ++k) correlate_channel_taps<T, 1, 0>(c, k);
}

}  // namespace
