// Runs of numbers added to runs of sums: the arithmetic of fold.
//
// One operation per number, never fused and never reordered within a sum, so that every target gives the same
// bits as the plain C++ below; the compiler makes the vectors.
#pragma once

#include "kernels/patch_contract.hpp"

namespace {

struct Half {
  std::uint16_t bits;
};

// IEEE half to single, exact. Subnormal halves are made normal by a multiplication that is exact.
inline float widen(Half h) {
  const std::uint32_t magnitude = h.bits & 0x7fffu;
  const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x8000u) << 16;
  const std::uint32_t special = magnitude >= 0x7c00u ? 0x38000000u : 0u;  // infinities and NaN: exponent 255
  const std::uint32_t shifted = (magnitude << 13) + 0x38000000u + special;
  float normal, scaled;
  const std::uint32_t small = magnitude;
  __builtin_memcpy(&normal, &shifted, sizeof normal);
  scaled = static_cast<float>(small) * 5.9604644775390625e-8f;  // 2^-24
  const float value = magnitude < 0x0400u ? scaled : normal;
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  bits |= sign;
  float result;
  __builtin_memcpy(&result, &bits, sizeof result);
  return result;
}

template <class T>
inline T widen(T value) {
  return value;
}

template <class Total>
struct Add {
  Total operator()(Total total, Total value, Total) const { return static_cast<Total>(total + value); }
};
template <class Total>
struct Weighted {
  Total operator()(Total total, Total value, Total weight) const {
    return static_cast<Total>(total + static_cast<Total>(value * weight));
  }
};
// NaN wins, and the first one stays.
template <class Total>
struct Max {
  Total operator()(Total total, Total value, Total) const {
    return total != total || value <= total ? total : value;
  }
};
template <class Total>
struct Min {
  Total operator()(Total total, Total value, Total) const {
    return total != total || value >= total ? total : value;
  }
};

template <class Total, class In, class Op>
void accumulate(const windrow::Accumulate& a) {
  const Op op;
  const auto weight = static_cast<Total>(a.weight);
  for (std::ptrdiff_t i = 0; i < a.count[0]; ++i) {
    for (std::ptrdiff_t j = 0; j < a.count[1]; ++j) {
      char* total = a.total + i * a.total_stride[0] + j * a.total_stride[1];
      const char* source = a.source + i * a.source_stride[0] + j * a.source_stride[1];
      for (std::ptrdiff_t x = 0; x < a.length; ++x) {
        Total sum;
        In value;
        __builtin_memcpy(&sum, total + x * static_cast<std::ptrdiff_t>(sizeof sum), sizeof sum);
        __builtin_memcpy(&value, source + x * static_cast<std::ptrdiff_t>(sizeof value), sizeof value);
        sum = op(sum, static_cast<Total>(widen(value)), weight);
        __builtin_memcpy(total + x * static_cast<std::ptrdiff_t>(sizeof sum), &sum, sizeof sum);
      }
    }
  }
}

}  // namespace
