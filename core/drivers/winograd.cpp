#include "drivers/winograd.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include "base/workspace.hpp"
#include "drivers/ahead.hpp"
#include "drivers/tiles.hpp"
#include "drivers/winograd_batches.hpp"
#include "drivers/winograd_weights.hpp"
#include "pack/rows.hpp"

namespace windrow {
namespace {

constexpr Index kPad = 48;      // elements between points, so that they do not share sets of the cache
constexpr Index kLine = 64;     // bytes
constexpr Index kPartial = 32;  // terms of a partial sum: part of the numerics plan
constexpr Index kCopied = 4;    // channels that are copied for each look at where a segment lies

// The layouts of all buffers, in elements.
struct Sizes {
  Index side, points, row;  // of one term's or one result row's tiles
  Index tiles_point, sums_point;
  Index strip_row, edges, strip;  // `edges`: where those of a strip begin
  Index out_row, out;

  Sizes(Index terms, const WinogradBlocks& b, const Tile& kernel) {
    side = b.tile + 2;
    points = side * side;
    // The last vector of a run of tiles may spill over the block's end. Lines are odd in number, so that rows
    // spread over the sets of the caches.
    const Index line = kLine / kernel.bytes;
    row = (ceil_div(b.tiles + std::max(kernel.lanes, line), line) | 1) * line;
    tiles_point = terms * row + kPad;
    sums_point = b.rows * row + kPad;
    strip_row = kSegmentTiles * b.tile + 2 * kernel.lanes;
    edges = side * strip_row + kernel.lanes;
    strip = edges + 2 * side * kBatchTiles;
    out_row =
        kSegmentTiles * b.tile + kLine / kernel.bytes;  // no power of two: rows would share sets of the cache
    out = b.tile * out_row + kLine / kernel.bytes;
  }
};

// Channels, or rows of the result, that are turned over at a time where they lie side by side in memory.
Index together(const Tile& kernel) { return kLine / kernel.bytes; }

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
        height_(planes_.down()),
        width_(planes_.across()),
        tiles_(problem.grid.images * batches_.per_image()),
        pieces_(winograd_pieces(problem.grid, problem.groups, blocks)),
        row_(batches_.down().step() * height_.target_stride),
        column_(batches_.across().step() * width_.target_stride),
        together_(problem.target_row == 1 && !problem.accumulate ? together(kernel_) : 1) {}

  Index pieces() const { return pieces_; }

  void piece(Index index) const {
    const Index blocks = ceil_div(tiles_, b_.tiles);
    const Index block = index % blocks, part = index / blocks % b_.parts, group = index / blocks / b_.parts;
    const Index first = block * b_.tiles, count = std::min(b_.tiles, tiles_ - first);
    const Index row_tiles = ceil_div(p_.rows, kernel_.rows);
    const Index row0 = row_tiles * part / b_.parts * kernel_.rows;
    const Index row1 = std::min(p_.rows, row_tiles * (part + 1) / b_.parts * kernel_.rows);

    Scratch scratch;
    Memory memory{.tiles = scratch.take<T>(sizes_.points * sizes_.tiles_point + sizes_.row),
                  .sums = scratch.take<T>(sizes_.points * sizes_.sums_point + sizes_.row),
                  .strips = scratch.take<T>(together(kernel_) * sizes_.strip),
                  .out = scratch.take<T>(together(kernel_) * sizes_.out),
                  .steps = scratch.take<Step>(terms_),
                  .spoilt = scratch.take<unsigned char>(b_.tiles),
                  .failed = scratch.take<unsigned char>(b_.rows * b_.tiles)};
    const Index tap_weights = winograd_weights_row(1, p_.channels, kernel_);
    for (Index k = 0; k < terms_; ++k)
      memory.steps[k] = {.a = k / p_.channels * tap_weights + k % p_.channels, .b = k * sizes_.row};
    transform_tiles(group, first, count, memory);
    const auto spoilt = [&](Index lane) { return memory.spoilt[lane] != 0; };
    const Index lost = std::count_if(memory.spoilt, memory.spoilt + count, [](unsigned char s) { return s; });
    if (lost > 0)
      sum_directly(group, row0, row1 - row0, first, count, [&](Index, Index lane) { return spoilt(lane); });
    for (Index m = row0; m < row1 && lost < count; m += b_.rows) {
      const Index rows = std::min(b_.rows, row1 - m);
      multiply(group, m, rows, count, memory);
      for (Index r = 0; r < rows; ++r) std::copy_n(memory.spoilt, count, memory.failed + r * b_.tiles);
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

 private:
  struct Memory {
    T* tiles;   // [point][term][tile]
    T* sums;    // [point][row][tile]
    T* strips;  // the pixels of a batch, segment by segment with their borders, and the edges between these
    T* out;     // rows of its results
    Step* steps;
    unsigned char* spoilt;  // [tile]: whether a transformed pixel is not finite
    unsigned char* failed;  // [row][tile]: whether the direct sum must do it
  };

  void transform_tiles(Index group, Index first, Index count, const Memory& memory) const {
    std::fill_n(memory.spoilt, b_.tiles, static_cast<unsigned char>(0));
    batches_.each_batch(first, count, [&](const TileBatch& batch) {
      // A long segment wants its strip in the first-level cache more than few looks at where it lies.
      const Index channels = p_.source_channel == 1 ? together(kernel_) : batch.count > 2 ? kCopied : 1;
      for (Index i = 0; i < channels; ++i) clear_strip(batch, memory.strips + i * sizes_.strip);
      const T* planes[kBatchTiles];
      std::uint32_t ends[kSegmentTiles] = {};  // of tiles that another segment follows
      for (const TileSegment& s : batch.all().first(static_cast<std::size_t>(batch.count - 1))) {
        const Index lane = s.lane - batch.lane + s.count - 1;
        ends[lane / kernel_.lanes] |= 1u << lane % kernel_.lanes;
      }
      for (Index term = 0, some; term < terms_; term += some) {
        const Index channel = term % p_.channels;
        if (channel == 0) see_planes(group, batch, term / p_.channels, planes);
        some = std::min(channels, p_.channels - channel);
        for (Index i = 0; i < batch.count; ++i)
          copy_segment(batch, batch.segments[i], planes[i], channel, some, memory.strips);
        for (Index i = 0; i < some; ++i) {
          const T* strip = memory.strips + i * sizes_.strip;
          T* tiles = memory.tiles + (term + i) * sizes_.row + batch.lane;
          const bool finite = kernels_.winograd_input({.tile = static_cast<int>(b_.tile),
                                                       .source = strip,
                                                       .source_row = sizes_.strip_row,
                                                       .edge = strip + sizes_.edges,
                                                       .edge_row = kBatchTiles,
                                                       .ends = ends,
                                                       .target = tiles,
                                                       .target_point = sizes_.tiles_point,
                                                       .tiles = batch.tiles});
          // Once all tiles are spoilt, nobody reads the rest.
          if (!finite && mark_spoilt(batch, tiles, memory.spoilt)) return;
        }
      }
    });
  }

  // The planes of the source, at the group's first channel, that an outer tap sees from the segments: null
  // beyond a constant border.
  void see_planes(Index group, const TileBatch& batch, Index tap, const T** planes) const {
    for (const TileSegment& s : batch.all()) {
      const std::optional<Index> place = planes_.source(s.plane, tap);
      *planes++ = place ? p_.source + group * p_.source_group + *place : nullptr;
    }
  }

  // Of what is read of a strip: all that no segment will be copied to.
  void clear_strip(const TileBatch& batch, T* strip) const {
    const Index used = batch.tiles * b_.tile;
    for (Index r = 0; r < sizes_.side; ++r)
      std::fill(strip + r * sizes_.strip_row + used, strip + (r + 1) * sizes_.strip_row, T{0});
    if (batch.count > 1) std::fill_n(strip + sizes_.edges, 2 * sizes_.side * kBatchTiles, T{0});
  }

  // What the windows of a segment see in some channels; beyond, zeros stay, whatever the border. Its last two
  // columns go where the next segment's first ones will be, so they are kept as edges besides.
  void copy_segment(const TileBatch& batch, const TileSegment& s, const T* plane, Index channel,
                    Index channels, T* strips) const {
    const Index lane = s.lane - batch.lane;
    const bool followed = lane + s.count < batch.tiles;
    const Index width = s.count * b_.tile + 2, start = lane * b_.tile, end = start + width - 2;
    const PlaneRows<T> seen{.target = strips + start,
                            .target_row = sizes_.strip_row,
                            .plane = plane ? plane + channel * p_.source_channel : nullptr,
                            .down = height_,
                            .across = width_,
                            .row = s.down.pixel + height_.tap[0],
                            .row_step = batches_.down().step(),
                            .rows = std::min(b_.tile, s.down.pixels) + 2,
                            .column = s.across.pixel + width_.tap[0],
                            .column_step = batches_.across().step(),
                            .columns = std::min(s.count * b_.tile, s.across.pixels) + 2,
                            .width = width,
                            .fill = static_cast<T>(p_.grid.fill),
                            .ahead = p_.source_channel,
                            .channels = channels,
                            .source_channel = p_.source_channel,
                            .target_channel = sizes_.strip};
    if (!plane) {
      fill_rows(seen);
    } else {
      p_.source_channel == 1 ? turn_rows(kernels_, seen) : copy_rows(kernels_, seen);
    }
    for (Index i = 0; i < channels && (followed || seen.rows < sizes_.side); ++i) {
      T* strip = strips + i * sizes_.strip;
      T* edge = strip + sizes_.edges + lane + s.count - 1;
      for (Index r = 0; r < sizes_.side; ++r, strip += sizes_.strip_row) {
        if (r >= seen.rows) std::fill_n(strip + start, width, T{0});
        for (Index e = 0; followed && e < 2; ++e, edge += kBatchTiles) *edge = strip[end + e];
      }
    }
  }

  // Whether all tiles of the batch are spoilt now.
  bool mark_spoilt(const TileBatch& batch, const T* tiles, unsigned char* spoilt) const {
    bool all = true;
    for (Index i = 0; i < batch.tiles; ++i) {
      unsigned char& mark = spoilt[batch.lane + i];
      for (Index point = 0; !mark && point < sizes_.points; ++point)
        mark = !(tiles[point * sizes_.tiles_point + i] * T{0} == T{0});
      all = all && mark;
    }
    return all;
  }

  void multiply(Index group, Index m, Index rows, Index count, const Memory& memory) const {
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
        if (std::all_of(memory.spoilt + lane, memory.spoilt + panels.begin(panel + 1),
                        [](unsigned char s) { return s != 0; }))
          continue;
        Product<T> product{.a = weights_ + first * tile + i * point,
                           .a_row = row,
                           .b = memory.tiles + i * sizes_.tiles_point + lane,
                           .step = memory.steps,
                           .c = memory.sums + i * sizes_.sums_point + lane,
                           .c_row = sizes_.row,
                           .k = terms_,
                           .accumulate = false,
                           .chunk = static_cast<int>(kPartial),
                           .bias = nullptr};
        for (Index r = 0; r < rows; r += kernel_.rows) {
          if (far && panel == 0 && r + kernel_.rows < rows) fetch(product.a + tile, kernel_.rows * row);
          kernels_.product(product, static_cast<int>(std::min(kernel_.rows, rows - r)),
                           static_cast<int>(panels.vectors(panel)));
          product.a += tile;
          product.c += kernel_.rows * product.c_row;
        }
      }
    }
  }

  void fetch(const T* weights, Index count) const {
    const Index line = kLine / kernel_.bytes;
    for (Index i = 0; i < count; i += line) __builtin_prefetch(weights + i, 0, 2);
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
  const Sizes sizes_;
  const PixelAxis& height_;
  const PixelAxis& width_;
  const Index tiles_, pieces_;
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
  return groups * ceil_div(grid.images * winograd_tiles(grid, blocks.tile), blocks.tiles) * blocks.parts;
}

Index winograd_scratch(const PixelGrid& grid, Index channels, const WinogradBlocks& blocks,
                       const Tile& kernel) {
  const Index terms = winograd_terms(grid, channels);
  const Sizes s(terms, blocks, kernel);
  const Index elements =
      s.points * (s.tiles_point + s.sums_point) + 2 * s.row + together(kernel) * (s.strip + s.out);
  return elements * kernel.bytes + terms * Index{sizeof(Step)} + (1 + blocks.rows) * blocks.tiles +
         product_scratch(direct_blocks(grid, kernel), kernel);
}

template <class T>
void run_winograd(const WindowProduct<T>& problem, const WinogradBlocks& blocks, const T* weights,
                  const Target& target, const RunContext& context) {
  const Driver<T> driver(problem, blocks, weights, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

template void run_winograd(const WindowProduct<float>&, const WinogradBlocks&, const float*, const Target&,
                           const RunContext&);
template void run_winograd(const WindowProduct<double>&, const WinogradBlocks&, const double*, const Target&,
                           const RunContext&);

}  // namespace windrow
