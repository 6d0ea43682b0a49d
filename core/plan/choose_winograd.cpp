#include "plan/choose_winograd.hpp"

#include <algorithm>

#include "plan/choose.hpp"

namespace windrow {
namespace {

constexpr Index kMostScratch = Index{8} << 20;  // bytes of one thread: a promise
constexpr Index kFewestChannels = 16;           // below, the direct sum is exact on integers: a promise
constexpr double kFewestFlops = 4e6;            // of one image: less is over before it is worth a transform

constexpr Index kWantedTilesBytes = 256 << 10;  // transformed tiles stay in a second-level cache
constexpr Index kSumsBytes = 160 << 10;         // and so do the sums of a block of rows; else more rows
constexpr Index kFarSumsBytes = 1 << 20;        // for each reading of the tiles
constexpr Index kWeightsBytes = 4 << 20;  // weights beyond this come from afar: more tiles for each reading

// Cycles, read off timings of layers with 16 to 512 channels and images of 7 to 224 pixels a side, one image
// and eight, on a Zen 3 core (AVX2, float32).
constexpr double kTermCycles = 0.75;  // to multiply and add one vector, in products of whatever kind
constexpr double kInputCycles = 11;   // to bring in and transform one vector of tiles, for each point
constexpr double kOutputCycles = 10;  // and back
constexpr double kWeightsCycles =
    35;                             // to transform one vector of weights, for each point, and read it again
constexpr double kKeptCycles = 12;  // to read it where it has been transformed before
constexpr double kMargin = 0.9;     // Winograd must be this much faster to be taken

double vectors(Index count, const Tile& kernel) { return static_cast<double>(ceil_div(count, kernel.lanes)); }

double tile_cost(const PixelGrid& grid, Index groups, Index rows, Index channels, Index tile,
                 const Tile& kernel, bool kept) {
  const Index down = ceil_div(grid.axes[0].count, tile), across = ceil_div(grid.axes[1].count, tile);
  const auto points = static_cast<double>((tile + 2) * (tile + 2));
  const auto k = static_cast<double>(rows), c = static_cast<double>(channels);
  const double segments = static_cast<double>(down) * vectors(across, kernel);
  const double product = vectors(down * across, kernel) * k * c * kTermCycles;
  const double transforms = segments * (c * kInputCycles + k * kOutputCycles);
  const double weights = k * vectors(channels, kernel) * (kept ? kKeptCycles : kWeightsCycles);
  return static_cast<double>(groups) * points * (product + transforms + weights);
}

}  // namespace

WinogradCosts winograd_costs(const PixelGrid& grid, Index groups, Index rows, Index channels,
                             const Tile& kernel, bool kept) {
  const double terms = 9 * static_cast<double>(groups * rows * channels);
  return {.direct = vectors(grid.per_image(), kernel) * terms * kTermCycles,
          .tile2 = tile_cost(grid, groups, rows, channels, 2, kernel, kept),
          .tile4 = tile_cost(grid, groups, rows, channels, 4, kernel, kept)};
}

std::optional<WinogradBlocks> winograd_blocks(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                              Index tile, const Tile& kernel, Index threads) {
  const Index points = (tile + 2) * (tile + 2);
  const Index image_tiles = ceil_div(grid.axes[0].count, tile) * ceil_div(grid.axes[1].count, tile);
  const Index all_tiles = std::max<Index>(1, grid.images * image_tiles);
  const Index nr = kernel.columns();
  const Index weights = points * rows * channels * kernel.bytes;
  // As many tiles as the cache holds, but enough to make reading the weights worth it.
  const Index fewest = weights > kWeightsBytes ? 4 : 2;
  Index panels = std::max(fewest, kWantedTilesBytes / (points * channels * kernel.bytes * nr));
  panels = std::min(panels, ceil_div(all_tiles, nr));
  panels = ceil_div(ceil_div(all_tiles, nr), ceil_div(ceil_div(all_tiles, nr), panels));
  WinogradBlocks blocks{.tile = tile, .tiles = panels * nr, .rows = 0, .parts = 1};
  for (;;) {
    const bool near = points * channels * kernel.bytes * blocks.tiles <= 2 * kWantedTilesBytes;
    const Index row_tiles = std::clamp<Index>(
        (near ? kSumsBytes : kFarSumsBytes) / (points * kernel.bytes * blocks.tiles * kernel.rows), 1,
        ceil_div(rows, kernel.rows));
    blocks.rows = row_tiles * kernel.rows;
    if (winograd_scratch(channels, blocks, kernel) <= kMostScratch) break;
    if (blocks.tiles == nr) return std::nullopt;
    blocks.tiles -= nr;
  }
  const Index pieces = groups * ceil_div(all_tiles, blocks.tiles);
  const Index wanted = wanted_pieces(threads);
  if (pieces < wanted) blocks.parts = std::clamp<Index>(wanted / pieces, 1, ceil_div(rows, 64));
  return blocks;
}

Index most_winograd_channels(const PixelGrid& grid, Index rows, const Tile& kernel) {
  Index fits = 0, too_many = kMostScratch;
  while (too_many - fits > 1) {
    const Index channels = fits + (too_many - fits) / 2;
    (winograd_blocks(grid, 1, rows, channels, 2, kernel, 1) ? fits : too_many) = channels;
  }
  return fits;
}

std::optional<WinogradBlocks> force_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                             const Tile& kernel, bool kept, Index threads) {
  const WinogradCosts costs = winograd_costs(grid, groups, rows, channels, kernel, kept);
  if (costs.tile4 < costs.tile2) {
    const auto blocks = winograd_blocks(grid, groups, rows, channels, 4, kernel, threads);
    if (blocks) return blocks;
  }
  return winograd_blocks(grid, groups, rows, channels, 2, kernel, threads);
}

std::optional<WinogradBlocks> choose_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                              const Tile& kernel, bool kept, Index threads) {
  const double flops = 18 * static_cast<double>(groups * rows * channels * grid.per_image());
  if (channels < kFewestChannels || flops < kFewestFlops) return std::nullopt;
  const WinogradCosts costs = winograd_costs(grid, groups, rows, channels, kernel, kept);
  if (std::min(costs.tile2, costs.tile4) > kMargin * costs.direct) return std::nullopt;
  return force_winograd(grid, groups, rows, channels, kernel, kept, threads);
}

}  // namespace windrow
