#include "drivers/fold_rows.hpp"

#include <algorithm>

#include "base/workspace.hpp"
#include "drivers/fold_numbers.hpp"
#include "drivers/plane_pieces.hpp"

namespace windrow {
namespace {

constexpr auto at(int i) { return static_cast<std::size_t>(i); }

constexpr Index kPlanesAhead = 4;

bool serves(const Fold& p, const PatchKernels& kernels) {
  const PatchShape& shape = p.shape;
  const int rank = shape.rank(), last = rank - 1;
  if (!kernels.fold_rows[p.number] || p.complex_pairs || p.reduction != kAdd || p.divisor || rank > 2)
    return false;
  const WindowAxis& axis = shape.axes[at(last)];
  const Index item = number_bytes(p.number);
  Index image = item * shape.n * shape.c;
  for (const WindowAxis& a : shape.axes) image *= a.size;
  if (rank == 2 && shape.axes[0].size * shape.axes[0].kernel > kMostFoldSources) return false;
  return axis.stride <= 2 && axis.kernel <= kMostFoldTaps && axis.out * item >= kLeastTapRow &&
         ceil_div(axis.size, axis.stride) * item <= kFoldRowBytes &&
         p.cols_strides[shape.position(last)] == item && p.x_strides[2 + last] == item && image < kPastCaches;
}

// The taps of each phase of pixels, from the last one: which of them meet the phase's row, and where.
void list_taps(const WindowAxis& axis, Index tap, Index item, FoldTap* taps, Index* first) {
  Index count = 0;
  for (Index phase = 0; phase < axis.stride; ++phase) {
    first[phase] = count;
    const Index pixels = ceil_div(axis.size - phase, axis.stride);
    for (Index k = axis.kernel; k-- > 0;) {
      const Index place = k * axis.dilation - axis.before - phase;  // of position 0, from the phase's first
      if (place % axis.stride != 0) continue;
      const Index shift = place / axis.stride;
      const Index low = std::clamp<Index>(shift, 0, pixels), high = std::min(pixels, shift + axis.out);
      if (low < high) taps[count++] = {.source = k * tap - shift * item, .first = low, .end = high};
    }
  }
  first[axis.stride] = count;
}

}  // namespace

void list_fold_rows(const WindowAxis& axis, Index tap, Index position, Index* sources, Index* first) {
  Index count = 0;
  for (Index y = 0; y < axis.size; ++y) {
    first[y] = count;
    for (Index k = axis.kernel; k-- > 0;) {
      const Index place = y + axis.before - k * axis.dilation, l = place / axis.stride;
      if (place >= 0 && place % axis.stride == 0 && l < axis.out) sources[count++] = k * tap + l * position;
    }
  }
  first[axis.size] = count;
}

bool fold_rows(const Fold& p, const Target& target, const RunContext& context) {
  const PatchKernels& kernels = *target.patches;
  if (!serves(p, kernels)) return false;
  const PatchShape& shape = p.shape;
  const WindowAxis& last = shape.axes.back();
  const RowAxis row(shape, p.x_strides, p.cols_strides);
  const WindowAxis& first = row.axis;
  const Index item = number_bytes(p.number);
  Scratch scratch;
  auto* sources = scratch.take<Index>(first.size * first.kernel);
  auto* row_first = scratch.take<Index>(first.size + 1);
  list_fold_rows(first, row.tap, row.position, sources, row_first);
  std::array<FoldTap, kMostFoldTaps> taps;
  std::array<Index, 3> tap_first;
  list_taps(last, p.cols_strides[shape.tap(shape.rank() - 1)], item, taps.data(), tap_first.data());
  FoldRows all{.target = p.x,
               .source = p.cols,
               .target_plane = p.x_strides[1],
               .source_plane = p.cols_strides[1],
               .planes = 0,
               .target_row = row.image,
               .rows = first.size,
               .length = last.size,
               .phases = last.stride,
               .sources = sources,
               .row_first = row_first,
               .taps = taps.data(),
               .tap_first = tap_first.data(),
               .ahead = kPlanesAhead * p.cols_strides[1]};
  const Index columns = first.kernel * last.kernel * first.out * last.out * item;
  for_planes(context, shape, columns, p.x_strides, p.cols_strides, [&](const Planes& planes) {
    FoldRows part = all;
    part.planes = planes.count;
    part.target += planes.image * p.x_strides[0] + planes.first * p.x_strides[1];
    part.source += planes.image * p.cols_strides[0] + planes.first * p.cols_strides[1];
    kernels.fold_rows[p.number](part);
  });
  return true;
}

}  // namespace windrow
