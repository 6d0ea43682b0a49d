// Rows copied between zeros, and taken from a stride: how a strip of an image gets its padding.
#pragma once

#include "kernels/contract.hpp"
#include "kernels/masked.hpp"
#include "kernels/simd.hpp"

namespace {

template <class T>
void pad_generic(const windrow::Pad<T>& p) {
  for (std::ptrdiff_t r = 0; r < p.rows; ++r) {
    T* target = p.target + r * p.target_row;
    const T* source = p.source + r * p.source_row;
    for (std::ptrdiff_t j = 0; j < p.low; ++j) target[j] = 0;
    for (std::ptrdiff_t j = p.low; j < p.high; ++j) target[j] = source[j * p.step];
    for (std::ptrdiff_t j = p.high; j < p.width; ++j) target[j] = 0;
  }
}

#ifdef WINDROW_MASKED

// By value, as gather_masked takes its fields.
template <class T, bool kEven>
void pad_masked(const windrow::Pad<T> p) {
  using S = Simd<T>;
  using Mask = typename Masked::Of<T>;
  constexpr std::ptrdiff_t kLanes = S::kLanes, kStep = kEven ? 2 : 1;
  const auto inside = [&](std::ptrdiff_t j) { return lanes_between<T>(p.low - j, p.high - j); };
  const auto load = [](Mask mask, const T* source) {
    return kEven ? Masked::load_even(mask, source) : Masked::load(mask, source);
  };
  const auto fetch = [&](const T* source) {
    __builtin_prefetch(source + p.ahead, 0, 2);
    if (kEven) __builtin_prefetch(source + kLanes + p.ahead, 0, 2);
  };
  // All rows are alike, and mostly but for their ends without gaps.
  const Mask first = inside(0);
  if (p.width <= kLanes) {
    for (std::ptrdiff_t r = 0; r < p.rows; ++r) {
      const T* source = p.source + r * p.source_row;
      S::store(p.target + r * p.target_row, load(first, source));
      __builtin_prefetch(source + p.ahead, 0, 2);
    }
    return;
  }
  const std::ptrdiff_t end = (p.width - 1) / kLanes * kLanes;  // where the last vector begins
  if (p.low <= kLanes && end <= p.high) {
    const Mask last = inside(end), all = static_cast<Mask>(-1);
    for (std::ptrdiff_t r = 0; r < p.rows; ++r) {
      T* target = p.target + r * p.target_row;
      const T* source = p.source + r * p.source_row;
      S::store(target, load(first, source));
      fetch(source);
      for (std::ptrdiff_t j = kLanes; j < end; j += kLanes) {
        S::store(target + j, kEven ? load(all, source + kStep * j) : S::load(source + j));
        fetch(source + kStep * j);
      }
      S::store(target + end, load(last, source + kStep * end));
      fetch(source + kStep * end);
    }
    return;
  }
  for (std::ptrdiff_t r = 0; r < p.rows; ++r) {
    T* target = p.target + r * p.target_row;
    const T* source = p.source + r * p.source_row;
    for (std::ptrdiff_t j = 0; j < p.width; j += kLanes) {
      S::store(target + j, load(inside(j), source + kStep * j));
      fetch(source + kStep * j);
    }
  }
}

#if defined(__AVX512F__)
// Short rows under a longer step: a look-up of all their elements at once takes less than three loops of a
// few turns each, whose ends the processor cannot guess.
template <class T>
bool pad_short(const windrow::Pad<T> p) {
  using S = Simd<T>;
  constexpr std::ptrdiff_t kFarthest = 1 << 24;  // elements: places within a row have 32 bits
  if (p.width > 2 * S::kLanes || p.step <= 0 || p.step > kFarthest) return false;
  const int step = static_cast<int>(p.step);
  const auto inside = [&](std::ptrdiff_t j) { return lanes_between<T>(p.low - j, p.high - j); };
  const auto first = inside(0), second = inside(S::kLanes);
  for (std::ptrdiff_t r = 0; r < p.rows; ++r) {
    T* target = p.target + r * p.target_row;
    const T* source = p.source + r * p.source_row;
    S::store(target, Masked::load_step(first, source, step));
    if (p.width > S::kLanes)
      S::store(target + S::kLanes,
               second ? Masked::load_step(second, source + S::kLanes * p.step, step) : S::zero());
    __builtin_prefetch(source + p.ahead, 0, 2);
  }
  return true;
}
#else
template <class T>
bool pad_short(const windrow::Pad<T>&) {
  return false;
}
#endif

template <class T>
void pad(const windrow::Pad<T>& p) {
  if (p.step == 1) {
    pad_masked<T, false>(p);
  } else if (p.step == 2) {
    pad_masked<T, true>(p);
  } else if (!pad_short(p)) {
    pad_generic(p);
  }
}

#else

template <class T>
void pad(const windrow::Pad<T>& p) {
  pad_generic(p);
}

#endif

}  // namespace
