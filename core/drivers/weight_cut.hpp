// How a weight gradient is cut: boxes of output pixels whose input makes one strip, boxes of taps, blocks of
// channels and rows, and slots of pixels that are summed apart.
#pragma once

#include <algorithm>

#include "drivers/weight_gradient.hpp"

namespace windrow {

// These constants cut the sum over pixels, so they belong to the numerics plan: changing one changes bits of
// dw.
inline constexpr Index kStripElements =
    128 << 10;  // of x in channels-last form: stays in a core's second-level cache
inline constexpr Index kStripChannels = 64;              // channels of a strip, or a multiple of them ...
inline constexpr Index kStripLanes = 256;                // ... where a window has so few taps
inline constexpr Index kPartialElements = 512 << 10;     // sums that one piece of work holds
inline constexpr Index kPartialBytes = Index{32} << 20;  // partial sums of one call
inline constexpr Index kMostRowLanes = 256;              // taps times channels that are put side by side
inline constexpr double kRowGain = 1.15;   // how much fuller the vectors must become to pay for that copy
inline constexpr Index kSlotPieces = 8;    // pieces of work that are wanted, with slots if need be
inline constexpr Index kSlotPixels = 512;  // of a slot at least: adding the slots then costs little

// How the problem is cut: boxes of output pixels whose input (with its halo) makes one strip, boxes of taps.
struct WeightCut {
  Extents pixels, taps;            // extents of a full box
  Index images;                    // whose boxes are summed over as one; 1 where a box is not all of an image
  Extents pixel_boxes, tap_boxes;  // how many along each axis
  Index strip_positions;           // input positions of the largest strip
  Index channels, channel_blocks;
  Index rows, row_blocks;
  Index row_sums;     // of one row, each run of lanes in whole vectors
  bool rows_of_taps;  // the strip is copied once more, all taps of a pixel side by side
  Index slots;        // the pixel boxes of all images in order, cut into this many sums of their own
  bool slot_by_slot;  // in the order of the pieces of work; else all slots of a block of sums
};

// How much of everything one piece of work may hold, in elements.
struct WeightRoom {
  Index channels;
  Index strip = kStripElements, pixels = kStripPixels, sums = kPartialElements;
  bool slots = true;
};

// Of dy in a box of pixels, which is to stay near, and how much more than its strip it then is at least: each
// block of rows copies the strip again. This cuts no sum.
inline constexpr Index kNearBytes = 384 << 10;
inline constexpr Index kNearRatio = 8;

// Threads that would have nothing to do share the rows, which cuts no sum, as long as each has so many, or so
// many times taps: a strip is copied for each of them.
inline constexpr Index kLeastRows = 16, kLeastRowTaps = 64;

// A strip is copied once for all rows, and serves as many taps as a window has.
template <class T>
Index strip_channels(const WeightGradient<T>& p) {
  Index taps = 1;
  for (const WindowAxis& axis : p.axes) taps = std::min(kStripLanes, taps * axis.kernel);
  return std::max(kStripChannels, kStripLanes / taps / kStripChannels * kStripChannels);
}

inline Index strip_positions(const std::vector<WindowAxis>& axes, const Extents& pixels,
                             const Extents& taps) {
  Index count = 1;
  for (std::size_t i = 0; i < axes.size(); ++i)
    count *= (pixels[i] - 1) * axes[i].stride + (taps[i] - 1) * axes[i].dilation + 1;
  return count;
}

// Taps whose channels lie side by side in a strip: those of the last axis, where they read neighbouring
// positions.
inline Index run_taps(const std::vector<WindowAxis>& axes, const Extents& taps) {
  return axes.back().dilation == 1 ? taps.back() : 1;
}

// Boxes of one image or of several, in order: what a kernel call sums over.
template <class T>
Index units_of(const WeightGradient<T>& p, const WeightCut& c) {
  return ceil_div(p.images, c.images) * product_of(c.pixel_boxes);
}

template <class T>
WeightCut cut(const WeightGradient<T>& p, const WeightRoom& room, Index lanes) {
  const std::size_t rank = p.axes.size();
  WeightCut c{};
  c.channels = std::max<Index>(1, std::min(p.channels, room.channels));
  c.channel_blocks = ceil_div(p.channels, c.channels);
  const Index limit = room.strip / c.channels;

  c.pixels.assign(rank, 1);
  for (const WindowAxis& axis : p.axes) c.taps.push_back(axis.kernel);
  for (std::size_t i = 0; i < rank; ++i) {
    while (c.taps[i] > 1 && strip_positions(p.axes, c.pixels, c.taps) > limit)
      c.taps[i] = ceil_div(c.taps[i], 2);
  }
  for (std::size_t i = rank; i-- > 0;) {
    const auto fits = [&](Index extent) {
      Extents wider = c.pixels;
      wider[i] = extent;
      return product_of(wider) <= room.pixels && strip_positions(p.axes, wider, c.taps) <= limit;
    };
    Index most = 1, too_many = p.axes[i].out + 1;
    while (too_many - most > 1) {
      const Index middle = most + (too_many - most) / 2;
      (fits(middle) ? most : too_many) = middle;
    }
    if (most == 0 || p.axes[i].out == 0) break;
    c.pixels[i] = ceil_div(p.axes[i].out, ceil_div(p.axes[i].out, most));
    if (c.pixels[i] < p.axes[i].out) break;
  }
  for (std::size_t i = 0; i < rank; ++i) {
    c.pixel_boxes.push_back(ceil_div(p.axes[i].out, c.pixels[i]));
    c.tap_boxes.push_back(ceil_div(p.axes[i].kernel, c.taps[i]));
  }
  c.strip_positions = strip_positions(p.axes, c.pixels, c.taps);
  const Index box = std::max<Index>(1, product_of(c.pixels));
  c.images = product_of(c.pixel_boxes) == 1 ? std::min(room.pixels / box, limit / c.strip_positions) : 1;
  c.images = std::clamp<Index>(c.images, 1, std::max<Index>(1, p.images));

  const Index entries = product_of(c.taps) * c.channels;
  const Index run = run_taps(p.axes, c.taps) * c.channels;
  const Index vectors = entries / run * ceil_div(run, lanes);
  const Index fewest = ceil_div(entries, lanes);
  c.rows_of_taps =
      entries <= kMostRowLanes && static_cast<double>(vectors) > kRowGain * static_cast<double>(fewest);
  c.row_sums = (c.rows_of_taps ? fewest : vectors) * lanes;
  c.rows = std::clamp<Index>(room.sums / c.row_sums, 1, std::max<Index>(1, p.rows));
  c.row_blocks = ceil_div(p.rows, c.rows);

  const Index units = units_of(p, c);
  const Index pieces = p.groups * product_of(c.tap_boxes) * c.channel_blocks * c.row_blocks;
  const Index all_sums = p.groups * p.rows * p.channels;
  const Index slot_bytes =
      std::max<Index>(1, all_sums * product_of(p.axes, &WindowAxis::kernel) * Index{sizeof(T)});
  c.slots = pieces == 0 ? 1 : ceil_div(kSlotPieces, pieces);
  c.slots = std::min({c.slots, kPartialBytes / slot_bytes, units * box * c.images / kSlotPixels});
  c.slots = room.slots ? std::max<Index>(c.slots, 1) : 1;
  const Index pixels = box * c.images, strip = c.strip_positions * c.images * c.channels;
  if (p.rows > 0 && p.dy_stride.back() == 1 && kNearRatio * strip <= c.rows * pixels) {
    c.row_blocks = std::max(c.row_blocks, ceil_div(p.rows * pixels * Index{sizeof(T)}, kNearBytes));
    c.rows = ceil_div(p.rows, c.row_blocks);
    c.row_blocks = ceil_div(p.rows, c.rows);
  }
  if (p.threads > 1 && pieces > 0) {
    // A last block of fewer channels is no match for the others, nor are units so few that a thread's slots
    // have one less than another's.
    const bool equal_slots = 8 * round_up(units, p.threads) <= 9 * units;
    c.slot_by_slot = equal_slots && p.channels % c.channels != 0;
    const Index equal = p.groups * product_of(c.tap_boxes) * std::max<Index>(1, p.channels / c.channels) *
                        c.row_blocks * (equal_slots ? c.slots : 1);
    const Index least = std::max(kLeastRows, kLeastRowTaps / product_of(c.taps));
    c.rows = ceil_div(c.rows, parts_for_threads(equal, p.threads, c.rows / least));
    c.row_blocks = ceil_div(p.rows, c.rows);
  }
  return c;
}

template <class T>
Index scratch_bytes(const WeightCut& c, const Target& target) {
  const Tile tile = tile_of<T>(target);
  const Index pixels = product_of(c.pixels) * c.images;
  const Index rows = c.rows_of_taps ? pixels * product_of(c.taps) * c.channels : 0;
  const Index strip = c.strip_positions * c.images * c.channels + rows + 2 * tile.columns();
  const Index sums = c.rows * c.row_sums;
  return (strip + sums) * tile.bytes + pixels * Index{sizeof(Step)};
}

// The usual cut, or under a limit a finer one, down to single channels, pixels and rows.
template <class T>
WeightCut cut_to_fit(const WeightGradient<T>& p, const Target& target) {
  WeightRoom room{.channels = strip_channels(p), .slots = p.most_scratch == 0};
  const Index lanes = target.kernels<T>().lanes;
  WeightCut c = cut(p, room, lanes);
  while (p.most_scratch != 0 && scratch_bytes<T>(c, target) > p.most_scratch) {
    if (room.strip == 1 && room.sums == 1) break;
    room.strip = std::max<Index>(1, room.strip / 2);
    room.sums = std::max<Index>(1, room.sums / 2);
    room.pixels = std::max<Index>(1, std::min(room.pixels, room.sums));
    room.channels = std::max<Index>(1, std::min(room.channels, room.strip / 16));
    c = cut(p, room, lanes);
  }
  return c;
}

}  // namespace windrow
