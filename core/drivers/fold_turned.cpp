#include <algorithm>

#include "drivers/fold_box.hpp"

namespace windrow {
namespace {

// Bytes; calibrated on benchmarks/shapes/patches.csv. Larger boxes cut fewer windows.
constexpr Index kTotals = Index{128} << 10;
constexpr Index kTurnedMost = Index{512} << 10;

class TurnedFold : FoldBoxes {
 public:
  TurnedFold(const Fold& problem, const Target& target) : FoldBoxes(problem, target) {
    arrange_sums(shape_.axes[at(last_)].stride);
    bound_turned();
    shrink_block(kTotals);
  }

  void run(const RunContext& context) const {
    for_each_box(context, [&](Work& w, Scratch& scratch) {
      take_totals(w, scratch);
      start_totals(p_.number, p_.reduction, w.totals, numbers(w));
      char* turned = scratch.take<char>(tap_by_tap_ ? w.sums.bytes : turned_bytes(w));
      Points points;
      if (tap_by_tap_) {
        add_taps(w, turned, 0, points);
      } else {
        list_row_taps(w, last_, scratch);
        add_turned(w, turned, 0, points);
      }
      finish(w, scratch);
    });
  }

 private:
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

  // Taps from the last to the first: each adds its positions to the box.
  void add_taps(const Work& w, char* turned, int i, Points& points) const {
    if (i >= rank_) return add_tap(w, turned, points);
    const Range taps = all_taps(w, i);
    for (Index k = taps.high; k-- > taps.low;) {
      points.tap[at(i)] = k;
      points.range[at(i)] = positions(w, i, k);
      if (points.range[at(i)].size() > 0) add_taps(w, turned, i + 1, points);
    }
  }

  void add_tap(const Work& w, char* turned, const Points& points) const {
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
    {
      // Into contiguous order, the one of the sums.
      box.sort_by_target();
      Box copy = box;
      Index next = item_;
      for (int i = box.size(); i-- > 0;) {
        copy[i].target = next;
        box[i].source = next;
        next *= box[i].count;
      }
      copy_box(kernels_, item_, turned, cols, copy);
      cols = turned;
    }
    accumulate(weight(points), totals, cols, box);
  }

  // Window positions of all axes but the last in their order; for each a row of windows is turned over so
  // that the last axis's positions are runs, and then its taps are added from the last to the first.
  void add_turned(const Work& w, char* turned, int i, Points& points) const {
    if (i >= last_) return add_row(w, turned, points);
    const Range all = all_positions(w, i);
    for (Index l = all.low; l < all.high; ++l) {
      points.position[at(i)] = l;
      points.range[at(i)] = taps(w, i, l);
      if (points.range[at(i)].size() > 0) add_turned(w, turned, i + 1, points);
    }
  }

  // Rows begin at cache lines, and not all in the same set of the cache.
  Index turned_row_bytes(Range row) const {
    const Index bytes = round_up(item_ * row.size(), Index{kAlignment});
    return bytes % 1024 == 0 ? bytes + Index{kAlignment} : bytes;
  }

  Index turned_bytes(const Work& w) const {
    Index bytes = w.sums.count[0] * w.sums.count[1] * turned_row_bytes(all_positions(w, last_));
    for (const WindowAxis& axis : shape_.axes) bytes *= axis.kernel;
    return bytes;
  }

  void add_row(const Work& w, char* turned, Points& points) const {
    const Range row = all_positions(w, last_);
    points.range[at(last_)] = all_taps(w, last_);
    if (row.size() <= 0 || points.range[at(last_)].size() <= 0) return;
    const char* cols = p_.cols + row.low * p_.cols_strides[shape_.position(last_)];
    // turned[n][c][taps...][position]
    std::array<Index, 2 + kMaxSpatial> stride;
    Index next = turned_row_bytes(row);
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
    copy_box(kernels_, item_, turned, cols, box);
    add_row_taps(w, turned, 0, points, stride.data(), row);
  }

  void add_row_taps(const Work& w, const char* turned, int i, Points& points, const Index* stride,
                    Range row) const {
    if (i < last_) {
      const Range taps = points.range[at(i)];
      for (Index k = taps.low; k < taps.high; ++k) {  // each meets other pixels
        points.tap[at(i)] = k;
        add_row_taps(w, turned, i + 1, points, stride, row);
      }
      return;
    }
    const char* source = turned;
    char* totals = w.totals;
    for (int j = 0; j < last_; ++j) {
      source += (points.tap[at(j)] - points.range[at(j)].low) * stride[2 + j];
      totals += sum_offset(w, j, points.tap[at(j)], points.position[at(j)]);
    }
    const Index length = phases_ > 1 ? w.sums.phase_stride / total_ : w.sums.count[at(2 + last_)];
    Sources sources;
    for (Index n = 0; n < w.sums.count[0]; ++n) {
      for (Index phase = 0; phase < phases_; ++phase) {
        sources.rows = {.total = totals + n * w.sums.stride[0] + phase * w.sums.phase_stride,
                        .total_row = w.sums.stride[1],
                        .rows = w.sums.count[1],
                        .length = length * parts_,
                        .sources = nullptr,
                        .count = 0,
                        .source_row = stride[1],
                        .resume = true};
        for (Index j = w.phase_first[phase]; j < w.phase_first[phase + 1]; ++j) {
          const RowTap& tap = w.row_taps[j];
          points.tap[at(last_)] = tap.tap;
          add_source(sources,
                     source + n * stride[0] + (tap.tap - points.range[at(last_)].low) * stride[2 + last_] +
                         (tap.low - row.low) * item_,
                     tap.first, tap.end, weight(points));
        }
        if (sources.count > 0) hand_on(sources);
      }
    }
  }

  // Adds columns, contiguous along the sums' innermost axis, to a box of sums.
  void accumulate(double weight, char* totals, const char* source, Box& box) const {
    box.sort_by_target();
    box.merge();
    Index run = 1;
    if (box.size() && box[box.size() - 1].target == total_ && box[box.size() - 1].source == item_)
      run = box.take(box.size() - 1).count;
    SumSource one{.data = source, .first = 0, .end = run * parts_, .weight = weight};
    SumRows rows{.total = totals,
                 .total_row = 0,
                 .rows = 1,
                 .length = run * parts_,
                 .sources = &one,
                 .count = 1,
                 .source_row = 0,
                 .resume = true};
    if (box.size()) {
      const BoxAxis axis = box.take(box.size() - 1);
      rows.rows = axis.count;
      rows.total_row = axis.target;
      rows.source_row = axis.source;
    }
    for_each_point(box, box.size(), [&](Index to, Index from) {
      rows.total = totals + to;
      one.data = source + from;
      kernels_.sum_rows[p_.reduction][p_.number](rows);
    });
  }

  bool tap_by_tap_ = false;
};

}  // namespace

void fold_turned(const Fold& problem, const Target& target, const RunContext& context) {
  TurnedFold(problem, target).run(context);
}

}  // namespace windrow
