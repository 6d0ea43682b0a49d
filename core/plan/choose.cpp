#include "plan/choose.hpp"

#include <algorithm>

namespace windrow {
namespace {

constexpr Index kPackedBytes =
    384 << 10;  // packed panels of one piece: they stay in a second-level cache of 512 KiB up
constexpr Index kTerms = 4 * kChunk;   // KC: a panel of 48 float32 lanes is then 96 KiB
constexpr Index kWantedPieces = 16;    // pieces of work that keep a few threads busy
constexpr double kPieceFlops = 128e6;  // about 1 ms on AVX-512, 10 ms on the plainest target
constexpr Index kRepackRows = 8;  // row tiles below which packing again for each row block costs over 5 %

}  // namespace

ProductBlocks choose_blocks(const ProductSize& size, const Tile& tile, Index most_scratch) {
  ProductBlocks blocks;
  const Index nr = tile.columns();
  blocks.k = std::max<Index>(1, std::min(kTerms, size.terms));

  const Index panels = std::max<Index>(1, ceil_div(size.pixels, nr));
  blocks.panels = std::clamp<Index>(kPackedBytes / (blocks.k * nr * tile.bytes), 1, panels);
  const double tile_flops = 2.0 * static_cast<double>(std::max<Index>(1, size.terms) * nr * tile.rows);
  const Index row_tiles = std::max<Index>(1, ceil_div(size.rows, tile.rows));
  // Few terms make small panels: do not let one piece take too long.
  blocks.panels = std::clamp<Index>(
      static_cast<Index>(kPieceFlops / (tile_flops * static_cast<double>(row_tiles))), 1, blocks.panels);
  while (blocks.panels > 1 && size.groups * ceil_div(panels, blocks.panels) < kWantedPieces) --blocks.panels;

  Index tiles = row_tiles;
  const Index enough =
      std::max<Index>(1, static_cast<Index>(kPieceFlops / (tile_flops * static_cast<double>(blocks.panels))));
  tiles = std::min(tiles, std::max(enough, kRepackRows));
  const Index pixel_pieces = size.groups * ceil_div(panels, blocks.panels);
  while (tiles > kRepackRows && pixel_pieces * ceil_div(row_tiles, tiles) < kWantedPieces)
    tiles = std::max(kRepackRows, tiles / 2);
  // Row blocks of equal size.
  blocks.rows = ceil_div(row_tiles, ceil_div(row_tiles, tiles)) * tile.rows;
  const auto fits = [&] { return product_scratch(blocks, size.terms, tile) <= most_scratch; };
  while (!fits() && blocks.panels > 1) --blocks.panels;
  while (!fits() && blocks.k > kChunk) blocks.k = round_up(blocks.k / 2, kChunk);
  return blocks;
}

}  // namespace windrow
