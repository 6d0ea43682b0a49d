// Short rows of an image summed over the taps that meet them, those of a stride of 2 phase by phase and put
// together: the sums stay in registers until they are the image's.
#pragma once

#include "kernels/masked.hpp"
#include "kernels/patch_contract.hpp"
#include "kernels/widest.hpp"
#include "kernels/zip.hpp"

namespace {

#if defined(WINDROW_MASKED)

// The lanes of the vectors of a row that taps have.
template <class T>
struct TapLanes {
  Masked::Of<T> lanes[windrow::kFoldRowBytes / kWidest][windrow::kMostFoldTaps];

  TapLanes(const windrow::FoldRows& w, std::ptrdiff_t blocks) {
    constexpr auto kLanes = static_cast<std::ptrdiff_t>(Simd<T>::kLanes);
    for (std::ptrdiff_t b = 0; b < blocks; ++b)
      for (std::ptrdiff_t t = 0; t < w.tap_first[w.phases]; ++t)
        lanes[b][t] = lanes_between<T>(w.taps[t].first - b * kLanes, w.taps[t].end - b * kLanes);
  }
};

// kPlanes planes from `plane` on, so that the lists of rows and taps are gone through once for all of them.
template <class T, int kPhases, int kPlanes>
void sum_planes(const windrow::FoldRows& w, std::ptrdiff_t plane, std::ptrdiff_t blocks,
                const TapLanes<T>& taps) {
  using P = Pair<T, kWidest>;
  using V = typename P::V;
  constexpr auto kLanes = static_cast<std::ptrdiff_t>(P::kLanes);
  const char* const source = w.source + plane * w.source_plane;
  char* target = w.target + plane * w.target_plane;
  const std::ptrdiff_t source_plane = w.source_plane, target_plane = w.target_plane, ahead = w.ahead;
  for (std::ptrdiff_t y = 0; y < w.rows; ++y, target += w.target_row) {
    for (std::ptrdiff_t b = 0; b < blocks; ++b) {
      V sum[kPhases][kPlanes];
      WINDROW_UNROLL
      for (int q = 0; q < kPhases; ++q) {
        for (int p = 0; p < kPlanes; ++p) sum[q][p] = V{};
        for (std::ptrdiff_t r = w.row_first[y]; r < w.row_first[y + 1]; ++r) {
          const char* const row = source + w.sources[r] + b * kWidest;
          for (std::ptrdiff_t t = w.tap_first[q]; t < w.tap_first[q + 1]; ++t) {
            const char* const from = row + w.taps[t].source;
            const auto lanes = taps.lanes[b][t];
            for (int p = 0; p < kPlanes; ++p) {
              const char* const place = from + p * source_plane;
              __builtin_prefetch(place + ahead, 0, 2);
              // Other lanes add +0, which changes no sum, since no sum is -0.
              sum[q][p] = sum[q][p] + static_cast<V>(Masked::load(lanes, reinterpret_cast<const T*>(place)));
            }
          }
        }
      }
      const std::ptrdiff_t first = b * kLanes * kPhases, rest = w.length - first;
      const auto store = [&](int p, std::ptrdiff_t lane, V v) {
        char* const to = target + p * target_plane + (first + lane) * static_cast<std::ptrdiff_t>(sizeof(T));
        if (rest - lane >= kLanes) {
          P::store(to, v);
        } else if (rest > lane) {
          Masked::store(reinterpret_cast<T*>(to), first_lanes<T>(rest - lane), v);
        }
      };
      for (int p = 0; p < kPlanes; ++p) {
        if constexpr (kPhases == 1) {
          store(p, 0, sum[0][p]);
        } else {
          store(p, 0, P::low(sum[0][p], sum[1][p]));
          store(p, kLanes, P::high(sum[0][p], sum[1][p]));
        }
      }
    }
  }
}

template <class T, int kPhases>
void sum_image_rows(const windrow::FoldRows& all) {
  constexpr int kPlanes = 4;
  constexpr auto kLanes = static_cast<std::ptrdiff_t>(Simd<T>::kLanes);
  const windrow::FoldRows w = all;  // a copy that the stores below cannot reach
  const std::ptrdiff_t blocks = ((w.length + kPhases - 1) / kPhases + kLanes - 1) / kLanes;
  const TapLanes<T> taps(w, blocks);
  std::ptrdiff_t p = 0;
  for (; p + kPlanes <= w.planes; p += kPlanes) sum_planes<T, kPhases, kPlanes>(w, p, blocks, taps);
  for (; p < w.planes; ++p) sum_planes<T, kPhases, 1>(w, p, blocks, taps);
}

template <class T>
void fold_image_rows(const windrow::FoldRows& w) {
  w.phases == 1 ? sum_image_rows<T, 1>(w) : sum_image_rows<T, 2>(w);
}

template <class T>
constexpr void (*fold_rows)(const windrow::FoldRows&) = fold_image_rows<T>;

#else

template <class T>
constexpr void (*fold_rows)(const windrow::FoldRows&) = nullptr;

#endif

}  // namespace
