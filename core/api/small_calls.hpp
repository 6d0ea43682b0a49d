// Calls of one problem that are over in microseconds: what shapes and strides decide is kept from the first
// call on.
#pragma once

#include <atomic>

#include "api/conv.hpp"

namespace windrow {

class SmallCalls {
 public:
  explicit SmallCalls(const ConvShape& shape);
  ~SmallCalls();
  SmallCalls(const SmallCalls&) = delete;
  SmallCalls& operator=(const SmallCalls&) = delete;

  // The bits of the functions of these names in api/conv.hpp, on the calling thread. False, and nothing done,
  // where the problem is not small. Safe from any thread.
  template <class T>
  bool conv(ArrayView<const T> x, ArrayView<const T> w, BiasView<const T> b, ArrayView<T> y,
            const Limits& limits, const Target& target);
  template <class T>
  bool conv_grad_input(ArrayView<const T> dy, ArrayView<const T> w, ArrayView<T> dx, const Target& target);
  template <class T>
  bool conv_grad_weight(ArrayView<const T> dy, ArrayView<const T> x, ArrayView<T> dw, const Target& target);

 private:
  template <class T>
  struct Kept;
  // Plans for the strides that came first; others go the general way.
  static constexpr int kLayouts = 3;
  template <class T>
  struct Slots {
    std::atomic<Kept<T>*> kept[kLayouts] = {};
  };

  template <class T>
  Slots<T>& slots(Pass pass);
  // `first` and `second` as the pass names its operands.
  template <class T>
  bool run(Pass pass, ArrayView<const T> first, ArrayView<const T> second, BiasView<const T> b,
           ArrayView<T> out, const Limits& limits, const Target& target);

  static constexpr int kPasses = 3;
  const ConvShape& shape_;
  const bool perhaps_[kPasses];  // whether a pass may be small
  Slots<float> floats_[kPasses];
  Slots<double> doubles_[kPasses];
};

// Whether all that a pass consists of is small: a pure function of shapes, as `explain` asks it.
template <class T>
bool is_small(const ConvShape& shape, Pass pass, const Target& target);

}  // namespace windrow
