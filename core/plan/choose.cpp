#include "plan/choose.hpp"

#include <algorithm>

namespace windrow {
namespace {

constexpr Index kFactorBytes =
    256 << 10;                         // factors of one chunk that stay in a second-level cache of 512 KiB up
constexpr Index kPanels = 16;          // beyond these, more panels reuse the factors hardly better
constexpr Index kWantedPieces = 16;    // pieces of work that keep a few threads busy
constexpr double kPieceFlops = 128e6;  // about 1 ms on AVX-512, 10 ms on the plainest target
constexpr Index kRepackTiles = 16;  // row tiles below which packing again for each row block costs over 5 %

}  // namespace

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
  while (pieces() < kWantedPieces && (tiles > kRepackTiles || panel_count > 1)) {
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
