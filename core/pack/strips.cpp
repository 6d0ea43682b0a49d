#include "pack/strips.hpp"

#include <algorithm>

#include "pack/rows.hpp"

namespace windrow {
namespace {

Index floor_div(Index a, Index b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

}  // namespace

Strips::Strips(const PixelGrid& grid, const StripBlocks& blocks)
    : last_(grid.axes.back()), blocks_(blocks), fill_(grid.fill) {
  const std::size_t rank = grid.axes.size();
  if (rank > 1) {
    row_axis_ = grid.axes[rank - 2];
    axes_.assign(grid.axes.begin(), grid.axes.end() - 2);
  } else {
    row_axis_.tap = {0};
  }
  for (const PixelAxis& axis : axes_) {
    outer_ *= axis.count;
    slices_ *= static_cast<Index>(axis.tap.size());
  }
  row_blocks_ = ceil_div(row_axis_.count, blocks.rows);
  column_blocks_ = ceil_div(last_.count, blocks.columns);

  Index last_shift = 0;
  for (std::size_t t = 0; t < last_.tap.size(); ++t) {
    const Index shift = floor_div(last_.tap[t], last_.step);
    const Index phase = last_.tap[t] - shift * last_.step;
    const auto* found = std::find(phases_.begin(), phases_.end(), phase);
    tap_phase_.push_back(found - phases_.begin());
    if (found == phases_.end()) phases_.push_back(phase);
    tap_shift_.push_back(shift);
    first_shift_ = t == 0 ? shift : std::min(first_shift_, shift);
    last_shift = t == 0 ? shift : std::max(last_shift, shift);
  }
  for (Index& shift : tap_shift_) shift -= first_shift_;
  width_ = blocks.columns + last_shift - first_shift_;

  if (!row_axis_.tap.empty()) {
    const auto [low, high] = std::minmax_element(row_axis_.tap.begin(), row_axis_.tap.end());
    first_row_ = *low;
    row_span_ = *high - *low + 1;
  }
  part_ = width_ * ((blocks.rows - 1) * row_axis_.step + row_span_);
  slice_ = part_ * static_cast<Index>(phases_.size());
  plane_ = slice_ * slices_;
  if (blocks_per_image() > 0) first_ = place_of(0);
}

StripPlace Strips::place_of(Index block) const {
  StripPlace place;
  place.column = block % column_blocks_ * blocks_.columns;
  block /= column_blocks_;
  place.columns = std::min(blocks_.columns, last_.count - place.column);
  place.row = block % row_blocks_ * blocks_.rows;
  block /= row_blocks_;
  place.rows = std::min(blocks_.rows, row_axis_.count - place.row);
  place.target = place.column * last_.target_stride + place.row * row_axis_.target_stride;
  place.outer.resize(axes_.size());
  for (std::size_t i = axes_.size(); i-- > 0;) {
    place.outer[i] = block % axes_[i].count;
    block /= axes_[i].count;
    place.target += place.outer[i] * axes_[i].target_stride;
  }
  return place;
}

Index Strips::tap_offset(Index tap) const {
  const auto column = static_cast<std::size_t>(tap % kernel_columns());
  tap /= kernel_columns();
  const Index row = row_axis_.tap[static_cast<std::size_t>(tap % kernel_rows())] - first_row_;
  return tap / kernel_rows() * slice_ + tap_phase_[column] * part_ + row * width_ + tap_shift_[column];
}

bool Strips::is_plain_window() const {
  return slices_ == 1 && kernel_columns() > 0 && kernel_rows() == row_span_ &&
         row_axis_.tap.front() == first_row_;
}

// Rows spill over their ends into what is written later, so that channels of several parts go one by one.
template <class T>
void Strips::fill(const KernelTable<T>& kernels, const StripPlace& place, const T* source, Index channels,
                  Index source_channel, Index ahead, T* strip) const {
  const Index together = plane_ == part_ ? channels : 1;
  for (Index c = 0; c < channels; c += together)
    fill_channels(kernels, place, source + c * source_channel, together, source_channel, ahead,
                  strip + c * plane_);
}

template <class T>
void Strips::fill_channels(const KernelTable<T>& kernels, const StripPlace& place, const T* source,
                           Index channels, Index source_channel, Index ahead, T* strip) const {
  Extents tap(axes_.size(), 0);
  for (Index slice = 0; slice < slices_; ++slice) {
    const T* from = source;
    bool is_constant = false;
    for (std::size_t i = 0; i < axes_.size(); ++i) {
      const Index position =
          axes_[i].at(place.outer[i] * axes_[i].step + axes_[i].tap[static_cast<std::size_t>(tap[i])]);
      is_constant = is_constant || position < 0;
      from += position * axes_[i].source_stride;
    }
    const Index rows = (place.rows - 1) * row_axis_.step + row_span_;
    for (const Index phase : phases_) {
      if (is_constant) {
        for (Index c = 0; c < channels; ++c)
          std::fill_n(strip + c * plane_, rows * width_, static_cast<T>(fill_));
      } else {
        copy_rows(kernels, {.target = strip,
                            .target_row = width_,
                            .plane = from,
                            .down = row_axis_,
                            .across = last_,
                            .row = place.row * row_axis_.step + first_row_,
                            .row_step = 1,
                            .rows = rows,
                            .column = (place.column + first_shift_) * last_.step + phase,
                            .column_step = last_.step,
                            .columns = width_,
                            .width = width_,
                            .fill = static_cast<T>(fill_),
                            .ahead = ahead,
                            .channels = channels,
                            .source_channel = source_channel,
                            .target_channel = plane_});
      }
      strip += part_;
    }
    for (std::size_t i = tap.size(); i-- > 0;) {
      if (++tap[i] < static_cast<Index>(axes_[i].tap.size())) break;
      tap[i] = 0;
    }
  }
}

template void Strips::fill(const KernelTable<float>&, const StripPlace&, const float*, Index, Index, Index,
                           float*) const;
template void Strips::fill(const KernelTable<double>&, const StripPlace&, const double*, Index, Index, Index,
                           double*) const;

}  // namespace windrow
