// Winograd's tiles as they are transformed: in segments, some of them together.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "drivers/tile_axis.hpp"
#include "drivers/tile_planes.hpp"

namespace windrow {

inline constexpr Index kBatchTiles = 32;    // of several segments that are transformed at a time ...
inline constexpr Index kSegmentTiles = 64;  // ... and of one alone

// Tiles of one row of tiles, side by side.
struct TileSegment {
  Index plane;                   // images times planes of one
  Index target;                  // offset of the plane's first pixel
  TileAxis::Place down, across;  // of the first tile
  Index count;
  Index lane;  // of the first tile in the block
};

// Segments whose tiles are transformed together.
struct TileBatch {
  Index lane = 0, tiles = 0, count = 0;
  TileSegment segments[kBatchTiles];
  std::span<const TileSegment> all() const { return {segments, static_cast<std::size_t>(count)}; }
};

class TileBatches {
 public:
  TileBatches(const PixelGrid& grid, Index tile)
      : tile_(tile), planes_(grid), down_(planes_.down(), tile), across_(planes_.across(), tile) {}

  const TilePlanes& planes() const { return planes_; }
  const TileAxis& down() const { return down_; }
  const TileAxis& across() const { return across_; }
  Index per_plane() const { return down_.tiles() * across_.tiles(); }
  Index per_image() const { return planes_.per_image() * per_plane(); }

  // body(segment) for the tiles [first, first + count), counted over all images.
  template <class Body>
  void each_segment(Index first, Index count, Body&& body) const {
    for (Index lane = 0; lane < count;) {
      const Index tile = first + lane;
      const TileAxis::Place across = across_.place(tile % across_.tiles());
      const Index some = std::min({ceil_div(across.pixels, tile_), count - lane, kSegmentTiles});
      const Index plane = tile / per_plane();
      body(TileSegment{.plane = plane,
                       .target = planes_.target(plane),
                       .down = down_.place(tile % per_plane() / across_.tiles()),
                       .across = across,
                       .count = some,
                       .lane = lane});
      lane += some;
    }
  }

  // Short segments fill batches, cut where one is full; a long one is a batch by itself.
  template <class Body>
  void each_batch(Index first, Index count, Body&& body) const {
    TileBatch batch;
    const auto finish_batch = [&] {
      if (batch.count > 0) body(std::as_const(batch));
      batch.lane += std::exchange(batch.tiles, 0);
      batch.count = 0;
    };
    each_segment(first, count, [&](TileSegment s) {
      while (s.count > 0) {
        if (s.count > kBatchTiles) finish_batch();
        const Index some = s.count > kBatchTiles ? s.count : std::min(s.count, kBatchTiles - batch.tiles);
        TileSegment& part = batch.segments[batch.count++] = s;
        part.count = some;
        batch.tiles += some;
        if (batch.tiles >= kBatchTiles) finish_batch();
        s.across.pixel += some * tile_ * across_.step();
        s.across.pixels -= some * tile_;
        s.lane += some;
        s.count -= some;
      }
    });
    finish_batch();
  }

 private:
  const Index tile_;
  const TilePlanes planes_;
  const TileAxis down_, across_;
};

}  // namespace windrow
