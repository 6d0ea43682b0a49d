// What a candidate for a product over windows would take: its work is counted in kinds that take about as
// long wherever they occur, and what one of each takes was measured (`python -m benchmarks calibrate`).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "dispatch/targets.hpp"

namespace windrow {

// All but calls and beginnings are in vectors of the target.
enum class Work {
  kTile,         // multiply and add one vector in a tile, which takes no less than the latency of a sum
  kStripTile,    // the same where a strip is read instead of a panel, ...
  kLongTile,     // ... where the tile's factors outgrow the first-level cache, ...
  kFarTile,      // ... and where neighbouring terms have them on other pages besides
  kApartTile,    // the same as kTile where the channels of pixels are read in place, each on pages of its own
  kStripRead,    // read one vector of a strip from the second level of the caches for a tile
  kStencil,      // the same in a single row
  kCall,         // begin and end the sums of one tile over one chunk
  kGather,       // bring one vector of neighbouring pixels into a panel
  kGatherStep,   // the same of every second pixel, or third, of a row
  kGatherApart,  // the same of pixels that lie apart in memory
  kPage,         // go to another page for a channel of a panel, ...
  kTilePage,     // ... or of a tile whose pixels are read in place
  kTable,        // find out where one vector of one tap comes from
  kFill,         // copy one vector into a strip
  kFillApart,    // the same of pixels that lie apart in memory
  kFillRow,      // begin a row of a strip
  kTurn,         // turn over one vector of a source into a channels-last strip
  kCopy,         // copy one vector into it, where channels lie side by side
  kTurnFactor,   // turn over one vector of factors into a panel
  kCopyFactor,   // copy it, where rows lie side by side
  kFactor,       // read one vector of factors again, ...
  kFactorApart,  // ... where those of a term lie closer together than those of a row
  kFactorFar,    // bring one near, where all of them outgrow what a core has of the caches, ...
  kApartFar,     // ... and those of a term lie closer together than those of a row
  kResult,       // write one vector of results
  kResultApart,  // the same to where pixels lie apart in memory
  kInput,        // Winograd: transform one vector of an image's tiles, for each point
  kOutput,       // and back
  kWeight,       // transform one vector of weights, for each point
  kKept,         // read it again
  kKeptFar,      // ... where all of them outgrow what a core has of the caches
  kTileRead,     // read one vector of an image's transformed tiles again, for other rows
  kCount,
};
inline constexpr std::size_t kWorks = static_cast<std::size_t>(Work::kCount);
extern const std::array<const char*, kWorks> kWorkNames;

inline constexpr Index kPageBytes = 4096;
// Of channels so far apart that are gone through again and again: none where the processor keeps all of them
// in mind.
inline double pages(Index channels, Index apart) {
  constexpr Index kNearPages = 64;
  const Index bytes = channels * apart;
  return bytes <= kNearPages * kPageBytes || apart <= 0
             ? 0
             : static_cast<double>(std::min(bytes, channels * kPageBytes)) / kPageBytes;
}

struct Counts {
  std::array<double, kWorks> of{};

  double& operator[](Work work) { return of[static_cast<std::size_t>(work)]; }
  Counts plus(const Counts& more) const {
    Counts result = *this;
    for (std::size_t i = 0; i < kWorks; ++i) result.of[i] += more.of[i];
    return result;
  }
  Counts times(double count) const {
    Counts result = *this;
    for (double& each : result.of) each *= count;
    return result;
  }
};

// How many parts of a size there are, the last one perhaps smaller: vectors of a count, blocks of rows.
inline double parts(Index count, Index part) { return static_cast<double>(ceil_div(count, part)); }

// Seconds, on one thread of a core like those that were measured.
double predicted(const Counts& counts, const Tile& tile);

// Vectors to be multiplied and added for one term of `rows` by `vectors`, in tiles: what a small one wastes
// by waiting for its sums is counted as vectors too.
double tile_vectors(Index rows, Index vectors, const Tile& tile);

// The same for rows by columns, in panels of NR columns but the last one, or of nearly equal width, as few as
// can be or `least`.
double panel_vectors(Index rows, Index columns, const Tile& tile);
double even_vectors(Index rows, Index columns, const Tile& tile, Index least = 0);

}  // namespace windrow
