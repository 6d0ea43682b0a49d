// Small matrices turned over: image planes into channels-last strips and back.
#pragma once

#include "kernels/contract.hpp"

namespace {

template <class T>
void transpose(const windrow::Transpose<T>& t) {
  // Blocks of a cache line square: each line of the source is read once and each line of the target written
  // once.
  constexpr std::ptrdiff_t kBlock = 64 / sizeof(T);
  for (std::ptrdiff_t j0 = 0; j0 < t.columns; j0 += kBlock) {
    const std::ptrdiff_t j1 = j0 + kBlock < t.columns ? j0 + kBlock : t.columns;
    for (std::ptrdiff_t i0 = 0; i0 < t.rows; i0 += kBlock) {
      const std::ptrdiff_t i1 = i0 + kBlock < t.rows ? i0 + kBlock : t.rows;
      for (std::ptrdiff_t i = i0; i < i1; ++i)
        for (std::ptrdiff_t j = j0; j < j1; ++j)
          t.target[i * t.target_row + j] = t.source[j * t.source_row + i];
    }
  }
}

}  // namespace
