// The product over windows without packing (pack/strips.hpp). It serves depthwise problems, few channels and
// small problems, where packing a panel for each tap would cost as much as the sums. Same plan of sums as
// drivers/window_product, so the same bits.
#pragma once

#include "drivers/window_product.hpp"
#include "pack/strips.hpp"

namespace windrow {

template <class T>
void run_strip_product(const WindowProduct<T>& problem, const StripBlocks& blocks, const Target& target,
                       const RunContext& context);

// Whether lanes run on over the ends of the rows of a block, with the strip's padding between them.
bool runs_on(const Strips& strips, Index rows, Index columns, Index product_rows, const Tile& tile);

// Elements of the strips that one unit of work needs.
Index strip_elements(const PixelGrid& grid, const StripBlocks& blocks, const Tile& tile);

// Bytes of scratch that one thread of such a run takes.
Index strip_scratch(const PixelGrid& grid, Index rows, const StripBlocks& blocks, const Tile& tile);

}  // namespace windrow
