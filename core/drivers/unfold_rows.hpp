// Columns with short rows of positions, under a stride, straight from the image: nothing is packed.
#pragma once

#include "drivers/unfold.hpp"

namespace windrow {

// False, and nothing is written: not for these columns.
bool unfold_rows(const Unfold& problem, const Target& target, const RunContext& context);

}  // namespace windrow
