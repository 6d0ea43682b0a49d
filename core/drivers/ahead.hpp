// Cache lines that are asked for while others are worked on: a few at a time, since a burst of them would
// have to wait for the memory.
#pragma once

#include "base/types.hpp"

namespace windrow {

// What is read in place, all of it together, and has so many bytes, is in no second-level cache when a call
// begins: it is fetched ahead. Less is there if the call before left it, and asking would only take time.
inline constexpr double kFarBytes = 2 << 20;

// Asks for one run of elements at once.
template <class T>
void fetch_run(const T* first, Index count) {
  constexpr Index kLine = 64 / sizeof(T);
  for (Index i = 0; i < count; i += kLine) __builtin_prefetch(first + i, 0, 2);
}

// Runs of lines at a constant distance, `outers` times, `outer_step` apart.
template <class T>
class LinesAhead {
 public:
  LinesAhead() = default;
  LinesAhead(const T* first, Index step, Index runs, Index lines, Index outer_step = 0, Index outers = 1)
      : run_(first), step_(step), runs_(runs), lines_(lines), outer_step_(outer_step), outers_(outers) {
    if (runs < 1 || lines < 1) outers_ = 0;
  }

  // Spreads them over so many calls of `fetch`.
  void share(Index times) { some_ = ceil_div(outers_ * runs_ * lines_, times); }

  void fetch() {
    for (Index i = 0; i < some_ && outers_ > 0; ++i) {
      __builtin_prefetch(run_ + done_ * step_ + line_ * kLine, 0, 2);
      if (++line_ < lines_) continue;
      line_ = 0;
      if (++done_ < runs_) continue;
      done_ = 0;
      run_ += outer_step_;
      --outers_;
    }
  }

 private:
  static constexpr Index kLine = 64 / sizeof(T);

  const T* run_ = nullptr;
  Index step_ = 0, runs_ = 0, lines_ = 0, outer_step_ = 0, outers_ = 0;
  Index done_ = 0, line_ = 0;  // runs of these, lines of this run
  Index some_ = 0;
};

}  // namespace windrow
