// Depthwise windows over channels-last memory whose taps follow one another: what some pixels of a line see
// of a row is loaded once for all of its taps, and each of these taps' weights once for all of the pixels, so
// that most operands of a multiply-add are in registers.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"

namespace {

// Pixels at a time: their sums, what they see of a row and one vector of weights stay in registers.
constexpr int window_pixels(int columns) {
  const int most = (kVectorRegisters - columns) / 2;
  return most < 8 ? most : 8;
}

// P pixels from `pixel` on, all rows of a window of C taps each, one vector of channels.
template <class T, int P, int C>
void channel_window_block(const windrow::ChannelWindow<T>& s, std::ptrdiff_t pixel, std::ptrdiff_t lane) {
  using S = Simd<T>;
  constexpr int kSeen = P + C - 1;
  const T* const border = s.border + lane;
  typename S::V sum[P];
  WINDROW_UNROLL
  for (int p = 0; p < P; ++p) sum[p] = S::zero();
  for (std::ptrdiff_t r = 0; r < s.rows; ++r) {
    const T* const x = s.row[r].x + pixel * s.x_pixel + lane;
    const T* const w = s.row[r].w + lane;
    typename S::V seen[kSeen];
    WINDROW_UNROLL
    for (int q = 0; q < kSeen; ++q) {
      const bool inside = s.low <= pixel + q && pixel + q < s.high;
      seen[q] = S::load(inside ? x + q * s.x_pixel : border);
    }
    WINDROW_UNROLL
    for (int j = 0; j < C; ++j) {
      const typename S::V factor = S::load(w + j * s.w_tap);
      WINDROW_UNROLL
      for (int p = 0; p < P; ++p) sum[p] = S::fma(factor, seen[p + j], sum[p]);
    }
  }
  T* const y = s.y + pixel * s.y_pixel + lane;
  WINDROW_UNROLL
  for (int p = 0; p < P; ++p) {
    T* const to = y + p * s.y_pixel;
    if (s.accumulate) sum[p] = S::add(S::load(to), sum[p]);
    if (s.bias) sum[p] = S::add(sum[p], S::load(s.bias + lane));
    S::store(to, sum[p]);
  }
}

template <class T, int P, int C>
void channel_window_lanes(const windrow::ChannelWindow<T>& s, std::ptrdiff_t pixel, std::ptrdiff_t pixels) {
  if constexpr (P > 1) {
    if (pixels < P) return channel_window_lanes<T, P - 1, C>(s, pixel, pixels);
  }
  for (std::ptrdiff_t lane = 0; lane < s.count; lane += Simd<T>::kLanes)
    channel_window_block<T, P, C>(s, pixel, lane);
}

// In as few tiles as can be, of nearly equal size.
template <class T, int C>
void channel_window_tiles(const windrow::ChannelWindow<T>& s) {
  constexpr std::ptrdiff_t kMost = window_pixels(C);
  const std::ptrdiff_t tiles = (s.pixels + kMost - 1) / kMost;
  for (std::ptrdiff_t t = 0; t < tiles; ++t) {
    const std::ptrdiff_t first = s.pixels * t / tiles, end = s.pixels * (t + 1) / tiles;
    channel_window_lanes<T, kMost, C>(s, first, end - first);
  }
}

template <class T>
bool channel_window(const windrow::ChannelWindow<T>& s) {
  if constexpr (kVectorRegisters == 32) {  // with half of them three taps gain nothing
    if (s.columns == 3) return channel_window_tiles<T, 3>(s), true;
  }
  if (s.columns == 5) return channel_window_tiles<T, 5>(s), true;
  if (s.columns == 7) return channel_window_tiles<T, 7>(s), true;
  return false;
}

}  // namespace
