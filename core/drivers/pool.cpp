#include "drivers/pool.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "kernels/contract.hpp"

namespace windrow {
namespace {

constexpr Index kPieceTaps = Index{1} << 17;  // values read in a piece of work: some 50 us

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
  Extents offset;  // of each tap in the source, from that of the first position
  Extents place;   // the same as numbers of source positions
};

// Consecutive pixels of an axis that see the same taps, [tap0, tap1), inside the source.
struct Run {
  Index first, count, tap0, tap1;
};

std::vector<Run> runs_of(const PixelAxis& axis, Index first, Index end) {
  std::vector<Run> runs;
  const Index* begin = axis.tap.begin();
  for (Index p = first; p < end; ++p) {
    const Index at = p * axis.step;
    const Index tap0 = std::lower_bound(begin, axis.tap.end(), -at) - begin;
    const Index tap1 = std::max(tap0, std::lower_bound(begin, axis.tap.end(), axis.size - at) - begin);
    if (!runs.empty() && runs.back().tap0 == tap0 && runs.back().tap1 == tap1) {
      ++runs.back().count;
    } else {
      runs.push_back({p, 1, tap0, tap1});
    }
  }
  return runs;
}

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
  bool narrow;  // whether places fit a lane

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
    const T* at = source + i * lane.source;
    for (const Index offset : taps.offset) {
      for (int k = 0; k < kVectors; ++k) {
        const V v =
            term<kTerm>(load<T, kStep>(at + offset + k * Vector<T>::kLanes * lane.source, lane.source), norm);
        best[k] = v > best[k] ? v : best[k];
        is_nan[k] |= v != v;
      }
    }
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
      from[k] = L{} + static_cast<Lane>(taps.place[0]);
    }
    const T* at = source + i * lane.source;
    for (std::size_t t = 0; t < taps.offset.size(); ++t) {
      const L here = L{} + static_cast<Lane>(taps.place[t]);
      for (int k = 0; k < kVectors; ++k) {
        const V v = term<kTerm>(
            load<T, kStep>(at + taps.offset[t] + k * Vector<T>::kLanes * lane.source, lane.source), norm);
        const L stays = (best[k] != best[k]) | (v <= best[k]);
        best[k] = stays ? best[k] : v;
        from[k] = stays ? from[k] : here;
      }
    }
    for (int k = 0; k < kVectors; ++k) {
      const Index j = i + k * Vector<T>::kLanes;
      store(target + j * lane.target, lane.target, best[k]);
      std::int64_t* to = index + j * lane.index;
      typename Vector<T>::Indices number = __builtin_convertvector(from[k], typename Vector<T>::Indices);
      for (Index l = 0; l < Vector<T>::kLanes; ++l) number[l] += place + (j + l) * lane.place;
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
    const T* at = source + i * lane.source;
    const std::size_t count = taps.offset.size();
    for (std::size_t t = 0; t < count; ++t) {
      if (t > 0 && t % kChunk == 0) {
        for (int k = 0; k < kVectors; ++k) {
          total[k] = t == kChunk ? sum[k] : total[k] + sum[k];
          sum[k] = V{};
        }
      }
      for (int k = 0; k < kVectors; ++k)
        sum[k] += term<kTerm>(
            load<T, kStep>(at + taps.offset[t] + k * Vector<T>::kLanes * lane.source, lane.source), norm);
    }
    for (int k = 0; k < kVectors; ++k) {
      if (count > kChunk) sum[k] = total[k] + sum[k];
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
    T best = kTerm == Term::kValue || !taps.place.empty() ? -std::numeric_limits<T>::infinity() : T{0};
    Index from = taps.place.empty() ? -1 - place - i * lane.place : taps.place[0];
    for (std::size_t t = 0; t < taps.offset.size(); ++t) {
      const T v = term_of_one<kTerm>(source[i * lane.source + taps.offset[t]], norm);
      if (best != best || v <= best) continue;
      best = v;
      from = taps.place[t];
    }
    target[i * lane.target] = best;
    if (index) index[i * lane.index] = place + i * lane.place + from;
  }
  void sum_one(const T* source, T* target, Index i) const {
    T total = 0, sum = 0;
    const std::size_t count = taps.offset.size();
    for (std::size_t t = 0; t < count; ++t) {
      if (t > 0 && t % kChunk == 0) {
        total = t == kChunk ? sum : total + sum;
        sum = 0;
      }
      sum += term_of_one<kTerm>(source[i * lane.source + taps.offset[t]], norm);
    }
    if (count > kChunk) sum = total + sum;
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

// The dimension that lanes lie along: one whose values lie side by side in the source, or every other one of
// them, and fill a vector; else the longest.
template <class T>
std::size_t lane_dimension(const std::vector<Dimension>& box) {
  const auto score = [](const Dimension& d) {
    const Index useful = std::min<Index>(d.count, 4 * Vector<T>::kLanes);
    return useful * (d.source == 1 || d.source == 2 ? 4 : 1) + (d.source == 1 ? 2 : 0) + (d.target == 1);
  };
  std::size_t best = 0;
  for (std::size_t i = 1; i < box.size(); ++i)
    if (score(box[i]) >= score(box[best])) best = i;
  return best;
}

enum class Kind { kMax, kSum };

// A box of windows that all see the same taps.
template <Kind kKind, Term kTerm, class T>
void pool_box(const Pooling<T>& p, const Taps& taps, std::vector<Dimension>& box, const T* source, T* target,
              std::int64_t* index, Index place) {
  using Lane = typename Vector<T>::Lane;
  std::swap(box[lane_dimension<T>(box)], box.back());
  const bool narrow = taps.place.empty() || taps.place.back() <= Index{std::numeric_limits<Lane>::max()};
  int exponent;
  const bool exact = std::frexp(p.divisor, &exponent) == T{0.5};
  const Line<kTerm, T> line{taps, box.back(), p.divisor, exact ? T{1} / p.divisor : T{0}, p.norm, narrow};
  Extents at(box.size() - 1, 0);
  for (;;) {
    if constexpr (kKind == Kind::kMax) {
      line.max(source, target, index, place);
    } else {
      line.sum(source, target);
    }
    std::size_t i = box.size() - 1;
    for (;;) {
      if (i-- == 0) return;
      const Dimension& d = box[i];
      source += d.source;
      target += d.target;
      if (index) index += d.index;
      place += d.place;
      if (++at[i] < d.count) break;
      source -= d.source * d.count;
      target -= d.target * d.count;
      if (index) index -= d.index * d.count;
      place -= d.place * d.count;
      at[i] = 0;
    }
  }
}

// Taps of a box: all combinations of those of its runs, row-major.
template <class T>
Taps taps_of(const Pooling<T>& p, const std::vector<Run>& runs, const Extents& place_stride) {
  Taps taps{.offset = {0}, .place = {0}};
  for (std::size_t i = 0; i < runs.size(); ++i) {
    Extents offset, place;
    for (std::size_t t = 0; t < taps.offset.size(); ++t) {
      for (Index k = runs[i].tap0; k < runs[i].tap1; ++k) {
        const Index step = p.axes[i].tap[static_cast<std::size_t>(k)] -
                           p.axes[i].tap[static_cast<std::size_t>(runs[i].tap0)];
        offset.push_back(taps.offset[t] + step * p.axes[i].source_stride);
        place.push_back(taps.place[t] + step * place_stride[i]);
      }
    }
    taps.offset = std::move(offset);
    taps.place = std::move(place);
  }
  return taps;
}

// The windows at [first, end) along the first axis, of some images and channels.
template <Kind kKind, Term kTerm, class T>
void pool_part(const Pooling<T>& p, Index image, Index images, Index channel, Index channels, Index first,
               Index end, const Extents& place_stride) {
  const std::size_t rank = p.axes.size();
  std::vector<std::vector<Run>> along(rank);
  for (std::size_t i = 0; i < rank; ++i)
    along[i] = i == 0 ? runs_of(p.axes[i], first, end) : runs_of(p.axes[i], 0, p.axes[i].count);
  std::vector<std::size_t> which(rank, 0);
  std::vector<Run> runs(rank);
  std::vector<Dimension> box;
  for (;;) {
    const T* source = p.source + image * p.source_image + channel * p.source_channel;
    T* target = p.target + image * p.target_image + channel * p.target_channel;
    std::int64_t* index = p.indices;
    if (index) index += image * p.index_image + channel * p.index_channel;
    Index place = 0;
    box.assign({{images, p.source_image, p.target_image, p.index_image, 0},
                {channels, p.source_channel, p.target_channel, p.index_channel, 0}});
    for (std::size_t i = 0; i < rank; ++i) {
      const PixelAxis& axis = p.axes[i];
      runs[i] = along[i][which[i]];
      const Run& run = runs[i];
      const Index index_stride = index ? p.index_stride[i] : 0;
      const Index at =
          run.first * axis.step + (run.tap0 < run.tap1 ? axis.tap[static_cast<std::size_t>(run.tap0)] : 0);
      source += at * axis.source_stride;
      place += at * place_stride[i];
      target += run.first * axis.target_stride;
      if (index) index += run.first * index_stride;
      box.push_back({run.count, axis.step * axis.source_stride, axis.target_stride, index_stride,
                     axis.step * place_stride[i]});
    }
    pool_box<kKind, kTerm>(p, taps_of(p, runs, place_stride), box, source, target, index, place);
    std::size_t i = rank;
    for (;;) {
      if (i-- == 0) return;
      if (++which[i] < along[i].size()) break;
      which[i] = 0;
    }
  }
}

// Pieces: images, channels where they do not lie side by side, and windows along the first axis.
template <Kind kKind, Term kTerm, class T>
void run_pool(const Pooling<T>& p, const RunContext& context) {
  Index row = 1, taps = 1;
  for (std::size_t i = 0; i < p.axes.size(); ++i) {
    if (i > 0) row *= p.axes[i].count;
    taps *= std::max<Index>(1, static_cast<Index>(p.axes[i].tap.size()));
  }
  const Index rows = p.axes[0].count;
  if (p.images == 0 || p.channels == 0 || row * rows == 0) return;
  Extents place_stride(p.axes.size(), 1);
  for (std::size_t i = p.axes.size() - 1; i-- > 0;)
    place_stride[i] = place_stride[i + 1] * p.axes[i + 1].size;

  const Index work = row * taps;  // of a row of one channel
  const auto fitting = [](Index unit, Index most) {
    return std::clamp<Index>(kPieceTaps / std::max<Index>(unit, 1), 1, most);
  };
  const Index channels = p.source_channel == 1 ? p.channels : fitting(work * rows, p.channels);
  const Index high = fitting(work * channels, rows);
  const Index images = high < rows || channels < p.channels ? 1 : fitting(work * channels * rows, p.images);
  const Index per_image = ceil_div(p.channels, channels) * ceil_div(rows, high);
  RunContext few = context;
  if (static_cast<double>(work * rows) * static_cast<double>(p.images * p.channels) < kPieceTaps)
    few.threads = 1;
  parallel_for(few, ceil_div(p.images, images) * per_image, [&](Index piece) {
    const Index image = piece / per_image * images;
    const Index block = piece % per_image;
    const Index channel = block / ceil_div(rows, high) * channels;
    const Index first = block % ceil_div(rows, high) * high;
    pool_part<kKind, kTerm>(p, image, std::min(images, p.images - image), channel,
                            std::min(channels, p.channels - channel), first, std::min(first + high, rows),
                            place_stride);
  });
}

}  // namespace

template <class T>
void run_max_pool(const Pooling<T>& p, const RunContext& context) {
  if (p.norm == 0) return run_pool<Kind::kMax, Term::kValue>(p, context);
  run_pool<Kind::kMax, Term::kMagnitude>(p, context);
}

template <class T>
void run_sum_pool(const Pooling<T>& p, const RunContext& context) {
  if (p.norm == 0) return run_pool<Kind::kSum, Term::kValue>(p, context);
  if (p.norm == 1) return run_pool<Kind::kSum, Term::kMagnitude>(p, context);
  if (p.norm == 2) return run_pool<Kind::kSum, Term::kSquare>(p, context);
  run_pool<Kind::kSum, Term::kPower>(p, context);
}

template void run_max_pool(const Pooling<float>&, const RunContext&);
template void run_max_pool(const Pooling<double>&, const RunContext&);
template void run_sum_pool(const Pooling<float>&, const RunContext&);
template void run_sum_pool(const Pooling<double>&, const RunContext&);

}  // namespace windrow
