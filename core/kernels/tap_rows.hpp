// What taps see of an image's planes, row by row: short rows go from the image to their columns in registers,
// every second pixel under a stride of 2.
#pragma once

#include "kernels/items.hpp"
#include "kernels/masked.hpp"
#include "kernels/patch_contract.hpp"
#include "kernels/widest.hpp"

namespace {

#if defined(WINDROW_MASKED)

// Rows of kBlocks vectors, or of any number (0); the last one lies over the one before, or has only some
// lanes where it is the only one.
template <class T, int kStep, int kBlocks>
void take_rows(const windrow::TapRows& all) {
  using S = Simd<T>;
  using Mask = Masked::Of<T>;
  constexpr int kMost = static_cast<int>(windrow::kTapRowBytes / kWidest);
  constexpr auto kLanes = static_cast<std::ptrdiff_t>(S::kLanes);
  const windrow::TapRows w = all;  // a copy that the stores below cannot reach
  const std::ptrdiff_t blocks = kBlocks > 0 ? kBlocks : (w.length + kLanes - 1) / kLanes;
  const auto first_of = [&](std::ptrdiff_t b) {
    return kBlocks == 1 ? 0 : b + 1 < blocks ? b * kLanes : w.length - kLanes;
  };
  const auto fill = S::all(load_item<T>(w.fill));
  const auto store = [&](char* target, std::ptrdiff_t b, typename S::V v) {
    T* const to = reinterpret_cast<T*>(target) + first_of(b);
    if constexpr (kBlocks == 1) {
      Masked::store(to, first_lanes<T>(w.length), v);
    } else {
      S::store(to, v);
    }
  };
  for (std::ptrdiff_t p = 0; p < w.planes; ++p) {
    for (std::ptrdiff_t t = 0; t < w.count; ++t) {
      const windrow::TapRow& tap = w.taps[t];
      Mask lanes[kBlocks > 0 ? kBlocks : kMost];
      for (std::ptrdiff_t b = 0; b < blocks; ++b)
        lanes[b] = lanes_between<T>(tap.first - first_of(b), tap.end - first_of(b));
      char* target = w.target + p * w.target_plane + tap.target;
      const char* source = w.source + p * w.source_plane + tap.source + tap.first_row * w.source_row;
      const std::ptrdiff_t first_row = tap.first_row, end_row = tap.end_row;
      std::ptrdiff_t r = 0;
      const auto fill_rows = [&](std::ptrdiff_t end) {
        for (; r < end; ++r, target += w.target_row)
          for (std::ptrdiff_t b = 0; b < blocks; ++b) store(target, b, fill);
      };
      fill_rows(first_row);
      for (; r < end_row; ++r, target += w.target_row, source += w.source_row) {
        fetch_ahead(target, w.length * static_cast<std::ptrdiff_t>(sizeof(T)));
        for (std::ptrdiff_t b = 0; b < blocks; ++b) {
          const T* const from = reinterpret_cast<const T*>(source) + first_of(b) * kStep;
          if constexpr (kStep == 1) {
            store(target, b, Masked::load(fill, lanes[b], from));
          } else {
            store(target, b, Masked::load_even(fill, lanes[b], from));
          }
        }
      }
      fill_rows(w.rows);
    }
  }
}

template <class T, int kStep>
void take_rows(const windrow::TapRows& w) {
  const std::ptrdiff_t bytes = w.length * static_cast<std::ptrdiff_t>(sizeof(T));
  if (bytes <= kWidest) return take_rows<T, kStep, 1>(w);
  if (bytes <= 2 * kWidest) return take_rows<T, kStep, 2>(w);
  take_rows<T, kStep, 0>(w);
}

void take_rows(const windrow::TapRows& w) {
  if (w.item == 4) return w.step == 1 ? take_rows<float, 1>(w) : take_rows<float, 2>(w);
  w.step == 1 ? take_rows<double, 1>(w) : take_rows<double, 2>(w);
}

constexpr auto tap_rows = static_cast<void (*)(const windrow::TapRows&)>(take_rows);

#else

constexpr void (*tap_rows)(const windrow::TapRows&) = nullptr;

#endif

}  // namespace
