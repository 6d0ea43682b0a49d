#include "drivers/weight_gradient.hpp"

#include <algorithm>

#include "base/workspace.hpp"

namespace windrow {
namespace {

// These constants cut the sum over pixels, so they belong to the numerics plan: changing one changes bits of
// dw.
constexpr Index kStripElements =
    128 << 10;                        // of x in channels-last form: stays in a core's second-level cache
constexpr Index kStripChannels = 64;  // channels of a strip
constexpr Index kStripPixels = 4 * kChunk;        // reduction terms of one kernel call, as far as rows allow
constexpr Index kPartialElements = 512 << 10;     // sums that one piece of work holds
constexpr Index kPartialBytes = Index{32} << 20;  // partial sums of one call
constexpr Index kWantedPieces = 16;               // pieces of work that keep a few threads busy

Index product_of(const Extents& v) {
  Index p = 1;
  for (const Index x : v) p *= x;
  return p;
}

// The next index of a box, row-major; false after the last one.
bool advance(Extents& index, const Extents& extent) {
  for (std::size_t i = index.size(); i-- > 0;) {
    if (++index[i] < extent[i]) return true;
    index[i] = 0;
  }
  return false;
}

// How the problem is cut: boxes of output pixels whose input (with its halo) makes one strip, boxes of taps.
struct Cut {
  Extents pixels, taps;            // extents of a full box
  Extents pixel_boxes, tap_boxes;  // how many along each axis
  Index strip_positions;           // input positions of the largest strip
  Index channels, channel_blocks;
  Index rows, row_blocks;
  Index slots;  // the pixel boxes of all images in order, cut into this many sums of their own
};

// How much of everything one piece of work may hold, in elements.
struct Room {
  Index strip = kStripElements, channels = kStripChannels, pixels = kStripPixels, sums = kPartialElements;
  bool slots = true;
};

Index strip_positions(const std::vector<WindowAxis>& axes, const Extents& pixels, const Extents& taps) {
  Index count = 1;
  for (std::size_t i = 0; i < axes.size(); ++i)
    count *= (pixels[i] - 1) * axes[i].stride + (taps[i] - 1) * axes[i].dilation + 1;
  return count;
}

template <class T>
Cut cut(const WeightGradient<T>& p, const Room& room) {
  const std::size_t rank = p.axes.size();
  Cut c{};
  c.channels = std::max<Index>(1, std::min(p.channels, room.channels));
  c.channel_blocks = ceil_div(p.channels, c.channels);
  const Index limit = room.strip / c.channels;

  c.pixels.assign(rank, 1);
  for (const WindowAxis& axis : p.axes) c.taps.push_back(axis.kernel);
  for (std::size_t i = 0; i < rank; ++i) {
    while (c.taps[i] > 1 && strip_positions(p.axes, c.pixels, c.taps) > limit)
      c.taps[i] = ceil_div(c.taps[i], 2);
  }
  for (std::size_t i = rank; i-- > 0;) {
    const auto fits = [&](Index extent) {
      Extents wider = c.pixels;
      wider[i] = extent;
      return product_of(wider) <= room.pixels && strip_positions(p.axes, wider, c.taps) <= limit;
    };
    Index most = 1, too_many = p.axes[i].out + 1;
    while (too_many - most > 1) {
      const Index middle = most + (too_many - most) / 2;
      (fits(middle) ? most : too_many) = middle;
    }
    if (most == 0 || p.axes[i].out == 0) break;
    c.pixels[i] = ceil_div(p.axes[i].out, ceil_div(p.axes[i].out, most));
    if (c.pixels[i] < p.axes[i].out) break;
  }
  for (std::size_t i = 0; i < rank; ++i) {
    c.pixel_boxes.push_back(ceil_div(p.axes[i].out, c.pixels[i]));
    c.tap_boxes.push_back(ceil_div(p.axes[i].kernel, c.taps[i]));
  }
  c.strip_positions = strip_positions(p.axes, c.pixels, c.taps);

  const Index sums_per_row = product_of(c.taps) * c.channels;
  c.rows = std::clamp<Index>(room.sums / sums_per_row, 1, std::max<Index>(1, p.rows));
  c.row_blocks = ceil_div(p.rows, c.rows);

  const Index units = p.images * product_of(c.pixel_boxes);
  const Index pieces = p.groups * product_of(c.tap_boxes) * c.channel_blocks * c.row_blocks;
  const Index all_sums = p.groups * p.rows * p.channels;
  Index all_taps = 1;
  for (const WindowAxis& axis : p.axes) all_taps *= axis.kernel;
  const Index slot_bytes = std::max<Index>(1, all_sums * all_taps * Index{sizeof(T)});
  c.slots = pieces == 0 ? 1 : ceil_div(kWantedPieces, pieces);
  c.slots = std::min({c.slots, kPartialBytes / slot_bytes, ceil_div(units, 2)});
  c.slots = room.slots ? std::max<Index>(c.slots, 1) : 1;
  return c;
}

template <class T>
Index scratch_bytes(const Cut& c, const Target& target) {
  const Tile tile = tile_of<T>(target);
  const Index strip = c.strip_positions * c.channels + tile.columns();
  // Each run of lanes ends with a whole vector.
  const Index sums = c.rows * product_of(c.taps) * (c.channels + tile.lanes);
  return (strip + sums) * tile.bytes + product_of(c.pixels) * Index{sizeof(Step)};
}

// The usual cut, or under a limit a finer one, down to single channels, pixels and rows.
template <class T>
Cut cut_to_fit(const WeightGradient<T>& p, const Target& target) {
  Room room;
  room.slots = p.most_scratch == 0;
  Cut c = cut(p, room);
  while (p.most_scratch != 0 && scratch_bytes<T>(c, target) > p.most_scratch) {
    if (room.strip == 1 && room.sums == 1) break;
    room.strip = std::max<Index>(1, room.strip / 2);
    room.sums = std::max<Index>(1, room.sums / 2);
    room.pixels = std::max<Index>(1, std::min(room.pixels, room.sums));
    room.channels = std::max<Index>(1, std::min(room.channels, room.strip / 16));
    c = cut(p, room);
  }
  return c;
}

template <class T>
class Driver {
 public:
  Driver(const WeightGradient<T>& problem, const Target& target)
      : p_(problem),
        kernels_(target.kernels<T>()),
        cut_(cut_to_fit(problem, target)),
        rank_(problem.axes.size()),
        units_(problem.images * product_of(cut_.pixel_boxes)),
        tap_boxes_(product_of(cut_.tap_boxes)),
        all_taps_(1) {
    for (const WindowAxis& axis : p_.axes) all_taps_ *= axis.kernel;
    // Neighbouring taps of the last axis read neighbouring positions: then (tap, channel) is one run of
    // lanes.
    joint_taps_ = p_.axes.back().dilation == 1;
  }

  void run(const RunContext& context) const {
    const Index pieces = p_.groups * tap_boxes_ * cut_.channel_blocks * cut_.row_blocks;
    if (cut_.slots == 1) {
      parallel_for(context, pieces, [&](Index piece) { run_piece(piece, 0, nullptr); });
      return;
    }
    Scratch scratch;
    const Index count = p_.groups * p_.rows * p_.channels * all_taps_;
    T* partial = scratch.take<T>(count * cut_.slots);
    parallel_for(context, pieces * cut_.slots, [&](Index i) {
      run_piece(i / cut_.slots, i % cut_.slots, partial + i % cut_.slots * count);
    });
    const Index sums = p_.rows * p_.channels * all_taps_;
    parallel_for(context, p_.groups * p_.rows,
                 [&](Index row) { add_slots(row, partial, sums / std::max<Index>(1, p_.rows), count); });
  }

  WeightGradientCost cost(Index scratch_bytes) const {
    const Index partial = cut_.slots == 1 ? 0 : p_.groups * p_.rows * p_.channels * all_taps_ * cut_.slots;
    return {.scratch_bytes = scratch_bytes,
            .partial_bytes = partial * Index{sizeof(T)},
            .pieces = p_.groups * tap_boxes_ * cut_.channel_blocks * cut_.row_blocks * cut_.slots,
            .slots = cut_.slots};
  }

 private:
  Index nr() const { return Index{kernels_.lanes} * kernels_.vectors; }
  Index strip_elements() const { return cut_.strip_positions * cut_.channels + nr(); }

  // What one piece works on.
  struct Part {
    Index group, channel, channels, row, rows;
    Extents tap, taps;  // first tap and extents of the tap box
    Index lane_run;     // lanes side by side: (taps of the last axis, channels), or channels
    Index lane_runs;    // of those
    Index lane_width;   // lane_run, rounded up to whole vectors
  };

  Part part(Index piece) const {
    Part part;
    const Index row_block = piece % cut_.row_blocks;
    piece /= cut_.row_blocks;
    const Index channel_block = piece % cut_.channel_blocks;
    piece /= cut_.channel_blocks;
    Index tap_box = piece % tap_boxes_;
    part.group = piece / tap_boxes_;
    part.channel = channel_block * cut_.channels;
    part.channels = std::min(cut_.channels, p_.channels - part.channel);
    part.row = row_block * cut_.rows;
    part.rows = std::min(cut_.rows, p_.rows - part.row);
    part.tap.resize(rank_);
    part.taps.resize(rank_);
    for (std::size_t i = rank_; i-- > 0;) {
      part.tap[i] = tap_box % cut_.tap_boxes[i] * cut_.taps[i];
      tap_box /= cut_.tap_boxes[i];
      part.taps[i] = std::min(cut_.taps[i], p_.axes[i].kernel - part.tap[i]);
    }
    part.lane_run = joint_taps_ ? part.taps.back() * part.channels : part.channels;
    part.lane_runs = product_of(part.taps) * part.channels / part.lane_run;
    part.lane_width = round_up(part.lane_run, kernels_.lanes);
    return part;
  }

  // Sums the slot's share of the pixel boxes, and writes to dw, or to `partial` (laid out as a C-ordered dw).
  void run_piece(Index piece, Index slot, T* partial) const {
    const Part part = this->part(piece);
    Scratch scratch;
    T* strip = scratch.take<T>(strip_elements());
    T* sums = scratch.take<T>(part.rows * part.lane_runs * part.lane_width);
    const Index box_pixels = product_of(cut_.pixels);
    auto* steps = scratch.take<Step>(box_pixels);

    bool first = true;
    const Index unit0 = units_ * slot / cut_.slots;
    const Index unit1 = units_ * (slot + 1) / cut_.slots;
    for (Index unit = unit0; unit < unit1; ++unit) {
      Extents low(rank_), extent(rank_), strip_low(rank_), strip_extent(rank_);
      Index rest = unit;
      for (std::size_t i = rank_; i-- > 0;) {
        const WindowAxis& axis = p_.axes[i];
        low[i] = rest % cut_.pixel_boxes[i] * cut_.pixels[i];
        rest /= cut_.pixel_boxes[i];
        extent[i] = std::min(cut_.pixels[i], axis.out - low[i]);
        strip_low[i] = low[i] * axis.stride + part.tap[i] * axis.dilation - axis.before;
        strip_extent[i] = (extent[i] - 1) * axis.stride + (part.taps[i] - 1) * axis.dilation + 1;
      }
      fill_strip(part, rest, strip_low, strip_extent, strip);
      const Index pixels = pixel_steps(part, low, extent, strip_extent, steps);
      add_box(part, p_.dy + rest * p_.dy_image, pixels, steps, strip, strip_extent, !first, sums);
      first = false;
    }
    if (first) std::fill_n(sums, part.rows * part.lane_runs * part.lane_width, T{0});
    write(part, sums, partial);
  }

  // Copies the part of x that the box's windows see, zeros where that is outside, as [position][channel].
  void fill_strip(const Part& part, Index image, const Extents& low, const Extents& extent, T* strip) const {
    const T* x = p_.x + image * p_.x_image + (part.group * p_.channels + part.channel) * p_.x_channel;
    const std::size_t last = rank_ - 1;
    const Index row = extent[last] * part.channels;
    const Index from = std::clamp<Index>(-low[last], 0, extent[last]);
    const Index to = std::clamp<Index>(p_.axes[last].size - low[last], from, extent[last]);
    Extents outer(extent.begin(), extent.end() - 1), at(last, 0);
    do {
      Index offset = 0;
      bool inside = to > from;
      for (std::size_t i = 0; i < last; ++i) {
        const Index position = low[i] + at[i];
        inside = inside && position >= 0 && position < p_.axes[i].size;
        offset += position * p_.x_stride[i];
      }
      if (inside) {
        std::fill_n(strip, from * part.channels, T{0});
        copy_row(part, x + offset + (low[last] + from) * p_.x_stride[last], to - from,
                 strip + from * part.channels);
        std::fill_n(strip + to * part.channels, (extent[last] - to) * part.channels, T{0});
      } else {
        std::fill_n(strip, row, T{0});
      }
      strip += row;
    } while (advance(at, outer));
    std::fill_n(strip, nr(), T{0});  // the last panel may read past its lanes
  }

  void copy_row(const Part& part, const T* x, Index positions, T* strip) const {
    if (p_.x_stride.back() == 1) {
      kernels_.transpose({.target = strip,
                          .target_row = part.channels,
                          .source = x,
                          .source_row = p_.x_channel,
                          .rows = positions,
                          .columns = part.channels});
      return;
    }
    for (Index i = 0; i < positions; ++i)
      for (Index c = 0; c < part.channels; ++c)
        strip[i * part.channels + c] = x[i * p_.x_stride.back() + c * p_.x_channel];
  }

  Index pixel_steps(const Part& part, const Extents& low, const Extents& extent, const Extents& strip_extent,
                    Step* steps) const {
    Index count = 0;
    Extents at(rank_, 0);
    do {
      Index dy = 0, position = 0;
      for (std::size_t i = 0; i < rank_; ++i) {
        dy += (low[i] + at[i]) * p_.dy_stride[i];
        position = position * strip_extent[i] + at[i] * p_.axes[i].stride;
      }
      steps[count++] = {.a = dy, .b = position * part.channels};
    } while (advance(at, extent));
    return count;
  }

  void add_box(const Part& part, const T* dy, Index pixels, const Step* steps, const T* strip,
               const Extents& strip_extent, bool accumulate, T* sums) const {
    const Index sums_row = part.lane_runs * part.lane_width;
    for (Index run = 0; run < part.lane_runs; ++run) {
      const T* run_strip = strip + run_position(part, run, strip_extent) * part.channels;
      for (Index m = 0; m < part.rows; m += kernels_.rows) {
        const int rows = static_cast<int>(std::min<Index>(kernels_.rows, part.rows - m));
        for (Index lane = 0; lane < part.lane_run; lane += nr()) {
          const Index lanes = std::min(nr(), part.lane_run - lane);
          kernels_.product({.a = dy + (part.group * p_.rows + part.row + m) * p_.dy_channel,
                            .a_row = p_.dy_channel,
                            .b = run_strip + lane,
                            .step = steps,
                            .c = sums + m * sums_row + run * part.lane_width + lane,
                            .c_row = sums_row,
                            .k = pixels,
                            .accumulate = accumulate,
                            .bias = nullptr},
                           rows, static_cast<int>(ceil_div(lanes, kernels_.lanes)));
        }
      }
    }
  }

  // Where the first tap of a run of lanes lies in the strip, in positions.
  Index run_position(const Part& part, Index run, const Extents& strip_extent) const {
    Extents tap(rank_, 0);
    std::size_t i = rank_;
    if (joint_taps_) --i;
    while (i-- > 0) {
      tap[i] = run % part.taps[i];
      run /= part.taps[i];
    }
    Index position = 0;
    for (std::size_t j = 0; j < rank_; ++j)
      position = position * strip_extent[j] + tap[j] * p_.axes[j].dilation;
    return position;
  }

  // sums [row][run][lane] -> [row][channel][tap], in dw or in a slot's partial sums
  void write(const Part& part, const T* sums, T* partial) const {
    const Index sums_row = part.lane_runs * part.lane_width;
    const Index inner_taps = joint_taps_ ? part.taps.back() : 1;
    for (Index m = 0; m < part.rows; ++m, sums += sums_row) {
      const Index row = part.group * p_.rows + part.row + m;
      Extents at(rank_, 0);
      Index tap = 0;
      do {
        const T* from = sums + tap / inner_taps * part.lane_width + tap % inner_taps * part.channels;
        if (partial) {
          Index flat = 0;
          for (std::size_t i = 0; i < rank_; ++i) flat = flat * p_.axes[i].kernel + part.tap[i] + at[i];
          T* to = partial + (row * p_.channels + part.channel) * all_taps_ + flat;
          for (Index c = 0; c < part.channels; ++c) to[c * all_taps_] = from[c];
        } else {
          T* to = p_.dw + row * p_.dw_row + part.channel * p_.dw_channel;
          for (std::size_t i = 0; i < rank_; ++i) to += (part.tap[i] + at[i]) * p_.dw_stride[i];
          for (Index c = 0; c < part.channels; ++c) put(to[c * p_.dw_channel], from[c]);
        }
        ++tap;
      } while (advance(at, part.taps));
    }
  }

  void put(T& to, T value) const { to = p_.accumulate ? to + value : value; }

  // Adds the slots of one row of dw, in order.
  void add_slots(Index row, const T* partial, Index row_sums, Index slot_stride) const {
    partial += row * row_sums;
    Extents extent, at(rank_, 0);
    for (const WindowAxis& axis : p_.axes) extent.push_back(axis.kernel);
    for (Index c = 0; c < p_.channels; ++c) {
      do {
        T* to = p_.dw + row * p_.dw_row + c * p_.dw_channel;
        for (std::size_t i = 0; i < rank_; ++i) to += at[i] * p_.dw_stride[i];
        T total = *partial;
        for (Index slot = 1; slot < cut_.slots; ++slot) total += partial[slot * slot_stride];
        put(*to, total);
        ++partial;
      } while (advance(at, extent));
    }
  }

  const WeightGradient<T>& p_;
  const KernelTable<T>& kernels_;
  const Cut cut_;
  const std::size_t rank_;
  const Index units_, tap_boxes_;
  Index all_taps_;
  bool joint_taps_;
};

}  // namespace

template <class T>
void run_weight_gradient(const WeightGradient<T>& problem, const Target& target, const RunContext& context) {
  Driver<T>(problem, target).run(context);
}

template <class T>
WeightGradientCost weight_gradient_cost(const WeightGradient<T>& problem, const Target& target) {
  return Driver<T>(problem, target).cost(scratch_bytes<T>(cut_to_fit(problem, target), target));
}

template void run_weight_gradient(const WeightGradient<float>&, const Target&, const RunContext&);
template void run_weight_gradient(const WeightGradient<double>&, const Target&, const RunContext&);
template WeightGradientCost weight_gradient_cost(const WeightGradient<float>&, const Target&);
template WeightGradientCost weight_gradient_cost(const WeightGradient<double>&, const Target&);

}  // namespace windrow
