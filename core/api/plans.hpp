// How each pass will run: what conv.cpp does and plan_pass.cpp tells.
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "api/conv.hpp"
#include "api/products.hpp"
#include "drivers/channel_product.hpp"
#include "drivers/depthwise_gradient.hpp"
#include "drivers/weight_gradient.hpp"
#include "drivers/winograd.hpp"
#include "drivers/winograd_gradient.hpp"
#include "plan/choose.hpp"
#include "plan/choose_gradient.hpp"
#include "plan/choose_winograd.hpp"

namespace windrow {

// Bytes: beyond, windows are wider than a cache.
inline constexpr Index kMostChannelWeights = Index{4} << 20;

template <class T>
ProductSize size_of(const WindowProduct<T>& p, const Tile& tile, int threads) {
  const Index taps = p.grid.taps();
  return {.rows = p.rows,
          .terms = p.channels * taps,
          .pixels = p.grid.images * p.grid.per_image(),
          .groups = p.groups,
          .table_bytes = panel_size(p.grid, tile.lanes, tile.vectors).bytes(),
          .source_channel = p.source_channel,
          .scattered = p.rows > 1 && p.factor_row == 1 && p.factor_channel != 1,
          .taps_apart = p.rows > 1 && p.factor_channel == 1 && taps > 1,
          .rows_follow = p.factor_row < p.factor_channel,
          .threads = threads};
}

// As many of the threads as the workspace that the call may use has room for.
inline int threads_with_room(Index scratch, const CallOptions& options, int threads) {
  if (options.max_workspace == 0 || scratch == 0) return threads;
  if (scratch > options.max_workspace) throw WorkspaceTooSmall{scratch};
  return static_cast<int>(std::min<Index>(threads, options.max_workspace / scratch));
}

// Whether all phases of an input gradient may be one piece of work.
inline bool may_join_phases(const CallOptions& options) {
  return !options.accumulate && !asks_for_driver(options.algorithm);
}

// Folding is a plan of its own, like that of a limited workspace, under which nothing may be written before
// it is known to suffice.
inline bool may_fold(const CallOptions& options) {
  switch (options.algorithm) {
    case Algorithm::kWinograd:
    case Algorithm::kWinograd2:
    case Algorithm::kWinograd4:
      return false;
    default:
      return options.max_workspace == 0;
  }
}

template <class T>
FilterStrides filter_strides(const WindowProduct<T>& p, const CallOptions& options) {
  return {.target_row = p.target_row,
          .factor_row = p.factor_row,
          .factor_channel = p.factor_channel,
          .accumulate = p.accumulate,
          .kept = options.prepared,
          .follow = factors_follow(p)};
}

// The fastest driver, or the one that is asked for.
inline Driver chosen_driver(const DirectCandidates& candidates, Algorithm algorithm, const Tile& tile) {
  if (algorithm == Algorithm::kWindowProduct) return Driver::kPanels;
  if (algorithm == Algorithm::kFilterProduct && candidates.filters) return Driver::kFilters;
  if (algorithm == Algorithm::kStripProduct && candidates.strips) return Driver::kStrips;
  return candidates.fastest(tile).driver;
}

// How a product over windows will run: one of the four drivers with its blocks.
struct ProductPlan {
  std::optional<ChannelBlocks> channels;
  std::optional<FilterBlocks> filters;
  std::optional<StripBlocks> strips;
  std::vector<PartBlocks> parts;
  ProductBlocks blocks;
  Index scratch = 0;  // bytes, of one thread ...
  Index shared = 0;   // ... and of all together
  int threads = 1;
};

template <class T>
ProductPlan plan_product(const WindowProduct<T>& p, const CallOptions& options, const Target& target,
                         int threads) {
  const Tile tile = tile_of<T>(target);
  const ProductSize size = size_of(p, tile, threads);
  const Index most =
      options.max_workspace == 0 ? std::numeric_limits<Index>::max() : options.max_workspace / threads;
  ProductPlan plan;
  plan.blocks = choose_blocks(size, tile, most);
  plan.scratch = product_scratch(plan.blocks, tile);
  // Asked before the strips, so that the least workspace does not depend on what is faster.
  plan.threads = threads_with_room(plan.scratch, options, threads);
  if (has_channel_lanes(p, tile.lanes) && !asks_for_driver(options.algorithm)) {
    const Index shared = channel_shared(p.grid, p.groups, tile.bytes), scratch = channel_scratch(p.grid);
    const bool fits = options.max_workspace == 0 || shared + plan.threads * scratch <= options.max_workspace;
    if (fits && shared <= kMostChannelWeights) {
      plan.channels = choose_channels(p.grid, p.groups);
      plan.scratch = scratch;
      plan.shared = shared;
      return plan;
    }
  }
  const FilterStrides strides = filter_strides(p, options);
  DirectCandidates alone = direct_candidates(p.grid, size, p.channels, strides, tile, most);
  switch (chosen_driver(alone, options.algorithm, tile)) {
    case Driver::kFilters:
      plan.filters =
          threads == 1 ? alone.filters : choose_filters(p.grid, size, p.channels, strides, tile, most);
      break;
    case Driver::kStrips:
      plan.strips = threads == 1 ? alone.strips : choose_strips(p.grid, size, p.channels, tile, most);
      break;
    case Driver::kPanels:
      if (!alone.parts.empty())
        plan.parts = threads == 1 ? std::move(alone.parts) : choose_parts(p.grid, size, p.channels, tile);
  }
  if (plan.filters) {
    plan.scratch = filter_scratch(p.grid, p.channels, *plan.filters, tile);
  } else if (plan.strips) {
    plan.scratch = strip_scratch(p.grid, p.rows, *plan.strips, tile);
  } else {
    for (const PartBlocks& each : plan.parts)
      plan.scratch = std::max(plan.scratch, product_scratch(each.blocks, tile));
  }
  return plan;
}

// How all phases of an input gradient will run together.
template <class T>
struct PhasePlan {
  PhaseProduct<T> product;
  PhaseBlocks blocks;
  Index scratch = 0;  // of one thread
};

// Nothing where phase after phase is to run: there are too many or too few of them, or the channels' lanes
// are those of memory.
template <class T>
std::optional<PhasePlan<T>> plan_phases(const ConvShape& s, ArrayView<const T> dy, ArrayView<const T> w,
                                        BiasView<const T> b, ArrayView<T> dx, const CallOptions& options,
                                        const Target& target, int threads) {
  const Tile tile = tile_of<T>(target);
  const bool depthwise = s.c == s.groups && s.k == s.groups;
  const bool channels_last = dx.strides[1] == 1 && (!depthwise || dy.strides[1] == 1);
  if (!may_join_phases(options) || (channels_last && (depthwise ? s.c : s.c / s.groups) >= tile.lanes))
    return std::nullopt;
  std::optional<PhaseProduct<T>> product = all_phases(s, dy, w, b, dx);
  if (!product) return std::nullopt;
  const PixelGrid& grid = product->all.grid;
  const PhaseSize size = phase_size(*product, threads);
  const Index most =
      options.max_workspace == 0 ? std::numeric_limits<Index>::max() : options.max_workspace / threads;
  const auto blocks = choose_phases(grid, size, tile, most);
  if (!blocks) return std::nullopt;
  const Index scratch = phase_scratch(grid, size, *blocks, tile);
  return PhasePlan<T>{.product = std::move(*product), .blocks = *blocks, .scratch = scratch};
}

// How a product will run by Winograd's tiles.
struct WinogradPlan {
  WinogradBlocks blocks;
  Index weights = 0;  // elements of their transform, which all threads share
  Index shared = 0;   // bytes, of all threads together ...
  Index scratch = 0;  // ... and of one
  int threads = 1;
};

template <class T>
bool has_winograd(const WindowProduct<T>& p) {
  // A phase of a longer stride may look like a window of stride 1.
  return !p.strided && !why_no_winograd(p.grid) && p.channels > 0 && p.rows > 0 &&
         p.grid.images * p.grid.per_image() > 0;
}

// Nothing where the direct sum takes it, because it is faster, or because the workspace has no room. Tiles
// that are asked for and do not fit the memory of a thread are an error, in the caller's words.
template <class T>
std::optional<WinogradPlan> plan_winograd(const WindowProduct<T>& p, const CallOptions& options,
                                          const Target& target, int threads) {
  const Algorithm algorithm = options.algorithm;
  const bool single = algorithm == Algorithm::kWinograd2 || algorithm == Algorithm::kWinograd4;
  const bool forced = algorithm == Algorithm::kWinograd;
  if (!(forced || single || algorithm == Algorithm::kAuto) || !has_winograd(p)) return std::nullopt;
  const Tile tile = tile_of<T>(target);
  const auto blocks =
      single   ? winograd_blocks(p.grid, p.rows, p.channels, algorithm == Algorithm::kWinograd2 ? 2 : 4, tile)
      : forced ? force_winograd(p.grid, p.groups, p.rows, p.channels, tile, options.prepared)
               : choose_winograd(p.grid, p.groups, p.rows, p.channels, tile, options.prepared);
  if (!blocks && forced)
    throw std::invalid_argument("algorithm: 'winograd' sums over at most " +
                                std::to_string(most_winograd_channels(p.grid, p.rows, tile)) +
                                " channels of a group here, got " + std::to_string(p.channels));
  if (!blocks) return std::nullopt;
  WinogradPlan plan{.blocks = *blocks, .threads = threads};
  if (!options.prepared)
    plan.weights = winograd_weights(p.grid, p.groups, p.rows, p.channels, blocks->tile, tile);
  plan.scratch = winograd_scratch(p.grid, p.channels, *blocks, tile);
  Index room = std::numeric_limits<Index>::max();
  if (options.max_workspace != 0) {
    const Index weights = plan.weights * tile.bytes;
    room = options.max_workspace - weights;
    if (room < plan.scratch) {
      if (forced) throw WorkspaceTooSmall{weights + plan.scratch};
      return std::nullopt;
    }
    plan.threads = static_cast<int>(std::min<Index>(threads, room / plan.scratch));
  }
  // Only now, since what is chosen must not depend on the threads.
  const WinogradBlocks parts = shared_out(*blocks, p.grid, p.groups, p.rows, p.channels, tile, plan.threads);
  const Index shared = winograd_shared(p.grid, p.channels, parts, tile);
  const Index scratch = winograd_scratch(p.grid, p.channels, parts, tile);
  if (shared + plan.threads * scratch > room) return plan;  // by the marks of spoilt tiles
  plan.blocks = parts;
  plan.shared = shared;
  plan.scratch = scratch;
  return plan;
}

// Terms of an entry of y, or of that entry of dx which has most.
inline Index most_terms(const ConvShape& s, Pass pass) {
  Index terms = (pass == Pass::kForward ? s.c : s.k) / s.groups;
  for (const WindowAxis& a : s.axes) {
    // Of the taps of a window, an input position sees every period-th one.
    const Index period = pass == Pass::kForward ? 1 : a.stride / std::gcd(a.stride, a.dilation);
    terms *= ceil_div(a.kernel, period);
  }
  return terms;
}

inline WeightWay way_of(Algorithm algorithm) {
  constexpr int kBefore = static_cast<int>(Algorithm::kWeightRuns) - static_cast<int>(WeightWay::kRuns);
  return algorithm < Algorithm::kWeightRuns ? WeightWay::kChosen
                                            : static_cast<WeightWay>(static_cast<int>(algorithm) - kBefore);
}

// How a weight gradient will run as a direct sum.
struct WeightPlan {
  bool depthwise = false;
  WeightWay way = WeightWay::kChosen;
  Index most_scratch = 0;  // of one thread: WeightGradient has both
  int threads = 1;
};

// How sums are cut decides bits of dw, so that it must not see the number of threads: under a limit the cut
// is made for a fixed share of it.
template <class T>
WeightPlan plan_weight_gradient(WeightGradient<T> p, const CallOptions& options, const Target& target,
                                int threads) {
  constexpr Index kShares = 8;
  p.way = way_of(options.algorithm);
  if (options.max_workspace != 0) p.most_scratch = std::max<Index>(1, options.max_workspace / kShares);
  const bool depthwise = has_depthwise_gradient(p, target);
  if (options.max_workspace != 0) {
    const auto cost = depthwise ? depthwise_gradient_cost(p, target) : weight_gradient_cost(p, target);
    threads = threads_with_room(cost.scratch_bytes, options, threads);
  }
  return {.depthwise = depthwise, .way = p.way, .most_scratch = p.most_scratch, .threads = threads};
}

// The threads that sum it by Winograd's tiles, or nothing where the direct sum takes it.
template <class T>
std::optional<int> plan_winograd_gradient(const WeightGradient<T>& p, const CallOptions& options,
                                          const Target& target, int threads) {
  const Algorithm algorithm = options.algorithm;
  const bool forced = algorithm == Algorithm::kWinograd;
  const bool asked = forced || algorithm == Algorithm::kWinograd4;
  if (!(asked || algorithm == Algorithm::kAuto) || !has_winograd_gradient(p)) return std::nullopt;
  if (!asked && !takes_winograd_gradient(p, target)) return std::nullopt;
  if (options.max_workspace == 0) return threads;
  const WeightGradientCost cost = winograd_gradient_cost(p, target);
  const Index room = options.max_workspace - cost.partial_bytes;
  if (room >= cost.scratch_bytes)
    return static_cast<int>(std::min<Index>(threads, room / cost.scratch_bytes));
  if (forced) throw WorkspaceTooSmall{cost.partial_bytes + cost.scratch_bytes};
  return std::nullopt;
}

}  // namespace windrow
