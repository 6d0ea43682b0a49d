// Whether a product over windows is computed by Winograd's tiles: a pure function of one image and of the
// target.
#pragma once

#include <optional>

#include "drivers/winograd.hpp"
#include "plan/costs.hpp"

namespace windrow {

inline constexpr Index kFewestChannels = 16;  // below, the direct sum is exact on integers: a promise
inline constexpr double kFewestFlops = 4e6;   // less is over before it is worth a transform

// What one image takes by tiles of `tile` x `tile`, weights' transform included unless it is kept.
Counts count_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels, Index tile,
                      const Tile& kernel, bool kept);

// The least that the direct sum of one image takes where all is in C order, in seconds on one thread. The
// algorithm decides about bits: memory formats, batches and threads have no say in it.
double predicted_direct(const PixelGrid& grid, Index groups, Index rows, Index channels, const Tile& kernel,
                        bool kept);

// The blocks for tiles of `tile` x `tile` on one thread, or nothing where they do not fit its 8 MiB.
std::optional<WinogradBlocks> winograd_blocks(const PixelGrid& grid, Index rows, Index channels, Index tile,
                                              const Tile& kernel);

// The same for several threads, each of which has some blocks. Where there are too few large ones, or weights
// come from afar, the threads have parts of each: of its rows as long as they are worth a piece, and of its
// tiles for more threads than these suffice for. No thread takes more memory.
WinogradBlocks shared_out(const WinogradBlocks& whole, const PixelGrid& grid, Index groups, Index rows,
                          Index channels, const Tile& kernel, Index threads);

// Whether "auto" may take tiles at all: the problem is large enough, and no promise stands against it.
bool may_take_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels);

// What "auto" takes: the fastest by the costs, if it is not the direct sum.
std::optional<WinogradBlocks> choose_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                              const Tile& kernel, bool kept);

// The most channels of a group for which there are tiles.
Index most_winograd_channels(const PixelGrid& grid, Index rows, const Tile& kernel);

// What "winograd" takes: the faster of the two tiles.
std::optional<WinogradBlocks> force_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                             const Tile& kernel, bool kept);

}  // namespace windrow
