#include <algorithm>

#include "plan/choose.hpp"

namespace windrow {
namespace {

constexpr Index kFactorBytes = 320 << 10;  // of some rows, in a second-level cache of 512 KiB up
// What dy shows of a block of channels, and the sums of a piece: each tile has work for hundreds of cycles on
// what it reads of them, so that they may come from farther away.
constexpr Index kPackedBytes = 416 << 10;
constexpr Index kSumsBytes = 416 << 10;
constexpr Index kMostScratch = 4 << 20;
constexpr Index kMostPanels = 16;
constexpr double kPieceFlops = 128e6;     // about 1 ms on AVX-512, 10 ms on the plainest target
constexpr double kSmallPieceFlops = 1e6;  // less is not worth a thread
constexpr Index kFewPieces = 4;           // that keep two threads busy
constexpr Index kFewestTiles = 8;         // row tiles of a piece, and ...
constexpr Index kFewestPanels = 2;        // ... panels, at least, to repay the packing of both

constexpr Index kStripBytes = 24 << 10;  // of a strip that serves one row of results, in the first level
constexpr Index kProductStripBytes = 256 << 10;  // of one that serves several, in the second
constexpr double kStripPieceFlops = 0.3e6;       // some 50 us, where memory binds
constexpr double kProductPieceFlops = 4e6;       // the same, where sums do

std::optional<PhaseBlocks> choose_strips(const PixelGrid& grid, const PhaseSize& size, const Tile& tile) {
  PhaseBlocks blocks{.strips = true,
                     .strip = {.rows = 1,
                               .columns = grid.axes.back().count,
                               .units = 1,
                               .channels = std::min(size.channels, Index{kChunk})}};  // whole chunks
  const Index all_rows = grid.axes.size() > 1 ? grid.axes[grid.axes.size() - 2].count : 1;
  const auto bytes = [&] { return phase_scratch(grid, size, blocks, tile); };
  const bool tiles = std::max(size.rows, size.merged) > 1;
  const Index room = tiles ? kProductStripBytes : kStripBytes;
  while (blocks.strip.columns > 16 * tile.columns() && bytes() > room)
    blocks.strip.columns = ceil_div(blocks.strip.columns, 2);
  if (bytes() > kMostScratch) return std::nullopt;
  Index fewest = 1, too_many = all_rows + 1;
  while (too_many - fewest > 1) {
    blocks.strip.rows = fewest + (too_many - fewest) / 2;
    (bytes() <= room ? fewest : too_many) = blocks.strip.rows;
  }
  blocks.strip.rows = ceil_div(all_rows, ceil_div(all_rows, fewest));  // blocks of equal size
  const double unit_flops = 2.0 * static_cast<double>(size.rows * size.channels * size.factor_taps *
                                                      blocks.strip.rows * blocks.strip.columns);
  const double piece_flops = tiles ? kProductPieceFlops : kStripPieceFlops;
  blocks.strip.units = std::max<Index>(1, static_cast<Index>(piece_flops / unit_flops));
  return blocks;
}

}  // namespace

std::optional<PhaseBlocks> choose_phases(const PixelGrid& grid, const PhaseSize& size, const Tile& tile,
                                         Index most_scratch) {
  const Index pixels = grid.images * grid.per_image();
  if (size.rows == 0 || size.channels == 0 || pixels == 0) return std::nullopt;
  if (size.phases == 1) return std::nullopt;  // the only one with taps is better written alone, over zeros
  if (size.rows <= 2 * tile.rows) {
    const std::optional<PhaseBlocks> strips = choose_strips(grid, size, tile);
    if (strips && phase_scratch(grid, size, *strips, tile) <= most_scratch) return strips;
  }
  const Index nr = tile.columns();
  const Index row_tiles = ceil_div(size.rows, tile.rows), all_panels = ceil_div(pixels, nr);
  PhaseBlocks blocks;
  blocks.channels = std::min(size.channels, Index{kChunk});
  blocks.table_bytes = panel_size(grid, tile.lanes, tile.vectors).bytes();
  const Index factor_tile = blocks.channels * size.factor_taps * tile.rows * tile.bytes;
  Index factor_tiles = std::clamp<Index>(kFactorBytes / factor_tile, 1, row_tiles);
  const Index packed_panel = blocks.channels * grid.taps() * nr * tile.bytes;
  Index panels = std::clamp<Index>(kPackedBytes / packed_panel, 1, std::min(kMostPanels, all_panels));
  panels = ceil_div(all_panels, ceil_div(all_panels, panels));

  const double tile_flops = 2.0 * static_cast<double>(tile.rows * nr * size.channels * size.factor_taps);
  const Index sums_tile = panels * size.phases * tile.rows * nr * tile.bytes;
  Index tiles = std::min({row_tiles, kSumsBytes / std::max<Index>(1, sums_tile),
                          static_cast<Index>(kPieceFlops / (tile_flops * static_cast<double>(panels)))});
  tiles = std::max<Index>(1, tiles);
  const auto pieces = [&] { return size.groups * ceil_div(all_panels, panels) * ceil_div(row_tiles, tiles); };
  while (pieces() < kFewPieces && tile_flops * static_cast<double>(tiles * panels) > kSmallPieceFlops) {
    if (tiles > kFewestTiles) {
      tiles = std::max(kFewestTiles, ceil_div(tiles, 2));
    } else if (panels > kFewestPanels) {
      panels = ceil_div(panels, 2);
    } else {
      break;
    }
  }
  panels = block_for_threads(all_panels, ceil_div(all_panels, panels),
                             size.groups * ceil_div(row_tiles, tiles), size.threads);
  tiles = ceil_div(row_tiles, ceil_div(row_tiles, tiles));
  factor_tiles = ceil_div(tiles, ceil_div(tiles, factor_tiles));
  blocks.panels = panels;
  blocks.rows = tiles * tile.rows;
  blocks.factor_rows = factor_tiles * tile.rows;
  if (phase_scratch(grid, size, blocks, tile) > std::min(most_scratch, kMostScratch)) return std::nullopt;
  return blocks;
}

}  // namespace windrow
