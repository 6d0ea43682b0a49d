#include "plan/choose.hpp"

#include <algorithm>

namespace windrow {
namespace {

constexpr Index kFactorBytes =
    256 << 10;                         // factors of one chunk that stay in a second-level cache of 512 KiB up
constexpr Index kPanels = 16;          // beyond these, more panels reuse the factors hardly better
constexpr Index kWantedPieces = 16;    // pieces of work that keep a few threads busy
constexpr double kPieceFlops = 128e6;  // about 1 ms on AVX-512, 10 ms on the plainest target
constexpr double kSmallPieceFlops = 1e6;  // about 10 us on AVX-512: less is not worth a thread
constexpr Index kRepackTiles = 16;  // row tiles below which packing again for each row block costs over 5 %

// Cycles, for one vector of pixels or of source elements, read off profiles (perf) of the layers in
// benchmarks/shapes on a Zen 4 core with AVX-512. They weigh the two drivers against each other.
constexpr double kPackCycles = 4;       // to gather one vector of a panel
constexpr double kTableCycles = 20;     // to find out where one vector of one tap comes from
constexpr double kTileCycles = 1;       // to multiply and add one vector in a tile of several rows
constexpr double kStencilCycles = 1.3;  // the same in a single row
constexpr double kFillCycles = 2;       // to copy one vector into a strip
constexpr double kFillRowCycles = 6;    // to begin a row of a strip
constexpr double kStripRowCycles = 15;  // to begin a row of pixels

constexpr Index kStencilStripBytes =
    24 << 10;  // a strip that serves one row of results stays in the first-level cache
constexpr Index kProductStripBytes = 160 << 10;  // one that serves several stays in the second
constexpr Index kMostStripBytes = 512 << 10;     // a single row of pixels may need this much
constexpr Index kStripColumns = 1024;            // pixels of one row in a strip
constexpr double kStripPieceFlops = 1.5e6;       // of one piece of work: some 20 to 50 us

}  // namespace

std::optional<StripBlocks> choose_strips(const PixelGrid& grid, const ProductSize& size, Index channels,
                                         const Tile& tile, Index most_scratch) {
  const PixelAxis& last = grid.axes.back();
  const Index all_rows = grid.axes.size() > 1 ? grid.axes[grid.axes.size() - 2].count : 1;
  if (size.pixels == 0 || size.rows == 0) return std::nullopt;
  StripBlocks blocks{.rows = 1, .columns = std::min(last.count, kStripColumns), .units = 1};
  const auto bytes = [&] { return strip_elements(grid, channels, blocks, tile) * tile.bytes; };
  if (bytes() > kMostStripBytes || strip_scratch(grid, channels, blocks, tile) > most_scratch)
    return std::nullopt;

  const Index room = std::min(size.rows == 1 ? kStencilStripBytes : kProductStripBytes, most_scratch);
  const double row_flops = 2.0 * static_cast<double>(size.rows * size.terms * blocks.columns);
  Index fewest = 1, too_many = all_rows + 1;
  while (too_many - fewest > 1) {
    blocks.rows = fewest + (too_many - fewest) / 2;
    const bool fits = bytes() <= room && row_flops * static_cast<double>(blocks.rows) <= kPieceFlops;
    (fits ? fewest : too_many) = blocks.rows;
  }
  blocks.rows = ceil_div(all_rows, ceil_div(all_rows, fewest));  // blocks of equal size
  const double unit_flops = row_flops * static_cast<double>(blocks.rows);
  blocks.units = std::max<Index>(1, static_cast<Index>(kStripPieceFlops / std::max(1.0, unit_flops)));

  const auto vectors = [&](Index count) { return static_cast<double>(ceil_div(count, tile.lanes)); };
  const auto rows = static_cast<double>(size.rows), terms = static_cast<double>(size.terms);
  const auto taps = static_cast<double>(grid.taps());
  const double pack =
      vectors(size.pixels) * (terms * (rows * kTileCycles + kPackCycles) + taps * kTableCycles);
  const double pixel_rows = static_cast<double>(size.pixels / last.count) *
                            static_cast<double>(ceil_div(last.count, blocks.columns));
  const double units = pixel_rows / static_cast<double>(blocks.rows);
  const double strip_rows = static_cast<double>(strip_elements(grid, channels, blocks, tile)) /
                            static_cast<double>(blocks.columns + tile.columns());
  const double fill = units * strip_rows * (vectors(blocks.columns) * kFillCycles + kFillRowCycles);
  const double sum =
      pixel_rows * (vectors(blocks.columns) * terms * (size.rows == 1 ? kStencilCycles : rows * kTileCycles) +
                    static_cast<double>(ceil_div(size.rows, tile.rows)) * kStripRowCycles);
  if (fill + sum >= pack) return std::nullopt;
  return blocks;
}

ProductBlocks choose_blocks(const ProductSize& size, const Tile& tile, Index most_scratch) {
  const Index panels = std::max<Index>(1, ceil_div(size.pixels, tile.columns()));
  const Index row_tiles = std::max<Index>(1, ceil_div(size.rows, tile.rows));
  const double tile_flops =
      2.0 * static_cast<double>(std::max<Index>(1, size.terms) * tile.columns() * tile.rows);

  // As many rows as the cache holds; then as many panels as a piece has time for.
  Index tiles = std::min(row_tiles, std::max<Index>(1, kFactorBytes / (tile.rows * kChunk * tile.bytes)));
  const auto panels_in_time = [&] {
    return static_cast<Index>(kPieceFlops / (tile_flops * static_cast<double>(tiles)));
  };
  while (tiles > kRepackTiles && panels_in_time() < 1) tiles = std::max(kRepackTiles, ceil_div(tiles, 2));
  Index panel_count = std::clamp<Index>(panels_in_time(), 1, std::min(kPanels, panels));

  const auto pieces = [&] {
    return size.groups * ceil_div(panels, panel_count) * ceil_div(row_tiles, tiles);
  };
  const auto piece_flops = [&] { return tile_flops * static_cast<double>(tiles * panel_count); };
  while (pieces() < kWantedPieces && piece_flops() > kSmallPieceFlops &&
         (tiles > kRepackTiles || panel_count > 1)) {
    if (tiles > kRepackTiles) {
      tiles = std::max(kRepackTiles, ceil_div(tiles, 2));
    } else {
      panel_count = ceil_div(panel_count, 2);
    }
  }

  const auto blocks = [&] {
    // Row blocks of equal size.
    return ProductBlocks{.panels = panel_count,
                         .rows = ceil_div(row_tiles, ceil_div(row_tiles, tiles)) * tile.rows};
  };
  while (product_scratch(blocks(), tile) > most_scratch && (tiles > 1 || panel_count > 1)) {
    (panel_count > 1 ? panel_count : tiles) -= 1;
  }
  return blocks();
}

}  // namespace windrow
