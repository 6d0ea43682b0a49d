#include <algorithm>

#include "pack/pixel_strips.hpp"
#include "plan/choose.hpp"

namespace windrow {
namespace {

constexpr Index kPixels = 512;                       // of one piece: they share the packing of the factors
constexpr Index kTinyImage = 64, kSmallImage = 256;  // pixels
constexpr Index kFewTaps = 4;
constexpr Index kResultBytes = 192 << 10;      // results of one piece, in a second-level cache of 512 KiB up
constexpr Index kPackedBytes = 128 << 10;      // factors of one chunk, there too
constexpr Index kStripBytes = Index{1} << 20;  // of one piece: each chunk reads only some channels of it
constexpr Index kMostScratch = 4 << 20;        // bytes: beyond, windows are wider than a cache
constexpr double kPieceFlops = 128e6;          // about 1 ms on AVX-512, 10 ms on the plainest target
constexpr double kSmallPieceFlops = 1e6;       // about 10 us on AVX-512: less is not worth a thread

// Pixels of one image up to which results whose filters do not lie side by side are made here and turned
// over. Measured on layers of ResNet-50 and MobileNet-v2 (AVX2, Zen 3). In float32, windows of few taps
// win 1.1 to 3 times on 14x14 and 7x7. Of larger windows, the input gradient on 7x7 does (its factors are not
// in the order of memory, and packed once here); on 14x14, and forward, they lose up to 10 %. In float64,
// whose lanes are better filled by few pixels, the same but for forward under few taps on 14x14.
Index most_turned_pixels(Index taps, const FilterStrides& strides, const Tile& tile) {
  const bool rows_follow = strides.factor_row < strides.factor_channel;
  if (taps <= kFewTaps) return rows_follow || tile.bytes == sizeof(float) ? kSmallImage : kTinyImage;
  return rows_follow ? kTinyImage : 0;
}

}  // namespace

std::optional<FilterBlocks> choose_filters(const PixelGrid& unjoined, const ProductSize& size, Index channels,
                                           const FilterStrides& strides, const Tile& tile,
                                           Index most_scratch) {
  const PixelGrid grid = joined_pixels(unjoined);
  const PixelAxis& last = grid.axes.back();
  if (size.pixels == 0 || size.rows < tile.lanes) return std::nullopt;
  const bool turned = strides.target_row != 1;
  if (turned && (strides.accumulate || size.rows < tile.columns() || last.count < tile.rows ||
                 grid.per_image() > most_turned_pixels(grid.taps(), strides, tile)))
    return std::nullopt;
  const Index all_rows = grid.axes.size() > 1 ? grid.axes[grid.axes.size() - 2].count : 1;
  const auto equal_parts = [](Index count, Index most) { return ceil_div(count, ceil_div(count, most)); };

  FilterBlocks blocks{
      .rows = 1, .columns = equal_parts(last.count, kPixels), .units = 1, .filters = 0, .turned = turned};
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

  const Index panels = ceil_div(size.rows, tile.columns());
  const Index pixels = unit * blocks.units;
  const double panel_flops =
      2.0 * static_cast<double>(pixels * std::max<Index>(1, size.terms) * tile.columns());
  Index some = std::min({kResultBytes / (pixels * tile.columns() * tile.bytes),
                         kPackedBytes / (kChunk * tile.columns() * tile.bytes),
                         static_cast<Index>(kPieceFlops / panel_flops)});
  const Index for_threads =
      size.groups * ceil_div(units, blocks.units) * panels / wanted_pieces(size.threads);
  some = std::min(some, std::max(for_threads, static_cast<Index>(kSmallPieceFlops / panel_flops)));
  blocks.filters = equal_parts(panels, std::clamp<Index>(some, 1, panels)) * tile.columns();
  if (filter_scratch(grid, channels, blocks, tile) > std::min(most_scratch, kMostScratch))
    return std::nullopt;
  return blocks;
}

}  // namespace windrow
