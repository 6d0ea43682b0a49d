// The product over windows with lanes along the filters: the two operands of the micro-kernel change places.
// Rows of a tile are pixels, whose windows are read from a channels-last strip, or in place; its columns are
// rows of the result, whose factors are packed into panels. It serves targets whose filters lie side by side,
// as in channels-last arrays; others, if they have few pixels, by turning the sums over at the end. Same plan
// of sums as drivers/window_product, so the same bits.
#pragma once

#include "drivers/pixel_boxes.hpp"
#include "drivers/window_product.hpp"

namespace windrow {

// Longer passes save hardly more, and a panel is to leave the second-level cache room for the rest.
inline constexpr Index kMostPass = 4 * kChunk;

// How the work is cut. One unit is some rows and columns of pixels of one image.
struct FilterBlocks {
  Index rows = 0, columns = 0;  // pixels of one unit
  Index units = 0;              // of one piece of work
  Index panels = 0;             // of nearly equal width, in which all result rows lie
  Index parts = 0;              // pieces that the panels are shared out to
  Index pass = kMostPass;       // terms of a panel, in whole chunks; so many where factors are kept
  Index packed = 1;             // panels that are packed at a time, for the terms of a pass
  Index boxes = 1;              // at most, that a unit's pixels lie in, each with taps of its own
  bool turned = false;          // sums are kept in scratch memory and turned over at the end; no `accumulate`

  Index most_panels() const { return ceil_div(panels, parts); }  // of one piece
};

// What a piece does with the pixels of such blocks of a product.
PixelWork pixel_work(const PixelGrid& grid, Index rows, Index channels, const FilterBlocks& blocks,
                     const Tile& tile);

// `panels`: what `pack_filters` made of the same factors; or null.
template <class T>
void run_filter_product(const WindowProduct<T>& problem, const FilterBlocks& blocks, const T* panels,
                        const Target& target, const RunContext& context);

// All factors as panels of filters, for problems that differ in pixels alone: packed once, not by each piece
// of each call. For any blocks that are not empty. `filter_panels`: their elements.
template <class T>
void pack_filters(const WindowProduct<T>& problem, const FilterBlocks& blocks, T* panels,
                  const Target& target, const RunContext& context);
Index filter_panels(Index groups, Index rows, Index terms, const Tile& tile);

// What a cut makes of one group: pieces of work, elements of the strips of one piece, and bytes of scratch
// that one thread takes.
Index filter_pieces(const PixelGrid& grid, const FilterBlocks& blocks);
Index filter_strip_elements(const PixelGrid& grid, Index channels, const FilterBlocks& blocks,
                            const Tile& tile);
Index filter_scratch(const PixelGrid& grid, Index channels, const FilterBlocks& blocks, const Tile& tile);

}  // namespace windrow
