// Few result rows, as in depthwise convolution and for images of a few channels: a strip of dy serves every
// phase, and lanes run on over the ends of its rows.
#include <algorithm>

#include "base/workspace.hpp"
#include "drivers/phases.hpp"
#include "drivers/strip_product.hpp"
#include "drivers/tiles.hpp"

namespace windrow {
namespace {

// Pixels of a block, with the strip's padding between rows.
Index run_on(const Strips& strips, const StripBlocks& blocks) {
  return (blocks.rows - 1) * strips.width() + blocks.columns;
}

// Of the sums of one phase and row; read in whole vectors.
Index sums_row(const Strips& strips, const StripBlocks& blocks, Index nr) {
  return round_up(run_on(strips, blocks), nr) + nr;
}

template <class T>
class Driver {
 public:
  Driver(const PhaseProduct<T>& problem, const PhaseBlocks& blocks, const Target& target)
      : p_(problem.all),
        phases_(problem.phases),
        columns_(problem.columns),
        column_stride_(problem.column_stride),
        blocks_(blocks.strip),
        kernels_(target.kernels<T>()),
        nr_(Index{kernels_.lanes} * kernels_.vectors),
        strips_(p_.grid, blocks_),
        units_(p_.grid.images * p_.groups * strips_.blocks_per_image()),
        sums_row_(sums_row(strips_, blocks_, nr_)),
        strip_elements_(windrow::strip_elements(p_.grid, p_.channels, blocks_, tile_of<T>(target))) {
    for (const Phase& phase : phases_) {
      first_step_.push_back(steps_);
      steps_ += p_.channels * static_cast<Index>(phase.tap.size());
      for (std::size_t t = 0; t < phase.tap.size(); ++t)
        taps_.push_back({.a = p_.factor_tap[static_cast<std::size_t>(phase.factor[t])],
                         .b = strips_.tap_offset(phase.tap[t])});
    }
    ahead_ = strips_.row_blocks() > 1 ? blocks_.rows * strips_.row_axis().source_stride
             : p_.channels > 1        ? p_.source_channel
                                      : p_.source_group;
  }

  Index pieces() const { return ceil_div(units_, blocks_.units); }

  void piece(Index index) const {
    Scratch scratch;
    T* strip = scratch.take<T>(strip_elements_);
    T* sums = scratch.take<T>(columns_ * p_.rows * sums_row_);
    auto* steps = scratch.take<Step>(steps_);
    std::size_t tap = 0;
    Step* step = steps;
    for (const Phase& phase : phases_) {
      const Step* first = taps_.data() + tap;
      tap += phase.tap.size();
      for (Index c = 0; c < p_.channels; ++c)
        for (std::size_t t = 0; t < phase.tap.size(); ++t)
          *step++ = {.a = first[t].a + c * p_.factor_channel, .b = first[t].b + c * strips_.elements()};
    }
    const Index end = std::min(units_, (index + 1) * blocks_.units);
    for (Index unit = index * blocks_.units; unit < end; ++unit) run_unit(unit, strip, sums, steps);
  }

 private:
  void run_unit(Index unit, T* strip, T* sums, const Step* steps) const {
    const StripPlace place = strips_.place(unit % strips_.blocks_per_image());
    unit /= strips_.blocks_per_image();
    const Index group = unit % p_.groups, image = unit / p_.groups;
    const T* source = p_.source + image * p_.grid.source_image + group * p_.source_group;
    for (Index c = 0; p_.grid.taps() > 0 && c < p_.channels; ++c)
      strips_.fill(kernels_, place, source + c * p_.source_channel, ahead_, strip + c * strips_.elements());
    T* target = p_.target + image * p_.grid.target_image + group * p_.target_group + place.target;
    for (std::size_t f = 0; f < phases_.size(); f += static_cast<std::size_t>(columns_)) {
      if (!is_inside(phases_[f], place)) continue;
      for (Index column = 0; column < columns_; ++column)
        multiply(group, f + static_cast<std::size_t>(column), place, strip, steps,
                 sums + column * p_.rows * sums_row_);
      store(f, place, sums, target + phases_[f].target);
    }
  }

  bool is_inside(const Phase& phase, const StripPlace& place) const {
    for (std::size_t i = 0; i < place.outer.size(); ++i)
      if (place.outer[i] >= phase.count[i]) return false;
    return true;
  }

  void multiply(Index group, std::size_t f, const StripPlace& place, const T* strip, const Step* steps,
                T* sums) const {
    const Index terms = p_.channels * static_cast<Index>(phases_[f].tap.size());
    const Index count = (place.rows - 1) * strips_.width() + place.columns;
    const T* factor = p_.factor + group * p_.factor_group;
    const T* bias = p_.bias ? p_.bias + group * p_.rows * p_.bias_stride : nullptr;
    if (p_.rows == 1) {
      kernels_.stencil({.w = factor,
                        .x = strip,
                        .x_row = 0,
                        .step = steps + first_step_[f],
                        .k = terms,
                        .y = sums,
                        .y_row = 0,
                        .rows = 1,
                        .count = count,
                        .accumulate = false,
                        .bias = bias});
      return;
    }
    // What one chunk of terms reads stays in the first-level cache while all lanes pass over it.
    Index k = 0;
    do {
      const Index some = std::min(Index{kChunk}, terms - k);
      for (Index lane = 0; lane < count; lane += nr_) {
        const Product<T> product{.a = factor,
                                 .a_row = p_.factor_row,
                                 .b = strip + lane,
                                 .step = steps + first_step_[f] + k,
                                 .c = sums + lane,
                                 .c_row = sums_row_,
                                 .k = some,
                                 .accumulate = k > 0,
                                 .bias = nullptr};
        const auto vectors = static_cast<int>(ceil_div(std::min(nr_, count - lane), kernels_.lanes));
        run_tiles(kernels_, product, p_.rows, vectors, k + some == terms ? bias : nullptr, p_.bias_stride);
      }
      k += some;
    } while (k < terms);
  }

  void store(std::size_t f, const StripPlace& place, const T* sums, T* target) const {
    const Phase& even = phases_[f];
    const Phase& odd = phases_[f + static_cast<std::size_t>(columns_ - 1)];
    const std::size_t rank = p_.grid.axes.size();
    const Index all_rows = rank > 1 ? even.count[rank - 2] : 1;
    const Index rows = std::min(place.rows, all_rows - place.row);
    const Index evens = std::min(place.columns, even.count[rank - 1] - place.column);
    const Index odds = std::min(place.columns, odd.count[rank - 1] - place.column);
    if (evens <= 0) return;
    for (Index m = 0; m < p_.rows; ++m) {
      const T* first = sums + m * sums_row_;
      const T* second = columns_ == 2 ? first + p_.rows * sums_row_ : nullptr;
      T* to = target + m * p_.target_row;
      for (Index r = 0; r < rows; ++r)
        store_phases(kernels_, to + r * strips_.target_row(), first + r * strips_.width(),
                     second ? second + r * strips_.width() : nullptr, evens, std::max<Index>(0, odds),
                     column_stride_);
    }
  }

  const WindowProduct<T>& p_;
  const std::vector<Phase>& phases_;
  const Index columns_, column_stride_;
  const StripBlocks& blocks_;
  const KernelTable<T>& kernels_;
  const Index nr_;
  const Strips strips_;
  const Index units_, sums_row_, strip_elements_;
  std::vector<Index> first_step_;  // of each phase
  std::vector<Step> taps_;         // of each phase, in the first channel
  Index steps_ = 0, ahead_ = 0;
};

}  // namespace

template <class T>
void run_phase_strips(const PhaseProduct<T>& problem, const PhaseBlocks& blocks, const Target& target,
                      const RunContext& context) {
  const Driver<T> driver(problem, blocks, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

Index phase_strip_scratch(const PixelGrid& grid, const PhaseSize& size, const PhaseBlocks& blocks,
                          const Tile& tile) {
  const Strips strips(grid, blocks.strip);
  const Index sums = size.columns * size.rows * sums_row(strips, blocks.strip, tile.columns());
  const Index steps = size.channels * size.factor_taps * Index{sizeof(Step)};
  return (strip_elements(grid, size.channels, blocks.strip, tile) + sums) * tile.bytes + steps +
         3 * Index{kAlignment};
}

template void run_phase_strips(const PhaseProduct<float>&, const PhaseBlocks&, const Target&,
                               const RunContext&);
template void run_phase_strips(const PhaseProduct<double>&, const PhaseBlocks&, const Target&,
                               const RunContext&);

}  // namespace windrow
