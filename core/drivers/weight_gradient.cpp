#include "drivers/weight_gradient.hpp"

#include <algorithm>
#include <utility>

#include "base/workspace.hpp"
#include "drivers/tiles.hpp"
#include "drivers/weight_boxes.hpp"
#include "drivers/weight_lanes.hpp"
#include "drivers/weight_result.hpp"

namespace windrow {
namespace {

constexpr Index kNearRows = 4;    // for each lane of a tile
constexpr Index kCallsAhead = 8;  // of the kernel, for a box whose successor is to be fetched meanwhile

template <class T>
class Driver {
 public:
  Driver(const WeightGradient<T>& problem, const Target& target)
      : p_(problem),
        kernels_(target.kernels<T>()),
        cut_(cut_to_fit(problem, target)),
        rank_(problem.axes.size()),
        boxes_(problem, cut_, kernels_),
        lanes_(problem, cut_, kernels_),
        units_(units_of(problem, cut_)),
        tap_boxes_(product_of(cut_.tap_boxes)),
        result_(problem, kernels_) {}

  void run(const RunContext& context) const {
    const Index pieces = p_.groups * tap_boxes_ * cut_.channel_blocks * cut_.row_blocks;
    if (cut_.slots == 1) {
      parallel_for(context, pieces, [&](Index piece) { run_piece(piece, 0, nullptr); });
      return;
    }
    Scratch scratch;
    T* partial = scratch.take<T>(result_.elements() * cut_.slots);
    parallel_for(context, pieces * cut_.slots, [&](Index i) {
      const Index slot = cut_.slot_by_slot ? i / pieces : i % cut_.slots;
      run_piece(cut_.slot_by_slot ? i % pieces : i / cut_.slots, slot, partial + slot * result_.elements());
    });
    result_.add_slots(partial, cut_.slots, context);
  }

  WeightGradientCost cost(const Target& target) const {
    const Index partial = cut_.slots == 1 ? 0 : result_.elements() * cut_.slots;
    // Those of a chunk, then one for each chunk of the slot (the boxes begin new ones), then one for each
    // slot.
    const Index box_pixels = product_of(cut_.pixels) * cut_.images;
    const Index chunks = ceil_div(units_, cut_.slots) * ceil_div(box_pixels, kChunk);
    const Index usual = cut_.strip_positions * cut_.images * cut_.channels + nr();
    const Index strips = (lanes_.x_in_place() ? 0 : boxes_.strip_elements()) - usual;
    const Index not_held = cut_.rows - held_rows(cut_.rows, ceil_div(units_, cut_.slots));
    return {.scratch_bytes = scratch_bytes<T>(cut_, target) +
                             (strips - not_held * cut_.row_sums) * Index{sizeof(T)} + lanes_.scratch_bytes(),
            .partial_bytes = partial * Index{sizeof(T)},
            .pieces = p_.groups * tap_boxes_ * cut_.channel_blocks * cut_.row_blocks * cut_.slots,
            .slots = cut_.slots,
            .roundings = std::min(box_pixels, Index{kChunk}) + chunks + cut_.slots - 1,
            .in_lanes = lanes_.name()};
  }

 private:
  Index nr() const { return Index{kernels_.lanes} * kernels_.vectors; }

  WeightPart part(Index piece) const {
    WeightPart part;
    const Index channel_block = piece % cut_.channel_blocks;
    piece /= cut_.channel_blocks;
    const Index row_block = piece % cut_.row_blocks;
    piece /= cut_.row_blocks;
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
    part.run_taps = lanes_.rows_of_taps() ? product_of(part.taps) : run_taps(p_.axes, part.taps);
    part.lane_run = part.run_taps * part.channels;
    part.lane_runs = product_of(part.taps) / part.run_taps;
    part.lane_width = lanes_.turned() ? part.lane_run : round_up(part.lane_run, kernels_.lanes);
    return part;
  }

  // Where the sums of a piece are held: [row][run of lanes][lane]. Where all pixels come at once, those of a
  // tile's rows go to dw before the next ones are begun, and only they are held.
  struct Sums {
    T* data;
    Index row;
    bool one_tile = false;
    T* of(Index m) const { return data + (one_tile ? 0 : m * row); }
  };
  Index held_rows(Index rows, Index units) const {
    const bool written_at_once = units == 1 && !lanes_.turned() && !has_few_rows(rows);
    return written_at_once ? std::min<Index>(kernels_.rows, rows) : rows;
  }

  // One tap whose channels fill their vectors and lie side by side is summed where it belongs: in dw, or in
  // the partial sums, laid out as a C-ordered dw.
  bool sums_in_place(const WeightPart& part, const T* partial) const {
    return result_.taps() == 1 && part.channels % kernels_.lanes == 0 &&
           (partial || (p_.dw_channel == 1 && !p_.accumulate));
  }
  Sums place(const WeightPart& part, T* partial) const {
    const Index row = partial ? p_.channels : p_.dw_row;
    T* result = partial ? partial : p_.dw;
    return {.data = result + (part.group * p_.rows + part.row) * row + part.channel, .row = row};
  }

  // Sums the slot's share of the units, and writes to dw, or to `partial` (laid out as a C-ordered dw).
  void run_piece(Index piece, Index slot, T* partial) const {
    const WeightPart part = this->part(piece);
    Scratch scratch;
    T* strips = lanes_.x_in_place() ? nullptr : scratch.take<T>(boxes_.strip_elements());
    T* strip = strips;
    const Index width = part.lane_runs * part.lane_width;
    const bool in_place = sums_in_place(part, partial);
    const Index unit0 = units_ * slot / cut_.slots, unit1 = units_ * (slot + 1) / cut_.slots;
    const Index held = held_rows(part.rows, unit1 - unit0);
    const Sums sums =
        in_place ? place(part, partial) : Sums{scratch.take<T>(held * width), width, held < part.rows};
    const Index most_pixels = product_of(cut_.pixels) * cut_.images;
    auto* steps = scratch.take<Step>(most_pixels);
    T* rows = lanes_.rows_of_taps() ? scratch.take<T>(most_pixels * part.lane_run + nr()) : nullptr;
    const Index filters = round_up(part.rows, kernels_.lanes);
    T* turned_dy = lanes_.turned() ? scratch.take<T>(most_pixels * filters + nr()) : nullptr;
    if (lanes_.turned() && filters != part.rows) std::fill_n(turned_dy, most_pixels * filters, T{0});
    const Sums turned_sums{lanes_.turned() ? scratch.take<T>(width * filters) : nullptr, filters};

    Index* places = lanes_.turned() ? scratch.take<Index>(width) : nullptr;
    const Index calls =
        lanes_.turned() ? ceil_div(width, kernels_.rows) * ceil_div(filters, nr())
                        : part.lane_runs * ceil_div(part.rows, kernels_.rows) * ceil_div(part.lane_run, nr());
    PixelBox box, before;
    Index pixels = 0;  // that the steps lead to
    bool dy_was_in_place = false;
    if (unit0 < unit1) box = boxes_.box_of(part, unit0);
    for (Index unit = unit0; unit < unit1; ++unit) {
      checkpoint();
      if (!lanes_.x_in_place())
        strip = boxes_.fill_strips(part, box, unit > unit0 ? &before : nullptr, strip, strips);
      // Most boxes differ from the one before them only in where they begin. `fill_rows` changes the steps.
      const bool dy_in_place = lanes_.turned() && lanes_.dy_in_place(part, box);
      if (rows || unit == unit0 || box.extent != before.extent || box.images != before.images ||
          dy_in_place != dy_was_in_place) {
        pixels = boxes_.pixel_steps(part, box, lanes_.x_in_place(), steps);
        if (lanes_.turned()) {
          turn_steps(steps, pixels, dy_in_place ? 0 : filters);
          place_rows(part, box.seen, places);
        }
        dy_was_in_place = dy_in_place;
      }
      if (rows) fill_rows(part, strip, box.seen, steps, pixels, rows);
      PixelBox next;
      BoxAhead<T> ahead;
      if (unit + 1 < unit1) {
        next = boxes_.box_of(part, unit + 1);
        if (calls >= kCallsAhead)
          ahead = boxes_.lines_of(part, next, calls * ceil_div(pixels, chunk_of(part, pixels)));
      }
      const T* dy = boxes_.first_dy(part, box);
      const T* x = lanes_.x_in_place() ? boxes_.first_x(part, box) : rows ? rows : strip;
      if (lanes_.turned()) {
        if (!dy_in_place) turn_dy(part, dy, box, filters, turned_dy);
        add_turned(part, dy_in_place ? dy : turned_dy, pixels, steps, x, places, unit > unit0, turned_sums,
                   ahead);
      } else {
        add_box(part, dy, pixels, steps, x, box.seen, unit > unit0, sums, ahead,
                !in_place && unit + 1 == unit1, partial);
      }
      before = std::exchange(box, std::move(next));
    }
    if (unit0 == unit1) {
      for (Index m = 0; m < part.rows; ++m) std::fill_n(sums.of(m), in_place ? part.channels : width, T{0});
    } else if (lanes_.turned()) {
      kernels_.transpose({.target = sums.data,
                          .target_row = sums.row,
                          .source = turned_sums.data,
                          .source_row = turned_sums.row,
                          .rows = part.rows,
                          .columns = width,
                          .ahead = 0});
    } else {
      return;  // they are written with the last box
    }
    if (!in_place) write(part, 0, part.rows, sums, partial);
  }

  // dy of a box as [pixel][filter].
  void turn_dy(const WeightPart& part, const T* dy, const PixelBox& box, Index filters, T* turned) const {
    Extents outer(box.extent.begin(), box.extent.end() - 1);
    const Index run = box.extent.back();
    for (Index image = 0; image < box.images; ++image) {
      Extents at(rank_ - 1, 0);
      do {
        const T* from = dy + image * p_.dy_image;
        for (std::size_t i = 0; i + 1 < rank_; ++i) from += at[i] * p_.dy_stride[i];
        if (p_.dy_channel == 1) {
          kernels_.pad({.target = turned,
                        .target_row = filters,
                        .source = from,
                        .source_row = p_.dy_stride.back(),
                        .step = 1,
                        .rows = run,
                        .width = filters,
                        .low = 0,
                        .high = part.rows,
                        .ahead = 0});
        } else {
          kernels_.transpose({.target = turned,
                              .target_row = filters,
                              .source = from,
                              .source_row = p_.dy_channel,
                              .rows = run,
                              .columns = part.rows,
                              .ahead = 0});
        }
        turned += run * filters;
      } while (advance(at, outer));
    }
  }

  // The factors are the strip's, the vectors those of dy: where they lie, or so many elements apart.
  void turn_steps(Step* steps, Index pixels, Index filters) const {
    for (Index i = 0; i < pixels; ++i)
      steps[i] = {.a = steps[i].b, .b = filters == 0 ? steps[i].a : i * filters};
  }

  // Where each row of a tile begins, from a pixel's first tap on: [run][tap and channel].
  void place_rows(const WeightPart& part, const Extents& strip_extent, Index* places) const {
    for (Index run = 0; run < part.lane_runs; ++run) {
      const Index first = boxes_.tap_position(part, run * part.run_taps, strip_extent) * part.channels;
      for (Index i = 0; i < part.lane_run; ++i)
        *places++ = first + i * (lanes_.x_in_place() ? p_.x_channel : 1);
    }
  }

  // The same sums as those of add_box, as [run][tap and channel][filter]. Tiles of nearly equal size.
  void add_turned(const WeightPart& part, const T* dy, Index pixels, const Step* steps, const T* x,
                  const Index* places, bool accumulate, const Sums& sums, BoxAhead<T>& ahead) const {
    const EvenTiles tiles(kernels_, part.rows);
    const Index rows = part.lane_runs * part.lane_run, row_tiles = ceil_div(rows, kernels_.rows);
    for (Index tile = 0; tile < tiles.count(); ++tile) {
      const Index lane = tiles.begin(tile);
      for (Index t = 0; t < row_tiles; ++t) {
        const Index m = rows * t / row_tiles;
        ahead.x.fetch();
        ahead.dy.fetch();
        kernels_.product({.a = x,
                          .a_row = 0,
                          .b = dy + lane,
                          .step = steps,
                          .c = sums.data + m * sums.row + lane,
                          .c_row = sums.row,
                          .k = pixels,
                          .accumulate = accumulate,
                          .bias = nullptr,
                          .a_at = places + m},
                         static_cast<int>(rows * (t + 1) / row_tiles - m),
                         static_cast<int>(tiles.vectors(tile)));
      }
    }
  }

  // Copies, for each pixel, the channels of all its taps side by side; the steps then lead there.
  void fill_rows(const WeightPart& part, const T* strip, const Extents& strip_extent, Step* steps,
                 Index pixels, T* rows) const {
    const Index together = run_taps(p_.axes, part.taps);
    const Index count = together * part.channels;
    Extents offset;
    for (Index tap = 0; tap < part.run_taps; tap += together)
      offset.push_back(boxes_.tap_position(part, tap, strip_extent) * part.channels);
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

  // Of few rows, beside the lanes of a tile, dy stays near for all tiles, and the vectors of a chunk and tile
  // in the first-level cache for all rows.
  bool has_few_rows(Index rows) const { return rows <= kNearRows * nr(); }
  // Of the pixels of a box: those that all tiles see before the next ones.
  Index chunk_of(const WeightPart& part, Index pixels) const {
    return !lanes_.turned() && has_few_rows(part.rows) ? Index{kChunk} : pixels;
  }

  // Where sums are `complete` with this box, they are written as their rows come.
  void add_box(const WeightPart& part, const T* dy, Index pixels, const Step* steps, const T* strip,
               const Extents& strip_extent, bool accumulate, const Sums& sums, BoxAhead<T>& ahead,
               bool complete, T* partial) const {
    const EvenTiles tiles(kernels_, part.lane_run);
    const auto multiply = [&](Index m, Index run, Index tile, Index k, Index count) {
      const Index lane = tiles.begin(tile);
      const T* run_strip =
          strip + boxes_.tap_position(part, run * part.run_taps, strip_extent) * part.channels;
      ahead.x.fetch();
      ahead.dy.fetch();
      kernels_.product({.a = dy + m * p_.dy_channel,
                        .a_row = p_.dy_channel,
                        .b = run_strip + lane,
                        .step = steps + k,
                        .c = sums.of(m) + run * part.lane_width + lane,
                        .c_row = sums.row,
                        .k = count,
                        .accumulate = accumulate || k > 0,
                        .bias = nullptr},
                       static_cast<int>(std::min<Index>(kernels_.rows, part.rows - m)),
                       static_cast<int>(tiles.vectors(tile)));
    };
    if (has_few_rows(part.rows)) {
      for (Index k = 0; k < pixels; k += kChunk)
        for (Index run = 0; run < part.lane_runs; ++run)
          for (Index tile = 0; tile < tiles.count(); ++tile)
            for (Index m = 0; m < part.rows; m += kernels_.rows)
              multiply(m, run, tile, k, std::min(Index{kChunk}, pixels - k));
      if (complete) write(part, 0, part.rows, sums, partial);
      return;
    }
    for (Index m = 0; m < part.rows; m += kernels_.rows) {
      const Index rows = std::min<Index>(kernels_.rows, part.rows - m);
      LinesAhead<T> result;
      if (complete)
        result = result_.lines_of(first_row(part) + m, rows, part.channel, part.channels, partial);
      result.share(part.lane_runs * tiles.count());
      for (Index run = 0; run < part.lane_runs; ++run) {
        for (Index tile = 0; tile < tiles.count(); ++tile) {
          result.fetch();
          multiply(m, run, tile, 0, pixels);
        }
      }
      if (complete) write(part, m, rows, sums, partial);
    }
  }

  // The first row of a part, counted over all groups.
  Index first_row(const WeightPart& part) const { return part.group * p_.rows + part.row; }

  // Some rows of sums [row][run][tap][channel] -> [row][channel][tap], in dw or in a slot's partial sums.
  void write(const WeightPart& part, Index row, Index rows, const Sums& sums, T* partial) const {
    const Extents offset = result_.tap_offsets(part.tap, part.taps, partial != nullptr);
    // Runs without gaps between them are one.
    const Index run_taps = part.lane_width == part.lane_run ? product_of(part.taps) : part.run_taps;
    const Index runs = product_of(part.taps) / run_taps;
    for (Index m = 0; m < rows; ++m) {
      for (Index run = 0; run < runs; ++run) {
        result_.write({.row = first_row(part) + row + m,
                       .channel = part.channel,
                       .channels = part.channels,
                       .to = offset.data() + run * run_taps,
                       .taps = run_taps,
                       .from = sums.of(row) + m * sums.row + run * run_taps / part.run_taps * part.lane_width,
                       .tap_stride = part.channels},
                      partial);
      }
    }
  }

  const WeightGradient<T>& p_;
  const KernelTable<T>& kernels_;
  const WeightCut cut_;
  const std::size_t rank_;
  const WeightBoxes<T> boxes_;
  const WeightLanes<T> lanes_;
  const Index units_, tap_boxes_;
  const WeightResult<T> result_;
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
