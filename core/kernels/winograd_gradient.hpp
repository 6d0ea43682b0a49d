// Winograd's transforms for the weight gradient of 3 x 3 taps over tiles of 4 x 4 results (docs/numerics.md):
// the adjoint of the forward pass, with the same matrices. Lanes are channels; every lane is computed alone.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/winograd.hpp"

namespace {

template <class T, int kFrom, class Transform>
bool winograd_channels(const windrow::WinogradChannels<T>& p, const Transform& transform) {
  using S = Simd<T>;
  using V = typename S::V;
  constexpr int kSide = Winograd<T, 4>::kSide;
  ZeroTimes<T> zeros;
  for (std::ptrdiff_t tile = 0; tile < p.tiles; ++tile) {
    for (std::ptrdiff_t i = 0; i < p.count; i += S::kLanes) {
      const T* source = p.source + tile * p.source_tile + i;
      T* target = p.target + tile * p.target_tile + i;
      transform_both_ways<T, kFrom, kSide>(
          [&](int r, int c) { return S::load(source + r * p.source_row + c * p.source_column); }, transform,
          [&](int r, int c, V v) {
            S::store(target + (r * kSide + c) * p.target_point, v);
            zeros.add(c, v);
          });
    }
  }
  return all_zero<T>(zeros.total(), S::kLanes);
}

template <class T>
bool winograd_pixels(const windrow::WinogradChannels<T>& p) {
  return winograd_channels<T, 6>(p, [](const auto& d, auto& v) { Winograd<T, 4>::input(d, v); });
}

template <class T>
bool winograd_results(const windrow::WinogradChannels<T>& p) {
  return winograd_channels<T, 4>(p, [](const auto& y, auto& v) { Winograd<T, 4>::results(y, v); });
}

template <class T>
bool winograd_taps(const windrow::WinogradTaps<T>& p) {
  using S = Simd<T>;
  using V = typename S::V;
  constexpr int kSide = Winograd<T, 4>::kSide;
  V zeros = S::zero(), last = S::zero();  // last: of a vector that is not all channels
  for (std::ptrdiff_t i = 0; i < p.count; i += S::kLanes) {
    ZeroTimes<T> here;
    transform_both_ways<T, kSide, 3>(
        [&](int r, int c) { return S::load(p.source + (r * kSide + c) * p.source_point + i); },
        [](const V(&m)[kSide], V(&w)[3]) { Winograd<T, 4>::taps(m, w); },
        [&](int r, int c, V v) {
          S::store(p.target + (r * 3 + c) * p.target_tap + i, v);
          here.add(c, v);
        });
    (i + S::kLanes <= p.count ? zeros : last) += here.total();
  }
  return all_zero<T>(zeros, S::kLanes) && all_zero<T>(last, p.count % S::kLanes);
}

}  // namespace
