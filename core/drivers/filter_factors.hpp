// The factors of drivers/filter_product in panels of filters: [term][filter], zeros past the last filter.
#pragma once

#include <algorithm>

#include "drivers/ahead.hpp"
#include "drivers/tiles.hpp"
#include "drivers/window_product.hpp"

namespace windrow {

template <class T>
class FilterFactors {
 public:
  FilterFactors(const WindowProduct<T>& problem, const KernelTable<T>& kernels, Index panels)
      : p_(problem),
        kernels_(kernels),
        panels_(kernels, problem.rows, panels),
        taps_(problem.grid.taps()),
        follow_(factors_follow(problem)) {}

  // Whether those of one filter lie side by side, in order; or, under a window of one tap, those of one term.
  bool terms_follow() const { return follow_; }
  bool rows_follow() const { return !follow_ && taps_ == 1 && p_.factor_row == 1; }

  Index panels() const { return panels_.count(); }
  Index first(Index panel) const { return panels_.begin(panel); }
  Index count(Index panel) const { return first(panel + 1) - first(panel); }
  // Filters in whole vectors. Panels are of two widths at most, the first of all as narrow as any.
  Index width(Index panel) const { return panels_.vectors(panel) * kernels_.lanes; }
  Index wide() const { return width(panels() - 1); }
  Index narrow() const { return width(0); }

  // Where the panels of some group's pass, which begins with this term, lie among those of all.
  Index place(Index group, Index k0) const {
    return (group * p_.channels * taps_ + k0) * round_up(p_.rows, kernels_.lanes);
  }

  // The factors of the panels [panel0, panel1), for the terms [k0, k1), panel by panel. `factor` is that of
  // the first filter. Terms come first, filters of all panels within them, in the order of memory if the
  // factors of neighbouring filters are neighbours.
  void pack(Index k0, Index k1, Index panel0, Index panel1, const T* factor, T* packed) const {
    const Index filter0 = first(panel0), last = panels() - 1;
    if (panel1 > last && p_.rows % kernels_.lanes != 0)
      std::fill_n(packed + (first(last) - filter0) * (k1 - k0), width(last) * (k1 - k0), T{0});
    // Of each filter the `terms` factors from this one on, which become those of term k and every step-th
    // one.
    const auto turn = [&](const T* from, Index terms, Index k, Index step) {
      for (Index i = panel0; i < panel1; ++i) {
        const Index m = first(i) - filter0;
        turn_over(from + m * p_.factor_row, terms, count(i), step * width(i),
                  packed + m * (k1 - k0) + (k - k0) * width(i));
      }
    };
    if (p_.factor_channel == 1 && !follow_) {  // tap by tap, since channels lie side by side
      for (Index t = 0; t < taps_; ++t) {
        const Index k = k0 + (t + taps_ - k0 % taps_) % taps_;
        if (k < k1) turn(factor + k / taps_ + tap(t), ceil_div(k1 - k, taps_), k, taps_);
      }
      return;
    }
    for (Index k = k0; k < k1;) {
      const T* from = factor + k / taps_ * p_.factor_channel + tap(k % taps_);
      // Terms that lie side by side, forwards or backwards.
      const auto [terms, step] = neighbours(k % taps_, k1 - k);
      step > 0 ? turn(from, terms, k, step) : turn(from - (terms - 1), terms, k + terms - 1, step);
      k += terms;
    }
  }

  // The same where all of a term's lie side by side: [term][filter], as they are in memory.
  void copy_rows(Index k0, Index k1, Index filters, const T* factor, Index row, T* packed) const {
    for (Index k = k0; k < k1; ++k, packed += row) {
      std::copy_n(factor + k * p_.factor_channel + tap(0), filters, packed);
      std::fill(packed + filters, packed + round_up(filters, kernels_.lanes), T{0});
    }
  }

  // Where the factors of some terms lie: a run for each filter, or for each channel.
  LinesAhead<T> lines(Index k0, Index k1, Index filters, const T* factor) const {
    if (k0 == k1) return {};
    if (follow_) return {factor + k0, p_.factor_row, filters, ceil_div(k1 - k0, kLine)};
    if (p_.factor_row < 1 || p_.factor_row > taps_) return {};
    const Index channel = k0 / taps_;
    return {factor + channel * p_.factor_channel, p_.factor_channel, ceil_div(k1, taps_) - channel,
            ceil_div(filters * p_.factor_row, kLine)};
  }

 private:
  static constexpr Index kLine = 64 / sizeof(T);

  Index tap(Index number) const { return p_.factor_tap[static_cast<std::size_t>(number)]; }

  void turn_over(const T* from, Index terms, Index filters, Index target_row, T* target) const {
    if (terms == 1) {
      kernels_.collect({.target = target, .source = from, .step = p_.factor_row, .count = filters});
      return;
    }
    // Lines of a few filters are read to their end before those of others, which may share sets of the cache.
    const Index some = terms > kLine ? kLine : filters;
    for (Index f = 0; f < filters; f += some)
      kernels_.transpose({.target = target + f,
                          .target_row = target_row,
                          .source = from + f * p_.factor_row,
                          .source_row = p_.factor_row,
                          .rows = terms,
                          .columns = std::min(some, filters - f),
                          .ahead = 0});
  }

  struct Neighbours {
    Index terms, step;
  };
  // How many terms from this tap on have factors one element apart, and in which direction: at most `most`.
  Neighbours neighbours(Index first, Index most) const {
    if (follow_) return {most, 1};
    const Index step = first + 1 < taps_ && tap(first + 1) < tap(first) ? -1 : 1;
    Index terms = 1;
    while (terms < most && first + terms < taps_ && tap(first + terms) - tap(first + terms - 1) == step)
      ++terms;
    return {terms, step};
  }

  const WindowProduct<T>& p_;
  const KernelTable<T>& kernels_;
  const EvenTiles panels_;
  const Index taps_;
  const bool follow_;
};

}  // namespace windrow
