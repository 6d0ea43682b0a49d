// The product over windows with one row and one channel per group, where the channels of source and result
// lie side by side, as in channels-last arrays: lanes run along the channels. Nothing is copied but the
// weights; taps outside the source read a row of zeros. Same plan of sums as drivers/window_product, so the
// same bits.
#pragma once

#include "drivers/window_product.hpp"

namespace windrow {

// How the work is cut. One unit is some columns of one line of pixels, with all their channels.
struct ChannelBlocks {
  Index columns = 0;
  Index units = 0;  // of one piece of work
};

// True where the channels of all groups fill the lanes.
template <class T>
bool has_channel_lanes(const WindowProduct<T>& p, Index lanes) {
  return p.channels == 1 && p.rows == 1 && p.source_group == 1 && p.target_group == 1 && p.groups >= lanes;
}

ChannelBlocks choose_channels(const PixelGrid& grid, Index groups);

template <class T>
void run_channel_product(const WindowProduct<T>& problem, const ChannelBlocks& blocks, const Target& target,
                         const RunContext& context);

// The same on the calling thread alone, so that a piece of other work may ask for it.
template <class T>
void run_channel_product_here(const WindowProduct<T>& problem, const ChannelBlocks& blocks,
                              const Target& target);

Index channel_pieces(const PixelGrid& grid, const ChannelBlocks& blocks);
Index channel_scratch(const PixelGrid& grid);                              // bytes of one thread ...
Index channel_shared(const PixelGrid& grid, Index groups, Index element);  // ... and of all together

}  // namespace windrow
