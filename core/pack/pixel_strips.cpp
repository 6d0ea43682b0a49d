#include "pack/pixel_strips.hpp"

#include <algorithm>

namespace windrow {
namespace {

struct Span {
  Index first = 0, count = 1;  // the smallest tap, and the positions up to the largest
};

Span span_of(const PixelAxis& axis) {
  if (axis.tap.empty()) return {};
  const auto [low, high] = std::minmax_element(axis.tap.begin(), axis.tap.end());
  return {.first = *low, .count = *high - *low + 1};
}

bool stays_inside(const PixelAxis& axis) {
  const Span span = span_of(axis);
  return span.first >= 0 && (axis.count - 1) * axis.step + span.first + span.count <= axis.size;
}

}  // namespace

PixelGrid joined_pixels(PixelGrid grid) {
  const auto is_even = [](const PixelAxis& axis) { return axis.tap.size() == 1 && axis.tap[0] == 0; };
  if (!std::all_of(grid.axes.begin(), grid.axes.end(), is_even)) return grid;
  if (!std::all_of(grid.axes.begin(), grid.axes.end(), stays_inside)) return grid;
  const PixelAxis last = grid.axes.back();
  const Index source = last.step * last.source_stride, target = last.target_stride;
  while (grid.axes.size() > 1) {
    const PixelAxis& outer = grid.axes[grid.axes.size() - 2];
    PixelAxis& inner = grid.axes.back();
    if (outer.step * outer.source_stride != inner.count * source ||
        outer.target_stride != inner.count * target)
      return grid;
    const Index count = outer.count * inner.count;
    grid.axes.pop_back();
    grid.axes.back() = {.count = count,
                        .step = 1,
                        .size = count,
                        .source_stride = source,
                        .target_stride = target,
                        .tap = {0}};
  }
  PixelAxis& all = grid.axes.back();
  if (grid.source_image == all.count * all.step * all.source_stride &&
      grid.target_image == all.count * target) {
    const Index count = grid.images * all.count;
    all = {.count = count,
           .step = 1,
           .size = count,
           .source_stride = source,
           .target_stride = target,
           .tap = {0}};
    grid.images = 1;
  }
  return grid;
}

PixelStrips::PixelStrips(const PixelGrid& grid, Index rows, Index columns, Index channels, Index line)
    : last_(grid.axes.back()),
      images_(grid.images),
      source_image_(grid.source_image),
      target_image_(grid.target_image),
      rows_(rows),
      columns_(columns),
      channels_(channels),
      fill_(grid.fill) {
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
  for (const PixelAxis& axis : grid.axes) in_place_ = in_place_ && stays_inside(axis);
  row_blocks_ = ceil_div(row_axis_.count, rows);
  column_blocks_ = ceil_div(last_.count, columns);
  blocks_ = images_ * outer_ * row_blocks_ * column_blocks_;

  const Span rows_seen = span_of(row_axis_), columns_seen = span_of(last_);
  first_row_ = rows_seen.first;
  first_column_ = columns_seen.first;
  height_ = (rows - 1) * row_axis_.step + rows_seen.count;
  width_ = (columns - 1) * last_.step + columns_seen.count;
  // Positions a multiple of four lines apart would share few sets of the first-level cache.
  pitch_ = channels % (4 * line) == 0 ? channels + line : channels;
  slice_ = height_ * width_ * pitch_;
}

PixelBlock PixelStrips::block(Index index) const {
  PixelBlock b;
  b.column = index % column_blocks_ * columns_;
  index /= column_blocks_;
  b.columns = std::min(columns_, last_.count - b.column);
  b.row = index % row_blocks_ * rows_;
  index /= row_blocks_;
  b.rows = std::min(rows_, row_axis_.count - b.row);
  b.target = b.column * last_.target_stride + b.row * row_axis_.target_stride;
  b.outer.resize(axes_.size());
  for (std::size_t i = axes_.size(); i-- > 0;) {
    b.outer[i] = index % axes_[i].count;
    index /= axes_[i].count;
    b.target += b.outer[i] * axes_[i].target_stride;
  }
  b.image = index;
  b.target += index * target_image_;
  return b;
}

Index PixelStrips::tap_offset(Index tap) const {
  const auto columns = static_cast<Index>(last_.tap.size()), rows = static_cast<Index>(row_axis_.tap.size());
  const Index column = last_.tap[static_cast<std::size_t>(tap % columns)] - first_column_;
  tap /= columns;
  const Index row = row_axis_.tap[static_cast<std::size_t>(tap % rows)] - first_row_;
  return tap / rows * slice_ + (row * width_ + column) * pitch_;
}

Index PixelStrips::source_tap_offset(Index tap) const {
  Index offset = 0;
  const auto add = [&](const PixelAxis& axis) {
    const auto taps = static_cast<Index>(axis.tap.size());
    offset += axis.tap[static_cast<std::size_t>(tap % taps)] * axis.source_stride;
    tap /= taps;
  };
  add(last_);
  add(row_axis_);
  for (std::size_t i = axes_.size(); i-- > 0;) add(axes_[i]);
  return offset;
}

Index PixelStrips::source_place(const PixelBlock& block) const {
  Index place =
      block.image * source_image_ + block.row * source_row_step() + block.column * source_pixel_step();
  for (std::size_t i = 0; i < axes_.size(); ++i)
    place += block.outer[i] * axes_[i].step * axes_[i].source_stride;
  return place;
}

// `count` neighbouring positions.
template <class T>
void PixelStrips::copy_run(const KernelTable<T>& kernels, const T* source, Index source_channel, Index count,
                           T* strip) const {
  if (source_channel == 1) {
    if (last_.source_stride == channels_ && pitch_ == channels_) {
      std::copy_n(source, count * channels_, strip);
      return;
    }
    for (Index i = 0; i < count; ++i)
      copy_channels(source + i * last_.source_stride, channels_, strip + i * pitch_);
  } else if (last_.source_stride == 1) {
    kernels.transpose({.target = strip,
                       .target_row = pitch_,
                       .source = source,
                       .source_row = source_channel,
                       .rows = count,
                       .columns = channels_,
                       .ahead = 0});
  } else {
    for (Index i = 0; i < count; ++i)
      kernels.collect({.target = strip + i * pitch_,
                       .source = source + i * last_.source_stride,
                       .step = source_channel,
                       .count = channels_});
  }
}

template <class T>
void PixelStrips::fill(const KernelTable<T>& kernels, const PixelBlock& block, const T* source,
                       Index source_channel, T* strip) const {
  fill_constant(block, strip);
  fill_image(block, source, strip,
             [&](const T* from, Index count, T* to) { copy_run(kernels, from, source_channel, count, to); });
}

template <class T>
void PixelStrips::fill_constant(const PixelBlock& block, T* strip) const {
  const T constant = static_cast<T>(fill_);
  const auto [low, high] = columns_inside(first_column(block));
  const auto fill_columns = [&](T* row, Index begin, Index end) {
    std::fill_n(row + begin * pitch_, (end - begin) * pitch_, constant);
  };
  const bool repeats = last_.border != Border::kConstant;
  for_rows(block, [&, low = low, high = high](Index before, Index, bool is_constant) {
    T* row = strip + before * pitch_;
    if (is_constant) return fill_columns(row, 0, width_);
    if (repeats) return;
    fill_columns(row, 0, low);
    fill_columns(row, high, width_);
  });
}

template void PixelStrips::fill(const KernelTable<float>&, const PixelBlock&, const float*, Index,
                                float*) const;
template void PixelStrips::fill(const KernelTable<double>&, const PixelBlock&, const double*, Index,
                                double*) const;
template void PixelStrips::fill_constant(const PixelBlock&, float*) const;
template void PixelStrips::fill_constant(const PixelBlock&, double*) const;

}  // namespace windrow
