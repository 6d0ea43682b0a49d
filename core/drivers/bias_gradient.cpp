#include "drivers/bias_gradient.hpp"

#include <algorithm>

#include "kernels/contract.hpp"

namespace windrow {
namespace {

constexpr Index kSums = 16;
constexpr Index kBlock = kSums * kChunk;

// The pixels that have come so far, in 16 sums and a total.
template <class T>
class Sum {
 public:
  void add_run(const T* values, Index count, Index stride) {
    while (count > 0) {
      const Index some = std::min(count, kBlock - filled_);
      if (stride == 1 && filled_ % kSums == 0) {
        const Index whole = some / kSums * kSums;
        for (Index i = 0; i < whole; i += kSums)
          for (Index j = 0; j < kSums; ++j) sums_[j] += values[i + j];
        for (Index i = whole; i < some; ++i) sums_[i - whole] += values[i];
      } else {
        for (Index i = 0; i < some; ++i) sums_[(filled_ + i) % kSums] += values[i * stride];
      }
      values += some * stride;
      count -= some;
      filled_ += some;
      if (filled_ == kBlock) flush();
    }
  }
  T finish() {
    flush();
    return total_;
  }

 private:
  void flush() {
    for (Index width = kSums / 2; width > 0; width /= 2)
      for (Index j = 0; j < width; ++j) sums_[j] += sums_[j + width];
    total_ += sums_[0];
    std::fill_n(sums_, kSums, T{0});
    filled_ = 0;
  }

  T sums_[kSums] = {};
  T total_ = 0;
  Index filled_ = 0;
};

}  // namespace

template <class T>
void run_bias_gradient(const BiasGradient<T>& p, const RunContext& context) {
  const std::size_t last = p.size.size() - 1;
  Index rows = 1;
  for (std::size_t i = 0; i < last; ++i) rows *= p.size[i];
  parallel_for(context, p.channels, [&](Index channel) {
    T total = 0;
    for (Index image = 0; image < p.images; ++image) {
      checkpoint();
      Sum<T> sum;
      for (Index row = 0; row < rows; ++row) {
        const T* values = p.dy + image * p.dy_image + channel * p.dy_channel;
        Index rest = row;
        for (std::size_t i = last; i-- > 0;) {
          values += rest % p.size[i] * p.dy_stride[i];
          rest /= p.size[i];
        }
        sum.add_run(values, p.size[last], p.dy_stride[last]);
      }
      total += sum.finish();
    }
    T& db = p.db[channel * p.db_stride];
    db = p.accumulate ? db + total : total;
  });
}

template void run_bias_gradient(const BiasGradient<float>&, const RunContext&);
template void run_bias_gradient(const BiasGradient<double>&, const RunContext&);

}  // namespace windrow
