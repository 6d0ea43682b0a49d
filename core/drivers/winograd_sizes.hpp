// Where Winograd's transformed tiles lie in memory, and the buffers on their way.
#pragma once

#include <algorithm>

#include "base/types.hpp"
#include "drivers/winograd.hpp"
#include "drivers/winograd_batches.hpp"

namespace windrow {

// In elements.
struct WinogradSizes {
  Index side, points, row;  // of one term's or one result row's tiles
  Index tiles_point, sums_point;
  Index strip_row, edges, strip;  // `edges`: where those of a strip begin
  Index out_row, out;

  WinogradSizes(Index terms, const WinogradBlocks& b, const Tile& kernel) {
    constexpr Index kPad = 48;  // between points, so that they do not share sets of the cache
    side = b.tile + 2;
    points = side * side;
    // The last vector of a run of tiles may spill over the block's end. Lines are odd in number, so that rows
    // spread over the sets of the caches.
    const Index line = together(kernel);
    row = (ceil_div(b.tiles + std::max(kernel.lanes, line), line) | 1) * line;
    tiles_point = terms * row + kPad;
    sums_point = b.rows * row + kPad;
    strip_row = kSegmentTiles * b.tile + 2 * kernel.lanes;
    edges = side * strip_row + kernel.lanes;
    strip = edges + 2 * side * kBatchTiles;
    out_row = kSegmentTiles * b.tile + line;  // no power of two: rows would share sets of the cache
    out = b.tile * out_row + line;
  }

  // Channels, or rows of the result, that are turned over at a time where they lie side by side in memory: a
  // cache line of them.
  static Index together(const Tile& kernel) { return kLine / kernel.bytes; }

  Index tiles() const { return points * tiles_point + row; }
  Index sums() const { return points * sums_point + row; }

 private:
  static constexpr Index kLine = 64;  // bytes
};

}  // namespace windrow
