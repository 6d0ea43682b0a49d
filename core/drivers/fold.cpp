#include "drivers/fold.hpp"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <numeric>

#include "drivers/fold_box.hpp"
#include "drivers/fold_rows.hpp"
#include "drivers/permuted.hpp"

namespace windrow {
namespace {

// Bytes: sums stay in the first-level cache. Calibrated on benchmarks/shapes/patches.csv.
constexpr Index kTotals = Index{200} << 10;
// Of the columns of planes that are summed together: lines that two rows of sums share are still in the
// second-level cache.
constexpr Index kTogether = Index{128} << 10;

// Columns with runs along n, c or a position: sums lie in the order of the columns, and a row of them is made
// over all the taps that meet it, in registers.
class GatheredFold : FoldBoxes {
 public:
  GatheredFold(const Fold& problem, const Target& target) : FoldBoxes(problem, target) {
    for (int i = 0; i < rank_; ++i) {
      const WindowAxis& axis = shape_.axes[at(i)];
      tap_step_[at(i)] = axis.stride / std::gcd(axis.stride, axis.dilation);
    }
  }

  // Whether the columns have such runs.
  bool serves() const {
    const int inner = innermost();
    return inner < 0 || ((inner < 2 || inner >= 2 + rank_) && p_.cols_strides[inner] == item_);
  }

  void run(const RunContext& context) {
    choose_order();
    shrink_block(kTotals);
    choose_rows();
    choose_planes();
    for_each_box(context, [&](Work& w, Scratch& scratch) {
      take_totals(w, scratch);
      if (row_ >= 0) list_row_taps(w, row_, scratch);
      Points points;
      Sources sources;
      sources.rows.rows = 1;
      gather(w, 0, p_.cols, w.totals, points, sources);
      finish(w, scratch);
    });
  }

 private:
  void choose_order() {
    const int axes = shape_.image_axes(), innermost_axis = innermost();
    sort_axes(order_.data(), axes, [&](int a, int b) { return step(a) > step(b); });
    const int inner = innermost_axis < 0   ? axes - 1
                      : innermost_axis < 2 ? innermost_axis
                                           : innermost_axis - rank_;
    std::rotate(std::find(order_.begin(), order_.begin() + axes, inner),
                std::find(order_.begin(), order_.begin() + axes, inner) + 1, order_.begin() + axes);
    arrange_sums(inner < 2 ? 1 : shape_.axes[at(inner - 2)].stride);
  }

  // Rows of sums lie along the innermost axis if that is spatial; if it is n or c, along the spatial axis
  // before it where the two are one run in the columns.
  void choose_rows() {
    if (inner_ >= 2) {
      row_ = inner_ - 2;
    } else {
      const int next = order_[at(shape_.image_axes() - 2)];
      if (next >= 2 && shape_.axes[at(next - 2)].stride == 1 && block_[at(inner_)] == size_[at(inner_)] &&
          p_.cols_strides[shape_.position(next - 2)] == size_[at(inner_)] * item_)
        row_ = next - 2;
    }
    for (int i = 0; i < rank_; ++i)
      if (i != row_) group_ = i;
  }

  // Which taps meet which rows is worked out once for several planes.
  void choose_planes() {
    Index bytes = item_ * (inner_ < 2 ? block_[at(inner_)] : 1);
    for (const WindowAxis& axis : shape_.axes) bytes *= axis.kernel * axis.out;
    for (int i = shape_.image_axes(); i-- > 0;) {
      const int a = order_[at(i)];
      if (a >= 2 || a == inner_) continue;
      together_[at(a)] = std::clamp<Index>(kTogether / std::max<Index>(1, bytes), 1, block_[at(a)]);
      bytes *= block_[at(a)];
      outer_ = a;
    }
  }

  // Image axes are walked from the first; rows of the group axis where all taps meet are one call.
  void gather(const Work& w, int a, const char* cols, char* totals, Points& points, Sources& sources) const {
    if (a == shape_.image_axes()) return gather_row(w, cols, totals, points, sources);
    const Index start = w.sums.start[at(a)], count = w.sums.count[at(a)], stride = w.sums.stride[at(a)];
    if (a == inner_ && a < 2)
      return gather(w, a + 1, cols + start * p_.cols_strides[a], totals, points, sources);
    if (a < 2) {
      Planes& planes = a == outer_ ? sources.outer : sources.inner;
      for (Index u = 0; u < count; u += together_[at(a)]) {
        planes = {std::min(together_[at(a)], count - u), stride, p_.cols_strides[a]};
        gather(w, a + 1, cols + (start + u) * planes.source_step, totals + u * stride, points, sources);
      }
      return;
    }
    const int i = a - 2;
    if (i == row_) return gather(w, a + 1, cols, totals, points, sources);
    const WindowAxis& axis = shape_.axes[at(i)];
    const auto visit = [&](Index u) {
      const Index q = start + u + axis.before;
      Range& taps = points.range[at(i)];
      taps = {std::max<Index>(0, -floor_div((axis.out - 1) * axis.stride - q, axis.dilation)),
              std::min(axis.kernel, q / axis.dilation + 1)};
      // From the last tap that falls on a position.
      while (taps.size() > 0 && (q - (taps.high - 1) * axis.dilation) % axis.stride != 0) --taps.high;
      points.position[at(i)] = q;
      gather(w, a + 1, cols, totals + u * stride, points, sources);
    };
    if (i != group_) {
      for (Index u = 0; u < count; ++u) visit(u);
      return;
    }
    // Away from the edges, rows a window's stride apart have their taps in common: from the first row on that
    // is past the last one of them.
    const Index span = (axis.kernel - 1) * axis.dilation, origin = start + axis.before;
    const Index high = std::clamp<Index>(axis.out * axis.stride - origin, 0, count);
    const auto misses_tap = [&](Index q) {
      if (q >= span) return false;
      Index k = axis.kernel - 1;
      while (k >= 0 && (q - k * axis.dilation) % axis.stride != 0) --k;
      return k * axis.dilation > q;
    };
    for (Index first = 0; first < std::min(axis.stride, high); ++first) {
      Index u = first;
      for (; u < high && misses_tap(u + origin); u += axis.stride) visit(u);
      if (u >= high) continue;
      sources.rows.rows = ceil_div(high - u, axis.stride);
      visit(u);
      sources.rows.rows = 1;
    }
    for (Index u = high; u < count; ++u) visit(u);
  }

  void gather_row(const Work& w, const char* cols, char* totals, Points& points, Sources& sources) const {
    const Index count = row_ < 0 ? 1 : w.sums.count[at(2 + row_)];
    SumRows& rows = sources.rows;
    rows.total_row = group_ < 0 ? 0 : shape_.axes[at(group_)].stride * w.sums.stride[at(2 + group_)];
    rows.source_row = group_ < 0 ? 0 : p_.cols_strides[shape_.position(group_)];
    rows.length = (phases_ > 1 ? w.sums.phase_stride / total_ : count * unit(w)) * parts_;
    for (Index phase = 0; phase < phases_; ++phase) {
      rows.total = totals + phase * w.sums.phase_stride;
      rows.resume = false;
      add_sources(w, 0, cols, phase, points, sources);
      if (sources.count > 0 || !rows.resume) hand_on(sources);
    }
  }

  // Elements of the columns' innermost axis, where that is not the rows' own.
  Index unit(const Work& w) const { return inner_ < 2 ? w.sums.count[at(inner_)] : 1; }

  // Every combination of the axes' taps that meets the row, in the order of the sum.
  void add_sources(const Work& w, int i, const char* cols, Index phase, Points& points,
                   Sources& sources) const {
    if (i >= rank_) {
      const RowTap row = row_ < 0 ? RowTap{0, 0, 0, 1} : w.row_taps[points.position[at(row_)]];
      return add_source(sources, cols, row.first * unit(w), row.end * unit(w), weight(points));
    }
    const Index tap_stride = p_.cols_strides[shape_.tap(i)], stride = p_.cols_strides[shape_.position(i)];
    if (i == row_) {
      for (Index j = w.phase_first[phase]; j < w.phase_first[phase + 1]; ++j) {
        const RowTap& row = w.row_taps[j];
        points.tap[at(i)] = row.tap;
        points.position[at(i)] = j;
        add_sources(w, i + 1, cols + row.tap * tap_stride + row.low * stride, phase, points, sources);
      }
      return;
    }
    const WindowAxis& axis = shape_.axes[at(i)];
    const Range taps = points.range[at(i)];
    if (taps.size() <= 0) return;
    // Taps `apart` fall on positions `on` further along.
    const Index apart = tap_step_[at(i)], on = apart * axis.dilation / axis.stride;
    Index l = (points.position[at(i)] - (taps.high - 1) * axis.dilation) / axis.stride;
    for (Index k = taps.high - 1; k >= taps.low; k -= apart, l += on) {
      points.tap[at(i)] = k;
      add_sources(w, i + 1, cols + k * tap_stride + l * stride, phase, points, sources);
    }
  }

  ImageVector tap_step_;                 // by spatial axis: taps so far apart fall on one pixel
  std::array<Index, 2> together_{1, 1};  // images, and channels
  int outer_ = 0;                        // the axis of the two whose planes lie further apart
  int row_ = -1, group_ = -1;  // spatial axes: along rows of sums; of rows that have their taps in common
};

}  // namespace

void run_fold(const Fold& problem, const Target& target, const RunContext& caller) {
  const PatchShape& shape = problem.shape;
  assert(shape.holds());
  const RunContext context =
      sized_context(shape, number_bytes(problem.number) * (problem.complex_pairs ? 2 : 1), caller);
  if (shape.n == 0 || shape.c == 0) return;
  for (const WindowAxis& axis : shape.axes)
    if (axis.size == 0) return;
  if (fold_permuted(problem, target, context)) return;
  if (fold_rows(problem, target, context)) return;
  if (fold_window_rows(problem, target, context)) return;
  GatheredFold gathered(problem, target);
  const bool colours = has_few_channels_inside(problem);
  if (!colours && gathered.serves()) return gathered.run(context);
  if (fold_windows(problem, target, context)) return;
  if (gathered.serves()) return gathered.run(context);
  fold_turned(problem, target, context);
}

}  // namespace windrow
