#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "drivers/fold_box.hpp"

namespace windrow {
namespace {

// Bytes. Sums of the rows that windows are being added to stay in the second-level cache.
constexpr Index kTotals = Index{384} << 10;
// Neighbouring windows add to the same sums: so many runs must lie between, or the loads wait for the stores.
// Windows of several images in turn make them more, up to so many.
constexpr Index kRunsBetween = 8, kRunsWanted = 96;
// Numbers in a row of windows from which on adding a vector of windows at a time is faster than images in
// turn.
constexpr Index kRowTurned = 280;
constexpr Index kColumnsPerCall = Index{1} << 20;  // bytes, about 0.1 ms
constexpr Index kFewChannels = 64;                 // bytes: more of them are rows of sums by themselves

// Columns whose last taps are runs, or the few channels of the last taps: windows are read as they lie and
// added to their pixels run by run. The sums of a box reach as far as its windows do on the last axis; on the
// others, taps that miss it are left out.
class WindowFold : FoldBoxes {
 public:
  WindowFold(const Fold& problem, const Target& target)
      : FoldBoxes(problem, target),
        add_runs_(kernels_.add_runs[problem.number]),
        cols_end_(problem.cols + item_) {
    for (int e = 0; e < shape_.column_axes(); ++e)
      cols_end_ += std::max<Index>(0, (column_count(e) - 1) * p_.cols_strides[e]);
    const WindowAxis& last = shape_.axes[at(last_)];
    colours_ = has_few_channels_inside(p_) && last.dilation == 1 &&
               p_.cols_strides[shape_.tap(last_)] == shape_.c * item_;
    turned_ = turns();
    Index runs = colours_ ? 1 : shape_.c;
    for (int i = 0; i < last_; ++i) runs *= std::min(shape_.axes[at(i)].kernel, shape_.axes[at(i)].size);
    images_ = turned_ ? 1 : std::clamp<Index>(kRunsWanted / runs, 1, shape_.n);
    runs_ = runs * images_;
  }

  bool serves() const {
    const WindowAxis& last = shape_.axes[at(last_)];
    const bool apart = last.stride > span();
    const Index pixel = colours_ ? shape_.c * total_ : total_;
    return p_.reduction == kAdd && (1 + 2 * span()) * pixel <= kTotals && add_runs_ && last.kernel > 1 &&
           (colours_ || p_.cols_strides[shape_.tap(last_)] == item_) &&
           (apart || turned_ || runs_ >= kRunsBetween);
  }

  void run(const RunContext& context) {
    if (colours_) std::rotate(order_.begin() + 1, order_.begin() + 2, order_.begin() + shape_.image_axes());
    arrange_sums(colours_ ? 1 : shape_.axes[at(last_)].dilation);
    choose_block();
    for_each_box(context, [&](Work& w, Scratch& scratch) { run_box(w, scratch); });
  }

 private:
  // What a box's windows have in common.
  struct Windows {
    Range row;  // positions on the last axis
    AddRun* runs = nullptr;
    Index count = 0, images;
    Index rows = 1, total_row = 0, source_row = 0;  // of windows, that have their runs in common
    std::array<Range, kMaxSpatial> taps;            // that the runs were listed for, if there are any
  };

  // Whether a vector of windows is added at a time: those lie one after another, and their sums too.
  bool turns() const {
    const WindowAxis& last = shape_.axes[at(last_)];
    Index window = item_, row = last.out;
    for (int e = 1; e < 2 + rank_; ++e) {
      window += (column_count(e) - 1) * std::abs(p_.cols_strides[e]);
      row *= column_count(e);
    }
    // Of one phase, where windows and taps are steps of whole ones; without phases a stride is a unit of
    // sums.
    const bool phased = last.dilation % last.stride == 0;
    const Index unit = total_ * (phased ? 1 : last.stride);
    if (unit != 4 && unit != 8 && unit != 16) return false;
    const Index windows = kernels_.turned_bytes / unit, of_row = phased ? last.dilation / last.stride : 1;
    return !colours_ && parts_ == 1 && (phased || last.dilation == 1) &&
           last.kernel * total_ <= kernels_.turned_bytes && windows >= 4 && 2 * last.out > windows * of_row &&
           row >= kRowTurned && p_.cols_strides[shape_.position(last_)] >= window;
  }
  // From a window's first pixel to its last on the last axis.
  Index span() const { return (shape_.axes[at(last_)].kernel - 1) * shape_.axes[at(last_)].dilation; }

  // Images, then rows are cut off first: windows stay whole. Those that meet the box reach out of it on both
  // sides.
  void choose_block() {
    const auto totals = [&] {
      Index bytes = total_ * (block_[at(1 + rank_)] + 2 * span());
      for (int a = 0; a <= rank_; ++a) bytes *= block_[at(a)];
      return bytes;
    };
    const auto halve = [&](int a, Index least) {
      while (totals() > kTotals && block_[at(a)] > least) block_[at(a)] = ceil_div(block_[at(a)], 2);
    };
    halve(0, 1);
    block_[0] = std::min(block_[0], images_);
    for (int i = 0; i < last_; ++i)
      halve(2 + i, 2 * ((shape_.axes[at(i)].kernel - 1) * shape_.axes[at(i)].dilation + 1));
    if (!colours_) halve(1, 1);
    for (int i = 0; i < rank_; ++i) halve(2 + i, 1);
  }

  void run_box(Work& w, Scratch& scratch) const {
    const WindowAxis& last = shape_.axes[at(last_)];
    Windows windows;
    windows.row = all_positions(w, last_);
    windows.images = w.end[0] - w.start[0];
    const Range pixels{w.start[at(2 + last_)], w.end[at(2 + last_)]};
    Range reach = pixels;
    if (windows.row.size() > 0) {
      reach.low = std::min(pixels.low, windows.row.low * last.stride - last.before);
      reach.high = std::max(pixels.high, (windows.row.high - 1) * last.stride - last.before + span() + 1);
    }
    w.sums.start[at(2 + last_)] = reach.low;
    w.sums.count[at(2 + last_)] = reach.size();
    w.sums.phases = phases_;
    // Runs go over channels without a gap; a divisor of complex numbers would have other gaps.
    // What vectors are added to begins with cache lines.
    if (parts_ == 1 && !colours_) w.sums.spread_from = turned_ ? Index{kAlignment} : kSpreadFrom;
    w.sums.arrange(order_.data(), total_);
    w.totals = take_packed(scratch, w.sums.bytes);
    start_totals(p_.number, p_.reduction, w.totals, numbers(w));
    if (windows.row.size() > 0) {
      Index most = windows.images * (colours_ ? 1 : w.end[1] - w.start[1]);
      for (int i = 0; i < last_; ++i)  // taps on pixels of the box
        most *= std::min(shape_.axes[at(i)].kernel, w.end[at(2 + i)] - w.start[at(2 + i)]);
      windows.runs = scratch.take<AddRun>(most);
      const char* cols = p_.cols + windows.row.low * p_.cols_strides[shape_.position(last_)];
      Points points;
      add_rows(w, windows, 0, cols + w.start[0] * p_.cols_strides[0], w.totals, points);
    }
    finish(w, scratch);
  }

  // Window positions of all axes but the last, in their order.
  void add_rows(const Work& w, Windows& windows, int i, const char* cols, char* totals,
                Points& points) const {
    if (i == last_) {
      checkpoint();
      list_runs(w, windows, points);
      const WindowAxis& last = shape_.axes[at(last_)];
      const Index apart = this->apart(), count = windows.row.size();
      const Index step = p_.cols_strides[shape_.position(last_)];
      const Index first = windows.row.low * last.stride - last.before - w.sums.start[at(2 + last_)];
      for (Index r = 0; r < std::min(apart, count); ++r)
        add_runs_({.total = totals + w.sums.offset(2 + last_, first + r * last.stride),
                   .source = cols + w.start[1] * p_.cols_strides[1] + r * step,
                   .source_end = cols_end_,
                   .total_step = apart * last.stride / phases_ * w.sums.stride[at(2 + last_)],
                   .source_step = apart * step,
                   .repeats = ceil_div(count - r, apart),
                   .runs = windows.runs,
                   .count = windows.count,
                   .length = last.kernel * parts_ * (colours_ ? shape_.c : 1),
                   .rows = windows.rows,
                   .total_row = windows.total_row,
                   .source_row = windows.source_row});
      return;
    }
    const WindowAxis& axis = shape_.axes[at(i)];
    const Range all = all_positions(w, i);
    const Index step = p_.cols_strides[shape_.position(i)],
                total_step = axis.stride * w.sums.stride[at(2 + i)];
    Index alike = 1;
    for (Index l = all.low; l < all.high; l += alike) {
      points.range[at(i)] = taps(w, i, l);
      if (i + 1 == last_) {
        alike = std::min(rows_alike(w, i, l, points.range[at(i)]), all.high - l);
        windows.rows = alike;
        windows.total_row = total_step;
        windows.source_row = step;
      }
      if (points.range[at(i)].size() <= 0) continue;
      add_rows(w, windows, i + 1, cols + l * step,
               totals + (l * axis.stride - padded(w, i).low) * w.sums.stride[at(2 + i)], points);
    }
  }

  // Windows so far apart, which pixels have in common, step from sum to sum of one phase.
  Index apart() const { return phases_ / std::gcd(phases_, shape_.axes[at(last_)].stride); }

  // So many positions from l on, at least, have the same taps in the box: their windows are added by one
  // call, which must not take long.
  Index rows_alike(const Work& w, int i, Index l, Range taps_of_l) const {
    const WindowAxis& axis = shape_.axes[at(i)];
    if (taps_of_l.size() < axis.kernel || apart() > 1) return 1;
    const Index end = (padded(w, i).high - 1 - (axis.kernel - 1) * axis.dilation) / axis.stride + 1;
    const Index most = kColumnsPerCall / std::max<Index>(1, std::abs(p_.cols_strides[shape_.position(i)]));
    return std::clamp<Index>(end - l, 1, std::max<Index>(1, most));
  }

  // The runs of a window, of each image: one per channel and tap of all axes but the last.
  void list_runs(const Work& w, Windows& windows, const Points& points) const {
    bool same = windows.count > 0;
    for (int i = 0; i < last_; ++i)
      same = same && windows.taps[at(i)].low == points.range[at(i)].low &&
             windows.taps[at(i)].high == points.range[at(i)].high;
    if (same) return;
    windows.count = 0;
    for (int i = 0; i < last_; ++i) windows.taps[at(i)] = points.range[at(i)];
    for (Index n = 0; n < windows.images; ++n)
      for (Index c = 0; c < (colours_ ? 1 : w.end[1] - w.start[1]); ++c)
        list_taps(w, windows, 0,
                  {.total = n * w.sums.stride[0] + c * w.sums.stride[1],
                   .source = n * p_.cols_strides[0] + c * p_.cols_strides[1]});
  }

  void list_taps(const Work& w, Windows& windows, int i, AddRun run) const {
    if (i == last_) {
      windows.runs[windows.count++] = run;
      return;
    }
    for (Index k = windows.taps[at(i)].low; k < windows.taps[at(i)].high; ++k)
      list_taps(w, windows, i + 1,
                {.total = run.total + k * shape_.axes[at(i)].dilation * w.sums.stride[at(2 + i)],
                 .source = run.source + k * p_.cols_strides[shape_.tap(i)]});
  }

  void (*add_runs_)(const AddRuns&);
  const char* cols_end_;  // after the columns' last element in memory
  bool colours_ = false;  // runs are those of the last taps' channels
  bool turned_ = false;   // a vector of windows is added at a time
  Index images_ = 1;      // whose windows are taken in turn
  Index runs_ = 1;        // of a window of each
};

}  // namespace

bool has_few_channels_inside(const Fold& problem) {
  const Index item = number_bytes(problem.number) * (problem.complex_pairs ? 2 : 1);
  return problem.shape.c > 1 && problem.cols_strides[1] == item && problem.shape.c * item < kFewChannels;
}

bool fold_windows(const Fold& problem, const Target& target, const RunContext& context) {
  WindowFold fold(problem, target);
  if (!fold.serves()) return false;
  fold.run(context);
  return true;
}

}  // namespace windrow
