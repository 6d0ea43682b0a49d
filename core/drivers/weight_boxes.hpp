// The boxes of a weight gradient: where they lie, and what they see of x.
#pragma once

#include "drivers/ahead.hpp"
#include "drivers/weight_cut.hpp"

namespace windrow {

// What one piece of work works on.
struct WeightPart {
  Index group, channel, channels, row, rows;
  Extents tap, taps;  // first tap and extents of the tap box
  Index run_taps;     // taps whose channels lie side by side, which makes a run of lanes
  Index lane_run;     // run_taps * channels
  Index lane_runs;    // how many runs
  Index lane_width;   // lane_run, rounded up to whole vectors
};

// Boxes of output pixels that are summed over together, and the input positions that they see.
struct PixelBox {
  Index image = 0, images = 0;
  Extents first, extent, first_seen, seen;
};

// What a box reads of x and of dy: fetched while the one before it is multiplied, since its runs are too
// short for the processor to read ahead in them.
template <class T>
struct BoxAhead {
  LinesAhead<T> x, dy;
};

template <class T>
class WeightBoxes {
 public:
  WeightBoxes(const WeightGradient<T>& problem, const WeightCut& cut, const KernelTable<T>& kernels)
      : p_(problem),
        kernels_(kernels),
        cut_(cut),
        rank_(problem.axes.size()),
        boxes_(product_of(cut.pixel_boxes)) {
    // The axis along which boxes follow one another: all after it are taken whole, and before it there may be
    // nothing that a strip has several of.
    along_ = rank_ - 1;
    while (along_ > 0 && cut.pixel_boxes[along_] == 1) --along_;
    rolls_ = problem.most_scratch == 0 && cut.pixel_boxes[along_] > 1;
    for (std::size_t i = 0; i < along_; ++i) rolls_ = rolls_ && cut.taps[i] == 1;
    const WindowAxis& axis = problem.axes[along_];
    rolls_ = rolls_ && (cut.taps[along_] - 1) * axis.dilation + 1 > axis.stride;
  }

  PixelBox box_of(const WeightPart& part, Index unit) const {
    const Index image = unit / boxes_ * cut_.images;
    PixelBox box{.image = image,
                 .images = std::min(cut_.images, p_.images - image),
                 .first = Extents(rank_),
                 .extent = Extents(rank_),
                 .first_seen = Extents(rank_),
                 .seen = Extents(rank_)};
    Index rest = unit % boxes_;
    for (std::size_t i = rank_; i-- > 0;) {
      const WindowAxis& axis = p_.axes[i];
      box.first[i] = rest % cut_.pixel_boxes[i] * cut_.pixels[i];
      rest /= cut_.pixel_boxes[i];
      box.extent[i] = std::min(cut_.pixels[i], axis.out - box.first[i]);
      box.first_seen[i] = box.first[i] * axis.stride + part.tap[i] * axis.dilation - axis.before;
      box.seen[i] = (box.extent[i] - 1) * axis.stride + (part.taps[i] - 1) * axis.dilation + 1;
    }
    return box;
  }

  BoxAhead<T> lines_of(const WeightPart& part, const PixelBox& box, Index calls) const {
    BoxAhead<T> ahead{.x = lines_of(x_of(part, box.image), p_.x_stride, &WindowAxis::size, box.first_seen,
                                    box.seen, p_.x_channel, part.channels),
                      .dy = lines_of(dy_of(part, box.image), p_.dy_stride, &WindowAxis::out, box.first,
                                     box.extent, p_.dy_channel, part.rows)};
    ahead.x.share(calls);
    ahead.dy.share(calls);
    return ahead;
  }

  // Elements of the memory for strips: where boxes see some of what the one before them sees, a strip goes on
  // behind it.
  Index strip_elements() const {
    const Index strip = cut_.strip_positions * cut_.images * cut_.channels;
    return (rolls_ ? 2 : 1) * strip + padding();
  }

  // Copies the part of x that the box's windows see, with its border, image after image, and returns where.
  // The box before it, if there is one, has its strip in the same memory.
  T* fill_strips(const WeightPart& part, const PixelBox& box, const PixelBox* before, T* before_strip,
                 T* memory) const {
    const Index row = product_of(box.seen) / std::max<Index>(1, box.seen[along_]) * part.channels;
    const Index further = before ? box.first_seen[along_] - before->first_seen[along_] : 0;
    if (rolls_ && further > 0 && further < before->seen[along_] && box.image == before->image) {
      T* strip = before_strip + further * row;
      if (strip + box.seen[along_] * row + padding() <= memory + strip_elements()) {
        const Index there = std::min(box.seen[along_], before->seen[along_] - further);
        Extents low = box.first_seen, extent = box.seen;
        low[along_] += there;
        extent[along_] -= there;
        if (extent[along_] > 0) fill_strip(part, box.image, low, extent, strip + there * row);
        return strip;
      }
    }
    const Index image = product_of(box.seen) * part.channels;
    for (Index i = 0; i < box.images; ++i)
      fill_strip(part, box.image + i, box.first_seen, box.seen, memory + i * image);
    return memory;
  }

  // From the first pixel of a box to each of its pixels in dy and in the strip, or in x itself, image after
  // image.
  Index pixel_steps(const WeightPart& part, const PixelBox& box, bool x_in_place, Step* steps) const {
    Index count = 0;
    Extents at(rank_, 0);
    do {
      Index dy = 0, position = 0, x = 0;
      for (std::size_t i = 0; i < rank_; ++i) {
        dy += at[i] * p_.dy_stride[i];
        position = position * box.seen[i] + at[i] * p_.axes[i].stride;
        x += at[i] * p_.axes[i].stride * p_.x_stride[i];
      }
      steps[count++] = {.a = dy, .b = x_in_place ? x : position * part.channels};
    } while (advance(at, box.extent));
    const Index image = x_in_place ? p_.x_image : product_of(box.seen) * part.channels;
    for (Index i = count; i < count * box.images; ++i)
      steps[i] = {.a = steps[i - count].a + p_.dy_image, .b = steps[i - count].b + image};
    return count * box.images;
  }

  // What the first pixel of a box sees with its first tap, in dy and in x.
  const T* first_dy(const WeightPart& part, const PixelBox& box) const {
    const T* dy = dy_of(part, box.image);
    for (std::size_t i = 0; i < rank_; ++i) dy += box.first[i] * p_.dy_stride[i];
    return dy;
  }
  const T* first_x(const WeightPart& part, const PixelBox& box) const {
    const T* x = x_of(part, box.image);
    for (std::size_t i = 0; i < rank_; ++i) x += box.first_seen[i] * p_.x_stride[i];
    return x;
  }

  // Where a tap of the box lies in the strip, in positions from a pixel's first one.
  Index tap_position(const WeightPart& part, Index tap, const Extents& strip_extent) const {
    Index position = 0, scale = 1;
    for (std::size_t i = rank_; i-- > 0;) {
      position += tap % part.taps[i] * p_.axes[i].dilation * scale;
      tap /= part.taps[i];
      scale *= strip_extent[i];
    }
    return position;
  }

 private:
  // The first row and channel of a part, in one image.
  const T* x_of(const WeightPart& part, Index image) const {
    return p_.x + image * p_.x_image + (part.group * p_.channels + part.channel) * p_.x_channel;
  }
  const T* dy_of(const WeightPart& part, Index image) const {
    return p_.dy + image * p_.dy_image + (part.group * p_.rows + part.row) * p_.dy_channel;
  }

  Index padding() const { return Index{kernels_.lanes} * kernels_.vectors; }

  // As [position][channel].
  void fill_strip(const WeightPart& part, Index image, const Extents& low, const Extents& extent,
                  T* strip) const {
    const T* x = x_of(part, image);
    // Axes that are taken whole and lie without gaps are one row with the axis before them.
    std::size_t along = rank_ - 1;
    Index inner = 1;
    while (along > 0 && low[along] == 0 && extent[along] == p_.axes[along].size &&
           p_.x_stride[along - 1] == p_.axes[along].size * p_.x_stride[along]) {
      inner *= extent[along--];
    }
    const WindowAxis& axis = p_.axes[along];
    const Index step = inner * part.channels;  // from position to position of that row
    const Index from = std::clamp<Index>(-low[along], 0, extent[along]);
    const Index to = std::clamp<Index>(axis.size - low[along], from, extent[along]);
    Extents outer(extent.begin(), extent.begin() + static_cast<std::ptrdiff_t>(along)), at(along, 0);
    do {
      const T* row = x;
      bool is_constant = false;
      for (std::size_t i = 0; i < along; ++i) {
        const Index position = p_.axes[i].at(low[i] + at[i]);
        is_constant = is_constant || position < 0;
        row += position * p_.x_stride[i];
      }
      const auto copy = [&](Index first, Index position, Index count) {
        copy_row(part, row + position * p_.x_stride[along], count * inner,
                 along > 0 ? p_.x_stride[along - 1] : 0, strip + first * step);
      };
      const auto fill_border = [&](Index begin, Index end) {
        if (axis.border == Border::kConstant)
          std::fill_n(strip + begin * step, (end - begin) * step, p_.fill);
        for (Index j = begin; axis.border != Border::kConstant && j < end; ++j)
          copy(j, axis.at(low[along] + j), 1);
      };
      if (is_constant) {
        std::fill_n(strip, extent[along] * step, p_.fill);
      } else {
        fill_border(0, from);
        if (from < to) copy(from, low[along] + from, to - from);
        fill_border(to, extent[along]);
      }
      strip += extent[along] * step;
    } while (advance(at, outer));
    std::fill_n(strip, Index{kernels_.lanes} * kernels_.vectors,
                T{0});  // the last panel may read past its lanes
  }

  // Those of one image, of arrays whose rows lie without gaps; none where rows lie along more than one axis.
  LinesAhead<T> lines_of(const T* image, const Extents& stride, Index WindowAxis::* size,
                         const Extents& first, const Extents& extent, Index plane, Index planes) const {
    if (stride.back() != 1) return {};
    Extents low(rank_), count(rank_);
    for (std::size_t i = 0; i < rank_; ++i) {
      low[i] = std::clamp<Index>(-first[i], 0, extent[i]);
      count[i] = std::clamp<Index>(p_.axes[i].*size - first[i], low[i], extent[i]) - low[i];
      if (count[i] == 0) return {};
      image += (first[i] + low[i]) * stride[i];
    }
    Index row = count.back();
    std::size_t outer = rank_ - 1;
    while (outer > 0 && stride[outer - 1] == row) row *= count[--outer];
    for (std::size_t i = 0; i + 1 < outer; ++i)
      if (count[i] != 1) return {};
    constexpr Index kLine = static_cast<Index>(kAlignment / sizeof(T));
    const Index lines = ceil_div(row, kLine) + 1;  // a run may begin within a line
    if (outer == 0) return {image, plane, planes, lines};
    return {image, plane, planes, lines, stride[outer - 1], count[outer - 1]};
  }

  // `ahead`: from this row to the next one.
  void copy_row(const WeightPart& part, const T* x, Index positions, Index ahead, T* strip) const {
    if (p_.x_stride.back() == 1 && part.channels == 1) {
      std::copy_n(x, positions, strip);
      return;
    }
    if (p_.x_stride.back() == 1) {
      kernels_.transpose({.target = strip,
                          .target_row = part.channels,
                          .source = x,
                          .source_row = p_.x_channel,
                          .rows = positions,
                          .columns = part.channels,
                          .ahead = ahead});
      return;
    }
    if (p_.x_channel == 1 && p_.x_stride.back() == part.channels) {
      std::copy_n(x, positions * part.channels, strip);
      return;
    }
    if (p_.x_channel == 1) {
      kernels_.pad({.target = strip,
                    .target_row = part.channels,
                    .source = x,
                    .source_row = p_.x_stride.back(),
                    .step = 1,
                    .rows = positions,
                    .width = part.channels,
                    .low = 0,
                    .high = part.channels,
                    .ahead = 0});
      return;
    }
    for (Index i = 0; i < positions; ++i)
      for (Index c = 0; c < part.channels; ++c)
        strip[i * part.channels + c] = x[i * p_.x_stride.back() + c * p_.x_channel];
  }

  const WeightGradient<T>& p_;
  const KernelTable<T>& kernels_;
  const WeightCut& cut_;
  const std::size_t rank_;
  const Index boxes_;  // of an image
  std::size_t along_;
  bool rolls_;
};

}  // namespace windrow
