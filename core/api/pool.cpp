#include "api/pool.hpp"

#include <algorithm>
#include <utility>

#include "api/products.hpp"

namespace windrow {
namespace {

constexpr Index kMostCopies = 64;  // places that a sum is written to, listed

template <class T>
Pooling<T> pooling(const PoolShape& s, ArrayView<const T> source, ArrayView<T> target, T divisor) {
  Pooling<T> p;
  p.images = s.n;
  p.channels = s.c;
  p.source = source.data;
  p.source_image = source.strides[0];
  p.source_channel = source.strides[1];
  p.target = target.data;
  p.target_image = target.strides[0];
  p.target_channel = target.strides[1];
  p.divisor = divisor;
  return p;
}

template <class T>
Pooling<T> forward(const PoolShape& s, ArrayView<const T> x, ArrayView<T> y, T divisor) {
  Pooling<T> p = pooling(s, x, y, divisor);
  p.border = s.axes[0].border;
  if (s.fill) p.fill = static_cast<T>(*s.fill);
  p.beyond = s.beyond;
  for (std::size_t i = 0; i < s.axes.size(); ++i)
    p.axes.push_back(window_pixels(s.axes[i], x.strides[2 + i], y.strides[2 + i]));
  return p;
}

// The gradient of a mean by stride phases, of which there are `count` along each axis. They share all but
// where they begin.
template <class T>
struct MeanPhases {
  Pooling<T> shared;
  Extents count;
  std::vector<PhaseTaps> taps;
};

template <class T>
MeanPhases<T> mean_phases(const PoolShape& s, ArrayView<const T> dy, ArrayView<T> dx, T divisor) {
  const std::size_t rank = s.axes.size();
  MeanPhases<T> phases{pooling(s, dy, dx, divisor), Extents(rank), {s.axes.begin(), s.axes.end()}};
  Pooling<T>& shared = phases.shared;
  for (std::size_t i = 0; i < rank; ++i) {
    const WindowAxis& a = s.axes[i];
    phases.count[i] = std::min(a.stride, a.size);
    // Windows side by side: all pixels of one have the same sum, which is computed once.
    const Index step = dx.strides[2 + i], have = static_cast<Index>(shared.copies.size());
    if (a.stride != a.kernel || a.dilation != 1 || a.before != 0 || a.size % a.stride != 0) continue;
    if (i == rank - 1 && a.kernel == 2 && step == 1) {
      shared.twice = true;
    } else if (a.kernel <= kMostCopies / have) {
      for (Index k = 1; k < a.kernel; ++k)
        for (Index c = 0; c < have; ++c)
          shared.copies.push_back(shared.copies[static_cast<std::size_t>(c)] + k * step);
    } else {
      continue;
    }
    phases.count[i] = 1;
  }
  return phases;
}

template <class T>
Pooling<T> mean_phase(const MeanPhases<T>& phases, const Extents& first, ArrayView<const T> dy,
                      ArrayView<T> dx) {
  Pooling<T> p = phases.shared;
  for (std::size_t i = 0; i < first.size(); ++i) {
    p.axes.push_back(phases.taps[i].phase(first[i], dy.strides[2 + i], dx.strides[2 + i]).pixels);
    p.target += first[i] * dx.strides[2 + i];
  }
  return p;
}

// Strides of an array (N, C, spatial...) without gaps.
Extents strides_of(const PoolShape& s, bool output, bool channels_last) {
  Extents strides(2 + s.axes.size());
  Index step = 1;
  if (channels_last) strides[1] = step;
  if (channels_last) step = s.c;
  for (std::size_t i = s.axes.size(); i-- > 0;) {
    strides[2 + i] = step;
    step *= output ? s.axes[i].out : s.axes[i].size;
  }
  if (!channels_last) strides[1] = step;
  strides[0] = channels_last ? step : step * s.c;
  return strides;
}

}  // namespace

template <class T>
void max_pool(const PoolShape& s, ArrayView<const T> x, ArrayView<T> y, IndexView indices, bool magnitude,
              const RunContext& context) {
  Pooling<T> p = forward(s, x, y, T{1});
  p.norm = magnitude ? T{1} : T{0};
  if (indices.data) {
    p.indices = indices.data;
    p.index_image = indices.strides[0];
    p.index_channel = indices.strides[1];
    for (std::size_t i = 0; i < s.axes.size(); ++i) p.index_stride.push_back(indices.strides[2 + i]);
  }
  run_max_pool(p, context);
}

template <class T>
void sum_pool(const PoolShape& s, ArrayView<const T> x, ArrayView<T> y, T divisor,
              const RunContext& context) {
  run_sum_pool(forward(s, x, y, divisor), context);
}

template <class T>
void norm_pool(const PoolShape& s, ArrayView<const T> x, ArrayView<T> y, T norm, const RunContext& context) {
  Pooling<T> p = forward(s, x, y, T{1});
  p.norm = norm;
  run_sum_pool(p, context);
}

template <class T>
void sum_pool_backward(const PoolShape& s, ArrayView<const T> dy, ArrayView<T> dx, T divisor,
                       const RunContext& context) {
  const MeanPhases<T> phases = mean_phases(s, dy, dx, divisor);
  Extents first(s.axes.size(), 0);
  for (;;) {  // once per stride phase, as the input gradient of a convolution
    run_sum_pool(mean_phase(phases, first, dy, dx), context);
    std::size_t i = s.axes.size();
    for (;;) {
      if (i-- == 0) return;
      if (++first[i] < phases.count[i]) break;
      first[i] = 0;
    }
  }
}

template <class T>
PoolPlan plan_pool(const PoolShape& s, PoolPass pass, bool channels_last) {
  const Extents x_strides = strides_of(s, false, channels_last),
                y_strides = strides_of(s, true, channels_last);
  const ArrayView<const T> x{nullptr, x_strides.data()}, dy{nullptr, y_strides.data()};
  const ArrayView<T> y{nullptr, y_strides.data()}, dx{nullptr, x_strides.data()};
  Index positions = 1, size = 1;
  for (const WindowAxis& a : s.axes) {
    positions *= a.out;
    size *= a.size;
  }
  switch (pass) {
    case PoolPass::kMax:
    case PoolPass::kMaxWithIndices: {
      Pooling<T> p = forward(s, x, y, T{1});
      p.index_image = y_strides[0];
      p.index_channel = y_strides[1];
      for (std::size_t i = 2; i < y_strides.size(); ++i) p.index_stride.push_back(y_strides[i]);
      return plan_max_pool(p, pass == PoolPass::kMaxWithIndices);
    }
    case PoolPass::kMaxBackward: {
      const std::size_t last = 1 + s.axes.size();
      const bool halves =
          s.axes.size() == 2 && s.axes[0].size == 2 * s.axes[0].out && s.axes[1].size == 2 * s.axes[1].out;
      return plan_scatter(Scatter<T>{.images = s.n,
                                     .channels = s.c,
                                     .positions = positions,
                                     .size = size,
                                     .value_channel = y_strides[1],
                                     .value_step = y_strides[last],
                                     .index_channel = y_strides[1],
                                     .index_step = y_strides[last],
                                     .image_channel = x_strides[1],
                                     .image_step = x_strides[last],
                                     .width = halves ? s.axes[1].out : 0});
    }
    case PoolPass::kSumBackward: {
      const MeanPhases<T> phases = mean_phases(s, dy, dx, T{1});
      PoolPlan plan = plan_sum_pool(mean_phase(phases, Extents(s.axes.size(), 0), dy, dx));
      for (const Index count : phases.count) plan.pieces *= count;
      return plan;
    }
    default: {
      Pooling<T> p = forward(s, x, y, T{1});
      p.norm = pass == PoolPass::kNorm ? T{2} : T{0};
      return plan_sum_pool(p);
    }
  }
}

#define WINDROW_INSTANTIATE(T)                                                                       \
  template void max_pool(const PoolShape&, ArrayView<const T>, ArrayView<T>, IndexView, bool,        \
                         const RunContext&);                                                         \
  template void norm_pool(const PoolShape&, ArrayView<const T>, ArrayView<T>, T, const RunContext&); \
  template void sum_pool(const PoolShape&, ArrayView<const T>, ArrayView<T>, T, const RunContext&);  \
  template PoolPlan plan_pool<T>(const PoolShape&, PoolPass, bool);                                  \
  template void sum_pool_backward(const PoolShape&, ArrayView<const T>, ArrayView<T>, T, const RunContext&);
WINDROW_INSTANTIATE(float)
WINDROW_INSTANTIATE(double)
#undef WINDROW_INSTANTIATE

}  // namespace windrow
