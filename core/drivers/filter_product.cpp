// Order of the loops, from outside in: pieces of (group, pixels, filters) that threads share; chunks of
// kChunk terms; panels of NR filters, packed here; tiles of MR pixels, which go on over the ends of rows and
// images. A packed panel of one chunk lies in the first-level cache while all pixels of the piece pass over
// it; what they see of one chunk's channels, and the piece's results, lie in the second level.
#include "drivers/filter_product.hpp"

#include <algorithm>
#include <vector>

#include "base/workspace.hpp"
#include "drivers/ahead.hpp"
#include "drivers/tiles.hpp"
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

// Of one piece, at most.
Index most_panels(const FilterBlocks& blocks) { return ceil_div(blocks.panels, blocks.parts); }
Index most_pixels(const FilterBlocks& blocks) { return blocks.units * blocks.rows * blocks.columns; }

// From pixel to pixel in the sums of one piece. Whole lines, but not so many that they share few sets of the
// first-level cache.
Index sums_row(const FilterBlocks& blocks, const Tile& tile) {
  return (blocks.turned ? most_panels(blocks) + 1 : 1) * tile.columns();
}

template <class T>
class Driver {
 public:
  Driver(const WindowProduct<T>& problem, const FilterBlocks& blocks, const T* panels, const Target& target)
      : p_(problem),
        blocks_(blocks),
        kernels_(target.kernels<T>()),
        panels_(panels),
        nr_(Index{kernels_.lanes} * kernels_.vectors),
        filter_panels_(kernels_, problem.rows, blocks.panels),
        sums_row_(sums_row(blocks, tile_of<T>(target))),
        strips_(strips_of(joined_pixels(problem.grid), problem.channels, blocks, sizeof(T))),
        taps_(problem.grid.taps()),
        terms_(problem.channels * taps_),
        unit_blocks_(ceil_div(strips_.blocks(), blocks.units)),
        pixel_step_(strips_.in_place() ? strips_.source_pixel_step() : strips_.pixel_step()),
        row_step_(strips_.in_place() ? strips_.source_row_step() : strips_.row_step()),
        channels_follow_(problem.factor_channel == taps_) {
    for (Index t = 0; t < taps_; ++t) {
      channels_follow_ = channels_follow_ && tap_factor(t) == t;
      tap_offset_.push_back(strips_.in_place() ? strips_.source_tap_offset(t) : strips_.tap_offset(t));
    }
    rows_follow_ = !panels && !channels_follow_ && taps_ == 1 && problem.factor_row == 1;
    const double seen = static_cast<double>(strips_.blocks()) *
                        static_cast<double>(blocks.rows * blocks.columns) *
                        static_cast<double>(problem.groups * problem.channels * Index{sizeof(T)});
    source_is_far_ = strips_.in_place() && taps_ == 1 && problem.source_channel == 1 && seen >= kFarBytes;
    images_together_ = strips_.blocks() == joined_pixels(problem.grid).images;
    place_pixels();
  }

  Index pieces() const { return p_.groups * unit_blocks_ * blocks_.parts; }

  void piece(Index index) const {
    const Index part = index % blocks_.parts;
    const Index panel0 = blocks_.panels * part / blocks_.parts;
    const Index panel1 = blocks_.panels * (part + 1) / blocks_.parts;
    const Index filter0 = filter_panels_.begin(panel0), filters = filter_panels_.begin(panel1) - filter0;
    const Index unit0 = index / blocks_.parts % unit_blocks_ * blocks_.units;
    const Index units = std::min(blocks_.units, strips_.blocks() - unit0);
    const Index group = index / blocks_.parts / unit_blocks_;

    Scratch scratch;
    const Index row = packed_row(round_up(filters, kernels_.lanes), sizeof(T));
    T* packed = scratch.take<T>(row * kChunk);
    auto* steps = scratch.take<Step>(2 * kChunk);
    T* sums = scratch.take<T>(units * blocks_.rows * blocks_.columns * sums_row_);
    T* strip = strips_.in_place() ? nullptr : scratch.take<T>(units * strips_.elements());
    const T* source = p_.source + group * p_.source_group;
    // One image after another is one run of pixels, if it is a single block.
    const Index runs = images_together_ ? 1 : units;
    Pixels* pixels = scratch.take<Pixels>(runs);
    Index tiles = 0;
    for (Index u = 0; u < units; ++u) {
      const PixelBlock block = strips_.block(unit0 + u);
      if (strip && terms_ > 0)
        strips_.fill(kernels_, block, source, p_.source_channel, strip + u * strips_.elements());
      if (u >= runs) continue;
      pixels[u] = {.source = strip ? strip + u * strips_.elements() : source + strips_.source_place(block),
                   .target = p_.target + group * p_.target_group + block.target,
                   .count = block.rows * block.columns * (units / runs)};
      tiles += ceil_div(pixels[u].count, kernels_.rows);
    }

    const T* factor = p_.factor + group * p_.factor_group;
    T* target = p_.target + group * p_.target_group;
    Index k0 = 0;
    do {  // once even where there are no terms: the result is then zero plus the bias
      const Index k1 = std::min(k0 + kChunk, terms_);
      // Panels are of two widths at most, the first of all as narrow as any.
      Step* narrow_steps = steps + kChunk;
      set_steps(k0, k1, rows_follow_ ? row : most_width(), steps);
      if (width(0) != most_width()) set_steps(k0, k1, rows_follow_ ? row : width(0), narrow_steps);
      // Factors are fetched while others are multiplied: the next panel's where each filter's lie on pages of
      // their own, the next chunk's where those of a term are neighbours.
      const Index k2 = std::min(k1 + kChunk, terms_);
      LinesAhead<T> ahead;
      if (!panels_ && !channels_follow_) {
        const T* first = factor + filter0 * p_.factor_row;
        rows_follow_ ? copy_rows(k0, k1, filters, first, row, packed)
                     : pack(k0, k1, panel0, panel1, first, packed);
        ahead = factor_lines(k1, k2, filters, first);
        ahead.share((panel1 - panel0) * tiles);
      }
      for (Index i = panel0; i < panel1; ++i) {
        const Index m = filter_panels_.begin(i), width = this->width(i);
        Panel panel{.first = m,
                    .count = filter_panels_.begin(i + 1) - m,
                    .k0 = k0,
                    .k1 = k1,
                    .reads_ahead = source_is_far_ && i == panel0};
        const T* factors = packed + (m - filter0) * (rows_follow_ ? 1 : k1 - k0);
        if (panels_) {
          factors = panels_ + panels_place(group, k0) + m * (k1 - k0);
          const Index panel_terms = (k1 - k0) * width;
          ahead = {factors + panel_terms, 0, 1, ceil_div(panel_terms, kLine)};
          ahead.share(tiles);
        } else if (channels_follow_) {
          pack(k0, k1, i, i + 1, factor + m * p_.factor_row, packed);
          factors = packed;
          const bool last = i + 1 == panel1;
          const Index next = last ? panel0 : i + 1, next_filter = filter_panels_.begin(next);
          ahead = factor_lines(last ? k1 : k0, last ? k2 : k1, filter_panels_.begin(next + 1) - next_filter,
                               factor + next_filter * p_.factor_row);
          ahead.share(tiles);
        }
        panel.bias = k1 == terms_ && p_.bias ? p_.bias + (group * p_.rows + m) * p_.bias_stride : nullptr;
        const Product<T> product{.a = nullptr,
                                 .a_row = 0,
                                 .b = factors,
                                 .step = width == most_width() ? steps : narrow_steps,
                                 .c = nullptr,
                                 .c_row = sums_row_,
                                 .k = k1 - k0,
                                 .accumulate = k0 > 0 || p_.accumulate,
                                 .bias = nullptr};
        T* buffer = sums + (blocks_.turned ? m - filter0 : 0);
        for (Index run = 0; run < runs; buffer += pixels[run++].count * sums_row_)
          run_pixels(product, panel, pixels[run], buffer, ahead);
      }
      k0 = k1;
    } while (k0 < terms_);
    for (Index u = 0; blocks_.turned && u < units; ++u) {
      const PixelBlock block = strips_.block(unit0 + u);
      store_turned(block, sums, filters, packed, target + block.target + filter0 * p_.target_row);
      sums += block.rows * block.columns * sums_row_;
    }
  }

  // In the order in which they are read: chunk by chunk of terms, in each of them panel by panel.
  void pack_all(T* panels, const RunContext& context) const {
    const Index chunks = ceil_div(terms_, Index{kChunk});
    parallel_for(context, p_.groups * chunks, [&](Index i) {
      const Index group = i / chunks, k0 = i % chunks * kChunk, k1 = std::min(k0 + kChunk, terms_);
      pack(k0, k1, 0, filter_panels_.count(), p_.factor + group * p_.factor_group,
           panels + panels_place(group, k0));
    });
  }

 private:
  static constexpr Index kLine = 64 / sizeof(T);

  // Where the chunk of a group that begins with this term has its panels among all of them.
  Index panels_place(Index group, Index k0) const {
    return (group * terms_ + k0) * round_up(p_.rows, kernels_.lanes);
  }

  // A run of them: what the first one sees and where its results go.
  struct Pixels {
    const T* source;
    T* target;
    Index count;
  };

  // What each pixel of a run sees and where it goes, from the first one on.
  void place_pixels() {
    const Index images = images_together_ ? blocks_.units : 1;
    const Index image = strips_.in_place() ? p_.grid.source_image : strips_.elements();
    const Index count = images * blocks_.rows * blocks_.columns;
    from_.reserve(static_cast<std::size_t>(count));
    to_.reserve(static_cast<std::size_t>(count));
    for (Index u = 0; u < images; ++u) {
      for (Index r = 0; r < blocks_.rows; ++r) {
        Index from = u * image + r * row_step_;
        Index to = u * p_.grid.target_image + r * strips_.row_axis().target_stride;
        for (Index i = 0; i < blocks_.columns; ++i, from += pixel_step_, to += target_step()) {
          from_.push_back(from);
          to_.push_back(to);
        }
      }
    }
  }

  Index target_step() const { return strips_.last().target_stride; }

  struct Panel {
    Index first, count;  // filters
    Index k0, k1;        // terms
    bool reads_ahead;    // what its pixels see is fetched, a tile ahead
    const T* bias = nullptr;
  };

  void set_steps(Index k0, Index k1, Index row, Step* steps) const {
    const Index channel_step = strips_.in_place() ? p_.source_channel : 1;
    Index channel = k0 < k1 ? k0 / taps_ : 0, tap = k0 - channel * taps_;
    for (Index k = k0; k < k1; ++k) {
      steps[k - k0] = {.a = channel * channel_step + tap_offset_[static_cast<std::size_t>(tap)],
                       .b = (k - k0) * row};
      if (++tap == taps_) {
        tap = 0;
        ++channel;
      }
    }
  }

  // Filters of a panel, in whole vectors; of the widest.
  Index width(Index panel) const { return filter_panels_.vectors(panel) * kernels_.lanes; }
  Index most_width() const { return width(filter_panels_.count() - 1); }

  // The factors of the panels [panel0, panel1), for the terms [k0, k1): panel by panel [term][filter], zeros
  // past the last filter. `factor` is that of the first filter. Terms come first, filters of all panels
  // within them, in the order of memory if the factors of neighbouring filters are neighbours.
  void pack(Index k0, Index k1, Index panel0, Index panel1, const T* factor, T* packed) const {
    const Index filter0 = filter_panels_.begin(panel0), panels = filter_panels_.count();
    if (panel1 == panels && p_.rows % kernels_.lanes != 0)
      std::fill_n(packed + (filter_panels_.begin(panels - 1) - filter0) * (k1 - k0),
                  width(panels - 1) * (k1 - k0), T{0});
    // Of each filter the `terms` factors from `first` on, which become those of term k and every step-th one.
    const auto turn = [&](const T* first, Index terms, Index k, Index step) {
      for (Index i = panel0; i < panel1; ++i) {
        const Index m = filter_panels_.begin(i) - filter0, width = this->width(i);
        T* target = packed + m * (k1 - k0) + (k - k0) * width;
        const T* source = first + m * p_.factor_row;
        const Index count = filter_panels_.begin(i + 1) - filter0 - m;
        if (terms == 1) {
          kernels_.collect({.target = target, .source = source, .step = p_.factor_row, .count = count});
          continue;
        }
        kernels_.transpose({.target = target,
                            .target_row = step * width,
                            .source = source,
                            .source_row = p_.factor_row,
                            .rows = terms,
                            .columns = count,
                            .ahead = 0});
      }
    };
    if (p_.factor_channel == 1 && !channels_follow_) {  // tap by tap, since channels lie side by side
      for (Index tap = 0; tap < taps_; ++tap) {
        const Index k = k0 + (tap + taps_ - k0 % taps_) % taps_;
        if (k < k1) turn(factor + k / taps_ + tap_factor(tap), ceil_div(k1 - k, taps_), k, taps_);
      }
      return;
    }
    for (Index k = k0; k < k1;) {
      const Index tap = k % taps_;
      const T* from = factor + k / taps_ * p_.factor_channel + tap_factor(tap);
      // Terms that lie side by side, forwards or backwards.
      const auto [terms, step] = neighbours(tap, k1 - k);
      step > 0 ? turn(from, terms, k, step) : turn(from - (terms - 1), terms, k + terms - 1, step);
      k += terms;
    }
  }

  // The same where all of a term's lie side by side: [term][filter], as they are in memory.
  void copy_rows(Index k0, Index k1, Index filters, const T* factor, Index row, T* packed) const {
    for (Index k = k0; k < k1; ++k, packed += row) {
      std::copy_n(factor + k * p_.factor_channel + tap_factor(0), filters, packed);
      std::fill(packed + filters, packed + round_up(filters, kernels_.lanes), T{0});
    }
  }

  // Where the factors of some terms lie: a run for each filter, or for each channel.
  LinesAhead<T> factor_lines(Index k0, Index k1, Index filters, const T* factor) const {
    if (k0 == k1) return {};
    if (channels_follow_) return {factor + k0, p_.factor_row, filters, ceil_div(k1 - k0, kLine)};
    if (p_.factor_row < 1 || p_.factor_row > taps_) return {};
    const Index channel = k0 / taps_;
    return {factor + channel * p_.factor_channel, p_.factor_channel, ceil_div(k1, taps_) - channel,
            ceil_div(filters * p_.factor_row, kLine)};
  }

  Index tap_factor(Index tap) const { return p_.factor_tap[static_cast<std::size_t>(tap)]; }

  struct Neighbours {
    Index terms, step;
  };
  // How many terms from this tap on have factors one element apart, and in which direction: at most `most`.
  Neighbours neighbours(Index tap, Index most) const {
    if (channels_follow_) return {most, 1};
    const Index step = tap + 1 < taps_ && tap_factor(tap + 1) < tap_factor(tap) ? -1 : 1;
    Index terms = 1;
    while (terms < most && tap + terms < taps_ &&
           tap_factor(tap + terms) - tap_factor(tap + terms - 1) == step)
      ++terms;
    return {terms, step};
  }

  void run_pixels(Product<T> product, const Panel& panel, const Pixels& pixels, T* buffer,
                  LinesAhead<T>& ahead) const {
    const int vectors = static_cast<int>(ceil_div(panel.count, kernels_.lanes));
    const bool in_place = !blocks_.turned && panel.count % kernels_.lanes == 0;
    const bool copied = !blocks_.turned && !in_place;  // filters that fill no vector are summed in a buffer
    const bool last = panel.k1 == terms_;
    T* target = pixels.target + panel.first * p_.target_row;
    // Tiles of nearly equal size: small ones cannot hide the latency of their sums.
    const Index tiles = ceil_div(pixels.count, kernels_.rows);
    for (Index t = 0; t < tiles; ++t) {
      const Index from = pixels.count * t / tiles, count = pixels.count * (t + 1) / tiles - from;
      const Index* to = to_.data() + from;
      product.a = pixels.source;
      product.a_at = from_.data() + from;
      product.c = in_place ? target : buffer + from * sums_row_;
      product.c_at = in_place ? to : nullptr;
      const auto sums = [&](Index i) { return product.c + (in_place ? to[i] : i * sums_row_); };
      if (copied && p_.accumulate && panel.k0 == 0) {
        for (Index i = 0; i < count; ++i) std::copy_n(target + to[i], panel.count, sums(i));
      }
      ahead.fetch();
      if (panel.reads_ahead && t + 1 < tiles)
        fetch(panel, pixels, from + count, pixels.count * (t + 2) / tiles);
      kernels_.product(product, static_cast<int>(count), vectors);
      if (!last || !(panel.bias || p_.limits.on || copied)) continue;
      for (Index i = 0; i < count; ++i) {
        if (panel.bias) add_bias(sums(i), panel);
        limit(kernels_, p_.limits, sums(i), 0, 1, panel.count);
        if (copied) std::copy_n(sums(i), panel.count, target + to[i]);
      }
    }
  }

  // The sums [pixel][filter] of a block to where they belong.
  void store_turned(const PixelBlock& block, const T* sums, Index filters, T* buffer, T* target) const {
    const Index step = strips_.last().target_stride, row_stride = strips_.row_axis().target_stride;
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
      for (Index m = 0; m < filters; m += nr_) {
        for (Index i = 0; i < columns; i += kChunk) {
          const Index some = std::min(nr_, filters - m), count = std::min(Index{kChunk}, columns - i);
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

  // What the pixels [begin, end) see of the terms of a panel.
  void fetch(const Panel& panel, const Pixels& pixels, Index begin, Index end) const {
    for (Index i = begin; i < end; ++i) {
      const T* seen = pixels.source + from_[static_cast<std::size_t>(i)];
      for (Index k = panel.k0; k < panel.k1; k += kLine) __builtin_prefetch(seen + k, 0, 2);
    }
  }

  void add_bias(T* c, const Panel& panel) const {
    for (Index n = 0; n < panel.count; ++n) c[n] += panel.bias[n * p_.bias_stride];
  }

  const WindowProduct<T>& p_;
  const FilterBlocks& blocks_;
  const KernelTable<T>& kernels_;
  const T* const panels_;          // all factors, packed before; or null
  const Index nr_;                 // the widest panel of filters ...
  const EvenTiles filter_panels_;  // ... and those here
  const Index sums_row_;
  const PixelStrips strips_;
  const Index taps_, terms_, unit_blocks_;
  Extents tap_offset_;                 // of what the kernel reads
  const Index pixel_step_, row_step_;  // from pixel to pixel in what the kernel reads
  bool images_together_ = false;       // a block is a whole image
  std::vector<Index> from_, to_;       // of the pixels of a run
  bool channels_follow_;               // the factors of one result row lie side by side, in order
  bool rows_follow_ = false;           // those of one term do, under a window of one tap
  bool source_is_far_ = false;  // not in the second-level cache, and read in place, channels side by side
};

}  // namespace

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
  const Index packed = kChunk * packed_row(most_panels(blocks) * tile.columns(), tile.bytes);
  const Index sums = most_pixels(blocks) * sums_row(blocks, tile);
  return (packed + sums + filter_strip_elements(grid, channels, blocks, tile)) * tile.bytes +
         2 * kChunk * Index{sizeof(Step)} + blocks.units * Index{4 * sizeof(Index)};
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
