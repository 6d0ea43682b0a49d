// A weight gradient that is over in microseconds: the counterpart of small_product.hpp, all of it kept.
//
//   x --table--> strip (with borders, channels last, all images) --product--> sums --table--> dw
//
// All pixels are one unit and one slot of the numerics plan (docs/numerics.md), so it gives the bits of
// drivers/weight_gradient.
#pragma once

#include <optional>
#include <vector>

#include "dispatch/targets.hpp"
#include "drivers/weight_gradient.hpp"

namespace windrow {

// How it is laid out, in elements; a function of shapes alone.
struct SmallGradientLayout {
  Extents strip;        // of the padded image along each axis
  Index image = 0;      // of a padded image, channels included
  Index run_taps = 0;   // taps of the last axis whose channels lie side by side
  Index runs = 0;       // of lanes
  Index run_lanes = 0;  // of a run, in whole vectors
  Index scratch = 0;    // bytes
};

// Nothing where the problem is not small, or has a plan of its own (depthwise).
template <class T>
std::optional<SmallGradientLayout> small_gradient_layout(const WeightGradient<T>& problem, const Tile& tile);

template <class T>
class SmallGradient {
 public:
  SmallGradient(const WeightGradient<T>& problem, const SmallGradientLayout& layout, const Target& target);

  // The operands of a problem that differs from the constructor's in its addresses only.
  void run(const T* x, const T* dy, T* dw) const;

 private:
  struct Move {
    Index from, to;
  };

  const KernelTable<T>& kernels_;
  const SmallGradientLayout layout_;
  const Index groups_, rows_, channels_, nr_;
  const Index strip_, x_group_, dy_channel_, dw_row_;
  const T fill_;
  std::vector<Move> pixels_;  // of x to the strip, for one group
  std::vector<Step> steps_;   // the pixels of dy, and their places in the strip
  Extents run_offset_;        // of each run in the strip, from a pixel's place
  std::vector<Move> taps_;    // of a row's sums to dw
};

}  // namespace windrow
