// The planes in which Winograd's tiles lie, and what is seen from there.
#pragma once

#include <algorithm>
#include <optional>

#include "pack/panels.hpp"

namespace windrow {

inline constexpr Index kTileTaps = 3;  // of a window along either axis of tiles

// What a tile sees in one go of a window: along an axis up to three of its taps, from `first` on.
struct LookAxis {
  Index first, taps;
};
struct Look {
  Index outer;  // tap of the axes before the last two
  LookAxis down, across;
};

// Tiles lie along the last two axes of a grid. Each position of the axes before them, the outer ones, is a
// plane of tiles by itself. A window is cut into 3 x 3 taps in one plane of the source, the last ones along
// an axis fewer: each such look at a channel is a term of the sum.
class TilePlanes {
 public:
  explicit TilePlanes(const PixelGrid& grid)
      : grid_(grid),
        outer_(grid.axes.size() - 2),
        looks_down_(ceil_div(taps_of(down()), kTileTaps)),
        looks_across_(ceil_div(taps_of(across()), kTileTaps)),
        looks_(looks_down_ * looks_across_) {
    for (std::size_t i = 0; i < outer_; ++i) {
      per_image_ *= grid.axes[i].count;
      looks_ *= taps_of(grid.axes[i]);
    }
  }

  const PixelAxis& down() const { return grid_.axes[outer_]; }
  const PixelAxis& across() const { return grid_.axes[outer_ + 1]; }
  Index per_image() const { return per_image_; }
  Index looks() const { return looks_; }

  Look look(Index number) const {
    const auto cut = [](const PixelAxis& axis, Index part) {
      const Index first = part * kTileTaps;
      return LookAxis{.first = first, .taps = std::min(kTileTaps, taps_of(axis) - first)};
    };
    return {.outer = number / looks_across_ / looks_down_,
            .down = cut(down(), number / looks_across_ % looks_down_),
            .across = cut(across(), number % looks_across_)};
  }

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

  // Offset of the plane of the source that a tap of the outer axes leads to, or nothing beyond a constant
  // border.
  std::optional<Index> source(Index plane, Index tap) const {
    Index offset = 0;
    bool inside = true;
    const Index image = each_position(plane, [&](std::size_t i, Index position) {
      const PixelAxis& axis = grid_.axes[i];
      const Index at =
          axis.at(position * axis.step + axis.tap[static_cast<std::size_t>(tap % taps_of(axis))]);
      tap /= taps_of(axis);
      inside = inside && at >= 0;
      offset += at * axis.source_stride;
    });
    if (!inside) return std::nullopt;
    return offset + image * grid_.source_image;
  }

 private:
  static Index taps_of(const PixelAxis& axis) { return static_cast<Index>(axis.tap.size()); }

  const PixelGrid& grid_;
  const std::size_t outer_;
  const Index looks_down_, looks_across_;
  Index looks_, per_image_ = 1;
};

}  // namespace windrow
