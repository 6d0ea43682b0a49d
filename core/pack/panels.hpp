// Panels of the right-hand operand: up to NR pixels side by side, and for each tap and vector the runs of
// memory that its lanes come from. The table is made once per panel and serves every channel, so that packing
// a channel is a few masked loads and stores: this is im2col, one panel at a time.
#pragma once

#include <span>
#include <vector>

#include "base/types.hpp"
#include "base/workspace.hpp"
#include "kernels/contract.hpp"

namespace windrow {

// One spatial axis of a product over windows: pixel p, tap t reads source position p * step + tap[t], and
// what the border says where that is outside [0, size). Forward and input gradient differ only in these
// numbers (docs/architecture.md).
struct PixelAxis {
  Index count = 1;  // pixels along this axis
  Index step = 1;   // source positions from pixel to pixel
  Index size = 1;   // source positions
  Index source_stride = 0;
  Index target_stride = 0;
  Border border = Border::kConstant;
  Extents tap;  // source position of each tap, from p * step

  // The source position whose value stands at `position`, or -1 where that is a constant.
  Index at(Index position) const { return repeated_position(position, size, border); }

  // Of some pixels side by side, the first of which reads position `start` and the others `pace` ahead of the
  // one before, those that read the image itself.
  struct Inside {
    Index from, to;
  };
  Inside inside(Index start, Index pixels, Index pace) const;
  Inside inside(Index start, Index pixels) const { return inside(start, pixels, step); }
};

// The windows of `axis` on a source and a target of these strides.
PixelAxis window_pixels(const WindowAxis& axis, Index source_stride, Index target_stride);

// The grid of pixels: images in front, then the spatial axes; pixels are numbered row-major over all of them.
struct PixelGrid {
  std::vector<PixelAxis> axes;  // at least one
  Index images = 1;
  Index source_image = 0;  // stride from image to image
  Index target_image = 0;
  double fill = 0;  // what a constant border of the source holds

  Index per_image() const;
  Index taps() const;
};

// Pixels of a panel that lie side by side along the last axis.
struct Run {
  Index lane, count;
  Index target;  // offset of the first one
};

// How large the table of a panel may become.
struct PanelSize {
  Index lanes, vectors;
  Index rank;
  Index runs;       // of pixels along the last axis
  Index taps;       // set at a time
  Index last_taps;  // of them along the last axis
  Index repeated;   // pixels of a panel for which a tap reads a pixel that the border repeats

  Index more() const { return taps * (runs + repeated + vectors); }  // segments of vectors that have several
  Index bytes() const;
};

// Of a window of very many taps a table has a few at a time, which lie in one row of the window.
PanelSize panel_size(const PixelGrid& grid, Index lanes, Index vectors);

// The gather table of one panel, in scratch memory.
class PanelTable {
 public:
  PanelTable(Scratch& scratch, const PanelSize& size);

  // Prepares for the pixels [first, first + count), which the vectors have room for.
  void place(const PixelGrid& grid, Index first, Index count);
  // Makes the segments of the taps [tap0, tap1), of which there are no more than the table has room for.
  void set_taps(const PixelGrid& grid, Index tap0, Index tap1);

  std::span<const Run> runs() const { return {runs_, static_cast<std::size_t>(run_count_)}; }
  Index source_place() const { return source_place_; }  // of the first pixel
  // True where all pixels lie side by side in the target, starting at runs()[0].target.
  bool contiguous(const PixelGrid& grid) const;

  // Packs `channel`'s taps [tap0, tap1), which lie among those set, as rows of all the vectors. What
  // lies `ahead` of it is fetched into the cache.
  template <class T>
  void pack(const KernelTable<T>& kernels, const T* channel, Index tap0, Index tap1, Index ahead,
            T* target) const {
    const Index from = tap0 - tap0_, to = tap1 - tap0_;
    kernels.gather({.target = target,
                    .source = channel,
                    .segments = segments_ + (tap0 - tap0_) * vectors_,
                    .count = (tap1 - tap0) * vectors_,
                    .more = more_ + first_more_[from],
                    .more_count = first_more_[to] - first_more_[from],
                    .more_vector = (tap0 - tap0_) * vectors_,
                    .step = lane_step_,
                    .fill = static_cast<T>(fill_),
                    .ahead = ahead});
  }

 private:
  friend struct PanelSize;
  struct SourceRun {
    Index lane, count;
    Index image_offset;     // of its image in the source
    const Index* position;  // of the first pixel, along every axis
  };
  // The lanes of a run for which a tap of the last axis reads the image itself.
  struct Seen {
    Index low, high;  // lanes of the panel
    Index offset;     // source of lane 0, without the outer axes
  };
  void see(const PixelGrid& grid, Index tap0, Index tap1);
  void add_tap(const PixelGrid& grid, const Extents& tap, Index first_vector);
  void add_lanes(Index low, Index high, Index offset, Index first_vector);

  Index lanes_, vectors_;
  Index count_ = 0;
  Index lane_step_ = 1;
  double fill_ = 0;
  Index source_place_ = 0;
  Index tap0_ = 0;
  Index run_count_ = 0, source_run_count_ = 0, more_count_ = 0;
  Run* runs_;
  SourceRun* source_runs_;
  Index* positions_;  // of the source runs
  Index seen_tap_ = 0;
  Seen* seen_;                  // [tap of the last axis, from seen_tap_ on][run]
  Segment* segments_;           // one per tap and vector
  Segment* more_;               // those of vectors that have several, in order of taps
  std::ptrdiff_t* first_more_;  // per tap, and the end
};

}  // namespace windrow
