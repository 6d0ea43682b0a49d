#include "drivers/unfold_rows.hpp"

#include <algorithm>

#include "base/workspace.hpp"

namespace windrow {
namespace {

constexpr auto at(int i) { return static_cast<std::size_t>(i); }

constexpr Index kMostTaps = 4096;
constexpr Index kMostColumns = Index{16} << 20;       // bytes: larger ones are written past the caches
constexpr Index kColumnsPerPiece = Index{256} << 10;  // about 20 us

// The positions of an axis at which a tap falls on a pixel.
struct Inside {
  Index first, end;
};
Inside inside(const WindowAxis& axis, Index tap) {
  const Index origin = tap * axis.dilation - axis.before;  // position 0's pixel
  const Index first = std::min(axis.out, origin < 0 ? ceil_div(-origin, axis.stride) : 0);
  const Index end = origin < axis.size ? std::min(axis.out, ceil_div(axis.size - origin, axis.stride)) : 0;
  return {first, std::max(first, end)};
}

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
         columns < kMostColumns && taps <= kMostTaps;
}

}  // namespace

bool unfold_rows(const Unfold& p, const Target& target, const RunContext& context) {
  const PatchKernels& kernels = *target.patches;
  if (!serves(p, kernels)) return false;
  const PatchShape& shape = p.shape;
  const WindowAxis& last = shape.axes.back();
  const WindowAxis none;
  const bool two = shape.rank() == 2;
  const WindowAxis& first = two ? shape.axes.front() : none;
  Scratch scratch;
  const Index count = first.kernel * last.kernel;
  TapRow* taps = scratch.take<TapRow>(count);
  const Index row_tap = two ? p.cols_strides[shape.tap(0)] : 0, row = two ? p.x_strides[2] : 0;
  const Index tap = p.cols_strides[shape.tap(shape.rank() - 1)];
  for (Index i = 0; i < first.kernel; ++i) {
    for (Index j = 0; j < last.kernel; ++j) {
      const Inside rows = inside(first, i), columns = inside(last, j);
      taps[i * last.kernel + j] = {
          .target = i * row_tap + j * tap,
          .source = (i * first.dilation - first.before) * row + (j * last.dilation - last.before) * p.item,
          .first_row = rows.first,
          .end_row = rows.end,
          .first = columns.first,
          .end = columns.end};
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
              .target_row = two ? p.cols_strides[shape.position(0)] : 0,
              .source_row = first.stride * row,
              .rows = first.out,
              .length = last.out,
              .step = last.stride,
              .item = p.item};
  // Images whose planes lie one after another are one of many planes.
  const bool together =
      p.cols_strides[0] == shape.c * p.cols_strides[1] && p.x_strides[0] == shape.c * p.x_strides[1];
  const Index images = together ? 1 : shape.n, planes = together ? shape.n * shape.c : shape.c;
  const Index some = std::clamp<Index>(kColumnsPerPiece / (count * first.out * last.out * p.item), 1, planes);
  const Index pieces = ceil_div(planes, some);
  parallel_for(context, images * pieces, [&](Index piece) {
    const Index n = piece / pieces, from = piece % pieces * some;
    TapRows part = all;
    part.planes = std::min(some, planes - from);
    part.target += n * p.cols_strides[0] + from * p.cols_strides[1];
    part.source += n * p.x_strides[0] + from * p.x_strides[1];
    kernels.tap_rows(part);
  });
  return true;
}

}  // namespace windrow
