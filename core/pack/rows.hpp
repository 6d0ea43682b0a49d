// Rows of planes of the source as windows see them: copied side by side, with what stands beyond their ends.
#pragma once

#include "kernels/contract.hpp"
#include "pack/panels.hpp"

namespace windrow {

// Element j < columns of row r becomes the source at row + r * row_step down and column + j * column_step
// across, or `fill` beyond a constant border, and the rest of `width` zero. So in each of some channels.
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
  Index channels = 1, source_channel = 0, target_channel = 0;
};

// Channel by channel in order of memory: each row may spill up to a vector over its end.
template <class T>
void copy_rows(const KernelTable<T>& kernels, const PlaneRows<T>& p);

// The same where channels lie side by side in the source. Nothing is spilt.
template <class T>
void turn_rows(const KernelTable<T>& kernels, const PlaneRows<T>& p);

// The same of a plane that lies beyond a constant border of another axis: nothing is read.
template <class T>
void fill_rows(const PlaneRows<T>& p);

}  // namespace windrow
