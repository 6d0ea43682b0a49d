#include <algorithm>
#include <atomic>

#include "drivers/pool.hpp"

namespace windrow {
namespace {

constexpr Index kPieceValues = Index{1} << 15;

// One value; false where the index is none.
template <ScatterKind kKind, class T>
bool move_one(T* value, std::int64_t index, T* image, Index step, Index size) {
  if (static_cast<std::uint64_t>(index) >= static_cast<std::uint64_t>(size)) {
    if constexpr (kKind == ScatterKind::kTake) *value = 0;
    return index == -1;
  }
  T& place = image[index * step];
  if constexpr (kKind == ScatterKind::kAdd) {
    place += *value;
  } else if constexpr (kKind == ScatterKind::kPut) {
    place = *value;
  } else {
    *value = place;
  }
  return true;
}

template <ScatterKind kKind, class T>
bool scatter_part(const Scatter<T>& p, Index image, Index first, Index end) {
  T* to = p.image + image * p.image_image;
  T* values = p.values + image * p.value_image;
  const std::int64_t* indices = p.indices + image * p.index_image;
  const bool channels_inside = p.image_channel == 1;
  bool good = true;
  if (channels_inside) {
    if constexpr (kKind != ScatterKind::kTake)
      for (Index i = 0; i < p.size; ++i) std::fill_n(to + i * p.image_step + first, end - first, T{0});
    for (Index l = 0; l < p.positions; ++l)
      for (Index c = first; c < end; ++c)
        good &=
            move_one<kKind>(values + l * p.value_step + c * p.value_channel,
                            indices[l * p.index_step + c * p.index_channel], to + c, p.image_step, p.size);
    return good;
  }
  for (Index c = first; c < end; ++c) {
    T* plane = to + c * p.image_channel;
    if constexpr (kKind != ScatterKind::kTake) {
      if (p.image_step == 1) {
        std::fill_n(plane, p.size, T{0});
      } else {
        for (Index i = 0; i < p.size; ++i) plane[i * p.image_step] = 0;
      }
    }
    for (Index l = 0; l < p.positions; ++l)
      good &= move_one<kKind>(values + l * p.value_step + c * p.value_channel,
                              indices[l * p.index_step + c * p.index_channel], plane, p.image_step, p.size);
  }
  return good;
}

template <ScatterKind kKind, class T>
bool run(const Scatter<T>& p, const RunContext& context) {
  const Index work = std::max<Index>(1, p.positions + p.size / 4);
  // Where channels lie side by side, a cache line of them or more together.
  const Index least = p.image_channel == 1 ? 64 : 1;
  const Index channels = std::clamp<Index>(
      kPieceValues / work, std::min(least, std::max<Index>(1, p.channels)), std::max<Index>(1, p.channels));
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

template bool run_scatter(const Scatter<float>&, ScatterKind, const RunContext&);
template bool run_scatter(const Scatter<double>&, ScatterKind, const RunContext&);

}  // namespace windrow
