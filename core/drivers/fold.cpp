#include "drivers/fold.hpp"

#include <algorithm>
#include <cstdlib>

#include "base/workspace.hpp"
#include "drivers/fold_numbers.hpp"

namespace windrow {
namespace {

constexpr std::size_t at(int i) {
  if (i < 0) __builtin_unreachable();  // else GCC 12 warns of negative axes where it unrolls a recursion
  return static_cast<std::size_t>(i);
}

// Bytes; calibrated on benchmarks/shapes/patches.csv. Sums stay in the first-level cache while columns are
// read in runs; with columns to turn over first, larger boxes cut fewer windows.
constexpr Index kTotalsInRuns = Index{24} << 10;
constexpr Index kTotalsTurned = Index{128} << 10;
constexpr Index kTurnedMost = Index{512} << 10;
constexpr Index kColumnsPerPiece = Index{1} << 20;  // small boxes share a piece

struct Range {
  Index low, high;
  Index size() const { return high - low; }
};

Index floor_div(Index a, Index b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

class Folder {
 public:
  Folder(const Fold& problem, const Target& target)
      : p_(problem),
        shape_(problem.shape),
        kernels_(*target.patches),
        rank_(problem.shape.rank()),
        last_(rank_ - 1) {
    const Index parts = p_.complex_pairs ? 2 : 1;
    item_ = number_bytes(p_.number) * parts;
    total_ = total_bytes(p_.number) * parts;
    parts_ = parts;
    size_[0] = shape_.n;
    size_[1] = shape_.c;
    for (int i = 0; i < rank_; ++i) size_[at(2 + i)] = shape_.axes[at(i)].size;
    choose_order();
    choose_block();
  }

  void run(const RunContext& context) {
    Index boxes = 1, elements = 1, columns = item_;
    for (int a = 0; a < shape_.image_axes(); ++a) {
      boxes *= ceil_div(size_[at(a)], block_[at(a)]);
      elements *= block_[at(a)];
    }
    for (const WindowAxis& axis : shape_.axes)
      columns *= std::max<Index>(1, std::min(axis.kernel, axis.out) / axis.stride);
    const Index together = std::clamp<Index>(kColumnsPerPiece / (columns * elements), 1, boxes);
    parallel_for(context, ceil_div(boxes, together), [&](Index piece) {
      const Index end = std::min(boxes, (piece + 1) * together);
      for (Index box = piece * together; box < end; ++box) run_box(box);
    });
  }

 private:
  Index column_count(int e) const {
    if (e < 2) return size_[at(e)];
    if (e < 2 + rank_) return shape_.axes[at(e - 2)].kernel;
    return shape_.axes[at(e - 2 - rank_)].out;
  }
  // Where a step along image axis a leads in the columns.
  Index step(int a) const { return std::abs(p_.cols_strides[a < 2 ? a : shape_.position(a - 2)]); }

  // Sums lie in the order of the columns if those have runs along n, c or a position; otherwise columns are
  // turned over, a row of windows at a time, into runs along the last axis's positions.
  void choose_order() {
    const int axes = shape_.image_axes();
    int innermost = -1;
    for (int e = 0; e < shape_.column_axes(); ++e) {
      const bool closer =
          innermost < 0 || std::abs(p_.cols_strides[e]) < std::abs(p_.cols_strides[innermost]);
      if (column_count(e) > 1 && closer) innermost = e;
    }
    const bool tap = innermost >= 2 && innermost < 2 + rank_;
    turned_ = innermost >= 0 && (tap || p_.cols_strides[innermost] != item_);
    for (int a = 0; a < axes; ++a) order_[at(a)] = a;
    if (!turned_) {
      std::stable_sort(order_.begin(), order_.begin() + axes,
                       [&](int a, int b) { return step(a) > step(b); });
      const int inner = innermost < 0 ? axes - 1 : innermost < 2 ? innermost : innermost - rank_;
      std::rotate(std::find(order_.begin(), order_.begin() + axes, inner),
                  std::find(order_.begin(), order_.begin() + axes, inner) + 1, order_.begin() + axes);
    }
    inner_ = order_[at(axes - 1)];
    if (inner_ >= 2) phases_ = shape_.axes[at(inner_ - 2)].stride;
  }

  void choose_block() {
    block_ = size_;
    if (turned_) bound_turned();
    for (;;) {
      Index totals = total_;
      for (int a = 0; a < shape_.image_axes(); ++a) totals *= block_[at(a)];
      if (totals <= (turned_ ? kTotalsTurned : kTotalsInRuns)) return;
      int widest = -1;
      for (int a = 0; a < shape_.image_axes(); ++a)
        if (block_[at(a)] > 1 && (widest < 0 || step(a) > step(widest))) widest = a;
      block_[at(widest)] = ceil_div(block_[at(widest)], 2);
    }
  }

  // A row of windows, with all their taps, must not be too much to turn over: fewer images and channels at a
  // time, or pieces of the row. If a piece would be shorter than a window, taps are turned over one by one.
  void bound_turned() {
    const WindowAxis& last = shape_.axes.back();
    double window = static_cast<double>(item_);
    for (const WindowAxis& axis : shape_.axes) window *= static_cast<double>(axis.kernel);
    const auto positions = static_cast<Index>(static_cast<double>(kTurnedMost) / window);
    const Index span = (last.kernel - 1) * last.dilation;
    Index& row = block_[at(1 + rank_)];
    if (positions < last.out) row = std::min(row, (positions - 1) * last.stride - span);
    tap_by_tap_ = row < std::min(last.size, span + 1);
    if (tap_by_tap_) {
      row = last.size;
      return;
    }
    Index planes = std::max<Index>(1, positions / std::min(last.out, (row + span) / last.stride + 1));
    const int outer = step(0) < step(1) ? 1 : 0;
    Index& many = block_[at(1 - outer)];
    many = std::min(many, planes);
    planes = std::max<Index>(1, planes / many);
    block_[at(outer)] = std::min(block_[at(outer)], planes);
  }

  // One box of pixels: its sums in scratch memory, and how columns meet them.
  struct Work {
    PackedImage sums;
    char* totals;
    char* turned;
    ImageVector pixels_end;  // start + count
  };

  void run_box(Index number) const {
    Work w;
    w.sums.axes = shape_.image_axes();
    for (int a = w.sums.axes; a-- > 0;) {
      const Index blocks = ceil_div(size_[at(a)], block_[at(a)]);
      w.sums.start[at(a)] = number % blocks * block_[at(a)];
      w.sums.count[at(a)] = std::min(block_[at(a)], size_[at(a)] - w.sums.start[at(a)]);
      w.pixels_end[at(a)] = w.sums.start[at(a)] + w.sums.count[at(a)];
      number /= blocks;
    }
    w.sums.phases = phases_;
    if (phases_ > 1) w.sums.shift = (w.sums.start[at(inner_)] + shape_.axes[at(inner_ - 2)].before) % phases_;
    w.sums.arrange(order_.data(), total_);
    Scratch scratch;
    w.totals = scratch.take<char>(w.sums.bytes);
    const Index numbers = w.sums.bytes / total_ * parts_;
    start_totals(p_.number, p_.reduction, w.totals, numbers);
    if (turned_ && !tap_by_tap_) {
      w.turned = scratch.take<char>(turned_bytes(w));
      Points points;
      add_turned(w, 0, points);
    } else {
      w.turned = turned_ ? scratch.take<char>(w.sums.bytes) : nullptr;
      Points points;
      add_taps(w, 0, points);
    }
    finish(w, numbers, scratch);
  }

  // The pixel range of a box on spatial axis i, in padded coordinates.
  Range padded(const Work& w, int i) const {
    const Index before = shape_.axes[at(i)].before;
    return {w.sums.start[at(2 + i)] + before, w.pixels_end[at(2 + i)] + before};
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

  // What has been fixed so far on each spatial axis.
  struct Points {
    std::array<Index, kMaxSpatial> tap;
    std::array<Range, kMaxSpatial> range;  // positions (add_taps), or taps (add_turned)
    std::array<Index, kMaxSpatial> position;
  };

  // Where position l, tap k of spatial axis i lies among the sums.
  Index sum_offset(const Work& w, int i, Index k, Index l) const {
    const WindowAxis& axis = shape_.axes[at(i)];
    return w.sums.offset(2 + i, l * axis.stride + k * axis.dilation - axis.before - w.sums.start[at(2 + i)]);
  }
  Index sum_step(const Work& w, int i) const {
    return 2 + i == inner_ ? total_ : shape_.axes[at(i)].stride * w.sums.stride[at(2 + i)];
  }

  Accumulate operation(const Points& points) const {
    Accumulate a{};
    if (p_.weights) {
      Index tap = 0;
      for (int i = 0; i < rank_; ++i) tap = tap * shape_.axes[at(i)].kernel + points.tap[at(i)];
      a.weight = p_.weights[tap];
    }
    return a;
  }

  // Taps from the last to the first: each adds its positions to the box.
  void add_taps(const Work& w, int i, Points& points) const {
    if (i >= rank_) return add_tap(w, points);
    const Range taps = all_taps(w, i);
    for (Index k = taps.high; k-- > taps.low;) {
      points.tap[at(i)] = k;
      points.range[at(i)] = positions(w, i, k);
      if (points.range[at(i)].size() > 0) add_taps(w, i + 1, points);
    }
  }

  void add_tap(const Work& w, const Points& points) const {
    const char* cols = p_.cols;
    char* totals = w.totals;
    Box box;
    for (const int a : {0, 1}) {
      cols += w.sums.start[at(a)] * p_.cols_strides[a];
      box.add(w.sums.count[at(a)], w.sums.stride[at(a)], p_.cols_strides[a]);
    }
    for (int i = 0; i < rank_; ++i) {
      const Range l = points.range[at(i)];
      const Index stride = p_.cols_strides[shape_.position(i)];
      cols += points.tap[at(i)] * p_.cols_strides[shape_.tap(i)] + l.low * stride;
      totals += sum_offset(w, i, points.tap[at(i)], l.low);
      box.add(l.size(), sum_step(w, i), stride);
    }
    if (w.turned) {
      // Into contiguous order, the one of the sums.
      box.sort_by_target();
      Box copy = box;
      Index next = item_;
      for (int i = box.size(); i-- > 0;) {
        copy[i].target = next;
        box[i].source = next;
        next *= box[i].count;
      }
      copy_box(kernels_, item_, w.turned, cols, copy);
      cols = w.turned;
    }
    accumulate(operation(points), totals, cols, box);
  }

  // Window positions of all axes but the last in their order; for each a row of windows is turned over so
  // that the last axis's positions are runs, and then its taps are added from the last to the first.
  void add_turned(const Work& w, int i, Points& points) const {
    if (i >= last_) return add_row(w, points);
    const Range all = all_positions(w, i);
    for (Index l = all.low; l < all.high; ++l) {
      points.position[at(i)] = l;
      points.range[at(i)] = taps(w, i, l);
      if (points.range[at(i)].size() > 0) add_turned(w, i + 1, points);
    }
  }

  Index turned_bytes(const Work& w) const {
    Index bytes = item_ * w.sums.count[0] * w.sums.count[1] * all_positions(w, rank_ - 1).size();
    for (const WindowAxis& axis : shape_.axes) bytes *= axis.kernel;
    return bytes;
  }

  void add_row(const Work& w, Points& points) const {
    const Range row = all_positions(w, last_);
    points.range[at(last_)] = all_taps(w, last_);
    if (row.size() <= 0 || points.range[at(last_)].size() <= 0) return;
    const char* cols = p_.cols + row.low * p_.cols_strides[shape_.position(last_)];
    // turned[n][c][taps...][position]
    std::array<Index, 2 + kMaxSpatial> stride;
    Index next = item_ * row.size();
    Box box;
    for (int i = last_; i >= 0; --i) {
      const Range k = points.range[at(i)];
      stride[at(2 + i)] = next;
      next *= k.size();
      cols += k.low * p_.cols_strides[shape_.tap(i)];
      if (i != last_) cols += points.position[at(i)] * p_.cols_strides[shape_.position(i)];
      box.add(k.size(), stride[at(2 + i)], p_.cols_strides[shape_.tap(i)]);
    }
    for (const int a : {1, 0}) {
      stride[at(a)] = next;
      next *= w.sums.count[at(a)];
      cols += w.sums.start[at(a)] * p_.cols_strides[a];
      box.add(w.sums.count[at(a)], stride[at(a)], p_.cols_strides[a]);
    }
    box.add(row.size(), item_, p_.cols_strides[shape_.position(last_)]);
    copy_box(kernels_, item_, w.turned, cols, box);
    add_row_taps(w, 0, points, stride.data(), row);
  }

  void add_row_taps(const Work& w, int i, Points& points, const Index* stride, Range row) const {
    if (i <= last_) {
      // The last axis's taps outermost would do as well: a pixel meets one tap of each other axis here.
      const Range taps = points.range[at(i)];
      for (Index k = taps.high; k-- > taps.low;) {
        points.tap[at(i)] = k;
        add_row_taps(w, i + 1, points, stride, row);
      }
      return;
    }
    const Range l = positions(w, last_, points.tap[at(last_)]);
    if (l.size() <= 0) return;
    const char* source = w.turned + (l.low - row.low) * item_;
    char* totals = w.totals;
    for (int j = 0; j < rank_; ++j) {
      source += (points.tap[at(j)] - points.range[at(j)].low) * stride[2 + j];
      totals += sum_offset(w, j, points.tap[at(j)], j == last_ ? l.low : points.position[at(j)]);
    }
    Box box;
    for (const int a : {0, 1}) box.add(w.sums.count[at(a)], w.sums.stride[at(a)], stride[a]);
    box.add(l.size(), sum_step(w, last_), item_);
    accumulate(operation(points), totals, source, box);
  }

  void accumulate(Accumulate a, char* totals, const char* source, Box& box) const {
    box.sort_by_target();
    box.merge();
    a.length = parts_;
    if (box.size() && box[box.size() - 1].target == total_ && box[box.size() - 1].source == item_)
      a.length = box.take(box.size() - 1).count * parts_;
    a.count[0] = a.count[1] = 1;
    for (const int i : {1, 0}) {
      if (!box.size()) break;
      const BoxAxis axis = box.take(box.size() - 1);
      a.count[i] = axis.count;
      a.total_stride[i] = axis.target;
      a.source_stride[i] = axis.source;
    }
    const auto kernel = kernels_.accumulate[p_.reduction][p_.number];
    for_each_point(box, box.size(), [&](Index to, Index from) {
      a.total = totals + to;
      a.source = source + from;
      kernel(a);
    });
  }

  void finish(Work& w, Index numbers, Scratch& scratch) const {
    char* divisor = nullptr;
    if (p_.divisor) {
      PackedImage box = w.sums;
      box.arrange(order_.data(), total_ / parts_);
      divisor = scratch.take<char>(box.bytes);
      std::fill_n(divisor, box.bytes, char{0});
      ImageVector strides{};
      Index next = total_ / parts_;
      for (int a = shape_.image_axes(); a-- > 2;) {
        strides[at(a)] = next;
        next *= size_[at(a)];
      }
      pack(kernels_, box, size_, p_.divisor, strides.data(), divisor);
    }
    finish_totals({.number = p_.number,
                   .complex_pairs = p_.complex_pairs,
                   .totals = w.totals,
                   .count = numbers,
                   .divisor = divisor,
                   .divide = p_.divide,
                   .uncovered = p_.uncovered});
    w.sums.arrange(order_.data(), item_);
    unpack(kernels_, w.sums, w.totals, p_.x, p_.x_strides);
  }

  const Fold& p_;
  const PatchShape& shape_;
  const PatchKernels& kernels_;
  int rank_, last_;               // of the spatial axes; the last one's number
  Index item_, total_, parts_;    // bytes of an element of the columns, of a sum; numbers in one
  ImageVector size_{}, block_{};  // of the image; of a box of pixels
  std::array<int, 2 + kMaxSpatial> order_{};
  int inner_ = 0;
  Index phases_ = 1;
  bool turned_ = false, tap_by_tap_ = false;
};

}  // namespace

void run_fold(const Fold& problem, const Target& target, const RunContext& context) {
  const PatchShape& shape = problem.shape;
  if (shape.n == 0 || shape.c == 0) return;
  for (const WindowAxis& axis : shape.axes)
    if (axis.size == 0) return;
  Folder(problem, target).run(context);
}

}  // namespace windrow
