// What a pass would do, for explain.
#include "api/folded.hpp"
#include "api/plans.hpp"
#include "api/small_calls.hpp"
#include "api/turned.hpp"
#include "drivers/small_gradient.hpp"
#include "drivers/small_product.hpp"

namespace windrow {
namespace {

// C-ordered strides of (a, b, spatial...), for plans that have no arrays yet.
Extents c_strides(Index b, const Extents& spatial) {
  Extents strides(spatial.size() + 2, 1);
  for (std::size_t i = spatial.size() + 1; i-- > 0;)
    strides[i] = strides[i + 1] * (i == 0 ? b : spatial[i - 1]);
  return strides;
}

const char* winograd_name(Index tile) { return tile == 2 ? "winograd_2x2" : "winograd_4x4"; }

// What could compute the product of one image on one thread.
template <class T>
std::vector<Candidate> candidates_of(WindowProduct<T> p, const CallOptions& options, const Target& target) {
  if (p.grid.images == 0) return {};
  p.grid.images = 1;
  const Tile tile = tile_of<T>(target);
  if (has_channel_lanes(p, tile.lanes)) return {};
  const DirectCandidates direct =
      direct_candidates(p.grid, size_of(p, tile, 1), p.channels, filter_strides(p, options), tile,
                        std::numeric_limits<Index>::max());
  std::vector<Candidate> found{{"window_product", direct.panels}};
  if (direct.filters) found.push_back({"filter_product", direct.filters_counts});
  if (direct.strips) found.push_back({"strip_product", direct.strips_counts});
  if (!has_winograd(p) || !may_take_winograd(p.grid, p.groups, p.rows, p.channels)) return found;
  for (const Index side : {2, 4}) {
    if (winograd_blocks(p.grid, p.rows, p.channels, side, tile))
      found.push_back({winograd_name(side),
                       count_winograd(p.grid, p.groups, p.rows, p.channels, side, tile, options.prepared)});
  }
  return found;
}

}  // namespace

template <class T>
PassPlan plan_pass(const ConvShape& s, Pass pass, bool channels_last, const CallOptions& options,
                   const Target& target, int threads) {
  const Extents in = extents_of(s.axes, &WindowAxis::size), out = extents_of(s.axes, &WindowAxis::out);
  const Extents x_strides = channels_last ? channels_last_strides(s.c, in) : c_strides(s.c, in);
  const Extents y_strides = channels_last ? channels_last_strides(s.k, out) : c_strides(s.k, out);
  const Extents w_strides = c_strides(s.c / s.groups, extents_of(s.axes, &WindowAxis::kernel));
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
                .candidates = {}};
  if (pass == Pass::kGradWeight) {
    WeightGradient<T> problem = weight_gradient<T>(
        s, {nullptr, y_strides.data()}, {nullptr, x_strides.data()}, {nullptr, w_strides.data()}, false);
    const std::optional<SmallGradientLayout> small = small_gradient_layout(problem, tile);
    if (options.max_workspace == 0 && small && may_be_small_gradient(options.algorithm) &&
        is_small<T>(s, pass, target)) {
      plan.kernel = "small_gradient";
      plan.pieces = plan.threads = 1;
      plan.scratch_bytes = small->scratch;
      plan.roundings = weight_gradient_cost(problem, target).roundings;
      return plan;
    }
    problem.threads = threads;
    const WeightPlan direct = plan_weight_gradient(problem, options, target, threads);
    const std::optional<int> tiles = plan_winograd_gradient(problem, options, target, threads);
    problem.way = direct.way;
    problem.most_scratch = tiles ? 0 : direct.most_scratch;
    const auto cost = tiles              ? winograd_gradient_cost(problem, target)
                      : direct.depthwise ? depthwise_gradient_cost(problem, target)
                                         : weight_gradient_cost(problem, target);
    if (tiles) {
      const WinogradGradientCut cut = winograd_gradient_cut(problem, target);
      plan.algorithm = "winograd";
      plan.block_k = cut.unit_tiles;
      plan.block_pixels = cut.unit_tiles * kGradientTile * kGradientTile;
      plan.block_rows = cut.held;
    }
    if (!direct.depthwise && has_winograd_gradient(problem))
      plan.candidates = {{"weight_gradient", count_direct_gradient(problem, target)},
                         {"winograd_gradient", count_winograd_gradient(problem, target)}};
    plan.kernel = tiles ? "winograd_gradient" : direct.depthwise ? "depthwise_gradient" : "weight_gradient";
    plan.threads = tiles.value_or(direct.threads);
    plan.pieces = cost.pieces;
    plan.scratch_bytes = cost.scratch_bytes;
    plan.shared_bytes = cost.partial_bytes;
    plan.roundings = cost.roundings;
    plan.in_lanes = cost.in_lanes;
    return plan;
  }
  const Index terms = most_terms(s, pass);
  plan.roundings = std::min(terms, Index{kChunk}) + ceil_div(terms, kChunk);
  const bool small = options.max_workspace == 0 && !options.accumulate &&
                     options.algorithm <= Algorithm::kDirect && is_small<T>(s, pass, target);
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
    plan.kernel = winograd_name(winograd.blocks.tile);
    plan.block_k = winograd_terms(p.grid, p.channels);
    plan.block_pixels = winograd.blocks.tiles * winograd.blocks.tile * winograd.blocks.tile;
    plan.block_rows = winograd.blocks.rows;
    plan.pieces = winograd_pieces(p.grid, p.groups, winograd.blocks);
    plan.scratch_bytes = winograd.scratch;
    plan.shared_bytes = winograd.weights * tile.bytes + winograd.shared;
    plan.threads = winograd.threads;
    plan.roundings = winograd_roundings(plan.block_k);
  };
  const bool single = pass == Pass::kForward || phase_count(s) == 1;
  const auto add = [&](const WindowProduct<T>& p) {
    if (small) return add_small(p);
    if (single) plan.candidates = candidates_of(p, options, target);
    const std::optional<WinogradPlan> winograd = plan_winograd(p, options, target, threads);
    if (winograd) return add_winograd(p, *winograd);
    const ProductSize size = size_of(p, tile, threads);
    const ProductPlan product = plan_product(p, options, target, threads);
    plan.scratch_bytes = std::max(plan.scratch_bytes, product.scratch);
    plan.shared_bytes = std::max(plan.shared_bytes, product.shared);
    plan.threads = std::min(plan.threads, product.threads);
    if (product.channels) {
      plan.kernel = "channel_product";
      plan.block_k = size.terms;
      plan.block_rows = p.rows;
      plan.block_pixels = std::max(plan.block_pixels, product.channels->columns);
      plan.pieces += channel_pieces(p.grid, *product.channels);
    } else if (product.filters) {
      const FilterBlocks& blocks = *product.filters;
      plan.kernel = "filter_product";
      plan.block_k = blocks.pass;
      plan.block_pixels = std::max(plan.block_pixels, blocks.rows * blocks.columns * blocks.units);
      plan.block_rows = std::max(plan.block_rows, std::min(blocks.most_panels() * tile.columns(), size.rows));
      plan.pieces += filter_pieces(p.grid, blocks) * size.groups;
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
      const auto add_panels = [&](const ProductBlocks& blocks) {
        plan.block_pixels = std::max(plan.block_pixels, blocks.panels * tile.columns());
        plan.block_rows = std::max(plan.block_rows, blocks.rows);
        plan.pieces +=
            size.groups * ceil_div(blocks.all_panels, blocks.panels) * ceil_div(size.rows, blocks.rows);
      };
      for (const PartBlocks& each : product.parts) add_panels(each.blocks);
      if (product.parts.empty()) add_panels(product.blocks);
    }
  };
  const auto add_turned = [&](const TurnedPlan<T>& turned) {
    plan.kernel = "turned_channels";
    plan.block_k = terms;
    plan.block_rows = 1;
    for (const WindowProduct<T>& p : turned.problem.products)
      plan.block_pixels = std::max(plan.block_pixels, p.grid.per_image());
    plan.pieces = turned_pieces(turned.problem);
    plan.scratch_bytes = turned.scratch;
    plan.threads = turned.threads;
  };
  if (pass == Pass::kForward) {
    const ArrayView<const T> x{nullptr, x_strides.data()}, w{nullptr, w_strides.data()};
    const ArrayView<T> y{nullptr, y_strides.data()};
    const auto turned =
        small ? std::nullopt : plan_turned_forward<T>(s, x, w, {}, y, options, target, threads);
    if (turned) {
      add_turned(*turned);
    } else {
      add(forward_product<T>(s, x, w, {}, y));
    }
    return plan;
  }
  ConvShape shape = s;
  Extents dx_strides = x_strides, factor_strides = w_strides;
  Index products = 1;
  const auto folded = may_fold(options) ? fold_axes(s, w_strides.data(), y_strides.data(), x_strides.data(),
                                                    1, false, may_join_phases(options))
                                        : std::nullopt;
  if (folded) {
    shape = folded->shape;
    factor_strides = folded->w_strides;
    dx_strides = folded->dx_strides;
    for (const FoldedGradient::Loop& loop : folded->loops) products *= loop.count;
    if (!folded->rows.empty()) {
      products = s.n;
      dx_strides = channels_last_strides(shape.c, extents_of(shape.axes, &WindowAxis::size));
      plan.shared_bytes = dx_strides[0] * tile.bytes;
    }
  }
  const ArrayView<const T> dy{nullptr, y_strides.data()}, w{nullptr, factor_strides.data()};
  const ArrayView<T> dx{nullptr, dx_strides.data()};
  const auto turned =
      small ? std::nullopt : plan_turned_gradient<T>(shape, dy, w, {}, dx, options, target, threads);
  if (turned) {
    add_turned(*turned);
    plan.pieces *= products;
    return plan;
  }
  const auto phases = small ? std::nullopt : plan_phases<T>(shape, dy, w, {}, dx, options, target, threads);
  if (!phases) {
    for_each_phase<T>(shape, dy, w, dx, false, add);
    plan.pieces *= products;
    if (products != 1) plan.candidates.clear();
    return plan;
  }
  const WindowProduct<T>& all = phases->product.all;
  const PhaseBlocks& blocks = phases->blocks;
  plan.kernel = blocks.strips ? "phase_strips" : "phase_product";
  plan.block_k = blocks.strips ? terms : Index{kChunk};
  plan.block_pixels =
      blocks.strips ? blocks.strip.rows * blocks.strip.columns : blocks.panels * tile.columns();
  plan.block_rows = blocks.strips ? all.rows : blocks.rows;
  plan.pieces = products * phase_pieces(all.grid, phase_size(phases->product), blocks, tile);
  plan.scratch_bytes = phases->scratch;
  return plan;
}

template PassPlan plan_pass<float>(const ConvShape&, Pass, bool, const CallOptions&, const Target&, int);
template PassPlan plan_pass<double>(const ConvShape&, Pass, bool, const CallOptions&, const Target&, int);

}  // namespace windrow
