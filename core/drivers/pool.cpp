#include "drivers/pool.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

#include "dispatch/targets.hpp"
#include "drivers/pool_lines.hpp"
#include "kernels/contract.hpp"

namespace windrow {
namespace {

using lines::Dimension;
using lines::Line;
using lines::Taps;
using lines::Term;
using lines::Vector;

constexpr Index kPieceTaps = Index{1} << 17;  // values read in a piece of work: some 50 us

// Consecutive pixels of an axis that see the taps [tap0, tap1), the same ones of them inside the source; or
// one pixel that sees what a border repeats.
struct Run {
  Index first, count, tap0, tap1;
  Index inside0, inside1;  // the taps inside
};

bool see_the_same(const Run& a, const Run& b, bool repeats) {
  if (repeats && b.inside1 - b.inside0 != b.tap1 - b.tap0) return false;
  return a.tap0 == b.tap0 && a.tap1 == b.tap1 && a.inside0 == b.inside0 && a.inside1 == b.inside1;
}

template <class T>
std::vector<Run> runs_of(const Pooling<T>& p, std::size_t i, Index first, Index end) {
  const PixelAxis& axis = p.axes[i];
  const bool repeats = p.border != Border::kConstant, bordered = repeats || p.fill;
  const Index low = bordered ? axis.tap.front() : 0, high = axis.size + (bordered ? p.beyond[i] : 0);
  std::vector<Run> runs;
  const Index* begin = axis.tap.begin();
  for (Index pixel = first; pixel < end; ++pixel) {
    const Index at = pixel * axis.step;
    const auto first_from = [&](Index position) {
      return std::lower_bound(begin, axis.tap.end(), position - at) - begin;
    };
    const Index tap0 = first_from(low), tap1 = std::max(tap0, first_from(high));
    const Index inside0 = std::clamp(first_from(0), tap0, tap1);
    const Index inside1 = std::clamp(first_from(axis.size), inside0, tap1);
    const Run run{pixel, 1, tap0, tap1, inside0, inside1};
    if (!runs.empty() && see_the_same(runs.back(), run, repeats)) {
      ++runs.back().count;
    } else {
      runs.push_back(run);
    }
  }
  return runs;
}

// Where the first pixel of a run along axis i has its taps in the source; -1 in a constant border.
template <class T>
Extents positions_of(const Pooling<T>& p, std::size_t i, const Run& run) {
  const PixelAxis& axis = p.axes[i];
  Extents positions;
  for (Index k = run.tap0; k < run.tap1; ++k)
    positions.push_back(repeated_position(run.first * axis.step + axis.tap[static_cast<std::size_t>(k)],
                                          axis.size, p.border));
  return positions;
}

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

// Kernels see a constant border before all else: of zeros of both signs the first one would not always stay.
template <class T>
bool kernels_see(const Pooling<T>& p, const Taps& taps) {
  return taps.before == 0 || p.fill != T{0};
}

template <class T>
bool kernels_take(const Pooling<T>& p, const Taps& taps, const Dimension& lane, bool with_index) {
  return lane.count >= current_target().kernels<T>().pool_lanes && !taps.offset.empty() &&
         (lane.source == 1 || (lane.source == 2 && !p.twice)) && lane.target == (p.twice ? 2 : 1) &&
         (!with_index || lane.index == 1) && (taps.fills == 0 || (!with_index && kernels_see(p, taps)));
}

// A box of windows that all see the same taps.
template <Kind kKind, Term kTerm, class T>
void pool_box(const Pooling<T>& p, const Taps& taps, std::vector<Dimension>& box, const T* source, T* target,
              std::int64_t* index, Index place) {
  using Lane = typename Vector<T>::Lane;
  std::swap(box[lane_dimension<T>(box)], box.back());
  // The others from far apart in the source to near, those of one value first.
  std::sort(box.begin(), box.end() - 1, [](const Dimension& a, const Dimension& b) {
    if ((a.count > 1) != (b.count > 1)) return b.count > 1;
    return std::abs(a.source) > std::abs(b.source);
  });
  const bool narrow = taps.place.empty() || *std::max_element(taps.place.begin(), taps.place.end()) <=
                                                Index{std::numeric_limits<Lane>::max()};
  int exponent;
  const bool exact = std::frexp(p.divisor, &exponent) == T{0.5};
  const Line<kTerm, T> line{
      taps, box.back(), p.divisor, exact ? T{1} / p.divisor : T{0}, p.norm, p.fill.value_or(T{0}), narrow};
  // Where a target's kernels take the lines: those of the dimension before the last one together.
  windrow::Pool<T> part{};
  const bool fast = kTerm == Term::kValue && narrow && kernels_take(p, taps, box.back(), index != nullptr);
  if (fast) {
    const Dimension& rows = box[box.size() - 2];
    part = {.source = source,
            .source_row = rows.source,
            .step = box.back().source,
            .offset = taps.offset.data(),
            .place = taps.place.data(),
            .taps = static_cast<Index>(taps.offset.size()),
            .target = target,
            .target_row = rows.target,
            .indices = index,
            .index_row = rows.index,
            .first_place = place,
            .place_row = rows.place,
            .place_step = box.back().place,
            .rows = rows.count,
            .count = box.back().count,
            .copy = p.copies.data(),
            .copies = static_cast<Index>(p.copies.size()),
            .chunk = kChunk,
            .divisor = p.divisor,
            .reciprocal = line.reciprocal,
            .border = kKind == Kind::kSum ? line.sum_of_fills()
                      : taps.fills > 0    ? line.fill
                                          : -std::numeric_limits<T>::infinity(),
            .twice = p.twice};
  }
  const std::size_t outer = box.size() - (fast ? 2 : 1);
  Extents at(outer, 0);
  for (;;) {
    if (fast) {
      part.source = source;
      part.target = target;
      part.indices = index;
      part.first_place = place;
      const KernelTable<T>& kernels = current_target().kernels<T>();
      kKind == Kind::kMax ? kernels.pool_max(part) : kernels.pool_sum(part);
    } else if constexpr (kKind == Kind::kMax) {
      line.max(source, target, index, place);
    } else {
      for (const Index copy : p.copies) {
        line.sum(source, target + copy);
        if (p.twice) line.sum(source, target + copy + 1);
      }
    }
    std::size_t i = outer;
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

// Adds an axis to the taps of a box: all combinations, row-major. From where it says, no place is before, and
// the place of a tap in a constant border is -1.
void add_axis(Taps& taps, const Extents& positions, Index from, Index source_stride, Index place_stride) {
  Extents offset, place;
  for (std::size_t t = 0; t < taps.offset.size(); ++t) {
    for (const Index position : positions) {
      const bool inside = taps.place[t] >= 0 && position >= 0;
      offset.push_back(inside ? taps.offset[t] + (position - from) * source_stride : 0);
      place.push_back(inside ? taps.place[t] + (position - from) * place_stride : -1);
    }
  }
  taps.offset = std::move(offset);
  taps.place = std::move(place);
}

// Takes the taps in a constant border out of the others.
void count_fills(Taps& taps) {
  Index kept = 0;
  for (std::size_t t = 0; t < taps.place.size(); ++t) {
    if (taps.place[t] < 0) {
      if (taps.fills++ == 0) taps.before = kept;
      continue;
    }
    const auto to = static_cast<std::size_t>(kept++);
    taps.offset[to] = taps.offset[t];
    taps.place[to] = taps.place[t];
  }
  taps.offset.resize(static_cast<std::size_t>(kept));
  taps.place.resize(static_cast<std::size_t>(kept));
}

// The windows at [first, end) along the first axis, of some images and channels.
template <Kind kKind, Term kTerm, class T>
void pool_part(const Pooling<T>& p, Index image, Index images, Index channel, Index channels, Index first,
               Index end, const Extents& place_stride) {
  const std::size_t rank = p.axes.size();
  std::vector<std::vector<Run>> along(rank);
  for (std::size_t i = 0; i < rank; ++i)
    along[i] = i == 0 ? runs_of(p, i, first, end) : runs_of(p, i, 0, p.axes[i].count);
  std::vector<std::size_t> which(rank, 0);
  std::vector<Dimension> box;
  for (;;) {
    const T* source = p.source + image * p.source_image + channel * p.source_channel;
    T* target = p.target + image * p.target_image + channel * p.target_channel;
    std::int64_t* index = p.indices;
    if (index) index += image * p.index_image + channel * p.index_channel;
    Index place = 0;
    box.assign({{images, p.source_image, p.target_image, p.index_image, 0},
                {channels, p.source_channel, p.target_channel, p.index_channel, 0}});
    Taps taps{.offset = {0}, .place = {0}};
    for (std::size_t i = 0; i < rank; ++i) {
      const PixelAxis& axis = p.axes[i];
      const Run& run = along[i][which[i]];
      const Index index_stride = index ? p.index_stride[i] : 0;
      const Extents positions = positions_of(p, i, run);
      Index at = axis.size;
      for (const Index position : positions)
        if (position >= 0) at = std::min(at, position);
      if (at == axis.size) at = 0;
      add_axis(taps, positions, at, axis.source_stride, place_stride[i]);
      source += at * axis.source_stride;
      place += at * place_stride[i];
      target += run.first * axis.target_stride;
      if (index) index += run.first * index_stride;
      box.push_back({run.count, axis.step * axis.source_stride, axis.target_stride, index_stride,
                     axis.step * place_stride[i]});
    }
    count_fills(taps);
    pool_box<kKind, kTerm>(p, taps, box, source, target, index, place);
    std::size_t i = rank;
    for (;;) {
      if (i-- == 0) return;
      if (++which[i] < along[i].size()) break;
      which[i] = 0;
    }
  }
}

// Pieces: images, channels where they do not lie side by side, and windows along the first axis.
struct Cut {
  Index images = 0, channels = 0, high = 0;  // of a piece
  Index blocks = 0, per_image = 0, pieces = 0;
  double work = 0;  // of all
};

template <class T>
Cut cut_of(const Pooling<T>& p) {
  Index row = 1, taps = 1;
  for (std::size_t i = 0; i < p.axes.size(); ++i) {
    if (i > 0) row *= p.axes[i].count;
    taps *= std::max<Index>(1, static_cast<Index>(p.axes[i].tap.size()));
  }
  const Index rows = p.axes[0].count;
  Cut cut;
  if (p.images == 0 || p.channels == 0 || row * rows == 0) return cut;
  const Index work = row * taps;  // of a row of one channel
  const auto fitting = [](Index unit, Index most) {
    return std::clamp<Index>(kPieceTaps / std::max<Index>(unit, 1), 1, most);
  };
  cut.channels = p.source_channel == 1 ? p.channels : fitting(work * rows, p.channels);
  cut.high = fitting(work * cut.channels, rows);
  const bool whole = cut.high == rows && cut.channels == p.channels;
  cut.images = whole ? fitting(work * cut.channels * rows, p.images) : 1;
  cut.blocks = ceil_div(rows, cut.high);
  cut.per_image = ceil_div(p.channels, cut.channels) * cut.blocks;
  cut.pieces = ceil_div(p.images, cut.images) * cut.per_image;
  cut.work = static_cast<double>(work * rows) * static_cast<double>(p.images * p.channels);
  return cut;
}

template <Kind kKind, Term kTerm, class T>
void run_pool(const Pooling<T>& p, const RunContext& context) {
  const Cut cut = cut_of(p);
  Extents place_stride(p.axes.size(), 1);
  for (std::size_t i = p.axes.size() - 1; i-- > 0;)
    place_stride[i] = place_stride[i + 1] * p.axes[i + 1].size;
  RunContext few = context;
  if (cut.work < kPieceTaps) few.threads = 1;
  parallel_for(few, cut.pieces, [&](Index piece) {
    const Index image = piece / cut.per_image * cut.images;
    const Index block = piece % cut.per_image;
    const Index channel = block / cut.blocks * cut.channels;
    const Index first = block % cut.blocks * cut.high;
    pool_part<kKind, kTerm>(p, image, std::min(cut.images, p.images - image), channel,
                            std::min(cut.channels, p.channels - channel), first,
                            std::min(first + cut.high, p.axes[0].count), place_stride);
  });
}

// The box of most windows, as `pool_part` would find it in a piece of whole images.
template <class T>
PoolPlan plan_pool(const Pooling<T>& p, const char* kernel, bool with_indices) {
  PoolPlan plan{.kernel = "lines", .lanes = 0, .along = 0, .share = 1, .pieces = cut_of(p).pieces};
  if (plan.pieces == 0) return plan;
  std::vector<Dimension> box{{p.images, p.source_image, p.target_image, p.index_image, 0},
                             {p.channels, p.source_channel, p.target_channel, p.index_channel, 0}};
  Taps taps{.offset = {0}, .place = {0}};
  for (std::size_t i = 0; i < p.axes.size(); ++i) {
    const PixelAxis& axis = p.axes[i];
    const std::vector<Run> runs = runs_of(p, i, 0, axis.count);
    const Run most = *std::max_element(runs.begin(), runs.end(),
                                       [](const Run& a, const Run& b) { return a.count < b.count; });
    plan.share *= static_cast<double>(most.count) / static_cast<double>(axis.count);
    if (most.inside0 == most.inside1) taps.offset = {};
    box.push_back({most.count, axis.step * axis.source_stride, axis.target_stride,
                   with_indices ? p.index_stride[i] : 0, 0});
  }
  plan.along = lane_dimension<T>(box);
  const Dimension& lane = box[plan.along];
  if (p.norm == 0 && kernels_take(p, taps, lane, with_indices)) {
    plan.kernel = kernel;
    plan.lanes = current_target().kernels<T>().pool_lanes;
  } else if (lane.count >= Vector<T>::kLanes) {
    plan.lanes = Vector<T>::kLanes;
  }
  return plan;
}

}  // namespace

template <class T>
PoolPlan plan_max_pool(const Pooling<T>& p, bool with_indices) {
  return plan_pool(p, "pool_max", with_indices);
}

template <class T>
PoolPlan plan_sum_pool(const Pooling<T>& p) {
  return plan_pool(p, "pool_sum", false);
}

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

template PoolPlan plan_max_pool(const Pooling<float>&, bool);
template PoolPlan plan_max_pool(const Pooling<double>&, bool);
template PoolPlan plan_sum_pool(const Pooling<float>&);
template PoolPlan plan_sum_pool(const Pooling<double>&);
template void run_max_pool(const Pooling<float>&, const RunContext&);
template void run_max_pool(const Pooling<double>&, const RunContext&);
template void run_sum_pool(const Pooling<float>&, const RunContext&);
template void run_sum_pool(const Pooling<double>&, const RunContext&);

}  // namespace windrow
