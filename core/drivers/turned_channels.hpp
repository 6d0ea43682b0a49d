// The product of channel_product for arrays in C order: some channels of an image at a time are turned over,
// their pixels side by side no more but their channels, and what comes out is turned back. For small images
// and windows of many taps, whose rows leave lanes along the pixels empty. Same plan of sums, so the same
// bits.
#pragma once

#include "drivers/channel_product.hpp"

namespace windrow {

// How many channels are best turned over at a time; 0 where the product is not of this kind, or lanes along
// the pixels are faster.
template <class T>
Index choose_turned_channels(const WindowProduct<T>& p, const Tile& tile, Index threads);

template <class T>
void run_turned_channels(const WindowProduct<T>& problem, Index channels, const Target& target,
                         const RunContext& context);

Index turned_pieces(const PixelGrid& grid, Index groups, Index channels);
Index turned_scratch(const PixelGrid& grid, Index channels, Index element);  // bytes of one thread

}  // namespace windrow
