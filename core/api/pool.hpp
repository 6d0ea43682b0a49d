// Pooling and its backward passes. The caller has checked every shape.
#pragma once

#include "api/conv.hpp"
#include "drivers/pool.hpp"

namespace windrow {

// Axes have one border, which is pixels like all others unless it is a constant without a `fill`: it reaches
// `beyond` the end of each axis, where a last window may reach farther.
struct PoolShape {
  Index n = 0, c = 0;
  std::vector<WindowAxis> axes;
  Extents beyond = {};
  std::optional<double> fill = {};
};

struct IndexView {
  std::int64_t* data = nullptr;  // null: not wanted
  const Index* strides = nullptr;
};

// y = the greatest value, or the greatest magnitude, of each window, and which it was.
template <class T>
void max_pool(const PoolShape& shape, ArrayView<const T> x, ArrayView<T> y, IndexView indices, bool magnitude,
              const RunContext& context);

// y = the sum of each window, divided by `divisor`.
template <class T>
void sum_pool(const PoolShape& shape, ArrayView<const T> x, ArrayView<T> y, T divisor,
              const RunContext& context);

// y = (sum of |x|^norm)^(1/norm) of each window, for a finite norm of 1 or more.
template <class T>
void norm_pool(const PoolShape& shape, ArrayView<const T> x, ArrayView<T> y, T norm,
               const RunContext& context);

// dx = the sum over the windows that see a pixel of dy there, divided by `divisor`: the adjoint of sum_pool.
template <class T>
void sum_pool_backward(const PoolShape& shape, ArrayView<const T> dy, ArrayView<T> dx, T divisor,
                       const RunContext& context);

enum class PoolPass { kMax, kMaxWithIndices, kMaxBackward, kSum, kSumBackward, kNorm };

// What a call would do on arrays without gaps, for `explain`. Of a sum's gradient: what each stride phase
// does, and the pieces of all.
template <class T>
PoolPlan plan_pool(const PoolShape& shape, PoolPass pass, bool channels_last);

}  // namespace windrow
