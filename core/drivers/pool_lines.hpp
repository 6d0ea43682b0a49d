// Lines of windows reduced with vectors of the baseline instruction set, under any strides: what the targets'
// kernels (kernels/pool.hpp) do not take.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/types.hpp"
#include "kernels/contract.hpp"

namespace windrow::lines {

template <class T>
struct Vector {
  using Number __attribute__((vector_size(16))) = T;
  // Offsets and masks, as wide as T.
  using Lane = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  using Lanes __attribute__((vector_size(16))) = Lane;
  static constexpr Index kLanes = 16 / static_cast<Index>(sizeof(T));
  using Indices __attribute__((vector_size(8 * kLanes))) = std::int64_t;
};

// The taps of some windows that all see the same ones inside the source.
struct Taps {
  Extents offset;    // of each tap in the source, from that of the first position
  Extents place;     // the same as numbers of source positions
  Index fills = 0;   // taps that see a constant border; the first of them comes after ...
  Index before = 0;  // ... so many of the others
};

// A dimension of a box of windows: images, channels, or positions along an axis.
struct Dimension {
  Index count, source, target, index, place;  // strides; `place` that of the numbers of source positions
};

// kStep is the source's step from lane to lane, 0 for any.
template <class T, int kStep>
typename Vector<T>::Number load(const T* p, Index step) {
  constexpr Index kLanes = Vector<T>::kLanes;
  typename Vector<T>::Number v;
  if constexpr (kStep == 1) {
    std::memcpy(&v, p, sizeof v);
  } else if constexpr (kStep == 2) {
    // The second half ends with the last lane's value: nothing beyond it is read.
    typename Vector<T>::Number low, high;
    std::memcpy(&low, p, sizeof low);
    std::memcpy(&high, p + kLanes - 1, sizeof high);
    if constexpr (kLanes == 4) {
      v = __builtin_shufflevector(low, high, 0, 2, 5, 7);
    } else {
      v = __builtin_shufflevector(low, high, 0, 3);
    }
  } else {
    for (Index l = 0; l < kLanes; ++l) v[l] = p[l * step];
  }
  return v;
}

template <class T, class V>
void store(T* p, Index step, const V& v) {
  if (step == 1) {
    std::memcpy(p, &v, sizeof v);
  } else {
    for (Index l = 0; l < Vector<T>::kLanes; ++l) p[l * step] = v[l];
  }
}

// What is summed or compared: the values, their magnitudes, or powers of these.
enum class Term { kValue, kMagnitude, kSquare, kPower };

// Whole powers by multiplication, from the highest bit of the exponent down; others one lane after another.
template <class T, class V>
V raised(const V& v, T exponent) {
  constexpr T kMostWhole = 64;
  V result = v;
  if (exponent <= kMostWhole && exponent == std::floor(exponent)) {
    const int whole = static_cast<int>(exponent);
    int bit = 1;
    while (bit <= whole / 2) bit *= 2;
    while ((bit /= 2) > 0) {
      result = result * result;
      if (whole & bit) result = result * v;
    }
  } else {
    for (Index l = 0; l < Vector<T>::kLanes; ++l) result[l] = std::pow(v[l], exponent);
  }
  return result;
}

template <Term kTerm, class T, class V>
V term(const V& v, T norm) {
  if constexpr (kTerm == Term::kValue) return v;
  if constexpr (kTerm == Term::kSquare) return v * v;
  const V magnitude = v < T{0} ? -v : v;
  return kTerm == Term::kPower ? raised<T>(magnitude, norm) : magnitude;
}

template <Term kTerm, class T>
T term_of_one(T value, T norm) {
  if constexpr (kTerm == Term::kValue) return value;
  typename Vector<T>::Number v;
  for (Index l = 0; l < Vector<T>::kLanes; ++l) v[l] = value;
  return term<kTerm>(v, norm)[0];
}

template <Term kTerm, class T>
T root(T sum, T norm) {
  if constexpr (kTerm == Term::kSquare) return std::sqrt(sum);
  if constexpr (kTerm != Term::kPower) return sum;
  // 1 / norm is rounded, which a large or small sum would make much of.
  return static_cast<T>(std::pow(static_cast<double>(sum), 1.0 / static_cast<double>(norm)));
}

// One line of windows side by side, `first` the place of the first one's first tap in the source.
template <Term kTerm, class T>
struct Line {
  const Taps& taps;
  Dimension lane;
  T divisor;
  T reciprocal;  // of a power of two, by which a product is the quotient to the bit; else 0
  T norm;
  T fill;       // what a constant border holds
  bool narrow;  // whether places fit a lane

  static constexpr auto kNowhere =
      std::numeric_limits<typename Vector<T>::Lane>::min();  // the place of fills

  Index count() const { return static_cast<Index>(taps.offset.size()); }

  // Calls see(first, end) for the taps inside the source and fills() for all others, in order.
  template <class See, class Fills>
  void in_order(See&& see, Fills&& fills) const {
    if (taps.fills == 0) return see(0, count());
    see(0, taps.before);
    fills();
    see(taps.before, count());
  }

  static std::size_t at(Index tap) { return static_cast<std::size_t>(tap); }

  // Of the tap that comes first of all.
  Index first_place() const { return taps.fills > 0 && taps.before == 0 ? kNowhere : taps.place[0]; }

  T sum_of_fills() const {
    return taps.fills == 0 ? T{0} : static_cast<T>(taps.fills) * term_of_one<kTerm>(fill, norm);
  }

  // What a vector of windows from i on sees at a tap.
  template <int kStep>
  typename Vector<T>::Number term_at(const T* source, Index tap, Index i) const {
    return term<kTerm>(load<T, kStep>(source + taps.offset[at(tap)] + i * lane.source, lane.source), norm);
  }

  // The maxima of kVectors vectors of windows from i on. The first of equal values stays, and NaN wins.
  template <int kStep, int kVectors>
  void max_block(const T* source, T* target, Index i) const {
    using V = typename Vector<T>::Number;
    using L = typename Vector<T>::Lanes;
    V best[kVectors];
    L is_nan[kVectors];
    for (int k = 0; k < kVectors; ++k) {
      best[k] = V{} - std::numeric_limits<T>::infinity();
      is_nan[k] = L{};
    }
    const auto take = [&](int k, const V& v) {
      best[k] = v > best[k] ? v : best[k];
      is_nan[k] |= v != v;
    };
    in_order(
        [&](Index first, Index end) {
          for (Index t = first; t < end; ++t)
            for (int k = 0; k < kVectors; ++k) take(k, term_at<kStep>(source, t, i + k * Vector<T>::kLanes));
        },
        [&] {
          for (int k = 0; k < kVectors; ++k) take(k, -V{} + term_of_one<kTerm>(fill, norm));
        });
    for (int k = 0; k < kVectors; ++k) {
      L bits;
      std::memcpy(&bits, &best[k], sizeof bits);
      bits |= is_nan[k];  // all bits set are a NaN
      std::memcpy(&best[k], &bits, sizeof bits);
      store(target + (i + k * Vector<T>::kLanes) * lane.target, lane.target, best[k]);
    }
  }

  template <int kStep, int kVectors>
  void index_block(const T* source, T* target, std::int64_t* index, Index place, Index i) const {
    using V = typename Vector<T>::Number;
    using L = typename Vector<T>::Lanes;
    using Lane = typename Vector<T>::Lane;
    V best[kVectors];
    L from[kVectors];
    for (int k = 0; k < kVectors; ++k) {
      best[k] = V{} - std::numeric_limits<T>::infinity();
      from[k] = L{} + static_cast<Lane>(first_place());
    }
    const auto take = [&](int k, const V& v, Index place_of_tap) {
      const L stays = (best[k] != best[k]) | (v <= best[k]);
      best[k] = stays ? best[k] : v;
      from[k] = stays ? from[k] : L{} + static_cast<Lane>(place_of_tap);
    };
    in_order(
        [&](Index first, Index end) {
          for (Index t = first; t < end; ++t)
            for (int k = 0; k < kVectors; ++k)
              take(k, term_at<kStep>(source, t, i + k * Vector<T>::kLanes), taps.place[at(t)]);
        },
        [&] {
          for (int k = 0; k < kVectors; ++k) take(k, -V{} + term_of_one<kTerm>(fill, norm), kNowhere);
        });
    for (int k = 0; k < kVectors; ++k) {
      const Index j = i + k * Vector<T>::kLanes;
      store(target + j * lane.target, lane.target, best[k]);
      std::int64_t* to = index + j * lane.index;
      typename Vector<T>::Indices number = __builtin_convertvector(from[k], typename Vector<T>::Indices);
      for (Index l = 0; l < Vector<T>::kLanes; ++l)
        number[l] = from[k][l] == kNowhere ? -1 : number[l] + place + (j + l) * lane.place;
      if (lane.index == 1) {
        std::memcpy(to, &number, sizeof number);
      } else {
        for (Index l = 0; l < Vector<T>::kLanes; ++l) to[l * lane.index] = number[l];
      }
    }
  }

  // Sums in order of the taps, in chunks as those of a product.
  template <int kStep, int kVectors>
  void sum_block(const T* source, T* target, Index i) const {
    using V = typename Vector<T>::Number;
    V total[kVectors] = {}, sum[kVectors] = {};
    const T fills = sum_of_fills();
    for (Index t = 0; t < count(); ++t) {
      if (t > 0 && t % kChunk == 0) {
        for (int k = 0; k < kVectors; ++k) {
          total[k] = t == kChunk ? sum[k] : total[k] + sum[k];
          sum[k] = V{};
        }
      }
      for (int k = 0; k < kVectors; ++k) sum[k] += term_at<kStep>(source, t, i + k * Vector<T>::kLanes);
    }
    for (int k = 0; k < kVectors; ++k) {
      if (count() > kChunk) sum[k] = total[k] + sum[k];
      sum[k] += fills;
      if constexpr (kTerm == Term::kValue) {
        sum[k] = reciprocal != 0 ? sum[k] * reciprocal : sum[k] / divisor;
      } else {
        for (Index l = 0; l < Vector<T>::kLanes; ++l) sum[k][l] = root<kTerm>(sum[k][l], norm);
      }
      store(target + (i + k * Vector<T>::kLanes) * lane.target, lane.target, sum[k]);
    }
  }

  // The same for one window.
  void max_one(const T* source, T* target, std::int64_t* index, Index place, Index i) const {
    const bool none = count() + taps.fills == 0;
    T best = none && kTerm != Term::kValue ? T{0} : -std::numeric_limits<T>::infinity();
    Index from = none ? kNowhere : first_place();
    const auto take = [&](T v, Index place_of_tap) {
      if (best != best || v <= best) return;
      best = v;
      from = place_of_tap;
    };
    in_order(
        [&](Index first, Index end) {
          for (Index t = first; t < end; ++t)
            take(term_of_one<kTerm>(source[i * lane.source + taps.offset[at(t)]], norm), taps.place[at(t)]);
        },
        [&] { take(term_of_one<kTerm>(fill, norm), kNowhere); });
    target[i * lane.target] = best;
    if (index) index[i * lane.index] = from == kNowhere ? -1 : place + i * lane.place + from;
  }
  void sum_one(const T* source, T* target, Index i) const {
    T total = 0, sum = 0;
    for (Index t = 0; t < count(); ++t) {
      if (t > 0 && t % kChunk == 0) {
        total = t == kChunk ? sum : total + sum;
        sum = 0;
      }
      sum += term_of_one<kTerm>(source[i * lane.source + taps.offset[at(t)]], norm);
    }
    if (count() > kChunk) sum = total + sum;
    sum += sum_of_fills();
    if constexpr (kTerm == Term::kValue) {
      target[i * lane.target] = reciprocal != 0 ? sum * reciprocal : sum / divisor;
    } else {
      target[i * lane.target] = root<kTerm>(sum, norm);
    }
  }

  // Blocks of vectors, then single ones; the last lies over the one before it.
  template <class Four, class One>
  void in_blocks(Four&& four, One&& one) const {
    constexpr Index kLanes = Vector<T>::kLanes;
    Index i = 0;
    for (; i + 4 * kLanes <= lane.count; i += 4 * kLanes) four(i);
    for (; i + kLanes <= lane.count; i += kLanes) one(i);
    if (i < lane.count) one(lane.count - kLanes);
  }

  template <int kStep>
  void run_max(const T* source, T* target, std::int64_t* index, Index place) const {
    if (index) {
      in_blocks([&](Index i) { index_block<kStep, 4>(source, target, index, place, i); },
                [&](Index i) { index_block<kStep, 1>(source, target, index, place, i); });
    } else {
      in_blocks([&](Index i) { max_block<kStep, 4>(source, target, i); },
                [&](Index i) { max_block<kStep, 1>(source, target, i); });
    }
  }
  template <int kStep>
  void run_sum(const T* source, T* target) const {
    in_blocks([&](Index i) { sum_block<kStep, 4>(source, target, i); },
              [&](Index i) { sum_block<kStep, 1>(source, target, i); });
  }

  void max(const T* source, T* target, std::int64_t* index, Index place) const {
    if (lane.count < Vector<T>::kLanes || taps.offset.empty() || !narrow) {
      for (Index i = 0; i < lane.count; ++i) max_one(source, target, index, place, i);
    } else if (lane.source == 1) {
      run_max<1>(source, target, index, place);
    } else if (lane.source == 2) {
      run_max<2>(source, target, index, place);
    } else {
      run_max<0>(source, target, index, place);
    }
  }
  void sum(const T* source, T* target) const {
    if (lane.count < Vector<T>::kLanes) {
      for (Index i = 0; i < lane.count; ++i) sum_one(source, target, i);
    } else if (lane.source == 1) {
      run_sum<1>(source, target);
    } else if (lane.source == 2) {
      run_sum<2>(source, target);
    } else {
      run_sum<0>(source, target);
    }
  }
};

}  // namespace windrow::lines
