// The input gradient of a stride, all its phases together (docs/architecture.md): one piece of work brings in
// what they see of dy once, and the factors once, and neighbouring phases of the last axis are written as one
// row.
#pragma once

#include "drivers/window_product.hpp"
#include "pack/strips.hpp"

namespace windrow {

// One phase, for pixels of the common grid.
struct Phase {
  Index target = 0;  // offset of its first pixel
  Extents count;     // pixels along each axis: those of the grid, or one less
  Extents tap;       // its taps in the order of their terms: each one of the grid's ...
  Extents factor;    // ... with one of the factors' taps
};

// Phases of the last axis, side by side in `phases`, that are made together: those that are written as one
// row, or that see the same taps with factors at one distance, which are then rows of one product.
struct AlikePhases {
  std::size_t first;
  Index count;
  Index factor_step;  // from the factors of one to those of the next; 0: each is a product of its own
};
std::vector<AlikePhases> alike_phases(const std::vector<Phase>& phases, Index columns,
                                      const Extents& factor_tap);

// target[m, first + p] = sum over channel, tap of factor[m, channel, tap] * source[channel, window(p, tap)]
// (+ bias[m]), for each phase.
template <class T>
struct PhaseProduct {
  // Its grid has the pixels of the largest phase and the taps of all phases together; its factor_tap are
  // those of w, row-major.
  WindowProduct<T> all;
  std::vector<Phase> phases;  // row-major
  // Phases that are written as one row: two under a stride of 2 along the last axis, side by side in
  // `phases`, else each alone.
  Index columns = 1;
  Index column_stride = 1;  // from one to the other in the target, or from pixel to pixel of one
  std::vector<AlikePhases> alike;
};

// How the loops are cut.
struct PhaseBlocks {
  bool strips = false;  // few rows: source rows are copied, not packed
  StripBlocks strip;
  Index panels = 0;       // else panels of NR pixels in one piece of work,
  Index rows = 0;         // rows of it,
  Index factor_rows = 0;  // rows whose factors are packed at a time,
  Index channels = 0;     // and channels: whole chunks of terms, or all
  Index table_bytes = 0;  // of the table of a panel
};

// Both run on shapes that choose_phases has found blocks for.
template <class T>
void run_phase_product(const PhaseProduct<T>& problem, const PhaseBlocks& blocks, const Target& target,
                       const RunContext& context);
template <class T>
void run_phase_strips(const PhaseProduct<T>& problem, const PhaseBlocks& blocks, const Target& target,
                      const RunContext& context);

// What the choice knows of a problem without its arrays.
struct PhaseSize {
  Index rows, channels, groups;
  Index columns;
  Index phases;       // that have taps, ...
  Index all_phases;   // all of them, ...
  Index alike;        // most that are made together, ...
  Index merged;       // and as rows of one product
  Index factor_taps;  // of w
  Index threads;      // that share the work
};
template <class T>
PhaseSize phase_size(const PhaseProduct<T>& p, Index threads = 1) {
  PhaseSize size{.rows = p.all.rows,
                 .channels = p.all.channels,
                 .groups = p.all.groups,
                 .columns = p.columns,
                 .phases = 0,
                 .all_phases = static_cast<Index>(p.phases.size()),
                 .alike = 0,
                 .merged = 0,
                 .factor_taps = static_cast<Index>(p.all.factor_tap.size()),
                 .threads = threads};
  for (const Phase& phase : p.phases) size.phases += phase.tap.empty() ? 0 : 1;
  for (const AlikePhases& some : p.alike) {
    size.alike = std::max(size.alike, some.count);
    if (some.factor_step != 0) size.merged = std::max(size.merged, some.count);
  }
  return size;
}

// Bytes of scratch that one thread takes at most, and pieces of work.
Index phase_scratch(const PixelGrid& grid, const PhaseSize& size, const PhaseBlocks& blocks,
                    const Tile& tile);
Index phase_strip_scratch(const PixelGrid& grid, const PhaseSize& size, const PhaseBlocks& blocks,
                          const Tile& tile);
Index phase_pieces(const PixelGrid& grid, const PhaseSize& size, const PhaseBlocks& blocks, const Tile& tile);

// Rows of sums of one phase, or of two that lie side by side, to where they belong.
template <class T>
void store_phases(const KernelTable<T>& kernels, T* target, const T* even, const T* odd, Index evens,
                  Index odds, Index column_stride, Index rows = 1, Index target_row = 0,
                  Index source_row = 0) {
  if (odd && column_stride == 1) {
    kernels.interleave({.target = target,
                        .even = even,
                        .odd = odd,
                        .evens = evens,
                        .odds = odds,
                        .rows = rows,
                        .target_row = target_row,
                        .source_row = source_row});
    return;
  }
  const auto spread = [&](T* to, const T* sums, Index count) {
    kernels.spread({.target = to,
                    .source = sums,
                    .step = odd ? 2 * column_stride : column_stride,
                    .count = count,
                    .rows = rows,
                    .target_row = target_row,
                    .source_row = source_row});
  };
  spread(target, even, evens);
  if (odd) spread(target + column_stride, odd, odds);
}

}  // namespace windrow
