// Order of the loops, from outside in: pieces of (group, pixels, rows) that threads share; blocks of
// channels; blocks of rows, whose factors are packed; panels of NR pixels, packed once for all rows and
// phases; phases; chunks of kChunk terms; tiles of MR rows.
#include <algorithm>
#include <new>
#include <span>

#include "base/workspace.hpp"
#include "drivers/ahead.hpp"
#include "drivers/phases.hpp"
#include "drivers/tiles.hpp"

namespace windrow {
namespace {

// From term to term of packed factors, in elements: an odd number of cache lines, so that terms do not fall
// into few sets of the cache.
Index factor_stride(Index rows, Index bytes) {
  const Index line = static_cast<Index>(kAlignment) / bytes;
  return (ceil_div(rows, line) | 1) * line;
}

constexpr Index kAhead = 8;  // channels whose factors are fetched meanwhile

// Pixels of a panel that lie in one row of the grid, for one phase or two neighbours.
struct PhaseRun {
  Index lane, evens, odds;
  Index target;
};

template <class T>
class Driver {
 public:
  Driver(const PhaseProduct<T>& problem, const PhaseBlocks& blocks, const Target& target)
      : p_(problem.all),
        phases_(problem.phases),
        columns_(problem.columns),
        column_stride_(problem.column_stride),
        blocks_(blocks),
        kernels_(target.kernels<T>()),
        nr_(Index{kernels_.lanes} * kernels_.vectors),
        taps_(p_.grid.taps()),
        factor_taps_(static_cast<Index>(p_.factor_tap.size())),
        pixels_(p_.grid.images * p_.grid.per_image()),
        panels_(ceil_div(pixels_, nr_)),
        pixel_blocks_(ceil_div(panels_, blocks.panels)),
        row_blocks_(ceil_div(p_.rows, blocks.rows)),
        stride_(factor_stride(blocks.factor_rows, sizeof(T))),
        table_(panel_size(p_.grid, kernels_.lanes, kernels_.vectors)) {
    for (const Phase& phase : phases_) {
      first_step_.push_back(steps_);
      steps_ += blocks.channels * static_cast<Index>(phase.tap.size());
      with_taps_.push_back(summed_);
      summed_ += phase.tap.empty() ? 0 : 1;
    }
    factors_follow_ = p_.factor_row > 0 && p_.factor_row <= factor_taps_;
    for (Index t = 0; t < factor_taps_; ++t) factors_follow_ = factors_follow_ && factor_tap(t) == t;
  }

  void piece(Index index) const {
    const Index pixel_block = index % pixel_blocks_;
    const Index row0 = index / pixel_blocks_ % row_blocks_ * blocks_.rows;
    const Index rows = std::min(blocks_.rows, p_.rows - row0);
    const Index group = index / pixel_blocks_ / row_blocks_;
    const Index panel0 = panels_ * pixel_block / pixel_blocks_;
    const Index panel1 = panels_ * (pixel_block + 1) / pixel_blocks_;

    Scratch scratch;
    Work work{.group = group, .row0 = row0, .rows = rows, .count = panel1 - panel0};
    work.panel = blocks_.channels * taps_ * nr_;
    work.packed = scratch.take<T>(work.count * work.panel);
    work.factors = scratch.take<T>(blocks_.channels * factor_taps_ * stride_);
    work.steps = scratch.take<Step>(steps_);
    // The last row's sums are read in whole vectors too.
    work.sums = scratch.take<T>(work.count * summed_ * rows * nr_ + nr_);
    set_steps(work.steps);
    auto* tables = scratch.take<PanelTable>(work.count);
    auto* runs = scratch.take<PhaseRun>(work.count * table_.runs);
    for (Index i = 0; i < work.count; ++i) {
      const Index pixel = (panel0 + i) * nr_;
      PanelTable& table = *new (&tables[i]) PanelTable(scratch, table_);
      table.place(p_.grid, pixel, std::min(nr_, pixels_ - pixel));
      table.set_taps(p_.grid, 0, taps_);
    }
    for (Index c = 0; c < p_.channels; c += blocks_.channels) {
      const Index channels = std::min(blocks_.channels, p_.channels - c);
      pack(work, c, channels, tables);
      for (Index m = 0; m < rows; m += blocks_.factor_rows)
        multiply(work, m, std::min(blocks_.factor_rows, rows - m), c, channels, panel0);
    }
    T* target = p_.target + group * p_.target_group + row0 * p_.target_row;
    T* constant = scratch.take<T>(2 * nr_);  // of phases without taps
    std::fill_n(constant, 2 * nr_, T{0});
    store(work, panel0, runs, scratch.take<Index>(work.count), constant, target);
  }

  Index pieces() const { return p_.groups * pixel_blocks_ * row_blocks_; }

 private:
  // What a piece of work has in scratch memory.
  struct Work {
    Index group, row0, rows, count;  // panels
    Index panel = 0;                 // elements of a packed panel
    T* packed = nullptr;             // [panel][channel][tap][NR]
    T* factors = nullptr;            // [channel][tap of w][row]
    Step* steps = nullptr;           // [phase][channel][its taps]
    T* sums = nullptr;               // [panel][phase with taps][row][NR]
  };

  Index factor_tap(Index tap) const { return p_.factor_tap[static_cast<std::size_t>(tap)]; }

  void set_steps(Step* step) const {
    for (const Phase& phase : phases_) {
      for (Index c = 0; c < blocks_.channels; ++c)
        for (std::size_t t = 0; t < phase.tap.size(); ++t)
          *step++ = {.a = (c * factor_taps_ + phase.factor[t]) * stride_,
                     .b = (c * taps_ + phase.tap[t]) * nr_};
    }
  }

  void pack(const Work& work, Index c, Index channels, PanelTable* tables) const {
    const T* source = p_.source + work.group * p_.source_group + c * p_.source_channel;
    for (Index i = 0; i < work.count; ++i) {
      for (Index k = 0; k < channels; ++k)
        tables[i].pack(kernels_, source + k * p_.source_channel, 0, taps_, p_.source_channel,
                       work.packed + i * work.panel + k * taps_ * nr_);
    }
  }

  void pack_factors(const Work& work, Index m, Index rows, Index c, Index channels) const {
    const T* factor = p_.factor + work.group * p_.factor_group + (work.row0 + m) * p_.factor_row;
    for (Index k = 0; k < channels; ++k) {
      const T* from = factor + (c + k) * p_.factor_channel;
      // The factors of one channel lie on pages of their own, too many for the hardware to guess.
      if (factors_follow_ && k + kAhead < channels)
        fetch_run(from + kAhead * p_.factor_channel, rows * p_.factor_row);
      T* to = work.factors + k * factor_taps_ * stride_;
      if (factors_follow_ && factor_taps_ > 1) {
        kernels_.transpose({.target = to,
                            .target_row = stride_,
                            .source = from,
                            .source_row = p_.factor_row,
                            .rows = factor_taps_,
                            .columns = rows,
                            .ahead = 0});
        continue;
      }
      for (Index t = 0; t < factor_taps_; ++t)
        kernels_.collect({.target = to + t * stride_,
                          .source = from + factor_tap(t),
                          .step = p_.factor_row,
                          .count = rows});
    }
  }

  // Rows [m, m + rows) of the piece over all its panels and phases, for some channels.
  void multiply(const Work& work, Index m, Index rows, Index c, Index channels, Index panel0) const {
    pack_factors(work, m, rows, c, channels);
    const bool last = c + channels == p_.channels;
    const T* bias =
        p_.bias && last ? p_.bias + (work.group * p_.rows + work.row0 + m) * p_.bias_stride : nullptr;
    for (Index i = 0; i < work.count; ++i) {
      const Index pixels = std::min(nr_, pixels_ - (panel0 + i) * nr_);
      const int vectors = static_cast<int>(ceil_div(pixels, kernels_.lanes));
      for (std::size_t f = 0; f < phases_.size(); ++f) {
        const Index terms = channels * static_cast<Index>(phases_[f].tap.size());
        for (Index k = 0; k < terms; k += kChunk) {
          const Index some = std::min(Index{kChunk}, terms - k);
          const Product<T> product{.a = work.factors,
                                   .a_row = 1,
                                   .b = work.packed + i * work.panel,
                                   .step = work.steps + first_step_[f] + k,
                                   .c = sums(work, i, f) + m * nr_,
                                   .c_row = nr_,
                                   .k = some,
                                   .accumulate = c > 0 || k > 0,
                                   .bias = nullptr};
          run_tiles(kernels_, product, rows, vectors, k + some == terms ? bias : nullptr, p_.bias_stride);
        }
      }
    }
  }

  T* sums(const Work& work, Index panel, std::size_t phase) const {
    return work.sums + (panel * summed_ + with_taps_[phase]) * work.rows * nr_;
  }

  // The runs of a panel for the phases from `f` on that are neighbours.
  Index find_runs(Index first, std::size_t f, PhaseRun* runs) const {
    const std::size_t rank = p_.grid.axes.size();
    const Phase& even = phases_[f];
    const Phase& odd = phases_[f + static_cast<std::size_t>(columns_ - 1)];
    const Index row = p_.grid.axes.back().count, count = std::min(nr_, pixels_ - first);
    Index found = 0;
    for (Index lane = 0, some; lane < count; lane += some) {
      Index rest = first + lane, target = even.target;
      const Index column = rest % row;
      some = std::min(count - lane, row - column);
      rest /= row;
      bool inside = true;
      for (std::size_t i = rank - 1; i-- > 0;) {
        const PixelAxis& axis = p_.grid.axes[i];
        inside = inside && rest % axis.count < even.count[i];
        target += rest % axis.count * axis.target_stride;
        rest /= axis.count;
      }
      target += rest * p_.grid.target_image + column * p_.grid.axes.back().target_stride;
      const Index evens = std::clamp<Index>(even.count[rank - 1] - column, 0, some);
      const Index odds = std::clamp<Index>(odd.count[rank - 1] - column, 0, some);
      if (inside && evens > 0) runs[found++] = {.lane = lane, .evens = evens, .odds = odds, .target = target};
    }
    return found;
  }

  // Row by row over all panels, so that the result is written along its rows of memory.
  void store(const Work& work, Index panel0, PhaseRun* runs, Index* found, T* constant, T* target) const {
    const T* bias = p_.bias ? p_.bias + (work.group * p_.rows + work.row0) * p_.bias_stride : nullptr;
    for (std::size_t f = 0; f < phases_.size(); f += static_cast<std::size_t>(columns_)) {
      const std::size_t odd = f + static_cast<std::size_t>(columns_ - 1);
      for (Index i = 0; i < work.count; ++i)
        found[i] = find_runs((panel0 + i) * nr_, f, runs + i * table_.runs);
      for (Index m = 0; m < work.rows; ++m) {
        if (bias) std::fill_n(constant, nr_, bias[m * p_.bias_stride]);
        for (Index i = 0; i < work.count; ++i) {
          const auto row = [&](std::size_t phase, Index lane) -> const T* {
            return phases_[phase].tap.empty() ? constant : sums(work, i, phase) + m * nr_ + lane;
          };
          for (const PhaseRun& run : std::span(runs + i * table_.runs, static_cast<std::size_t>(found[i])))
            store_phases(kernels_, target + m * p_.target_row + run.target, row(f, run.lane),
                         columns_ == 2 ? row(odd, run.lane) : nullptr, run.evens, run.odds, column_stride_);
        }
      }
    }
  }

  const WindowProduct<T>& p_;
  const std::vector<Phase>& phases_;
  const Index columns_, column_stride_;
  const PhaseBlocks& blocks_;
  const KernelTable<T>& kernels_;
  const Index nr_, taps_, factor_taps_, pixels_, panels_, pixel_blocks_, row_blocks_, stride_;
  const PanelSize table_;
  std::vector<Index> first_step_, with_taps_;  // of each phase: its first step, and its place in the sums
  Index steps_ = 0, summed_ = 0;
  bool factors_follow_ = false;  // taps of a row lie side by side, rows behind one another
};

}  // namespace

template <class T>
void run_phase_product(const PhaseProduct<T>& problem, const PhaseBlocks& blocks, const Target& target,
                       const RunContext& context) {
  const Driver<T> driver(problem, blocks, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

namespace {

Index product_bytes(const PixelGrid& grid, const PhaseSize& size, const PhaseBlocks& blocks,
                    const Tile& tile) {
  const Index nr = tile.columns();
  const Index packed = blocks.panels * blocks.channels * grid.taps() * nr;
  const Index factors = blocks.channels * size.factor_taps * factor_stride(blocks.factor_rows, tile.bytes);
  const Index sums = blocks.panels * size.phases * std::min(blocks.rows, size.rows) * nr + nr;
  const Index runs = panel_size(grid, tile.lanes, tile.vectors).runs * Index{sizeof(PhaseRun)};
  const Index steps = blocks.channels * size.factor_taps * Index{sizeof(Step)};
  return (packed + factors + sums + 2 * nr) * tile.bytes + steps +
         blocks.panels * (runs + blocks.table_bytes + Index{sizeof(PanelTable)} + Index{sizeof(Index)}) +
         8 * Index{kAlignment};
}

}  // namespace

Index phase_scratch(const PixelGrid& grid, const PhaseSize& size, const PhaseBlocks& blocks,
                    const Tile& tile) {
  if (!blocks.strips) return product_bytes(grid, size, blocks, tile);
  return phase_strip_scratch(grid, size, blocks, tile);
}

Index phase_pieces(const PixelGrid& grid, const PhaseSize& size, const PhaseBlocks& blocks,
                   const Tile& tile) {
  if (blocks.strips)
    return ceil_div(grid.images * size.groups * Strips(grid, blocks.strip).blocks_per_image(),
                    blocks.strip.units);
  const Index panels = ceil_div(grid.images * grid.per_image(), tile.columns());
  return size.groups * ceil_div(panels, blocks.panels) * ceil_div(size.rows, blocks.rows);
}

template void run_phase_product(const PhaseProduct<float>&, const PhaseBlocks&, const Target&,
                                const RunContext&);
template void run_phase_product(const PhaseProduct<double>&, const PhaseBlocks&, const Target&,
                                const RunContext&);

}  // namespace windrow
