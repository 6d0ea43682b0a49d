// Short runs copied side by side: how all taps of a pixel come into one row.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/simd.hpp"

namespace {

// Whole vectors: what is written beyond the end of a run is where the next one begins.
template <class T, bool kOneVector>
void runs_of(const windrow::Runs<T> p) {
  using S = Simd<T>;
  for (std::ptrdiff_t i = 0; i < p.rows; ++i) {
    const T* row = p.source + p.step[i].b;
    T* target = p.target + i * p.target_row;
    for (std::ptrdiff_t r = 0; r < p.runs; ++r, target += p.count) {
      const T* source = row + p.offset[r];
      S::store(target, S::load(source));
      for (std::ptrdiff_t j = S::kLanes; !kOneVector && j < p.count; j += S::kLanes)
        S::store(target + j, S::load(source + j));
    }
  }
}

template <class T>
void runs(const windrow::Runs<T>& p) {
  p.count <= Simd<T>::kLanes ? runs_of<T, true>(p) : runs_of<T, false>(p);
}

}  // namespace
