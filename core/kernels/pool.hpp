// Windows side by side, reduced: maxima, maxima with their places, and sums.
//
// Lanes run over windows; the taps of each are in order, one operation for each and nothing fused, so that
// all targets give the same bits. A vector of windows takes a tap from one vector of the source, or every
// other value of two. The last vector of a row lies over the one before it and reads no further than its
// windows.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"
#include "kernels/widest.hpp"

namespace {

template <class T>
struct PoolLane {
  using Type = std::int64_t;
};
template <>
struct PoolLane<float> {
  using Type = std::int32_t;
};

template <class T>
struct PoolVectors {
  static constexpr int kLanes = kWidest / static_cast<int>(sizeof(T));
  using Lane = typename PoolLane<T>::Type;
  using V __attribute__((vector_size(kWidest))) = T;
  using L __attribute__((vector_size(kWidest))) = Lane;
  using Wide __attribute__((vector_size(kWidest))) = std::int64_t;
};

// A tap of a vector of windows; at the end of a row nothing is read past the last of them.
template <class T, int kStep, bool kEnd>
inline typename PoolVectors<T>::V pool_load(const T* p) {
  constexpr int kLanes = PoolVectors<T>::kLanes;
  typename PoolVectors<T>::V low, high;
  __builtin_memcpy(&low, p, sizeof low);
  if constexpr (kStep == 1) return low;
  __builtin_memcpy(&high, p + kLanes - (kEnd ? 1 : 0), sizeof high);
  constexpr int e = kEnd ? 1 : 0;
  if constexpr (kLanes == 16) {
    return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16 + e, 18 + e, 20 + e, 22 + e,
                                   24 + e, 26 + e, 28 + e, 30 + e);
  } else if constexpr (kLanes == 8) {
    return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8 + e, 10 + e, 12 + e, 14 + e);
  } else if constexpr (kLanes == 4) {
    return __builtin_shufflevector(low, high, 0, 2, 4 + e, 6 + e);
  } else {
    return __builtin_shufflevector(low, high, 0, 2 + e);
  }
}

template <class V, class T>
inline void pool_store(T* p, const V& v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// v where it is greater, else best: also where either is NaN.
template <class V>
inline V pool_greater(const V& v, const V& best) {
#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)
  if constexpr (sizeof(v[0]) == 4) return (V)_mm512_max_ps((__m512)v, (__m512)best);
  if constexpr (sizeof(v[0]) == 8) return (V)_mm512_max_pd((__m512d)v, (__m512d)best);
#elif defined(__AVX2__) && !defined(WINDROW_GENERIC)
  if constexpr (sizeof(v[0]) == 4) return (V)_mm256_max_ps((__m256)v, (__m256)best);
  if constexpr (sizeof(v[0]) == 8) return (V)_mm256_max_pd((__m256d)v, (__m256d)best);
#else
  return v > best ? v : best;
#endif
}

struct PoolMax {
  template <class T, int kStep, bool kEnd, int kVectors>
  [[gnu::always_inline]] static void block(const windrow::Pool<T>& p, std::ptrdiff_t row, std::ptrdiff_t i) {
    using P = PoolVectors<T>;
    typename P::V best[kVectors];
    typename P::L is_nan[kVectors];
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
      best[k] = typename P::V{} - static_cast<T>(__builtin_inf());
      is_nan[k] = typename P::L{};
    }
    const T* at = p.source + row * p.source_row + i * kStep;
    for (std::ptrdiff_t t = 0; t < p.taps; ++t) {
      WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
        const auto v = pool_load<T, kStep, kEnd>(at + p.offset[t] + k * P::kLanes * kStep);
        best[k] = pool_greater(v, best[k]);
        is_nan[k] |= v != v;
      }
    }
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
      const typename P::L bits = (typename P::L)best[k] | is_nan[k];  // all bits set are a NaN
      pool_store(p.target + row * p.target_row + i + k * P::kLanes, bits);
    }
  }
};

struct PoolMaxPlaces {
  template <class T, int kStep, bool kEnd, int kVectors>
  [[gnu::always_inline]] static void block(const windrow::Pool<T>& p, std::ptrdiff_t row, std::ptrdiff_t i) {
    using P = PoolVectors<T>;
    using Lane = typename P::Lane;
    const T* at = p.source + row * p.source_row + i * kStep;
    typename P::V best[kVectors];
    typename P::L from[kVectors], nan = {};
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
      best[k] = typename P::V{} - static_cast<T>(__builtin_inf());
      from[k] = typename P::L{} + static_cast<Lane>(p.place[0]);
    }
    for (std::ptrdiff_t t = 0; t < p.taps; ++t) {
      const typename P::L here = typename P::L{} + static_cast<Lane>(p.place[t]);
      WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
        const auto v = pool_load<T, kStep, kEnd>(at + p.offset[t] + k * P::kLanes * kStep);
        from[k] = v > best[k] ? here : from[k];
        best[k] = pool_greater(v, best[k]);
        nan |= v != v;
      }
    }
    if (any(nan)) nans_first<T, kStep, kEnd, kVectors>(p, at, best, from);
    store<T, kVectors>(p, row, i, best, from);
  }

  // The same where there are NaN, of which the first one stays.
  template <class T, int kStep, bool kEnd, int kVectors>
  static void nans_first(const windrow::Pool<T> p, const T* at, typename PoolVectors<T>::V* best,
                         typename PoolVectors<T>::L* from) {
    using P = PoolVectors<T>;
    using Lane = typename P::Lane;
    for (int k = 0; k < kVectors; ++k) {
      best[k] = typename P::V{} - static_cast<T>(__builtin_inf());
      from[k] = typename P::L{} + static_cast<Lane>(p.place[0]);
      for (std::ptrdiff_t t = 0; t < p.taps; ++t) {
        const typename P::L here = typename P::L{} + static_cast<Lane>(p.place[t]);
        const auto v = pool_load<T, kStep, kEnd>(at + p.offset[t] + k * P::kLanes * kStep);
        const typename P::L stays = (best[k] != best[k]) | (v <= best[k]);
        best[k] = stays ? best[k] : v;
        from[k] = stays ? from[k] : here;
      }
    }
  }

  template <class L>
  static bool any(const L& lanes) {
    std::int64_t words[sizeof(L) / 8], all = 0;
    __builtin_memcpy(words, &lanes, sizeof words);
    for (const std::int64_t word : words) all |= word;
    return all != 0;
  }

  template <class T, int kVectors>
  [[gnu::always_inline]] static void store(const windrow::Pool<T>& p, std::ptrdiff_t row, std::ptrdiff_t i,
                                           const typename PoolVectors<T>::V* best,
                                           const typename PoolVectors<T>::L* from) {
    using P = PoolVectors<T>;
    using Lane = typename P::Lane;
    typename P::Wide ramp;
    constexpr int kWide = kWidest / 8;
    for (int l = 0; l < kWide; ++l) ramp[l] = l * p.place_step;
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
      const std::ptrdiff_t j = i + k * P::kLanes;
      pool_store(p.target + row * p.target_row + j, best[k]);
      std::int64_t* to = p.indices + row * p.index_row + j;
      const std::ptrdiff_t first = p.first_place + row * p.place_row + j * p.place_step;
      if constexpr (sizeof(T) == 8) {
        pool_store(to, from[k] + ramp + first);
      } else {
        // Half of the lanes at a time, as wide as an index.
        using Half __attribute__((vector_size(kWidest / 2))) = Lane;
        Half half[2];
        __builtin_memcpy(half, &from[k], sizeof half);
        for (int h = 0; h < 2; ++h) {
          const typename P::Wide number = __builtin_convertvector(half[h], typename P::Wide);
          pool_store(to + h * kWide, number + ramp + (first + h * kWide * p.place_step));
        }
      }
    }
  }
};

template <bool kTwice>
struct PoolSum {
  template <class T, int kStep, bool kEnd, int kVectors>
  [[gnu::always_inline]] static void block(const windrow::Pool<T>& p, std::ptrdiff_t row, std::ptrdiff_t i) {
    using P = PoolVectors<T>;
    typename P::V sum[kVectors] = {};
    const T* at = p.source + row * p.source_row + i * kStep;
    add<T, kStep, kEnd, kVectors>(p, at, 0, p.chunk < p.taps ? p.chunk : p.taps, sum);
    for (std::ptrdiff_t first = p.chunk; first < p.taps; first += p.chunk) {
      typename P::V more[kVectors] = {};
      add<T, kStep, kEnd, kVectors>(p, at, first, first + p.chunk < p.taps ? first + p.chunk : p.taps, more);
      for (int k = 0; k < kVectors; ++k) sum[k] += more[k];
    }
    const bool exact = p.reciprocal != 0;
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
      sum[k] = exact ? sum[k] * p.reciprocal : sum[k] / p.divisor;
      T* to = p.target + row * p.target_row + (i + k * P::kLanes) * (kTwice ? 2 : 1);
      if constexpr (kTwice) {
        typename P::V low, high;
        twice(sum[k], low, high);
        pool_store(to, low);
        pool_store(to + P::kLanes, high);
      } else {
        pool_store(to, sum[k]);
      }
    }
  }

  template <class T, int kStep, bool kEnd, int kVectors>
  [[gnu::always_inline]] static void add(const windrow::Pool<T>& p, const T* at, std::ptrdiff_t first,
                                         std::ptrdiff_t end, typename PoolVectors<T>::V* sum) {
    for (std::ptrdiff_t t = first; t < end; ++t) WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
        sum[k] += pool_load<T, kStep, kEnd>(at + p.offset[t] + k * PoolVectors<T>::kLanes * kStep);
      }
  }

  // Every lane two times, one beside the other.
  template <class V>
  static void twice(const V& v, V& low, V& high) {
    constexpr int kLanes = static_cast<int>(sizeof(V) / sizeof(v[0]));
    if constexpr (kLanes == 16) {
      low = __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
      high = __builtin_shufflevector(v, v, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
    } else if constexpr (kLanes == 8) {
      low = __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3);
      high = __builtin_shufflevector(v, v, 4, 4, 5, 5, 6, 6, 7, 7);
    } else if constexpr (kLanes == 4) {
      low = __builtin_shufflevector(v, v, 0, 0, 1, 1);
      high = __builtin_shufflevector(v, v, 2, 2, 3, 3);
    } else {
      low = __builtin_shufflevector(v, v, 0, 0);
      high = __builtin_shufflevector(v, v, 1, 1);
    }
  }
};

// All rows, in blocks of four, two and single vectors. Under a step the last one may not read what follows.
template <class Op, class T, int kStep>
inline void pool_rows(
    const windrow::Pool<T> p) {  // a copy: a store of a vector might alter what is referred to
  constexpr int kLanes = PoolVectors<T>::kLanes;
  const std::ptrdiff_t end = p.count - (kStep > 1 ? 1 : 0);
  for (std::ptrdiff_t row = 0; row < p.rows; ++row) {
    std::ptrdiff_t i = 0;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) Op::template block<T, kStep, false, 4>(p, row, i);
    for (; i + 2 * kLanes <= end; i += 2 * kLanes) Op::template block<T, kStep, false, 2>(p, row, i);
    for (; i + kLanes <= end; i += kLanes) Op::template block<T, kStep, false, 1>(p, row, i);
    if (i < p.count) Op::template block<T, kStep, true, 1>(p, row, p.count - kLanes);
  }
}

template <class Op, class T>
inline void pool_steps(const windrow::Pool<T>& p) {
  if (p.step == 1) return pool_rows<Op, T, 1>(p);
  pool_rows<Op, T, 2>(p);
}

template <class T>
void pool_max(const windrow::Pool<T>& p) {
  if (p.indices) return pool_steps<PoolMaxPlaces>(p);
  pool_steps<PoolMax>(p);
}

template <class T>
void pool_sum(const windrow::Pool<T>& p) {
  if (p.twice) return pool_rows<PoolSum<true>, T, 1>(p);
  pool_steps<PoolSum<false>>(p);
}

}  // namespace
