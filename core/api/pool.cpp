#include "api/pool.hpp"

#include <algorithm>
#include <utility>

#include "api/products.hpp"
#include "drivers/pool.hpp"

namespace windrow {
namespace {

constexpr Index kMostCopies = 64;  // places that a sum is written to, listed

template <class T>
Pooling<T> pooling(const PoolShape& s, ArrayView<const T> source, ArrayView<T> target, T divisor) {
  Pooling<T> p;
  p.images = s.n;
  p.channels = s.c;
  p.source = source.data;
  p.source_image = source.strides[0];
  p.source_channel = source.strides[1];
  p.target = target.data;
  p.target_image = target.strides[0];
  p.target_channel = target.strides[1];
  p.divisor = divisor;
  return p;
}

template <class T>
Pooling<T> forward(const PoolShape& s, ArrayView<const T> x, ArrayView<T> y, T divisor) {
  Pooling<T> p = pooling(s, x, y, divisor);
  for (std::size_t i = 0; i < s.axes.size(); ++i) {
    const WindowAxis& a = s.axes[i];
    PixelAxis axis{.count = a.out,
                   .step = a.stride,
                   .size = a.size,
                   .source_stride = x.strides[2 + i],
                   .target_stride = y.strides[2 + i],
                   .tap = {}};
    for (Index t = 0; t < a.kernel; ++t) axis.tap.push_back(t * a.dilation - a.before);
    p.axes.push_back(std::move(axis));
  }
  return p;
}

}  // namespace

template <class T>
void max_pool(const PoolShape& s, ArrayView<const T> x, ArrayView<T> y, IndexView indices, bool magnitude,
              const RunContext& context) {
  Pooling<T> p = forward(s, x, y, T{1});
  p.norm = magnitude ? T{1} : T{0};
  if (indices.data) {
    p.indices = indices.data;
    p.index_image = indices.strides[0];
    p.index_channel = indices.strides[1];
    for (std::size_t i = 0; i < s.axes.size(); ++i) p.index_stride.push_back(indices.strides[2 + i]);
  }
  run_max_pool(p, context);
}

template <class T>
void sum_pool(const PoolShape& s, ArrayView<const T> x, ArrayView<T> y, T divisor,
              const RunContext& context) {
  run_sum_pool(forward(s, x, y, divisor), context);
}

template <class T>
void norm_pool(const PoolShape& s, ArrayView<const T> x, ArrayView<T> y, T norm, const RunContext& context) {
  Pooling<T> p = forward(s, x, y, T{1});
  p.norm = norm;
  run_sum_pool(p, context);
}

template <class T>
void sum_pool_backward(const PoolShape& s, ArrayView<const T> dy, ArrayView<T> dx, T divisor,
                       const RunContext& context) {
  const std::size_t rank = s.axes.size();
  Extents first(rank, 0), phases(rank);
  Pooling<T> shared = pooling(s, dy, dx, divisor);
  for (std::size_t i = 0; i < rank; ++i) {
    const WindowAxis& a = s.axes[i];
    phases[i] = std::min(a.stride, a.size);
    // Windows side by side: all pixels of one have the same sum, which is computed once.
    const Index step = dx.strides[2 + i], have = static_cast<Index>(shared.copies.size());
    if (a.stride != a.kernel || a.dilation != 1 || a.before != 0 || a.size % a.stride != 0) continue;
    if (i == rank - 1 && a.kernel == 2 && step == 1) {
      shared.twice = true;
    } else if (a.kernel <= kMostCopies / have) {
      for (Index k = 1; k < a.kernel; ++k)
        for (Index c = 0; c < have; ++c)
          shared.copies.push_back(shared.copies[static_cast<std::size_t>(c)] + k * step);
    } else {
      continue;
    }
    phases[i] = 1;
  }
  for (;;) {  // once per stride phase, as the input gradient of a convolution
    Pooling<T> p = shared;
    for (std::size_t i = 0; i < rank; ++i) {
      p.axes.push_back(phase_axis(s.axes[i], first[i], dy.strides[2 + i], dx.strides[2 + i]).pixels);
      p.target += first[i] * dx.strides[2 + i];
    }
    run_sum_pool(p, context);
    std::size_t i = rank;
    for (;;) {
      if (i-- == 0) return;
      if (++first[i] < phases[i]) break;
      first[i] = 0;
    }
  }
}

#define WINDROW_INSTANTIATE(T)                                                                       \
  template void max_pool(const PoolShape&, ArrayView<const T>, ArrayView<T>, IndexView, bool,        \
                         const RunContext&);                                                         \
  template void norm_pool(const PoolShape&, ArrayView<const T>, ArrayView<T>, T, const RunContext&); \
  template void sum_pool(const PoolShape&, ArrayView<const T>, ArrayView<T>, T, const RunContext&);  \
  template void sum_pool_backward(const PoolShape&, ArrayView<const T>, ArrayView<T>, T, const RunContext&);
WINDROW_INSTANTIATE(float)
WINDROW_INSTANTIATE(double)
#undef WINDROW_INSTANTIATE

}  // namespace windrow
