#include "drivers/fold_numbers.hpp"

#include <cstring>
#include <limits>

namespace windrow {
namespace {

// Calls body with a value of the type that totals of this number are held in.
template <class Body>
auto with_total(Number number, Body&& body) {
  switch (number) {
    case kI8:
      return body(std::int8_t{});
    case kI16:
      return body(std::int16_t{});
    case kI32:
      return body(std::int32_t{});
    case kI64:
      return body(std::int64_t{});
    case kU8:
      return body(std::uint8_t{});
    case kU16:
      return body(std::uint16_t{});
    case kU32:
      return body(std::uint32_t{});
    case kU64:
      return body(std::uint64_t{});
    case kF64:
      return body(double{});
    default:
      return body(float{});
  }
}

// IEEE single to half, to nearest, ties to even.
std::uint16_t narrow(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  bits &= 0x7fffffffu;
  std::uint32_t half;
  if (bits > 0x7f800000u) {
    half = 0x7e00u | (bits >> 13 & 0x3ffu);  // NaN keeps what fits of its payload
  } else if (bits >= 0x477ff000u) {
    half = 0x7c00u;  // 65520 and more round to infinity
  } else if (bits < 0x38800000u) {
    // A subnormal half is a multiple of 2^-24, which the last bit of 0.5 in single precision stands for.
    float shifted;
    std::memcpy(&shifted, &bits, sizeof shifted);
    shifted += 0.5f;
    std::memcpy(&half, &shifted, sizeof half);
    half -= 0x3f000000u;
  } else {
    half = (bits + 0xfffu + (bits >> 13 & 1u) - 0x38000000u) >> 13;
  }
  return static_cast<std::uint16_t>(sign | half);
}

}  // namespace

Index number_bytes(Number number) { return number == kF16 ? 2 : total_bytes(number); }

Index total_bytes(Number number) {
  return with_total(number, [](auto total) { return static_cast<Index>(sizeof total); });
}

void start_totals(Number number, Reduction reduction, char* totals, Index count) {
  if (reduction == kAdd || reduction == kWeighted) {
    std::memset(totals, 0, static_cast<std::size_t>(count * total_bytes(number)));
    return;
  }
  with_total(number, [&]<class Total>(Total) {
    using Type = std::numeric_limits<Total>;
    Total least = Type::lowest(), most = Type::max();
    if constexpr (Type::has_infinity) {
      least = -Type::infinity();
      most = Type::infinity();
    }
    const Total neutral = reduction == kMax ? least : most;
    for (Index i = 0; i < count; ++i)
      std::memcpy(totals + i * static_cast<Index>(sizeof neutral), &neutral, sizeof neutral);
  });
}

void finish_totals(const Finish& f) {
  const Index parts = f.complex_pairs ? 2 : 1;
  with_total(f.number, [&]<class Total>(Total) {
    constexpr auto kBytes = static_cast<Index>(sizeof(Total));
    const Index bytes = number_bytes(f.number);
    const bool narrowed = bytes != kBytes;
    if (!f.divisor && !narrowed) return;
    for (Index i = 0; i < f.count; ++i) {
      char* out = f.totals + i * bytes;
      Total total, divisor = 1;
      std::memcpy(&total, f.totals + i * kBytes, sizeof total);
      if (f.divisor) std::memcpy(&divisor, f.divisor + i / parts * kBytes, sizeof divisor);
      if (divisor == 0) {
        std::memcpy(out, f.uncovered + i % parts * bytes, static_cast<std::size_t>(bytes));
        continue;
      }
      if (f.divide) total = static_cast<Total>(total / divisor);
      if constexpr (sizeof(Total) == sizeof(float)) {
        if (narrowed) {
          const std::uint16_t half = narrow(static_cast<float>(total));
          std::memcpy(out, &half, sizeof half);
          continue;
        }
      }
      std::memcpy(out, &total, sizeof total);
    }
  });
}

}  // namespace windrow
