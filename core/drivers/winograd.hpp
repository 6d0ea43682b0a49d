// Winograd convolution: windows whose last two axes have 3 taps and step 1, as one product per interpolation
// point. A term is a channel seen by one tap of the axes before these.
//
//   source --input transform--> tiles[point][term][tile] --products--> sums[point][row][tile] --> target
//   factor --weights' transform--> [group][point][row][term], once per call, shared by all threads
//
// Every tile is computed alone and depends on its image only, so blocks and threads change no bit. A tile
// that comes out non-finite is not kept: the direct sum takes its place. docs/numerics.md has the plan.
#pragma once

#include "base/parallel.hpp"
#include "dispatch/targets.hpp"
#include "drivers/window_product.hpp"

namespace windrow {

// How a product is computed by tiles. Only `tile` changes bits.
struct WinogradBlocks {
  Index tile = 0;   // results of a tile, each way: 2 or 4
  Index tiles = 0;  // of a piece of work, a multiple of the lanes
  Index rows = 0;   // whose sums are held at a time, a multiple of MR
  // Where there are more parts than one, all threads transform the tiles together, and each part of the rows
  // and of the tiles is summed as a piece of its own.
  Index row_parts = 1, lane_parts = 1;

  bool together() const { return row_parts * lane_parts > 1; }
};

// Why there is no Winograd form, or null if there is one.
const char* why_no_winograd(const PixelGrid& grid);

// Terms of each sum: the channels of a group, for each tap of the axes before the last two.
Index winograd_terms(const PixelGrid& grid, Index channels);
// Tiles of one image, those of all planes and all phases of a dilation.
Index winograd_tiles(const PixelGrid& grid, Index tile);
Index winograd_pieces(const PixelGrid& grid, Index groups, const WinogradBlocks& blocks);
// Roundings on the way of a term into a result, in the bound of docs/numerics.md.
Index winograd_roundings(Index terms);
// Elements of the transformed weights of all groups.
Index winograd_weights(const PixelGrid& grid, Index groups, Index rows, Index channels, Index tile,
                       const Tile& kernel);
// Bytes that all threads share, and of scratch that each takes besides, for the weights' transform or for a
// piece.
Index winograd_shared(const PixelGrid& grid, Index channels, const WinogradBlocks& blocks,
                      const Tile& kernel);
Index winograd_scratch(const PixelGrid& grid, Index channels, const WinogradBlocks& blocks,
                       const Tile& kernel);

// Transforms the factors of the problem into `weights`. False where a transformed value is not finite: the
// direct sum must do the whole problem then. Prepared weights serve every problem that differs in its images
// only.
template <class T>
bool transform_weights(const WindowProduct<T>& problem, Index tile, T* weights, const Target& target,
                       const RunContext& context);

template <class T>
void run_winograd(const WindowProduct<T>& problem, const WinogradBlocks& blocks, const T* weights,
                  const Target& target, const RunContext& context);

}  // namespace windrow
