// Elements on the move: rows, transposes, and runs gathered one after another. No element is looked into, so
// that NaN payloads, signed zeros and foreign byte orders pass unchanged.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "kernels/patch_contract.hpp"

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
  for (std::ptrdiff_t i0 = 0; i0 < m.rows; i0 += kBlock) {
    const std::ptrdiff_t i1 = i0 + kBlock < m.rows ? i0 + kBlock : m.rows;
    for (std::ptrdiff_t j0 = 0; j0 < m.columns; j0 += kBlock) {
      const std::ptrdiff_t j1 = j0 + kBlock < m.columns ? j0 + kBlock : m.columns;
      for (std::ptrdiff_t i = i0; i < i1; ++i)
        for (std::ptrdiff_t j = j0; j < j1; ++j)
          store_item(m.target + i * m.target_row + j * m.target_column,
                     load_item<Item>(m.source + i * m.source_row + j * m.source_column));
    }
  }
}

void move_bytes(const windrow::Move& m) {
  for (std::ptrdiff_t i = 0; i < m.rows; ++i)
    for (std::ptrdiff_t j = 0; j < m.columns; ++j)
      __builtin_memcpy(m.target + i * m.target_row + j * m.target_column,
                       m.source + i * m.source_row + j * m.source_column, static_cast<std::size_t>(m.item));
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
      return move_items<std::uint32_t>(m);
    case 8:
      return move_items<std::uint64_t>(m);
    case 16:
      return move_items<Bytes16>(m);
    default:
      return move_bytes(m);
  }
}

template <class Item>
void gather_items(const windrow::GatherRuns& g) {
  for (std::ptrdiff_t j = 0; j < g.count; ++j)
    store_item(g.target + j * static_cast<std::ptrdiff_t>(sizeof(Item)),
               load_item<Item>(g.source + g.offsets[j]));
}

// Runs of at most sizeof(Wide) bytes: each is written whole and wide, and the next one covers the excess. The
// last ones, whose excess would leave the target, are copied to the byte.
template <class Wide>
void gather_wide(const windrow::GatherRuns& g) {
  constexpr auto kWide = static_cast<std::ptrdiff_t>(sizeof(Wide));
  const std::ptrdiff_t exact = (kWide - g.bytes + g.bytes - 1) / g.bytes;  // runs at the end
  const std::ptrdiff_t wide = g.count > exact ? g.count - exact : 0;
  char* target = g.target;
  for (std::ptrdiff_t j = 0; j < wide; ++j, target += g.bytes)
    store_item(target, load_item<Wide>(g.source + g.offsets[j]));
  for (std::ptrdiff_t j = wide; j < g.count; ++j, target += g.bytes)
    __builtin_memcpy(target, g.source + g.offsets[j], static_cast<std::size_t>(g.bytes));
}

struct Bytes32 {
  Bytes16 low, high;
};
struct Bytes64 {
  Bytes32 low, high;
};

void gather_runs(const windrow::GatherRuns& g) {
  switch (g.bytes) {
    case 1:
      return gather_items<std::uint8_t>(g);
    case 2:
      return gather_items<std::uint16_t>(g);
    case 4:
      return gather_items<std::uint32_t>(g);
    case 8:
      return gather_items<std::uint64_t>(g);
    case 16:
      return gather_items<Bytes16>(g);
    case 32:
      return gather_items<Bytes32>(g);
    case 64:
      return gather_items<Bytes64>(g);
    default:
      break;
  }
  if (g.bytes < 16) return gather_wide<Bytes16>(g);
  if (g.bytes < 32) return gather_wide<Bytes32>(g);
  if (g.bytes < 64) return gather_wide<Bytes64>(g);
  char* target = g.target;
  for (std::ptrdiff_t j = 0; j < g.count; ++j, target += g.bytes)
    __builtin_memcpy(target, g.source + g.offsets[j], static_cast<std::size_t>(g.bytes));
}

#if defined(__AVX512F__) && !defined(WINDROW_GENERIC)

void stream(char* target, const char* source, std::ptrdiff_t bytes) {
  for (std::ptrdiff_t i = 0; i < bytes; i += 64)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target + i), _mm512_loadu_si512(source + i));
}
void stream_end() { _mm_sfence(); }

#elif defined(__SSE2__)

void stream(char* target, const char* source, std::ptrdiff_t bytes) {
  for (std::ptrdiff_t i = 0; i < bytes; i += 16)
    _mm_stream_si128(reinterpret_cast<__m128i*>(target + i),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i)));
}
void stream_end() { _mm_sfence(); }

#else

void stream(char* target, const char* source, std::ptrdiff_t bytes) {
  __builtin_memcpy(target, source, static_cast<std::size_t>(bytes));
}
void stream_end() {}

#endif

}  // namespace
