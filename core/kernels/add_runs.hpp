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

// Adds the first windows of each row, as long as a vector of them can be read and most of its units are
// wanted, and the others one by one.
template <class T, int kUnit, class Rest>
void add_turned_rows(const windrow::AddRuns& all, std::ptrdiff_t furthest, Rest&& add_rest) {
  constexpr std::ptrdiff_t kUnits = kWidest / kUnit;
  const auto length =
      static_cast<int>((all.length * static_cast<std::ptrdiff_t>(sizeof(T)) + kUnit - 1) / kUnit);
  const std::ptrdiff_t reach = (kUnits - 1) * all.source_step + furthest + 16;
  NextWindows next(all, kUnits, furthest);
  for (std::ptrdiff_t i = 0; i < all.rows; ++i) {
    windrow::AddRuns a = all;
    a.total += i * all.total_row;
    a.source += i * all.source_row;
    next.start(a.source);
    while (a.repeats > kUnits / 2 && a.source_end - a.source >= reach) {
      const bool two = length * kUnit <= longest_run<2, kUnit> && a.repeats > kUnits + kUnits / 2 &&
                       a.source_end - a.source >= reach + kUnits * a.source_step;
      const std::ptrdiff_t most = two ? 2 * kUnits : kUnits, windows = a.repeats < most ? a.repeats : most;
      if (two) {
        add_turned<T, kUnit, 2>(a, length, static_cast<int>(windows), next);
      } else {
        add_turned<T, kUnit, 1>(a, length, static_cast<int>(windows), next);
      }
      a.total += windows * kUnit;
      a.source += windows * a.source_step;
      a.repeats -= windows;
    }
    if (a.repeats > 0) add_rest(a);
  }
}

template <class T>
void add_runs(const windrow::AddRuns& all) {
  const std::ptrdiff_t bytes = all.length * static_cast<std::ptrdiff_t>(sizeof(T));
  std::ptrdiff_t furthest = bytes;
  for (std::ptrdiff_t j = 0; j < all.count; ++j)
    furthest = all.runs[j].source + bytes > furthest ? all.runs[j].source + bytes : furthest;
  const auto add = [&](const windrow::AddRuns& row) {
    if (bytes < 16) return add_windows<T, 16, 0>(row, furthest);
    if (bytes < 32) return add_windows<T, 32, 0>(row, furthest);
    add_windows<T, 32, -1>(row, furthest);
  };
  if (bytes <= kWidest && all.source_step >= furthest && all.count > 0) {
    if constexpr (sizeof(T) == 4)
      if (all.total_step == 4) return add_turned_rows<T, 4>(all, furthest, add);
    if (all.total_step == 8) return add_turned_rows<T, 8>(all, furthest, add);
    if constexpr (kWidest >= 64)  // two windows to a vector are not worth it
      if (all.total_step == 16) return add_turned_rows<T, 16>(all, furthest, add);
  }
  for (std::ptrdiff_t i = 0; i < all.rows; ++i) {
    windrow::AddRuns a = all;
    a.total += i * all.total_row;
    a.source += i * all.source_row;
    add(a);
  }
}

constexpr std::ptrdiff_t turned_bytes = kWidest;

#else

constexpr std::ptrdiff_t turned_bytes = 0;

template <class T>
void add_runs(const windrow::AddRuns& a) {
  for (std::ptrdiff_t i = 0; i < a.rows; ++i)
    for (std::ptrdiff_t r = 0; r < a.repeats; ++r)
      add_singly<T>(a, a.total + i * a.total_row + r * a.total_step,
                    a.source + i * a.source_row + r * a.source_step);
}

#endif

}  // namespace
