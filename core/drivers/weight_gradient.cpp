#include "drivers/weight_gradient.hpp"

#include <algorithm>
#include <utility>

#include "base/workspace.hpp"
#include "drivers/ahead.hpp"
#include "drivers/tiles.hpp"
#include "drivers/weight_cut.hpp"

namespace windrow {
namespace {

constexpr Index kCallsAhead = 8;  // of the kernel, for a box whose successor is to be fetched meanwhile

template <class T>
class Driver {
 public:
  Driver(const WeightGradient<T>& problem, const Target& target)
      : p_(problem),
        kernels_(target.kernels<T>()),
        cut_(cut_to_fit(problem, target)),
        rank_(problem.axes.size()),
        boxes_(product_of(cut_.pixel_boxes)),
        units_(units_of(problem, cut_)),
        tap_boxes_(product_of(cut_.tap_boxes)),
        all_taps_(1) {
    for (std::size_t i = rank_; i-- > 0;) {
      in_order_ = in_order_ && p_.dw_stride[i] == all_taps_;
      all_taps_ *= p_.axes[i].kernel;
    }
    in_order_ = in_order_ && p_.dw_channel == all_taps_;
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

  WeightGradientCost cost(const Target& target) const {
    const Index partial = cut_.slots == 1 ? 0 : p_.groups * p_.rows * p_.channels * all_taps_ * cut_.slots;
    // Those of a chunk, then one for each chunk of the slot (the boxes begin new ones), then one for each
    // slot.
    const Index box_pixels = product_of(cut_.pixels) * cut_.images;
    const Index chunks = ceil_div(units_, cut_.slots) * ceil_div(box_pixels, kChunk);
    return {.scratch_bytes = scratch_bytes<T>(cut_, target),
            .partial_bytes = partial * Index{sizeof(T)},
            .pieces = p_.groups * tap_boxes_ * cut_.channel_blocks * cut_.row_blocks * cut_.slots,
            .slots = cut_.slots,
            .roundings = std::min(box_pixels, Index{kChunk}) + chunks + cut_.slots - 1};
  }

 private:
  static constexpr Index kLine = 64 / sizeof(T);

  Index nr() const { return Index{kernels_.lanes} * kernels_.vectors; }
  Index strip_elements() const { return cut_.strip_positions * cut_.images * cut_.channels + nr(); }

  // What one piece works on.
  struct Part {
    Index group, channel, channels, row, rows;
    Extents tap, taps;  // first tap and extents of the tap box
    Index run_taps;     // taps whose channels lie side by side, which makes a run of lanes
    Index lane_run;     // run_taps * channels
    Index lane_runs;    // how many runs
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
    part.run_taps = cut_.rows_of_taps ? product_of(part.taps) : run_taps(p_.axes, part.taps);
    part.lane_run = part.run_taps * part.channels;
    part.lane_runs = product_of(part.taps) / part.run_taps;
    part.lane_width = round_up(part.lane_run, kernels_.lanes);
    return part;
  }

  // Where the sums of a piece are held: [row][run of lanes][lane].
  struct Sums {
    T* data;
    Index row;
  };

  // One tap whose channels fill their vectors and lie side by side is summed where it belongs: in dw, or in
  // the partial sums, laid out as a C-ordered dw.
  bool sums_in_place(const Part& part, const T* partial) const {
    return all_taps_ == 1 && part.channels % kernels_.lanes == 0 &&
           (partial || (p_.dw_channel == 1 && !p_.accumulate));
  }
  Sums place(const Part& part, T* partial) const {
    const Index row = partial ? p_.channels : p_.dw_row;
    T* result = partial ? partial : p_.dw;
    return {.data = result + (part.group * p_.rows + part.row) * row + part.channel, .row = row};
  }

  // Sums the slot's share of the units, and writes to dw, or to `partial` (laid out as a C-ordered dw).
  void run_piece(Index piece, Index slot, T* partial) const {
    const Part part = this->part(piece);
    Scratch scratch;
    T* strip = scratch.take<T>(strip_elements());
    const Index width = part.lane_runs * part.lane_width;
    const bool in_place = sums_in_place(part, partial);
    const Sums sums = in_place ? place(part, partial) : Sums{scratch.take<T>(part.rows * width), width};
    const Index most_pixels = product_of(cut_.pixels) * cut_.images;
    auto* steps = scratch.take<Step>(most_pixels);
    T* rows = cut_.rows_of_taps ? scratch.take<T>(most_pixels * part.lane_run + nr()) : nullptr;

    const Index calls = part.lane_runs * ceil_div(part.rows, kernels_.rows) * ceil_div(part.lane_run, nr());
    const Index unit0 = units_ * slot / cut_.slots;
    const Index unit1 = units_ * (slot + 1) / cut_.slots;
    PixelBox box, stepped;
    Index pixels = 0;  // that the steps lead to
    if (unit0 < unit1) box = box_of(part, unit0);
    for (Index unit = unit0; unit < unit1; ++unit) {
      checkpoint();
      const Index strip_image = product_of(box.seen) * part.channels;
      for (Index i = 0; i < box.images; ++i)
        fill_strip(part, box.image + i, box.first_seen, box.seen, strip + i * strip_image);
      // Most boxes differ from the one before them only in where they begin. `fill_rows` changes the steps.
      if (rows || box.extent != stepped.extent || box.images != stepped.images) {
        pixels = pixel_steps(part, box.extent, box.seen, box.images, steps);
        stepped = box;
      }
      if (rows) fill_rows(part, strip, box.seen, steps, pixels, rows);
      PixelBox next;
      Ahead ahead;
      if (unit + 1 < unit1) {
        next = box_of(part, unit + 1);
        if (calls >= kCallsAhead) ahead = lines_of(part, next, calls);
      }
      const T* dy = p_.dy + box.image * p_.dy_image;
      for (std::size_t i = 0; i < rank_; ++i) dy += box.first[i] * p_.dy_stride[i];
      add_box(part, dy, pixels, steps, rows ? rows : strip, box.seen, unit > unit0, sums, ahead);
      box = std::move(next);
    }
    if (unit0 == unit1) {
      for (Index m = 0; m < part.rows; ++m)
        std::fill_n(sums.data + m * sums.row, in_place ? part.channels : width, T{0});
    }
    if (!in_place) write(part, sums.data, partial);
  }

  // Boxes of output pixels that are summed over together, and the input positions that they see.
  struct PixelBox {
    Index image = 0, images = 0;
    Extents first, extent, first_seen, seen;
  };

  PixelBox box_of(const Part& part, Index unit) const {
    const Index image = unit / boxes_ * cut_.images;
    PixelBox box{.image = image,
                 .images = std::min(cut_.images, p_.images - image),
                 .first = Extents(rank_),
                 .extent = Extents(rank_),
                 .first_seen = Extents(rank_),
                 .seen = Extents(rank_)};
    Index rest = unit % boxes_;
    for (std::size_t i = rank_; i-- > 0;) {
      const WindowAxis& axis = p_.axes[i];
      box.first[i] = rest % cut_.pixel_boxes[i] * cut_.pixels[i];
      rest /= cut_.pixel_boxes[i];
      box.extent[i] = std::min(cut_.pixels[i], axis.out - box.first[i]);
      box.first_seen[i] = box.first[i] * axis.stride + part.tap[i] * axis.dilation - axis.before;
      box.seen[i] = (box.extent[i] - 1) * axis.stride + (part.taps[i] - 1) * axis.dilation + 1;
    }
    return box;
  }

  // What a box reads of x and of dy: fetched while the one before it is multiplied, since its runs are too
  // short for the processor to read ahead in them.
  struct Ahead {
    LinesAhead<T> x, dy;
  };

  Ahead lines_of(const Part& part, const PixelBox& box, Index calls) const {
    const T* x = p_.x + box.image * p_.x_image + (part.group * p_.channels + part.channel) * p_.x_channel;
    const T* dy = p_.dy + box.image * p_.dy_image + (part.group * p_.rows + part.row) * p_.dy_channel;
    Ahead ahead{
        .x = lines_of(x, p_.x_stride, &WindowAxis::size, box.first_seen, box.seen, p_.x_channel,
                      part.channels),
        .dy = lines_of(dy, p_.dy_stride, &WindowAxis::out, box.first, box.extent, p_.dy_channel, part.rows)};
    ahead.x.share(calls);
    ahead.dy.share(calls);
    return ahead;
  }

  // Those of one image, of arrays whose rows lie without gaps; none where rows lie along more than one axis.
  LinesAhead<T> lines_of(const T* image, const Extents& stride, Index WindowAxis::* size,
                         const Extents& first, const Extents& extent, Index plane, Index planes) const {
    if (stride.back() != 1) return {};
    Extents low(rank_), count(rank_);
    for (std::size_t i = 0; i < rank_; ++i) {
      low[i] = std::clamp<Index>(-first[i], 0, extent[i]);
      count[i] = std::clamp<Index>(p_.axes[i].*size - first[i], low[i], extent[i]) - low[i];
      if (count[i] == 0) return {};
      image += (first[i] + low[i]) * stride[i];
    }
    Index row = count.back();
    std::size_t outer = rank_ - 1;
    while (outer > 0 && stride[outer - 1] == row) row *= count[--outer];
    for (std::size_t i = 0; i + 1 < outer; ++i)
      if (count[i] != 1) return {};
    const Index lines = ceil_div(row, kLine) + 1;  // a run may begin within a line
    if (outer == 0) return {image, plane, planes, lines};
    return {image, plane, planes, lines, stride[outer - 1], count[outer - 1]};
  }

  // Copies the part of x that the box's windows see, with its border, as [position][channel].
  void fill_strip(const Part& part, Index image, const Extents& low, const Extents& extent, T* strip) const {
    const T* x = p_.x + image * p_.x_image + (part.group * p_.channels + part.channel) * p_.x_channel;
    // Axes that are taken whole and lie without gaps are one row with the axis before them.
    std::size_t along = rank_ - 1;
    Index inner = 1;
    while (along > 0 && low[along] == 0 && extent[along] == p_.axes[along].size &&
           p_.x_stride[along - 1] == p_.axes[along].size * p_.x_stride[along]) {
      inner *= extent[along--];
    }
    const WindowAxis& axis = p_.axes[along];
    const Index step = inner * part.channels;  // from position to position of that row
    const Index from = std::clamp<Index>(-low[along], 0, extent[along]);
    const Index to = std::clamp<Index>(axis.size - low[along], from, extent[along]);
    Extents outer(extent.begin(), extent.begin() + static_cast<std::ptrdiff_t>(along)), at(along, 0);
    do {
      const T* row = x;
      bool is_constant = false;
      for (std::size_t i = 0; i < along; ++i) {
        const Index position = p_.axes[i].at(low[i] + at[i]);
        is_constant = is_constant || position < 0;
        row += position * p_.x_stride[i];
      }
      const auto copy = [&](Index first, Index position, Index count) {
        copy_row(part, row + position * p_.x_stride[along], count * inner,
                 along > 0 ? p_.x_stride[along - 1] : 0, strip + first * step);
      };
      const auto fill_border = [&](Index begin, Index end) {
        if (axis.border == Border::kConstant)
          std::fill_n(strip + begin * step, (end - begin) * step, p_.fill);
        for (Index j = begin; axis.border != Border::kConstant && j < end; ++j)
          copy(j, axis.at(low[along] + j), 1);
      };
      if (is_constant) {
        std::fill_n(strip, extent[along] * step, p_.fill);
      } else {
        fill_border(0, from);
        if (from < to) copy(from, low[along] + from, to - from);
        fill_border(to, extent[along]);
      }
      strip += extent[along] * step;
    } while (advance(at, outer));
    std::fill_n(strip, nr(), T{0});  // the last panel may read past its lanes
  }

  // `ahead`: from this row to the next one.
  void copy_row(const Part& part, const T* x, Index positions, Index ahead, T* strip) const {
    if (p_.x_stride.back() == 1) {
      kernels_.transpose({.target = strip,
                          .target_row = part.channels,
                          .source = x,
                          .source_row = p_.x_channel,
                          .rows = positions,
                          .columns = part.channels,
                          .ahead = ahead});
      return;
    }
    if (p_.x_channel == 1 && p_.x_stride.back() == part.channels) {
      std::copy_n(x, positions * part.channels, strip);
      return;
    }
    for (Index i = 0; i < positions; ++i)
      for (Index c = 0; c < part.channels; ++c)
        strip[i * part.channels + c] = x[i * p_.x_stride.back() + c * p_.x_channel];
  }

  // From the first pixel of a box to each of its pixels in dy and in the strip, image after image.
  Index pixel_steps(const Part& part, const Extents& extent, const Extents& strip_extent, Index images,
                    Step* steps) const {
    Index count = 0;
    Extents at(rank_, 0);
    do {
      Index dy = 0, position = 0;
      for (std::size_t i = 0; i < rank_; ++i) {
        dy += at[i] * p_.dy_stride[i];
        position = position * strip_extent[i] + at[i] * p_.axes[i].stride;
      }
      steps[count++] = {.a = dy, .b = position * part.channels};
    } while (advance(at, extent));
    const Index strip_image = product_of(strip_extent) * part.channels;
    for (Index i = count; i < count * images; ++i)
      steps[i] = {.a = steps[i - count].a + p_.dy_image, .b = steps[i - count].b + strip_image};
    return count * images;
  }

  // Copies, for each pixel, the channels of all its taps side by side; the steps then lead there.
  void fill_rows(const Part& part, const T* strip, const Extents& strip_extent, Step* steps, Index pixels,
                 T* rows) const {
    const Index together = run_taps(p_.axes, part.taps);
    const Index count = together * part.channels;
    Extents offset;
    for (Index tap = 0; tap < part.run_taps; tap += together)
      offset.push_back(tap_position(part, tap, strip_extent) * part.channels);
    kernels_.runs({.target = rows,
                   .target_row = part.lane_run,
                   .source = strip,
                   .step = steps,
                   .rows = pixels,
                   .offset = offset.data(),
                   .runs = static_cast<Index>(offset.size()),
                   .count = count});
    for (Index i = 0; i < pixels; ++i) steps[i].b = i * part.lane_run;
    std::fill_n(rows + pixels * part.lane_run, nr(), T{0});  // the last panel may read past its lanes
  }

  void add_box(const Part& part, const T* dy, Index pixels, const Step* steps, const T* strip,
               const Extents& strip_extent, bool accumulate, const Sums& sums, Ahead& ahead) const {
    const Index vectors = ceil_div(part.lane_run, kernels_.lanes),
                tiles = ceil_div(vectors, kernels_.vectors);
    for (Index run = 0; run < part.lane_runs; ++run) {
      const T* run_strip = strip + tap_position(part, run * part.run_taps, strip_extent) * part.channels;
      for (Index m = 0; m < part.rows; m += kernels_.rows) {
        const int rows = static_cast<int>(std::min<Index>(kernels_.rows, part.rows - m));
        for (Index tile = 0; tile < tiles; ++tile) {
          const Index first = vectors * tile / tiles, lane = first * kernels_.lanes;
          ahead.x.fetch();
          ahead.dy.fetch();
          kernels_.product({.a = dy + (part.group * p_.rows + part.row + m) * p_.dy_channel,
                            .a_row = p_.dy_channel,
                            .b = run_strip + lane,
                            .step = steps,
                            .c = sums.data + m * sums.row + run * part.lane_width + lane,
                            .c_row = sums.row,
                            .k = pixels,
                            .accumulate = accumulate,
                            .bias = nullptr},
                           rows, static_cast<int>(vectors * (tile + 1) / tiles - first));
        }
      }
    }
  }

  // Where a tap of the box lies in the strip, in positions from a pixel's first one.
  Index tap_position(const Part& part, Index tap, const Extents& strip_extent) const {
    Index position = 0, scale = 1;
    for (std::size_t i = rank_; i-- > 0;) {
      position += tap % part.taps[i] * p_.axes[i].dilation * scale;
      tap /= part.taps[i];
      scale *= strip_extent[i];
    }
    return position;
  }

  // sums [row][run][tap][channel] -> [row][channel][tap], in dw or in a slot's partial sums
  void write(const Part& part, const T* sums, T* partial) const {
    T* result = partial ? partial : p_.dw;
    const Index result_row = partial ? p_.channels * all_taps_ : p_.dw_row;
    const Index result_channel = partial ? all_taps_ : p_.dw_channel;
    const bool add = p_.accumulate && !partial;
    const Extents offset = tap_offsets(part, partial != nullptr);
    // Runs without gaps between them are one.
    const Index run_taps = part.lane_width == part.lane_run ? product_of(part.taps) : part.run_taps;
    const Index runs = product_of(part.taps) / run_taps;
    bool neighbours = true;  // whether the taps of a run are neighbours in the result
    for (std::size_t tap = 0; tap < offset.size(); ++tap)
      neighbours =
          neighbours && (static_cast<Index>(tap) % run_taps == 0 || offset[tap] == offset[tap - 1] + 1);
    for (Index m = 0; m < part.rows; ++m) {
      T* row = result + (part.group * p_.rows + part.row + m) * result_row + part.channel * result_channel;
      for (Index run = 0; run < runs; ++run) {
        const T* from =
            sums + m * part.lane_runs * part.lane_width + run * run_taps / part.run_taps * part.lane_width;
        const Index* to = offset.data() + run * run_taps;
        if (!add && run_taps == 1 && result_channel == 1) {
          std::copy_n(from, part.channels, row + to[0]);
          continue;
        }
        if (!add && neighbours) {
          kernels_.transpose({.target = row + to[0],
                              .target_row = result_channel,
                              .source = from,
                              .source_row = part.channels,
                              .rows = part.channels,
                              .columns = run_taps,
                              .ahead = 0});
          continue;
        }
        for (Index tap = 0; tap < run_taps; ++tap)
          for (Index c = 0; c < part.channels; ++c) {
            T& sum = row[to[tap] + c * result_channel];
            sum = add ? sum + from[tap * part.channels + c] : from[tap * part.channels + c];
          }
      }
    }
  }

  // Where each tap of the box goes in dw, or in partial sums laid out as a C-ordered dw.
  Extents tap_offsets(const Part& part, bool c_ordered) const {
    Extents offsets, at(rank_, 0);
    do {
      Index flat = 0, strided = 0;
      for (std::size_t i = 0; i < rank_; ++i) {
        flat = flat * p_.axes[i].kernel + part.tap[i] + at[i];
        strided += (part.tap[i] + at[i]) * p_.dw_stride[i];
      }
      offsets.push_back(c_ordered ? flat : strided);
    } while (advance(at, part.taps));
    return offsets;
  }

  // Adds the slots of one row of dw, in order.
  void add_slots(Index row, T* partial, Index row_sums, Index slot_stride) const {
    partial += row * row_sums;
    for (Index slot = 1; slot < cut_.slots; ++slot) {
      const T* more = partial + slot * slot_stride;
      for (Index i = 0; i < row_sums; ++i) partial[i] += more[i];
    }
    T* dw = p_.dw + row * p_.dw_row;
    if (in_order_) {
      for (Index i = 0; i < row_sums; ++i) dw[i] = p_.accumulate ? dw[i] + partial[i] : partial[i];
      return;
    }
    Extents extent, at(rank_, 0);
    for (const WindowAxis& axis : p_.axes) extent.push_back(axis.kernel);
    for (Index c = 0; c < p_.channels; ++c) {
      do {
        T* to = dw + c * p_.dw_channel;
        for (std::size_t i = 0; i < rank_; ++i) to += at[i] * p_.dw_stride[i];
        *to = p_.accumulate ? *to + *partial : *partial;
        ++partial;
      } while (advance(at, extent));
    }
  }

  const WeightGradient<T>& p_;
  const KernelTable<T>& kernels_;
  const WeightCut cut_;
  const std::size_t rank_;
  const Index boxes_, units_, tap_boxes_;
  Index all_taps_;
  bool in_order_ = true;  // a row of dw lies as a C-ordered one does
};

}  // namespace

template <class T>
void run_weight_gradient(const WeightGradient<T>& problem, const Target& target, const RunContext& context) {
  Driver<T>(problem, target).run(context);
}

template <class T>
WeightGradientCost weight_gradient_cost(const WeightGradient<T>& problem, const Target& target) {
  return Driver<T>(problem, target).cost(target);
}

template void run_weight_gradient(const WeightGradient<float>&, const Target&, const RunContext&);
template void run_weight_gradient(const WeightGradient<double>&, const Target&, const RunContext&);
template WeightGradientCost weight_gradient_cost(const WeightGradient<float>&, const Target&);
template WeightGradientCost weight_gradient_cost(const WeightGradient<double>&, const Target&);

}  // namespace windrow
