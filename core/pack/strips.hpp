// Strips of the source: the rows that some rows of pixels see, copied once, with their border and with the
// phases of a strided window apart. Every tap then lies at a constant offset from every pixel, and kernels
// read the strip in place.
//
// Axes are seen as outer axes, one axis of rows, and the last one, along which lanes lie. A strip holds, for
// one channel, [outer taps][phase][row][column]: taps of the last axis with equal position modulo the step
// share a phase. So do those of the row axis, where that is asked for.
#pragma once

#include "kernels/contract.hpp"
#include "pack/panels.hpp"

namespace windrow {

// How the pixels of one image are cut: blocks of rows, and of columns.
struct StripBlocks {
  Index rows = 0, columns = 0;
  Index units = 0;          // blocks in one piece of work
  Index channels = 0;       // copied at a time: all, or whole chunks of terms
  bool by_chunks = false;   // all pixels of a block before the next chunk of terms
  bool in_place = false;    // all but the ends of rows is read where it lies
  bool rows_apart = false;  // phases of a strided row axis are apart too: rows of pixels follow one another
};

// One block of pixels.
struct StripPlace {
  Extents outer;  // position along each outer axis
  Index row = 0, rows = 0, column = 0, columns = 0;
  Index target = 0;  // offset of its first pixel in the target's image
};

class Strips {
 public:
  Strips(const PixelGrid& grid, const StripBlocks& blocks);

  Index blocks_per_image() const { return outer_ * row_blocks_ * column_blocks_; }
  Index row_blocks() const { return row_blocks_; }
  StripPlace place(Index block) const { return block == 0 ? first_ : place_of(block); }

  Index elements() const { return plane_; }                               // of one channel's strip
  Index width() const { return width_; }                                  // from row to row of the strip
  Index row_step() const { return row_axis_.step / row_pace_ * width_; }  // from row to row of pixels
  Index target_row() const { return row_axis_.target_stride; }
  Index tap_offset(Index tap) const;  // from a pixel's place to what the tap reads

  // True if the window is kernel_rows x kernel_columns taps, row after row of the strip.
  bool is_plain_window() const;
  Index kernel_rows() const { return static_cast<Index>(row_axis_.tap.size()); }
  Index kernel_columns() const { return static_cast<Index>(last_.tap.size()); }

  // Copies what a block sees of some channels of one image. The kernel may write up to a vector past the last
  // one's elements().
  template <class T>
  void fill(const KernelTable<T>& kernels, const StripPlace& place, const T* source, Index channels,
            Index source_channel, Index ahead, T* strip) const;

  const PixelAxis& last() const { return last_; }
  const PixelAxis& row_axis() const { return row_axis_; }

 private:
  StripPlace place_of(Index block) const;
  // Of a strip, for so many rows of pixels.
  Index rows_of(Index pixels) const { return (pixels - 1) * row_axis_.step / row_pace_ + rows_.span; }
  template <class T>
  void fill_channels(const KernelTable<T>& kernels, const StripPlace& place, const T* source, Index channels,
                     Index source_channel, Index ahead, T* strip) const;

  std::vector<PixelAxis> axes_;  // the outer ones
  PixelAxis row_axis_, last_;    // a grid of one axis has a single row
  Index outer_ = 1, row_blocks_ = 0, column_blocks_ = 0;
  StripBlocks blocks_;
  double fill_;
  StripPlace first_;  // small images are a single block, which is asked for again and again

  // The taps of an axis whose strip has every `pace`-th position in a row.
  struct Phases {
    Phases(const Extents& taps, Index pace);

    Extents phase;              // those that have taps, each a position modulo the pace
    Extents tap_phase;          // for each tap: which of those
    Extents tap_shift;          // and the position divided by the pace, from the smallest one on
    Index first = 0, span = 1;  // the smallest one, and how far the others reach from it
  };
  Index row_pace_ = 1;
  Phases rows_, columns_;
  Index width_ = 0;
  Index slices_ = 1;                        // combinations of outer taps
  Index part_ = 0, slice_ = 0, plane_ = 0;  // elements of the rows of one phase, of all phases, of all slices
};

}  // namespace windrow
