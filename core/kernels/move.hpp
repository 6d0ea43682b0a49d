// Elements on the move: rows, transposes, and runs gathered one after another. No element is looked into, so
// that NaN payloads, signed zeros and foreign byte orders pass unchanged.
#pragma once

#include "kernels/items.hpp"
#include "kernels/joined.hpp"
#include "kernels/patch_contract.hpp"
#include "kernels/transpose.hpp"
#include "kernels/widest.hpp"
#include "kernels/zip.hpp"

namespace {

struct Bytes16 {
  std::uint64_t low, high;
};

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

// Turns blocks over whose target is far: a line's worth of rows at a time are written along, each strip of
// them after its lines were fetched, so that no store waits for another's line.
template <class T>
void turn_along(const windrow::Move& m) {
  constexpr auto kItem = static_cast<std::ptrdiff_t>(sizeof(T));
  constexpr std::ptrdiff_t kRows = 64 / kItem, kStrip = 256;  // rows; bytes of each
  const auto fetch = [&](const char* target, std::ptrdiff_t rows) {
    for (std::ptrdiff_t r = 0; r < rows; ++r)
      for (std::ptrdiff_t x = 0; x < kStrip; x += 64) __builtin_prefetch(target + r * m.target_row + x, 1, 3);
  };
  for (std::ptrdiff_t i = 0; i < m.rows; i += kRows) {
    const std::ptrdiff_t rows = m.rows - i < kRows ? m.rows - i : kRows;
    for (std::ptrdiff_t j = 0; j < m.columns; j += kStrip / kItem) {
      const std::ptrdiff_t rest = m.columns - j;
      char* const target = m.target + i * m.target_row + j * kItem;
      if (rest > kStrip / kItem) {
        fetch(target + kStrip, rows);
      } else if (i + rows < m.rows) {
        fetch(m.target + (i + rows) * m.target_row, rows);
      }
      transpose<T>({.target = reinterpret_cast<T*>(target),
                    .target_row = m.target_row / kItem,
                    .source = reinterpret_cast<const T*>(m.source + j * m.source_column) + i,
                    .source_row = m.source_column / kItem,
                    .rows = rows,
                    .columns = rest < kStrip / kItem ? rest : kStrip / kItem,
                    .ahead = 0});
    }
  }
}

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
  // Not where the rows of the target have one set of the first-level cache to themselves.
  constexpr std::ptrdiff_t kSets = 4096, kWays = 8;
  if (m.far_target && (m.target_row % kSets != 0 || 64 / kItem <= kWays || m.rows <= kWays)) {
    turn_along<T>(m);
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

void move(const windrow::Move& m) {
  if (m.target_column == m.item && m.source_column == m.item) {
    const std::ptrdiff_t bytes = m.columns * m.item;
    constexpr std::ptrdiff_t kShort = 512;  // up to here a call takes as long as the copying
    const bool together = m.target_row >= bytes && m.target_row < 2 * bytes;  // further along are other rows
    for (std::ptrdiff_t i = 0; i < m.rows; ++i) {
      char* const target = m.target + i * m.target_row;
      const char* const source = m.source + i * m.source_row;
      if (together) fetch_ahead(target, bytes);
      if (bytes < kWidest || bytes > kShort) {
        __builtin_memcpy(target, source, static_cast<std::size_t>(bytes));
        continue;
      }
      for (std::ptrdiff_t x = 0; x < bytes - kWidest; x += kWidest)
        copy_wide<kWidest>(target + x, source + x);
      copy_wide<kWidest>(target + bytes - kWidest, source + bytes - kWidest);
    }
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
      fetch_ahead(target, 4 * bytes);
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
      fetch_ahead(target, bytes);
      for (std::ptrdiff_t i = 0; i + kWide < bytes; i += kWide) copy_wide<kWide>(target + i, source + i);
      copy_wide<kWide>(target + bytes - kWide, source + bytes - kWide);
    }
  }
}

#if defined(WINDROW_JOINED)

// Rounds of many runs that fill whole lines as a rule.
template <int kBytes>
void gather_joined(const windrow::GatherRuns& all) {
  constexpr int kRuns = joined_runs<kBytes>;
  const windrow::GatherRuns g = all;  // a copy that the stores below cannot reach
  const std::ptrdiff_t whole = g.count / kRuns * kRuns;
  for (std::ptrdiff_t r = 0; r < g.repeats; ++r) {
    char* target = g.target + r * g.count * kBytes;
    const char* const source = g.source + g.steps[r];
    for (std::ptrdiff_t j = 0; j < whole; j += kRuns, target += kRuns * kBytes) {
      fetch_ahead(target, kRuns * kBytes);
      const char* sources[kRuns];
      WINDROW_UNROLL
      for (int i = 0; i < kRuns; ++i) sources[i] = source + g.offsets[j + i];
      __m512i lines[kJoinedLines];
      join_lines<kBytes>(sources, lines);
      for (int i = 0; i < kJoinedLines; ++i) _mm512_storeu_si512(target + 64 * i, lines[i]);
    }
    for (std::ptrdiff_t j = whole; j < g.count; ++j, target += kBytes)
      __builtin_memcpy(target, source + g.offsets[j], kBytes);
  }
}

#endif

void gather_runs(const windrow::GatherRuns& g) {
#if defined(WINDROW_JOINED)
  if (g.bytes == 12 && g.count >= joined_runs<12>) return gather_joined<12>(g);
  if (g.bytes == 24 && g.count >= joined_runs<24>) return gather_joined<24>(g);
#endif
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
