// The blocked product over windows: convolution forward, and its input gradient one stride phase at a time.
#pragma once

#include "base/parallel.hpp"
#include "dispatch/targets.hpp"
#include "pack/panels.hpp"
#include "pack/visible.hpp"

namespace windrow {

// How the loops are cut. Chosen from the shapes alone (plan/choose.hpp): it changes speed, never a bit of the
// result.
struct ProductBlocks {
  Index panels = 0;          // NC: panels of NR pixels in one piece of work, at most
  Index rows = 0;            // MC: result rows of one piece, a multiple of MR
  Index table_bytes = 0;     // of the table of each panel
  bool pack_factor = false;  // copy the factors of a chunk side by side, instead of reading them in place
  Index all_panels = 0;      // of nearly equal width, if there are more of them than the pixels fill
};

// For each image, group, row m and pixel p:
//   target[m, p] (+)= sum over channel, tap of factor[m, channel, tap] * source[channel, window(p, tap)]  (+
//   bias[m])
template <class T>
struct WindowProduct {
  PixelGrid grid;
  Index groups = 1, rows = 0, channels = 0;  // rows and channels of one group

  const T* source = nullptr;
  Index source_channel = 0, source_group = 0;

  const T* factor = nullptr;
  Index factor_row = 0, factor_channel = 0, factor_group = 0;
  Extents factor_tap;  // offset of each tap, in the order of grid's taps
  // Where taps that see zeros alone are left out: the numbers of the others, and of how many. Chunks are
  // those of all.
  Extents tap_number = {};
  Index all_taps = 0;

  T* target = nullptr;
  Index target_row = 0, target_group = 0;
  const T* bias = nullptr;  // groups * rows values, or null
  Index bias_stride = 1;
  bool accumulate = false;
  bool strided = false;  // a stride phase of the whole
  Limits limits = {};    // of the target, after all
};

// Whether all factors of a row lie side by side, in the order of the terms.
template <class T>
bool factors_follow(const WindowProduct<T>& p) {
  const Index taps = p.grid.taps();
  bool follow = p.factor_channel == taps;
  for (Index t = 0; t < taps; ++t) follow = follow && p.factor_tap[static_cast<std::size_t>(t)] == t;
  return follow;
}

template <class T>
void run_window_product(const WindowProduct<T>& problem, const ProductBlocks& blocks, const Target& target,
                        const RunContext& context);

// The same on the calling thread alone, so that a piece of other work may ask for it.
template <class T>
void run_window_product_here(const WindowProduct<T>& problem, const ProductBlocks& blocks,
                             const Target& target);

// Pixels that see the same taps, and how the work on them is cut.
struct PartBlocks {
  VisiblePart part;
  ProductBlocks blocks;
};

// The same by parts, all of them shared out together; or false, and nothing done, where a factor is not
// finite, so that the zeros which no part sees would count.
template <class T>
bool run_window_parts(const WindowProduct<T>& problem, const std::vector<PartBlocks>& parts,
                      const Target& target, const RunContext& context);

// Bytes of scratch that one thread of such a run takes at most.
Index product_scratch(const ProductBlocks& blocks, const Tile& tile);

}  // namespace windrow
