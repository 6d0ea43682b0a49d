// The planes of all images, one for each channel, as pieces of work, and their rows.
#pragma once

#include <algorithm>

#include "base/parallel.hpp"
#include "drivers/packed_image.hpp"

namespace windrow {

// The axis before the last one: where a shape has none, a single position of a single tap.
struct RowAxis {
  WindowAxis axis;
  Index image = 0;              // bytes from pixel to pixel ...
  Index tap = 0, position = 0;  // ... and from one to the next in the columns

  RowAxis(const PatchShape& shape, const Index* x_strides, const Index* cols_strides) {
    if (shape.rank() < 2) return;
    axis = shape.axes.front();
    image = x_strides[2];
    tap = cols_strides[shape.tap(0)];
    position = cols_strides[shape.position(0)];
  }
};

// Some of an image's planes.
struct Planes {
  Index image, first, count;
};

// body(planes) for pieces of some 256 KiB of columns, about 20 us. Images whose planes lie one after another,
// in the columns and in the image itself, are one of many planes.
template <class Body>
void for_planes(const RunContext& context, const PatchShape& shape, Index plane_columns,
                const Index* x_strides, const Index* cols_strides, Body&& body) {
  constexpr Index kColumnsPerPiece = Index{256} << 10;
  const bool together =
      cols_strides[0] == shape.c * cols_strides[1] && x_strides[0] == shape.c * x_strides[1];
  const Index images = together ? 1 : shape.n, planes = together ? shape.n * shape.c : shape.c;
  const Index some = std::clamp<Index>(kColumnsPerPiece / plane_columns, 1, planes);
  const Index pieces = ceil_div(planes, some);
  parallel_for(context, images * pieces, [&](Index piece) {
    const Index first = piece % pieces * some;
    body(Planes{.image = piece / pieces, .first = first, .count = std::min(some, planes - first)});
  });
}

}  // namespace windrow
