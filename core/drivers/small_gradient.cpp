#include "drivers/small_gradient.hpp"

#include <algorithm>

#include "base/workspace.hpp"

namespace windrow {
namespace {

constexpr Index kMostStrip = 2048;    // elements of a group's strip
constexpr Index kMostTaps = 512;      // of all channels of a group
constexpr double kMostFlops = 400e3;  // lanes that nobody wants included

}  // namespace

template <class T>
std::optional<SmallGradientLayout> small_gradient_layout(const WeightGradient<T>& p, const Tile& tile) {
  // All pixels of all images must be one unit of the plan.
  if (p.images < 1 || p.channels < 1 || p.rows < 1 || p.groups < 1) return std::nullopt;
  if (p.channels == 1 && p.groups > 1) return std::nullopt;  // depthwise has a plan of its own
  SmallGradientLayout l;
  l.image = p.channels;
  Index pixels = p.images, taps = p.channels;
  if (pixels > kStripPixels || taps > kMostTaps) return std::nullopt;
  for (const WindowAxis& a : p.axes) {
    if (a.out < 1 || a.out > kStripPixels || a.kernel > kMostTaps) return std::nullopt;
    if (a.stride > kMostStrip || a.dilation > kMostStrip) return std::nullopt;
    l.strip.push_back((a.out - 1) * a.stride + (a.kernel - 1) * a.dilation + 1);
    pixels *= a.out;
    taps *= a.kernel;
    l.image *= l.strip.back();
    if (pixels > kStripPixels || taps > kMostTaps || l.image * p.images > kMostStrip) return std::nullopt;
  }
  const WindowAxis& last = p.axes.back();
  l.run_taps = last.dilation == 1 ? last.kernel : 1;
  l.runs = taps / p.channels / l.run_taps;
  l.run_lanes = round_up(l.run_taps * p.channels, tile.lanes);
  const double flops = 2.0 * static_cast<double>(pixels * l.runs * l.run_lanes) *
                       static_cast<double>(p.rows) * static_cast<double>(p.groups);
  if (flops > kMostFlops) return std::nullopt;
  l.scratch = (p.images * l.image + tile.columns() + tile.rows * l.runs * l.run_lanes) * tile.bytes;
  return l;
}

template <class T>
SmallGradient<T>::SmallGradient(const WeightGradient<T>& p, const SmallGradientLayout& layout,
                                const Target& target)
    : kernels_(target.kernels<T>()),
      layout_(layout),
      groups_(p.groups),
      rows_(p.rows),
      channels_(p.channels),
      nr_(Index{kernels_.lanes} * kernels_.vectors),
      strip_(p.images * layout.image),
      x_group_(p.channels * p.x_channel),
      dy_channel_(p.dy_channel),
      dw_row_(p.dw_row),
      fill_(p.fill) {
  const std::size_t rank = p.axes.size();
  Extents place(rank, p.channels), out, kernel;  // from position to position of the strip
  for (std::size_t i = rank - 1; i-- > 0;) place[i] = place[i + 1] * layout.strip[i + 1];
  for (const WindowAxis& a : p.axes) {
    out.push_back(a.out);
    kernel.push_back(a.kernel);
  }

  for (Index image = 0; image < p.images; ++image) {
    Extents at(rank, 0);
    do {
      Index from = image * p.x_image, to = image * layout.image;
      bool is_constant = false;
      for (std::size_t i = 0; i < rank; ++i) {
        const Index position = p.axes[i].at(at[i] - p.axes[i].before);
        is_constant = is_constant || position < 0;
        from += position * p.x_stride[i];
        to += at[i] * place[i];
      }
      for (Index c = 0; !is_constant && c < p.channels; ++c)
        pixels_.push_back({from + c * p.x_channel, to + c});
    } while (advance(at, layout.strip));

    at.assign(rank, 0);
    do {
      Step step{.a = image * p.dy_image, .b = image * layout.image};
      for (std::size_t i = 0; i < rank; ++i) {
        step.a += at[i] * p.dy_stride[i];
        step.b += at[i] * p.axes[i].stride * place[i];
      }
      steps_.push_back(step);
    } while (advance(at, out));
  }

  Index number = 0;
  Extents tap(rank, 0);
  do {
    Index offset = 0, to = 0;
    for (std::size_t i = 0; i < rank; ++i) {
      offset += tap[i] * p.axes[i].dilation * place[i];
      to += tap[i] * p.dw_stride[i];
    }
    const Index run = number / layout.run_taps, in_run = number % layout.run_taps;
    if (in_run == 0) run_offset_.push_back(offset);
    for (Index c = 0; c < p.channels; ++c)
      taps_.push_back({run * layout.run_lanes + in_run * p.channels + c, to + c * p.dw_channel});
    ++number;
  } while (advance(tap, kernel));
}

template <class T>
void SmallGradient<T>::run(const T* x, const T* dy, T* dw) const {
  Scratch scratch;
  const Index width = layout_.runs * layout_.run_lanes;
  T* strip = scratch.take<T>(strip_ + nr_);  // kernels read whole vectors
  T* sums = scratch.take<T>(kernels_.rows * width);
  std::fill_n(strip, strip_ + nr_, fill_);
  for (Index group = 0; group < groups_; ++group) {
    const T* source = x + group * x_group_;
    for (const Move& pixel : pixels_) strip[pixel.to] = source[pixel.from];
    for (Index m = 0; m < rows_; m += kernels_.rows) {
      const int rows = static_cast<int>(std::min<Index>(kernels_.rows, rows_ - m));
      const Index row = group * rows_ + m;
      for (Index run = 0; run < layout_.runs; ++run) {
        for (Index lane = 0; lane < layout_.run_lanes; lane += nr_) {
          kernels_.product({.a = dy + row * dy_channel_,
                            .a_row = dy_channel_,
                            .b = strip + run_offset_[static_cast<std::size_t>(run)] + lane,
                            .step = steps_.data(),
                            .c = sums + run * layout_.run_lanes + lane,
                            .c_row = width,
                            .k = static_cast<Index>(steps_.size()),
                            .accumulate = false,
                            .bias = nullptr},
                           rows, static_cast<int>(std::min(nr_, layout_.run_lanes - lane) / kernels_.lanes));
        }
      }
      for (Index r = 0; r < rows; ++r) {
        T* to = dw + (row + r) * dw_row_;
        for (const Move& tap : taps_) to[tap.to] = sums[r * width + tap.from];
      }
    }
  }
}

template std::optional<SmallGradientLayout> small_gradient_layout(const WeightGradient<float>&, const Tile&);
template std::optional<SmallGradientLayout> small_gradient_layout(const WeightGradient<double>&, const Tile&);
template class SmallGradient<float>;
template class SmallGradient<double>;

}  // namespace windrow
