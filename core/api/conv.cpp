#include "api/conv.hpp"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <numeric>
#include <utility>

#include "api/folded.hpp"
#include "api/kept_weights.hpp"
#include "api/plans.hpp"
#include "api/turned.hpp"
#include "base/workspace.hpp"
#include "drivers/bias_gradient.hpp"
#include "drivers/channel_product.hpp"
#include "drivers/filter_product.hpp"
#include "drivers/strip_product.hpp"
#include "drivers/window_product.hpp"
#include "drivers/winograd_gradient.hpp"

namespace windrow {
namespace {

// Small problems end before another thread has begun.
constexpr double kThreadedFlops = 1e6;

RunContext worth(const RunContext& context, double flops) {
  RunContext result = context;
  if (flops < kThreadedFlops) result.threads = 1;
  return result;
}

double flops_of(const ConvShape& s) {
  double flops = 2.0 * static_cast<double>(s.n * s.k * (s.c / s.groups));
  for (const WindowAxis& a : s.axes) flops *= static_cast<double>(a.out * a.kernel);
  return flops;
}

template <class T>
void run_product(const WindowProduct<T>& p, const CallOptions& options, const Target& target,
                 const RunContext& context) {
  const ProductPlan plan = plan_product(p, options, target, context.threads);
  RunContext fitting = context;
  fitting.threads = plan.threads;
  if (plan.channels) {
    run_channel_product(p, *plan.channels, target, fitting);
  } else if (plan.filters) {
    const T* panels = options.kept ? options.kept->panels(p, *plan.filters, target, fitting) : nullptr;
    run_filter_product(p, *plan.filters, panels, target, fitting);
  } else if (plan.strips) {
    run_strip_product(p, *plan.strips, target, fitting);
  } else if (plan.parts.empty() || !run_window_parts(p, plan.parts, target, fitting)) {
    run_window_product(p, plan.blocks, target, fitting);
  }
  context.asked = fitting.asked;  // a call may be millions of products
}

// False, and nothing done, where the direct sum is to do it.
template <class T>
bool run_if_winograd(const WindowProduct<T>& p, const CallOptions& options, const Target& target,
                     const RunContext& context) {
  const std::optional<WinogradPlan> plan = plan_winograd(p, options, target, context.threads);
  if (!plan) return false;
  RunContext fitting = context;
  fitting.threads = plan->threads;
  if (options.kept) {
    const T* weights = options.kept->transformed(p, plan->blocks.tile, target, fitting);
    if (weights) run_winograd(p, plan->blocks, weights, target, fitting);
    context.asked = fitting.asked;
    return weights != nullptr;
  }
  Scratch scratch;
  T* weights = scratch.take<T>(plan->weights);
  const bool finite = transform_weights(p, plan->blocks.tile, weights, target, fitting);
  if (finite) run_winograd(p, plan->blocks, weights, target, fitting);
  context.asked = fitting.asked;
  return finite;
}

template <class T>
void run_turned(const TurnedPlan<T>& plan, const Target& target, const RunContext& context) {
  RunContext fitting = context;
  fitting.threads = plan.threads;
  run_turned_channels(plan.problem, target, fitting);
  context.asked = fitting.asked;
}

// Whether some input positions are reached by no tap: along an axis, taps reach stride / gcd(stride,
// dilation) phases at most, and no more than there are taps.
bool has_empty_phase(const ConvShape& s) {
  return std::any_of(s.axes.begin(), s.axes.end(), [](const WindowAxis& a) {
    return std::min(a.kernel, a.stride / std::gcd(a.stride, a.dilation)) < std::min(a.stride, a.size);
  });
}

// Fills dx with zeros if it is one block of memory without gaps; else leaves it alone.
template <class T>
bool clear_if_dense(const ConvShape& s, ArrayView<T> dx, const RunContext& context) {
  std::vector<std::pair<Index, Index>> axes{{dx.strides[0], s.n}, {dx.strides[1], s.c}};
  for (std::size_t i = 0; i < s.axes.size(); ++i) axes.emplace_back(dx.strides[2 + i], s.axes[i].size);
  std::sort(axes.begin(), axes.end());
  Index count = 1;
  for (const auto& [stride, size] : axes) {
    if (size != 1 && stride != count) return false;
    count *= size;
  }
  constexpr Index kPiece = Index{1} << 18;
  parallel_for(context, ceil_div(count, kPiece), [&](Index piece) {
    std::fill_n(dx.data + piece * kPiece, std::min(kPiece, count - piece * kPiece), T{0});
  });
  return true;
}

}  // namespace

template <class T>
void conv(const ConvShape& shape, ArrayView<const T> x, ArrayView<const T> w, BiasView<const T> b,
          ArrayView<T> y, const CallOptions& options, const Target& target, const RunContext& context) {
  assert(shape.holds());
  const RunContext few = worth(context, flops_of(shape));
  if (const auto turned = plan_turned_forward(shape, x, w, b, y, options, target, few.threads))
    return run_turned(*turned, target, few);
  WindowProduct<T> product = forward_product(shape, x, w, b, y);
  product.limits = options.limits;
  if (!run_if_winograd(product, options, target, few)) run_product(product, options, target, few);
}

// The products of a folded gradient, one after another; `at` is where those of this loop begin.
template <class T>
void run_folded(const FoldedGradient& f, std::size_t loop, const FoldedGradient::Loop& at,
                ArrayView<const T> dy, ArrayView<const T> w, BiasView<const T> b, ArrayView<T> dx,
                const CallOptions& options, const Target& target, const RunContext& context) {
  if (loop == f.loops.size()) {
    const BiasView<const T> bias{b.data ? b.data + at.bias : nullptr, f.bias_stride};
    return conv_grad_input<T>(f.shape, {dy.data + at.dy, dy.strides}, {w.data + at.w, f.w_strides.data()},
                              bias, {dx.data + at.dx, f.dx_strides.data()}, options, target, context);
  }
  FoldedGradient::Loop next = at;
  const FoldedGradient::Loop& step = f.loops[loop];
  for (Index i = 0; i < step.count; ++i) {
    run_folded(f, loop + 1, next, dy, w, b, dx, options, target, context);
    next.w += step.w;
    next.dy += step.dy;
    next.dx += step.dx;
    next.bias += step.bias;
  }
}

// Image by image, where the rows of the products do not lie evenly in dx.
template <class T>
void run_columns(const FoldedGradient& f, Index images, ArrayView<const T> dy, ArrayView<const T> w,
                 ArrayView<T> dx, const CallOptions& options, const Target& target,
                 const RunContext& context) {
  const Extents strides = channels_last_strides(f.shape.c, extents_of(f.shape.axes, &WindowAxis::size));
  Scratch scratch;
  T* columns = scratch.take<T>(strides[0]);
  CallOptions fresh = options;
  fresh.accumulate = false;
  for (Index n = 0; n < images; ++n) {
    conv_grad_input<T>(f.shape, {dy.data + n * dy.strides[0], dy.strides},
                       {w.data + f.first.w, f.w_strides.data()}, {}, {columns, strides.data()}, fresh, target,
                       context);
    scatter_columns(f, columns, {dx.data + f.first.dx + n * dx.strides[0], dx.strides}, options.accumulate,
                    context);
  }
}

template <class T>
void conv_grad_input(const ConvShape& shape, ArrayView<const T> dy, ArrayView<const T> w, BiasView<const T> b,
                     ArrayView<T> dx, const CallOptions& options, const Target& target,
                     const RunContext& context) {
  assert(shape.holds() && shape.has_zeros_around());
  const RunContext few = worth(context, flops_of(shape));
  if (may_fold(options)) {
    if (const auto folded = fold_axes(shape, w.strides, dy.strides, dx.strides, b.stride, b.data != nullptr,
                                      may_join_phases(options))) {
      if (!options.accumulate && !folded->covers_all) fill_gradient(shape, b, dx, few);
      if (!folded->rows.empty()) {
        run_columns(*folded, shape.n, dy, w, dx, options, target, few);
      } else if (folded->shape.c > 0) {
        run_folded(*folded, 0, folded->first, dy, w, b, dx, options, target, context);
      }
      return spread_nan(shape, w, dx, few);
    }
  }
  if (const auto turned = plan_turned_gradient(shape, dy, w, b, dx, options, target, few.threads))
    return run_turned(*turned, target, few);
  if (const auto phases = plan_phases(shape, dy, w, b, dx, options, target, few.threads)) {
    const auto run = phases->blocks.strips ? run_phase_strips<T> : run_phase_product<T>;
    return run(phases->product, phases->blocks, target, few);
  }
  if (options.max_workspace != 0) {  // nothing is written where a later phase cannot do with it
    for_each_phase(shape, dy, w, dx, options.accumulate, [&](const WindowProduct<T>& phase) {
      if (!plan_winograd(phase, options, target, few.threads))
        plan_product(phase, options, target, few.threads);
    });
  }
  // Phases that no tap reaches (three of four under a 1x1 window of stride 2) are zero: in one go where dx is
  // one block of memory, instead of one scattered store after the other.
  const bool cleared =
      !options.accumulate && !b.data && has_empty_phase(shape) && clear_if_dense(shape, dx, few);
  const auto run = [&](const WindowProduct<T>& phase) {
    if (cleared && phase.grid.taps() == 0) return;
    if (!run_if_winograd(phase, options, target, few)) run_product(phase, options, target, few);
  };
  for_each_phase(shape, dy, w, dx, options.accumulate, run, b);
}

template <class T>
void conv_grad_weight(const ConvShape& shape, ArrayView<const T> dy, ArrayView<const T> x, ArrayView<T> dw,
                      const CallOptions& options, const Target& target, const RunContext& context) {
  assert(shape.holds());
  WeightGradient<T> problem = weight_gradient(shape, dy, x, dw, options.accumulate);
  RunContext few = worth(context, flops_of(shape));
  problem.threads = few.threads;
  // Its room is asked for in any case: it takes the place of tiles that are not finite.
  const WeightPlan direct = plan_weight_gradient(problem, options, target, few.threads);
  if (const auto threads = plan_winograd_gradient(problem, options, target, few.threads)) {
    RunContext fitting = few;
    fitting.threads = *threads;
    const bool finite = run_winograd_gradient(problem, target, fitting);
    few.asked = fitting.asked;
    if (finite) return;
  }
  problem.way = direct.way;
  problem.most_scratch = direct.most_scratch;
  few.threads = direct.threads;
  if (direct.depthwise) {
    run_depthwise_gradient(problem, target, few);
  } else {
    run_weight_gradient(problem, target, few);
  }
}

template <class T>
void conv_grad_bias(const ConvShape& s, ArrayView<const T> dy, BiasView<T> db, const CallOptions& options,
                    const RunContext& context) {
  BiasGradient<T> p{.images = s.n,
                    .channels = s.k,
                    .dy = dy.data,
                    .dy_image = dy.strides[0],
                    .dy_channel = dy.strides[1],
                    .size = {},
                    .dy_stride = {},
                    .db = db.data,
                    .db_stride = db.stride,
                    .accumulate = options.accumulate};
  for (std::size_t i = 0; i < s.axes.size(); ++i) {
    p.size.push_back(s.axes[i].out);
    p.dy_stride.push_back(dy.strides[2 + i]);
  }
  double values = static_cast<double>(s.n * s.k);
  for (const Index size : p.size) values *= static_cast<double>(size);
  run_bias_gradient(p, worth(context, values));
}

#define WINDROW_INSTANTIATE(T)                                                                               \
  template void conv(const ConvShape&, ArrayView<const T>, ArrayView<const T>, BiasView<const T>,            \
                     ArrayView<T>, const CallOptions&, const Target&, const RunContext&);                    \
  template void conv_grad_input(const ConvShape&, ArrayView<const T>, ArrayView<const T>, BiasView<const T>, \
                                ArrayView<T>, const CallOptions&, const Target&, const RunContext&);         \
  template void conv_grad_weight(const ConvShape&, ArrayView<const T>, ArrayView<const T>, ArrayView<T>,     \
                                 const CallOptions&, const Target&, const RunContext&);                      \
  template void conv_grad_bias(const ConvShape&, ArrayView<const T>, BiasView<T>, const CallOptions&,        \
                               const RunContext&);
WINDROW_INSTANTIATE(float)
WINDROW_INSTANTIATE(double)
#undef WINDROW_INSTANTIATE

}  // namespace windrow
