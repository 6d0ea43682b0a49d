// Rows of one plane of the source as windows see them: copied side by side, with what stands beyond its ends.
#pragma once

#include "kernels/contract.hpp"
#include "pack/panels.hpp"

namespace windrow {

// Element j < columns of row r becomes the source at row + r * row_step down and column + j * column_step
// across, or `fill` beyond a constant border, and the rest of `width` zero.
template <class T>
struct PlaneRows {
  T* target;
  Index target_row;
  const T* plane;  // the source at position 0 of both axes
  const PixelAxis &down, &across;
  Index row, row_step, rows;
  Index column, column_step, columns;
  Index width;
  T fill;
  Index ahead;  // from the source to what will be copied next
};

// In order of memory: each row may spill up to a vector over its end.
template <class T>
void copy_rows(const KernelTable<T>& kernels, const PlaneRows<T>& p);

// The same of several channels that lie side by side in the source, each `target_channel` after the one
// before it in the target. Nothing is spilt.
template <class T>
void turn_rows(const KernelTable<T>& kernels, const PlaneRows<T>& p, Index channels, Index target_channel);

}  // namespace windrow
