// Input gradients where a position sees one tap along an axis: the windows of that axis do not overlap, as in
// patch embeddings, or there is a single one, as in a window as long as a sentence. Such taps are no terms of
// a sum but rows of the product or products of their own (docs/architecture.md).
#pragma once

#include <optional>
#include <vector>

#include "api/conv.hpp"

namespace windrow {

// The gradient as products over the other axes, one for each combination of what the loops count.
struct FoldedGradient {
  struct Loop {
    Index count = 1, w = 0, dy = 0, dx = 0, bias = 0;  // steps, in elements
  };
  ConvShape shape;  // of each product; the folded axes have one tap
  Extents w_strides, dx_strides;
  Index bias_stride = 0;
  Loop first;  // where the loops begin
  std::vector<Loop> loops;
  bool covers_all = true;  // every position of dx is written
  // Where rows lie evenly in w but not in dx: an image's products are made at once, in scratch memory, pixels
  // by rows, and its rows copied from there, numbered by these counts from outside in.
  std::vector<Loop> rows;
};

// Nothing where no axis is to be folded, or where it is faster to make all phases at once, if they may be. It
// looks at one image alone: where there is a single window, sums get other chunks, and so other bits.
std::optional<FoldedGradient> fold_axes(const ConvShape& s, const Index* w_strides, const Index* dy_strides,
                                        const Index* dx_strides, Index bias_stride, bool has_bias,
                                        bool phases_together);

// Copies one image's columns to where they belong.
template <class T>
void scatter_columns(const FoldedGradient& f, const T* columns, ArrayView<T> dx, bool accumulate,
                     const RunContext& context);

// What the zero-extended sum has besides: a weight that is not finite, times a zero outside of dy, is NaN.
template <class T>
void spread_nan(const ConvShape& s, ArrayView<const T> w, ArrayView<T> dx, const RunContext& context);

// Sets every position to its channel's bias, or to zero.
template <class T>
void fill_gradient(const ConvShape& s, BiasView<const T> b, ArrayView<T> dx, const RunContext& context);

}  // namespace windrow
