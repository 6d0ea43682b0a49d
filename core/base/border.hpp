// What stands beyond the edges of an image.
#pragma once

#include "base/types.hpp"

namespace windrow {

// The modes of numpy.pad of these names, of which all but the first repeat pixels; numbered as in borders.py.
enum class Border { kConstant, kReflect, kEdge, kWrap };

// The pixel of an axis of `size` pixels that stands at a position, which may lie many times the size outside;
// -1 where a constant does, and on an axis without pixels. Inside the image nothing is divided.
constexpr Index border_position(Border border, Index position, Index size) {
  if (0 <= position && position < size) return position;
  if (border == Border::kConstant || size <= 0) return -1;
  if (border == Border::kEdge) return position < 0 ? 0 : size - 1;
  // A reflection goes there and back again without repeating the ends.
  const Index period = border == Border::kReflect && size > 1 ? 2 * (size - 1) : size;
  const Index place = (position % period + period) % period;
  return place < size ? place : period - place;
}

}  // namespace windrow
