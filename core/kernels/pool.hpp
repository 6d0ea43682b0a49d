// Windows side by side, reduced: maxima, maxima with their places, and sums.
//
// Lanes run over windows; the taps of each are in order, one operation for each and nothing fused, so that
// all targets give the same bits. A vector of windows takes a tap from one vector of the source, or every
// other value of two, of which two taps side by side share the loads.
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

using PoolWords __attribute__((vector_size(kWidest))) = std::int64_t;

template <class V, class T>
inline V pool_at(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class V, class T>
inline void pool_store(T* p, const V& v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// Every other value of two vectors, from place a of the first one and from place b of the second one on. Each
// 16 bytes come from the same 16 bytes of both, which costs one instruction; `pool_in_order` brings the whole
// vector into the order of the windows, once for all of its taps.
template <int a, int b, class V>
inline V pool_every_other(const V& low, const V& high) {
  constexpr int n = static_cast<int>(sizeof(V) / sizeof(low[0]));
  if constexpr (sizeof(low[0]) == 4) {
    if constexpr (n == 16) {
      return __builtin_shufflevector(low, high, a, a + 2, n + b, n + b + 2, a + 4, a + 6, n + b + 4,
                                     n + b + 6, a + 8, a + 10, n + b + 8, n + b + 10, a + 12, a + 14,
                                     n + b + 12, n + b + 14);
    } else if constexpr (n == 8) {
      return __builtin_shufflevector(low, high, a, a + 2, n + b, n + b + 2, a + 4, a + 6, n + b + 4,
                                     n + b + 6);
    } else {
      return __builtin_shufflevector(low, high, a, a + 2, n + b, n + b + 2);
    }
  } else {
    if constexpr (n == 8) {
      return __builtin_shufflevector(low, high, a, n + b, a + 2, n + b + 2, a + 4, n + b + 4, a + 6,
                                     n + b + 6);
    } else if constexpr (n == 4) {
      return __builtin_shufflevector(low, high, a, n + b, a + 2, n + b + 2);
    } else {
      return __builtin_shufflevector(low, high, a, n + b);
    }
  }
}

// From the order that every other value of two vectors has to that of memory, and back: 8 bytes at a time.
template <class V, class W = PoolWords>
inline V pool_in_order(const V& v) {
  const W w = (W)v;
  if constexpr (sizeof(W) == 64) return (V)__builtin_shufflevector(w, w, 0, 2, 4, 6, 1, 3, 5, 7);
  if constexpr (sizeof(W) == 32) return (V)__builtin_shufflevector(w, w, 0, 2, 1, 3);
  return v;
}
template <class V, class W = PoolWords>
inline V pool_out_of_order(const V& v) {
  const W w = (W)v;
  if constexpr (sizeof(W) == 64) return (V)__builtin_shufflevector(w, w, 0, 4, 1, 5, 2, 6, 3, 7);
  if constexpr (sizeof(W) == 32) return (V)__builtin_shufflevector(w, w, 0, 2, 1, 3);
  return v;
}

// The first and the second half of each 16 bytes of two vectors, element by element in turn.
template <class V>
inline void pool_in_turn(const V& a, const V& b, V& low, V& high) {
  constexpr int n = static_cast<int>(sizeof(V) / sizeof(a[0]));
  if constexpr (sizeof(a[0]) == 4) {
    if constexpr (n == 16) {
      low = __builtin_shufflevector(a, b, 0, n, 1, n + 1, 4, n + 4, 5, n + 5, 8, n + 8, 9, n + 9, 12, n + 12,
                                    13, n + 13);
      high = __builtin_shufflevector(a, b, 2, n + 2, 3, n + 3, 6, n + 6, 7, n + 7, 10, n + 10, 11, n + 11, 14,
                                     n + 14, 15, n + 15);
    } else if constexpr (n == 8) {
      low = __builtin_shufflevector(a, b, 0, n, 1, n + 1, 4, n + 4, 5, n + 5);
      high = __builtin_shufflevector(a, b, 2, n + 2, 3, n + 3, 6, n + 6, 7, n + 7);
    } else {
      low = __builtin_shufflevector(a, b, 0, n, 1, n + 1);
      high = __builtin_shufflevector(a, b, 2, n + 2, 3, n + 3);
    }
  } else {
    if constexpr (n == 8) {
      low = __builtin_shufflevector(a, b, 0, n, 2, n + 2, 4, n + 4, 6, n + 6);
      high = __builtin_shufflevector(a, b, 1, n + 1, 3, n + 3, 5, n + 5, 7, n + 7);
    } else if constexpr (n == 4) {
      low = __builtin_shufflevector(a, b, 0, n, 2, n + 2);
      high = __builtin_shufflevector(a, b, 1, n + 1, 3, n + 3);
    } else {
      low = __builtin_shufflevector(a, b, 0, n);
      high = __builtin_shufflevector(a, b, 1, n + 1);
    }
  }
}

// A tap of a vector of windows. Under a step of two the second half of what it comes from ends with the last
// window's value: nothing beyond it is read.
template <class T, int kStep>
inline typename PoolVectors<T>::V pool_load(const T* p) {
  using V = typename PoolVectors<T>::V;
  if constexpr (kStep == 1) return pool_at<V>(p);
  return pool_every_other<0, 1>(pool_at<V>(p), pool_at<V>(p + PoolVectors<T>::kLanes - 1));
}

// Bytes from what is read now to what is fetched into the caches for later. Rows of one window alternate,
// which hides from the processor that images are read from one end to the other: on an AMD Zen 3, images in
// memory take 1.4 to 2.5 times as long without (float32 and float64, 12 x 64 x 112 x 112); 2048 to 8192 serve
// alike.
constexpr std::ptrdiff_t kPoolAhead = 2048;

// Two taps side by side, under a step of two.
template <class T>
inline void pool_load_two(const T* p, typename PoolVectors<T>::V& even, typename PoolVectors<T>::V& odd) {
  using V = typename PoolVectors<T>::V;
  const V low = pool_at<V>(p), high = pool_at<V>(p + PoolVectors<T>::kLanes);
  __builtin_prefetch(reinterpret_cast<const char*>(p) + kPoolAhead);
  even = pool_every_other<0, 0>(low, high);
  odd = pool_every_other<1, 1>(low, high);
}

// Whether tap t and the next one lie side by side.
template <class T>
inline bool pool_two_at(const windrow::Pool<T>& p, std::ptrdiff_t t, std::ptrdiff_t end) {
  return t + 1 < end && p.offset[t + 1] == p.offset[t] + 1 && p.place[t + 1] == p.place[t] + 1;
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

// All bits set where a or b is NaN.
template <class T>
inline typename PoolVectors<T>::L pool_unordered(const typename PoolVectors<T>::V& a,
                                                 const typename PoolVectors<T>::V& b) {
#if defined(__AVX2__) && !defined(__AVX512F__) && !defined(WINDROW_GENERIC)
  using L = typename PoolVectors<T>::L;
  if constexpr (sizeof(T) == 4) return (L)_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_UNORD_Q);
  if constexpr (sizeof(T) == 8) return (L)_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_UNORD_Q);
#else
  return (a != a) | (b != b);
#endif
}

// Where the vectors of a block begin: the last one wherever it is told to.
template <class T, int kVectors>
struct PoolBlock {
  std::ptrdiff_t row, first, last;
  std::ptrdiff_t operator[](int k) const {
    return k == kVectors - 1 ? last : first + k * PoolVectors<T>::kLanes;
  }
};

struct PoolMax {
  template <class T, int kStep, int kVectors>
  [[gnu::always_inline]] static void block(const windrow::Pool<T>& p, const PoolBlock<T, kVectors> at) {
    using P = PoolVectors<T>;
    typename P::V best[kVectors];
    typename P::L nan[kVectors];
    const T* source[kVectors];
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
      best[k] = -typename P::V{} + p.border;  // also where that is -0
      nan[k] = pool_unordered<T>(best[k], best[k]);
      source[k] = p.source + at.row * p.source_row + at[k] * kStep;
    }
    for (std::ptrdiff_t t = 0; t < p.taps; ++t) {
      if (kStep == 2 && pool_two_at(p, t, p.taps)) {
        WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
          typename P::V even, odd;
          pool_load_two(source[k] + p.offset[t], even, odd);
          best[k] = pool_greater(odd, pool_greater(even, best[k]));
          nan[k] |= pool_unordered<T>(even, odd);
        }
        ++t;
        continue;
      }
      WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
        const auto v = pool_load<T, kStep>(source[k] + p.offset[t]);
        best[k] = pool_greater(v, best[k]);
        nan[k] |= pool_unordered<T>(v, v);
      }
    }
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
      const typename P::L bits = (typename P::L)best[k] | nan[k];  // all bits set are a NaN
      pool_store(p.target + at.row * p.target_row + at[k], kStep == 2 ? pool_in_order(bits) : bits);
    }
  }
};

struct PoolMaxPlaces {
  template <class T, int kStep, int kVectors>
  [[gnu::always_inline]] static void block(const windrow::Pool<T>& p, const PoolBlock<T, kVectors> at) {
    using P = PoolVectors<T>;
    using Lane = typename P::Lane;
    typename P::V best[kVectors];
    typename P::L from[kVectors], nan = {};
    const T* source[kVectors];
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
      best[k] = typename P::V{} - static_cast<T>(__builtin_inf());
      from[k] = typename P::L{} + static_cast<Lane>(p.place[0]);
      source[k] = p.source + at.row * p.source_row + at[k] * kStep;
    }
    for (std::ptrdiff_t t = 0; t < p.taps; ++t) {
      const typename P::L here = typename P::L{} + static_cast<Lane>(p.place[t]);
      if (kStep == 2 && pool_two_at(p, t, p.taps)) {
        WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
          typename P::V even, odd;
          pool_load_two(source[k] + p.offset[t], even, odd);
          const typename P::L second = odd > even;
          const auto v = pool_greater(odd, even);
          from[k] = v > best[k] ? here - second : from[k];
          best[k] = pool_greater(v, best[k]);
          nan |= pool_unordered<T>(even, odd);
        }
        ++t;
        continue;
      }
      WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
        const auto v = pool_load<T, kStep>(source[k] + p.offset[t]);
        from[k] = v > best[k] ? here : from[k];
        best[k] = pool_greater(v, best[k]);
        nan |= pool_unordered<T>(v, v);
      }
    }
    if (any(nan)) nans_first<T, kStep, kVectors>(p, source, best, from);
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) store<T, kStep>(p, at.row, at[k], best[k], from[k]);
  }

  // The same where there are NaN, of which the first one stays.
  template <class T, int kStep, int kVectors>
  [[gnu::noinline]] static void nans_first(const windrow::Pool<T>& p, const T* const* source,
                                           typename PoolVectors<T>::V* best,
                                           typename PoolVectors<T>::L* from) {
    using P = PoolVectors<T>;
    using Lane = typename P::Lane;
    for (int k = 0; k < kVectors; ++k) {
      best[k] = typename P::V{} - static_cast<T>(__builtin_inf());
      from[k] = typename P::L{} + static_cast<Lane>(p.place[0]);
      for (std::ptrdiff_t t = 0; t < p.taps; ++t) {
        const typename P::L here = typename P::L{} + static_cast<Lane>(p.place[t]);
        const auto v = pool_load<T, kStep>(source[k] + p.offset[t]);
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

  template <class T, int kStep>
  [[gnu::always_inline]] static void store(const windrow::Pool<T>& p, std::ptrdiff_t row, std::ptrdiff_t i,
                                           const typename PoolVectors<T>::V& best,
                                           const typename PoolVectors<T>::L& from) {
    using P = PoolVectors<T>;
    using Wide = typename P::Wide;
    constexpr int kWide = kWidest / 8;
    Wide ramp;
    for (int l = 0; l < kWide; ++l) ramp[l] = l * p.place_step;
    pool_store(p.target + row * p.target_row + i, kStep == 2 ? pool_in_order(best) : best);
    std::int64_t* to = p.indices + row * p.index_row + i;
    ramp += p.first_place + row * p.place_row + i * p.place_step;
    if constexpr (sizeof(T) == 8) {
      pool_store(to, (kStep == 2 ? pool_in_order(from) : from) + ramp);
    } else {
      // As wide as an index; places are not negative. Every other value of two vectors comes in order so.
      typename P::L low, high;
      pool_in_turn(kStep == 2 ? from : pool_out_of_order(from), typename P::L{}, low, high);
      pool_store(to, (Wide)low + ramp);
      pool_store(to + kWide, (Wide)high + (ramp + kWide * p.place_step));
    }
  }
};

template <bool kTwice>
struct PoolSum {
  template <class T, int kStep, int kVectors>
  [[gnu::always_inline]] static void block(const windrow::Pool<T>& p, const PoolBlock<T, kVectors> at) {
    using P = PoolVectors<T>;
    typename P::V sum[kVectors] = {};
    const T* source[kVectors];
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) source[k] =
        p.source + at.row * p.source_row + at[k] * kStep;
    add<T, kStep, kVectors>(p, source, 0, p.chunk < p.taps ? p.chunk : p.taps, sum);
    for (std::ptrdiff_t first = p.chunk; first < p.taps; first += p.chunk) {
      typename P::V more[kVectors] = {};
      add<T, kStep, kVectors>(p, source, first, first + p.chunk < p.taps ? first + p.chunk : p.taps, more);
      for (int k = 0; k < kVectors; ++k) sum[k] += more[k];
    }
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) sum[k] += p.border;
    const bool exact = p.reciprocal != 0;
    WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
      sum[k] = exact ? sum[k] * p.reciprocal : sum[k] / p.divisor;
      if (kStep == 2) sum[k] = pool_in_order(sum[k]);
    }
    for (std::ptrdiff_t c = 0; c < p.copies; ++c) {
      T* to = p.target + p.copy[c] + at.row * p.target_row;
      WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
        if constexpr (kTwice) {
          typename P::V low, high;
          const typename P::V apart = pool_out_of_order(sum[k]);
          pool_in_turn(apart, apart, low, high);
          pool_store(to + 2 * at[k], low);
          pool_store(to + 2 * at[k] + P::kLanes, high);
        } else {
          pool_store(to + at[k], sum[k]);
        }
      }
    }
  }

  template <class T, int kStep, int kVectors>
  [[gnu::always_inline]] static void add(const windrow::Pool<T>& p, const T* const* source,
                                         std::ptrdiff_t first, std::ptrdiff_t end,
                                         typename PoolVectors<T>::V* sum) {
    for (std::ptrdiff_t t = first; t < end; ++t) {
      if (kStep == 2 && pool_two_at(p, t, end)) {
        WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) {
          typename PoolVectors<T>::V even, odd;
          pool_load_two(source[k] + p.offset[t], even, odd);
          sum[k] = (sum[k] + even) + odd;
        }
        ++t;
        continue;
      }
      WINDROW_UNROLL for (int k = 0; k < kVectors; ++k) sum[k] +=
          pool_load<T, kStep>(source[k] + p.offset[t]);
    }
  }
};

// All rows, in blocks of four vectors and one of what is left, whose last vector lies over the one before it.
template <class Op, class T, int kStep>
inline void pool_rows(
    const windrow::Pool<T> p) {  // a copy: a store of a vector might alter what is referred to
  constexpr int kLanes = PoolVectors<T>::kLanes;
  const std::ptrdiff_t last = p.count - kLanes;
  for (std::ptrdiff_t row = 0; row < p.rows; ++row) {
    std::ptrdiff_t i = 0;
    for (; i + 3 * kLanes < last; i += 4 * kLanes)
      Op::template block<T, kStep, 4>(p, {row, i, i + 3 * kLanes});
    const std::ptrdiff_t left = p.count - i;  // at most four vectors, and one at least
    if (left > 3 * kLanes) {
      Op::template block<T, kStep, 4>(p, {row, i, last});
    } else if (left > 2 * kLanes) {
      Op::template block<T, kStep, 3>(p, {row, i, last});
    } else if (left > kLanes) {
      Op::template block<T, kStep, 2>(p, {row, i, last});
    } else {
      Op::template block<T, kStep, 1>(p, {row, i, last});
    }
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
