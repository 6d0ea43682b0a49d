// Short rows of an image summed over rows of windows that are turned over in registers (add_turned.hpp): the
// sums of a whole row stay in registers until they are the image's.
#pragma once

#include "kernels/add_turned.hpp"
#include "kernels/masked.hpp"
#include "kernels/patch_contract.hpp"

namespace {

#if defined(WINDROW_TURNED)

// Rows of as many windows as kVectors vectors have units of, whose runs have kLength units.
template <class T, int kUnit, int kVectors, int kLength>
void sum_windows(const windrow::FoldWindows& w) {
  using S = Simd<T>;
  constexpr std::ptrdiff_t kLine = 64, kLead = 8192, kLanes = S::kLanes;
  const TurnedRuns<T, kUnit, kVectors, kLength> turned(w.windows, w.taps, w.window);
  const int before = static_cast<int>(w.before);
  const auto from_next = lanes_between<T>(kLanes - before, kLanes);
  // Each row of windows fetches its share of the image that comes next.
  const std::ptrdiff_t all = w.planes * (w.row_first[w.rows] - w.row_first[0]);
  const std::ptrdiff_t share = all > 0 ? w.ahead / all + 1 : 0;
  const char *next = w.source + kLead, *fetched = next;
  char* target = w.target;
  for (std::ptrdiff_t y = 0; y < w.rows; ++y, target += w.target_row) {
    for (std::ptrdiff_t p = 0; p < w.planes; ++p) {
      typename S::V sum[kVectors + 1];
      WINDROW_UNROLL
      for (int v = 0; v <= kVectors; ++v) sum[v] = S::zero();
      for (std::ptrdiff_t r = w.row_first[y]; r < w.row_first[y + 1]; ++r) {
        for (next += share; fetched < next; fetched += kLine) __builtin_prefetch(fetched, 0, 3);
        turned.add_to(sum, w.source + p * w.source_plane + w.sources[r]);
      }
      // The first pixel is `before` lanes on.
      T* const to = reinterpret_cast<T*>(target + p * w.target_plane);
      typename S::V pixels = rotate(sum[0], -before);
      WINDROW_UNROLL
      for (int v = 0; v <= kVectors; ++v) {
        const typename S::V after = v < kVectors ? rotate(sum[v + 1], -before) : S::zero();
        pixels = Masked::keep(pixels, from_next, after);
        const std::ptrdiff_t rest = w.length - v * kLanes;
        if (rest >= kLanes) {
          S::store(to + v * kLanes, pixels);
        } else if (rest > 0) {
          Masked::store(to + v * kLanes, first_lanes<T>(rest), pixels);
        }
        pixels = after;
      }
    }
  }
}

using FoldWindowsKernel = void (*)(const windrow::FoldWindows&);

// Longer runs are added to sums in memory as fast, and need code for each length.
template <int kNumbers>
constexpr int kMostUnits = kNumbers == 1 ? 4 : 3;

template <class T, int kUnit, int kVectors = 1, int kLength = 2>
FoldWindowsKernel choose_fold_windows(std::ptrdiff_t vectors, std::ptrdiff_t length) {
  if constexpr (kVectors < windrow::kMostFoldVectors)
    if (vectors > kVectors) return choose_fold_windows<T, kUnit, kVectors + 1, kLength>(vectors, length);
  if constexpr (kLength < kMostUnits<kUnit / static_cast<int>(sizeof(T))>)
    if (length > kLength) return choose_fold_windows<T, kUnit, kVectors, kLength + 1>(vectors, length);
  return sum_windows<T, kUnit, kVectors, kLength>;
}

// Of windows that begin kNumbers apart.
template <class T, int kNumbers>
FoldWindowsKernel fold_windows_apart(const windrow::FoldWindows& w) {
  constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes, kUnits = kLanes / kNumbers;
  const std::ptrdiff_t vectors = (w.windows + kUnits - 1) / kUnits;
  const std::ptrdiff_t length = (w.taps + kNumbers - 1) / kNumbers;
  const bool served = 2 * w.windows > kUnits && vectors <= windrow::kMostFoldVectors && length >= 2 &&
                      length <= kMostUnits<kNumbers> && w.before >= 0 && w.before < kLanes &&
                      w.length + w.before <= (vectors + 1) * kLanes;
  return served ? choose_fold_windows<T, kNumbers * sizeof(T)>(vectors, length) : nullptr;
}

template <class T>
FoldWindowsKernel fold_windows(const windrow::FoldWindows& w) {
  if (w.stride == 1) return fold_windows_apart<T, 1>(w);
  if constexpr (kWidest >= 8 * sizeof(T))  // two windows to a vector are not worth it
    if (w.stride == 2) return fold_windows_apart<T, 2>(w);
  return nullptr;
}

#else

template <class T>
constexpr void (*(*fold_windows)(const windrow::FoldWindows&))(const windrow::FoldWindows&) = nullptr;

#endif

}  // namespace
