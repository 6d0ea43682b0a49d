// Columns put back and reduced where windows overlap: the adjoint of unfold, its mean, maximum and minimum.
#pragma once

#include "base/parallel.hpp"
#include "dispatch/targets.hpp"
#include "drivers/packed_image.hpp"

namespace windrow {

// x[n, c, i] = reduction over all (k, l) with l * stride + k * dilation - before = i of cols[n, c, k, l].
//
// Every pixel takes its terms one after another in the row-major order of the window positions l (which is
// the reverse of that of the taps), beginning with the reduction's neutral value: one order for all layouts,
// strides, threads and targets.
struct Fold {
  const PatchShape& shape;
  Number number;       // what the columns consist of
  bool complex_pairs;  // an element is two such numbers
  Reduction reduction;
  const char* cols;
  const Index* cols_strides;
  char* x;
  const Index* x_strides;
  const double* weights;  // one per tap, row-major; for kWeighted
  // Per pixel of one plane, C-ordered, of the type that sums are held in: what to divide by, or only whether
  // it is not 0 (`divide` false). 0 where no window comes: the pixel becomes `uncovered`. Null: all covered.
  const char* divisor;
  bool divide;
  const char* uncovered;  // an element of the result
};

void run_fold(const Fold& problem, const Target& target, const RunContext& context);

}  // namespace windrow
