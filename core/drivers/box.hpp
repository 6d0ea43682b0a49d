// Boxes of elements between two arrays of any strides: the copying that unfold and fold are made of.
// Strides are in bytes throughout (arrays of any dtype and alignment come as they are).
#pragma once

#include <algorithm>
#include <array>

#include "base/types.hpp"
#include "kernels/patch_contract.hpp"

namespace windrow {

inline constexpr int kMaxSpatial = 62;                // NumPy has at most 64 axes
inline constexpr int kMaxAxes = 2 + 2 * kMaxSpatial;  // of patches: n, c, taps, positions

// An axis that is walked in two arrays at once.
struct BoxAxis {
  Index count, target, source;
};

class Box {
 public:
  Box() = default;
  Box(const Box& other) { *this = other; }
  Box& operator=(const Box& other) {
    size_ = other.size_;
    std::copy_n(other.axes_.begin(), size_, axes_.begin());  // not all the room of 126 axes
    return *this;
  }

  void add(Index count, Index target, Index source) {
    if (count != 1) axes_[static_cast<std::size_t>(size_++)] = {count, target, source};
  }
  int size() const { return size_; }
  bool empty() const;
  BoxAxis& operator[](int i) { return axes_[static_cast<std::size_t>(i)]; }
  const BoxAxis& operator[](int i) const { return axes_[static_cast<std::size_t>(i)]; }
  BoxAxis take(int i);    // removes an axis
  void sort_by_target();  // largest stride first
  // Merges neighbours, outer first, that are one axis on both sides. Sorted boxes only.
  void merge();

 private:
  std::array<BoxAxis, kMaxAxes> axes_;
  int size_ = 0;
};

// Calls body(target offset, source offset) for every point of the first `axes` axes of a box, in order.
template <class Body>
void for_each_point(const Box& box, int axes, Body&& body) {
  std::array<Index, kMaxAxes> at;
  for (int i = 0; i < axes; ++i) at[static_cast<std::size_t>(i)] = 0;
  Index target = 0, source = 0;
  for (;;) {
    body(target, source);
    int i = axes - 1;
    for (; i >= 0; --i) {
      const BoxAxis& axis = box[i];
      Index& place = at[static_cast<std::size_t>(i)];
      target += axis.target;
      source += axis.source;
      if (++place < axis.count) break;
      target -= axis.count * axis.target;
      source -= axis.count * axis.source;
      place = 0;
    }
    if (i < 0) return;
  }
}

// Whose order of memory a copy follows: that of the side that is not in the caches. From a far source, and to
// a far target, the copy also fetches what comes next.
enum class WalkBy { kTarget, kFarTarget, kSource, kFarSource };

// target[...] = source[...] over the box.
void copy_box(const PatchKernels& kernels, Index item, char* target, const char* source, Box box,
              WalkBy walk = WalkBy::kTarget);

// target[...] = one value over the box (source strides are not used).
void fill_box(const PatchKernels& kernels, Index item, char* target, const char* value, Box box);

// bytes / item copies of one value, one after another.
void fill_run(char* target, const char* value, Index item, Index bytes);

}  // namespace windrow
