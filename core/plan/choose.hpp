// The choice of algorithm and block sizes: pure functions of shapes and of the target's tile.
#pragma once

#include <optional>

#include "drivers/filter_product.hpp"
#include "drivers/phases.hpp"
#include "drivers/strip_product.hpp"
#include "drivers/window_product.hpp"
#include "plan/costs.hpp"

namespace windrow {

// What the choice of blocks depends on, for one group of a product over windows.
struct ProductSize {
  Index rows, terms, pixels;  // M, K, N of the product
  Index groups;
  Index table_bytes;        // of the table of one panel
  Index source_channel;     // from channel to channel of the source
  bool scattered = false;   // factors of neighbouring terms lie far apart, those of neighbouring rows do not
  bool taps_apart = false;  // those of the taps of a channel do, and those of its neighbours lie between them
  bool rows_follow = false;  // the factors of a term lie closer together than those of a row
  Index threads = 1;         // that share the work
};

// Notes that so many vectors of factors are read, as one kind of work.
void count_factors(const ProductSize& size, Work work, double vectors, const Tile& tile, Counts& count);

// Pieces of work that keep the threads busy, although they run unequally fast. A thread alone waits for
// nobody: cut without need, pieces read the factors or the source again, each of them.
inline Index wanted_pieces(Index threads) { return threads == 1 ? 1 : 4 * threads; }

// Panels of nearly equal width for so many columns, of which there are `others` besides: as few as can be, or
// as many for each thread, unless they would be narrower than two vectors, which load as many factors as
// three.
Index shared_panels(Index columns, Index others, Index threads, const Tile& tile);

// Blocks of drivers/window_product whose scratch is at most `most_scratch` bytes for each thread, if any are.
ProductBlocks choose_blocks(const ProductSize& size, const Tile& tile, Index most_scratch);
Counts count_panels(const PixelGrid& grid, const ProductSize& size, const ProductBlocks& blocks,
                    const Tile& tile);

// Blocks for drivers/strip_product, if they fit.
std::optional<StripBlocks> choose_strips(const PixelGrid& grid, const ProductSize& size, Index channels,
                                         const Tile& tile, Index most_scratch);
Counts count_strips(const PixelGrid& grid, const ProductSize& size, Index channels, const StripBlocks& blocks,
                    const Tile& tile);

// What drivers/filter_product depends on besides: where result rows and factors lie.
struct FilterStrides {
  Index target_row, factor_row, factor_channel;
  bool accumulate;
  bool kept = false;    // factors are in panels already
  bool follow = false;  // those of a row lie side by side, in the order of the terms
};

// Blocks for drivers/filter_product, if there are filters enough to fill lanes and they fit. Results whose
// filters do not lie side by side are made here and turned over.
std::optional<FilterBlocks> choose_filters(const PixelGrid& grid, const ProductSize& size, Index channels,
                                           const FilterStrides& strides, const Tile& tile,
                                           Index most_scratch);
Counts count_filters(const PixelGrid& grid, const ProductSize& size, Index channels,
                     const FilterStrides& strides, const FilterBlocks& blocks, const Tile& tile);

// For a grid whose pixels see different taps, blocks of those that see the same ones, where leaving out what
// sees zeros may be worth it.
std::vector<PartBlocks> choose_parts(const PixelGrid& grid, const ProductSize& size, Index channels,
                                     const Tile& tile);

// The drivers that could make the direct sum of a product, and what they would do on one thread, whatever
// `size` has: pieces for more read and copy more in all, which is no loss of time. drivers/window_product can
// always.
enum class Driver { kPanels, kFilters, kStrips };
struct DirectCandidates {
  Counts panels;
  std::vector<PartBlocks> parts;  // of which the panels are made, if that is faster than all taps everywhere
  std::optional<FilterBlocks> filters;
  Counts filters_counts;
  std::optional<StripBlocks> strips;
  Counts strips_counts;

  struct Fastest {
    Driver driver;
    double seconds;
  };
  Fastest fastest(const Tile& tile) const;
};
DirectCandidates direct_candidates(const PixelGrid& grid, const ProductSize& size, Index channels,
                                   const FilterStrides& strides, const Tile& tile, Index most_scratch);

// Blocks for all phases of an input gradient together, if they fit.
std::optional<PhaseBlocks> choose_phases(const PixelGrid& grid, const PhaseSize& size, const Tile& tile,
                                         Index most_scratch);

}  // namespace windrow
