// Runs of numbers added to sums, window by window: the arithmetic of fold where columns lie window by window.
#pragma once

#include "kernels/add_turned.hpp"
#include "kernels/patch_contract.hpp"

namespace {

// One window, number by number.
template <class T>
void add_singly(const windrow::AddRuns& a, char* totals, const char* source) {
  for (std::ptrdiff_t j = 0; j < a.count; ++j) {
    char* total = totals + a.runs[j].total;
    const char* run = source + a.runs[j].source;
    for (std::ptrdiff_t x = 0; x < a.length * static_cast<std::ptrdiff_t>(sizeof(T)); x += sizeof(T)) {
      T sum, value;
      __builtin_memcpy(&sum, total + x, sizeof sum);
      __builtin_memcpy(&value, run + x, sizeof value);
      sum = sum + value;
      __builtin_memcpy(total + x, &sum, sizeof sum);
    }
  }
}

#if defined(__AVX2__) && !defined(WINDROW_GENERIC)

// 32 bytes, or 16 of short runs, which cross fewer cache lines.
template <class T, int kBytes>
struct Sums {
  using V __attribute__((vector_size(kBytes))) = T;
  using Bits __attribute__((vector_size(kBytes))) = std::int32_t;

  // The lanes outside the mask add +0, which changes no sum, since no sum is -0.
  static void add(char* total, const char* source, Bits lanes) {
    V sum, value;
    __builtin_memcpy(&sum, total, kBytes);
    __builtin_memcpy(&value, source, kBytes);
    sum = sum + reinterpret_cast<V>(reinterpret_cast<Bits>(value) & lanes);
    __builtin_memcpy(total, &sum, kBytes);
  }
};

// A run of kWhole vectors, or of any number (-1), and one of which the lanes of the mask are meant.
template <class T, int kBytes, int kWhole>
inline void add_vectors(const windrow::AddRuns& a, char* total, const char* source,
                        typename Sums<T, kBytes>::Bits lanes) {
  using S = Sums<T, kBytes>;
  const std::ptrdiff_t bytes = a.length * static_cast<std::ptrdiff_t>(sizeof(T));
  const std::ptrdiff_t whole = (kWhole >= 0 ? kWhole : bytes / kBytes) * kBytes;
  const typename S::Bits all = typename S::Bits{} - 1;
  const windrow::AddRun* const last = a.runs + a.count;  // the stores below may reach `a`, for all GCC knows
  for (const windrow::AddRun* run = a.runs; run < last; ++run) {
    char* to = total + run->total;
    const char* from = source + run->source;
    for (std::ptrdiff_t i = 0; i < whole; i += kBytes) S::add(to + i, from + i, all);
    if (kWhole >= 0 || whole < bytes) S::add(to + whole, from + whole, lanes);
  }
}

template <class T, int kBytes, int kWhole>
void add_windows(const windrow::AddRuns& a, std::ptrdiff_t furthest) {
  using Bits = typename Sums<T, kBytes>::Bits;
  constexpr auto kSize = static_cast<std::ptrdiff_t>(sizeof(T));
  Bits lanes{};
  __builtin_memset(&lanes, 0xff, static_cast<std::size_t>(a.length * kSize % kBytes));
  for (std::ptrdiff_t r = 0; r < a.repeats; ++r) {
    char* const total = a.total + r * a.total_step;
    const char* const source = a.source + r * a.source_step;
    if (a.source_end - source >= furthest + kBytes) {
      add_vectors<T, kBytes, kWhole>(a, total, source, lanes);
    } else {
      add_singly<T>(a, total, source);
    }
  }
}

// Adds the first windows, as long as a vector of them can be read and most of its lanes are wanted, where
// they lie one after another: how many that are.
template <class T>
std::ptrdiff_t add_first(windrow::AddRuns a, std::ptrdiff_t furthest) {
  constexpr std::ptrdiff_t kLanes = Simd<T>::kLanes, kSize = sizeof(T);
  if (a.total_step != kSize || a.length > kLanes || a.source_step < furthest || a.count == 0) return 0;
  const std::ptrdiff_t repeats = a.repeats, reach = (kLanes - 1) * a.source_step + furthest + 16;
  NextWindows next(a, kLanes, furthest);
  std::ptrdiff_t r = 0;
  while (repeats - r > kLanes / 2 && a.source_end - a.source >= reach) {
    const std::ptrdiff_t windows = repeats - r < kLanes ? repeats - r : kLanes;
    add_turned<T>(a, static_cast<int>(windows), next);
    r += windows;
    a.total += windows * kSize;
    a.source += windows * a.source_step;
  }
  return r;
}

template <class T>
void add_runs(const windrow::AddRuns& all) {
  windrow::AddRuns a = all;
  const std::ptrdiff_t bytes = a.length * static_cast<std::ptrdiff_t>(sizeof(T));
  std::ptrdiff_t furthest = bytes;
  for (std::ptrdiff_t j = 0; j < a.count; ++j)
    furthest = a.runs[j].source + bytes > furthest ? a.runs[j].source + bytes : furthest;
  const std::ptrdiff_t done = add_first<T>(a, furthest);
  a.total += done * a.total_step;
  a.source += done * a.source_step;
  a.repeats -= done;
  if (bytes < 16) return add_windows<T, 16, 0>(a, furthest);
  if (bytes < 32) return add_windows<T, 32, 0>(a, furthest);
  add_windows<T, 32, -1>(a, furthest);
}

template <class T>
constexpr std::ptrdiff_t turned_windows = Simd<T>::kLanes;

#else

template <class T>
constexpr std::ptrdiff_t turned_windows = 0;

template <class T>
void add_runs(const windrow::AddRuns& a) {
  for (std::ptrdiff_t r = 0; r < a.repeats; ++r)
    add_singly<T>(a, a.total + r * a.total_step, a.source + r * a.source_step);
}

#endif

}  // namespace
