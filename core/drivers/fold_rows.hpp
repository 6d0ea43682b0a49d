// Columns with short rows of positions summed straight into rows of the image.
#pragma once

#include "drivers/fold.hpp"

namespace windrow {

// False, and nothing is written: not for these columns.
bool fold_rows(const Fold& problem, const Target& target, const RunContext& context);

}  // namespace windrow
