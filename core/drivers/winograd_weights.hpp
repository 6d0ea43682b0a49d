// Where Winograd's transformed weights lie, as products read them: [group][tile of MR rows][point][row of the
// tile][channel].
#pragma once

#include "dispatch/targets.hpp"

namespace windrow {

inline Index winograd_weights_row(Index channels, const Tile& kernel) {
  return round_up(channels, kernel.lanes);
}

// From point to point: a line more, so that points do not share sets of the cache.
inline Index winograd_weights_point(Index channels, const Tile& kernel) {
  return kernel.rows * winograd_weights_row(channels, kernel) + static_cast<Index>(kAlignment) / kernel.bytes;
}

}  // namespace windrow
