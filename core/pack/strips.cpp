#include "pack/strips.hpp"

#include <algorithm>

#include "pack/rows.hpp"

namespace windrow {
namespace {

Index floor_div(Index a, Index b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

}  // namespace

Strips::Phases::Phases(const Extents& taps, Index pace) {
  Index last = 0;
  for (const Index tap : taps) {
    const Index shift = floor_div(tap, pace), at = tap - shift * pace;
    first = tap_shift.empty() ? shift : std::min(first, shift);
    last = tap_shift.empty() ? shift : std::max(last, shift);
    const auto* found = std::find(phase.begin(), phase.end(), at);
    tap_phase.push_back(found - phase.begin());
    if (found == phase.end()) phase.push_back(at);
    tap_shift.push_back(shift);
  }
  for (Index& shift : tap_shift) shift -= first;
  span = last - first + 1;
}

Strips::Strips(const PixelGrid& grid, const StripBlocks& blocks)
    : row_axis_(grid.axes.size() > 1 ? grid.axes[grid.axes.size() - 2] : PixelAxis{.tap = {0}}),
      last_(grid.axes.back()),
      blocks_(blocks),
      fill_(grid.fill),
      row_pace_(blocks.rows_apart ? row_axis_.step : 1),
      rows_(row_axis_.tap, row_pace_),
      columns_(last_.tap, last_.step) {
  if (grid.axes.size() > 1) axes_.assign(grid.axes.begin(), grid.axes.end() - 2);
  for (const PixelAxis& axis : axes_) {
    outer_ *= axis.count;
    slices_ *= static_cast<Index>(axis.tap.size());
  }
  row_blocks_ = ceil_div(row_axis_.count, blocks.rows);
  column_blocks_ = ceil_div(last_.count, blocks.columns);

  width_ = blocks.columns + columns_.span - 1;
  part_ = width_ * rows_of(blocks.rows);
  slice_ = part_ * static_cast<Index>(rows_.phase.size() * columns_.phase.size());
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
  const auto row = static_cast<std::size_t>(tap % kernel_rows());
  const Index phase =
      rows_.tap_phase[row] * static_cast<Index>(columns_.phase.size()) + columns_.tap_phase[column];
  return tap / kernel_rows() * slice_ + phase * part_ + rows_.tap_shift[row] * width_ +
         columns_.tap_shift[column];
}

bool Strips::is_plain_window() const {
  return slices_ == 1 && kernel_columns() > 0 && row_pace_ == 1 && kernel_rows() == rows_.span &&
         rows_.tap_shift.front() == 0;
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
    const Index rows = rows_of(place.rows), phases = static_cast<Index>(columns_.phase.size());
    for (Index part = 0; part < phases * static_cast<Index>(rows_.phase.size()); ++part) {
      const Index row_phase = rows_.phase[static_cast<std::size_t>(part / phases)];
      const Index phase = columns_.phase[static_cast<std::size_t>(part % phases)];
      if (is_constant) {
        for (Index c = 0; c < channels; ++c)
          std::fill_n(strip + c * plane_, rows * width_, static_cast<T>(fill_));
      } else {
        copy_rows(kernels, {.target = strip,
                            .target_row = width_,
                            .plane = from,
                            .down = row_axis_,
                            .across = last_,
                            .row = place.row * row_axis_.step + rows_.first * row_pace_ + row_phase,
                            .row_step = row_pace_,
                            .rows = rows,
                            .column = (place.column + columns_.first) * last_.step + phase,
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
