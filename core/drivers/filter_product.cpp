// Order of the loops, from outside in: pieces of (group, pixels, filters) that threads share; passes of some
// chunks of terms; panels of NR filters, packed here; tiles of MR pixels, which go on over the ends of rows
// and images. A packed panel of one pass lies in the second-level cache while all pixels of the piece pass
// over it, and so do what they see of the pass's channels, and the piece's results. Pixels near the border
// leave out the taps that see none of the image.
#include "drivers/filter_product.hpp"

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "base/finite.hpp"
#include "base/workspace.hpp"
#include "drivers/filter_factors.hpp"
#include "pack/pixel_strips.hpp"

namespace windrow {
namespace {

PixelStrips strips_of(const PixelGrid& grid, Index channels, const FilterBlocks& blocks, Index element) {
  constexpr Index kLine = 64;
  return {grid, blocks.rows, blocks.columns, channels, kLine / element};
}

// From term to term of packed rows of factors: an odd number of lines, so that they spread over the sets of
// the first-level cache.
Index packed_row(Index filters, Index element) {
  constexpr Index kLine = 64;
  const Index line = kLine / element;
  return (ceil_div(filters, line) | 1) * line;
}

// The factors of a pass; and some sums on their way into the target.
Index packed_elements(const FilterBlocks& blocks, const Tile& tile) {
  return std::max(blocks.pass * packed_row(blocks.packed * tile.columns(), tile.bytes),
                  kChunk * tile.columns());
}

// Of one piece, at most.
Index most_pixels(const FilterBlocks& blocks) { return blocks.units * blocks.rows * blocks.columns; }

// From pixel to pixel in the sums of one piece. Whole lines, but not so many that they share few sets of the
// first-level cache.
Index sums_row(const FilterBlocks& blocks, const Tile& tile) {
  return (blocks.turned ? blocks.most_panels() + 1 : 1) * tile.columns();
}

template <class T>
class Driver {
 public:
  Driver(const WindowProduct<T>& problem, const FilterBlocks& blocks, const T* panels, const Target& target)
      : p_(problem),
        blocks_(blocks),
        kernels_(target.kernels<T>()),
        tile_(tile_of<T>(target)),
        panels_(panels),
        factors_(problem, kernels_, blocks.panels),
        rows_follow_(!panels && factors_.rows_follow()),
        sums_row_(sums_row(blocks, tile_)),
        strips_(strips_of(joined_pixels(problem.grid), problem.channels, blocks, sizeof(T))),
        taps_(problem.grid.taps()),
        terms_(problem.channels * taps_),
        unit_blocks_(ceil_div(strips_.blocks(), blocks.units)),
        images_together_(strips_.blocks() == joined_pixels(problem.grid).images),
        work_(pixel_work(joined_pixels(problem.grid), problem.rows, problem.channels, blocks, tile_)) {
    for (Index t = 0; t < taps_; ++t)
      tap_offset_.push_back(strips_.in_place() ? strips_.source_tap_offset(t) : strips_.tap_offset(t));
    const double seen = static_cast<double>(strips_.blocks()) *
                        static_cast<double>(blocks.rows * blocks.columns) *
                        static_cast<double>(problem.groups * problem.channels * Index{sizeof(T)});
    source_is_far_ = strips_.in_place() && taps_ == 1 && problem.source_channel == 1 && seen >= kFarBytes;
    if (blocks.boxes > 1) boxes_.emplace(problem.grid);
    const PixelBox block{.rows = blocks.rows, .columns = blocks.columns};
    const Index images = images_together_ ? blocks.units : 1;
    places_.resize(static_cast<std::size_t>(3 * images * block.pixels()));
    places(block, block, images, places_.data());
  }

  Index pieces() const { return p_.groups * unit_blocks_ * blocks_.parts; }

  void piece(Index index) const {
    if (!boxes_ || !sum(index, true)) sum(index, false);
  }

  // In the order in which they are read: pass by pass of terms, in each of them panel by panel.
  void pack_all(T* panels, const RunContext& context) const {
    const Index passes = ceil_div(terms_, blocks_.pass);
    parallel_for(context, p_.groups * passes, [&](Index i) {
      const Index group = i / passes, k0 = i % passes * blocks_.pass;
      const Index k1 = std::min(k0 + blocks_.pass, terms_);
      factors_.pack(k0, k1, 0, factors_.panels(), p_.factor + group * p_.factor_group,
                    panels + factors_.place(group, k0));
    });
  }

 private:
  static constexpr Index kLine = 64 / sizeof(T);

  // The taps that some pixels' sums have, by their numbers, and of the terms of a pass those.
  struct Sight {
    Index* taps;
    Index tap_count;
    Step* steps;      // for wide panels of filters, then, a pass behind, for narrow ones
    Index calls = 0;  // of the kernel: one for all chunks, or one for each if some are short
    Index end[kMostPass / kChunk] = {};  // of each call's terms
  };
  // A run of pixels: where the first one finds what it sees, its result and its sums, and each from there.
  struct Run {
    Index source, target, sums;
    Index count;
    const Index *from, *to, *at;
    std::size_t sight;
  };
  struct Runs {
    std::vector<Sight> sights;
    std::vector<Run> runs;
  };

  // One piece. False where a factor may not be finite, so that no pixel may leave out taps.
  bool sum(Index index, bool by_boxes) const {
    const Index part = index % blocks_.parts;
    const Index panel0 = blocks_.panels * part / blocks_.parts;
    const Index panel1 = blocks_.panels * (part + 1) / blocks_.parts;
    const Index filter0 = factors_.first(panel0), filters = factors_.first(panel1) - filter0;
    const Index unit0 = index / blocks_.parts % unit_blocks_ * blocks_.units;
    const Index units = std::min(blocks_.units, strips_.blocks() - unit0);
    const Index group = index / blocks_.parts / unit_blocks_;

    Scratch scratch;
    const Index row = packed_row(round_up(filters, kernels_.lanes), sizeof(T));
    T* packed = scratch.take<T>(packed_elements(blocks_, tile_));
    T* sums = scratch.take<T>(units * blocks_.rows * blocks_.columns * sums_row_);
    T* strip = strips_.in_place() ? nullptr : scratch.take<T>(units * strips_.elements());
    const T* source = p_.source + group * p_.source_group;
    for (Index u = 0; strip && terms_ > 0 && u < units; ++u)
      strips_.fill(kernels_, strips_.block(unit0 + u), source, p_.source_channel,
                   strip + u * strips_.elements());
    if (strip) source = strip;
    const std::vector<PixelBox> boxes =
        by_boxes ? boxes_->of(strips_.block(unit0), work_) : std::vector<PixelBox>{};
    auto [sights, runs] =
        boxes.size() > 1 ? box_runs(boxes, unit0, units, scratch) : unit_runs(unit0, units, scratch);
    Index tiles = 0;
    for (const Run& run : runs) tiles += ceil_div(run.count, kernels_.rows);

    const T* factor = p_.factor + group * p_.factor_group;
    T* target = p_.target + group * p_.target_group;
    bool finite = true, narrow = false;
    for (Index i = panel0; i < panel1; ++i) narrow = narrow || factors_.width(i) != factors_.wide();
    Index k0 = 0;
    do {  // once even where there are no terms: the result is then zero plus the bias
      const Index k1 = std::min(k0 + blocks_.pass, terms_);
      for (Sight& sight : sights) {
        set_steps(sight, k0, k1, rows_follow_ ? row : factors_.wide(), sight.steps);
        if (narrow)
          set_steps(sight, k0, k1, rows_follow_ ? row : factors_.narrow(), sight.steps + blocks_.pass);
      }
      // Factors are fetched while others are multiplied: the next panel's where each filter's lie on pages of
      // their own, the next pass's where those of a term are neighbours.
      const Index k2 = std::min(k1 + blocks_.pass, terms_);
      LinesAhead<T> ahead;
      if (!panels_ && !factors_.terms_follow()) {
        const T* first = factor + filter0 * p_.factor_row;
        rows_follow_ ? factors_.copy_rows(k0, k1, filters, first, row, packed)
                     : factors_.pack(k0, k1, panel0, panel1, first, packed);
        ahead = factors_.lines(k1, k2, filters, first);
        ahead.share((panel1 - panel0) * tiles);
      }
      for (Index i = panel0; i < panel1; ++i) {
        const Index m = factors_.first(i);
        Panel panel{.first = m,
                    .count = factors_.count(i),
                    .k0 = k0,
                    .k1 = k1,
                    .is_wide = factors_.width(i) == factors_.wide(),
                    .reads_ahead = source_is_far_ && i == panel0};
        const T* factors = packed + (m - filter0) * (rows_follow_ ? 1 : k1 - k0);
        if (panels_) {
          factors = panels_ + factors_.place(group, k0) + m * (k1 - k0);
          const Index panel_terms = (k1 - k0) * factors_.width(i);
          ahead = {factors + panel_terms, 0, 1, ceil_div(panel_terms, kLine)};
          ahead.share(tiles);
        } else if (factors_.terms_follow()) {
          factors_.pack(k0, k1, i, i + 1, factor + m * p_.factor_row, packed);
          factors = packed;
          const bool last = i + 1 == panel1;
          const Index next = last ? panel0 : i + 1;
          ahead = factors_.lines(last ? k1 : k0, last ? k2 : k1, factors_.count(next),
                                 factor + factors_.first(next) * p_.factor_row);
          ahead.share(tiles);
        }
        panel.bias = k1 == terms_ && p_.bias ? p_.bias + (group * p_.rows + m) * p_.bias_stride : nullptr;
        T* buffer = sums + (blocks_.turned ? m - filter0 : 0);
        for (const Run& run : runs)
          finite = multiply(run, sights[run.sight], panel, factors, source, target, buffer, ahead) && finite;
      }
      k0 = k1;
    } while (k0 < terms_);
    if (boxes.size() > 1 && !finite) return false;
    for (Index u = 0; blocks_.turned && u < units; ++u) {
      const PixelBlock block = strips_.block(unit0 + u);
      store_turned(block, sums, filters, packed, target + block.target + filter0 * p_.target_row);
      sums += block.rows * block.columns * sums_row_;
    }
    return true;
  }

  // All taps for all pixels. One image after another is one run, if it is a single block.
  Runs unit_runs(Index unit0, Index units, Scratch& scratch) const {
    const Sight all_taps{scratch.take<Index>(taps_), taps_, scratch.take<Step>(2 * blocks_.pass)};
    std::iota(all_taps.taps, all_taps.taps + taps_, Index{0});
    Runs found{.sights = {all_taps}, .runs = {}};
    const auto all = static_cast<Index>(places_.size()) / 3;
    const Index some = images_together_ ? units : 1;
    for (Index u = 0; u < units; u += some) {
      const PixelBlock block = strips_.block(unit0 + u);
      const Index count = some * block.rows * block.columns;
      found.runs.push_back(
          {.source = strips_.in_place() ? strips_.source_place(block) : u * strips_.elements(),
           .target = block.target,
           .sums = u * count * sums_row_,
           .count = count,
           .from = places_.data(),
           .to = places_.data() + all,
           .at = places_.data() + 2 * all,
           .sight = 0});
    }
    return found;
  }

  // The boxes of a unit, or of images together.
  Runs box_runs(const std::vector<PixelBox>& boxes, Index unit0, Index images, Scratch& scratch) const {
    const PixelBlock block = strips_.block(unit0);
    const PixelBox whole{.rows = block.rows, .columns = block.columns};
    auto* place = scratch.take<Index>(3 * images * whole.pixels());
    Runs found;
    for (const PixelBox& box : boxes) {
      const Index count = images * box.pixels();
      Sight sight{scratch.take<Index>(taps_), 0, scratch.take<Step>(2 * blocks_.pass)};
      sight.tap_count = boxes_->taps(box, sight.taps);
      places(box, whole, images, place);
      found.runs.push_back({.source = 0,
                            .target = block.target,
                            .sums = 0,
                            .count = count,
                            .from = place,
                            .to = place + count,
                            .at = place + 2 * count,
                            .sight = found.sights.size()});
      found.sights.push_back(sight);
      place += 3 * count;
    }
    return found;
  }

  // Of each pixel of a box of a block: what it sees, its result and its sums, from the block's first one on.
  void places(const PixelBox& box, const PixelBox& block, Index images, Index* place) const {
    const bool in_place = strips_.in_place();
    const Index image = in_place ? p_.grid.source_image : strips_.elements();
    const Index pixel_step = in_place ? strips_.source_pixel_step() : strips_.pixel_step();
    const Index row_step = in_place ? strips_.source_row_step() : strips_.row_step();
    Index* const from = place;
    Index* const to = from + images * box.pixels();
    Index* const at = to + images * box.pixels();
    Index i = 0;
    for (Index u = 0; u < images; ++u) {
      for (Index r = box.row; r < box.row + box.rows; ++r) {
        for (Index c = box.column; c < box.column + box.columns; ++c, ++i) {
          from[i] = u * image + r * row_step + c * pixel_step;
          to[i] = u * p_.grid.target_image + r * strips_.row_axis().target_stride +
                  c * strips_.last().target_stride;
          at[i] = (u * block.pixels() + r * block.columns + c) * sums_row_;
        }
      }
    }
  }

  struct Panel {
    Index first, count;  // filters
    Index k0, k1;        // terms
    bool is_wide;
    bool reads_ahead;  // what its pixels see is fetched, a tile ahead
    const T* bias = nullptr;
  };

  // Of the terms [k0, k1) those whose taps are in sight.
  void set_steps(Sight& sight, Index k0, Index k1, Index row, Step* steps) const {
    const Index channel_step = strips_.in_place() ? p_.source_channel : 1;
    const Index *const taps = sight.taps, *const offset = tap_offset_.data();
    const Index tap_count = sight.tap_count;
    Index count = 0, next = tap_count == taps_ ? k1 : k0 + kChunk;  // steps, and where the next call begins
    sight.calls = 0;
    for (Index channel = k0 < k1 ? k0 / taps_ : 0; channel * taps_ < k1; ++channel) {
      const Index a = channel * channel_step, b = channel * taps_ - k0;
      for (Index i = 0; i < tap_count; ++i) {
        const Index k = channel * taps_ + taps[i];
        if (k < k0) continue;
        if (k >= k1) break;
        for (; k >= next; next += kChunk) sight.end[sight.calls++] = count;
        steps[count++] = {.a = a + offset[taps[i]], .b = (b + taps[i]) * row};
      }
    }
    sight.end[sight.calls++] = count;
  }

  // False where taps may be left out whose factors are not finite: then a sum that has all taps is not.
  bool multiply(const Run& run, const Sight& sight, const Panel& panel, const T* factors, const T* source,
                T* target, T* buffer, LinesAhead<T>& ahead) const {
    const int vectors = static_cast<int>(ceil_div(panel.count, kernels_.lanes));
    const bool in_place = !blocks_.turned && panel.count % kernels_.lanes == 0;
    const bool copied = !blocks_.turned && !in_place;  // filters that fill no vector are summed in a buffer
    const bool last = panel.k1 == terms_;
    source += run.source;
    target += run.target + panel.first * p_.target_row;
    Product<T> product{.a = source,
                       .a_row = 0,
                       .b = factors,
                       .step = nullptr,
                       .c = in_place ? target : buffer + run.sums,
                       .c_row = 0,
                       .k = 0,
                       .accumulate = false,
                       .bias = nullptr};
    const Step* steps = sight.steps + (panel.is_wide ? 0 : blocks_.pass);
    bool finite = true;
    // Tiles of nearly equal size: small ones cannot hide the latency of their sums.
    const Index tiles = ceil_div(run.count, kernels_.rows);
    for (Index t = 0; t < tiles; ++t) {
      const Index begin = run.count * t / tiles, count = run.count * (t + 1) / tiles - begin;
      const Index* to = run.to + begin;
      product.a_at = run.from + begin;
      product.c_at = in_place ? to : run.at + begin;
      const auto sums = [&](Index i) { return product.c + product.c_at[i]; };
      if (copied && p_.accumulate && panel.k0 == 0) {
        for (Index i = 0; i < count; ++i) std::copy_n(target + to[i], panel.count, sums(i));
      }
      ahead.fetch();
      if (panel.reads_ahead && t + 1 < tiles)
        fetch(panel, source, product.a_at + count, run.from + run.count * (t + 2) / tiles);
      for (Index call = 0, k = 0; call < sight.calls; k = sight.end[call++]) {
        product.step = steps + k;
        product.k = sight.end[call] - k;
        product.accumulate = call > 0 || panel.k0 > 0 || p_.accumulate;
        kernels_.product(product, static_cast<int>(count), vectors);
      }
      if (!last) continue;
      if (boxes_ && t == 0 && sight.tap_count == taps_) finite = all_finite(sums(0), panel.count);
      if (!(panel.bias || p_.limits.on || copied)) continue;
      for (Index i = 0; i < count; ++i) {
        if (panel.bias) add_bias(sums(i), panel);
        limit(kernels_, p_.limits, sums(i), 0, 1, panel.count);
        if (copied) std::copy_n(sums(i), panel.count, target + to[i]);
      }
    }
    return finite;
  }

  // The sums [pixel][filter] of a block to where they belong.
  void store_turned(const PixelBlock& block, const T* sums, Index filters, T* buffer, T* target) const {
    const Index step = strips_.last().target_stride, row_stride = strips_.row_axis().target_stride;
    const Index nr = Index{kernels_.lanes} * kernels_.vectors;
    const bool flat = row_stride == block.columns * step;  // rows that follow one another are one
    const Index rows = flat ? 1 : block.rows, columns = flat ? block.rows * block.columns : block.columns;
    Transpose<T> turn{.target = target,
                      .target_row = p_.target_row,
                      .source = sums,
                      .source_row = sums_row_,
                      .rows = filters,
                      .columns = columns,
                      .ahead = 0};
    for (Index r = 0; r < rows; ++r, turn.source += columns * sums_row_) {
      turn.target = target + r * row_stride;
      if (step == 1) {
        kernels_.transpose(turn);
        continue;
      }
      // Pixels that do not lie side by side: some of a few filters at a time, through the buffer.
      for (Index m = 0; m < filters; m += nr) {
        for (Index i = 0; i < columns; i += kChunk) {
          const Index some = std::min(nr, filters - m), count = std::min(Index{kChunk}, columns - i);
          kernels_.transpose({.target = buffer,
                              .target_row = kChunk,
                              .source = turn.source + i * sums_row_ + m,
                              .source_row = sums_row_,
                              .rows = some,
                              .columns = count,
                              .ahead = 0});
          for (Index f = 0; f < some; ++f)
            kernels_.spread({.target = turn.target + (m + f) * p_.target_row + i * step,
                             .source = buffer + f * kChunk,
                             .step = step,
                             .count = count});
        }
      }
    }
  }

  // What some pixels see of the terms of a panel.
  void fetch(const Panel& panel, const T* source, const Index* begin, const Index* end) const {
    for (const Index* i = begin; i < end; ++i) {
      const T* seen = source + *i;
      for (Index k = panel.k0; k < panel.k1; k += kLine) __builtin_prefetch(seen + k, 0, 2);
    }
  }

  void add_bias(T* c, const Panel& panel) const {
    for (Index n = 0; n < panel.count; ++n) c[n] += panel.bias[n * p_.bias_stride];
  }

  const WindowProduct<T>& p_;
  const FilterBlocks& blocks_;
  const KernelTable<T>& kernels_;
  const Tile tile_;
  const T* const panels_;  // all factors, packed before; or null
  const FilterFactors<T> factors_;
  const bool rows_follow_;
  const Index sums_row_;
  const PixelStrips strips_;
  const Index taps_, terms_, unit_blocks_;
  const bool images_together_;  // a block is a whole image
  Extents tap_offset_;          // of what the kernel reads
  std::vector<Index> places_;   // of the pixels of a run that leaves out nothing
  std::optional<PixelBoxes> boxes_;
  const PixelWork work_;
  bool source_is_far_ = false;  // not in the second-level cache, and read in place, channels side by side
};

}  // namespace

PixelWork pixel_work(const PixelGrid& grid, Index rows, Index channels, const FilterBlocks& blocks,
                     const Tile& tile) {
  const bool whole_images = blocks.rows * blocks.columns == grid.per_image();
  return {.images = whole_images ? std::min(grid.images, blocks.units) : 1,
          .tile_pixels = tile.rows,
          .channels = channels,
          .filters = ceil_div(rows, blocks.parts),
          .panels = blocks.most_panels(),
          .lanes = tile.lanes};
}

template <class T>
void run_filter_product(const WindowProduct<T>& problem, const FilterBlocks& blocks, const T* panels,
                        const Target& target, const RunContext& context) {
  const Driver<T> driver(problem, blocks, panels, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

template <class T>
void pack_filters(const WindowProduct<T>& problem, const FilterBlocks& blocks, T* panels,
                  const Target& target, const RunContext& context) {
  Driver<T>(problem, blocks, nullptr, target).pack_all(panels, context);
}

Index filter_panels(Index groups, Index rows, Index terms, const Tile& tile) {
  return groups * round_up(rows, tile.lanes) * terms;
}

Index filter_pieces(const PixelGrid& grid, const FilterBlocks& blocks) {
  const PixelStrips strips(joined_pixels(grid), blocks.rows, blocks.columns, 1, 1);
  return ceil_div(strips.blocks(), blocks.units) * blocks.parts;
}

Index filter_strip_elements(const PixelGrid& grid, Index channels, const FilterBlocks& blocks,
                            const Tile& tile) {
  const PixelStrips strips = strips_of(joined_pixels(grid), channels, blocks, tile.bytes);
  return strips.in_place() ? 0 : strips.elements() * blocks.units;
}

Index filter_scratch(const PixelGrid& grid, Index channels, const FilterBlocks& blocks, const Tile& tile) {
  const Index packed = packed_elements(blocks, tile);
  const Index sums = most_pixels(blocks) * sums_row(blocks, tile);
  const Index places = blocks.boxes > 1 ? 3 * most_pixels(blocks) : 0;
  return (packed + sums + filter_strip_elements(grid, channels, blocks, tile)) * tile.bytes +
         blocks.boxes * (grid.taps() * Index{sizeof(Index)} + 2 * blocks.pass * Index{sizeof(Step)}) +
         places * Index{sizeof(Index)};
}

#define WINDROW_FILTER_PRODUCT(T)                                                                         \
  template void run_filter_product(const WindowProduct<T>&, const FilterBlocks&, const T*, const Target&, \
                                   const RunContext&);                                                    \
  template void pack_filters(const WindowProduct<T>&, const FilterBlocks&, T*, const Target&,             \
                             const RunContext&);
WINDROW_FILTER_PRODUCT(float)
WINDROW_FILTER_PRODUCT(double)
#undef WINDROW_FILTER_PRODUCT

}  // namespace windrow
