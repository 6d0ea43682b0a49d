// Depthwise windows of the usual sizes. A block of kRows rows of results shares its loads: each vector of x
// is loaded once and multiplied into every row that it belongs to, in the order of the taps for each of them.
// On AVX-512 the multiply-adds bound it: kRows * taps of them for (rows of x) * kernel_columns loads.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"
#include "kernels/stencil.hpp"

namespace {

template <class T, int KR, int KC, int kStep, int kRows>
void window_block(const windrow::Window<T>& p, const T* x, T* y, std::ptrdiff_t count) {
  using S = Simd<T>;
  typename S::V sum[kRows];
  WINDROW_UNROLL
  for (int r = 0; r < kRows; ++r) sum[r] = S::zero();
  WINDROW_UNROLL
  for (int row = 0; row < (kRows - 1) * kStep + KR; ++row) {
    WINDROW_UNROLL
    for (int j = 0; j < KC; ++j) {
      const typename S::V v = in_register(S::load(x + row * p.x_row + p.shift[j]));
      WINDROW_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const int i = row - r * kStep;
        if (i >= 0 && i < KR) sum[r] = S::fma(S::all(p.w[i * KC + j]), v, sum[r]);
      }
    }
  }
  WINDROW_UNROLL
  for (int r = 0; r < kRows; ++r) {
    T* to = y + r * p.y_row;
    __builtin_prefetch(to + kRows * p.y_row, 1);  // the next block's rows: each miss would stall the stores
    if (count >= S::kLanes) {
      if (p.accumulate) sum[r] = S::add(S::load(to), sum[r]);
      if (p.bias) sum[r] = S::add(sum[r], S::all(*p.bias));
      S::store(to, sum[r]);
    } else {
      if (p.accumulate) sum[r] = S::add(FirstLanes<T>::load(to, count), sum[r]);
      if (p.bias) sum[r] = S::add(sum[r], S::all(*p.bias));
      FirstLanes<T>::store(to, sum[r], count);
    }
  }
}

template <class T, int KR, int KC, int kStep>
void window_rows(const windrow::Window<T>& p) {
  constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes;
  std::ptrdiff_t r = 0;
  for (; r + 4 <= p.rows; r += 4)
    for (std::ptrdiff_t i = 0; i < p.count; i += kLanes)
      window_block<T, KR, KC, kStep, 4>(p, p.x + r * kStep * p.x_row + i, p.y + r * p.y_row + i, p.count - i);
  for (; r < p.rows; ++r)
    for (std::ptrdiff_t i = 0; i < p.count; i += kLanes)
      window_block<T, KR, KC, kStep, 1>(p, p.x + r * kStep * p.x_row + i, p.y + r * p.y_row + i, p.count - i);
}

template <class T, int K>
bool window_of(const windrow::Window<T>& p) {
  static_assert(K * K <= windrow::kChunk);
  if (p.row_step == 1) {
    window_rows<T, K, K, 1>(p);
  } else if (p.row_step == 2) {
    window_rows<T, K, K, 2>(p);
  } else {
    return false;
  }
  return true;
}

template <class T>
bool window(const windrow::Window<T>& p) {
  if (p.kernel_rows != p.kernel_columns) return false;
  if (p.kernel_rows == 3) return window_of<T, 3>(p);
  if (p.kernel_rows == 5) return window_of<T, 5>(p);
  if (p.kernel_rows == 7) return window_of<T, 7>(p);
  return false;
}

}  // namespace
