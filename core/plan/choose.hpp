// The choice of algorithm and block sizes: pure functions of shapes and of the target's tile.
#pragma once

#include "drivers/window_product.hpp"

namespace windrow {

// What the choice of blocks depends on, for one group of a product over windows.
struct ProductSize {
  Index rows, terms, pixels;  // M, K, N of the product
  Index groups;
};

// Blocks whose scratch is at most `most_scratch` bytes for each thread, if any are.
ProductBlocks choose_blocks(const ProductSize& size, const Tile& tile, Index most_scratch);

}  // namespace windrow
