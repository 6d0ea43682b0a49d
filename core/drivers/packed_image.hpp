// A box of an image in scratch memory, in an order of its own: how unfold and fold bring the image's side of
// a transpose next to the columns' side. Each pixel is moved once for all the taps that use it.
#pragma once

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/border.hpp"
#include "base/checked.hpp"
#include "base/parallel.hpp"
#include "base/workspace.hpp"
#include "drivers/box.hpp"
#include "drivers/streamed.hpp"

namespace windrow {

// Images (n, c, axes[i].size) against columns (n, c, axes[i].kernel, axes[i].out).
struct PatchShape {
  Index n = 0, c = 0;
  std::vector<WindowAxis> axes;

  int rank() const { return static_cast<int>(axes.size()); }
  int image_axes() const { return 2 + rank(); }       // n, c, spatial
  int column_axes() const { return 2 + 2 * rank(); }  // n, c, taps, positions
  int tap(int i) const { return 2 + i; }
  int position(int i) const { return 2 + rank() + i; }
  bool holds() const {
    return holds_positions(axes) && holds_product({n, c}, axes, {&WindowAxis::size}) &&
           holds_product({n, c}, axes, {&WindowAxis::kernel, &WindowAxis::out});
  }
};

// The context for a problem with elements of so many bytes: one thread if waking another would take as long.
RunContext sized_context(const PatchShape& shape, Index item, const RunContext& context);

// Columns, or images, of so many bytes do not fit the caches anyway: they are written past them.
inline constexpr Index kPastCaches = Index{16} << 20;

struct Range {
  Index low, high;
  Index size() const { return high - low; }
};
// Which of `count` positions, `step` pixels apart from the pixel `first` on, fall on one of `size` pixels.
inline Range positions_inside(Index first, Index step, Index size, Index count) {
  const Index low = first < 0 ? std::min(count, ceil_div(-first, step)) : 0;
  return {low, std::max(low, std::min(count, ceil_div(size - first, step)))};
}

using ImageVector = std::array<Index, 2 + kMaxSpatial>;
using ColumnVector = std::array<Index, kMaxAxes>;

// Bytes of a row from which on it is worth spreading rows over the sets of the cache.
inline constexpr Index kSpreadFrom = 512;

// One value per image axis for a box: coordinate u of axis a is pixel start[a] + u of the image, which may
// lie in the padding.
//
// In scratch memory, coordinate u lies at u * stride[a]; but on the innermost axis, if `phases` > 1,
// coordinates are sorted by t % phases, where t = u + shift: u lies at (t % phases) * phase_stride + t /
// phases * item. A step of `phases` pixels (a window's stride, or a dilation) is then a step of one item.
struct PackedImage {
  int axes = 0;
  ImageVector start, count, stride;  // of `axes` entries
  int inner = 0;                     // the innermost axis
  Index phases = 1, shift = 0, phase_stride = 0;
  // Strides from so many bytes on are odd multiples of a cache line, longer than what they stride over.
  Index spread_from = INT64_MAX;
  Border border = Border::kConstant;
  Index item = 1, bytes = 0;

  // Sets strides and bytes for axes from outermost to innermost.
  void arrange(const int* order, Index item_bytes);
  Index offset(int axis, Index u) const;
};

// Sorts a handful of axes; equal ones keep their order. (std::stable_sort allocates.)
template <class Before>
void sort_axes(int* axes, int count, Before before) {
  for (int i = 1; i < count; ++i)
    for (int j = i; j > 0 && before(axes[j], axes[j - 1]); --j) std::swap(axes[j - 1], axes[j]);
}

// Memory for a box, around which kernels may read.
inline char* take_packed(Scratch& scratch, Index bytes) {
  return scratch.take<char>(kOverread + bytes + kOverread) + kOverread;
}

// Fills what of a box with a constant border lies outside the image; what is inside may be filled too.
void fill_border(const PatchKernels& kernels, const PackedImage& box, const ImageVector& size,
                 const char* value, char* scratch);
// Copies the pixels of the box from an image of shape `size` to scratch memory, also those that a border
// repeats; what a constant border takes up is left as it is.
void pack(const PatchKernels& kernels, const PackedImage& box, const ImageVector& size, const char* image,
          const Index* image_strides, char* scratch);
// Both at once where rows of the image, and what is beside them, go to rows of the box: false, and nothing is
// done, where they do not.
bool pack_rows(const PatchKernels& kernels, const PackedImage& box, const ImageVector& size,
               const char* value, const char* image, const Index* image_strides, char* scratch);
// Copies a box inside the image back, past the caches if there is a stream; then up to kOverread bytes before
// the scratch memory and after it may be read.
void unpack(const PatchKernels& kernels, const PackedImage& box, const char* scratch, char* image,
            const Index* image_strides, Streamed* stream);

}  // namespace windrow
