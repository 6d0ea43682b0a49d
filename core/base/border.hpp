// Pixels beyond the edges of an image in runs.
#pragma once

#include "base/types.hpp"

namespace windrow {

// Positions one pace apart whose values are pixels one `step` apart, from `pixel` on; or a constant: -1 and
// 0.
struct BorderRun {
  Index count, pixel, step;
};

// The longest run that begins at a position, of `most` at most.
constexpr BorderRun border_run(Border border, Index position, Index pace, Index most, Index size) {
  const Index pixel = repeated_position(position, size, border);
  const bool inside = 0 <= position && position < size;
  if (!inside && (border == Border::kConstant || border == Border::kEdge || size <= 1))
    return {position < 0 ? std::min(most, ceil_div(-position, pace)) : most, pixel, 0};
  const bool back = !inside && border == Border::kReflect &&
                    repeated_position(position, 2 * (size - 1), Border::kWrap) != pixel;
  if (back) return {std::min(most, pixel / pace + 1), pixel, -pace};
  return {std::min(most, ceil_div(size - pixel, pace)), pixel, pace};
}

}  // namespace windrow
