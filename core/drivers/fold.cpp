#include "drivers/fold.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>

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
constexpr Index kTotalsInRuns = Index{200} << 10;
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
    for (int i = 0; i < rank_; ++i) {
      const WindowAxis& axis = shape_.axes[at(i)];
      size_[at(2 + i)] = axis.size;
      tap_step_[at(i)] = axis.stride / std::gcd(axis.stride, axis.dilation);
    }
    choose_order();
    choose_block();
    choose_rows();
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
      sort_axes(order_.data(), axes, [&](int a, int b) { return step(a) > step(b); });
      const int inner = innermost < 0 ? axes - 1 : innermost < 2 ? innermost : innermost - rank_;
      std::rotate(std::find(order_.begin(), order_.begin() + axes, inner),
                  std::find(order_.begin(), order_.begin() + axes, inner) + 1, order_.begin() + axes);
    }
    inner_ = order_[at(axes - 1)];
    if (inner_ >= 2) phases_ = shape_.axes[at(inner_ - 2)].stride;
  }

  // Rows of sums lie along the innermost axis if that is spatial; if it is n or c, along the spatial axis
  // before it where the two are one run in the columns.
  void choose_rows() {
    if (turned_) return;
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

  struct RowTap;

  // One box of pixels: its sums in scratch memory, and how columns meet them.
  struct Work {
    PackedImage sums;
    char* totals;
    char* turned;
    ImageVector pixels_end;  // start + count
    RowTap* row_taps;        // of the row axis: phase by phase, each from the last to the first
    Index* phase_first;      // where in row_taps each phase begins; at the end, how many there are
  };

  // A tap of the axis along which rows of sums lie, and where its positions meet the row: element `first` of
  // the row (of the tap's phase) takes position `low`.
  struct RowTap {
    Index tap, low, first, end;
  };

  // The sources of one row of sums, handed to the kernel when the list is full and at the end.
  struct Sources {
    static constexpr int kMost = 32;
    SumRows rows;
    SumSource list[kMost];
    int count = 0;
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
    Points points;
    if (!turned_) {
      list_row_taps(w, row_, scratch);
      Sources sources;
      sources.rows.rows = 1;
      gather(w, 0, p_.cols, w.totals, points, sources);
    } else {
      start_totals(p_.number, p_.reduction, w.totals, numbers);
      w.turned = scratch.take<char>(tap_by_tap_ ? w.sums.bytes : turned_bytes(w));
      if (tap_by_tap_) {
        add_taps(w, 0, points);
      } else {
        list_row_taps(w, last_, scratch);
        add_turned(w, 0, points);
      }
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

  double weight(const Points& points) const {
    if (!p_.weights) return 0;
    Index tap = 0;
    for (int i = 0; i < rank_; ++i) tap = tap * shape_.axes[at(i)].kernel + points.tap[at(i)];
    return p_.weights[tap];
  }

  // The taps of spatial axis i (-1: none) along rows.
  void list_row_taps(Work& w, int i, Scratch& scratch) const {
    if (i < 0) return;
    const WindowAxis& axis = shape_.axes[at(i)];
    const Range all = all_taps(w, i);
    w.row_taps = scratch.take<RowTap>(all.size());
    w.phase_first = scratch.take<Index>(phases_ + 1);
    std::fill_n(w.phase_first, phases_ + 1, Index{0});
    const auto phase_of = [&](Index k) { return k * axis.dilation % phases_; };
    for (Index k = all.low; k < all.high; ++k)
      if (positions(w, i, k).size() > 0) ++w.phase_first[phase_of(k)];
    for (Index phase = 1; phase <= phases_; ++phase) w.phase_first[phase] += w.phase_first[phase - 1];
    // Each phase is filled from its end.
    const Index base = padded(w, i).low / axis.stride;
    for (Index k = all.low; k < all.high; ++k) {
      const Range l = positions(w, i, k);
      const Index shift = k * axis.dilation / axis.stride - base;
      if (l.size() > 0)
        w.row_taps[--w.phase_first[phase_of(k)]] = {
            .tap = k, .low = l.low, .first = l.low + shift, .end = l.high + shift};
    }
  }

  void add_source(Sources& sources, const char* data, Index first, Index end, double weight) const {
    if (sources.count == Sources::kMost) hand_on(sources);
    sources.list[sources.count++] = {
        .data = data - first * item_, .first = first * parts_, .end = end * parts_, .weight = weight};
  }

  void hand_on(Sources& sources) const {
    sources.rows.sources = sources.list;
    sources.rows.count = sources.count;
    kernels_.sum_rows[p_.reduction][p_.number](sources.rows);
    sources.rows.resume = true;
    sources.count = 0;
  }

  // Columns with runs: for every row of sums, all the taps that meet it, added in registers. Image axes are
  // walked from the first; rows of the group axis where all taps meet are one call.
  void gather(const Work& w, int a, const char* cols, char* totals, Points& points, Sources& sources) const {
    if (a == shape_.image_axes()) return gather_row(w, cols, totals, points, sources);
    const Index start = w.sums.start[at(a)], count = w.sums.count[at(a)], stride = w.sums.stride[at(a)];
    if (a == inner_ && a < 2)
      return gather(w, a + 1, cols + start * p_.cols_strides[a], totals, points, sources);
    if (a < 2) {
      for (Index u = 0; u < count; ++u)
        gather(w, a + 1, cols + (start + u) * p_.cols_strides[a], totals + u * stride, points, sources);
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
    // Away from the edges, rows a window's stride apart have their taps in common.
    const Index span = (axis.kernel - 1) * axis.dilation, origin = start + axis.before;
    const Index low = std::clamp<Index>(span - origin, 0, count);
    const Index high = std::clamp<Index>(axis.out * axis.stride - origin, low, count);
    for (Index u = 0; u < low; ++u) visit(u);
    for (Index u = low; u < std::min(low + axis.stride, high); ++u) {
      sources.rows.rows = ceil_div(high - u, axis.stride);
      visit(u);
    }
    sources.rows.rows = 1;
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
      copy_box(kernels_, item_, w.turned, cols, copy);
      cols = w.turned;
    }
    accumulate(weight(points), totals, cols, box);
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

  void add_row(const Work& w, Points& points) const {
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
    copy_box(kernels_, item_, w.turned, cols, box);
    add_row_taps(w, 0, points, stride.data(), row);
  }

  void add_row_taps(const Work& w, int i, Points& points, const Index* stride, Range row) const {
    if (i < last_) {
      const Range taps = points.range[at(i)];
      for (Index k = taps.low; k < taps.high; ++k) {  // each meets other pixels
        points.tap[at(i)] = k;
        add_row_taps(w, i + 1, points, stride, row);
      }
      return;
    }
    const char* source = w.turned;
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
  ImageVector tap_step_{};        // by spatial axis: taps so far apart fall on one pixel
  std::array<int, 2 + kMaxSpatial> order_{};
  int inner_ = 0;
  Index phases_ = 1;
  int row_ = -1, group_ = -1;  // spatial axes: along rows of sums; of rows that have their taps in common
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
