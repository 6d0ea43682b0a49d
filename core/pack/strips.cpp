#include "pack/strips.hpp"

#include <algorithm>

namespace windrow {
namespace {

Index floor_div(Index a, Index b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

}  // namespace

Strips::Strips(const PixelGrid& grid, const StripBlocks& blocks) : last_(grid.axes.back()), blocks_(blocks) {
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
}

StripPlace Strips::place(Index block) const {
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

template <class T>
void Strips::fill(const KernelTable<T>& kernels, const StripPlace& place, const T* source, Index ahead,
                  T* strip) const {
  Extents tap(axes_.size(), 0);
  for (Index slice = 0; slice < slices_; ++slice) {
    const T* from = source;
    bool inside = true;
    for (std::size_t i = 0; i < axes_.size(); ++i) {
      const Index position = place.outer[i] * axes_[i].step + axes_[i].tap[static_cast<std::size_t>(tap[i])];
      inside = inside && position >= 0 && position < axes_[i].size;
      from += position * axes_[i].source_stride;
    }
    const Index rows = (place.rows - 1) * row_axis_.step + row_span_;
    // Rows [low, high) lie in the image.
    const Index first = place.row * row_axis_.step + first_row_;
    const Index low = inside ? std::clamp<Index>(-first, 0, rows) : rows;
    const Index high = inside ? std::clamp<Index>(row_axis_.size - first, low, rows) : rows;
    for (const Index phase : phases_) {
      // Element j of a row is position start + j * step, and [begin, end) of them lie in the image.
      const Index start = (place.column + first_shift_) * last_.step + phase;
      const Index begin = std::min(start < 0 ? ceil_div(-start, last_.step) : 0, width_);
      const Index end = start < last_.size ? ceil_div(last_.size - start, last_.step) : 0;
      // In order of memory: the kernel may spill over the end of each row.
      std::fill_n(strip, low * width_, T{0});
      kernels.pad({.target = strip + low * width_,
                   .target_row = width_,
                   .source = from + (first + low) * row_axis_.source_stride + start * last_.source_stride,
                   .source_row = row_axis_.source_stride,
                   .step = last_.step * last_.source_stride,
                   .rows = high - low,
                   .width = width_,
                   .low = begin,
                   .high = std::clamp(end, begin, width_),
                   .ahead = ahead});
      std::fill_n(strip + high * width_, (rows - high) * width_, T{0});
      strip += part_;
    }
    for (std::size_t i = tap.size(); i-- > 0;) {
      if (++tap[i] < static_cast<Index>(axes_[i].tap.size())) break;
      tap[i] = 0;
    }
  }
}

template void Strips::fill(const KernelTable<float>&, const StripPlace&, const float*, Index, float*) const;
template void Strips::fill(const KernelTable<double>&, const StripPlace&, const double*, Index,
                           double*) const;

}  // namespace windrow
