// Depthwise windows over channels-last memory: lanes run along the channels, so nothing is packed or turned.
// Four pixels share each vector of weights; single ones take eight vectors at once, so that either way eight
// sums hide the latency of the multiply-add. Bound by the loads of x: one for each multiply-add.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"
#include "kernels/stencil.hpp"

namespace {

// P pixels of V vectors from a lane on; the last vector has `last` lanes, fewer than all only where kPartial.
template <class T, int P, int V, bool kPartial>
void channel_block(const windrow::Channels<T>& s, std::ptrdiff_t pixel, std::ptrdiff_t lane,
                   std::ptrdiff_t last) {
  using S = Simd<T>;
  const auto load = [last](const T* p, int v) {
    return kPartial && v == V - 1 ? FirstLanes<T>::load(p + v * S::kLanes, last) : S::load(p + v * S::kLanes);
  };
  T* const y = s.y + pixel * s.y_pixel + lane;
  bool add_to_y = s.accumulate;
  std::ptrdiff_t k = 0;
  do {
    const std::ptrdiff_t end = s.taps - k < windrow::kChunk ? s.taps : k + windrow::kChunk;
    typename S::V sum[P][V];
    WINDROW_UNROLL
    for (int p = 0; p < P; ++p) {
      WINDROW_UNROLL
      for (int v = 0; v < V; ++v) sum[p][v] = S::zero();
    }
    for (; k < end; ++k) {
      const windrow::ChannelTap<T> tap = s.tap[k];
      const T* const w = tap.w + lane;
      const T* x = tap.x + pixel * tap.pixel + lane;
      typename S::V factor[V];
      WINDROW_UNROLL
      for (int v = 0; v < V; ++v) factor[v] = load(w, v);
      WINDROW_UNROLL
      for (int p = 0; p < P; ++p, x += tap.pixel) {
        WINDROW_UNROLL
        for (int v = 0; v < V; ++v) sum[p][v] = S::fma(factor[v], load(x, v), sum[p][v]);
      }
    }
    WINDROW_UNROLL
    for (int p = 0; p < P; ++p) {
      T* const to = y + p * s.y_pixel;
      WINDROW_UNROLL
      for (int v = 0; v < V; ++v) {
        if (add_to_y) sum[p][v] = S::add(load(to, v), sum[p][v]);
        if (s.bias && k == s.taps) sum[p][v] = S::add(sum[p][v], load(s.bias + lane, v));
        if (kPartial && v == V - 1) {
          FirstLanes<T>::store(to + v * S::kLanes, sum[p][v], last);
        } else {
          S::store(to + v * S::kLanes, sum[p][v]);
        }
      }
    }
    add_to_y = true;
  } while (k < s.taps);
}

// The lanes from `lane` on, in V vectors at a time, the rest in fewer.
template <class T, int P, int V>
void channel_lanes(const windrow::Channels<T>& s, std::ptrdiff_t pixel, std::ptrdiff_t lane) {
  constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes;
  for (; s.count - lane >= V * kLanes; lane += V * kLanes)
    channel_block<T, P, V, false>(s, pixel, lane, kLanes);
  if constexpr (V > 1) {
    channel_lanes<T, P, V / 2>(s, pixel, lane);
  } else if (lane < s.count) {
    channel_block<T, P, 1, true>(s, pixel, lane, s.count - lane);
  }
}

template <class T>
void channels(const windrow::Channels<T>& s) {
  std::ptrdiff_t pixel = 0;
  for (; pixel + 4 <= s.pixels; pixel += 4) channel_lanes<T, 4, 2>(s, pixel, 0);
  for (; pixel < s.pixels; ++pixel) channel_lanes<T, 1, 8>(s, pixel, 0);
}

}  // namespace
