// Panels of the right-hand operand: up to NR pixels side by side, and for each tap and vector the runs of
// memory that its lanes come from. The table is made once per panel and serves every channel, so that packing
// a channel is a few masked loads and stores: this is im2col, one panel at a time.
#pragma once

#include <vector>

#include "base/types.hpp"
#include "kernels/contract.hpp"

namespace windrow {

// One spatial axis of a product over windows: pixel p, tap t reads source position p * step + tap[t], and
// zero where that is outside [0, size). Forward and input gradient differ only in these numbers
// (docs/architecture.md).
struct PixelAxis {
  Index count = 1;  // pixels along this axis
  Index step = 1;   // source positions from pixel to pixel
  Index size = 1;   // source positions
  Index source_stride = 0;
  Index target_stride = 0;
  Extents tap;  // source position of each tap, from p * step
};

// The grid of pixels: images in front, then the spatial axes; pixels are numbered row-major over all of them.
struct PixelGrid {
  std::vector<PixelAxis> axes;  // at least one
  Index images = 1;
  Index source_image = 0;  // stride from image to image
  Index target_image = 0;

  Index per_image() const;
  Index taps() const;
  // Whether neighbouring pixels of one image are neighbours in the target, rows included.
  bool target_is_contiguous() const;
};

// Pixels of a panel that lie side by side along the last axis.
struct Run {
  Index lane, count;
  Index target;  // offset of the first one
};

// The gather table of one panel.
class PanelTable {
 public:
  // Prepares for the pixels [first, first + count), count <= NR.
  void place(const PixelGrid& grid, Index first, Index count, int lanes);
  // Makes the segments of the taps [tap0, tap1).
  void set_taps(const PixelGrid& grid, Index tap0, Index tap1);

  int vectors() const { return vectors_; }
  Index count() const { return count_; }
  const std::vector<Run>& runs() const { return runs_; }
  // True where all pixels lie side by side in the target, starting at runs()[0].target.
  bool contiguous(const PixelGrid& grid) const;

  // Packs `channel`'s taps [tap0, tap1), which lie among those set, as rows of vectors() vectors each.
  template <class T>
  void pack(const KernelTable<T>& kernels, const T* channel, Index tap0, Index tap1, T* target) const {
    kernels.gather({.target = target,
                    .source = channel,
                    .segments = segments_.data(),
                    .first = first_segment_.data() + (tap0 - tap0_) * vectors_,
                    .count = (tap1 - tap0) * vectors_,
                    .step = lane_step_});
  }

 private:
  struct SourceRun {
    Index lane, count, image;
    Extents position;  // of the first pixel, along every axis
  };
  void add_tap(const PixelGrid& grid, const Extents& tap);

  int lanes_ = 0;
  int vectors_ = 0;
  Index count_ = 0;
  Index lane_step_ = 1;
  Index tap0_ = 0;
  std::vector<Run> runs_;
  std::vector<SourceRun> source_runs_;
  std::vector<Segment> segments_;
  std::vector<std::int32_t> first_segment_;
};

}  // namespace windrow
