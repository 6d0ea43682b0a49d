// What a pass consists of: one product over windows for forward, one for each stride phase of the input
// gradient (docs/architecture.md has the table), one sum over pixels for the weight gradient.
#pragma once

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "api/conv.hpp"
#include "drivers/phases.hpp"
#include "drivers/weight_gradient.hpp"
#include "drivers/window_product.hpp"

namespace windrow {

// Strides of a dense array (a, channels, spatial...) whose channels lie side by side; the first one is what
// an image takes.
inline Extents channels_last_strides(Index channels, const Extents& spatial) {
  Extents strides(spatial.size() + 2, 1);
  Index all = channels;
  for (std::size_t i = spatial.size(); i-- > 0; all *= spatial[i]) strides[2 + i] = all;
  strides[0] = all;
  return strides;
}

// One member of each axis.
inline Extents extents_of(const std::vector<WindowAxis>& axes, Index WindowAxis::* member) {
  Extents extents;
  for (const WindowAxis& axis : axes) extents.push_back(axis.*member);
  return extents;
}

// The offsets of all taps, row-major, given the offsets along each axis.
inline Extents tap_offsets(const std::vector<Extents>& along) {
  Extents all{0};
  for (const Extents& axis : along) {
    Extents next;
    for (const Index outer : all)
      for (const Index inner : axis) next.push_back(outer + inner);
    all = std::move(next);
  }
  return all;
}

// True for an axis whose every pixel reads the source at its own position.
inline bool is_plain(const PixelAxis& axis) {
  return axis.step == 1 && axis.size == axis.count && axis.tap.size() == 1 && axis.tap[0] == 0;
}

// An axis of one pixel and one tap says nothing; as the last one it would leave the lanes nothing to lie
// along. And under a window of one tap, axes that follow one another in memory are one: then lanes are not
// cut at the ends of rows.
template <class T>
void simplify_axes(WindowProduct<T>& p) {
  std::vector<PixelAxis>& axes = p.grid.axes;
  for (std::size_t i = axes.size(); i-- > 0 && axes.size() > 1;) {
    const auto here = axes.begin() + static_cast<std::ptrdiff_t>(i);
    if (here->count == 1 && here->size > 0 && here->tap.size() == 1 && here->tap[0] == 0) {
      axes.erase(here);
    } else if (i + 1 < axes.size() && is_plain(*here) && is_plain(here[1]) &&
               here->source_stride == here[1].source_stride * here[1].size &&
               here->target_stride == here[1].target_stride * here[1].count) {
      here[1].count *= here->count;
      here[1].size *= here->size;
      axes.erase(here);
    }
  }
}

// The images, groups and operands of a product whose result has `rows` channels and whose sums run over
// `channels`.
template <class T>
void set_operands(WindowProduct<T>& p, const ConvShape& s, Index rows, Index channels,
                  ArrayView<const T> source, ArrayView<const T> w, Index factor_row, Index factor_channel,
                  ArrayView<T> target) {
  p.grid.images = s.n;
  p.grid.source_image = source.strides[0];
  p.grid.target_image = target.strides[0];
  p.groups = s.groups;
  p.rows = rows / s.groups;
  p.channels = channels / s.groups;
  p.source = source.data;
  p.source_channel = source.strides[1];
  p.source_group = p.channels * source.strides[1];
  p.factor = w.data;
  p.factor_row = factor_row;
  p.factor_channel = factor_channel;
  p.factor_group = s.k / s.groups * w.strides[0];
  p.target = target.data;
  p.target_row = target.strides[1];
  p.target_group = p.rows * target.strides[1];
}

template <class T>
WindowProduct<T> forward_product(const ConvShape& s, ArrayView<const T> x, ArrayView<const T> w,
                                 BiasView<const T> b, ArrayView<T> y) {
  WindowProduct<T> p;
  std::vector<Extents> factor_taps;
  for (std::size_t i = 0; i < s.axes.size(); ++i) {
    p.grid.axes.push_back(window_pixels(s.axes[i], x.strides[2 + i], y.strides[2 + i]));
    Extents factor;
    for (Index t = 0; t < s.axes[i].kernel; ++t) factor.push_back(t * w.strides[2 + i]);
    factor_taps.push_back(std::move(factor));
  }
  set_operands(p, s, s.k, s.c, x, w, w.strides[0], w.strides[1], y);
  p.grid.fill = s.fill;
  p.factor_tap = tap_offsets(factor_taps);
  p.bias = b.data;
  p.bias_stride = b.stride;
  simplify_axes(p);
  return p;
}

// Along one axis, every stride-th input position from `first` on. They share the taps that reach them: tap t
// comes from output position (i + before - t * dilation) / stride, where that division is exact.
struct PhaseAxis {
  PixelAxis pixels;
  Extents taps;  // which taps of w
};

// The taps of each phase of an axis. They repeat with a period; below it no two taps serve the same phase.
class PhaseTaps {
 public:
  explicit PhaseTaps(const WindowAxis& axis)
      : axis_(axis), period_(axis.stride / std::gcd(axis.stride, axis.dilation)) {
    for (Index t = 0; t < std::min(period_, axis.kernel); ++t)
      first_.emplace_back(t * axis.dilation % axis.stride, t);
    std::sort(first_.begin(), first_.end());
  }

  PhaseAxis phase(Index first, Index dy_stride, Index dx_stride) const {
    const WindowAxis& a = axis_;
    PhaseAxis p;
    p.pixels = {.count = first < a.size ? (a.size - 1 - first) / a.stride + 1 : 0,
                .step = 1,
                .size = a.out,
                .source_stride = dy_stride,
                .target_stride = dx_stride * a.stride,
                .tap = {}};
    const Index place = first + a.before, phase = (place % a.stride + a.stride) % a.stride;
    const auto found = std::lower_bound(first_.begin(), first_.end(), std::pair{phase, Index{0}});
    if (found == first_.end() || found->first != phase) return p;
    // From the last tap to the first, so that the positions ascend, as they do in the forward pass.
    const Index least = found->second;
    for (Index t = least + (a.kernel - 1 - least) / period_ * period_; t >= least; t -= period_) {
      p.pixels.tap.push_back((place - t * a.dilation) / a.stride);
      p.taps.push_back(t);
    }
    return p;
  }

 private:
  const WindowAxis& axis_;
  Index period_;
  std::vector<std::pair<Index, Index>> first_;  // phase, first tap that serves it
};

// Calls body(product) once per stride phase, one at a time: there may be millions. No zero is ever stuffed
// between the values of dy.
template <class T, class Body>
void for_each_phase(const ConvShape& s, ArrayView<const T> dy, ArrayView<const T> w, ArrayView<T> dx,
                    bool accumulate, Body&& body, BiasView<const T> b = {}) {
  const bool strided = std::any_of(s.axes.begin(), s.axes.end(), [](const auto& a) { return a.stride > 1; });
  Extents first(s.axes.size(), 0);
  const std::vector<PhaseTaps> phase_taps(s.axes.begin(), s.axes.end());
  for (;;) {
    WindowProduct<T> p;
    std::vector<Extents> factor_taps;
    T* data = dx.data;
    for (std::size_t i = 0; i < s.axes.size(); ++i) {
      PhaseAxis axis = phase_taps[i].phase(first[i], dy.strides[2 + i], dx.strides[2 + i]);
      data += first[i] * dx.strides[2 + i];
      for (Index& t : axis.taps) t *= w.strides[2 + i];
      factor_taps.push_back(std::move(axis.taps));
      p.grid.axes.push_back(std::move(axis.pixels));
    }
    set_operands(p, s, s.c, s.k, dy, w, w.strides[1], w.strides[0], {data, dx.strides});
    p.factor_tap = tap_offsets(factor_taps);
    p.bias = b.data;
    p.bias_stride = b.stride;
    p.accumulate = accumulate;
    p.strided = strided;
    simplify_axes(p);
    if (p.grid.per_image() > 0) body(std::as_const(p));

    std::size_t i = s.axes.size();
    while (i-- > 0) {
      if (++first[i] < std::min(s.axes[i].stride, s.axes[i].size)) break;
      first[i] = 0;
    }
    if (i == static_cast<std::size_t>(-1)) return;
  }
}

// How many phases an input gradient has; those of an axis that has fewer positions are as many as these.
inline double phase_count(const ConvShape& s) {
  double count = 1;
  for (const WindowAxis& a : s.axes) count *= static_cast<double>(std::min(a.stride, a.size));
  return count;
}

// All phases as one problem, if they are few and windows small.
template <class T>
std::optional<PhaseProduct<T>> all_phases(const ConvShape& s, ArrayView<const T> dy, ArrayView<const T> w,
                                          BiasView<const T> b, ArrayView<T> dx) {
  constexpr double kMostPhases = 16;
  constexpr Index kMostTaps = 128;
  const WindowAxis& last = s.axes.back();
  const double count = phase_count(s);
  if (count < 2 || count > kMostPhases) return std::nullopt;

  const std::size_t rank = s.axes.size();
  PhaseProduct<T> p;
  p.columns = std::min(last.stride, last.size) == 2 ? 2 : 1;
  p.column_stride = dx.strides[1 + rank] * (p.columns == 2 ? 1 : last.stride);
  std::vector<std::vector<PhaseAxis>> axes(rank);
  std::vector<Extents> factor_taps(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    const WindowAxis& a = s.axes[i];
    const PhaseTaps taps(a);
    for (Index first = 0; first < std::min(a.stride, a.size); ++first)
      axes[i].push_back(taps.phase(first, dy.strides[2 + i], dx.strides[2 + i]));
    PixelAxis all = axes[i].front().pixels;  // the phase of the most pixels
    for (const PhaseAxis& axis : axes[i])
      for (const Index tap : axis.pixels.tap)
        if (std::find(all.tap.begin(), all.tap.end(), tap) == all.tap.end()) all.tap.push_back(tap);
    std::sort(all.tap.begin(), all.tap.end());
    p.all.grid.axes.push_back(std::move(all));
    for (Index t = 0; t < a.kernel; ++t) factor_taps[i].push_back(t * w.strides[2 + i]);
  }
  if (p.all.grid.axes.back().count < 2) return std::nullopt;  // lanes would have nothing to lie along
  p.all.factor_tap = tap_offsets(factor_taps);
  if (static_cast<Index>(p.all.factor_tap.size()) > kMostTaps || p.all.grid.taps() > kMostTaps ||
      p.all.grid.taps() == 0)
    return std::nullopt;
  set_operands(p.all, s, s.c, s.k, dy, w, w.strides[1], w.strides[0], dx);
  p.all.bias = b.data;
  p.all.bias_stride = b.stride;

  for (Index f = 0; f < static_cast<Index>(count); ++f) {
    Phase phase;
    phase.count.resize(rank);
    std::vector<Extents> taps(rank), factors(rank);
    Index rest = f, grid_taps = 1, window_taps = 1;
    for (std::size_t i = rank; i-- > 0;) {
      const PhaseAxis& axis = axes[i][static_cast<std::size_t>(rest % static_cast<Index>(axes[i].size()))];
      phase.target += rest % static_cast<Index>(axes[i].size()) * dx.strides[2 + i];
      rest /= static_cast<Index>(axes[i].size());
      phase.count[i] = axis.pixels.count;
      const Extents& all = p.all.grid.axes[i].tap;
      for (const Index tap : axis.pixels.tap)
        taps[i].push_back((std::find(all.begin(), all.end(), tap) - all.begin()) * grid_taps);
      for (const Index tap : axis.taps) factors[i].push_back(tap * window_taps);
      grid_taps *= static_cast<Index>(all.size());
      window_taps *= s.axes[i].kernel;
    }
    phase.tap = tap_offsets(taps);
    phase.factor = tap_offsets(factors);
    p.phases.push_back(std::move(phase));
  }
  p.alike = alike_phases(p.phases, p.columns, p.all.factor_tap);
  return p;
}

template <class T>
WeightGradient<T> weight_gradient(const ConvShape& s, ArrayView<const T> dy, ArrayView<const T> x,
                                  ArrayView<T> dw, bool accumulate) {
  const auto spatial = [&](const Index* strides) {
    return Extents(strides + 2, strides + 2 + static_cast<std::ptrdiff_t>(s.axes.size()));
  };
  return {.axes = s.axes,
          .fill = static_cast<T>(s.fill),
          .images = s.n,
          .groups = s.groups,
          .rows = s.k / s.groups,
          .channels = s.c / s.groups,
          .x = x.data,
          .x_image = x.strides[0],
          .x_channel = x.strides[1],
          .x_stride = spatial(x.strides),
          .dy = dy.data,
          .dy_image = dy.strides[0],
          .dy_channel = dy.strides[1],
          .dy_stride = spatial(dy.strides),
          .dw = dw.data,
          .dw_row = dw.strides[0],
          .dw_channel = dw.strides[1],
          .dw_stride = spatial(dw.strides),
          .accumulate = accumulate};
}

}  // namespace windrow
