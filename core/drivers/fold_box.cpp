#include "drivers/fold_box.hpp"

#include <algorithm>
#include <cstdlib>

namespace windrow {
namespace {

constexpr Index kPlanesAhead = 2;

}  // namespace

FoldBoxes::FoldBoxes(const Fold& problem, const Target& target)
    : p_(problem),
      shape_(problem.shape),
      kernels_(*target.patches),
      rank_(problem.shape.rank()),
      last_(rank_ - 1),
      parts_(problem.complex_pairs ? 2 : 1) {
  item_ = number_bytes(p_.number) * parts_;
  total_ = total_bytes(p_.number) * parts_;
  size_[0] = shape_.n;
  size_[1] = shape_.c;
  for (int i = 0; i < rank_; ++i) size_[at(2 + i)] = shape_.axes[at(i)].size;
  // Only the axes that there are: a tiny call would notice the rest.
  for (int a = 0; a < shape_.image_axes(); ++a) {
    order_[at(a)] = a;
    block_[at(a)] = size_[at(a)];
  }
  double bytes = static_cast<double>(item_);
  for (int a = 0; a < shape_.image_axes(); ++a) bytes *= static_cast<double>(size_[at(a)]);
  streamed_ = bytes >= kPastCaches;
}

Index FoldBoxes::column_count(int e) const {
  if (e < 2) return size_[at(e)];
  if (e < 2 + rank_) return shape_.axes[at(e - 2)].kernel;
  return shape_.axes[at(e - 2 - rank_)].out;
}

int FoldBoxes::innermost() const {
  int inner = -1;
  for (int e = 0; e < shape_.column_axes(); ++e) {
    const bool closer = inner < 0 || std::abs(p_.cols_strides[e]) < std::abs(p_.cols_strides[inner]);
    if (column_count(e) > 1 && closer) inner = e;
  }
  return inner;
}

Index FoldBoxes::step(int a) const { return std::abs(p_.cols_strides[a < 2 ? a : shape_.position(a - 2)]); }

void FoldBoxes::arrange_sums(Index phases) {
  inner_ = order_[at(shape_.image_axes() - 1)];
  phases_ = phases;
}

void FoldBoxes::shrink_block(Index most) {
  for (;;) {
    Index totals = total_;
    for (int a = 0; a < shape_.image_axes(); ++a) totals *= block_[at(a)];
    if (totals <= most) return;
    int widest = -1;
    for (int a = 0; a < shape_.image_axes(); ++a)
      if (block_[at(a)] > 1 && (widest < 0 || step(a) > step(widest))) widest = a;
    block_[at(widest)] = ceil_div(block_[at(widest)], 2);
  }
}

Index FoldBoxes::columns_per_box() const {
  Index columns = item_;
  for (int a = 0; a < shape_.image_axes(); ++a) columns *= block_[at(a)];
  for (const WindowAxis& axis : shape_.axes)
    columns *= std::max<Index>(1, std::min(axis.kernel, axis.out) / axis.stride);
  return columns;
}

FoldBoxes::Work FoldBoxes::box_of(Index number) const {
  Work w;
  w.sums.axes = shape_.image_axes();
  for (int a = w.sums.axes; a-- > 0;) {
    const Index blocks = ceil_div(size_[at(a)], block_[at(a)]);
    w.start[at(a)] = number % blocks * block_[at(a)];
    w.end[at(a)] = std::min(w.start[at(a)] + block_[at(a)], size_[at(a)]);
    w.sums.start[at(a)] = w.start[at(a)];
    w.sums.count[at(a)] = w.end[at(a)] - w.start[at(a)];
    number /= blocks;
  }
  return w;
}

void FoldBoxes::take_totals(Work& w, Scratch& scratch) const {
  w.sums.phases = phases_;
  if (phases_ > 1) w.sums.shift = padded(w, inner_ - 2).low % phases_;
  w.sums.arrange(order_.data(), total_);
  w.totals = take_packed(scratch, w.sums.bytes);
}

void FoldBoxes::list_row_taps(Work& w, int i, Scratch& scratch) const {
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

void FoldBoxes::add_source(Sources& sources, const char* data, Index first, Index end, double weight) const {
  if (sources.count == Sources::kMost) hand_on(sources);
  sources.list[sources.count++] = {
      .data = data - first * item_, .first = first * parts_, .end = end * parts_, .weight = weight};
}

void FoldBoxes::hand_on(Sources& sources) const {
  SumRows& rows = sources.rows;
  rows.sources = sources.list;
  rows.count = sources.count;
  const Planes &outer = sources.outer, &inner = sources.inner;
  if (inner.count > 1 || outer.count > 1)
    rows.ahead = kPlanesAhead * (inner.count > 1 ? inner : outer).source_step;
  const auto step = [&](Index total, Index source) {
    rows.total += total;
    for (int j = 0; j < sources.count; ++j) sources.list[j].data += source;
  };
  for (Index u = 0; u < outer.count; ++u) {
    for (Index v = 0; v < inner.count; ++v) {
      kernels_.sum_rows[p_.reduction][p_.number](rows);
      step(inner.total_step, inner.source_step);
    }
    step(outer.total_step - inner.count * inner.total_step,
         outer.source_step - inner.count * inner.source_step);
  }
  rows.total -= outer.count * outer.total_step;
  rows.resume = true;
  rows.ahead = 0;
  sources.count = 0;
}

void FoldBoxes::finish(Work& w, Scratch& scratch) const {
  const Index count = numbers(w);
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
                 .count = count,
                 .divisor = divisor,
                 .divide = p_.divide,
                 .uncovered = p_.uncovered});
  w.sums.arrange(order_.data(), item_);
  // The sums may reach beyond the box on the last axis.
  const int axis = 2 + last_;
  const Index beyond = w.start[at(axis)] - w.sums.start[at(axis)];
  const char* totals = w.totals;
  if (phases_ > 1 && axis == inner_) {
    w.sums.shift += beyond;
  } else {
    totals += beyond * w.sums.stride[at(axis)];
  }
  w.sums.start[at(axis)] = w.start[at(axis)];
  w.sums.count[at(axis)] = w.end[at(axis)] - w.start[at(axis)];
  unpack(kernels_, w.sums, totals, p_.x, p_.x_strides, w.stream);
}

}  // namespace windrow
