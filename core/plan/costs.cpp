#include "plan/costs.hpp"

#include <algorithm>

#include "plan/costs_table.hpp"

namespace windrow {
namespace {

const Nanoseconds& costs_of(const Tile& tile) {
  const bool single = tile.bytes == sizeof(float);
  switch (tile.costs) {
    case Costs::kPortable:
      break;
    case Costs::kX86V3:
      return single ? kX86V3Float32 : kX86V3Float64;
    case Costs::kX86V4:
      return single ? kX86V4Float32 : kX86V4Float64;
    case Costs::kZen4:
      return single ? kZen4Float32 : kZen4Float64;
  }
  return single ? kPortableFloat32 : kPortableFloat64;
}

// Multiply-adds that one core has under way at once: a tile of fewer vectors waits for its sums. As many
// loads as multiply-adds are done in a cycle, and a term has two for its step: a tile of a single vector
// waits for them.
constexpr double kInFlight = 8;
constexpr Index kStepLoads = 2;

}  // namespace

const std::array<const char*, kWorks> kWorkNames{
    "tile",   "strip_tile",   "long_tile",   "far_tile",     "apart_tile", "strip_read",   "stencil",
    "call",   "gather",       "gather_step", "gather_apart", "page",       "tile_page",    "table",
    "fill",   "fill_apart",   "fill_row",    "turn",         "copy",       "turn_factor",  "copy_factor",
    "factor", "factor_apart", "factor_far",  "apart_far",    "result",     "result_apart", "input",
    "output", "weight",       "kept",        "kept_far",     "tile_read"};

double predicted(const Counts& counts, const Tile& tile) {
  const Nanoseconds& cost = costs_of(tile);
  double sum = 0;
  for (std::size_t i = 0; i < kWorks; ++i) sum += cost[i] * counts.of[i];
  return 1e-9 * sum;
}

double tile_vectors(Index rows, Index vectors, const Tile& tile) {
  const auto term = [&](Index some) {
    const Index busy = std::max(some * vectors, some + vectors + kStepLoads);
    return some == 0 || vectors == 0 ? 0.0 : std::max(kInFlight, static_cast<double>(busy));
  };
  return static_cast<double>(rows / tile.rows) * term(tile.rows) + term(rows % tile.rows);
}

double panel_vectors(Index rows, Index columns, const Tile& tile) {
  const Index rest = ceil_div(columns % tile.columns(), tile.lanes);
  const double whole = static_cast<double>(columns / tile.columns()) * tile_vectors(rows, tile.vectors, tile);
  return rest == 0 ? whole : whole + tile_vectors(rows, rest, tile);
}

double even_vectors(Index rows, Index columns, const Tile& tile, Index least) {
  const Index vectors = ceil_div(columns, tile.lanes);
  const Index panels = std::max(least, ceil_div(vectors, tile.vectors));
  if (panels == 0) return 0;
  const Index some = vectors / panels, larger = vectors % panels;
  return static_cast<double>(larger) * tile_vectors(rows, some + 1, tile) +
         static_cast<double>(panels - larger) * tile_vectors(rows, some, tile);
}

}  // namespace windrow
