// Elements on the move: rows, transposes, and runs gathered one after another. No element is looked into, so
// that NaN payloads, signed zeros and foreign byte orders pass unchanged.
#pragma once

#include <utility>

#include "kernels/patch_contract.hpp"
#include "kernels/transpose.hpp"
#include "kernels/widest.hpp"

namespace {

struct Bytes16 {
  std::uint64_t low, high;
};

template <class Item>
inline Item load_item(const char* p) {
  Item item;
  __builtin_memcpy(&item, p, sizeof item);
  return item;
}

template <class Item>
inline void store_item(char* p, Item item) {
  __builtin_memcpy(p, &item, sizeof item);
}

// Both sides at any stride. Blocks are a cache line square, so that a line is still there when the next row
// needs it, whichever side runs across.
template <class Item>
void move_items(const windrow::Move& m) {
  constexpr std::ptrdiff_t kBlock = 64 / static_cast<std::ptrdiff_t>(sizeof(Item));
  const windrow::Move w = m;  // a copy that the stores below cannot reach
  for (std::ptrdiff_t i0 = 0; i0 < w.rows; i0 += kBlock) {
    const std::ptrdiff_t i1 = i0 + kBlock < w.rows ? i0 + kBlock : w.rows;
    for (std::ptrdiff_t j0 = 0; j0 < w.columns; j0 += kBlock) {
      const std::ptrdiff_t j1 = j0 + kBlock < w.columns ? j0 + kBlock : w.columns;
      for (std::ptrdiff_t i = i0; i < i1; ++i) {
        char* target = w.target + i * w.target_row + j0 * w.target_column;
        const char* source = w.source + i * w.source_row + j0 * w.source_column;
        for (std::ptrdiff_t j = j0; j < j1; ++j) {
          store_item(target, load_item<Item>(source));
          target += w.target_column;
          source += w.source_column;
        }
      }
    }
  }
}

void move_bytes(const windrow::Move& m) {
  for (std::ptrdiff_t i = 0; i < m.rows; ++i)
    for (std::ptrdiff_t j = 0; j < m.columns; ++j)
      __builtin_memcpy(m.target + i * m.target_row + j * m.target_column,
                       m.source + i * m.source_row + j * m.source_column, static_cast<std::size_t>(m.item));
}

// Vectors of even and odd elements out of those of a row, and back.
template <class T, int kBytes>
struct Pair {
  using V __attribute__((vector_size(kBytes))) = T;
  static constexpr int kLanes = kBytes / static_cast<int>(sizeof(T));
  static V load(const char* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(char* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
  static V even(V a, V b) { return every_second<0>(a, b, Lanes{}); }
  static V odd(V a, V b) { return every_second<1>(a, b, Lanes{}); }
  static V low(V a, V b) { return in_turn<0>(a, b, Lanes{}); }
  static V high(V a, V b) { return in_turn<kLanes / 2>(a, b, Lanes{}); }

 private:
  using Lanes = std::make_integer_sequence<int, kLanes>;
  template <int kFirst, int... kLane>
  static V every_second(V a, V b, std::integer_sequence<int, kLane...>) {
    return __builtin_shufflevector(a, b, (kFirst + 2 * kLane)...);
  }
  template <int kFirst, int... kLane>
  static V in_turn(V a, V b, std::integer_sequence<int, kLane...>) {
    return __builtin_shufflevector(a, b, (kFirst + kLane / 2 + kLane % 2 * kLanes)...);
  }
};

#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)

// Lanes of a register, and the even and odd elements of two.
template <class T>
struct Lanes512;

template <>
struct Lanes512<float> {
  static constexpr int kLanes = 16;
  using Mask = __mmask16;
  static __m512 load(Mask lanes, const char* p) { return _mm512_maskz_loadu_ps(lanes, p); }
  static void store(char* p, Mask lanes, __m512 v) { _mm512_mask_storeu_ps(p, lanes, v); }
};

template <>
struct Lanes512<double> {
  static constexpr int kLanes = 8;
  using Mask = __mmask8;
  static __m512d load(Mask lanes, const char* p) { return _mm512_maskz_loadu_pd(lanes, p); }
  static void store(char* p, Mask lanes, __m512d v) { _mm512_mask_storeu_pd(p, lanes, v); }
};

// What is left of a row after whole blocks: its elements in either register of a block, and the even and odd
// ones among them.
template <class T>
struct Rest {
  using L = Lanes512<T>;
  using Mask = typename L::Mask;
  static constexpr std::ptrdiff_t kBlock = 2 * L::kLanes;
  std::ptrdiff_t whole;
  Mask first, second, even, odd;

  explicit Rest(std::ptrdiff_t length)
      : whole(length / kBlock * kBlock),
        first(lanes(length - whole)),
        second(lanes(length - whole - L::kLanes)),
        even(lanes((length - whole + 1) / 2)),
        odd(lanes((length - whole) / 2)) {}

 private:
  static Mask lanes(std::ptrdiff_t count) {
    return static_cast<Mask>(count >= L::kLanes ? ~0u : count > 0 ? (1u << count) - 1 : 0u);
  }
};

template <class T>
inline void unzip_rows(const windrow::Unzip& u) {
  using P = Pair<T, 64>;
  using L = Lanes512<T>;
  const windrow::Unzip w = u;  // a copy that the stores below cannot reach
  const Rest<T> rest(w.length);
  for (std::ptrdiff_t r = 0; r < w.rows; ++r) {
    const char* source = w.source + r * w.source_row;
    char *even = w.even + r * w.target_row, *odd = w.odd + r * w.target_row;
    for (std::ptrdiff_t x = 0; x < rest.whole; x += rest.kBlock, source += 128, even += 64, odd += 64) {
      const auto a = P::load(source), b = P::load(source + 64);
      P::store(even, P::even(a, b));
      P::store(odd, P::odd(a, b));
    }
    const auto a = L::load(rest.first, source), b = L::load(rest.second, source + 64);
    L::store(even, rest.even, P::even(a, b));
    L::store(odd, rest.odd, P::odd(a, b));
  }
}

template <class T>
inline void zip_rows(const windrow::Zip& z) {
  using P = Pair<T, 64>;
  using L = Lanes512<T>;
  const windrow::Zip w = z;
  const Rest<T> rest(w.length);
  for (std::ptrdiff_t r = 0; r < w.rows; ++r) {
    char* target = w.target + r * w.target_row;
    const char *even = w.even + r * w.source_row, *odd = w.odd + r * w.source_row;
    for (std::ptrdiff_t x = 0; x < rest.whole; x += rest.kBlock, target += 128, even += 64, odd += 64) {
      const auto a = P::load(even), b = P::load(odd);
      P::store(target, P::low(a, b));
      P::store(target + 64, P::high(a, b));
    }
    const auto a = L::load(rest.even, even), b = L::load(rest.odd, odd);
    L::store(target, rest.first, P::low(a, b));
    L::store(target + 64, rest.second, P::high(a, b));
  }
}

#else

// Calls block(x) for blocks of kBlock elements that make up a row but for an odd one at its end. The last of
// them lies over the one before, with which it agrees; the row is at least one block long.
template <std::ptrdiff_t kBlock, class Block>
inline void for_each_block(std::ptrdiff_t length, Block&& block) {
  const std::ptrdiff_t last = (length - kBlock) / 2 * 2;
  for (std::ptrdiff_t x = 0; x < last; x += kBlock) block(x);
  block(last);
}

template <class T, int kBytes>
inline void unzip_row(char* even, char* odd, const char* source, std::ptrdiff_t length) {
  using P = Pair<T, kBytes>;
  constexpr std::ptrdiff_t kItem = sizeof(T), kBlock = 2 * P::kLanes;
  if (length < kBlock) {
    if constexpr (kBytes > 16) return unzip_row<T, kBytes / 2>(even, odd, source, length);
    for (std::ptrdiff_t i = 0; i + 1 < length; i += 2)
      store_item(odd + i / 2 * kItem, load_item<T>(source + (i + 1) * kItem));
    for (std::ptrdiff_t i = 0; i < length; i += 2)
      store_item(even + i / 2 * kItem, load_item<T>(source + i * kItem));
    return;
  }
  for_each_block<kBlock>(length, [&](std::ptrdiff_t x) {
    const auto a = P::load(source + x * kItem), b = P::load(source + x * kItem + kBytes);
    P::store(even + x / 2 * kItem, P::even(a, b));
    P::store(odd + x / 2 * kItem, P::odd(a, b));
  });
  if (length % 2 != 0) store_item(even + length / 2 * kItem, load_item<T>(source + (length - 1) * kItem));
}

template <class T, int kBytes>
inline void zip_row(char* target, const char* even, const char* odd, std::ptrdiff_t length) {
  using P = Pair<T, kBytes>;
  constexpr std::ptrdiff_t kItem = sizeof(T), kBlock = 2 * P::kLanes;
  if (length < kBlock) {
    if constexpr (kBytes > 16) return zip_row<T, kBytes / 2>(target, even, odd, length);
    for (std::ptrdiff_t i = 0; i + 1 < length; i += 2)
      store_item(target + (i + 1) * kItem, load_item<T>(odd + i / 2 * kItem));
    for (std::ptrdiff_t i = 0; i < length; i += 2)
      store_item(target + i * kItem, load_item<T>(even + i / 2 * kItem));
    return;
  }
  for_each_block<kBlock>(length, [&](std::ptrdiff_t x) {
    const auto a = P::load(even + x / 2 * kItem), b = P::load(odd + x / 2 * kItem);
    P::store(target + x * kItem, P::low(a, b));
    P::store(target + x * kItem + kBytes, P::high(a, b));
  });
  if (length % 2 != 0) store_item(target + (length - 1) * kItem, load_item<T>(even + length / 2 * kItem));
}

template <class T>
inline void unzip_rows(const windrow::Unzip& u) {
  const windrow::Unzip w = u;  // a copy that the stores below cannot reach
  for (std::ptrdiff_t r = 0; r < w.rows; ++r)
    unzip_row<T, kWidest>(w.even + r * w.target_row, w.odd + r * w.target_row, w.source + r * w.source_row,
                          w.length);
}

template <class T>
inline void zip_rows(const windrow::Zip& z) {
  const windrow::Zip w = z;
  for (std::ptrdiff_t r = 0; r < w.rows; ++r)
    zip_row<T, kWidest>(w.target + r * w.target_row, w.even + r * w.source_row, w.odd + r * w.source_row,
                        w.length);
}

#endif

void unzip(const windrow::Unzip& u) { u.item == 4 ? unzip_rows<float>(u) : unzip_rows<double>(u); }
void zip(const windrow::Zip& z) { z.item == 4 ? zip_rows<float>(z) : zip_rows<double>(z); }

// Turns a block over in registers if it can be seen as an array of T; false if not.
template <class T>
bool turn(const windrow::Move& m) {
  constexpr auto kItem = static_cast<std::ptrdiff_t>(sizeof(T));
  const auto place = reinterpret_cast<std::uintptr_t>(m.target) | reinterpret_cast<std::uintptr_t>(m.source);
  if (m.target_column != kItem || m.source_row != kItem || place % sizeof(T) != 0 ||
      m.target_row % kItem != 0 || m.source_column % kItem != 0)
    return false;
  if (m.rows == 2 && m.source_column == 2 * kItem) {
    unzip_rows<T>({.even = m.target,
                   .odd = m.target + m.target_row,
                   .source = m.source,
                   .target_row = 0,
                   .source_row = 0,
                   .rows = 1,
                   .length = 2 * m.columns,
                   .item = kItem});
    return true;
  }
  if (m.columns == 2 && m.target_row == 2 * kItem) {
    zip_rows<T>({.target = m.target,
                 .even = m.source,
                 .odd = m.source + m.source_column,
                 .target_row = 0,
                 .source_row = 0,
                 .rows = 1,
                 .length = 2 * m.rows,
                 .item = kItem});
    return true;
  }
  // A line's worth of columns at a time: as many streams of the source, each read along, and what comes in
  // their place next is fetched meanwhile.
  constexpr std::ptrdiff_t kColumns = 64 / kItem, kRows = 4 * kColumns;
  const std::ptrdiff_t source_row = m.source_column / kItem;
  for (std::ptrdiff_t j = 0; j < m.columns; j += kColumns) {
    const std::ptrdiff_t rest = m.columns - j;
    const std::ptrdiff_t columns = rest < kColumns ? rest : kColumns;
    const std::ptrdiff_t next = rest - columns < kColumns ? rest - columns : kColumns;
    for (std::ptrdiff_t i = 0; i < m.rows; i += kRows) {
      const std::ptrdiff_t rows = m.rows - i < kRows ? m.rows - i : kRows;
      const T* source = reinterpret_cast<const T*>(m.source) + j * source_row + i;
      for (std::ptrdiff_t c = 0; c < next; ++c)
        for (std::ptrdiff_t r = 0; r < rows; r += kColumns)
          __builtin_prefetch(source + (columns + c) * source_row + r, 0, 2);
      if (m.ahead != 0) {
        const char* const later = reinterpret_cast<const char*>(source) + m.ahead;
        for (std::ptrdiff_t c = 0; c < columns; ++c)
          for (std::ptrdiff_t r = 0; r < rows; r += kColumns)
            __builtin_prefetch(later + (c * source_row + r) * kItem, 0, 2);
      }
      transpose<T>({.target = reinterpret_cast<T*>(m.target + i * m.target_row) + j,
                    .target_row = m.target_row / kItem,
                    .source = source,
                    .source_row = source_row,
                    .rows = rows,
                    .columns = columns,
                    .ahead = 0});
    }
  }
  return true;
}

void move(const windrow::Move& m) {
  if (m.target_column == m.item && m.source_column == m.item) {
    for (std::ptrdiff_t i = 0; i < m.rows; ++i)
      __builtin_memcpy(m.target + i * m.target_row, m.source + i * m.source_row,
                       static_cast<std::size_t>(m.columns * m.item));
    return;
  }
  switch (m.item) {
    case 1:
      return move_items<std::uint8_t>(m);
    case 2:
      return move_items<std::uint16_t>(m);
    case 4:
      return turn<float>(m) ? void() : move_items<std::uint32_t>(m);
    case 8:
      return turn<double>(m) ? void() : move_items<std::uint64_t>(m);
    case 16:
      return move_items<Bytes16>(m);
    default:
      return move_bytes(m);
  }
}

// One element, or several side by side, as one register where the target has one so wide.
template <int kBytes>
inline void copy_wide(char* target, const char* source) {
  constexpr int kPart = kBytes < kWidest ? kBytes : kWidest;
  using V __attribute__((vector_size(kPart))) = unsigned char;
  for (int i = 0; i < kBytes; i += kPart) {
    V v;
    __builtin_memcpy(&v, source + i, kPart);
    __builtin_memcpy(target + i, &v, kPart);
  }
}

// Runs of at most kWide bytes: each is written whole and wide, and the next one covers the excess. The last
// ones, whose excess would leave the target, are copied to the byte.
template <int kWide>
void gather_wide(const windrow::GatherRuns& g) {
  const std::ptrdiff_t bytes = g.bytes, count = g.count;
  const std::ptrdiff_t* offsets = g.offsets;
  // The last run that may be wide: its excess still ends inside the target.
  const char* const last = g.target + g.repeats * count * bytes - kWide;
  char* target = g.target;
  for (std::ptrdiff_t r = 0; r < g.repeats; ++r) {
    const char* source = g.source + g.steps[r];
    std::ptrdiff_t j = 0;
    for (; j + 4 <= count && target + 3 * bytes <= last; j += 4, target += 4 * bytes) {
      copy_wide<kWide>(target, source + offsets[j]);
      copy_wide<kWide>(target + bytes, source + offsets[j + 1]);
      copy_wide<kWide>(target + 2 * bytes, source + offsets[j + 2]);
      copy_wide<kWide>(target + 3 * bytes, source + offsets[j + 3]);
    }
    for (; j < count; ++j, target += bytes) {
      if (target <= last) {
        copy_wide<kWide>(target, source + offsets[j]);
      } else {
        for (std::ptrdiff_t i = 0; i < bytes; ++i) target[i] = source[offsets[j] + i];
      }
    }
  }
}

// Longer runs in steps of kWide bytes; the last step of a run lies over the one before it.
template <int kWide>
void gather_long(const windrow::GatherRuns& g) {
  const std::ptrdiff_t bytes = g.bytes;
  char* target = g.target;
  for (std::ptrdiff_t r = 0; r < g.repeats; ++r) {
    for (std::ptrdiff_t j = 0; j < g.count; ++j, target += bytes) {
      const char* source = g.source + g.steps[r] + g.offsets[j];
      for (std::ptrdiff_t i = 0; i + kWide < bytes; i += kWide) copy_wide<kWide>(target + i, source + i);
      copy_wide<kWide>(target + bytes - kWide, source + bytes - kWide);
    }
  }
}

void gather_runs(const windrow::GatherRuns& g) {
  if (g.bytes > 64) return gather_long<64>(g);
  if (g.bytes > 32) return gather_wide<64>(g);
  if (g.bytes > 16) return gather_wide<32>(g);
  if (g.bytes > 8) return gather_wide<16>(g);
  if (g.bytes > 4) return gather_wide<8>(g);
  if (g.bytes > 2) return gather_wide<4>(g);
  if (g.bytes == 2) return gather_wide<2>(g);
  return gather_wide<1>(g);
}

}  // namespace
