// Where the sums of a weight gradient go: into dw, or into a slot's partial sums, which are laid out as a
// C-ordered dw and added in order at the end.
#pragma once

#include <algorithm>

#include "drivers/ahead.hpp"
#include "drivers/weight_gradient.hpp"

namespace windrow {

// Sums of one row of dw (counted over all groups): `taps` times `channels` of them.
template <class T>
struct WeightSums {
  Index row, channel, channels;
  const Index* to;  // where each tap goes: WeightResult::tap_offsets
  Index taps;
  const T* from;
  Index tap_stride;  // from tap to tap
};

template <class T>
class WeightResult {
 public:
  WeightResult(const WeightGradient<T>& problem, const KernelTable<T>& kernels)
      : p_(problem), kernels_(kernels) {
    for (std::size_t i = p_.axes.size(); i-- > 0;) {
      in_order_ = in_order_ && p_.dw_stride[i] == taps_;
      taps_ *= p_.axes[i].kernel;
    }
    in_order_ = in_order_ && p_.dw_channel == taps_;
  }

  Index taps() const { return taps_; }
  Index elements() const { return p_.groups * p_.rows * p_.channels * taps_; }  // of dw, and of a slot

  // Where the taps of a box of them go in dw, or in a slot.
  Extents tap_offsets(const Extents& first, const Extents& extent, bool in_slot) const {
    Extents offsets, at(first.size(), 0);
    do {
      Index flat = 0, strided = 0;
      for (std::size_t i = 0; i < first.size(); ++i) {
        flat = flat * p_.axes[i].kernel + first[i] + at[i];
        strided += (first[i] + at[i]) * p_.dw_stride[i];
      }
      offsets.push_back(in_slot ? flat : strided);
    } while (advance(at, extent));
    return offsets;
  }

  // What all taps of some channels and rows take in dw or in a slot, to be fetched before it is written; none
  // where they do not lie side by side.
  LinesAhead<T> lines_of(Index row, Index rows, Index channel, Index channels, const T* slot) const {
    if (!slot && !in_order_) return {};
    constexpr Index kLine = static_cast<Index>(kAlignment / sizeof(T));
    const Index step = slot ? p_.channels * taps_ : p_.dw_row;
    const T* first = (slot ? slot : p_.dw) + row * step + channel * taps_;
    return {first, step, rows, ceil_div(channels * taps_, kLine) + 1};
  }

  // Writes sums to a slot, or to dw, or adds them to what it holds.
  void write(const WeightSums<T>& sums, T* slot) const {
    const Index channel = slot ? taps_ : p_.dw_channel;
    T* row = (slot ? slot + sums.row * p_.channels * taps_ : p_.dw + sums.row * p_.dw_row) +
             sums.channel * channel;
    const bool add = p_.accumulate && !slot;
    if (!add && sums.taps == 1 && channel == 1) {
      std::copy_n(sums.from, sums.channels, row + sums.to[0]);
      return;
    }
    bool neighbours = true;
    for (Index tap = 1; tap < sums.taps; ++tap)
      neighbours = neighbours && sums.to[tap] == sums.to[tap - 1] + 1;
    if (!add && neighbours && sums.channels == 1 && (sums.tap_stride == 1 || sums.taps == 1)) {
      std::copy_n(sums.from, sums.taps, row + sums.to[0]);
      return;
    }
    if (!add && neighbours) {
      kernels_.transpose({.target = row + sums.to[0],
                          .target_row = channel,
                          .source = sums.from,
                          .source_row = sums.tap_stride,
                          .rows = sums.channels,
                          .columns = sums.taps,
                          .ahead = 0});
      return;
    }
    for (Index tap = 0; tap < sums.taps; ++tap)
      for (Index c = 0; c < sums.channels; ++c) {
        T& sum = row[sums.to[tap] + c * channel];
        sum = add ? sum + sums.from[tap * sums.tap_stride + c] : sums.from[tap * sums.tap_stride + c];
      }
  }

  // The sum of the slots, the first of which is overwritten, to dw, or added to what it holds.
  void add_slots(T* slots, Index count, const RunContext& context) const {
    parallel_for(context, p_.groups * p_.rows, [&](Index row) { add_row(slots, count, row); });
  }

 private:
  void add_row(T* slots, Index count, Index row) const {
    const Index row_sums = p_.channels * taps_;
    T* partial = slots + row * row_sums;
    for (Index slot = 1; slot < count; ++slot) {
      const T* more = partial + slot * elements();
      for (Index i = 0; i < row_sums; ++i) partial[i] += more[i];
    }
    T* dw = p_.dw + row * p_.dw_row;
    if (in_order_) {
      for (Index i = 0; i < row_sums; ++i) dw[i] = p_.accumulate ? dw[i] + partial[i] : partial[i];
      return;
    }
    Extents extent, at(p_.axes.size(), 0);
    for (const WindowAxis& axis : p_.axes) extent.push_back(axis.kernel);
    for (Index c = 0; c < p_.channels; ++c) {
      do {
        T* to = dw + c * p_.dw_channel;
        for (std::size_t i = 0; i < extent.size(); ++i) to += at[i] * p_.dw_stride[i];
        *to = p_.accumulate ? *to + *partial : *partial;
        ++partial;
      } while (advance(at, extent));
    }
  }

  const WeightGradient<T>& p_;
  const KernelTable<T>& kernels_;
  Index taps_ = 1;
  bool in_order_ = true;  // a row of dw lies as a C-ordered one does
};

}  // namespace windrow
