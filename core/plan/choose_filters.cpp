#include <algorithm>

#include "drivers/pixel_boxes.hpp"
#include "pack/pixel_strips.hpp"
#include "pack/visible.hpp"
#include "plan/choose.hpp"

namespace windrow {
namespace {

constexpr Index kPixels = 512;                 // of one piece: they share the packing of the factors,
constexpr Index kLeastPixels = 64;             // ... so many at least where threads would have to wait
constexpr Index kResultBytes = 192 << 10;      // results of one piece, in a second-level cache of 512 KiB up
constexpr Index kPackedBytes = 128 << 10;      // factors of one chunk, there too ...
constexpr Index kPassBytes = 256 << 10;        // ... and those of a pass
constexpr Index kStripBytes = Index{1} << 20;  // of one piece: each chunk reads only some channels of it
constexpr Index kMostScratch = 4 << 20;        // bytes: beyond, windows are wider than a cache
constexpr double kPieceFlops = 128e6;          // about 1 ms on AVX-512, 10 ms on the plainest target
constexpr double kSmallPieceFlops = 1e6;       // about 10 us on AVX-512: less is not worth a thread
constexpr double kBoxesShare = 0.99;           // of pixels and taps that meet inside the image, at most ...
constexpr double kBoxesFlops = 4e6;  // ... of so large a product: leaving out others would save nothing

Index plane_of(const PixelGrid& grid) {
  return grid.axes.back().count * (grid.axes.size() > 1 ? grid.axes[grid.axes.size() - 2].count : 1);
}

// Calls use(boxes, all) for each block of pixels of the last two axes.
template <class Use>
void for_boxes(const PixelGrid& grid, const ProductSize& size, Index channels, const FilterBlocks& blocks,
               const Tile& tile, Use&& use) {
  const PixelBoxes all(grid);
  const PixelStrips strips(grid, blocks.rows, blocks.columns, 1, 1);
  const PixelWork work = pixel_work(grid, size.rows, channels, blocks, tile);
  for (Index b = 0, done = 0; done < plane_of(grid); ++b) {
    const PixelBlock block = strips.block(b);
    use(all.of(block, work), all);
    done += block.rows * block.columns;
  }
}

}  // namespace

std::optional<FilterBlocks> choose_filters(const PixelGrid& unjoined, const ProductSize& size, Index channels,
                                           const FilterStrides& strides, const Tile& tile,
                                           Index most_scratch) {
  const PixelGrid grid = joined_pixels(unjoined);
  const PixelAxis& last = grid.axes.back();
  if (size.pixels == 0 || size.rows < tile.lanes) return std::nullopt;
  const bool turned = strides.target_row != 1;
  if (turned && strides.accumulate) return std::nullopt;
  const Index all_rows = grid.axes.size() > 1 ? grid.axes[grid.axes.size() - 2].count : 1;
  const auto equal_parts = [](Index count, Index most) { return ceil_div(count, ceil_div(count, most)); };

  FilterBlocks blocks{.rows = 1,
                      .columns = equal_parts(last.count, kPixels),
                      .units = 1,
                      .panels = 0,
                      .parts = 0,
                      .turned = turned};
  blocks.rows = equal_parts(all_rows, std::max<Index>(1, kPixels / blocks.columns));
  const auto strip_bytes = [&] { return filter_strip_elements(grid, channels, blocks, tile) * tile.bytes; };
  while (strip_bytes() > kStripBytes && (blocks.rows > 1 || blocks.columns > tile.rows)) {
    Index& longer = blocks.rows > 1 ? blocks.rows : blocks.columns;
    longer = ceil_div(longer, 2);
  }
  const Index unit = blocks.rows * blocks.columns;
  const Index units = ceil_div(size.pixels, unit);
  blocks.units = std::clamp<Index>(kPixels / unit, 1, units);
  while (strip_bytes() > kStripBytes && blocks.units > 1) blocks.units = ceil_div(blocks.units, 2);

  const Index pixels = unit * blocks.units, others = size.groups * ceil_div(units, blocks.units);
  // Those that are kept are for any number of threads.
  blocks.panels = shared_panels(size.rows, others, strides.kept ? 1 : size.threads, tile);
  const double panel_flops =
      2.0 * static_cast<double>(pixels * std::max<Index>(1, size.terms) * tile.columns());
  const Index most = std::min({kResultBytes / (pixels * tile.columns() * tile.bytes),
                               kPackedBytes / (kChunk * tile.columns() * tile.bytes),
                               static_cast<Index>(kPieceFlops / panel_flops)});
  // Each piece makes the strip again: no more of them than keep all threads busy.
  const Index small = std::max<Index>(1, static_cast<Index>(kSmallPieceFlops / panel_flops));
  const Index wanted =
      size.threads == 1 ? 1 : std::min(blocks.panels / small, ceil_div(2 * size.threads, others));
  const Index least = std::max(wanted, ceil_div(blocks.panels, std::max<Index>(1, most)));
  blocks.parts = blocks_for_threads(blocks.panels, least, others, size.threads);
  const Index pieces = others * blocks.parts;
  const Index parts = parts_for_threads(pieces, size.threads, pixels / kLeastPixels);
  if (blocks.units >= parts) {
    blocks.units = ceil_div(blocks.units, parts);
  } else {
    blocks.rows = ceil_div(blocks.rows, ceil_div(parts, blocks.units));
    blocks.units = 1;
  }
  // The longer a pass, the more of a tile's sums are added to each other while they are near. Those of a
  // single tile stay there, and factors that are used once are packed into the first-level cache.
  blocks.packed = strides.kept ? 0 : strides.follow ? 1 : blocks.most_panels();
  if (!strides.kept) {
    const Index fits = kPassBytes / (blocks.packed * tile.columns() * tile.bytes) / kChunk * kChunk;
    const bool one_tile = blocks.units * blocks.rows * blocks.columns <= tile.rows;
    blocks.pass = one_tile ? kChunk : std::clamp<Index>(fits, kChunk, kMostPass);
  }
  // Taps are left out in the pixels of one block, or of the same block of some images.
  const bool one_block = blocks.units == 1 || blocks.rows * blocks.columns == grid.per_image();
  const double flops =
      2.0 * static_cast<double>(size.groups * size.rows) * static_cast<double>(size.terms * size.pixels);
  // Long windows have more boxes than there may be, and it would take long to find that out.
  const bool few_taps = std::all_of(grid.axes.begin(), grid.axes.end(), [](const PixelAxis& axis) {
    return static_cast<Index>(axis.tap.size()) <= PixelBoxes::kMost;
  });
  if (!strides.accumulate && one_block && few_taps && flops >= kBoxesFlops &&
      visible_share(grid) < kBoxesShare)
    for_boxes(grid, size, channels, blocks, tile, [&](const std::vector<PixelBox>& boxes, const PixelBoxes&) {
      blocks.boxes = std::max(blocks.boxes, static_cast<Index>(boxes.size()));
    });
  if (filter_scratch(grid, channels, blocks, tile) > std::min(most_scratch, kMostScratch))
    return std::nullopt;
  return blocks;
}

Counts count_filters(const PixelGrid& unjoined, const ProductSize& size, Index channels,
                     const FilterStrides& strides, const FilterBlocks& blocks, const Tile& tile) {
  const PixelGrid grid = joined_pixels(unjoined);
  const auto pixels = static_cast<double>(size.pixels), terms = static_cast<double>(size.terms);
  const double chunks = parts(size.terms, kChunk);
  const double pieces = static_cast<double>(filter_pieces(grid, blocks));
  // The pixels of a block, or of all images of a piece, are cut into tiles of nearly equal size.
  const Index block = blocks.rows * blocks.columns;
  const PixelWork of_piece = pixel_work(grid, size.rows, channels, blocks, tile);
  double multiply_adds = 0, tiles = 0;  // of vectors, of all pixels and terms; of one panel
  const auto add_run = [&](Index together, double run_terms, double times) {
    const Index run_tiles = ceil_div(together, tile.rows);
    const Index some = together / run_tiles, larger = together % run_tiles;
    const double vectors =
        static_cast<double>(larger) * even_vectors(some + 1, size.rows, tile, blocks.panels) +
        static_cast<double>(run_tiles - larger) * even_vectors(some, size.rows, tile, blocks.panels);
    multiply_adds += times * run_terms * vectors;
    tiles += times * static_cast<double>(run_tiles);
  };
  if (blocks.boxes == 1) {
    add_run(block * of_piece.images, terms, pixels / static_cast<double>(block * of_piece.images));
  } else {
    const double planes = pixels / static_cast<double>(plane_of(grid) * of_piece.images);
    for_boxes(grid, size, channels, blocks, tile,
              [&](const std::vector<PixelBox>& boxes, const PixelBoxes& all) {
                for (const PixelBox& box : boxes)
                  add_run(box.pixels() * of_piece.images, static_cast<double>(channels * all.tap_count(box)),
                          planes);
              });
  }
  const double vector_rows = parts(size.rows, tile.lanes);
  Counts count;
  const Index strip = filter_strip_elements(grid, channels, blocks, tile);
  const bool apart = strip == 0 && size.source_channel != 1;
  count[apart ? Work::kApartTile : Work::kTile] = multiply_adds;
  const double calls = tiles * static_cast<double>(blocks.panels);
  count[Work::kCall] = calls * chunks;
  if (apart) count[Work::kTilePage] = calls * pages(channels, size.source_channel * tile.bytes);
  const double filled = pieces * static_cast<double>(strip) / static_cast<double>(tile.lanes);
  count[size.source_channel == 1 ? Work::kCopy : Work::kTurn] = filled;
  // Turned over into panels by each piece, but where those of a term are neighbours, or they are kept in
  // panels.
  const Work work = strides.kept              ? Work::kFactor
                    : strides.factor_row == 1 ? Work::kCopyFactor
                                              : Work::kTurnFactor;
  count_factors(size, work, pieces / static_cast<double>(blocks.parts) * vector_rows * terms, tile, count);
  count[Work::kResult] = pixels * vector_rows * chunks;
  return count.times(static_cast<double>(size.groups));
}

}  // namespace windrow
