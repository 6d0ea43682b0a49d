#include "plan/choose_winograd.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "drivers/winograd_batches.hpp"
#include "plan/choose.hpp"

namespace windrow {
namespace {

constexpr Index kMostScratch = Index{8} << 20;  // bytes of one thread: a promise

constexpr Index kWantedTilesBytes = 256 << 10;  // transformed tiles stay in a second-level cache
constexpr Index kFarTilesBytes = 1 << 20;       // beyond this they fall out of it before they are read
constexpr Index kSumsBytes = 160 << 10;         // and so do the sums of a block of rows; else more rows
constexpr Index kFarSumsBytes = 1 << 20;        // for each reading of the tiles
constexpr Index kWeightsBytes = 4 << 20;  // weights beyond this come from afar: more tiles for each reading
constexpr Index kLeastRows = 32;          // of a piece, where threads share them
constexpr double kTogetherFlops =
    8e6;  // of a block, about 0.1 ms on AVX-512: less is not worth waiting for all

// Tiles must be this much faster to be taken: transformed weights fill caches as sums do not, and a layer at
// which they won by a tenth alone took twice as long within a network of others.
constexpr double kMargin = 0.85;

PixelGrid image_of(PixelGrid grid) {
  grid.images = 1;
  return grid;
}

}  // namespace

Counts count_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels, Index tile,
                      const Tile& kernel, bool kept) {
  const TileBatches batches(grid, tile);
  const TilePlanes& planes = batches.planes();
  const TileAxis &down = batches.down(), &across = batches.across();
  const Index tiles = batches.per_image(), terms = channels * planes.taps();
  const auto k = static_cast<double>(rows), c = static_cast<double>(terms);
  Counts count;
  count[Work::kTile] = c * panel_vectors(rows, tiles, kernel);
  count[Work::kCall] = parts(rows, kernel.rows) * parts(tiles, kernel.columns()) * parts(terms, kChunk);
  const auto row_tiles = static_cast<double>(planes.per_image() * down.tiles());
  const bool dilated = down.step() > 1 || across.step() > 1;
  // Rows of tiles share vectors. Without dilation those of a single plane are counted one by one still, as
  // they were when the constants were measured.
  const double transforms = dilated || planes.per_image() > 1
                                ? parts(tiles, kernel.lanes)
                                : row_tiles * parts(across.tiles(), kernel.lanes);
  count[Work::kInput] = transforms * c;
  count[Work::kOutput] = transforms * k;
  const double weights = k * static_cast<double>(planes.taps()) * parts(channels, kernel.lanes);
  const auto blocks = winograd_blocks(image_of(grid), rows, channels, tile, kernel);
  if (!kept) count[Work::kWeight] = weights;
  if (blocks) {
    const Index bytes = (tile + 2) * (tile + 2) * rows * terms * kernel.bytes;
    count[bytes > kWeightsBytes ? Work::kKeptFar : Work::kKept] = weights * parts(tiles, blocks->tiles);
    count[Work::kTileRead] = c * parts(tiles, kernel.lanes) * parts(rows, blocks->rows);
    // Tiles that fall out of the second level before they are read. Those of one outer tap count as they did
    // when the constants were measured.
    const Index held = (tile + 2) * (tile + 2) * terms * kernel.bytes * blocks->tiles;
    if (planes.taps() > 1 && held > kFarTilesBytes) count[Work::kKept] += count[Work::kInput];
  }
  count = count.times(static_cast<double>((tile + 2) * (tile + 2)));
  if (across.step() > 1) {  // pixels of a phase come from between those of others, and go back there
    const double pixels = row_tiles * static_cast<double>(planes.across().count);
    const double seen = pixels + row_tiles * static_cast<double>(2 * across.phases());
    const auto side = static_cast<double>(tile), lanes = static_cast<double>(kernel.lanes);
    const Work gather = across.step() == 2 ? Work::kGatherStep : Work::kGatherApart;
    count[gather] = (side + 2) * seen / lanes * c;
    count[Work::kResultApart] = side * pixels / lanes * k;
  }
  return count.times(static_cast<double>(groups));
}

double predicted_direct(const PixelGrid& grid, Index groups, Index rows, Index channels, const Tile& kernel,
                        bool kept) {
  PixelGrid image = image_of(grid);
  Index source = 1, target = 1;
  for (std::size_t i = image.axes.size(); i-- > 0;) {
    PixelAxis& axis = image.axes[i];
    axis.source_stride = std::exchange(source, source * axis.size);
    axis.target_stride = std::exchange(target, target * axis.count);
  }
  const Index terms = channels * grid.taps(), most = std::numeric_limits<Index>::max();
  const ProductSize size{.rows = rows,
                         .terms = terms,
                         .pixels = grid.per_image(),
                         .groups = groups,
                         .table_bytes = 0,
                         .source_channel = source};
  const FilterStrides strides{.target_row = target,
                              .factor_row = terms,
                              .factor_channel = grid.taps(),
                              .accumulate = false,
                              .kept = kept,
                              .follow = true};
  return direct_candidates(image, size, channels, strides, kernel, most).fastest(kernel).seconds;
}

namespace {

// Rows whose sums are held at a time: they stay near where the tiles do.
Index held_rows(Index points, Index terms, Index rows, Index tiles, const Tile& kernel) {
  const Index column = points * kernel.bytes * tiles;
  const bool near = terms * column <= 2 * kWantedTilesBytes;
  const Index row_tiles = (near ? kSumsBytes : kFarSumsBytes) / (column * kernel.rows);
  return std::clamp<Index>(row_tiles, 1, ceil_div(rows, kernel.rows)) * kernel.rows;
}

// Tiles of nearly equal blocks, whole vectors, `most` at most: a last block of a few tiles would take as long
// as one of many.
Index even_tiles(Index all_tiles, Index most, const Tile& kernel) {
  const Index vectors = ceil_div(all_tiles, kernel.lanes);
  return ceil_div(vectors, ceil_div(vectors, most / kernel.lanes)) * kernel.lanes;
}

}  // namespace

std::optional<WinogradBlocks> winograd_blocks(const PixelGrid& grid, Index rows, Index channels, Index tile,
                                              const Tile& kernel) {
  const Index points = (tile + 2) * (tile + 2);
  const Index all_tiles = std::max<Index>(1, grid.images * winograd_tiles(grid, tile));
  const Index nr = kernel.columns(), terms = winograd_terms(grid, channels);
  const Index weights = points * rows * terms * kernel.bytes;
  // As many tiles as the cache holds, but enough to make reading the weights worth it.
  const Index panel = points * terms * kernel.bytes * nr;
  const Index fewest = weights > kWeightsBytes ? 4 : weights < panel && 2 * panel > kFarTilesBytes ? 1 : 2;
  Index panels = std::max(fewest, kWantedTilesBytes / panel);
  panels = std::min(panels, ceil_div(all_tiles, nr));
  panels = ceil_div(ceil_div(all_tiles, nr), ceil_div(ceil_div(all_tiles, nr), panels));
  const auto of = [&](Index tiles) {
    return WinogradBlocks{
        .tile = tile, .tiles = tiles, .rows = held_rows(points, terms, rows, tiles, kernel)};
  };
  const auto fits = [&](const WinogradBlocks& blocks) {
    return winograd_scratch(grid, channels, blocks, kernel) <= kMostScratch;
  };
  Index most = panels * nr;
  while (!fits(of(most))) {
    if (most == nr) return std::nullopt;
    most -= nr;
  }
  const WinogradBlocks even = of(even_tiles(all_tiles, most, kernel));
  // Fewer tiles may have the sums of more rows held.
  return even.tiles == most || fits(even) ? even : of(most);
}

WinogradBlocks shared_out(const WinogradBlocks& whole, const PixelGrid& grid, Index groups, Index rows,
                          Index channels, const Tile& kernel, Index threads) {
  if (threads == 1) return whole;
  WinogradBlocks shared = whole;
  const Index all_tiles = grid.images * winograd_tiles(grid, whole.tile);
  const Index vectors = ceil_div(all_tiles, kernel.lanes), blocks = ceil_div(all_tiles, whole.tiles);
  const Index points = (whole.tile + 2) * (whole.tile + 2), terms = winograd_terms(grid, channels);
  const Index weights = points * rows * terms;
  const bool near = weights * kernel.bytes <= kWeightsBytes;
  const Index most_parts = ceil_div(rows, kLeastRows);
  const bool small = 2 * static_cast<double>(weights) * static_cast<double>(whole.tiles) < kTogetherFlops;
  if (small || most_parts == 1 || (near && groups * blocks >= wanted_pieces(threads))) {
    const Index least = std::max(blocks, std::min(vectors, ceil_div(wanted_pieces(threads), groups)));
    shared.tiles = std::min(whole.tiles, block_for_threads(vectors, least, groups, threads) * kernel.lanes);
    return shared;
  }
  // Tiles that stay near one thread stay near to several, and take them fewer turns.
  if (points * terms * whole.tiles * kernel.bytes <= kFarTilesBytes)
    shared.tiles = even_tiles(all_tiles, std::min(threads, whole.rows / kernel.rows) * whole.tiles, kernel);
  const Index row_tiles = ceil_div(rows, kernel.rows);
  shared.lane_parts = ceil_div(threads, most_parts);
  shared.row_parts =
      blocks_for_threads(row_tiles, std::max(ceil_div(rows, whole.rows), std::min(threads, most_parts)),
                         shared.lane_parts, threads);
  const Index most_held = whole.rows * whole.tiles / shared.tiles / kernel.rows;
  shared.rows = std::min(most_held, ceil_div(row_tiles, shared.row_parts)) * kernel.rows;
  return shared;
}

Index most_winograd_channels(const PixelGrid& grid, Index rows, const Tile& kernel) {
  Index fits = 0, too_many = kMostScratch;
  while (too_many - fits > 1) {
    const Index channels = fits + (too_many - fits) / 2;
    (winograd_blocks(grid, rows, channels, 2, kernel) ? fits : too_many) = channels;
  }
  return fits;
}

namespace {

// Predicted seconds by tiles of either size.
struct TileTimes {
  double two, four;
};

TileTimes tile_times(const PixelGrid& grid, Index groups, Index rows, Index channels, const Tile& kernel,
                     bool kept) {
  const auto time = [&](Index tile) {
    return predicted(count_winograd(grid, groups, rows, channels, tile, kernel, kept), kernel);
  };
  return {time(2), time(4)};
}

std::optional<WinogradBlocks> faster_blocks(const TileTimes& times, const PixelGrid& grid, Index rows,
                                            Index channels, const Tile& kernel) {
  if (times.four < times.two) {
    const auto blocks = winograd_blocks(grid, rows, channels, 4, kernel);
    if (blocks) return blocks;
  }
  return winograd_blocks(grid, rows, channels, 2, kernel);
}

}  // namespace

std::optional<WinogradBlocks> force_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                             const Tile& kernel, bool kept) {
  const TileTimes times = tile_times(grid, groups, rows, channels, kernel, kept);
  return faster_blocks(times, grid, rows, channels, kernel);
}

bool may_take_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels) {
  const double terms = static_cast<double>(winograd_terms(grid, channels));
  const double flops = 18 * static_cast<double>(groups * rows * grid.per_image()) * terms;
  return channels >= kFewestChannels && flops >= kFewestFlops;
}

std::optional<WinogradBlocks> choose_winograd(const PixelGrid& grid, Index groups, Index rows, Index channels,
                                              const Tile& kernel, bool kept) {
  if (!may_take_winograd(grid, groups, rows, channels)) return std::nullopt;
  const TileTimes times = tile_times(grid, groups, rows, channels, kernel, kept);
  const double direct = predicted_direct(grid, groups, rows, channels, kernel, kept);
  if (std::min(times.two, times.four) > kMargin * direct) return std::nullopt;
  return faster_blocks(times, grid, rows, channels, kernel);
}

}  // namespace windrow
