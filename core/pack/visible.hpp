// Which taps of a window see the image itself, pixel by pixel: under a long dilation many see nothing but the
// zeros around it.
#pragma once

#include <vector>

#include "pack/panels.hpp"

namespace windrow {

// Pixels of one axis that see the same taps, by their numbers.
struct VisibleSpan {
  Index first, count;
  Extents taps;
};
std::vector<VisibleSpan> visible_spans(const PixelAxis& axis);

// Pixels that see the same taps, as a grid of windows of these taps alone.
struct VisiblePart {
  PixelGrid grid;
  Extents taps;      // the numbers of its taps among all
  Index target = 0;  // offset of the first pixel
};

// The share of all (pixel, tap) pairs that lie inside the image; 1 where zeros are not what is beyond.
double visible_share(const PixelGrid& grid);
std::vector<VisiblePart> visible_parts(const PixelGrid& grid);

}  // namespace windrow
