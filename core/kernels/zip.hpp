// Rows of elements and their even and odd ones by themselves: what a window's stride of 2 does to the pixels
// of a row, and back.
#pragma once

#include <utility>

#include "kernels/items.hpp"
#include "kernels/masked.hpp"
#include "kernels/patch_contract.hpp"
#include "kernels/widest.hpp"

namespace {

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
#if defined(WINDROW_MASKED)
  // Lanes of a vector that is as wide as those of the target.
  static V load(Masked::Of<T> lanes, const char* p) {
    return Masked::load(lanes, reinterpret_cast<const T*>(p));
  }
  static void store(char* p, Masked::Of<T> lanes, V v) { Masked::store(reinterpret_cast<T*>(p), lanes, v); }
#endif
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

// What is left of a row after whole blocks: its elements in either register of a block, and the even and odd
// ones among them.
template <class T>
struct Rest {
  using Mask = Masked::Of<T>;
  static constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes, kBlock = 2 * kLanes;
  std::ptrdiff_t whole;
  Mask first, second, even, odd;

  explicit Rest(std::ptrdiff_t length)
      : whole(length / kBlock * kBlock),
        first(first_lanes<T>(length - whole)),
        second(first_lanes<T>(length - whole - kLanes)),
        even(first_lanes<T>((length - whole + 1) / 2)),
        odd(first_lanes<T>((length - whole) / 2)) {}
};

template <class T>
inline void unzip_rows(const windrow::Unzip& u) {
  using P = Pair<T, 64>;
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
    const auto a = P::load(rest.first, source), b = P::load(rest.second, source + 64);
    P::store(even, rest.even, P::even(a, b));
    P::store(odd, rest.odd, P::odd(a, b));
  }
}

template <class T>
inline void zip_rows(const windrow::Zip& z) {
  using P = Pair<T, 64>;
  const windrow::Zip w = z;
  const Rest<T> rest(w.length);
  for (std::ptrdiff_t r = 0; r < w.rows; ++r) {
    char* target = w.target + r * w.target_row;
    fetch_ahead(target, w.length * w.item);
    const char *even = w.even + r * w.source_row, *odd = w.odd + r * w.source_row;
    for (std::ptrdiff_t x = 0; x < rest.whole; x += rest.kBlock, target += 128, even += 64, odd += 64) {
      const auto a = P::load(even), b = P::load(odd);
      P::store(target, P::low(a, b));
      P::store(target + 64, P::high(a, b));
    }
    const auto a = P::load(rest.even, even), b = P::load(rest.odd, odd);
    P::store(target, rest.first, P::low(a, b));
    P::store(target + 64, rest.second, P::high(a, b));
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

}  // namespace
