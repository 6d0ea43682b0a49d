#include "drivers/unfold_rows.hpp"

#include <algorithm>

#include "base/workspace.hpp"
#include "drivers/plane_pieces.hpp"

namespace windrow {
namespace {

constexpr auto at(int i) { return static_cast<std::size_t>(i); }

constexpr Index kMostTaps = 4096;

bool serves(const Unfold& p, const PatchKernels& kernels) {
  const PatchShape& shape = p.shape;
  const int rank = shape.rank(), last = rank - 1;
  if (!kernels.tap_rows || rank > 2 || (p.item != 4 && p.item != 8)) return false;
  const WindowAxis& axis = shape.axes[at(last)];
  Index columns = p.item * shape.n * shape.c, taps = 1;
  for (const WindowAxis& a : shape.axes) {
    if (a.border != Border::kConstant) return false;
    columns *= a.kernel * a.out;
    taps *= a.kernel;
  }
  return axis.stride <= 2 && axis.out * p.item >= kLeastTapRow && axis.out * p.item <= kTapRowBytes &&
         p.cols_strides[shape.position(last)] == p.item && p.x_strides[2 + last] == p.item &&
         columns < kPastCaches && taps <= kMostTaps;
}

}  // namespace

bool unfold_rows(const Unfold& p, const Target& target, const RunContext& context) {
  const PatchKernels& kernels = *target.patches;
  if (!serves(p, kernels)) return false;
  const PatchShape& shape = p.shape;
  const WindowAxis& last = shape.axes.back();
  const RowAxis row(shape, p.x_strides, p.cols_strides);
  const WindowAxis& first = row.axis;
  Scratch scratch;
  const Index count = first.kernel * last.kernel;
  TapRow* taps = scratch.take<TapRow>(count);
  const Index tap = p.cols_strides[shape.tap(shape.rank() - 1)];
  for (Index i = 0; i < first.kernel; ++i) {
    for (Index j = 0; j < last.kernel; ++j) {
      const Index pixel_row = i * first.dilation - first.before, pixel = j * last.dilation - last.before;
      const Range rows = positions_inside(pixel_row, first.stride, first.size, first.out);
      const Range columns = positions_inside(pixel, last.stride, last.size, last.out);
      taps[i * last.kernel + j] = {.target = i * row.tap + j * tap,
                                   .source = pixel_row * row.image + pixel * p.item,
                                   .first_row = rows.low,
                                   .end_row = rows.high,
                                   .first = columns.low,
                                   .end = columns.high};
    }
  }
  TapRows all{.target = p.cols,
              .source = p.x,
              .fill = p.fill,
              .target_plane = p.cols_strides[1],
              .source_plane = p.x_strides[1],
              .planes = 0,
              .taps = taps,
              .count = count,
              .target_row = row.position,
              .source_row = first.stride * row.image,
              .rows = first.out,
              .length = last.out,
              .step = last.stride,
              .item = p.item};
  const Index columns = count * first.out * last.out * p.item;
  for_planes(context, shape, columns, p.x_strides, p.cols_strides, [&](const Planes& planes) {
    TapRows part = all;
    part.planes = planes.count;
    part.target += planes.image * p.cols_strides[0] + planes.first * p.cols_strides[1];
    part.source += planes.image * p.x_strides[0] + planes.first * p.x_strides[1];
    kernels.tap_rows(part);
  });
  return true;
}

}  // namespace windrow
