// The pixels of a block in boxes, each with the taps that its sums have. A tap that sees nothing but the
// zeros around the image adds zero to a sum, as long as its factors are finite: a box leaves out those which
// none of its pixels sees inside.
#pragma once

#include <vector>

#include "pack/pixel_strips.hpp"
#include "pack/visible.hpp"

namespace windrow {

struct PixelBox {
  Index row = 0, rows, column = 0, columns;                   // in the block
  const Extents *row_taps = nullptr, *column_taps = nullptr;  // by their numbers, of the last two axes
  Index pixels() const { return rows * columns; }
};

// What is done with the pixels of a block.
struct PixelWork {
  Index images;                            // in which the block stands, all of them passed over together
  Index tile_pixels;                       // at most
  Index channels, filters, panels, lanes;  // of a piece of work
};

class PixelBoxes {
 public:
  explicit PixelBoxes(const PixelGrid& grid);
  PixelBoxes(const PixelBoxes&) = delete;  // boxes point into it
  PixelBoxes& operator=(const PixelBoxes&) = delete;

  static constexpr Index kMost = 16;  // of a block

  // As many boxes as save time, one of which has all taps.
  std::vector<PixelBox> of(const PixelBlock& block, const PixelWork& work) const;

  // The numbers of a box's taps among all, in order, and how many they are.
  Index taps(const PixelBox& box, Index* numbers) const;
  Index tap_count(const PixelBox& box) const;

 private:
  Index outer_taps_ = 1;                     // of all axes but the last two
  std::vector<VisibleSpan> rows_, columns_;  // of pixels
  Extents row_taps_, column_taps_;           // all of them
};

}  // namespace windrow
