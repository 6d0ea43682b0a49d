// A product over windows that is over in microseconds: all that shapes and strides decide is worked out once
// and kept, so that a call only moves and sums.
//
//   source --gather--> strip (with borders, all images) --product--> sums --spread--> target
//
// It follows the numerics plan of the other product drivers (docs/numerics.md), so it gives their bits.
#pragma once

#include <optional>
#include <vector>

#include "dispatch/targets.hpp"
#include "drivers/window_product.hpp"

namespace windrow {

// How a small product is laid out, in elements; a function of shapes alone.
struct SmallLayout {
  Index image = 0;    // from image to image of a plane
  Index plane = 0;    // all images of one channel and one phase
  Index strip = 0;    // all planes of a group's channels, in whole vectors
  Index lanes = 0;    // from the first pixel to the last, with the padding between them, in whole vectors
  Index scratch = 0;  // bytes
};

// Nothing where the problem is not small.
std::optional<SmallLayout> small_layout(const PixelGrid& grid, Index rows, Index channels, Index groups,
                                        const Tile& tile);

template <class T>
class SmallProduct {
 public:
  SmallProduct(const WindowProduct<T>& problem, const SmallLayout& layout, const Target& target);

  // The operands of a problem that differs from the constructor's in its addresses only.
  void run(const T* source, const T* factor, const T* bias, Index bias_stride, T* target,
           const Limits& limits) const;

 private:
  struct Result {  // pixels that lie side by side in the sums
    Index lane, target;
  };

  const KernelTable<T>& kernels_;
  const SmallLayout layout_;
  const Index groups_, rows_, nr_;
  const Index factor_row_, factor_group_, source_group_, target_row_, target_group_;
  const T fill_;
  Index gather_step_ = 1;            // from lane to lane in the source
  Index run_ = 0, target_step_ = 1;  // pixels of a Result, and from one to the next in the target
  std::vector<Segment> segments_, more_;
  std::vector<Step> steps_;
  std::vector<Result> results_;
};

}  // namespace windrow
