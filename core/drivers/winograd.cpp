#include "drivers/winograd.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include "base/workspace.hpp"
#include "drivers/ahead.hpp"
#include "drivers/tiles.hpp"
#include "drivers/winograd_batches.hpp"
#include "drivers/winograd_sizes.hpp"
#include "drivers/winograd_tiles.hpp"
#include "drivers/winograd_weights.hpp"

namespace windrow {
namespace {

constexpr Index kPartial = 32;  // terms of a partial sum: part of the numerics plan
// Pixels that threads transform together are shared out by so many terms, so that each has some in a row.
constexpr Index kSharedTerms = 16;

// Of the direct sum that takes the place of tiles: as many rows as make packing again cheap, and room for the
// table of a panel of single pixels.
ProductBlocks direct_blocks(const PixelGrid& grid, const Tile& kernel) {
  PanelSize table = panel_size(grid, kernel.lanes, kernel.vectors);
  table.runs = table.repeated = kernel.columns();
  return {.panels = 1, .rows = 16 * kernel.rows, .table_bytes = table.bytes()};
}

template <class T>
class Driver {
 public:
  Driver(const WindowProduct<T>& problem, const WinogradBlocks& blocks, const T* weights,
         const Target& target)
      : p_(problem),
        b_(blocks),
        weights_(weights),
        target_(target),
        kernels_(target.kernels<T>()),
        kernel_(tile_of<T>(target)),
        batches_(problem.grid, blocks.tile),
        planes_(batches_.planes()),
        terms_(problem.channels * planes_.taps()),
        sizes_(terms_, blocks, kernel_),
        transform_(problem, b_, batches_, sizes_, target),
        height_(planes_.down()),
        width_(planes_.across()),
        tiles_(problem.grid.images * batches_.per_image()),
        row_(batches_.down().step() * height_.target_stride),
        column_(batches_.across().step() * width_.target_stride),
        together_(problem.target_row == 1 && !problem.accumulate ? WinogradSizes::together(kernel_) : 1) {}

  Index blocks() const { return p_.groups * ceil_div(tiles_, b_.tiles); }

  // A block on the calling thread.
  void alone(Index index) const {
    const Block block = block_at(index);
    Scratch scratch;
    const WinogradTiles<T> tiles{.values = scratch.take<T>(sizes_.tiles()),
                                 .spoilt = scratch.take<unsigned char>(b_.tiles)};
    transform_.transform(block.group, block.first, block.count, 0, terms_, tiles);
    sum(block, 0, p_.rows, tiles);
  }

  // A block on all threads: first some of its terms each, then some of its rows and tiles.
  void together(Index index, const RunContext& context) const {
    const Block block = block_at(index);
    const Index shares = ceil_div(terms_, kSharedTerms);
    Scratch scratch;
    const WinogradTiles<T> tiles{.values = scratch.take<T>(sizes_.tiles()),
                                 .spoilt = scratch.take<unsigned char>(shares * b_.tiles)};
    parallel_for(context, shares, [&](Index share) {
      const Index begin = share * kSharedTerms, end = std::min(begin + kSharedTerms, terms_);
      transform_.transform(block.group, block.first, block.count, begin, end,
                           {.values = tiles.values, .spoilt = tiles.spoilt + share * b_.tiles});
    });
    for (Index i = b_.tiles; i < shares * b_.tiles; ++i) tiles.spoilt[i % b_.tiles] |= tiles.spoilt[i];
    const Index row_tiles = ceil_div(p_.rows, kernel_.rows);
    const EvenTiles panels(kernels_, block.count);
    const Index lane_parts = std::min(b_.lane_parts, panels.count());
    parallel_for(context, b_.row_parts * lane_parts, [&](Index piece) {
      const Index part = piece / lane_parts, lanes = piece % lane_parts;
      const Index row0 = row_tiles * part / b_.row_parts * kernel_.rows;
      const Index row1 = std::min(p_.rows, row_tiles * (part + 1) / b_.row_parts * kernel_.rows);
      const Index lane0 = panels.begin(panels.count() * lanes / lane_parts);
      const Index lane1 = panels.begin(panels.count() * (lanes + 1) / lane_parts);
      sum({.group = block.group, .first = block.first + lane0, .count = lane1 - lane0}, row0, row1,
          {.values = tiles.values + lane0, .spoilt = tiles.spoilt + lane0});
    });
  }

 private:
  struct Block {
    Index group, first, count;  // of tiles
  };

  struct Memory {
    T* sums;  // [point][row][tile]
    T* out;   // rows of the results of a batch
    Step* steps;
    unsigned char* failed;  // [row][tile]: whether the direct sum must do it
  };

  Block block_at(Index index) const {
    const Index blocks = ceil_div(tiles_, b_.tiles), first = index % blocks * b_.tiles;
    return {.group = index / blocks, .first = first, .count = std::min(b_.tiles, tiles_ - first)};
  }

  // The results of the rows [row0, row1) for all tiles of a block.
  void sum(const Block& block, Index row0, Index row1, const WinogradTiles<T>& tiles) const {
    const auto [group, first, count] = block;
    Scratch scratch;
    const Memory memory{.sums = scratch.take<T>(sizes_.sums()),
                        .out = scratch.take<T>(WinogradSizes::together(kernel_) * sizes_.out),
                        .steps = scratch.take<Step>(terms_),
                        .failed = scratch.take<unsigned char>(b_.rows * b_.tiles)};
    const Index tap_weights = winograd_weights_row(1, p_.channels, kernel_);
    for (Index k = 0; k < terms_; ++k)
      memory.steps[k] = {.a = k / p_.channels * tap_weights + k % p_.channels, .b = k * sizes_.row};
    const auto spoilt = [&](Index lane) { return tiles.spoilt[lane] != 0; };
    const Index lost = std::count_if(tiles.spoilt, tiles.spoilt + count, [](unsigned char s) { return s; });
    if (lost > 0)
      sum_directly(group, row0, row1 - row0, first, count, [&](Index, Index lane) { return spoilt(lane); });
    for (Index m = row0; m < row1 && lost < count; m += b_.rows) {
      const Index rows = std::min(b_.rows, row1 - m);
      multiply(group, m, rows, count, tiles, memory);
      for (Index r = 0; r < rows; ++r) std::copy_n(tiles.spoilt, count, memory.failed + r * b_.tiles);
      bool good = true;
      batches_.each_batch(first, count, [&](const TileBatch& batch) {
        for (Index r = 0; r < rows; r += together_)
          good = finish(group, m, r, std::min(together_, rows - r), batch, memory) && good;
      });
      if (!good)
        sum_directly(group, m, rows, first, count, [&](Index row, Index lane) {
          return memory.failed[row * b_.tiles + lane] != 0 && !spoilt(lane);
        });
      checkpoint();
    }
  }

  void multiply(Index group, Index m, Index rows, Index count, const WinogradTiles<T>& tiles,
                const Memory& memory) const {
    const EvenTiles panels(kernels_, count);
    const Index row = winograd_weights_row(planes_.taps(), p_.channels, kernel_);
    const Index point = winograd_weights_point(row, kernel_), tile = sizes_.points * point;
    const Index first = group * ceil_div(p_.rows, kernel_.rows) + m / kernel_.rows;
    // The first panel brings a point's weights near for the others. Each tile's lie by themselves, so that
    // the processor would find them one after another.
    const bool far =
        panels.count() > 1 &&
        static_cast<double>(sizes_.points * p_.rows * row) * static_cast<double>(kernel_.bytes) >= kFarBytes;
    for (Index i = 0; i < sizes_.points; ++i) {
      for (Index panel = 0; panel < panels.count(); ++panel) {
        const Index lane = panels.begin(panel);
        if (std::all_of(tiles.spoilt + lane, tiles.spoilt + panels.begin(panel + 1),
                        [](unsigned char s) { return s != 0; }))
          continue;
        Product<T> product{.a = weights_ + first * tile + i * point,
                           .a_row = row,
                           .b = tiles.values + i * sizes_.tiles_point + lane,
                           .step = memory.steps,
                           .c = memory.sums + i * sizes_.sums_point + lane,
                           .c_row = sizes_.row,
                           .k = terms_,
                           .accumulate = false,
                           .chunk = static_cast<int>(kPartial),
                           .bias = nullptr};
        for (Index r = 0; r < rows; r += kernel_.rows) {
          if (far && panel == 0 && r + kernel_.rows < rows) fetch_run(product.a + tile, kernel_.rows * row);
          kernels_.product(product, static_cast<int>(std::min(kernel_.rows, rows - r)),
                           static_cast<int>(panels.vectors(panel)));
          product.a += tile;
          product.c += kernel_.rows * product.c_row;
        }
      }
    }
  }

  // Rows of the results of a batch, from row m + r on, except for tiles that have failed. False where one
  // fails now.
  bool finish(Index group, Index m, Index r, Index rows, const TileBatch& batch, const Memory& memory) const {
    T* target = p_.target + group * p_.target_group + (m + r) * p_.target_row;
    bool good = true, whole = true;
    for (Index i = 0; i < rows; ++i) {
      T* out = memory.out + i * sizes_.out;
      unsigned char* failed = memory.failed + (r + i) * b_.tiles + batch.lane;
      const Index row = group * p_.rows + m + r + i;
      const bool finite =
          kernels_.winograd_output({.tile = static_cast<int>(b_.tile),
                                    .source = memory.sums + (r + i) * sizes_.row + batch.lane,
                                    .source_point = sizes_.sums_point,
                                    .target = out,
                                    .target_row = sizes_.out_row,
                                    .tiles = batch.tiles,
                                    .bias = p_.bias ? p_.bias + row * p_.bias_stride : nullptr});
      if (!finite) good = mark_failed(batch, out, failed) && good;
      whole = whole && rows > 1 && !std::memchr(failed, 1, static_cast<std::size_t>(batch.tiles));
    }
    for (const TileSegment& s : batch.all()) {
      T* pixel =
          target + s.target + s.down.pixel * height_.target_stride + s.across.pixel * width_.target_stride;
      T* out = memory.out + (s.lane - batch.lane) * b_.tile;
      if (whole) {
        store_turned(s, out, rows, pixel);
        continue;
      }
      for (Index i = 0; i < rows; ++i)
        store_good(s, out + i * sizes_.out, memory.failed + (r + i) * b_.tiles + s.lane,
                   pixel + i * p_.target_row);
    }
    return good;
  }

  // Marks the tiles of one row of results that are not finite. True where all of these had failed before.
  bool mark_failed(const TileBatch& batch, const T* out, unsigned char* failed) const {
    bool good = true;
    for (const TileSegment& s : batch.all()) {
      const Index high = std::min(b_.tile, s.down.pixels),
                  wide = std::min(s.count * b_.tile, s.across.pixels);
      for (Index i = 0; i < s.count; ++i) {
        const Index lane = s.lane - batch.lane + i;
        if (failed[lane] || is_finite(out + lane * b_.tile, high, std::min(b_.tile, wide - i * b_.tile)))
          continue;
        failed[lane] = 1;
        good = false;
      }
    }
    return good;
  }

  bool is_finite(const T* out, Index high, Index wide) const {
    for (Index r = 0; r < high; ++r)
      for (Index c = 0; c < wide; ++c)
        if (!(out[r * sizes_.out_row + c] * T{0} == T{0})) return false;
    return true;
  }

  void store_good(const TileSegment& s, T* out, const unsigned char* failed, T* target) const {
    const Index wide = std::min(s.count * b_.tile, s.across.pixels);
    for (Index i = 0, end; i < s.count; i = end) {
      end = i + 1;
      while (end < s.count && failed[end] == failed[i]) ++end;
      const Index at = i * b_.tile;
      if (!failed[i]) store(s, out + at, target + at * column_, std::min(end * b_.tile, wide) - at);
    }
  }

  void store(const TileSegment& s, T* out, T* target, Index columns) const {
    for (Index r = 0; r < std::min(b_.tile, s.down.pixels); ++r, out += sizes_.out_row, target += row_) {
      for (Index c = 0; p_.accumulate && c < columns; ++c) out[c] = target[c * column_] + out[c];
      limit(kernels_, p_.limits, out, 0, 1, columns);
      kernels_.spread({.target = target, .source = out, .step = column_, .count = columns});
    }
  }

  // Rows that lie side by side in the target.
  void store_turned(const TileSegment& s, T* out, Index rows, T* target) const {
    const Index columns = std::min(s.count * b_.tile, s.across.pixels);
    for (Index r = 0; r < std::min(b_.tile, s.down.pixels); ++r, out += sizes_.out_row, target += row_) {
      limit(kernels_, p_.limits, out, sizes_.out, rows, columns);
      kernels_.transpose({.target = target,
                          .target_row = column_,
                          .source = out,
                          .source_row = sizes_.out,
                          .rows = columns,
                          .columns = rows,
                          .ahead = 0});
    }
  }

  // What failed, by the driver of the direct sum: rows of tiles at a time where all rows of the block have.
  template <class Bad>
  void sum_directly(Index group, Index m, Index rows, Index first, Index count, Bad&& bad) const {
    const auto all_bad = [&](Index lane) {
      for (Index r = 0; r < rows; ++r)
        if (!bad(r, lane)) return false;
      return true;
    };
    batches_.each_segment(first, count, [&](const TileSegment& s) {
      for (Index i = 0; i < s.count;) {
        Index end = i;
        while (end < s.count && all_bad(s.lane + end)) ++end;
        if (end > i) {
          sum_part(group, m, rows, s, i, end - i);
          i = end;
          continue;
        }
        for (Index r = 0; r < rows;) {
          Index last = r;
          while (last < rows && bad(last, s.lane + i)) ++last;
          if (last > r) sum_part(group, m + r, last - r, s, i, 1);
          r = std::max(last, r + 1);
        }
        ++i;
      }
      checkpoint();
    });
  }

  // The rows [m, m + rows) of `count` tiles of a segment.
  void sum_part(Index group, Index m, Index rows, const TileSegment& s, Index tile, Index count) const {
    WindowProduct<T> part = p_;
    const Index step[] = {batches_.down().step(), batches_.across().step()};
    const Index corner[] = {s.down.pixel, s.across.pixel + tile * b_.tile * step[1]};
    const Index pixels[] = {std::min(b_.tile, s.down.pixels),
                            std::min(count * b_.tile, s.across.pixels - tile * b_.tile)};
    const Index image = planes_.each_position(s.plane, [&](std::size_t i, Index position) {
      PixelAxis& axis = part.grid.axes[i];
      axis.count = 1;
      for (Index& tap : axis.tap) tap += position * axis.step;
    });
    part.source += group * p_.source_group + image * p_.grid.source_image;
    part.target += group * p_.target_group + s.target + m * p_.target_row;
    part.factor += group * p_.factor_group + m * p_.factor_row;
    if (part.bias) part.bias += (group * p_.rows + m) * p_.bias_stride;
    for (std::size_t i = 0; i < 2; ++i) {
      PixelAxis& axis = part.grid.axes[part.grid.axes.size() - 2 + i];
      part.target += corner[i] * axis.target_stride;
      axis.target_stride *= step[i];
      axis.count = pixels[i];
      axis.step = step[i];
      for (Index& tap : axis.tap) tap += corner[i];
    }
    part.grid.images = 1;
    part.groups = 1;
    part.rows = rows;
    run_window_product_here(part, direct_blocks(p_.grid, kernel_), target_);
  }

  const WindowProduct<T>& p_;
  const WinogradBlocks b_;
  const T* weights_;
  const Target& target_;
  const KernelTable<T>& kernels_;
  const Tile kernel_;
  const TileBatches batches_;
  const TilePlanes& planes_;
  const Index terms_;  // of a sum: channels of each outer tap
  const WinogradSizes sizes_;
  const TileTransform<T> transform_;
  const PixelAxis& height_;
  const PixelAxis& width_;
  const Index tiles_;
  const Index row_, column_;  // of the target, from one pixel of a phase to the next
  const Index together_;      // rows that are stored at a time
};

}  // namespace

const char* why_no_winograd(const PixelGrid& grid) {
  if (grid.axes.size() < 2) return "windows of two axes or more";
  for (const PixelAxis& axis : std::span(grid.axes).last(2)) {
    if (axis.step != 1) return "stride 1 along the last two axes";
    if (axis.tap.size() != 3) return "3 taps along the last two axes";
  }
  return nullptr;
}

Index winograd_terms(const PixelGrid& grid, Index channels) { return channels * TilePlanes(grid).taps(); }

Index winograd_roundings(Index terms) {
  // Two transforms each of pixels, taps and sums, and the bias.
  constexpr Index kInput = 5, kWeights = 6, kOutput = 7;
  return 2 * (kInput + kWeights + kOutput) + std::min(terms, kPartial) + ceil_div(terms, kPartial);
}

Index winograd_tiles(const PixelGrid& grid, Index tile) { return TileBatches(grid, tile).per_image(); }

Index winograd_pieces(const PixelGrid& grid, Index groups, const WinogradBlocks& blocks) {
  return groups * ceil_div(grid.images * winograd_tiles(grid, blocks.tile), blocks.tiles) * blocks.row_parts *
         blocks.lane_parts;
}

Index winograd_shared(const PixelGrid& grid, Index channels, const WinogradBlocks& blocks,
                      const Tile& kernel) {
  if (!blocks.together()) return 0;
  const Index terms = winograd_terms(grid, channels);
  return WinogradSizes(terms, blocks, kernel).tiles() * kernel.bytes +
         ceil_div(terms, kSharedTerms) * blocks.tiles;
}

Index winograd_scratch(const PixelGrid& grid, Index channels, const WinogradBlocks& blocks,
                       const Tile& kernel) {
  const Index terms = winograd_terms(grid, channels);
  const WinogradSizes sizes(terms, blocks, kernel);
  const Index tiles = blocks.together() ? 0 : sizes.tiles() * kernel.bytes + blocks.tiles;
  const Index input = WinogradSizes::together(kernel) * sizes.strip * kernel.bytes;
  const Index sums = (sizes.sums() + WinogradSizes::together(kernel) * sizes.out) * kernel.bytes +
                     terms * Index{sizeof(Step)} + blocks.rows * blocks.tiles;
  return tiles + std::max(input, sums + product_scratch(direct_blocks(grid, kernel), kernel));
}

template <class T>
void run_winograd(const WindowProduct<T>& problem, const WinogradBlocks& blocks, const T* weights,
                  const Target& target, const RunContext& context) {
  const Driver<T> driver(problem, blocks, weights, target);
  if (!blocks.together())
    return parallel_for(context, driver.blocks(), [&](Index block) { driver.alone(block); });
  for (Index block = 0; block < driver.blocks(); ++block) driver.together(block, context);
}

template void run_winograd(const WindowProduct<float>&, const WinogradBlocks&, const float*, const Target&,
                           const RunContext&);
template void run_winograd(const WindowProduct<double>&, const WinogradBlocks&, const double*, const Target&,
                           const RunContext&);

}  // namespace windrow
