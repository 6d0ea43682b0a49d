#include "plan/choose.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace windrow {
namespace {

constexpr double kPartsFlops = 1e8;  // of a product: less is over before it is worth cutting up
constexpr double kPartsShare = 0.8;  // of pixels and taps that meet inside the image: more are taken whole
constexpr std::size_t kMostParts = 32;

constexpr Index kFactorBytes =
    256 << 10;                     // factors of one chunk that stay in a second-level cache of 512 KiB up
constexpr Index kPanels = 16;      // beyond these, more panels reuse the factors hardly better
constexpr Index kLeastPanels = 4;  // whatever time they take: a single one would read all factors for itself
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
constexpr Index kLeastTiles = 8;  // the same where there would not even be work for all threads

constexpr Index kFirstLevelFactors = 16 << 10;  // bytes
constexpr Index kNearFactors = 4 << 20;         // from here on, factors come from afar
constexpr Index kFirstLevel = 24 << 10;         // of factors and strip, for one tile

constexpr Index kStencilStripBytes =
    24 << 10;  // a strip that serves one row of results stays in the first-level cache
constexpr Index kProductStripBytes = 160 << 10;  // one that serves several stays in the second
// A single row of pixels may need this much. Strips of many terms may have it, for those of neighbouring
// blocks overlap: at 160 KiB a window of 3x3x3 had each row copied nine times.
constexpr Index kMostStripBytes = 512 << 10;
// What a tile of several rows reads in one go, all terms of its factors and of its strip: beyond, it streams
// from the second-level cache and farther, which took up to twice the predicted time. There a few tiles of
// rows may pass over the pixels chunk by chunk. Then a strip of many channels has columns for some panels at
// least, or it would be copied in short runs.
constexpr Index kMostTileBytes = 128 << 10;
constexpr Index kFewTiles = 2;
constexpr Index kFewPanels = 4;
// Channels that the processor reads ahead by itself where a strip is read in place: it sees each as a stream.
constexpr Index kStreams = 64;
// By which factor half the columns of a strip must be copied less often to be taken.
constexpr double kFewerCopies = 0.9;
constexpr Index kStripColumns = 1024;       // pixels of one row in a strip
constexpr double kStripPieceFlops = 1.5e6;  // of one piece of work: some 20 to 50 us

// Whether pixels that follow one another in memory see what lies in the same order.
bool sees_itself(const PixelGrid& grid) {
  const PixelAxis& axis = grid.axes.front();
  return grid.axes.size() == 1 && axis.source_stride == 1 && axis.step == 1 && axis.size == axis.count &&
         axis.tap.size() == 1 && axis.tap[0] == 0;
}

// How many positions modulo the step an axis' taps have.
Index phases(const PixelAxis& axis) {
  Extents seen;
  for (const Index tap : axis.tap) seen.push_back((tap % axis.step + axis.step) % axis.step);
  std::sort(seen.begin(), seen.end());
  return std::unique(seen.begin(), seen.end()) - seen.begin();
}

// How often pixels of a strip are copied, whose blocks have so many rows and columns.
double copies(const PixelGrid& grid, Index rows, Index columns) {
  const auto along = [](const PixelAxis& axis, Index count) {
    if (axis.tap.empty()) return 1.0;
    const auto [first, last] = std::minmax_element(axis.tap.begin(), axis.tap.end());
    return 1 + static_cast<double>(*last - *first) / static_cast<double>(count * axis.step);
  };
  const double across = along(grid.axes.back(), columns);
  return grid.axes.size() > 1 ? across * along(grid.axes[grid.axes.size() - 2], rows) : across;
}

}  // namespace

void count_factors(const ProductSize& size, Work work, double vectors, const Tile& tile, Counts& count) {
  count[work] = vectors;
  if (size.groups * size.rows * size.terms * tile.bytes >= kNearFactors)
    count[work == Work::kFactorApart ? Work::kApartFar : Work::kFactorFar] = vectors;
}

std::optional<StripBlocks> choose_strips(const PixelGrid& grid, const ProductSize& size, Index channels,
                                         const Tile& tile, Index most_scratch) {
  const PixelAxis& last = grid.axes.back();
  const Index all_rows = grid.axes.size() > 1 ? grid.axes[grid.axes.size() - 2].count : 1;
  if (size.pixels == 0 || size.rows == 0) return std::nullopt;
  const bool by_chunks =
      size.rows > 1 && size.terms * (tile.rows + tile.columns()) * tile.bytes > kMostTileBytes;
  if (by_chunks && size.rows > kFewTiles * tile.rows) return std::nullopt;
  StripBlocks blocks{.rows = 1,
                     .columns = std::min(last.count, kStripColumns),
                     .units = 1,
                     .channels = by_chunks ? std::min(channels, Index{kChunk}) : channels,
                     .by_chunks = by_chunks,
                     .in_place = size.rows > 1 && !by_chunks && sees_itself(grid),
                     .rows_apart = size.rows > 1};
  if (blocks.in_place && blocks.columns < last.count) {
    const Index columns = kProductStripBytes / (std::max<Index>(1, channels) * tile.bytes);
    const Index panels = ceil_div(last.count, tile.columns());
    const Index most = std::clamp(columns / tile.columns(), kFewPanels, kStripColumns / tile.columns());
    blocks.columns = ceil_div(panels, ceil_div(panels, most)) * tile.columns();
  }
  const auto bytes = [&] {
    return by_chunks ? strip_scratch(grid, size.rows, blocks, tile)
                     : strip_elements(grid, blocks, tile) * tile.bytes;
  };
  while (by_chunks && bytes() > kMostStripBytes && blocks.columns > kFewPanels * tile.columns())
    blocks.columns = ceil_div(blocks.columns, 2);
  if (bytes() > kMostStripBytes || strip_scratch(grid, size.rows, blocks, tile) > most_scratch)
    return std::nullopt;

  // What one tile of rows reads comes from the second level anyway; what counts is how often it is copied.
  const bool once = !by_chunks && !blocks.in_place && size.rows <= tile.rows && channels > 1;
  const Index usual = size.rows == 1 ? kStencilStripBytes : kProductStripBytes;
  const Index room = std::min(by_chunks || once ? kMostStripBytes : usual, most_scratch);
  const auto most_rows = [&] {
    const double row_flops = 2.0 * static_cast<double>(size.rows * size.terms * blocks.columns);
    Index most = 1, too_many = all_rows + 1;
    while (too_many - most > 1) {
      blocks.rows = most + (too_many - most) / 2;
      const bool fits = bytes() <= room && row_flops * static_cast<double>(blocks.rows) <= kPieceFlops;
      (fits ? most : too_many) = blocks.rows;
    }
    return most;
  };
  Index rows = most_rows();
  while (once && blocks.columns > kFewPanels * tile.columns()) {
    const StripBlocks wide = blocks;
    const double copied = copies(grid, rows, blocks.columns);
    blocks.columns = round_up(ceil_div(blocks.columns, 2), tile.lanes);
    const Index more = most_rows();
    if (copies(grid, more, blocks.columns) > kFewerCopies * copied) {
      blocks = wide;
      break;
    }
    rows = more;
  }
  blocks.rows = ceil_div(all_rows, ceil_div(all_rows, rows));  // blocks of equal size
  const auto unit_flops = [&] {
    return 2.0 * static_cast<double>(size.rows * size.terms * blocks.columns * blocks.rows);
  };
  const auto units = [&] {
    return size.groups * size.pixels / (all_rows * last.count) * ceil_div(all_rows, blocks.rows) *
           ceil_div(last.count, blocks.columns);
  };
  if (size.threads > 1 && blocks.in_place && unit_flops() > 2 * kStripPieceFlops) {
    // Nothing is copied, so each thread has as many vectors of pixels.
    const Index cuts = ceil_div(last.count, blocks.columns), others = units() / cuts;
    blocks.columns = block_for_threads(ceil_div(last.count, tile.lanes),
                                       std::max(cuts, ceil_div(size.threads, others)), others, size.threads) *
                     tile.lanes;
  }
  // Small images are cut up, though rows are then copied twice, where threads would have nothing to do.
  while (!blocks.in_place && size.threads > 1 && units() < 2 * size.threads &&
         unit_flops() > 2 * kStripPieceFlops) {
    if (blocks.rows > 1) {
      blocks.rows = ceil_div(blocks.rows, 2);
    } else if (blocks.columns > 2 * tile.columns()) {
      blocks.columns = round_up(ceil_div(blocks.columns, 2), tile.columns());
    } else {
      break;
    }
  }
  blocks.units = std::max<Index>(1, static_cast<Index>(kStripPieceFlops / std::max(1.0, unit_flops())));
  const Index pieces = ceil_div(units(), blocks.units);
  if (blocks.units == 1 && unit_flops() > 2 * kStripPieceFlops)
    blocks.rows = ceil_div(blocks.rows, parts_for_threads(pieces, size.threads, blocks.rows));
  return blocks;
}

Counts count_strips(const PixelGrid& grid, const ProductSize& size, Index channels, const StripBlocks& blocks,
                    const Tile& tile) {
  const PixelAxis& last = grid.axes.back();
  const double vectors = parts(blocks.columns, tile.lanes);  // of a row of pixels
  const double pixel_rows = static_cast<double>(size.pixels / last.count) * parts(last.count, blocks.columns);
  const double units = pixel_rows / static_cast<double>(blocks.rows);
  const double strip_rows = static_cast<double>(strip_elements(grid, blocks, tile)) /
                            static_cast<double>(blocks.columns + tile.columns()) *
                            static_cast<double>(channels) /
                            static_cast<double>(std::max<Index>(1, blocks.channels));
  Counts count;
  if (blocks.in_place) {
    if (size.source_channel * tile.bytes >= kPageBytes)
      count[Work::kPage] = pixel_rows * parts(blocks.columns, tile.columns()) *
                           static_cast<double>(std::max<Index>(0, channels - kStreams));
  } else {
    count[last.source_stride == 1 ? Work::kFill : Work::kFillApart] = units * strip_rows * vectors;
    count[Work::kFillRow] = units * strip_rows;
  }
  count[last.target_stride == 1 ? Work::kResult : Work::kResultApart] =
      pixel_rows * static_cast<double>(size.rows) * vectors;
  const auto terms = static_cast<double>(size.terms);
  if (size.rows == 1) {
    count[Work::kStencil] = pixel_rows * vectors * terms;
  } else {
    constexpr Index kLine = 64;
    const Index at_once = blocks.by_chunks ? Index{kChunk} : size.terms;
    const Index factors = at_once * (size.scattered ? kLine : tile.rows * tile.bytes);
    const Work work = factors <= kFirstLevelFactors ? Work::kStripTile
                      : size.rows_follow            ? Work::kFarTile
                                                    : Work::kLongTile;
    const Strips strips(grid, blocks);
    count[work] =
        runs_on(strips, blocks.rows, blocks.columns, size.rows, tile)
            ? units * terms *
                  panel_vectors(size.rows, (blocks.rows - 1) * strips.width() + blocks.columns, tile)
            : pixel_rows * terms * panel_vectors(size.rows, blocks.columns, tile);
    count_factors(size, size.rows_follow ? Work::kFactorApart : Work::kFactor,
                  units * static_cast<double>(size.rows) * terms / static_cast<double>(tile.lanes), tile,
                  count);
    // Taps of one row of the window, and of one phase of its stride, read the same lines.
    const Index lines =
        channels * grid.taps() / std::max<Index>(1, static_cast<Index>(last.tap.size())) * phases(last);
    const double read = pixel_rows * parts(blocks.columns, tile.lanes) * static_cast<double>(lines);
    if (blocks.by_chunks) {
      const double chunks = parts(size.terms, kChunk);
      count[Work::kCall] =
          pixel_rows * parts(blocks.columns, tile.columns()) * parts(size.rows, tile.rows) * chunks;
      count[Work::kResult] += pixel_rows * static_cast<double>(size.rows) * vectors * chunks;
      if (ceil_div(kChunk, grid.taps()) * strip_elements(grid, blocks, tile) / blocks.channels * tile.bytes >
          kFirstLevel)
        count[Work::kStripRead] = read;
    } else if (factors + lines * (tile.columns() + tile.lanes) * tile.bytes > kFirstLevel) {
      count[Work::kStripRead] = read * parts(size.rows, tile.rows);
    }
  }
  return count.times(static_cast<double>(size.groups));
}

Counts count_panels(const PixelGrid& grid, const ProductSize& size, const ProductBlocks& blocks,
                    const Tile& tile) {
  const auto terms = static_cast<double>(size.terms), rows = static_cast<double>(size.rows);
  const Index all_panels = std::max(blocks.all_panels, ceil_div(size.pixels, tile.columns()));
  const auto panels = static_cast<double>(all_panels);
  const double chunks = parts(size.terms, kChunk);
  const PixelAxis& last = grid.axes.back();
  // A vector is put together from as many runs of pixels as it has rows.
  const double runs = parts(size.pixels, tile.lanes) + parts(size.pixels, std::max<Index>(1, last.count));
  const double packings = parts(size.rows, blocks.rows) * runs;
  Counts count;
  count[Work::kTile] = terms * even_vectors(size.rows, size.pixels, tile, all_panels);
  count[Work::kCall] = panels * parts(size.rows, tile.rows) * chunks;
  const Work gather = last.source_stride != 1 ? Work::kGatherApart
                      : last.step != 1        ? Work::kGatherStep
                                              : Work::kGather;
  count[gather] = packings * terms;
  if (size.source_channel * tile.bytes >= kPageBytes)
    count[Work::kPage] =
        panels * parts(size.rows, blocks.rows) * terms / static_cast<double>(std::max<Index>(1, grid.taps()));
  count[Work::kTable] = packings * static_cast<double>(grid.taps());
  count_factors(size, size.rows_follow ? Work::kFactorApart : Work::kFactor,
                parts(all_panels, blocks.panels) * rows * terms / static_cast<double>(tile.lanes), tile,
                count);
  count[last.target_stride == 1 ? Work::kResult : Work::kResultApart] =
      rows * parts(size.pixels, tile.lanes) * chunks;
  return count.times(static_cast<double>(size.groups));
}

Index shared_panels(Index columns, Index others, Index threads, const Tile& tile) {
  constexpr Index kLeastVectors = 2;
  const Index vectors = ceil_div(columns, tile.lanes), fewest = ceil_div(vectors, tile.vectors);
  const Index shared = round_up(fewest, threads);
  return others % threads != 0 && kLeastVectors * shared <= vectors ? shared : fewest;
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
  Index panel_count =
      std::clamp<Index>(panels_in_time(), std::min(kLeastPanels, panels), std::min(kPanels, panels));

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
  const bool packs = size.scattered || size.taps_apart;
  cut(wanted, kRepackTiles, packs ? kPackedPanels : kReadPanels);
  cut(size.threads, kLeastTiles, 1);
  Index others = size.groups * ceil_div(row_tiles, tiles);
  const Index vectors = ceil_div(size.pixels, tile.lanes);
  if (others % size.threads != 0 && 16 * round_up(vectors, size.threads) > 17 * vectors) {
    // So few vectors that some threads would have many more: they share the rows.
    const Index some = block_for_threads(row_tiles, ceil_div(row_tiles, tiles), size.groups, size.threads);
    if (some >= kLeastTiles) tiles = some;
    others = size.groups * ceil_div(row_tiles, tiles);
  }
  const Index all_panels = std::max<Index>(1, shared_panels(size.pixels, others, size.threads, tile));
  if (size.threads > 1) {
    const Index some = block_for_threads(all_panels, ceil_div(all_panels, panel_count), others, size.threads);
    panel_count = some;
    // Larger pieces where no more of them are equally many for each thread.
    const auto equal = [&] { return ceil_div(all_panels, panel_count) * others % size.threads == 0; };
    while (panel_count < 2 * some && !equal()) ++panel_count;
    if (!equal()) panel_count = some;
  }

  // A panel alone would not repay the packing of its factors.
  bool pack_factor = packs && panel_count > 1;
  const auto blocks = [&] {
    // Row blocks of equal size.
    return ProductBlocks{.panels = panel_count,
                         .rows = ceil_div(row_tiles, ceil_div(row_tiles, tiles)) * tile.rows,
                         .table_bytes = size.table_bytes,
                         .pack_factor = pack_factor,
                         .all_panels = all_panels};
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

namespace {

ProductSize size_of_part(const VisiblePart& part, const ProductSize& size, Index channels, const Tile& tile) {
  ProductSize found = size;
  found.terms = channels * part.grid.taps();
  found.pixels = part.grid.images * part.grid.per_image();
  found.table_bytes = panel_size(part.grid, tile.lanes, tile.vectors).bytes();
  return found;
}

}  // namespace

std::vector<PartBlocks> choose_parts(const PixelGrid& grid, const ProductSize& size, Index channels,
                                     const Tile& tile) {
  const double flops =
      2 * static_cast<double>(size.groups * size.rows) * static_cast<double>(size.terms * size.pixels);
  if (flops < kPartsFlops || visible_share(grid) > kPartsShare) return {};
  std::vector<VisiblePart> parts = visible_parts(grid);
  if (parts.size() > kMostParts) return {};
  std::vector<PartBlocks> found;
  for (VisiblePart& part : parts) {
    ProductSize part_size = size_of_part(part, size, channels, tile);
    // Threads share the parts, unless these are few.
    if (static_cast<Index>(parts.size()) >= wanted_pieces(size.threads)) part_size.threads = 1;
    found.push_back({std::move(part), choose_blocks(part_size, tile, std::numeric_limits<Index>::max())});
  }
  return found;
}

DirectCandidates direct_candidates(const PixelGrid& grid, const ProductSize& any_size, Index channels,
                                   const FilterStrides& strides, const Tile& tile, Index most_scratch) {
  ProductSize size = any_size;
  size.threads = 1;
  DirectCandidates found{.panels = count_panels(grid, size, choose_blocks(size, tile, most_scratch), tile),
                         .parts = {},
                         .filters = choose_filters(grid, size, channels, strides, tile, most_scratch),
                         .filters_counts = {},
                         .strips = choose_strips(grid, size, channels, tile, most_scratch),
                         .strips_counts = {}};
  if (most_scratch == std::numeric_limits<Index>::max()) {
    found.parts = choose_parts(grid, size, channels, tile);
    Counts counts;
    for (const PartBlocks& each : found.parts)
      counts = counts.plus(
          count_panels(each.part.grid, size_of_part(each.part, size, channels, tile), each.blocks, tile));
    if (predicted(counts, tile) < predicted(found.panels, tile) && !found.parts.empty()) {
      found.panels = counts;
    } else {
      found.parts.clear();
    }
  }
  if (found.filters)
    found.filters_counts = count_filters(grid, size, channels, strides, *found.filters, tile);
  if (found.strips) found.strips_counts = count_strips(grid, size, channels, *found.strips, tile);
  return found;
}

DirectCandidates::Fastest DirectCandidates::fastest(const Tile& tile) const {
  Fastest best{Driver::kPanels, predicted(panels, tile)};
  const auto offer = [&](Driver driver, const Counts& counts) {
    const double seconds = predicted(counts, tile);
    if (seconds < best.seconds) best = {driver, seconds};
  };
  if (filters) offer(Driver::kFilters, filters_counts);
  if (strips) offer(Driver::kStrips, strips_counts);
  return best;
}

}  // namespace windrow
