// Vectors put together from runs of memory: how windows of an image become rows of a packed panel.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/masked.hpp"
#include "kernels/simd.hpp"

namespace {

template <class T>
void gather_lanes(const windrow::Gather<T>& g, const windrow::Segment& segment, T* vector) {
  const T* source = g.source + segment.offset;
  for (std::uint32_t rest = segment.mask; rest; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    vector[lane] = source[lane * g.step];
  }
}

template <class T>
void gather_generic(const windrow::Gather<T>& g) {
  constexpr int kLanes = Simd<T>::kLanes;
  for (std::ptrdiff_t i = 0; i < g.count; ++i) {
    T* vector = g.target + i * kLanes;
    for (int lane = 0; lane < kLanes; ++lane) vector[lane] = g.fill;
    gather_lanes(g, g.segments[i], vector);
  }
  for (std::ptrdiff_t i = 0; i < g.more_count; ++i)
    gather_lanes(g, g.more[i], g.target + (g.more[i].vector - g.more_vector) * kLanes);
}

#if defined(WINDROW_MASKED)

// By value: stores of vectors may change any memory, as far as the compiler knows, and the fields would be
// read again after each of them.
// Of a fill of zeros the lanes that are not read are those of the load.
template <class T, bool kEven, bool kZeros>
void gather_masked(const windrow::Gather<T> g) {
  using S = Simd<T>;
  const auto fill = S::all(g.fill);
  for (std::ptrdiff_t i = 0; i < g.count; ++i) {
    const auto mask = static_cast<typename Masked::Of<T>>(g.segments[i].mask);
    const T* source = g.source + g.segments[i].offset;
    typename S::V v;
    if constexpr (kZeros) {
      v = kEven ? Masked::load_even(mask, source) : Masked::load(mask, source);
    } else {
      v = kEven ? Masked::load_even(fill, mask, source) : Masked::load(fill, mask, source);
    }
    S::store(g.target + i * S::kLanes, v);
    // A hint that may point anywhere: image planes are too far apart for the hardware to guess the next one.
    __builtin_prefetch(source + g.ahead, 0, 2);
  }
  for (std::ptrdiff_t i = 0; i < g.more_count; ++i) {
    const auto mask = static_cast<typename Masked::Of<T>>(g.more[i].mask);
    const T* source = g.source + g.more[i].offset;
    T* vector = g.target + (g.more[i].vector - g.more_vector) * S::kLanes;
    const auto v = S::load(vector);
    S::store(vector, kEven ? Masked::load_even(v, mask, source) : Masked::load(v, mask, source));
  }
}

template <class T>
void gather(const windrow::Gather<T>& g) {
  if (g.step == 1) {
    g.fill == 0 ? gather_masked<T, false, true>(g) : gather_masked<T, false, false>(g);
  } else if (g.step == 2) {
    g.fill == 0 ? gather_masked<T, true, true>(g) : gather_masked<T, true, false>(g);
  } else {
    gather_generic(g);
  }
}

#else

template <class T>
void gather(const windrow::Gather<T>& g) {
  gather_generic(g);
}

#endif

}  // namespace
