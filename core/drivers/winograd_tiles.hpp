// Winograd's pixels: the strips that tiles see, and what they come to at the points.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/workspace.hpp"
#include "drivers/window_product.hpp"
#include "drivers/winograd_sizes.hpp"
#include "pack/rows.hpp"

namespace windrow {

// The transformed tiles of a block, and which of them are spoilt: not finite at some point.
template <class T>
struct WinogradTiles {
  T* values;  // [point][term][tile]
  unsigned char* spoilt;
};

template <class T>
class TileTransform {
 public:
  TileTransform(const WindowProduct<T>& problem, const WinogradBlocks& blocks, const TileBatches& batches,
                const WinogradSizes& sizes, const Target& target)
      : p_(problem),
        b_(blocks),
        batches_(batches),
        planes_(batches.planes()),
        sizes_(sizes),
        kernels_(target.kernels<T>()),
        together_(WinogradSizes::together(tile_of<T>(target))) {}

  // The terms [begin, end) of `count` tiles, and by these the marks of those that are spoilt.
  void transform(Index group, Index first, Index count, Index begin, Index end,
                 const WinogradTiles<T>& into) const {
    Scratch scratch;
    T* strips = scratch.take<T>(together_ * sizes_.strip);
    std::fill_n(into.spoilt, b_.tiles, static_cast<unsigned char>(0));
    batches_.each_batch(first, count, [&](const TileBatch& batch) {
      // A long segment wants its strip in the first-level cache more than few looks at where it lies.
      const Index channels = p_.source_channel == 1 ? together_ : batch.count > 2 ? kCopied : 1;
      for (Index i = 0; i < channels; ++i) clear_strip(batch, strips + i * sizes_.strip);
      const T* planes[kBatchTiles];
      std::uint32_t ends[kSegmentTiles] = {};  // of tiles that another segment follows
      for (const TileSegment& s : batch.all().first(static_cast<std::size_t>(batch.count - 1))) {
        const Index lane = s.lane - batch.lane + s.count - 1;
        ends[lane / kernels_.lanes] |= 1u << lane % kernels_.lanes;
      }
      for (Index term = begin, some; term < end; term += some) {
        const Index channel = term % p_.channels;
        if (term == begin || channel == 0) see_planes(group, batch, term / p_.channels, planes);
        some = std::min({channels, p_.channels - channel, end - term});
        for (Index i = 0; i < batch.count; ++i)
          copy_segment(batch, batch.segments[i], planes[i], channel, some, strips);
        for (Index i = 0; i < some; ++i) {
          const T* strip = strips + i * sizes_.strip;
          T* tiles = into.values + (term + i) * sizes_.row + batch.lane;
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
          if (!finite && mark_spoilt(batch, tiles, into.spoilt)) return;
        }
      }
    });
  }

 private:
  static constexpr Index kCopied = 4;  // channels that are copied for each look at where a segment lies

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
                            .down = planes_.down(),
                            .across = planes_.across(),
                            .row = s.down.pixel + planes_.down().tap[0],
                            .row_step = batches_.down().step(),
                            .rows = std::min(b_.tile, s.down.pixels) + 2,
                            .column = s.across.pixel + planes_.across().tap[0],
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

  const WindowProduct<T>& p_;
  const WinogradBlocks& b_;
  const TileBatches& batches_;
  const TilePlanes& planes_;
  const WinogradSizes& sizes_;
  const KernelTable<T>& kernels_;
  const Index together_;
};

}  // namespace windrow
