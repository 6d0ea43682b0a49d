// Runs of numbers added to sums, window by window: the arithmetic of fold where columns lie window by window.
#pragma once

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
void add_windows(const windrow::AddRuns& a) {
  using Bits = typename Sums<T, kBytes>::Bits;
  constexpr auto kSize = static_cast<std::ptrdiff_t>(sizeof(T));
  Bits lanes{};
  __builtin_memset(&lanes, 0xff, static_cast<std::size_t>(a.length * kSize % kBytes));
  std::ptrdiff_t furthest = 0;
  for (std::ptrdiff_t j = 0; j < a.count; ++j)
    furthest = a.runs[j].source > furthest ? a.runs[j].source : furthest;
  furthest += a.length * kSize + kBytes;
  for (std::ptrdiff_t r = 0; r < a.repeats; ++r) {
    char* const total = a.total + a.steps[r];
    const char* const source = a.source + r * a.source_step;
    if (a.source_end - source >= furthest) {
      add_vectors<T, kBytes, kWhole>(a, total, source, lanes);
    } else {
      add_singly<T>(a, total, source);
    }
  }
}

template <class T>
void add_runs(const windrow::AddRuns& a) {
  const std::ptrdiff_t bytes = a.length * static_cast<std::ptrdiff_t>(sizeof(T));
  if (bytes < 16) return add_windows<T, 16, 0>(a);
  if (bytes < 32) return add_windows<T, 32, 0>(a);
  add_windows<T, 32, -1>(a);
}

#else

template <class T>
void add_runs(const windrow::AddRuns& a) {
  for (std::ptrdiff_t r = 0; r < a.repeats; ++r)
    add_singly<T>(a, a.total + a.steps[r], a.source + r * a.source_step);
}

#endif

}  // namespace
