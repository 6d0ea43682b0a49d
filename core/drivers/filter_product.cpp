// Order of the loops, from outside in: pieces of (group, pixels, filters) that threads share; chunks of
// kChunk terms; panels of NR filters, packed here; tiles of MR pixels. A packed panel of one chunk lies in
// the first-level cache while all pixels of the piece pass over it; what they see of one chunk's channels,
// and the piece's results, lie in the second level.
#include "drivers/filter_product.hpp"

#include <algorithm>

#include "base/workspace.hpp"
#include "pack/pixel_strips.hpp"

namespace windrow {
namespace {

PixelStrips strips_of(const PixelGrid& grid, Index channels, const FilterBlocks& blocks, Index element) {
  constexpr Index kLine = 64;
  return {grid, blocks.rows, blocks.columns, channels, kLine / element};
}

template <class T>
class Driver {
 public:
  Driver(const WindowProduct<T>& problem, const FilterBlocks& blocks, const Target& target)
      : p_(problem),
        blocks_(blocks),
        kernels_(target.kernels<T>()),
        nr_(Index{kernels_.lanes} * kernels_.vectors),
        strips_(strips_of(joined_pixels(problem.grid), problem.channels, blocks, sizeof(T))),
        taps_(problem.grid.taps()),
        terms_(problem.channels * taps_),
        unit_blocks_(ceil_div(strips_.blocks(), blocks.units)),
        filter_blocks_(ceil_div(problem.rows, blocks.filters)),
        pixel_step_(strips_.in_place() ? strips_.source_pixel_step() : strips_.pixel_step()),
        row_step_(strips_.in_place() ? strips_.source_row_step() : strips_.row_step()),
        channels_follow_(problem.factor_channel == taps_) {
    for (Index t = 0; t < taps_; ++t) channels_follow_ = channels_follow_ && tap_factor(t) == t;
  }

  Index pieces() const { return p_.groups * unit_blocks_ * filter_blocks_; }

  void piece(Index index) const {
    const Index filter0 = index % filter_blocks_ * blocks_.filters;
    const Index filters = std::min(blocks_.filters, p_.rows - filter0);
    const Index unit0 = index / filter_blocks_ % unit_blocks_ * blocks_.units;
    const Index units = std::min(blocks_.units, strips_.blocks() - unit0);
    const Index group = index / filter_blocks_ / unit_blocks_;

    Scratch scratch;
    T* packed = scratch.take<T>(nr_ * kChunk);
    auto* steps = scratch.take<Step>(kChunk);
    T* sums = scratch.take<T>(units * blocks_.rows * blocks_.columns * nr_);
    T* strip = strips_.in_place() ? nullptr : scratch.take<T>(units * strips_.elements());
    const T* source = p_.source + group * p_.source_group;
    for (Index u = 0; strip && terms_ > 0 && u < units; ++u)
      strips_.fill(kernels_, strips_.block(unit0 + u), source, p_.source_channel,
                   strip + u * strips_.elements());

    const T* factor = p_.factor + group * p_.factor_group;
    T* target = p_.target + group * p_.target_group;
    Index k0 = 0;
    do {  // once even where there are no terms: the result is then zero plus the bias
      const Index k1 = std::min(k0 + kChunk, terms_);
      set_steps(k0, k1, steps);
      for (Index m = filter0; m < filter0 + filters; m += nr_) {
        Panel panel{.first = m, .count = std::min(nr_, filter0 + filters - m), .k0 = k0, .k1 = k1};
        panel.bias = k1 == terms_ && p_.bias ? p_.bias + (group * p_.rows + m) * p_.bias_stride : nullptr;
        pack(panel, factor + m * p_.factor_row, packed);
        // Next come the next filters, or the first ones with the next terms.
        if (m + nr_ < filter0 + filters) {
          fetch(k0, k1, std::min(nr_, filter0 + filters - m - nr_), factor + (m + nr_) * p_.factor_row);
        } else {
          fetch(k1, std::min(k1 + kChunk, terms_), std::min(nr_, filters), factor + filter0 * p_.factor_row);
        }
        const Product<T> product{.a = nullptr,
                                 .a_row = pixel_step_,
                                 .b = packed,
                                 .step = steps,
                                 .c = nullptr,
                                 .c_row = 0,
                                 .k = k1 - k0,
                                 .accumulate = k0 > 0 || p_.accumulate,
                                 .bias = nullptr};
        T* buffer = sums;
        for (Index u = 0; u < units; ++u) {
          const PixelBlock block = strips_.block(unit0 + u);
          const T* first = strip ? strip + u * strips_.elements() : source + strips_.source_place(block);
          run_block(product, panel, block, first, target + block.target + m * p_.target_row, buffer);
        }
      }
      k0 = k1;
    } while (k0 < terms_);
  }

 private:
  struct Panel {
    Index first, count;  // filters
    Index k0, k1;        // terms
    const T* bias = nullptr;
  };

  void set_steps(Index k0, Index k1, Step* steps) const {
    for (Index k = k0; k < k1; ++k) {
      const Index channel = k / taps_, tap = k % taps_;
      const Index offset = strips_.in_place() ? channel * p_.source_channel + strips_.source_tap_offset(tap)
                                              : channel + strips_.tap_offset(tap);
      steps[k - k0] = {.a = offset, .b = (k - k0) * nr_};
    }
  }

  // The factors of a panel's filters and terms: [term][filter], zeros past the last filter.
  void pack(const Panel& panel, const T* factor, T* packed) const {
    if (panel.count < nr_) std::fill_n(packed, (panel.k1 - panel.k0) * nr_, T{0});
    for (Index k = panel.k0; k < panel.k1;) {
      const Index channel = k / taps_, tap = k % taps_;
      const T* from = factor + channel * p_.factor_channel + tap_factor(tap);
      // Terms that lie side by side are turned over together, forwards or backwards.
      const auto [terms, step] = neighbours(tap, panel.k1 - k);
      if (p_.factor_row == 1) {
        std::copy_n(from, panel.count, packed);
        packed += nr_;
        k += 1;
        continue;
      }
      kernels_.transpose({.target = step > 0 ? packed : packed + (terms - 1) * nr_,
                          .target_row = step * nr_,
                          .source = step > 0 ? from : from - (terms - 1),
                          .source_row = p_.factor_row,
                          .rows = terms,
                          .columns = panel.count,
                          .ahead = 0});
      packed += terms * nr_;
      k += terms;
    }
  }

  // Factors that are packed next come from memory while the kernel works: they lie on too many pages for the
  // hardware to guess.
  void fetch(Index k0, Index k1, Index filters, const T* factor) const {
    constexpr Index kLine = 64 / sizeof(T);
    const auto fetch_run = [](const T* from, Index count) {
      for (Index i = 0; i < count; i += kLine) __builtin_prefetch(from + i, 0, 2);
    };
    if (channels_follow_) {
      for (Index m = 0; m < filters; ++m) fetch_run(factor + m * p_.factor_row + k0, k1 - k0);
    } else if (p_.factor_row > 0 && p_.factor_row <= kLine) {
      for (Index channel = k0 / taps_; channel * taps_ < k1; ++channel)
        fetch_run(factor + channel * p_.factor_channel, filters * p_.factor_row);
    }
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

  void run_block(Product<T> product, const Panel& panel, const PixelBlock& block, const T* first, T* target,
                 T*& buffer) const {
    const int vectors = static_cast<int>(ceil_div(panel.count, kernels_.lanes));
    const bool whole = panel.count % kernels_.lanes == 0;
    // Tiles of nearly equal size: small ones cannot hide the latency of their sums.
    const Index tiles = ceil_div(block.columns, kernels_.rows);
    const Index pixel = strips_.last().target_stride;
    for (Index r = 0; r < block.rows; ++r) {
      for (Index t = 0; t < tiles; ++t) {
        const Index from = block.columns * t / tiles, to = block.columns * (t + 1) / tiles;
        T* result = target + r * strips_.row_axis().target_stride + from * pixel;
        product.a = first + r * row_step_ + from * pixel_step_;
        // Filters that fill no vector are summed in a buffer.
        product.c = whole ? result : buffer;
        product.c_row = whole ? pixel : nr_;
        if (!whole && p_.accumulate && panel.k0 == 0) {
          for (Index i = 0; i < to - from; ++i)
            std::copy_n(result + i * pixel, panel.count, buffer + i * nr_);
        }
        kernels_.product(product, static_cast<int>(to - from), vectors);
        if (panel.bias) add_bias(product.c, product.c_row, to - from, panel);
        if (!whole && panel.k1 == terms_) {
          for (Index i = 0; i < to - from; ++i)
            std::copy_n(buffer + i * nr_, panel.count, result + i * pixel);
        }
        if (!whole) buffer += (to - from) * nr_;
      }
    }
  }

  void add_bias(T* c, Index c_row, Index pixels, const Panel& panel) const {
    for (Index i = 0; i < pixels; ++i, c += c_row)
      for (Index n = 0; n < panel.count; ++n) c[n] += panel.bias[n * p_.bias_stride];
  }

  const WindowProduct<T>& p_;
  const FilterBlocks& blocks_;
  const KernelTable<T>& kernels_;
  const Index nr_;
  const PixelStrips strips_;
  const Index taps_, terms_, unit_blocks_, filter_blocks_;
  const Index pixel_step_, row_step_;  // from pixel to pixel in what the kernel reads
  bool channels_follow_;               // the factors of one result row lie side by side, in order
};

}  // namespace

template <class T>
void run_filter_product(const WindowProduct<T>& problem, const FilterBlocks& blocks, const Target& target,
                        const RunContext& context) {
  const Driver<T> driver(problem, blocks, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

Index filter_pieces(const PixelGrid& grid, Index rows, const FilterBlocks& blocks) {
  const PixelStrips strips(joined_pixels(grid), blocks.rows, blocks.columns, 1, 1);
  return ceil_div(strips.blocks(), blocks.units) * ceil_div(rows, blocks.filters);
}

Index filter_strip_elements(const PixelGrid& grid, Index channels, const FilterBlocks& blocks,
                            const Tile& tile) {
  const PixelStrips strips = strips_of(joined_pixels(grid), channels, blocks, tile.bytes);
  return strips.in_place() ? 0 : strips.elements() * blocks.units;
}

Index filter_scratch(const PixelGrid& grid, Index channels, const FilterBlocks& blocks, const Tile& tile) {
  const Index packed = kChunk * tile.columns();
  const Index sums = blocks.units * blocks.rows * blocks.columns * tile.columns();
  return (packed + sums + filter_strip_elements(grid, channels, blocks, tile)) * tile.bytes +
         kChunk * Index{sizeof(Step)};
}

template void run_filter_product(const WindowProduct<float>&, const FilterBlocks&, const Target&,
                                 const RunContext&);
template void run_filter_product(const WindowProduct<double>&, const FilterBlocks&, const Target&,
                                 const RunContext&);

}  // namespace windrow
