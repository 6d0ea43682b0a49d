// Whether a product over windows is computed by Winograd's tiles: a pure function of one image and of the
// target.
#pragma once

#include <optional>

#include "drivers/winograd.hpp"

namespace windrow {

// Predicted cycles for one image, weights' transform included unless it is kept.
struct WinogradCosts {
  double direct = 0, tile2 = 0, tile4 = 0;
};
WinogradCosts winograd_costs(const PixelGrid& grid, Index groups, Index rows, Index channels,
                             const Tile& kernel, bool kept);

// The blocks for tiles of `tile` x `tile`, or nothing where one thread's share does not fit its 8 MiB.
std::optional<WinogradBlocks> winograd_blocks(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                              Index tile, const Tile& kernel, Index threads);

// What "auto" takes: the fastest by the costs, if it is not the direct sum.
std::optional<WinogradBlocks> choose_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                              const Tile& kernel, bool kept, Index threads);

// The most channels of a group for which there are tiles.
Index most_winograd_channels(const PixelGrid& grid, Index rows, const Tile& kernel);

// What "winograd" takes: the faster of the two tiles.
std::optional<WinogradBlocks> force_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                             const Tile& kernel, bool kept, Index threads);

}  // namespace windrow
