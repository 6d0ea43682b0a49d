// Where Winograd's tiles lie along an axis of pixels.
#pragma once

#include <algorithm>

#include "pack/panels.hpp"

namespace windrow {

// Under a dilation every dilation-th pixel sees every dilation-th position of the source and no other: such a
// phase has windows without dilation, and tiles of its own from its first pixel on. Phases follow one
// another, the longer ones first; without dilation there is one.
class TileAxis {
 public:
  TileAxis(const PixelAxis& axis, Index tile)
      : tile_(tile),
        step_(axis.tap[1] - axis.tap[0]),
        pixels_(axis.count / step_),
        longer_(axis.count % step_),
        tiles_(ceil_div(pixels_, tile)),
        longer_tiles_(ceil_div(pixels_ + 1, tile)) {}

  Index step() const { return step_; }  // from pixel to pixel of a phase
  Index tiles() const { return longer_ * longer_tiles_ + (step_ - longer_) * tiles_; }
  Index phases() const { return pixels_ == 0 ? longer_ : step_; }  // that have tiles

  struct Place {
    Index pixel;   // the first one of a tile
    Index pixels;  // of its phase, from this one on
  };
  Place place(Index tile) const {
    const Index longer = longer_ * longer_tiles_;
    if (tile < longer) return place(tile / longer_tiles_, tile % longer_tiles_, pixels_ + 1);
    return place(longer_ + (tile - longer) / tiles_, (tile - longer) % tiles_, pixels_);
  }

 private:
  Place place(Index phase, Index tile, Index pixels) const {
    return {.pixel = phase + tile * tile_ * step_, .pixels = pixels - tile * tile_};
  }

  Index tile_, step_;
  Index pixels_, longer_;  // of a phase, and phases that have one more
  Index tiles_, longer_tiles_;
};

}  // namespace windrow
