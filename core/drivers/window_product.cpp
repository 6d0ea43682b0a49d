// Order of the loops, from outside in: pieces of (group, pixels, rows) that threads share; chunks of kChunk
// terms; panels of NR pixels, a few of which are packed at a time; tiles of MR rows. A panel of one chunk
// lies in the first-level cache while all rows of the piece pass over it; the other panels of its few, and
// the rows' factors of one chunk, lie in the second level.
#include "drivers/window_product.hpp"

#include <algorithm>
#include <atomic>
#include <new>
#include <span>

#include "base/finite.hpp"
#include "base/workspace.hpp"
#include "drivers/tiles.hpp"

namespace windrow {
namespace {

// Of the panels that are packed at a time. Channels lie pages apart, and of each a panel wants a few lines:
// so many panels side by side are read in a row, before the next page is gone to.
constexpr Index kPackedBytes = Index{96} << 10;

Index panels_packed(const ProductBlocks& blocks, Index panel_bytes) {
  return std::clamp<Index>(kPackedBytes / panel_bytes, 1, blocks.panels);
}

// From term to term of packed factors or pixels, in elements: an odd number of cache lines, so that terms do
// not fall into few sets of the cache.
Index term_stride(Index count, Index bytes) {
  const Index line = static_cast<Index>(kAlignment) / bytes;
  return (ceil_div(count, line) | 1) * line;
}

// One panel of the piece at work. Where its pixels do not lie side by side in the result, or do not fill its
// vectors, its sums are kept in a buffer until they are complete.
template <class T>
struct Panel {
  PanelTable table;
  bool copied = false;  // with those packed with it: single pixels that follow one another in the source
  Index packed = 0;     // where it begins among those
  int vectors = 0;      // of the tile that hold pixels
  T* sums = nullptr;    // [row][NR], or null: the result itself
};

template <class T>
class Driver {
 public:
  Driver(const WindowProduct<T>& problem, const ProductBlocks& blocks, const Target& target, int threads)
      : p_(problem),
        blocks_(blocks),
        kernels_(target.kernels<T>()),
        nr_(Index{kernels_.lanes} * kernels_.vectors),
        taps_(problem.grid.taps()),
        terms_(problem.channels * taps_),
        pixels_(problem.grid.images * problem.grid.per_image()),
        panels_(std::max(blocks.all_panels, ceil_div(pixels_, nr_))),
        pixel_blocks_(ceil_div(panels_, blocks.panels)),
        row_blocks_(ceil_div(problem.rows, blocks.rows)),
        by_rows_(threads > 1),
        packed_(panels_packed(blocks, nr_ * kChunk * Index{sizeof(T)})),
        packed_stride_(term_stride(packed_ * nr_, sizeof(T))),
        term_(taps_ == 1 ? packed_stride_ : nr_),
        table_(panel_size(problem.grid, kernels_.lanes, kernels_.vectors)) {}

  Index pieces() const { return p_.groups * pixel_blocks_ * row_blocks_; }

  void piece(Index index) const {
    // One thread has all rows pass over the pixels that it has brought near; several share the rows, so that
    // each keeps its own factors near.
    const Index row_block = by_rows_ ? index / pixel_blocks_ % row_blocks_ : index % row_blocks_;
    const Index pixel_block = by_rows_ ? index % pixel_blocks_ : index / row_blocks_ % pixel_blocks_;
    const Index group = index / row_blocks_ / pixel_blocks_;
    const Index row0 = row_block * blocks_.rows;
    const Index rows = std::min(blocks_.rows, p_.rows - row0);
    // Blocks of equal size, so that the last one is not a sliver.
    const Index panel0 = panels_ * pixel_block / pixel_blocks_;
    const Index panel1 = panels_ * (pixel_block + 1) / pixel_blocks_;

    Scratch scratch;
    T* packed = scratch.take<T>(packed_stride_ * kChunk);
    auto* steps = scratch.take<Step>(kChunk);
    const Index stride = term_stride(blocks_.rows, sizeof(T));
    T* factors = blocks_.pack_factor ? scratch.take<T>(kChunk * stride) : nullptr;
    const Index count = panel1 - panel0;
    Panel<T>* panels = scratch.take<Panel<T>>(count);
    for (Index i = 0; i < count; ++i) {
      const Index pixel = first_pixel(panel0 + i), pixels = first_pixel(panel0 + i + 1) - pixel;
      Panel<T>& panel = *new (&panels[i]) Panel<T>{.table = PanelTable(scratch, table_)};
      panel.table.place(p_.grid, pixel, pixels);
      if (table_.taps == taps_) panel.table.set_taps(p_.grid, 0, taps_);
      const Index first = i / packed_ * packed_;  // of those packed with it
      panel.copied =
          i > first ? panels[first].copied : side_by_side(panel0 + i, panel0 + std::min(i + packed_, count));
      panel.packed = panel.copied ? pixel - first_pixel(panel0 + first)
                                  : (i - first) * nr_ * (taps_ == 1 ? 1 : Index{kChunk});
      panel.vectors = static_cast<int>(ceil_div(pixels, kernels_.lanes));
      const bool in_place = pixels % kernels_.lanes == 0 && panel.table.contiguous(p_.grid);
      panel.sums = in_place ? nullptr : scratch.take<T>(rows * nr_);
    }

    T* target = p_.target + group * p_.target_group + row0 * p_.target_row;
    if (p_.accumulate) {
      for (Index i = 0; i < count; ++i) load_sums(panels[i], target, rows);
    }
    const T* source = p_.source + group * p_.source_group;
    const T* factor = p_.factor + group * p_.factor_group + row0 * p_.factor_row;
    const T* bias = p_.bias ? p_.bias + (group * p_.rows + row0) * p_.bias_stride : nullptr;
    Index k0 = 0, chunk = 0;
    do {  // once even where there are no terms: the result is then zero plus the bias
      checkpoint();
      const Index k1 = chunk_end(chunk++);
      set_steps(k0, k1, steps);
      if (factors) pack_factors(factor, k1 - k0, rows, stride, factors, steps);
      for (Index i = 0; i < count; ++i) {
        Panel<T>& panel = panels[i];
        if (i % packed_ == 0) {
          const Index some = std::min(packed_, count - i);
          // Next come the next panels, or the first ones of the next channels.
          const bool last = i + some == count;
          const Index channels = ceil_div(k1 - k0, std::max<Index>(1, taps_));
          const Index ahead = panels[last ? 0 : i + some].table.source_place() - panel.table.source_place() +
                              (last ? channels * p_.source_channel : 0);
          if (panel.copied) {
            copy(panel, first_pixel(panel0 + i + some) - first_pixel(panel0 + i), source, k0, k1, ahead,
                 packed);
          } else {
            pack({&panel, static_cast<std::size_t>(some)}, source, k0, k1, ahead, packed);
          }
        }
        Product<T> product{.a = factors ? factors : factor,
                           .a_row = factors ? 1 : p_.factor_row,
                           .b = packed + panel.packed,
                           .step = steps,
                           .c = panel.sums ? panel.sums : target + panel.table.runs().front().target,
                           .c_row = panel.sums ? nr_ : p_.target_row,
                           .k = k1 - k0,
                           .accumulate = chunk > 1 || p_.accumulate,
                           .bias = nullptr};
        const bool last = k1 == terms_;
        run_tiles(kernels_, product, rows, panel.vectors, last ? bias : nullptr, p_.bias_stride,
                  last ? p_.limits : Limits{});
      }
      k0 = k1;
    } while (k0 < terms_);
    for (Index i = 0; i < count; ++i) store_sums(panels[i], target, rows);
  }

 private:
  // Panels of nearly equal width, in whole vectors.
  Index first_pixel(Index panel) const {
    return std::min(pixels_, ceil_div(pixels_, kernels_.lanes) * panel / panels_ * kernels_.lanes);
  }

  // The first term that is not of this chunk or one before it.
  Index chunk_end(Index chunk) const {
    const Index end = (chunk + 1) * kChunk;
    if (p_.all_taps == 0) return std::min(end, terms_);
    const Extents& number = p_.tap_number;
    const Index taps = std::lower_bound(number.begin(), number.end(), end % p_.all_taps) - number.begin();
    return std::min(end / p_.all_taps * taps_ + taps, terms_);
  }

  void set_steps(Index k0, Index k1, Step* steps) const {
    Index channel = taps_ ? k0 / taps_ : 0;
    Index tap = k0 - channel * taps_;
    for (Index k = k0; k < k1; ++k) {
      steps[k - k0] = {.a = channel * p_.factor_channel + p_.factor_tap[static_cast<std::size_t>(tap)],
                       .b = (k - k0) * term_};
      if (++tap == taps_) {
        tap = 0;
        ++channel;
      }
    }
  }

  // Whether the windows of some panels are single pixels that follow one another in the source.
  bool side_by_side(Index panel0, Index panel1) const {
    const PixelGrid& grid = p_.grid;
    const PixelAxis& axis = grid.axes.back();
    const Index per_image = grid.per_image();
    return taps_ == 1 && grid.axes.size() == 1 && axis.source_stride * axis.step == 1 && axis.tap[0] == 0 &&
           axis.count <= axis.size &&
           first_pixel(panel0) / per_image == (first_pixel(panel1) - 1) / per_image;
  }

  // Packs such pixels of the channels [k0, k1), the first of which are those of `panel`.
  void copy(const Panel<T>& panel, Index pixels, const T* source, Index k0, Index k1, Index ahead,
            T* packed) const {
    kernels_.pad({.target = packed,
                  .target_row = term_,
                  .source = source + k0 * p_.source_channel + panel.table.source_place(),
                  .source_row = p_.source_channel,
                  .step = 1,
                  .rows = k1 - k0,
                  .width = round_up(pixels, kernels_.lanes),
                  .low = 0,
                  .high = pixels,
                  .ahead = ahead});
  }

  void pack(std::span<Panel<T>> panels, const T* source, Index k0, Index k1, Index ahead, T* packed) const {
    for (Index k = k0; k < k1;) {
      const Index channel = k / taps_;
      const Index tap0 = k % taps_;
      Index tap1 = std::min(taps_, tap0 + k1 - k);
      if (table_.taps < taps_) {
        // Only those of one row of the window.
        const auto row = static_cast<Index>(p_.grid.axes.back().tap.size());
        tap1 = std::min(tap1, (tap0 / row + 1) * row);
      }
      for (Panel<T>& panel : panels) {
        if (table_.taps < taps_) panel.table.set_taps(p_.grid, tap0, tap1);
        panel.table.pack(kernels_, source + channel * p_.source_channel, tap0, tap1, ahead,
                         packed + panel.packed);
      }
      packed += (tap1 - tap0) * term_;
      k += tap1 - tap0;
    }
  }

  // The factors of some terms as `packed`[term][row], and the steps to them there. Where rows lie side by
  // side in w and terms far apart, each term of a tile would be a cache line of its own, in few sets of the
  // cache: so it is in the input gradient of a window of one tap. In channels-last weights the taps of a row
  // lie so far apart, and the factors are turned over tap by tap.
  void pack_factors(const T* factor, Index terms, Index rows, Index stride, T* packed, Step* steps) const {
    if (p_.factor_channel == 1 && taps_ > 1) {
      for (Index k = 0; k < std::min(taps_, terms); ++k)
        kernels_.transpose({.target = packed + k * stride,
                            .target_row = taps_ * stride,
                            .source = factor + steps[k].a,
                            .source_row = p_.factor_row,
                            .rows = ceil_div(terms - k, taps_),
                            .columns = rows,
                            .ahead = 0});
    } else {
      for (Index k = 0; k < terms; ++k)
        kernels_.collect({.target = packed + k * stride,
                          .source = factor + steps[k].a,
                          .step = p_.factor_row,
                          .count = rows});
    }
    for (Index k = 0; k < terms; ++k) steps[k].a = k * stride;
  }

  // From the result to a panel's buffer, if it has one, and back.
  void load_sums(const Panel<T>& panel, const T* target, Index rows) const {
    if (!panel.sums) return;
    const Index step = p_.grid.axes.back().target_stride;
    for (Index m = 0; m < rows; ++m) {
      for (const Run& run : panel.table.runs())
        for (Index i = 0; i < run.count; ++i)
          panel.sums[m * nr_ + run.lane + i] = target[m * p_.target_row + run.target + i * step];
    }
  }
  void store_sums(const Panel<T>& panel, T* target, Index rows) const {
    if (!panel.sums) return;
    for (const Run& run : panel.table.runs())
      kernels_.spread({.target = target + run.target,
                       .source = panel.sums + run.lane,
                       .step = p_.grid.axes.back().target_stride,
                       .count = run.count,
                       .rows = rows,
                       .target_row = p_.target_row,
                       .source_row = nr_});
  }

  const WindowProduct<T>& p_;
  const ProductBlocks& blocks_;
  const KernelTable<T>& kernels_;
  const Index nr_, taps_, terms_, pixels_, panels_, pixel_blocks_, row_blocks_;
  const bool by_rows_;                  // blocks of rows follow each other only after all pixels
  const Index packed_, packed_stride_;  // panels packed at a time, and elements of a term of all of them
  const Index term_;  // from term to term: of all of them under a window of one tap, else of one panel
  const PanelSize table_;
};

// The product of some pixels and the taps that they see.
template <class T>
WindowProduct<T> part_of(const WindowProduct<T>& problem, const VisiblePart& part) {
  WindowProduct<T> p = problem;
  p.grid = part.grid;
  p.target += part.target;
  p.factor_tap = {};
  for (const Index tap : part.taps) p.factor_tap.push_back(problem.factor_tap[static_cast<std::size_t>(tap)]);
  p.tap_number = part.taps;
  p.all_taps = problem.grid.taps();
  return p;
}

template <class T>
bool has_finite_factors(const WindowProduct<T>& p, const RunContext& context) {
  const auto taps = static_cast<Index>(p.factor_tap.size());
  const auto [first, last] = std::minmax_element(p.factor_tap.begin(), p.factor_tap.end());
  const bool dense = *last - *first == taps - 1;
  // Runs of memory are taken whole, those of one row or of one channel.
  const bool by_channel = p.factor_row == taps;
  const Index outer = by_channel ? p.channels : p.rows, inner = by_channel ? p.rows : p.channels;
  const Index outer_stride = by_channel ? p.factor_channel : p.factor_row;
  const Index inner_stride = by_channel ? p.factor_row : p.factor_channel;
  const bool run = dense && inner_stride == taps;
  std::atomic<bool> finite{true};
  parallel_for(context, p.groups * outer, [&](Index piece) {
    const T* factors = p.factor + piece / outer * p.factor_group + piece % outer * outer_stride;
    bool good = run && all_finite(factors + *first, inner * taps);
    if (!run) {
      good = true;
      for (Index i = 0; i < inner; ++i)
        for (const Index tap : p.factor_tap) good = all_finite(factors + i * inner_stride + tap, 1) && good;
    }
    if (!good) finite.store(false, std::memory_order_relaxed);
  });
  return finite.load(std::memory_order_relaxed);
}

}  // namespace

template <class T>
void run_window_product(const WindowProduct<T>& problem, const ProductBlocks& blocks, const Target& target,
                        const RunContext& context) {
  const Driver<T> driver(problem, blocks, target, context.threads);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

template <class T>
void run_window_product_here(const WindowProduct<T>& problem, const ProductBlocks& blocks,
                             const Target& target) {
  const Driver<T> driver(problem, blocks, target, 1);
  for (Index piece = 0; piece < driver.pieces(); ++piece) driver.piece(piece);
}

template <class T>
bool run_window_parts(const WindowProduct<T>& problem, const std::vector<PartBlocks>& parts,
                      const Target& target, const RunContext& context) {
  if (!has_finite_factors(problem, context)) return false;
  std::vector<WindowProduct<T>> products;
  for (const PartBlocks& each : parts) products.push_back(part_of(problem, each.part));
  std::vector<Driver<T>> drivers;
  Extents first{0};  // piece of each part
  for (std::size_t i = 0; i < parts.size(); ++i) {
    drivers.emplace_back(products[i], parts[i].blocks, target, context.threads);
    first.push_back(first.back() + drivers.back().pieces());
  }
  parallel_for(context, first.back(), [&](Index piece) {
    const auto part = std::upper_bound(first.begin(), first.end(), piece) - first.begin() - 1;
    drivers[static_cast<std::size_t>(part)].piece(piece - first[static_cast<std::size_t>(part)]);
  });
  return true;
}

Index product_scratch(const ProductBlocks& blocks, const Tile& tile) {
  const Index together = panels_packed(blocks, kChunk * tile.columns() * tile.bytes);
  const Index packed = kChunk * term_stride(together * tile.columns(), tile.bytes);
  const Index factors = blocks.pack_factor ? kChunk * term_stride(blocks.rows, tile.bytes) : 0;
  const Index sums = blocks.panels * blocks.rows * tile.columns();
  const Index tables = blocks.table_bytes + round_up(Index{sizeof(Panel<float>)}, Index{kAlignment});
  return (packed + factors + sums) * tile.bytes + kChunk * Index{sizeof(Step)} + blocks.panels * tables;
}

template void run_window_product(const WindowProduct<float>&, const ProductBlocks&, const Target&,
                                 const RunContext&);
template void run_window_product(const WindowProduct<double>&, const ProductBlocks&, const Target&,
                                 const RunContext&);
template void run_window_product_here(const WindowProduct<float>&, const ProductBlocks&, const Target&);
template void run_window_product_here(const WindowProduct<double>&, const ProductBlocks&, const Target&);
template bool run_window_parts(const WindowProduct<float>&, const std::vector<PartBlocks>&, const Target&,
                               const RunContext&);
template bool run_window_parts(const WindowProduct<double>&, const std::vector<PartBlocks>&, const Target&,
                               const RunContext&);

}  // namespace windrow
