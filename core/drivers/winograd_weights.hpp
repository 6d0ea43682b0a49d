// Where Winograd's transformed weights lie, as products read them: [group][tile of MR rows][point][row of the
// tile][tap of the outer axes][channel].
#pragma once

#include "dispatch/targets.hpp"

namespace windrow {

// Each tap's channels fill whole vectors.
inline Index winograd_weights_row(Index taps, Index channels, const Tile& kernel) {
  return taps * round_up(channels, kernel.lanes);
}

// From point to point: a line more, so that points do not share sets of the cache.
inline Index winograd_weights_point(Index row, const Tile& kernel) {
  return kernel.rows * row + static_cast<Index>(kAlignment) / kernel.bytes;
}

}  // namespace windrow
