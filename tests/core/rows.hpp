// Rows of operands with gaps between them.
#pragma once

#include "cases.hpp"

namespace seeded {

using windrow::Index;

// Rows of `width` elements, `row` apart, in memory that ends with the last one; gaps are not to be touched.
template <class T>
struct Rows {
  Index rows, width, row;
  Guarded<T> memory;

  Rows(Draw& draw, Index r, Index w, bool filled, Index most_gap = 5, Index least_gap = 0)
      : rows(r),
        width(w),
        row(w + draw.number(least_gap, most_gap)),
        memory(r > 0 ? (r - 1) * row + w : 0, draw.chance(70)) {
    for (T& value : memory) value = untouchable<T>();
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; filled && j < width; ++j) at(i, j) = small<T>(draw);
  }
  T& at(Index i, Index j) { return memory[i * row + j]; }
};

// Whether nothing but the rows has changed since `before`.
template <class T>
void expect_gaps(const std::vector<T>& before, Rows<T>& now) {
  for (Index i = 0; i < now.memory.size(); ++i)
    if (i % now.row >= now.width)
      expect(same_bytes(before[static_cast<std::size_t>(i)], now.memory[i]), "written between rows");
}

}  // namespace seeded
