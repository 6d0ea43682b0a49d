// What every way of folding has in common: boxes of pixels with their sums in scratch memory, which window
// positions and taps meet a box, rows of sums, and the finished sums on their way into the image.
#pragma once

#include <array>

#include "base/workspace.hpp"
#include "drivers/fold.hpp"
#include "drivers/fold_numbers.hpp"

namespace windrow {

class FoldBoxes {
 protected:
  FoldBoxes(const Fold& problem, const Target& target);

  struct Range {
    Index low, high;
    Index size() const { return high - low; }
  };

  // A tap of the axis along which rows of sums lie, and where its positions meet the row: element `first` of
  // the row (of the tap's phase) takes position `low`.
  struct RowTap {
    Index tap, low, first, end;
  };

  // One box of pixels and its sums.
  struct Work {
    PackedImage sums;
    char* totals;
    ImageVector start, end;      // of the pixels
    RowTap* row_taps;            // of the row axis: phase by phase, each from the last to the first
    Index* phase_first;          // where in row_taps each phase begins; at the end, how many there are
    Streamed* stream = nullptr;  // past the caches, if the image does not fit them
  };

  // Images, or channels, one after another, which have their sources in common but for a step.
  struct Planes {
    Index count = 1, total_step = 0, source_step = 0;
  };

  // The sources of one row of sums, handed to the kernel when the list is full and at the end, for every one
  // of some planes.
  struct Sources {
    static constexpr int kMost = 32;
    Planes outer, inner;
    SumRows rows;
    SumSource list[kMost];
    int count = 0;
  };

  // What has been fixed so far on each spatial axis.
  struct Points {
    std::array<Index, kMaxSpatial> tap;
    std::array<Range, kMaxSpatial> range;  // positions (of a tap), or taps (of a position)
    std::array<Index, kMaxSpatial> position;
  };

  static constexpr std::size_t at(int i) {
    if (i < 0) __builtin_unreachable();  // else GCC 12 warns of negative axes where it unrolls a recursion
    return static_cast<std::size_t>(i);
  }
  static Index floor_div(Index a, Index b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

  Index column_count(int e) const;
  int innermost() const;  // elementary axis of the columns; -1: they are one element
  // Where a step along image axis a leads in the columns.
  Index step(int a) const;
  // Sets the order of the sums' axes, in which the last one is sorted by phases of so many pixels.
  void arrange_sums(Index phases);
  // Halves the box along the columns' widest axis until its sums take no more than so many bytes.
  void shrink_block(Index most);

  // Calls body(work, scratch) for every box, on the threads of the context; small boxes share a piece. The
  // sums are where they belong afterwards.
  template <class Body>
  void for_each_box(const RunContext& context, Body&& body) const {
    Index boxes = 1;
    for (int a = 0; a < shape_.image_axes(); ++a) boxes *= ceil_div(size_[at(a)], block_[at(a)]);
    const Index together = std::clamp<Index>(kColumnsPerPiece / columns_per_box(), 1, boxes);
    parallel_for(context, ceil_div(boxes, together), [&](Index piece) {
      Scratch kept;
      Streamed stream(kernels_, streamed_ ? kept.take<char>(Streamed::kRoom) : nullptr);
      const Index end = std::min(boxes, (piece + 1) * together);
      for (Index box = piece * together; box < end; ++box) {
        Work work = box_of(box);
        if (streamed_) work.stream = &stream;
        Scratch scratch;
        body(work, scratch);
      }
      if (streamed_) stream.finish();
    });
  }
  // Makes room for the sums of the box's pixels.
  void take_totals(Work& w, Scratch& scratch) const;
  Index numbers(const Work& w) const { return w.sums.bytes / total_ * parts_; }

  // The pixel range of a box on spatial axis i, in padded coordinates.
  Range padded(const Work& w, int i) const {
    const Index before = shape_.axes[at(i)].before;
    return {w.start[at(2 + i)] + before, w.end[at(2 + i)] + before};
  }
  static Range clip(Range pixels, Index origin, Index pace, Index count) {
    Range r{std::max<Index>(0, -floor_div(origin - pixels.low, pace)),
            std::min(count, floor_div(pixels.high - 1 - origin, pace) + 1)};
    r.high = std::max(r.high, r.low);
    return r;
  }
  // Window positions whose tap k falls into the box; taps that fall into it for position l.
  Range positions(const Work& w, int i, Index k) const {
    const WindowAxis& axis = shape_.axes[at(i)];
    return clip(padded(w, i), k * axis.dilation, axis.stride, axis.out);
  }
  Range taps(const Work& w, int i, Index l) const {
    const WindowAxis& axis = shape_.axes[at(i)];
    return clip(padded(w, i), l * axis.stride, axis.dilation, axis.kernel);
  }
  // Positions, or taps, that meet the box at all.
  Range all_positions(const Work& w, int i) const {
    const WindowAxis& axis = shape_.axes[at(i)];
    Range pixels = padded(w, i);
    pixels.low -= (axis.kernel - 1) * axis.dilation;
    return clip(pixels, 0, axis.stride, axis.out);
  }
  Range all_taps(const Work& w, int i) const {
    const WindowAxis& axis = shape_.axes[at(i)];
    Range pixels = padded(w, i);
    pixels.low -= (axis.out - 1) * axis.stride;
    return clip(pixels, 0, axis.dilation, axis.kernel);
  }

  // Where position l, tap k of spatial axis i lies among the sums.
  Index sum_offset(const Work& w, int i, Index k, Index l) const {
    const WindowAxis& axis = shape_.axes[at(i)];
    return w.sums.offset(2 + i, l * axis.stride + k * axis.dilation - axis.before - w.sums.start[at(2 + i)]);
  }
  Index sum_step(const Work& w, int i) const {
    return 2 + i == inner_ ? total_ : shape_.axes[at(i)].stride * w.sums.stride[at(2 + i)];
  }

  double weight(const Points& points) const {
    if (!p_.weights) return 0;
    Index tap = 0;
    for (int i = 0; i < rank_; ++i) tap = tap * shape_.axes[at(i)].kernel + points.tap[at(i)];
    return p_.weights[tap];
  }

  // The taps of spatial axis i along rows.
  void list_row_taps(Work& w, int i, Scratch& scratch) const;
  void add_source(Sources& sources, const char* data, Index first, Index end, double weight) const;
  void hand_on(Sources& sources) const;

  // Divides, rounds and moves the sums into the image.
  void finish(Work& w, Scratch& scratch) const;

  const Fold& p_;
  const PatchShape& shape_;
  const PatchKernels& kernels_;
  int rank_, last_;                         // of the spatial axes; the last one's number
  Index item_, total_, parts_;              // bytes of an element of the columns, of a sum; numbers in one
  ImageVector size_, block_;                // of the image; of a box of pixels
  std::array<int, 2 + kMaxSpatial> order_;  // of the sums' axes
  int inner_ = 0;                           // the last of them
  Index phases_ = 1;
  bool streamed_;  // the image, past the caches

 private:
  static constexpr Index kColumnsPerPiece = Index{256} << 10;  // bytes

  Index columns_per_box() const;
  Work box_of(Index number) const;
};

// The ways of folding columns whose runs go along the window, besides the gathering of fold.cpp; all give the
// same bits.

// Whether an element's channels lie side by side, and are too few to be rows of sums.
bool has_few_channels_inside(const Fold& problem);
// Whole windows, one after another, are added to their pixels run by run. False: not for these columns.
bool fold_windows(const Fold& problem, const Target& target, const RunContext& context);
// A row of windows at a time is turned over into runs along the positions.
void fold_turned(const Fold& problem, const Target& target, const RunContext& context);

}  // namespace windrow
