// Pooling: maxima and sums over windows, with the backward passes.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/parallel.hpp"
#include "base/types.hpp"
#include "pack/panels.hpp"

namespace windrow {

// target[n, c, p] = the maximum, or the sum divided by `divisor`, of source[n, c, position(p, tap)] over the
// taps whose position lies inside the source, or where its border is pixels. Positions are those of
// PixelAxis, ascending with the tap along each axis. A sum of means' gradients is such a sum too, one for
// each phase of the stride.
template <class T>
struct Pooling {
  std::vector<PixelAxis> axes;
  Border border = Border::kConstant;  // of the source
  std::optional<T> fill;              // what a constant one holds; none: it is no pixel, and no tap sees it
  Extents beyond;                     // along each axis, as far as a border reaches after the source
  Index images = 0, channels = 0;
  const T* source = nullptr;
  Index source_image = 0, source_channel = 0;
  T* target = nullptr;
  Index target_image = 0, target_channel = 0;
  T divisor = 1;         // of sums
  bool twice = false;    // every sum along the last axis is written twice: there, and at the next place
  Extents copies = {0};  // of sums: how far from the target each is written
  T norm = 0;  // 1 or more: sums are (sum |source|^norm)^(1/norm), maxima those of |source|; 0: plain
  // Of maxima: where each one came from, as the row-major number of the source position; -1 for a window that
  // sees none. Null: not wanted.
  std::int64_t* indices = nullptr;
  Index index_image = 0, index_channel = 0;
  Extents index_stride;  // along each axis
};

// What a pooling does, for `explain`.
struct PoolPlan {
  const char* kernel = "";  // of the target, or "lines" and "scatter", which the driver has for the others
  Index lanes = 0;          // of a vector; 0 where there is none
  std::size_t along = 0;    // what lanes lie along: 0 images, 1 channels, then the axes
  double share = 0;         // of the windows: those that see the same taps inside the image, the most of them
  Index pieces = 0;
};

// Of the maxima or the sums, the former with indices or without; strides must be those of the call.
template <class T>
PoolPlan plan_max_pool(const Pooling<T>& p, bool with_indices);
template <class T>
PoolPlan plan_sum_pool(const Pooling<T>& p);

template <class T>
void run_max_pool(const Pooling<T>& p, const RunContext& context);
template <class T>
void run_sum_pool(const Pooling<T>& p, const RunContext& context);

// Values at places of an image that indices name: the way back of a maximum.
template <class T>
struct Scatter {
  Index images = 0, channels = 0;
  Index positions = 0;  // of the values
  Index size = 0;       // places of a channel of the image
  T* values = nullptr;
  Index value_image = 0, value_channel = 0, value_step = 0;
  const std::int64_t* indices = nullptr;
  Index index_image = 0, index_channel = 0, index_step = 0;
  T* image = nullptr;
  Index image_image = 0, image_channel = 0, image_step = 0;
  // Where the values are those of rows of windows, as many as `width`, side by side and of 2 x 2 pixels,
  // which the indices most likely lie in; else 0.
  Index width = 0;
};
enum class ScatterKind { kAdd, kPut, kTake };

// kAdd: image = 0, then image[index] += value, in the order of the positions. kPut: the last value stays.
// kTake: value = image[index], and 0 for an index of -1. Indices from -1 to size - 1 are right; the others
// are passed over. Returns whether there were none.
template <class T>
PoolPlan plan_scatter(const Scatter<T>& p);
template <class T>
bool run_scatter(const Scatter<T>& p, ScatterKind kind, const RunContext& context);

}  // namespace windrow
