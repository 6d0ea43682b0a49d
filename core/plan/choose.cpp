#include "plan/choose.hpp"

#include <algorithm>

namespace windrow {
namespace {

constexpr Index kFactorBytes =
    256 << 10;                 // factors of one chunk that stay in a second-level cache of 512 KiB up
constexpr Index kPanels = 16;  // beyond these, more panels reuse the factors hardly better
constexpr Index kMostTableBytes = 1 << 20;  // of a piece: a window of 30 x 30 has 30 KiB a panel and more
constexpr double kPieceFlops = 128e6;       // about 1 ms on AVX-512, 10 ms on the plainest target
constexpr double kSmallPieceFlops = 1e6;    // about 10 us on AVX-512: less is not worth a thread
// Row tiles and panels of a piece, at least, while there are few pieces: packing a panel again for each block
// of fewer row tiles, or reading the factors again for each block of fewer panels, costs over 3 %.
constexpr Index kRepackTiles = 32;
constexpr Index kReadPanels = 2;
constexpr Index kPackedPanels = 8;  // where the factors are not only read but packed again
// Panels for which rows beyond kRepackTiles are given up where a piece has no time for both: each piece reads
// its rows' factors, up to 9 MiB in all under 3x3 windows, and fewer rows only pack the panels again.
constexpr Index kPanelsBeforeRows = 8;
// The same where there would not even be work for two threads.
constexpr Index kFewPieces = 4;
constexpr Index kLeastTiles = 8;

// What things take, for one vector of pixels or of source elements. Unit: one multiply-add of a vector at the
// core's peak. They weigh the two drivers against each other. The kernels' are measured alone, with operands
// in the first-level cache; those marked * were fitted to both drivers' times over benchmarks/shapes.
struct Costs {
  double multiply;     // in a tile of several rows
  double least_tile;   // a term of a tile: the latency of the multiply-add, however small the tile
  double stencil;      // to multiply and add one vector in a single row
  double pack;         // * to gather one vector of a panel, from the caches and beyond
  double table;        // * to find out where one vector of one tap comes from
  double fill;         // to copy one vector into a strip
  double fill_row;     // * to begin a row of a strip
  double strip_row;    // * to begin a row of pixels
  double strip_reads;  // * how much longer a product takes that reads a strip instead of a panel ...
  double long_reads;   // * ... and where a tile's factors outgrow the first-level cache
};

constexpr double kFirstLevelFactors = 16 << 10;  // bytes

// One row for each width of vectors: portable and NEON, x86_v3 (Zen 3), x86_v4 (Zen 4).
constexpr Costs costs_of(const Tile& tile) {
  switch (tile.lanes * tile.bytes) {
    case 64:
      return {1.0, 4, 1.3, 4, 20, 2, 6, 15, 1.0, 1.0};
    case 32:
      return {1.03, 8.5, 2.0, 8, 40, 6, 12, 30, 1.06, 1.1};
    default:
      return {1.05, 8, 2.0, 8, 40, 6, 12, 30, 1.06, 1.1};
  }
}

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

  const Costs cost = costs_of(tile);
  const auto terms = static_cast<double>(size.terms);
  const auto vectors = [&](Index count) { return static_cast<double>(ceil_div(count, tile.lanes)); };
  // One term of `count` pixels side by side for all rows, in tiles.
  const auto multiply = [&](Index count) {
    const auto tiles = static_cast<double>(count / tile.columns());
    const double rest = vectors(count % tile.columns());
    const auto term = [&](double width) {
      const auto full = static_cast<double>(size.rows / tile.rows);
      const auto left = static_cast<double>(size.rows % tile.rows);
      return full * std::max(cost.least_tile, cost.multiply * width * static_cast<double>(tile.rows)) +
             (left > 0 ? std::max(cost.least_tile, cost.multiply * width * left) : 0.0);
    };
    return tiles * term(static_cast<double>(tile.vectors)) + (rest > 0 ? term(rest) : 0.0);
  };
  const double pack =
      terms * multiply(size.pixels) +
      vectors(size.pixels) * (terms * cost.pack + static_cast<double>(grid.taps()) * cost.table);

  const double pixel_rows = static_cast<double>(size.pixels / last.count) *
                            static_cast<double>(ceil_div(last.count, blocks.columns));
  const double units = pixel_rows / static_cast<double>(blocks.rows);
  const double strip_rows = static_cast<double>(strip_elements(grid, channels, blocks, tile)) /
                            static_cast<double>(blocks.columns + tile.columns());
  const double fill = units * strip_rows * (vectors(blocks.columns) * cost.fill + cost.fill_row);
  double sum = pixel_rows * static_cast<double>(ceil_div(size.rows, tile.rows)) * cost.strip_row;
  if (size.rows == 1) {
    sum += pixel_rows * vectors(blocks.columns) * terms * cost.stencil;
  } else {
    const double factors = terms * static_cast<double>(tile.rows * tile.bytes);
    sum += pixel_rows * multiply(blocks.columns) * terms *
           (factors > kFirstLevelFactors ? cost.long_reads : cost.strip_reads);
  }
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
  const Index few_panels = std::min(panels, kPanelsBeforeRows);
  while (tiles > kRepackTiles && panels_in_time() < few_panels)
    tiles = std::max(kRepackTiles, ceil_div(tiles, 2));
  Index panel_count = std::clamp<Index>(panels_in_time(), 1, std::min(kPanels, panels));

  while (panel_count > 1 && panel_count * size.table_bytes > kMostTableBytes) --panel_count;

  // Smaller pieces, until there are enough of them or they are too small for a thread.
  const auto cut = [&](Index wanted, Index least_tiles, Index least_panels) {
    const auto pieces = [&] {
      return size.groups * ceil_div(panels, panel_count) * ceil_div(row_tiles, tiles);
    };
    const auto piece_flops = [&] { return tile_flops * static_cast<double>(tiles * panel_count); };
    while (pieces() < wanted && piece_flops() > kSmallPieceFlops) {
      if (tiles > least_tiles) {
        tiles = std::max(least_tiles, ceil_div(tiles, 2));
      } else if (panel_count > least_panels) {
        panel_count = std::max(least_panels, ceil_div(panel_count, 2));
      } else {
        return;
      }
    }
  };
  const Index wanted = wanted_pieces(size.threads);
  cut(wanted, kRepackTiles, size.scattered ? kPackedPanels : kReadPanels);
  cut(std::min(wanted, kFewPieces), kLeastTiles, 1);

  // A panel alone would not repay the packing of its factors.
  bool pack_factor = size.scattered && panel_count > 1;
  const auto blocks = [&] {
    // Row blocks of equal size.
    return ProductBlocks{.panels = panel_count,
                         .rows = ceil_div(row_tiles, ceil_div(row_tiles, tiles)) * tile.rows,
                         .table_bytes = size.table_bytes,
                         .pack_factor = pack_factor};
  };
  while (product_scratch(blocks(), tile) > most_scratch && (pack_factor || tiles > 1 || panel_count > 1)) {
    if (pack_factor) {
      pack_factor = false;
    } else {
      (panel_count > 1 ? panel_count : tiles) -= 1;
    }
  }
  return blocks();
}

}  // namespace windrow
