// Columns with short rows of positions summed straight into rows of the image.
#pragma once

#include "drivers/fold.hpp"

namespace windrow {

// For each row of the image the rows of columns that meet it, of the first positions first: where they lie,
// `tap` bytes from tap to tap and `position` from one to the next. Their numbers are in `first`.
void list_fold_rows(const WindowAxis& axis, Index tap, Index position, Index* sources, Index* first);
inline constexpr Index kMostFoldSources = 16384;  // in that list, and then some

// False, and nothing is written: not for these columns.
bool fold_rows(const Fold& problem, const Target& target, const RunContext& context);

// The same for short rows of windows, in which the last taps are runs.
bool fold_window_rows(const Fold& problem, const Target& target, const RunContext& context);

}  // namespace windrow
