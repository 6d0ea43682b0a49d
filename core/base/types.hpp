// The vocabulary that every layer of the core shares. Sizes, strides and offsets are in elements, never
// bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <vector>

namespace windrow {

using Index = std::int64_t;  // a size, a stride or a position, in elements

inline constexpr std::size_t kAlignment = 64;  // bytes: a cache line, and the widest vector of any target

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
constexpr Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }

// One value per axis, or per tap along an axis: few, so they are kept in place, because a small convolution
// would otherwise spend its time in malloc.
class Extents {
 public:
  Extents() = default;
  explicit Extents(std::size_t count, Index value = 0) { resize(count, value); }
  Extents(std::initializer_list<Index> values) : Extents(values.begin(), values.end()) {}
  template <class Iterator>
    requires(!std::is_integral_v<Iterator>)
  Extents(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(static_cast<Index>(*first));
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  Index* data() { return more_.empty() ? few_ : more_.data(); }
  const Index* data() const { return more_.empty() ? few_ : more_.data(); }
  Index* begin() { return data(); }
  Index* end() { return data() + size_; }
  const Index* begin() const { return data(); }
  const Index* end() const { return data() + size_; }
  Index& operator[](std::size_t i) { return data()[i]; }
  Index operator[](std::size_t i) const { return data()[i]; }
  Index front() const { return *data(); }
  Index& back() { return data()[size_ - 1]; }
  Index back() const { return data()[size_ - 1]; }

  void push_back(Index value) {
    if (more_.empty() && size_ < kFew) {
      few_[size_] = value;
    } else {
      if (more_.empty()) more_.assign(few_, few_ + size_);
      more_.push_back(value);
    }
    ++size_;
  }
  void resize(std::size_t count, Index value = 0) {
    while (size_ < count) push_back(value);
    if (size_ > count) *this = Extents(begin(), begin() + count);
  }
  void assign(std::size_t count, Index value) { *this = Extents(count, value); }

  friend bool operator==(const Extents& a, const Extents& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  static constexpr std::size_t kFew = 8;
  std::size_t size_ = 0;
  Index few_[kFew] = {};
  std::vector<Index> more_;  // all of them, once there are more
};

inline Index product_of(const Extents& extents) {
  Index product = 1;
  for (const Index extent : extents) product *= extent;
  return product;
}

// The next index of a box, row-major; false after the last one.
inline bool advance(Extents& index, const Extents& extent) {
  for (std::size_t i = index.size(); i-- > 0;) {
    if (++index[i] < extent[i]) return true;
    index[i] = 0;
  }
  return false;
}

// What stands beyond the ends of an axis, as numpy.pad makes it: one value, zero unless said otherwise, the
// pixels mirrored without their edge, the edge, or the pixels from the other end on. Numbered as in
// borders.py.
enum class Border { kConstant, kReflect, kEdge, kWrap };

// The position in [0, size) whose value stands at `position`, or -1 where that is a constant: however far
// outside, and in a single pixel's mirror that pixel.
constexpr Index repeated_position(Index position, Index size, Border border) {
  if (0 <= position && position < size) return position;
  if (border == Border::kConstant || size == 0) return -1;
  if (border == Border::kEdge) return position < 0 ? 0 : size - 1;
  const Index last = 2 * (size - 1);  // of the mirror's period, there and back again, its first place
  const Index period = border == Border::kWrap ? size : std::max<Index>(1, last);
  const Index place = (position % period + period) % period;
  return border == Border::kWrap ? place : std::min(place, last - place);
}

// Every entry of a result is brought into [low, high] last of all. NaN stays NaN, and -0 at a low of 0 stays.
struct Limits {
  bool on = false;
  double low = 0, high = 0;
};

// How windows lie along one spatial axis: output position p, tap t reads input position
// p * stride + t * dilation - before, and what the border says where that is outside [0, size).
struct WindowAxis {
  Index size = 1;    // input positions
  Index out = 1;     // output positions
  Index kernel = 1;  // taps
  Index stride = 1;
  Index dilation = 1;
  Index before = 0;  // places before the first input position
  Border border = Border::kConstant;

  Index at(Index position) const { return repeated_position(position, size, border); }
};

inline Index product_of(const std::vector<WindowAxis>& axes, Index WindowAxis::* extent) {
  Index product = 1;
  for (const WindowAxis& axis : axes) product *= axis.*extent;
  return product;
}

// The same windows with steps cut to what they reach: steps that are never taken may be of any length, and
// offsets or tables made with them would not fit. No two positions are farther apart than `farthest`, so that
// a longer stride of a single window is like any other.
constexpr WindowAxis within_reach(WindowAxis axis) {
  if (axis.kernel == 1 || axis.out == 0) axis.dilation = 1;
  const Index farthest = axis.size + axis.before + (axis.kernel - 1) * axis.dilation;
  if (axis.out < 2 && axis.stride > farthest) axis.stride = farthest + 1;
  return axis;
}

}  // namespace windrow
