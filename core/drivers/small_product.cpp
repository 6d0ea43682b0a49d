// The strip holds, for each channel of a group, phase and image, what windows see of it: along an axis, the
// tap at p * step + tap reads element p + floor(tap / step) of phase tap mod step. So every tap is a constant
// offset from every pixel, whatever the stride, and lanes run on over the ends of rows and images: what lies
// between them is summed too, and left behind.
#include "drivers/small_product.hpp"

#include <algorithm>

#include "base/workspace.hpp"
#include "drivers/tiles.hpp"

namespace windrow {
namespace {

// What is beyond gains little from a kept plan, which takes up to 20 KiB.
constexpr Index kMostStrip = 2048;    // elements of a group's strip
constexpr Index kMostTerms = 512;     // of a sum
constexpr Index kMostLanes = 4096;    // of all images
constexpr double kMostFlops = 400e3;  // padding included: some 10 us on AVX2
constexpr double kMostWaste = 3;      // lanes summed for each pixel that is wanted
constexpr int kMaxRows = 16;          // of any target's tile

// One axis of the strip.
struct StripAxis {
  Index first = 0;       // shift of the smallest tap
  Index length = 0;      // elements of a phase
  Extents phases;        // those that have taps
  Extents phase, shift;  // of each tap, the shift from `first` on
};

StripAxis strip_axis(const PixelAxis& axis) {
  StripAxis a;
  Index last = 0;
  for (const Index tap : axis.tap) {
    const Index shift = tap >= 0 ? tap / axis.step : -ceil_div(-tap, axis.step);
    const Index phase = tap - shift * axis.step;
    const auto* found = std::find(a.phases.begin(), a.phases.end(), phase);
    a.phase.push_back(found - a.phases.begin());
    if (found == a.phases.end()) a.phases.push_back(phase);
    a.first = a.shift.empty() ? shift : std::min(a.first, shift);
    last = a.shift.empty() ? shift : std::max(last, shift);
    a.shift.push_back(shift);
  }
  for (Index& shift : a.shift) shift -= a.first;
  a.length = axis.count + last - a.first;
  return a;
}

bool holds(const Extents& extents, Index most) {
  Index count = 1;
  for (const Index extent : extents) {
    if (extent < 1 || extent > most / count) return false;
    count *= extent;
  }
  return true;
}

}  // namespace

std::optional<SmallLayout> small_layout(const PixelGrid& grid, Index rows, Index channels, Index groups,
                                        const Tile& tile) {
  SmallLayout l{.image = 1, .plane = 0, .strip = 0, .lanes = 1, .scratch = 0};
  Extents in_strip{channels, grid.images}, pixels{grid.images}, terms{channels};
  Index phases = 1;
  for (const PixelAxis& axis : grid.axes) {
    const auto taps = static_cast<Index>(axis.tap.size());
    if (taps < 1 || taps > kMostTerms || axis.count > kMostLanes) return std::nullopt;
    if (axis.tap.back() - axis.tap.front() > kMostStrip * axis.step) return std::nullopt;
    const StripAxis a = strip_axis(axis);
    pixels.push_back(axis.count);
    terms.push_back(taps);
    in_strip.push_back(a.length);
    in_strip.push_back(static_cast<Index>(a.phases.size()));
    if (!holds(in_strip, kMostStrip)) return std::nullopt;
    l.image *= a.length;
    l.lanes = (l.lanes - 1) * a.length + axis.count;
    phases *= static_cast<Index>(a.phases.size());
  }
  if (rows < 1 || groups < 1 || !holds(pixels, kMostLanes) || !holds(terms, kMostTerms)) return std::nullopt;
  Index count = 1, sum = 1;
  for (const Index pixel : pixels) count *= pixel;
  for (const Index term : terms) sum *= term;
  l.plane = l.image * grid.images;
  l.strip = round_up(l.plane * phases * channels, tile.lanes);
  l.lanes = round_up((grid.images - 1) * l.image + l.lanes, tile.lanes);
  const double flops =
      2.0 * static_cast<double>(l.lanes * sum) * static_cast<double>(rows) * static_cast<double>(groups);
  if (flops > kMostFlops) return std::nullopt;
  if (static_cast<double>(l.lanes) > kMostWaste * static_cast<double>(round_up(count, tile.lanes)))
    return std::nullopt;
  l.scratch = (l.strip + tile.columns() + tile.rows * l.lanes) * tile.bytes;
  return l;
}

template <class T>
SmallProduct<T>::SmallProduct(const WindowProduct<T>& p, const SmallLayout& layout, const Target& target)
    : kernels_(target.kernels<T>()),
      layout_(layout),
      groups_(p.groups),
      rows_(p.rows),
      nr_(Index{kernels_.lanes} * kernels_.vectors),
      factor_row_(p.factor_row),
      factor_group_(p.factor_group),
      source_group_(p.source_group),
      target_row_(p.target_row),
      target_group_(p.target_group),
      fill_(static_cast<T>(p.grid.fill)) {
  const PixelGrid& grid = p.grid;
  const std::size_t rank = grid.axes.size(), last = rank - 1;
  std::vector<StripAxis> axes;
  Extents stride(rank, 1), length, phases, taps, pixels{grid.images};
  for (const PixelAxis& axis : grid.axes) {
    axes.push_back(strip_axis(axis));
    length.push_back(axes.back().length);
    phases.push_back(static_cast<Index>(axes.back().phases.size()));
    taps.push_back(static_cast<Index>(axis.tap.size()));
    pixels.push_back(axis.count);
  }
  for (std::size_t i = last; i-- > 0;) stride[i] = stride[i + 1] * length[i + 1];
  const auto phase_number = [&](auto of_axis) {
    Index number = 0;
    for (std::size_t i = 0; i < rank; ++i) number = number * phases[i] + of_axis(i);
    return number;
  };

  // Where each row of the strip comes from.
  const PixelAxis& row = grid.axes[last];
  gather_step_ = row.step * row.source_stride;
  segments_.resize(static_cast<std::size_t>(layout.strip / kernels_.lanes));
  Extents at_phase(rank, 0), rows_of_image(length.begin(), length.end() - 1);
  Index start = 0;  // of the row
  for (Index channel = 0; channel < p.channels; ++channel) {
    do {
      for (Index image = 0; image < grid.images; ++image) {
        Extents at(last, 0);
        do {
          Index offset = channel * p.source_channel + image * grid.source_image;
          bool is_constant = false;
          for (std::size_t i = 0; i < last; ++i) {
            const Index position = grid.axes[i].at((at[i] + axes[i].first) * grid.axes[i].step +
                                                   axes[i].phases[static_cast<std::size_t>(at_phase[i])]);
            is_constant = is_constant || position < 0;
            offset += position * grid.axes[i].source_stride;
          }
          // Element j of the row is at position begin + j * step.
          const Index begin =
              axes[last].first * row.step + axes[last].phases[static_cast<std::size_t>(at_phase[last])];
          for (Index j = 0, some = 1; !is_constant && j < length[last]; j += some) {
            const Index lane = (start + j) % kernels_.lanes, place = begin + j * row.step;
            const Index position = row.at(place);
            some = 1;
            if (position < 0) continue;
            // Side by side as far as the image goes.
            if (position == place)
              some =
                  std::min({kernels_.lanes - lane, length[last] - j, (row.size - 1 - place) / row.step + 1});
            const auto vector = static_cast<std::int32_t>((start + j) / kernels_.lanes);
            const Segment segment{.offset = offset + position * row.source_stride - lane * gather_step_,
                                  .mask = ((std::uint32_t{1} << some) - 1) << lane,
                                  .vector = vector};
            Segment& first = segments_[static_cast<std::size_t>(vector)];
            if (first.mask == 0) {
              first = segment;
            } else {
              more_.push_back(segment);
            }
          }
          start += length[last];
        } while (advance(at, rows_of_image));
      }
    } while (advance(at_phase, phases));
  }

  // Terms, channel by channel and tap by tap.
  const Index channel_strip =
      layout.plane * phase_number([&](std::size_t i) { return phases[i] - 1; }) + layout.plane;
  for (Index channel = 0; channel < p.channels; ++channel) {
    Extents tap(rank, 0);
    Index number = 0;
    do {
      Index offset = 0;
      for (std::size_t i = 0; i < rank; ++i)
        offset += axes[i].shift[static_cast<std::size_t>(tap[i])] * stride[i];
      offset += layout.plane *
                phase_number([&](std::size_t i) { return axes[i].phase[static_cast<std::size_t>(tap[i])]; });
      steps_.push_back({.a = channel * p.factor_channel + p.factor_tap[static_cast<std::size_t>(number++)],
                        .b = channel * channel_strip + offset});
    } while (advance(tap, taps));
  }

  run_ = row.count;
  target_step_ = row.target_stride;
  Extents at(rank, 0), rows_of_pixels(pixels.begin(), pixels.end() - 1);
  do {
    Result result{.lane = at[0] * layout.image, .target = at[0] * grid.target_image};
    for (std::size_t i = 0; i < last; ++i) {
      result.lane += at[i + 1] * stride[i];
      result.target += at[i + 1] * grid.axes[i].target_stride;
    }
    results_.push_back(result);
  } while (advance(at, rows_of_pixels));
}

template <class T>
void SmallProduct<T>::run(const T* source, const T* factor, const T* bias, Index bias_stride, T* target,
                          const Limits& limits) const {
  Scratch scratch;
  T* strip = scratch.take<T>(layout_.strip + nr_);  // kernels read whole vectors
  T* sums = scratch.take<T>(kernels_.rows * layout_.lanes);
  T tile_bias[kMaxRows];
  for (Index group = 0; group < groups_; ++group) {
    kernels_.gather({.target = strip,
                     .source = source + group * source_group_,
                     .segments = segments_.data(),
                     .count = static_cast<Index>(segments_.size()),
                     .more = more_.data(),
                     .more_count = static_cast<Index>(more_.size()),
                     .more_vector = 0,
                     .step = gather_step_,
                     .fill = fill_,
                     .ahead = 0});
    for (Index m = 0; m < rows_; m += kernels_.rows) {
      const int rows = static_cast<int>(std::min<Index>(kernels_.rows, rows_ - m));
      const Index row = group * rows_ + m;
      for (Index r = 0; bias && r < rows; ++r) tile_bias[r] = bias[(row + r) * bias_stride];
      for (Index lane = 0; lane < layout_.lanes; lane += nr_) {
        kernels_.product({.a = factor + group * factor_group_ + m * factor_row_,
                          .a_row = factor_row_,
                          .b = strip + lane,
                          .step = steps_.data(),
                          .c = sums + lane,
                          .c_row = layout_.lanes,
                          .k = static_cast<Index>(steps_.size()),
                          .accumulate = false,
                          .bias = bias ? tile_bias : nullptr},
                         rows, static_cast<int>(std::min(nr_, layout_.lanes - lane) / kernels_.lanes));
      }
      limit(kernels_, limits, sums, layout_.lanes, rows, layout_.lanes);
      for (Index r = 0; r < rows; ++r) {
        T* to = target + group * target_group_ + (m + r) * target_row_;
        for (const Result& result : results_)
          kernels_.spread({.target = to + result.target,
                           .source = sums + r * layout_.lanes + result.lane,
                           .step = target_step_,
                           .count = run_});
      }
    }
  }
}

template class SmallProduct<float>;
template class SmallProduct<double>;

}  // namespace windrow
