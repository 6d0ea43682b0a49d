#include "api/conv.hpp"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "api/products.hpp"
#include "api/small_calls.hpp"
#include "base/checked.hpp"
#include "base/workspace.hpp"
#include "drivers/bias_gradient.hpp"
#include "drivers/depthwise_gradient.hpp"
#include "drivers/filter_product.hpp"
#include "drivers/small_gradient.hpp"
#include "drivers/small_product.hpp"
#include "drivers/strip_product.hpp"
#include "drivers/weight_gradient.hpp"
#include "drivers/window_product.hpp"
#include "drivers/winograd.hpp"
#include "plan/choose.hpp"
#include "plan/choose_winograd.hpp"

namespace windrow {
namespace {

constexpr Index kMostDepthwiseScratch = Index{1} << 20;  // bytes: beyond, windows are wider than a cache

template <class T>
ProductSize size_of(const WindowProduct<T>& p, const Tile& tile) {
  const Index taps = p.grid.taps();
  return {.rows = p.rows,
          .terms = p.channels * taps,
          .pixels = p.grid.images * p.grid.per_image(),
          .groups = p.groups,
          .table_bytes = panel_size(p.grid, tile.lanes, tile.vectors).bytes(),
          .scattered = p.rows > 1 && p.factor_row == 1 && p.factor_channel != 1};
}

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

// As many of the threads as the workspace that the call may use has room for.
int threads_with_room(Index scratch, const CallOptions& options, int threads) {
  if (options.max_workspace == 0 || scratch == 0) return threads;
  if (scratch > options.max_workspace) throw WorkspaceTooSmall{scratch};
  return static_cast<int>(std::min<Index>(threads, options.max_workspace / scratch));
}

// How a product over windows will run: one of the three drivers with its blocks.
struct ProductPlan {
  std::optional<FilterBlocks> filters;
  std::optional<StripBlocks> strips;
  ProductBlocks blocks;
  Index scratch = 0;  // of one thread
  int threads = 1;
};

template <class T>
ProductPlan plan_product(const WindowProduct<T>& p, const CallOptions& options, const Target& target,
                         int threads) {
  const Tile tile = tile_of<T>(target);
  const ProductSize size = size_of(p, tile);
  const Index most =
      options.max_workspace == 0 ? std::numeric_limits<Index>::max() : options.max_workspace / threads;
  ProductPlan plan;
  plan.blocks = choose_blocks(size, tile, most);
  plan.scratch = product_scratch(plan.blocks, tile);
  // Asked before the strips, so that the least workspace does not depend on what is faster.
  plan.threads = threads_with_room(plan.scratch, options, threads);
  const FilterStrides strides{.target_row = p.target_row,
                              .factor_row = p.factor_row,
                              .factor_channel = p.factor_channel,
                              .accumulate = p.accumulate};
  plan.filters = choose_filters(p.grid, size, p.channels, strides, tile, most);
  if (plan.filters) {
    plan.scratch = filter_scratch(p.grid, p.channels, *plan.filters, tile);
    return plan;
  }
  plan.strips = choose_strips(p.grid, size, p.channels, tile, most);
  if (plan.strips) plan.scratch = strip_scratch(p.grid, p.channels, *plan.strips, tile);
  return plan;
}

template <class T>
void run_product(const WindowProduct<T>& p, const CallOptions& options, const Target& target,
                 const RunContext& context) {
  const ProductPlan plan = plan_product(p, options, target, context.threads);
  RunContext fitting = context;
  fitting.threads = plan.threads;
  if (plan.filters) {
    run_filter_product(p, *plan.filters, target, fitting);
  } else if (plan.strips) {
    run_strip_product(p, *plan.strips, target, fitting);
  } else {
    run_window_product(p, plan.blocks, target, fitting);
  }
  context.asked = fitting.asked;  // a call may be millions of products
}

// How a product will run by Winograd's tiles.
struct WinogradPlan {
  WinogradBlocks blocks;
  Index weights = 0;  // elements of their transform, which all threads share
  Index scratch = 0;  // bytes, of one thread
  int threads = 1;
};

template <class T>
bool has_winograd(const ConvShape& s, const WindowProduct<T>& p) {
  // A phase of a longer stride may look like a window of stride 1, but it is not the whole result.
  return std::all_of(s.axes.begin(), s.axes.end(), [](const WindowAxis& a) { return a.stride == 1; }) &&
         !why_no_winograd(p.grid) && p.channels > 0 && p.rows > 0 && p.grid.images * p.grid.per_image() > 0;
}

// Nothing where the direct sum takes it, because it is faster, or because the workspace has no room.
template <class T>
std::optional<WinogradPlan> plan_winograd(const ConvShape& s, const WindowProduct<T>& p,
                                          const CallOptions& options, const Target& target, int threads) {
  if (options.algorithm == Algorithm::kDirect || !has_winograd(s, p)) return std::nullopt;
  const bool forced = options.algorithm == Algorithm::kWinograd;
  const Tile tile = tile_of<T>(target);
  const auto blocks = forced ? force_winograd(p.grid, p.groups, p.rows, p.channels, tile)
                             : choose_winograd(p.grid, p.groups, p.rows, p.channels, tile);
  if (!blocks) return std::nullopt;
  WinogradPlan plan{.blocks = *blocks, .threads = threads};
  plan.weights = winograd_weights(p.groups, p.rows, p.channels, blocks->tile, tile);
  plan.scratch = winograd_scratch(p.channels, *blocks, tile);
  if (options.max_workspace == 0) return plan;
  const Index shared = plan.weights * tile.bytes, room = options.max_workspace - shared;
  if (room < plan.scratch) {
    if (forced) throw WorkspaceTooSmall{shared + plan.scratch};
    return std::nullopt;
  }
  plan.threads = static_cast<int>(std::min<Index>(threads, room / plan.scratch));
  return plan;
}

// False, and nothing done, where the direct sum is to do it.
template <class T>
bool run_if_winograd(const ConvShape& s, const WindowProduct<T>& p, const CallOptions& options,
                     const Target& target, const RunContext& context) {
  const std::optional<WinogradPlan> plan = plan_winograd(s, p, options, target, context.threads);
  if (!plan) return false;
  RunContext fitting = context;
  fitting.threads = plan->threads;
  Scratch scratch;
  T* weights = scratch.take<T>(plan->weights);
  const bool finite = transform_weights(p, plan->blocks.tile, weights, target, fitting);
  if (finite) run_winograd(p, plan->blocks, weights, target, fitting);
  context.asked = fitting.asked;
  return finite;
}

// Terms of an entry of y, or of that entry of dx which has most.
Index most_terms(const ConvShape& s, Pass pass) {
  Index terms = (pass == Pass::kForward ? s.c : s.k) / s.groups;
  for (const WindowAxis& a : s.axes) {
    // Of the taps of a window, an input position sees every period-th one.
    const Index period = pass == Pass::kForward ? 1 : a.stride / std::gcd(a.stride, a.dilation);
    terms *= ceil_div(a.kernel, period);
  }
  return terms;
}

// One channel per group leaves the lanes of the product nearly empty. A filter that is far larger than its
// result has no pixels to fill them with either.
template <class T>
bool is_depthwise(const WeightGradient<T>& p, const Target& target) {
  if (p.channels != 1 || p.groups == 1) return false;
  const Index most =
      p.most_scratch == 0 ? kMostDepthwiseScratch : std::min(p.most_scratch, kMostDepthwiseScratch);
  return depthwise_gradient_cost(p, target).scratch_bytes <= most;
}

// Sets the scratch that one thread may take, and returns how many threads may run. How dw is cut decides its
// bits, so that it must not see the number of threads: the cut is made for a fixed share of the limit.
template <class T>
int fit_weight_gradient(WeightGradient<T>& p, const CallOptions& options, const Target& target, int threads) {
  constexpr Index kShares = 8;
  if (options.max_workspace == 0) return threads;
  p.most_scratch = std::max<Index>(1, options.max_workspace / kShares);
  return threads_with_room(weight_gradient_cost(p, target).scratch_bytes, options, threads);
}

// Whether some input positions are reached by no tap: along an axis, taps reach stride / gcd(stride,
// dilation) phases at most, and no more than there are taps.
bool has_empty_phase(const ConvShape& s) {
  return std::any_of(s.axes.begin(), s.axes.end(), [](const WindowAxis& a) {
    return std::min(a.kernel, a.stride / std::gcd(a.stride, a.dilation)) < std::min(a.stride, a.size);
  });
}

template <class T>
void limit_run(T* values, Index count, Index step, T low, T high) {
  // Comparisons that are false for NaN.
  for (Index i = 0; i < count; ++i) {
    T& value = values[i * step];
    value = low > value ? low : value;
    value = high < value ? high : value;
  }
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

// C-ordered strides of (a, b, spatial...), for plans that have no arrays yet.
Extents c_strides(Index b, const Extents& spatial) {
  Extents strides(spatial.size() + 2, 1);
  for (std::size_t i = spatial.size() + 1; i-- > 0;)
    strides[i] = strides[i + 1] * (i == 0 ? b : spatial[i - 1]);
  return strides;
}

// The same with the second axis innermost in memory.
Extents channels_last_strides(Index b, const Extents& spatial) {
  Extents strides(spatial.size() + 2, 1);
  Index all = b;
  for (std::size_t i = spatial.size(); i-- > 0; all *= spatial[i]) strides[2 + i] = all;
  strides[0] = all;
  return strides;
}

[[maybe_unused]] bool holds_sizes(const ConvShape& s) {
  return s.groups > 0 && s.c % s.groups == 0 && s.k % s.groups == 0 && holds_positions(s.axes) &&
         holds_product({s.n, s.c}, s.axes, {&WindowAxis::size}) &&
         holds_product({s.k, s.c / s.groups}, s.axes, {&WindowAxis::kernel}) &&
         holds_product({s.n, s.k}, s.axes, {&WindowAxis::out});
}

}  // namespace

template <class T>
void limit_result(const ConvShape& s, ArrayView<T> y, const Limits& limits, const RunContext& context) {
  const T low = static_cast<T>(limits.low), high = static_cast<T>(limits.high);
  Index count = s.n * s.k, reach = (s.n - 1) * y.strides[0] + (s.k - 1) * y.strides[1];
  bool forwards = y.strides[0] >= 0 && y.strides[1] >= 0;
  for (std::size_t i = 0; i < s.axes.size(); ++i) {
    count *= s.axes[i].out;
    reach += (s.axes[i].out - 1) * y.strides[2 + i];
    forwards = forwards && y.strides[2 + i] >= 0;
  }
  if (count == 0) return;
  if (forwards && reach + 1 == count) {  // no gaps: in whatever order
    constexpr Index kPiece = Index{1} << 16;
    parallel_for(context, ceil_div(count, kPiece), [&](Index piece) {
      limit_run(y.data + piece * kPiece, std::min(kPiece, count - piece * kPiece), 1, low, high);
    });
    return;
  }
  const Index rows = s.axes.back().out, step = y.strides[1 + s.axes.size()];
  parallel_for(context, s.n * s.k, [&](Index plane) {
    T* data = y.data + plane / s.k * y.strides[0] + plane % s.k * y.strides[1];
    for (Index row = 0; row < count / (s.n * s.k) / rows; ++row) {
      Index offset = 0, rest = row;
      for (std::size_t i = s.axes.size() - 1; i-- > 0; rest /= s.axes[i].out)
        offset += rest % s.axes[i].out * y.strides[2 + i];
      limit_run(data + offset, rows, step, low, high);
    }
  });
}

template <class T>
void conv(const ConvShape& shape, ArrayView<const T> x, ArrayView<const T> w, BiasView<const T> b,
          ArrayView<T> y, const CallOptions& options, const Target& target, const RunContext& context) {
  assert(holds_sizes(shape));
  const RunContext few = worth(context, flops_of(shape));
  const WindowProduct<T> product = forward_product(shape, x, w, b, y);
  if (!run_if_winograd(shape, product, options, target, few)) run_product(product, options, target, few);
  if (options.limits.on) limit_result(shape, y, options.limits, few);
}

template <class T>
void conv_grad_input(const ConvShape& shape, ArrayView<const T> dy, ArrayView<const T> w, BiasView<const T> b,
                     ArrayView<T> dx, const CallOptions& options, const Target& target,
                     const RunContext& context) {
  assert(holds_sizes(shape));
  const RunContext few = worth(context, flops_of(shape));
  if (options.max_workspace != 0) {  // nothing is written where a later phase cannot do with it
    for_each_phase(shape, dy, w, dx, options.accumulate, [&](const WindowProduct<T>& phase) {
      if (!plan_winograd(shape, phase, options, target, few.threads))
        plan_product(phase, options, target, few.threads);
    });
  }
  // Phases that no tap reaches (three of four under a 1x1 window of stride 2) are zero: in one go where dx is
  // one block of memory, instead of one scattered store after the other.
  const bool cleared =
      !options.accumulate && !b.data && has_empty_phase(shape) && clear_if_dense(shape, dx, few);
  const auto run = [&](const WindowProduct<T>& phase) {
    if (cleared && phase.grid.taps() == 0) return;
    if (!run_if_winograd(shape, phase, options, target, few)) run_product(phase, options, target, few);
  };
  for_each_phase(shape, dy, w, dx, options.accumulate, run, b);
}

template <class T>
void conv_grad_weight(const ConvShape& shape, ArrayView<const T> dy, ArrayView<const T> x, ArrayView<T> dw,
                      const CallOptions& options, const Target& target, const RunContext& context) {
  assert(holds_sizes(shape));
  WeightGradient<T> problem = weight_gradient(shape, dy, x, dw, options.accumulate);
  RunContext few = worth(context, flops_of(shape));
  few.threads = fit_weight_gradient(problem, options, target, few.threads);
  if (is_depthwise(problem, target)) {
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

template <class T>
PassPlan plan_pass(const ConvShape& s, Pass pass, bool channels_last, const CallOptions& options,
                   const Target& target, int threads) {
  Extents in, out, taps;
  for (const WindowAxis& a : s.axes) {
    in.push_back(a.size);
    out.push_back(a.out);
    taps.push_back(a.kernel);
  }
  const Extents x_strides = channels_last ? channels_last_strides(s.c, in) : c_strides(s.c, in);
  const Extents y_strides = channels_last ? channels_last_strides(s.k, out) : c_strides(s.k, out);
  const Extents w_strides = c_strides(s.c / s.groups, taps);
  const Tile tile = tile_of<T>(target);
  PassPlan plan{.algorithm = "direct",
                .kernel = "window_product",
                .rows = tile.rows,
                .vectors = tile.vectors,
                .lanes = tile.lanes,
                .block_k = 0,
                .block_pixels = 0,
                .block_rows = 0,
                .pieces = 0,
                .scratch_bytes = 0,
                .shared_bytes = 0,
                .threads = threads,
                .roundings = 0,
                .costs = {}};
  if (pass == Pass::kGradWeight) {
    WeightGradient<T> problem = weight_gradient<T>(
        s, {nullptr, y_strides.data()}, {nullptr, x_strides.data()}, {nullptr, w_strides.data()}, false);
    const std::optional<SmallGradientLayout> small = small_gradient_layout(problem, tile);
    if (options.max_workspace == 0 && small && is_small<T>(s, pass, target)) {
      plan.kernel = "small_gradient";
      plan.pieces = plan.threads = 1;
      plan.scratch_bytes = small->scratch;
      plan.roundings = weight_gradient_cost(problem, target).roundings;
      return plan;
    }
    plan.threads = fit_weight_gradient(problem, options, target, threads);
    const bool depthwise = is_depthwise(problem, target);
    const auto cost =
        depthwise ? depthwise_gradient_cost(problem, target) : weight_gradient_cost(problem, target);
    plan.kernel = depthwise ? "depthwise_gradient" : "weight_gradient";
    plan.pieces = cost.pieces;
    plan.scratch_bytes = cost.scratch_bytes;
    plan.shared_bytes = cost.partial_bytes;
    plan.roundings = cost.roundings;
    return plan;
  }
  const Index terms = most_terms(s, pass);
  plan.roundings = std::min(terms, Index{kChunk}) + ceil_div(terms, kChunk);
  const bool small = options.max_workspace == 0 && !options.accumulate &&
                     options.algorithm != Algorithm::kWinograd && is_small<T>(s, pass, target);
  const auto add_small = [&](const WindowProduct<T>& p) {
    const std::optional<SmallLayout> layout = small_layout(p.grid, p.rows, p.channels, p.groups, tile);
    plan.kernel = "small_product";
    plan.block_k = std::max(plan.block_k, p.channels * p.grid.taps());
    plan.block_pixels = std::max(plan.block_pixels, layout->lanes);
    plan.block_rows = p.rows;
    plan.scratch_bytes = std::max(plan.scratch_bytes, layout->scratch);
    plan.pieces += 1;
    plan.threads = 1;
  };
  const auto add_winograd = [&](const WindowProduct<T>& p, const WinogradPlan& winograd) {
    plan.algorithm = "winograd";
    plan.kernel = winograd.blocks.tile == 2 ? "winograd_2x2" : "winograd_4x4";
    plan.block_k = p.channels;
    plan.block_pixels = winograd.blocks.tiles * winograd.blocks.tile * winograd.blocks.tile;
    plan.block_rows = winograd.blocks.rows;
    plan.pieces = winograd_pieces(p.grid, p.groups, winograd.blocks);
    plan.scratch_bytes = winograd.scratch;
    plan.shared_bytes = winograd.weights * tile.bytes;
    plan.threads = winograd.threads;
    plan.roundings = winograd_roundings(p.channels);
  };
  const auto add = [&](const WindowProduct<T>& p) {
    if (has_winograd(s, p)) plan.costs = winograd_costs(p.grid, p.groups, p.rows, p.channels, tile);
    if (small) return add_small(p);
    const std::optional<WinogradPlan> winograd = plan_winograd(s, p, options, target, threads);
    if (winograd) return add_winograd(p, *winograd);
    const ProductSize size = size_of(p, tile);
    const ProductPlan product = plan_product(p, options, target, threads);
    plan.scratch_bytes = std::max(plan.scratch_bytes, product.scratch);
    plan.threads = std::min(plan.threads, product.threads);
    if (product.filters) {
      const FilterBlocks& blocks = *product.filters;
      plan.kernel = "filter_product";
      plan.block_k = kChunk;
      plan.block_pixels = std::max(plan.block_pixels, blocks.rows * blocks.columns * blocks.units);
      plan.block_rows = std::max(plan.block_rows, std::min(blocks.filters, size.rows));
      plan.pieces += filter_pieces(p.grid, size.rows, blocks) * size.groups;
    } else if (product.strips) {
      const StripBlocks& strips = *product.strips;
      const PixelAxis& last = p.grid.axes.back();
      plan.kernel = "strip_product";
      plan.block_k = size.terms;
      plan.block_rows = p.rows;
      plan.block_pixels = std::max(plan.block_pixels, strips.rows * strips.columns);
      const Index lines = p.grid.images * p.grid.per_image() / last.count;
      plan.pieces += ceil_div(
          size.groups * ceil_div(lines, strips.rows) * ceil_div(last.count, strips.columns), strips.units);
    } else {
      plan.block_k = kChunk;
      plan.block_pixels = std::max(plan.block_pixels, product.blocks.panels * tile.columns());
      plan.block_rows = std::max(plan.block_rows, product.blocks.rows);
      plan.pieces += size.groups * ceil_div(ceil_div(size.pixels, tile.columns()), product.blocks.panels) *
                     ceil_div(size.rows, product.blocks.rows);
    }
  };
  if (pass == Pass::kForward) {
    add(forward_product<T>(s, {nullptr, x_strides.data()}, {nullptr, w_strides.data()}, {},
                           {nullptr, y_strides.data()}));
  } else {
    for_each_phase<T>(s, {nullptr, y_strides.data()}, {nullptr, w_strides.data()},
                      {nullptr, x_strides.data()}, false, add);
  }
  return plan;
}

#define WINDROW_INSTANTIATE(T)                                                                               \
  template void limit_result(const ConvShape&, ArrayView<T>, const Limits&, const RunContext&);              \
  template void conv(const ConvShape&, ArrayView<const T>, ArrayView<const T>, BiasView<const T>,            \
                     ArrayView<T>, const CallOptions&, const Target&, const RunContext&);                    \
  template void conv_grad_input(const ConvShape&, ArrayView<const T>, ArrayView<const T>, BiasView<const T>, \
                                ArrayView<T>, const CallOptions&, const Target&, const RunContext&);         \
  template void conv_grad_weight(const ConvShape&, ArrayView<const T>, ArrayView<const T>, ArrayView<T>,     \
                                 const CallOptions&, const Target&, const RunContext&);                      \
  template void conv_grad_bias(const ConvShape&, ArrayView<const T>, BiasView<T>, const CallOptions&,        \
                               const RunContext&);                                                           \
  template PassPlan plan_pass<T>(const ConvShape&, Pass, bool, const CallOptions&, const Target&, int);
WINDROW_INSTANTIATE(float)
WINDROW_INSTANTIATE(double)
#undef WINDROW_INSTANTIATE

}  // namespace windrow
