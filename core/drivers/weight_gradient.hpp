// The weight gradient: a product whose reduction runs over pixels.
//
//   dw[o, c, t] = sum over image, pixel of dy[image, o, pixel] * x[image, c, window(pixel, t)]
//
// Rows of the tile are output channels, with dy read in place. Lanes are (tap along the last axis, channel):
// a strip of x is copied once, with its border, into channels-last form, where those lie side by side for
// every pixel and tap, so that the micro-kernel reads it in place for all taps and all rows.
#pragma once

#include <vector>

#include "base/parallel.hpp"
#include "dispatch/targets.hpp"

namespace windrow {

// Pixels of a unit of the numerics plan, at most: reduction terms of one kernel call, 128 KiB of float64.
inline constexpr Index kStripPixels = 2 * kChunk;

// What lies in the lanes, and where x is read: chosen by an estimate of cycles, or one of these for
// measurements and tests; where a problem has none such, it is chosen. The sums are the same.
enum class WeightWay {
  kChosen,
  kRuns,        // taps and channels, run by run of neighbouring taps
  kSideBySide,  // those of a pixel copied side by side
  kFilters,
  kCopied,   // as chosen, x copied into strips
  kInPlace,  // as chosen, x read where it is
};

template <class T>
struct WeightGradient {
  std::vector<WindowAxis> axes;
  T fill = 0;                                            // what a constant border of x holds
  Index images = 1, groups = 1, rows = 0, channels = 0;  // rows (of dw) and channels of one group

  const T* x = nullptr;
  Index x_image = 0, x_channel = 0;
  Extents x_stride;
  const T* dy = nullptr;
  Index dy_image = 0, dy_channel = 0;
  Extents dy_stride;

  T* dw = nullptr;
  Index dw_row = 0, dw_channel = 0;
  Extents dw_stride;
  bool accumulate = false;
  Index most_scratch = 0;              // bytes for each thread, all sums included; 0: no limit
  int threads = 1;                     // that there should be pieces of work for
  WeightWay way = WeightWay::kChosen;  // with no limit of scratch
};

template <class T>
void run_weight_gradient(const WeightGradient<T>& problem, const Target& target, const RunContext& context);

struct WeightGradientCost {
  Index scratch_bytes;  // of one thread
  Index partial_bytes;  // of partial sums, for the whole call
  Index pieces, slots;
  Index roundings;       // that a term of an entry goes through at most: docs/numerics.md
  const char* in_lanes;  // what lies there, and whether x is read in place
};
template <class T>
WeightGradientCost weight_gradient_cost(const WeightGradient<T>& problem, const Target& target);

}  // namespace windrow
