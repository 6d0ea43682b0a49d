// The planes in which Winograd's tiles lie.
#pragma once

#include <optional>

#include "pack/panels.hpp"

namespace windrow {

// Tiles lie along the last two axes of a grid. Each position of the axes before them, the outer ones, is a
// plane of tiles by itself, and each of their taps sees another plane of the source: more terms of the sum.
class TilePlanes {
 public:
  explicit TilePlanes(const PixelGrid& grid) : grid_(grid), outer_(grid.axes.size() - 2) {
    for (std::size_t i = 0; i < outer_; ++i) {
      per_image_ *= grid.axes[i].count;
      taps_ *= static_cast<Index>(grid.axes[i].tap.size());
    }
  }

  const PixelAxis& down() const { return grid_.axes[outer_]; }
  const PixelAxis& across() const { return grid_.axes[outer_ + 1]; }
  Index per_image() const { return per_image_; }
  Index taps() const { return taps_; }  // of the outer axes

  // body(outer axis, position) for a plane, counted over all images. Returns its image.
  template <class Body>
  Index each_position(Index plane, Body&& body) const {
    for (std::size_t i = outer_; i-- > 0;) {
      const Index count = grid_.axes[i].count;
      body(i, plane % count);
      plane /= count;
    }
    return plane;
  }

  // Offset of the first pixel of a plane.
  Index target(Index plane) const {
    Index offset = 0;
    const Index image = each_position(
        plane, [&](std::size_t i, Index position) { offset += position * grid_.axes[i].target_stride; });
    return offset + image * grid_.target_image;
  }

  // Offset of the plane of the source that a tap of the outer axes sees, or nothing beyond a constant border.
  std::optional<Index> source(Index plane, Index tap) const {
    Index offset = 0;
    bool inside = true;
    const Index image = each_position(plane, [&](std::size_t i, Index position) {
      const PixelAxis& axis = grid_.axes[i];
      const auto taps = static_cast<Index>(axis.tap.size());
      const Index at = axis.at(position * axis.step + axis.tap[static_cast<std::size_t>(tap % taps)]);
      tap /= taps;
      inside = inside && at >= 0;
      offset += at * axis.source_stride;
    });
    if (!inside) return std::nullopt;
    return offset + image * grid_.source_image;
  }

 private:
  const PixelGrid& grid_;
  const std::size_t outer_;
  Index per_image_ = 1, taps_ = 1;
};

}  // namespace windrow
