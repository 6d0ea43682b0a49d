#include <algorithm>
#include <atomic>

#include "dispatch/targets.hpp"
#include "drivers/pool.hpp"
#include "kernels/contract.hpp"

namespace windrow {
namespace {

constexpr Index kPieceValues = Index{1} << 15;
constexpr Index kAheadBytes = 4096;

// A part of an image: channels side by side, the same for all of its values. Zeros are written when values
// first come near them, so that they are still in the cache then.
template <class T>
struct Plane {
  T* at;
  Index step, size, channels;
  Index zeroed = 0;  // positions

  void zero_until(Index end) {
    if (step == 1 || step == channels) {
      std::fill(at + zeroed * step, at + (end - 1) * step + channels, T{0});
    } else {
      for (Index i = zeroed; i < end; ++i) std::fill_n(at + i * step, channels, T{0});
    }
    zeroed = end;
  }
  void zero_beyond(Index i) {
    zero_until(std::min(size, i + 1 + kAheadBytes / (channels * static_cast<Index>(sizeof(T)))));
  }
};

// One value; false where the index is none.
template <ScatterKind kKind, class T>
bool move_one(T* value, std::int64_t index, Plane<T>& plane, Index step, Index channel) {
  if (static_cast<std::uint64_t>(index) >= static_cast<std::uint64_t>(plane.zeroed)) {
    if (static_cast<std::uint64_t>(index) >= static_cast<std::uint64_t>(plane.size)) {
      if constexpr (kKind == ScatterKind::kTake) *value = 0;
      return index == -1;
    }
    plane.zero_beyond(index);
  }
  T& place = plane.at[index * step + channel];
  if constexpr (kKind == ScatterKind::kAdd) {
    place += *value;
  } else if constexpr (kKind == ScatterKind::kPut) {
    place = *value;
  } else {
    *value = place;
  }
  return true;
}

template <class T>
bool lanes_are_channels(const Scatter<T>& p) {
  return p.image_channel == 1 && p.value_channel == 1 && p.index_channel == 1;
}

// Whether some channels are for the kernel of windows of 2 x 2 pixels.
template <class T>
bool may_spread(const Scatter<T>& p, Index channels) {
  const Index lanes = current_target().kernels<T>().pool_lanes;
  if (p.width == 0) return false;
  if (lanes_are_channels(p)) return channels >= lanes;
  return p.image_step == 1 && p.value_step == 1 && p.index_step == 1 && p.width >= lanes;
}

// A part by the kernel for windows of 2 x 2 pixels, where it may take it; false where an index leads
// elsewhere, or where it may not.
template <class T>
bool spread_part(const Scatter<T>& p, Index image, Index first, Index end) {
  const KernelTable<T>& kernels = current_target().kernels<T>();
  const bool channels = p.image_channel == 1 && p.value_channel == 1 && p.index_channel == 1;
  const bool dense = p.image_step == 1 && p.value_step == 1 && p.index_step == 1;
  if (p.width == 0 ||
      !(channels ? end - first >= kernels.pool_lanes : dense && p.width >= kernels.pool_lanes))
    return false;
  const Index rows = p.positions / p.width, across = 2 * p.width;  // across: pixels of a row
  const auto part = [&](Index channel, Index row) {
    return PoolSpread<T>{
        .value = p.values + image * p.value_image + channel * p.value_channel + row * p.width * p.value_step,
        .value_row = channels ? p.value_step : p.width,
        .indices =
            p.indices + image * p.index_image + channel * p.index_channel + row * p.width * p.index_step,
        .index_row = channels ? p.index_step : p.width,
        .first_place = 2 * row * across,
        .place_row = channels ? 2 : 2 * across,
        .place_step = channels ? 0 : 2,
        .next_row_place = across,
        .target =
            p.image + image * p.image_image + channel * p.image_channel + 2 * row * across * p.image_step,
        .target_row = channels ? 2 * p.image_step : 2 * across,
        .next_row = across * p.image_step,
        .next_column = p.image_step,
        .rows = channels ? p.width : rows,
        .count = channels ? end - first : p.width};
  };
  bool good = true;
  if (channels) {
    for (Index row = 0; row < rows && good; ++row) good = kernels.pool_spread(part(first, row));
  } else {
    for (Index c = first; c < end && good; ++c) good = kernels.pool_spread(part(c, 0));
  }
  return good;
}

template <ScatterKind kKind, class T>
bool scatter_part(const Scatter<T>& p, Index image, Index first, Index end) {
  if (kKind == ScatterKind::kAdd && spread_part(p, image, first, end)) return true;
  T* to = p.image + image * p.image_image;
  T* values = p.values + image * p.value_image;
  const std::int64_t* indices = p.indices + image * p.index_image;
  const Index zeroed = kKind == ScatterKind::kTake ? p.size : 0;
  bool good = true;
  if (p.image_channel == 1) {
    Plane<T> plane{to + first, p.image_step, p.size, end - first, zeroed};
    for (Index l = 0; l < p.positions; ++l)
      for (Index c = first; c < end; ++c)
        good &=
            move_one<kKind>(values + l * p.value_step + c * p.value_channel,
                            indices[l * p.index_step + c * p.index_channel], plane, p.image_step, c - first);
    if (plane.zeroed < p.size) plane.zero_until(p.size);
    return good;
  }
  const bool dense = p.image_step == 1 && p.value_step == 1 && p.index_step == 1;
  for (Index c = first; c < end; ++c) {
    Plane<T> plane{to + c * p.image_channel, p.image_step, p.size, 1, zeroed};
    T* own = values + c * p.value_channel;
    const std::int64_t* places = indices + c * p.index_channel;
    if (dense) {
      for (Index l = 0; l < p.positions; ++l) good &= move_one<kKind>(own + l, places[l], plane, 1, 0);
    } else {
      for (Index l = 0; l < p.positions; ++l)
        good &= move_one<kKind>(own + l * p.value_step, places[l * p.index_step], plane, p.image_step, 0);
    }
    if (plane.zeroed < p.size) plane.zero_until(p.size);
  }
  return good;
}

template <class T>
Index work_of(const Scatter<T>& p) {
  return std::max<Index>(1, p.positions + p.size / 4);
}

// The channels of a piece.
template <class T>
Index channels_of(const Scatter<T>& p) {
  // Where they lie side by side, a cache line of them or more together.
  const Index least = p.image_channel == 1 ? 64 : 1, all = std::max<Index>(1, p.channels);
  return std::clamp<Index>(kPieceValues / work_of(p), std::min(least, all), all);
}

template <ScatterKind kKind, class T>
bool run(const Scatter<T>& p, const RunContext& context) {
  const Index work = work_of(p), channels = channels_of(p);
  const Index blocks = ceil_div(p.channels, channels);
  RunContext few = context;
  if (static_cast<double>(work) * static_cast<double>(p.images * p.channels) < kPieceValues) few.threads = 1;
  std::atomic<bool> good{true};
  parallel_for(few, p.images * blocks, [&](Index piece) {
    const Index first = piece % blocks * channels;
    if (!scatter_part<kKind>(p, piece / blocks, first, std::min(first + channels, p.channels)))
      good.store(false, std::memory_order_relaxed);
  });
  return good.load();
}

}  // namespace

template <class T>
PoolPlan plan_scatter(const Scatter<T>& p) {
  PoolPlan plan{.kernel = "scatter", .lanes = 0, .along = 1, .share = 1, .pieces = 0};
  plan.pieces = p.images * ceil_div(p.channels, channels_of(p));
  if (plan.pieces == 0 || !may_spread(p, channels_of(p))) return plan;
  plan.kernel = "pool_spread";
  plan.lanes = current_target().kernels<T>().pool_lanes;
  plan.along = lanes_are_channels(p) ? 1 : 3;
  return plan;
}

template <class T>
bool run_scatter(const Scatter<T>& p, ScatterKind kind, const RunContext& context) {
  switch (kind) {
    case ScatterKind::kAdd:
      return run<ScatterKind::kAdd>(p, context);
    case ScatterKind::kPut:
      return run<ScatterKind::kPut>(p, context);
    default:
      return run<ScatterKind::kTake>(p, context);
  }
}

template PoolPlan plan_scatter(const Scatter<float>&);
template PoolPlan plan_scatter(const Scatter<double>&);
template bool run_scatter(const Scatter<float>&, ScatterKind, const RunContext&);
template bool run_scatter(const Scatter<double>&, ScatterKind, const RunContext&);

}  // namespace windrow
