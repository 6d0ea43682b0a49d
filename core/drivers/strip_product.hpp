// The product over windows without packing: a few rows of the source are copied once, padded with zeros and
// with the phases of a strided window apart. Every tap then reads at a constant offset from every pixel, so
// that the kernels read the copy in place. It serves depthwise problems, few channels and small problems,
// where packing a panel for each tap would cost as much as the sums. Same plan of sums as
// drivers/window_product, so the same bits.
#pragma once

#include "drivers/window_product.hpp"

namespace windrow {

// One unit of work is `rows` rows of at most `columns` pixels of one image and group.
struct StripBlocks {
  Index rows = 0, columns = 0;
  Index units = 0;  // in one piece of work
};

template <class T>
void run_strip_product(const WindowProduct<T>& problem, const StripBlocks& blocks, const Target& target,
                       const RunContext& context);

// Elements of the copy that one unit of work needs.
Index strip_elements(const PixelGrid& grid, Index channels, const StripBlocks& blocks, const Tile& tile);

// Bytes of scratch that one thread of such a run takes.
Index strip_scratch(const PixelGrid& grid, Index channels, const StripBlocks& blocks, const Tile& tile);

}  // namespace windrow
