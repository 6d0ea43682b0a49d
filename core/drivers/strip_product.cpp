#include "drivers/strip_product.hpp"

#include <algorithm>
#include <cstdint>

#include "base/workspace.hpp"
#include "drivers/ahead.hpp"
#include "drivers/tiles.hpp"

namespace windrow {
namespace {

constexpr int kMaxRows = 16;        // of any target's tile
constexpr Index kMostTaps = 64;     // of a window that has a kernel of its own ...
constexpr Index kMostColumns = 16;  // ... and in one of its rows

// Elements of one row of sums, for blocks whose sums are kept from chunk to chunk; written in whole vectors.
Index sums_row(const Strips& strips, const StripBlocks& blocks, Index nr) {
  return blocks.rows * std::max(strips.width(), round_up(blocks.columns, nr)) + nr;
}

Index buffer_elements(const Strips& strips, Index rows, const StripBlocks& blocks, Index nr) {
  if (blocks.by_chunks) return rows * sums_row(strips, blocks, nr);
  return std::max(kMaxRows * nr, blocks.columns);
}

template <class T>
class Driver {
 public:
  Driver(const WindowProduct<T>& problem, const StripBlocks& blocks, const Target& target)
      : p_(problem),
        blocks_(blocks),
        kernels_(target.kernels<T>()),
        tile_(tile_of<T>(target)),
        nr_(tile_.columns()),
        strips_(problem.grid, blocks),
        taps_(problem.grid.taps()),
        terms_(blocks.channels * taps_),
        units_(problem.grid.images * problem.groups * strips_.blocks_per_image()),
        sums_row_(sums_row(strips_, blocks, nr_)),
        buffer_elements_(buffer_elements(strips_, problem.rows, blocks, nr_)),
        strip_elements_(windrow::strip_elements(problem.grid, blocks, tile_)) {
    // What is copied next, by the next unit: the next rows of the same planes, or else the next planes.
    ahead_ = strips_.row_blocks() > 1
                 ? blocks.rows * strips_.row_axis().step * strips_.row_axis().source_stride
             : problem.groups > 1 ? problem.source_group
                                  : problem.grid.source_image;
    source_is_far_ = blocks.in_place && static_cast<double>(units_ * blocks.columns) *
                                                static_cast<double>(problem.channels * Index{sizeof(T)}) >=
                                            kFarBytes;
  }

  Index pieces() const { return ceil_div(units_, blocks_.units); }

  void piece(Index index) const {
    Scratch scratch;
    T* strip = scratch.take<T>(strip_elements_);
    T* buffer = scratch.take<T>(buffer_elements_);
    auto* steps = scratch.take<Step>(terms_);
    for (Index tap = 0; tap < std::min(taps_, terms_); ++tap)
      steps[tap] = {.a = p_.factor_tap[static_cast<std::size_t>(tap)], .b = strips_.tap_offset(tap)};
    const Index channel = blocks_.in_place ? kernels_.lanes : strips_.elements();
    for (Index k = taps_; k < terms_; ++k)
      steps[k] = {.a = steps[k - taps_].a + p_.factor_channel, .b = steps[k - taps_].b + channel};
    auto* steps_in_place = blocks_.in_place ? scratch.take<Step>(terms_) : nullptr;
    for (Index k = 0; blocks_.in_place && k < terms_; ++k)
      steps_in_place[k] = {.a = steps[k].a, .b = k * p_.source_channel};
    const Index end = std::min(units_, (index + 1) * blocks_.units);
    for (Index unit = index * blocks_.units; unit < end; ++unit) {
      LinesAhead<T> ahead;
      if (source_is_far_ && unit + 1 < end) ahead = lines_of(unit + 1);
      run_unit(unit, strip, buffer, steps, steps_in_place, ahead);
    }
  }

 private:
  const T* source_of(Index image, Index group) const {
    return p_.source + image * p_.grid.source_image + group * p_.source_group;
  }

  // What a unit reads in place, to be fetched while the one before is worked on.
  LinesAhead<T> lines_of(Index unit) const {
    constexpr Index kLine = 64 / sizeof(T);
    const StripPlace place = strips_.place(unit % strips_.blocks_per_image());
    unit /= strips_.blocks_per_image();
    LinesAhead<T> lines{source_of(unit / p_.groups, unit % p_.groups) + place.column, p_.source_channel,
                        p_.channels, ceil_div(place.columns, kLine)};
    lines.share(ceil_div(p_.rows, kernels_.rows) * ceil_div(place.columns, nr_));
    return lines;
  }

  void run_unit(Index unit, T* strip, T* buffer, const Step* steps, const Step* steps_in_place,
                LinesAhead<T>& ahead) const {
    const StripPlace place = strips_.place(unit % strips_.blocks_per_image());
    unit /= strips_.blocks_per_image();
    const Index group = unit % p_.groups, image = unit / p_.groups;
    const T* source = source_of(image, group);
    T* target = p_.target + image * p_.grid.target_image + group * p_.target_group + place.target;
    const T* factor = p_.factor + group * p_.factor_group;
    const T* bias = p_.bias ? p_.bias + group * p_.rows * p_.bias_stride : nullptr;
    if (blocks_.by_chunks) return run_by_chunks(place, source, factor, bias, target, strip, buffer, steps);
    if (blocks_.in_place) {
      return run_in_place(place, source, factor, bias, target - place.target, strip, buffer, steps,
                          steps_in_place, ahead);
    }
    fill(place, source, p_.channels, strip);
    if (p_.rows == 1) {
      run_one_row(place, strip, buffer,
                  {.w = factor,
                   .x = strip,
                   .x_row = strips_.row_step(),
                   .step = steps,
                   .k = terms_,
                   .y = target,
                   .y_row = strips_.target_row(),
                   .rows = place.rows,
                   .count = place.columns,
                   .accumulate = p_.accumulate,
                   .bias = bias});
      return;
    }
    multiply({.b = strip, .step = steps, .rows = place.rows, .columns = place.columns}, factor, bias, target,
             buffer, ahead);
  }

  // How many pixels of each plane come before the first one that begins a cache line; 0 if planes differ.
  Index before_line(const T* source) const {
    constexpr Index kLine = 64 / sizeof(T);
    const auto into = static_cast<Index>(reinterpret_cast<std::uintptr_t>(source) / sizeof(T)) % kLine;
    const bool alike = p_.source_channel % kLine == 0 && strips_.last().count >= kernels_.lanes;
    return alike && into != 0 ? kLine - into : 0;
  }

  // Where a block is read in place it is moved to begin with a cache line: loads of two lines each take up to
  // a third of the time of such layers, and so do stores, for results mostly lie like operands.
  void run_in_place(const StripPlace& place, const T* source, const T* factor, const T* bias, T* target,
                    T* strip, T* buffer, const Step* steps, const Step* steps_in_place,
                    LinesAhead<T>& ahead) const {
    const Index before = before_line(source), count = strips_.last().count;
    const Index begin = place.column == 0 ? 0 : std::min(place.column + before, count);
    const Index end = std::min(place.column + place.columns + before, count);
    const Index first = place.column == 0 ? before % kernels_.lanes : begin;
    const Index whole = end - (end - first) % kernels_.lanes;
    const auto run = [&](const Seen& seen, Index column) {
      multiply(seen, factor, bias, target + column * strips_.last().target_stride, buffer, ahead);
    };
    if (begin < first) run({.b = source, .step = steps_in_place, .rows = 1, .columns = first}, 0);
    run({.b = source + first, .step = steps_in_place, .rows = 1, .columns = whole - first}, first);
    if (whole == end) return;
    // Kernels read whole vectors: what is left of the last one is copied.
    kernels_.pad({.target = strip,
                  .target_row = kernels_.lanes,
                  .source = source + whole,
                  .source_row = p_.source_channel,
                  .step = 1,
                  .rows = p_.channels,
                  .width = kernels_.lanes,
                  .low = 0,
                  .high = end - whole,
                  .ahead = 0});
    run({.b = strip, .step = steps, .rows = 1, .columns = end - whole}, whole);
  }

  // What the pixels of a block see, where the first one sees it.
  struct Seen {
    const T* b;
    const Step* step;
    Index rows, columns;
  };

  void multiply(const Seen& seen, const T* factor, const T* bias, T* target, T* buffer,
                LinesAhead<T>& ahead) const {
    const bool flat = runs_on(strips_, seen.rows, seen.columns, p_.rows, tile_);
    for (Index m = 0; m < p_.rows; m += kernels_.rows) {
      const int rows = static_cast<int>(std::min<Index>(kernels_.rows, p_.rows - m));
      T tile_bias[kMaxRows];
      if (bias) {
        for (Index r = 0; r < rows; ++r) tile_bias[r] = bias[(m + r) * p_.bias_stride];
      }
      Product<T> product{.a = factor + m * p_.factor_row,
                         .a_row = p_.factor_row,
                         .b = seen.b,
                         .step = seen.step,
                         .c = nullptr,
                         .c_row = 0,
                         .k = terms_,
                         .accumulate = p_.accumulate,
                         .bias = bias ? tile_bias : nullptr};
      T* first = target + m * p_.target_row;
      if (flat) {
        run_flat(product, first, rows, seen, buffer);
        continue;
      }
      for (Index r = 0; r < seen.rows; ++r) {
        for (Index column = 0; column < seen.columns; column += nr_) {
          product.b = seen.b + r * strips_.row_step() + column;
          T* tile = first + r * strips_.target_row() + column * strips_.last().target_stride;
          ahead.fetch();
          run_tile(product, tile, rows, std::min(nr_, seen.columns - column), buffer);
        }
      }
    }
  }

  void fill(const StripPlace& place, const T* source, Index channels, T* strip) const {
    if (taps_ > 0) strips_.fill(kernels_, place, source, channels, p_.source_channel, ahead_, strip);
  }

  // Few rows and many terms: some channels are copied at a time, and what a chunk of terms reads stays in the
  // first-level cache while all pixels pass over it. The sums wait in the buffer.
  void run_by_chunks(const StripPlace& place, const T* source, const T* factor, const T* bias, T* target,
                     T* strip, T* sums, const Step* steps) const {
    const bool flat = runs_on(strips_, place.rows, place.columns, p_.rows, tile_);
    const Index pitch = flat ? strips_.width() : round_up(place.columns, nr_);
    const Index runs = flat ? 1 : place.rows;
    const Index run = flat ? (place.rows - 1) * pitch + place.columns : place.columns;
    // Calls move(result, sums) for each row of pixels of each row of results.
    const auto each_row = [&](auto move) {
      for (Index m = 0; m < p_.rows; ++m)
        for (Index r = 0; r < place.rows; ++r)
          move(target + m * p_.target_row + r * strips_.target_row(), sums + m * sums_row_ + r * pitch);
    };
    const Index step = strips_.last().target_stride, count = place.columns;
    if (p_.accumulate) {
      each_row([&](T* result, T* row) {
        kernels_.collect({.target = row, .source = result, .step = step, .count = count});
      });
    }
    for (Index channel = 0; channel < p_.channels; channel += blocks_.channels) {
      const Index channels = std::min(blocks_.channels, p_.channels - channel), terms = channels * taps_;
      const bool last = channel + channels == p_.channels;
      fill(place, source + channel * p_.source_channel, channels, strip);
      run_chunks(kernels_,
                 {.a = factor + channel * p_.factor_channel,
                  .a_row = p_.factor_row,
                  .b = strip,
                  .step = steps,
                  .c = sums,
                  .c_row = sums_row_,
                  .k = terms,
                  .accumulate = p_.accumulate || channel > 0,
                  .bias = nullptr},
                 p_.rows, {.runs = runs, .lanes = run, .b = strips_.row_step(), .c = pitch},
                 last ? bias : nullptr, p_.bias_stride);
    }
    each_row([&](T* result, T* row) {
      limit(kernels_, p_.limits, row, 0, 1, count);
      kernels_.spread({.target = result, .source = row, .step = step, .count = count});
    });
  }

  void run_flat(Product<T> product, T* target, int rows, const Seen& seen, T* buffer) const {
    const Index step = strips_.last().target_stride, width = strips_.width();
    const Index run_on = (seen.rows - 1) * width + seen.columns;
    product.c = buffer;
    product.c_row = nr_;
    for (Index lane = 0; lane < run_on; lane += nr_) {
      const Index lanes = std::min(nr_, run_on - lane);
      // Calls move(result, sums, count) for each run of pixels in these lanes.
      const auto each_run = [&](auto move) {
        for (Index r = lane / width; r * width < lane + lanes; ++r) {
          const Index from = std::max(lane, r * width);
          const Index to = std::min(lane + lanes, r * width + seen.columns);
          if (from < to)
            move(target + r * strips_.target_row() + (from - r * width) * step, buffer + from - lane,
                 to - from);
        }
      };
      if (product.accumulate) {
        each_run([&](const T* result, T* sums, Index count) { take_sums(result, sums, count, rows); });
      }
      each_run([&](const T* result, const T*, Index) {
        for (Index m = 0; m < rows; ++m) __builtin_prefetch(result + m * p_.target_row, 1);
      });
      product.b = seen.b + lane;
      kernels_.product(product, rows, static_cast<int>(ceil_div(lanes, kernels_.lanes)));
      limit(kernels_, p_.limits, buffer, nr_, rows, lanes);
      each_run([&](T* result, const T* sums, Index count) { store_sums(result, sums, count, rows); });
    }
  }

  // Pixels of some rows of results into rows of sums in the buffer, and back.
  void take_sums(const T* result, T* sums, Index count, Index rows) const {
    kernels_.collect({.target = sums,
                      .source = result,
                      .step = strips_.last().target_stride,
                      .count = count,
                      .rows = rows,
                      .target_row = nr_,
                      .source_row = p_.target_row});
  }
  void store_sums(T* result, const T* sums, Index count, Index rows) const {
    kernels_.spread({.target = result,
                     .source = sums,
                     .step = strips_.last().target_stride,
                     .count = count,
                     .rows = rows,
                     .target_row = p_.target_row,
                     .source_row = nr_});
  }

  // A tile of `columns` pixels, through the buffer where they are no whole vectors or do not lie side by
  // side.
  void run_tile(Product<T> product, T* target, int rows, Index columns, T* buffer) const {
    const int vectors = static_cast<int>(ceil_div(columns, kernels_.lanes));
    const Index step = strips_.last().target_stride;
    if (step == 1 && columns % kernels_.lanes == 0) {
      product.c = target;
      product.c_row = p_.target_row;
      kernels_.product(product, rows, vectors);
      limit(kernels_, p_.limits, target, p_.target_row, rows, columns);
      return;
    }
    product.c = buffer;
    product.c_row = nr_;
    if (product.accumulate) take_sums(target, buffer, columns, rows);
    kernels_.product(product, rows, vectors);
    limit(kernels_, p_.limits, buffer, nr_, rows, columns);
    store_sums(target, buffer, columns, rows);
  }

  // A result of one row per group, as in depthwise convolution: no tiles.
  void run_one_row(const StripPlace& place, const T* strip, T* buffer, Stencil<T> stencil) const {
    const Index step = strips_.last().target_stride;
    if (step == 1 || place.columns == 1) {
      if (!run_window(stencil)) kernels_.stencil(stencil);
      limit(kernels_, p_.limits, stencil.y, stencil.y_row, stencil.rows, stencil.count);
      return;
    }
    // Row by row through the buffer, where pixels do not lie side by side.
    T* target = std::exchange(stencil.y, buffer);
    stencil.rows = 1;
    for (Index r = 0; r < place.rows; ++r, target += strips_.target_row()) {
      stencil.x = strip + r * strips_.row_step();
      if (p_.accumulate)
        kernels_.collect({.target = buffer, .source = target, .step = step, .count = place.columns});
      kernels_.stencil(stencil);
      limit(kernels_, p_.limits, buffer, 0, 1, place.columns);
      kernels_.spread({.target = target, .source = buffer, .step = step, .count = place.columns});
    }
  }

  // By the kernel for windows of the usual sizes, if this is one.
  bool run_window(const Stencil<T>& s) const {
    const Index columns = strips_.kernel_columns();
    if (p_.channels != 1 || !strips_.is_plain_window() || columns > kMostColumns || taps_ > kMostTaps)
      return false;
    T w[kMostTaps];
    std::ptrdiff_t shift[kMostColumns];
    for (Index t = 0; t < taps_; ++t) w[t] = s.w[s.step[t].a];
    for (Index j = 0; j < columns; ++j) shift[j] = s.step[j].b;
    return kernels_.window({.w = w,
                            .x = s.x,
                            .x_row = strips_.width(),
                            .shift = shift,
                            .kernel_rows = static_cast<int>(strips_.kernel_rows()),
                            .kernel_columns = static_cast<int>(columns),
                            .row_step = strips_.row_axis().step,
                            .y = s.y,
                            .y_row = s.y_row,
                            .rows = s.rows,
                            .count = s.count,
                            .accumulate = s.accumulate,
                            .bias = s.bias});
  }

  const WindowProduct<T>& p_;
  const StripBlocks& blocks_;
  const KernelTable<T>& kernels_;
  const Tile tile_;
  const Index nr_;
  const Strips strips_;
  const Index taps_, terms_;  // of the channels that are copied at a time
  const Index units_, sums_row_, buffer_elements_, strip_elements_;
  Index ahead_ = 0;
  bool source_is_far_ = false;
};

}  // namespace

// Where that takes less time: a tile of a few sums waits for their latency, and one of a single vector for
// loads of factors, which take it a quarter more time.
bool runs_on(const Strips& strips, Index rows, Index columns, Index product_rows, const Tile& tile) {
  const auto quarters = [&](Index vectors) {
    const Index least = ceil_div(kSumsInFlight, std::min<Index>(product_rows, tile.rows));
    return vectors == 1 && least <= 1 ? 5 : 4 * std::max(least, vectors);
  };
  const Index run_on = ceil_div((rows - 1) * strips.width() + columns, tile.lanes);
  return rows > 1 && strips.row_step() == strips.width() &&
         4 * run_on < rows * quarters(ceil_div(columns, tile.lanes));
}

template <class T>
void run_strip_product(const WindowProduct<T>& problem, const StripBlocks& blocks, const Target& target,
                       const RunContext& context) {
  const Driver<T> driver(problem, blocks, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

Index strip_elements(const PixelGrid& grid, const StripBlocks& blocks, const Tile& tile) {
  if (blocks.in_place) return blocks.channels * tile.lanes + tile.columns();
  // Kernels read whole vectors past the last row, and `pad` writes past it.
  return Strips(grid, blocks).elements() * blocks.channels + tile.columns();
}

Index strip_scratch(const PixelGrid& grid, Index rows, const StripBlocks& blocks, const Tile& tile) {
  const Index buffer = buffer_elements(Strips(grid, blocks), rows, blocks, tile.columns());
  const Index steps = blocks.channels * grid.taps() * (blocks.in_place ? 2 : 1) * Index{sizeof(Step)};
  return (strip_elements(grid, blocks, tile) + buffer) * tile.bytes + steps;
}

template void run_strip_product(const WindowProduct<float>&, const StripBlocks&, const Target&,
                                const RunContext&);
template void run_strip_product(const WindowProduct<double>&, const StripBlocks&, const Target&,
                                const RunContext&);

}  // namespace windrow
