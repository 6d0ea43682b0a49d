// Rows of sums over any number of sources: the arithmetic of fold.
//
// One operation per number, never fused and never reordered within a sum, so that every target gives the same
// bits as the plain C++ below; the compiler makes the vectors.
#pragma once

#include "kernels/masked.hpp"
#include "kernels/patch_contract.hpp"
#include "kernels/widest.hpp"

namespace {

struct Half {
  std::uint16_t bits;
};

// IEEE half to single, exact. Subnormal halves are made normal by a multiplication that is exact.
inline float widen(Half h) {
  const std::uint32_t magnitude = h.bits & 0x7fffu;
  const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x8000u) << 16;
  const std::uint32_t special = magnitude >= 0x7c00u ? 0x38000000u : 0u;  // infinities and NaN: exponent 255
  const std::uint32_t shifted = (magnitude << 13) + 0x38000000u + special;
  float normal, scaled;
  const std::uint32_t small = magnitude;
  __builtin_memcpy(&normal, &shifted, sizeof normal);
  scaled = static_cast<float>(small) * 5.9604644775390625e-8f;  // 2^-24
  const float value = magnitude < 0x0400u ? scaled : normal;
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  bits |= sign;
  float result;
  __builtin_memcpy(&result, &bits, sizeof result);
  return result;
}

template <class T>
inline T widen(T value) {
  return value;
}

// Each works on numbers and on vectors of them.
struct Add {
  template <class T>
  static void apply(T& total, const T& value, const T&) {
    total = static_cast<T>(total + value);
  }
};
struct Weighted {
  template <class T>
  static void apply(T& total, const T& value, const T& weight) {
    total = total + value * weight;
  }
};
// NaN wins, and the first one stays.
struct Max {
  template <class T>
  static void apply(T& total, const T& value, const T&) {
    total = ((total != total) | (value <= total)) ? total : value;
  }
};
struct Min {
  template <class T>
  static void apply(T& total, const T& value, const T&) {
    total = ((total != total) | (value >= total)) ? total : value;
  }
};

template <class T>
struct Limits;
#define WINDROW_LIMITS(T, low, high)             \
  template <>                                    \
  struct Limits<T> {                             \
    static constexpr T kLow = low, kHigh = high; \
  };
WINDROW_LIMITS(std::int8_t, INT8_MIN, INT8_MAX)
WINDROW_LIMITS(std::int16_t, INT16_MIN, INT16_MAX)
WINDROW_LIMITS(std::int32_t, INT32_MIN, INT32_MAX)
WINDROW_LIMITS(std::int64_t, INT64_MIN, INT64_MAX)
WINDROW_LIMITS(std::uint8_t, 0, UINT8_MAX)
WINDROW_LIMITS(std::uint16_t, 0, UINT16_MAX)
WINDROW_LIMITS(std::uint32_t, 0, UINT32_MAX)
WINDROW_LIMITS(std::uint64_t, 0, UINT64_MAX)
WINDROW_LIMITS(float, -__builtin_inff(), __builtin_inff())
WINDROW_LIMITS(double, -__builtin_inf(), __builtin_inf())
#undef WINDROW_LIMITS

template <class T, class Op>
constexpr T neutral() {
  if constexpr (__is_same(Op, Max)) return Limits<T>::kLow;
  if constexpr (__is_same(Op, Min)) return Limits<T>::kHigh;
  return T{0};
}

template <class T, int kBytes>
struct VectorOf {
  using Type __attribute__((vector_size(kBytes))) = T;
};
template <class T, int kBytes>
using Vector = typename VectorOf<T, kBytes>::Type;

struct Rows {
  std::ptrdiff_t first, end;
};

// kVectors vectors of totals from x on, where every source has them, into v. So many sources are read along
// at once that nothing needs to be fetched ahead.
template <class T, class Op, int kBytes, int kVectors>
inline void sum_block(const windrow::SumRows& s, std::ptrdiff_t row, std::ptrdiff_t x, Vector<T, kBytes>* v) {
  using V = Vector<T, kBytes>;
  constexpr auto kSize = static_cast<std::ptrdiff_t>(sizeof(T));
  const char* total = s.total + row * s.total_row + x * kSize;
  V sum[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    if (s.resume) {
      __builtin_memcpy(&sum[i], total + i * kBytes, kBytes);
    } else {
      sum[i] = V{} + neutral<T, Op>();
    }
  }
  const std::ptrdiff_t offset = row * s.source_row + x * kSize;
  for (std::ptrdiff_t j = 0; j < s.count; ++j) {
    const char* source = s.sources[j].data + offset;
    const V weight = V{} + static_cast<T>(s.sources[j].weight);
    for (int i = 0; i < kVectors; ++i) {
      V value;
      __builtin_memcpy(&value, source + i * kBytes, kBytes);
      Op::apply(sum[i], value, weight);
    }
  }
  for (int i = 0; i < kVectors; ++i) v[i] = sum[i];
}

// A row from first to end, where every source is, in blocks of kVectors vectors; at least one block long.
template <class T, class Op, int kBytes, int kVectors>
inline void sum_blocks(const windrow::SumRows& s, std::ptrdiff_t row, std::ptrdiff_t first,
                       std::ptrdiff_t end) {
  constexpr auto kSize = static_cast<std::ptrdiff_t>(sizeof(T));
  constexpr std::ptrdiff_t kBlock = kVectors * kBytes / kSize;
  char* total = s.total + row * s.total_row;
  // The last block lies over the ones before it: it is made from what is there before they are written.
  Vector<T, kBytes> last[kVectors], v[kVectors];
  sum_block<T, Op, kBytes, kVectors>(s, row, end - kBlock, last);
  for (std::ptrdiff_t x = first; x + kBlock < end; x += kBlock) {
    sum_block<T, Op, kBytes, kVectors>(s, row, x, v);
    __builtin_memcpy(total + x * kSize, v, sizeof v);
  }
  __builtin_memcpy(total + (end - kBlock) * kSize, last, sizeof last);
}

template <class T, class Op>
inline void sum_vectors(const windrow::SumRows& s, std::ptrdiff_t row, std::ptrdiff_t first,
                        std::ptrdiff_t end) {
  const std::ptrdiff_t bytes = (end - first) * static_cast<std::ptrdiff_t>(sizeof(T));
  if (bytes >= 8 * kWidest) return sum_blocks<T, Op, kWidest, 8>(s, row, first, end);
  if (bytes >= 4 * kWidest) return sum_blocks<T, Op, kWidest, 4>(s, row, first, end);
  if (bytes >= 2 * kWidest) return sum_blocks<T, Op, kWidest, 2>(s, row, first, end);
  if (bytes >= kWidest) return sum_blocks<T, Op, kWidest, 1>(s, row, first, end);
  if constexpr (kWidest > 32)
    if (bytes >= 32) return sum_blocks<T, Op, 32, 1>(s, row, first, end);
  return sum_blocks<T, Op, 16, 1>(s, row, first, end);
}

// A line of each of several rows of a source, of those rows that come later: short ones, in which the
// hardware sees no order.
template <int kRows>
inline void fetch_rows(const windrow::SumRows& s, const char* data) {
  if (s.ahead == 0) return;
  for (int r = 0; r < kRows; ++r) __builtin_prefetch(data + r * s.source_row + s.ahead, 0, 2);
}

// Where kVectors vectors that cover the totals [first, end) of a row begin, in bytes: the second half of them
// ends with those, over the others.
template <class T, int kVectors>
struct Cover {
  std::ptrdiff_t place[kVectors];

  Cover(std::ptrdiff_t first, std::ptrdiff_t end) {
    constexpr auto kSize = static_cast<std::ptrdiff_t>(sizeof(T));
    for (int i = 0; i < kVectors; ++i)
      place[i] = i < kVectors / 2 ? first * kSize + i * kWidest : end * kSize - (kVectors - i) * kWidest;
  }
};

// kRows rows from `row` on, so covered, so that the list of the sources is gone through once for all of them:
// add(source, its data of the first row, its weight, sums) for each source.
template <class T, class Op, int kVectors, int kRows, class Add>
[[gnu::always_inline]] inline void sum_covered(const windrow::SumRows& s, std::ptrdiff_t row,
                                               const Cover<T, kVectors>& cover, Add&& add) {
  using V = Vector<T, kWidest>;
  char* const total = s.total + row * s.total_row;
  V sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < kVectors; ++i) {
      if (s.resume) {
        __builtin_memcpy(&sum[r][i], total + r * s.total_row + cover.place[i], kWidest);
      } else {
        sum[r][i] = V{} + neutral<T, Op>();
      }
    }
  }
  for (std::ptrdiff_t j = 0; j < s.count; ++j) {
    const windrow::SumSource& source = s.sources[j];
    const V weight = V{} + static_cast<T>(source.weight);
    add(source, source.data + row * s.source_row, weight, sum);
    for (int i = 0; i < kVectors; ++i)
      fetch_rows<kRows>(s, source.data + row * s.source_row + cover.place[i]);
  }
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kVectors; ++i)
      __builtin_memcpy(total + r * s.total_row + cover.place[i], &sum[r][i], kWidest);
}

template <class Op, class V>
inline void apply_vector(V& sum, const char* data, const V& weight) {
  V value;
  __builtin_memcpy(&value, data, sizeof value);
  Op::apply(sum, value, weight);
}

// The totals [first, end) of several rows at once, where every source has them. Returns how many rows it has
// done.
template <class T, class Op, int kVectors>
inline std::ptrdiff_t sum_short_rows(const windrow::SumRows& s, std::ptrdiff_t first, std::ptrdiff_t end) {
  using V = Vector<T, kWidest>;
  constexpr int kRows = 8 / kVectors;
  const Cover<T, kVectors> cover(first, end);
  std::ptrdiff_t row = 0;
  for (; row + kRows <= s.rows; row += kRows) {
    sum_covered<T, Op, kVectors, kRows>(
        s, row, cover, [&](const windrow::SumSource&, const char* data, const V& weight, auto& sum) {
          for (int r = 0; r < kRows; ++r)
            for (int i = 0; i < kVectors; ++i)
              apply_vector<Op>(sum[r][i], data + r * s.source_row + cover.place[i], weight);
        });
  }
  return row;
}

// Totals one by one, where not every source has them.
template <class T, class In, class Op>
inline void sum_singly(const windrow::SumRows& s, std::ptrdiff_t row, std::ptrdiff_t from,
                       std::ptrdiff_t to) {
  for (std::ptrdiff_t x = from; x < to; ++x) {
    char* place = s.total + row * s.total_row + x * static_cast<std::ptrdiff_t>(sizeof(T));
    T total = neutral<T, Op>();
    if (s.resume) __builtin_memcpy(&total, place, sizeof total);
    for (std::ptrdiff_t j = 0; j < s.count; ++j) {
      const windrow::SumSource& source = s.sources[j];
      if (x < source.first || x >= source.end) continue;
      In value;
      __builtin_memcpy(&value, source.data + row * s.source_row + x * static_cast<std::ptrdiff_t>(sizeof(In)),
                       sizeof value);
      Op::apply(total, static_cast<T>(widen(value)), static_cast<T>(source.weight));
    }
    __builtin_memcpy(place, &total, sizeof total);
  }
}

#if defined(WINDROW_MASKED)

// Lanes of a vector at element x that a source has.
template <class T>
inline Masked::Of<T> source_lanes(const windrow::SumSource& source, std::ptrdiff_t x) {
  return lanes_between<T>(source.first - x, source.end - x);
}

// A vector of a source, of which only some lanes are its own.
template <class T, class Op, class V>
inline void apply_lanes(V& sum, Masked::Of<T> lanes, const char* data, const V& weight) {
  const V value = Masked::load(lanes, reinterpret_cast<const T*>(data));
  V next = sum;
  Op::apply(next, value, weight);
  sum = Masked::keep(sum, lanes, next);
}

// Totals [from, to) of kRows rows, no more than a vector has lanes, of whichever sources have them: the list
// of the sources, and which lanes are theirs, is gone through once for all rows.
template <class T, class Op, int kRows>
inline void sum_masked_rows(const windrow::SumRows& s, std::ptrdiff_t row, std::ptrdiff_t from,
                            std::ptrdiff_t to) {
  using V = Vector<T, kWidest>;
  using Mask = Masked::Of<T>;
  constexpr auto kSize = static_cast<std::ptrdiff_t>(sizeof(T));
  const auto all = static_cast<Mask>(first_lanes<T>(to - from));
  char* const total = s.total + row * s.total_row + from * kSize;
  V sum[kRows];
  for (int r = 0; r < kRows; ++r) {
    if (s.resume) {
      sum[r] = Masked::load(all, reinterpret_cast<const T*>(total + r * s.total_row));
    } else {
      sum[r] = V{} + neutral<T, Op>();
    }
  }
  for (std::ptrdiff_t j = 0; j < s.count; ++j) {
    const windrow::SumSource& source = s.sources[j];
    if (source.first >= to || source.end <= from) continue;
    const auto lanes = static_cast<Mask>(source_lanes<T>(source, from) & all);
    const char* const data = source.data + row * s.source_row + from * kSize;
    const V weight = V{} + static_cast<T>(source.weight);
    if (lanes == first_lanes<T>(Simd<T>::kLanes)) {
      for (int r = 0; r < kRows; ++r) apply_vector<Op>(sum[r], data + r * s.source_row, weight);
    } else {
      for (int r = 0; r < kRows; ++r) apply_lanes<T, Op>(sum[r], lanes, data + r * s.source_row, weight);
    }
    fetch_rows<kRows>(s, data);
  }
  for (int r = 0; r < kRows; ++r) Masked::store(reinterpret_cast<T*>(total + r * s.total_row), all, sum[r]);
}

template <class T, class Op>
inline void sum_masked(const windrow::SumRows& s, Rows rows, std::ptrdiff_t from, std::ptrdiff_t to) {
  constexpr auto kLanes = static_cast<std::ptrdiff_t>(kWidest / sizeof(T));
  for (std::ptrdiff_t x = from; x < to; x += kLanes) {
    const std::ptrdiff_t end = x + kLanes < to ? x + kLanes : to;
    std::ptrdiff_t row = rows.first;
    for (; row + 8 <= rows.end; row += 8) sum_masked_rows<T, Op, 8>(s, row, x, end);
    for (; row + 3 <= rows.end; row += 3) sum_masked_rows<T, Op, 3>(s, row, x, end);
    for (; row < rows.end; ++row) sum_masked_rows<T, Op, 1>(s, row, x, end);
  }
}

// All totals of rows that kVectors vectors cover; of the first one and the last one a source may miss a part.
// kRows at once; returns the row that it has come to.
template <class T, class Op, int kVectors, int kRows>
inline std::ptrdiff_t sum_ragged_rows(const windrow::SumRows& s, Rows rows) {
  using V = Vector<T, kWidest>;
  const Cover<T, kVectors> cover(0, s.length);
  const std::ptrdiff_t last = cover.place[kVectors - 1] / static_cast<std::ptrdiff_t>(sizeof(T));
  std::ptrdiff_t row = rows.first;
  for (; row + kRows <= rows.end; row += kRows) {
    sum_covered<T, Op, kVectors, kRows>(
        s, row, cover, [&](const windrow::SumSource& source, const char* data, const V& weight, auto& sum) {
          const auto low = source_lanes<T>(source, 0), high = source_lanes<T>(source, last);
          for (int r = 0; r < kRows; ++r) {
            for (int i = 0; i < kVectors; ++i) {
              const char* const from = data + r * s.source_row + cover.place[i];
              if (i > 0 && i < kVectors - 1) {
                apply_vector<Op>(sum[r][i], from, weight);
              } else {
                apply_lanes<T, Op>(sum[r][i], i == 0 ? low : high, from, weight);
              }
            }
          }
        });
  }
  return row;
}

// All rows, if so many vectors cover them and of all of these but the first and the last one every source has
// all.
template <class T, class Op, int kVectors>
inline bool sum_ragged(const windrow::SumRows& s, std::ptrdiff_t first, std::ptrdiff_t end) {
  constexpr auto kLanes = static_cast<std::ptrdiff_t>(kWidest / sizeof(T));
  constexpr std::ptrdiff_t kHalf = kVectors / 2 * kLanes, kMost = kVectors * kLanes;
  if (s.length < kHalf || s.length > kMost) return false;
  const std::ptrdiff_t missed = first > s.length - end ? first : s.length - end;  // at either end, at most
  if (kVectors > 2 && (missed > kLanes || missed > s.length - kHalf)) return false;
  const std::ptrdiff_t row = sum_ragged_rows<T, Op, kVectors, 8 / kVectors>(s, {0, s.rows});
  sum_ragged_rows<T, Op, kVectors, 1>(s, {row, s.rows});
  return true;
}

template <class T, class Op>
inline bool sum_ragged(const windrow::SumRows& s, std::ptrdiff_t first, std::ptrdiff_t end) {
  const std::ptrdiff_t bytes = s.length * static_cast<std::ptrdiff_t>(sizeof(T));
  if (bytes <= 2 * kWidest) return sum_ragged<T, Op, 2>(s, first, end);
  if (bytes <= 4 * kWidest) return sum_ragged<T, Op, 4>(s, first, end);
  return sum_ragged<T, Op, 8>(s, first, end);
}

template <class T, class In>
constexpr bool has_masks = __is_same(T, In) && (__is_same(T, float) || __is_same(T, double));

#else

template <class T, class In>
constexpr bool has_masks = false;

#endif

// Totals [from, to), where not every source has them.
template <class T, class In, class Op>
inline void sum_partly(const windrow::SumRows& s, Rows rows, std::ptrdiff_t from, std::ptrdiff_t to) {
#if defined(WINDROW_MASKED)
  if constexpr (has_masks<T, In>) return sum_masked<T, Op>(s, rows, from, to);
#endif
  for (std::ptrdiff_t row = rows.first; row < rows.end; ++row) sum_singly<T, In, Op>(s, row, from, to);
}

template <class T, class In, class Op>
void sum_rows(const windrow::SumRows& s) {
  constexpr auto kSize = static_cast<std::ptrdiff_t>(sizeof(T));
  // Where all sources are.
  std::ptrdiff_t first = 0, end = s.length;
  for (std::ptrdiff_t j = 0; j < s.count; ++j) {
    first = s.sources[j].first > first ? s.sources[j].first : first;
    end = s.sources[j].end < end ? s.sources[j].end : end;
  }
  const std::ptrdiff_t bytes = sizeof(T) == sizeof(In) ? (end - first) * kSize : 0;
  if (bytes < 16 || (has_masks<T, In> && s.length * kSize <= kWidest))
    return sum_partly<T, In, Op>(s, {0, s.rows}, 0, s.length);
#if defined(WINDROW_MASKED)
  if constexpr (has_masks<T, In>)
    if (bytes < s.length * kSize && sum_ragged<T, Op>(s, first, end)) return;
#endif
  std::ptrdiff_t row = 0;
  if (bytes >= kWidest && bytes <= 2 * kWidest) row = sum_short_rows<T, Op, 2>(s, first, end);
  if (bytes > 2 * kWidest && bytes <= 4 * kWidest) row = sum_short_rows<T, Op, 4>(s, first, end);
  for (std::ptrdiff_t r = 0; r < s.rows; ++r) {
    sum_partly<T, In, Op>(s, {r, r + 1}, 0, first);
    if (r >= row) sum_vectors<T, Op>(s, r, first, end);
    sum_partly<T, In, Op>(s, {r, r + 1}, end, s.length);
  }
}

}  // namespace
