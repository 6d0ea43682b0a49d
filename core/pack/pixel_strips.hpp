// Strips in channels-last form: what a block of pixels sees of the source, copied once with its border, all
// channels of a position side by side. Every tap then lies at a constant offset from every pixel, and
// neighbouring pixels lie at a constant distance. Where no window leaves the image the source itself is such
// a strip, whatever its strides.
//
// A strip holds [outer taps][row][column][channel]; axes are seen as in pack/strips.hpp.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/contract.hpp"
#include "pack/panels.hpp"

namespace windrow {

// The channels of a position, a cache line of them without a call.
template <class T>
void copy_channels(const T* from, Index channels, T* to) {
  constexpr std::size_t kLine = 64;
  if (channels == Index{kLine / sizeof(T)}) {
    std::memcpy(to, from, kLine);
  } else {
    std::copy_n(from, channels, to);
  }
}

// Pixels of one image, at one position of the outer axes.
struct PixelBlock {
  Extents outer;  // position along each outer axis
  Index image = 0, row = 0, rows = 0, column = 0, columns = 0;
  Index target = 0;  // offset of the first one
};

// The same pixels with the axes joined, images included, over whose ends they go on at the same distance in
// source and target: as under a 1x1 window on channels-last arrays.
PixelGrid joined_pixels(PixelGrid grid);

class PixelStrips {
 public:
  // Blocks of at most `rows` by `columns` pixels; `line` elements make a cache line.
  PixelStrips(const PixelGrid& grid, Index rows, Index columns, Index channels, Index line);

  Index blocks() const { return blocks_; }
  PixelBlock block(Index index) const;
  Index elements() const { return slice_ * slices_; }  // of one block
  bool in_place() const { return in_place_; }          // no window leaves the image

  // Offsets in a strip: from pixel to pixel along both axes, and from a pixel's place to what a tap reads.
  Index pixel_step() const { return last_.step * pitch_; }
  Index row_step() const { return row_axis_.step * width_ * pitch_; }
  Index tap_offset(Index tap) const;

  // The same in the source itself, where the block's first pixel is at `source_place`.
  Index source_place(const PixelBlock& block) const;
  Index source_pixel_step() const { return last_.step * last_.source_stride; }
  Index source_row_step() const { return row_axis_.step * row_axis_.source_stride; }
  Index source_tap_offset(Index tap) const;

  const PixelAxis& last() const { return last_; }
  const PixelAxis& row_axis() const { return row_axis_; }

  // Copies what a block sees, of `channels` that lie `source_channel` apart.
  template <class T>
  void fill(const KernelTable<T>& kernels, const PixelBlock& block, const T* source, Index source_channel,
            T* strip) const;

  // The same in two steps: the constant of the border, which is the same for all channels, and what
  // copy(source, count, strip) is called for: `count` neighbouring positions of the image.
  template <class T>
  void fill_constant(const PixelBlock& block, T* strip) const;
  template <class T, class Copy>
  void fill_image(const PixelBlock& block, const T* source, T* strip, Copy&& copy) const;

 private:
  // Calls row(before, place, is_constant) for each row of a strip: the positions of the strip before it, and
  // where the image's row lies in the source, unless it is a row of the constant.
  template <class Row>
  void for_rows(const PixelBlock& block, Row&& row) const;
  Index first_column(const PixelBlock& block) const { return block.column * last_.step + first_column_; }
  // Columns [first, second) of a strip that begins at column `first` of the image lie in the image.
  std::pair<Index, Index> columns_inside(Index first) const {
    const Index low = std::clamp<Index>(-first, 0, width_);
    return {low, std::clamp<Index>(last_.size - first, low, width_)};
  }
  template <class T>
  void copy_run(const KernelTable<T>& kernels, const T* source, Index source_channel, Index count,
                T* strip) const;

  std::vector<PixelAxis> axes_;  // the outer ones
  PixelAxis row_axis_, last_;    // a grid of one axis has a single row
  Index images_, source_image_, target_image_;
  Index rows_, columns_, channels_;
  double fill_;
  Index outer_ = 1, slices_ = 1;
  Index row_blocks_ = 0, column_blocks_ = 0, blocks_ = 0;
  Index first_row_ = 0, first_column_ = 0;  // the smallest tap of each axis
  Index height_ = 0, width_ = 0;            // of a strip, in positions
  Index pitch_ = 0, slice_ = 0;             // elements of one position, of one combination of outer taps
  bool in_place_ = true;
};

template <class Row>
void PixelStrips::for_rows(const PixelBlock& block, Row&& row) const {
  Extents tap(axes_.size(), 0);
  const Index first_row = block.row * row_axis_.step + first_row_;
  Index before = 0;
  for (Index slice = 0; slice < slices_; ++slice) {
    Index plane = block.image * source_image_;
    bool is_constant = false;
    for (std::size_t i = 0; i < axes_.size(); ++i) {
      const Index position =
          axes_[i].at(block.outer[i] * axes_[i].step + axes_[i].tap[static_cast<std::size_t>(tap[i])]);
      is_constant = is_constant || position < 0;
      plane += position * axes_[i].source_stride;
    }
    for (Index r = 0; r < height_; ++r, before += width_) {
      const Index at = is_constant ? -1 : row_axis_.at(first_row + r);
      row(before, plane + at * row_axis_.source_stride, at < 0);
    }
    for (std::size_t i = tap.size(); i-- > 0;) {
      if (++tap[i] < static_cast<Index>(axes_[i].tap.size())) break;
      tap[i] = 0;
    }
  }
}

template <class T, class Copy>
void PixelStrips::fill_image(const PixelBlock& block, const T* source, T* strip, Copy&& copy) const {
  const Index first = first_column(block);
  const auto [low, high] = columns_inside(first);
  for_rows(block, [&](Index before, Index place, bool is_constant) {
    if (is_constant) return;
    const T* line = source + place;
    T* target = strip + before * pitch_;
    const auto repeat = [&](Index begin, Index end) {
      for (Index j = begin; j < end; ++j)
        copy(line + last_.at(first + j) * last_.source_stride, 1, target + j * pitch_);
    };
    const bool repeats = last_.border != Border::kConstant;
    if (repeats) repeat(0, low);
    if (low < high) copy(line + (first + low) * last_.source_stride, high - low, target + low * pitch_);
    if (repeats) repeat(high, width_);
  });
}

}  // namespace windrow
