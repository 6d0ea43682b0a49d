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

// Phases whose sums are kept at a time.
Index kept_phases(const PhaseSize& size, const PhaseBlocks& blocks) {
  return blocks.strip.channels < size.channels ? size.all_phases : size.alike;
}

template <class T>
class Driver {
 public:
  Driver(const PhaseProduct<T>& problem, const PhaseBlocks& blocks, const Target& target)
      : p_(problem.all),
        phases_(problem.phases),
        alike_(problem.alike),
        columns_(problem.columns),
        column_stride_(problem.column_stride),
        blocks_(blocks.strip),
        channels_(blocks.strip.channels),
        kernels_(target.kernels<T>()),
        nr_(Index{kernels_.lanes} * kernels_.vectors),
        strips_(p_.grid, blocks_),
        units_(p_.grid.images * p_.groups * strips_.blocks_per_image()),
        phase_sums_(p_.rows * sums_row(strips_, blocks_, nr_)),
        sums_elements_(kept_phases(phase_size(problem), blocks) * phase_sums_),
        strip_elements_(windrow::strip_elements(p_.grid, blocks_, tile_of<T>(target))) {
    for (const Phase& phase : phases_) {
      first_step_.push_back(steps_);
      steps_ += channels_ * static_cast<Index>(phase.tap.size());
      for (std::size_t t = 0; t < phase.tap.size(); ++t)
        taps_.push_back({.a = p_.factor_tap[static_cast<std::size_t>(phase.factor[t])],
                         .b = strips_.tap_offset(phase.tap[t])});
    }
    // What is copied next: some channels after others, or else by the next unit.
    ahead_ = strips_.row_blocks() > 1  ? blocks_.rows * strips_.row_axis().source_stride
             : channels_ < p_.channels ? p_.source_channel
             : p_.groups > 1           ? p_.source_group
                                       : p_.grid.source_image;
  }

  Index pieces() const { return ceil_div(units_, blocks_.units); }

  void piece(Index index) const {
    Scratch scratch;
    T* strip = scratch.take<T>(strip_elements_);
    T* sums = scratch.take<T>(sums_elements_);
    auto* steps = scratch.take<Step>(steps_);
    std::size_t tap = 0;
    Step* step = steps;
    for (const Phase& phase : phases_) {
      const Step* first = taps_.data() + tap;
      tap += phase.tap.size();
      for (Index c = 0; c < channels_; ++c)
        for (std::size_t t = 0; t < phase.tap.size(); ++t)
          *step++ = {.a = first[t].a + c * p_.factor_channel, .b = first[t].b + c * strips_.elements()};
    }
    const Index end = std::min(units_, (index + 1) * blocks_.units);
    for (Index unit = index * blocks_.units; unit < end; ++unit) run_unit(unit, strip, sums, steps);
  }

 private:
  // What some phases add over some channels of dy.
  struct Part {
    Index count;  // lanes
    Index channels;
    bool first, last;  // the sums begin, and are complete, with it
    const T *factor, *bias, *strip;
    const Step* steps;
  };

  void run_unit(Index unit, T* strip, T* sums, const Step* steps) const {
    const StripPlace place = strips_.place(unit % strips_.blocks_per_image());
    unit /= strips_.blocks_per_image();
    const Index group = unit % p_.groups, image = unit / p_.groups;
    const T* source = p_.source + image * p_.grid.source_image + group * p_.source_group;
    T* target = p_.target + image * p_.grid.target_image + group * p_.target_group + place.target;
    for (Index channel = 0; channel < p_.channels; channel += channels_) {
      const Index some = std::min(channels_, p_.channels - channel);
      if (p_.grid.taps() > 0)
        strips_.fill(kernels_, place, source + channel * p_.source_channel, some, p_.source_channel, ahead_,
                     strip);
      const Part part{.count = (place.rows - 1) * strips_.width() + place.columns,
                      .channels = some,
                      .first = channel == 0,
                      .last = channel + some == p_.channels,
                      .factor = p_.factor + group * p_.factor_group + channel * p_.factor_channel,
                      .bias = p_.bias ? p_.bias + group * p_.rows * p_.bias_stride : nullptr,
                      .strip = strip,
                      .steps = steps};
      T* made = sums;
      for (const AlikePhases& alike : alike_) {
        if (!is_inside(phases_[alike.first], place)) continue;
        multiply(alike, part, made);
        if (part.last) store(alike, place, made, target);
        if (channels_ < p_.channels) made += alike.count * phase_sums_;
      }
    }
  }

  bool is_inside(const Phase& phase, const StripPlace& place) const {
    for (std::size_t i = 0; i < place.outer.size(); ++i)
      if (place.outer[i] >= phase.count[i]) return false;
    return true;
  }

  // Rows of a tile are those of the result or the phases, whichever are more.
  void multiply(const AlikePhases& alike, const Part& part, T* sums) const {
    const Index row = phase_sums_ / p_.rows;
    if (alike.factor_step != 0 && alike.count > p_.rows) {
      for (Index m = 0; m < p_.rows; ++m)
        multiply_rows(alike.first, part, m, {alike.count, alike.factor_step, phase_sums_, 0}, sums + m * row);
      return;
    }
    for (Index i = 0; i < alike.count; ++i) {
      const std::size_t f = alike.first + static_cast<std::size_t>(i);
      if (p_.rows == 1) {
        stencil(f, part, sums + i * phase_sums_);
      } else {
        multiply_rows(f, part, 0, {p_.rows, p_.factor_row, row, p_.bias_stride}, sums + i * phase_sums_);
      }
    }
  }

  Index terms(std::size_t f, const Part& part) const {
    return part.channels * static_cast<Index>(phases_[f].tap.size());
  }

  void stencil(std::size_t f, const Part& part, T* sums) const {
    kernels_.stencil({.w = part.factor,
                      .x = part.strip,
                      .x_row = 0,
                      .step = part.steps + first_step_[f],
                      .k = terms(f, part),
                      .y = sums,
                      .y_row = 0,
                      .rows = 1,
                      .count = part.count,
                      .accumulate = !part.first,
                      .bias = part.last ? part.bias : nullptr});
  }

  struct Rows {
    Index count, factor, sums, bias;  // how many, and the distance from one to the next
  };

  void multiply_rows(std::size_t f, const Part& part, Index m, const Rows& rows, T* sums) const {
    run_chunks(kernels_,
               {.a = part.factor + m * p_.factor_row,
                .a_row = rows.factor,
                .b = part.strip,
                .step = part.steps + first_step_[f],
                .c = sums,
                .c_row = rows.sums,
                .k = terms(f, part),
                .accumulate = !part.first,
                .bias = nullptr},
               rows.count, {.runs = 1, .lanes = part.count, .b = 0, .c = 0},
               part.last && part.bias ? part.bias + m * p_.bias_stride : nullptr, rows.bias);
  }

  void store(const AlikePhases& alike, const StripPlace& place, const T* sums, T* target) const {
    for (Index i = 0; i < alike.count; i += columns_) {
      const std::size_t f = alike.first + static_cast<std::size_t>(i);
      store(phases_[f], phases_[f + static_cast<std::size_t>(columns_ - 1)], place, sums + i * phase_sums_,
            target + phases_[f].target);
    }
  }

  void store(const Phase& even, const Phase& odd, const StripPlace& place, const T* sums, T* target) const {
    const std::size_t rank = p_.grid.axes.size();
    const Index all_rows = rank > 1 ? even.count[rank - 2] : 1;
    const Index rows = std::min(place.rows, all_rows - place.row);
    const Index evens = std::min(place.columns, even.count[rank - 1] - place.column);
    const Index odds = std::min(place.columns, odd.count[rank - 1] - place.column);
    if (evens <= 0) return;
    for (Index m = 0; m < p_.rows; ++m) {
      const T* first = sums + m * (phase_sums_ / p_.rows);
      store_phases(kernels_, target + m * p_.target_row, first, columns_ == 2 ? first + phase_sums_ : nullptr,
                   evens, std::max<Index>(0, odds), column_stride_, rows, strips_.target_row(),
                   strips_.width());
    }
  }

  const WindowProduct<T>& p_;
  const std::vector<Phase>& phases_;
  const std::vector<AlikePhases>& alike_;
  const Index columns_, column_stride_;
  const StripBlocks& blocks_;
  const Index channels_;
  const KernelTable<T>& kernels_;
  const Index nr_;
  const Strips strips_;
  const Index units_;
  const Index phase_sums_;  // elements: the sums of all rows of one phase
  const Index sums_elements_, strip_elements_;
  std::vector<Index> first_step_;  // of each phase
  std::vector<Step> taps_;         // of each phase, in the first channel
  Index steps_ = 0, ahead_ = 0;
};

}  // namespace

std::vector<AlikePhases> alike_phases(const std::vector<Phase>& phases, Index columns,
                                      const Extents& factor_tap) {
  // From the factors of one phase to those of the next, if they see the same taps of the same blocks.
  const auto distance = [&](const Phase& a, const Phase& b) -> Index {
    if (a.tap.empty() || !std::equal(a.tap.begin(), a.tap.end(), b.tap.begin(), b.tap.end()) ||
        !std::equal(a.count.begin(), a.count.end() - 1, b.count.begin()))
      return 0;
    const auto between = [&](std::size_t t) {
      return factor_tap[static_cast<std::size_t>(b.factor[t])] -
             factor_tap[static_cast<std::size_t>(a.factor[t])];
    };
    for (std::size_t t = 1; t < a.factor.size(); ++t)
      if (between(t) != between(0)) return 0;
    return between(0);
  };
  std::vector<AlikePhases> found;
  for (std::size_t f = 0; f < phases.size(); f += static_cast<std::size_t>(columns)) {
    const auto step = [&](std::size_t i) { return i == 0 ? 0 : distance(phases[i - 1], phases[i]); };
    AlikePhases* before = found.empty() ? nullptr : &found.back();
    if (columns == 1 && before && step(f) != 0 && (before->count == 1 || before->factor_step == step(f))) {
      before->factor_step = step(f);
      ++before->count;
    } else {
      found.push_back({.first = f, .count = columns, .factor_step = columns == 2 ? step(f + 1) : 0});
    }
  }
  return found;
}

template <class T>
void run_phase_strips(const PhaseProduct<T>& problem, const PhaseBlocks& blocks, const Target& target,
                      const RunContext& context) {
  const Driver<T> driver(problem, blocks, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

Index phase_strip_scratch(const PixelGrid& grid, const PhaseSize& size, const PhaseBlocks& blocks,
                          const Tile& tile) {
  const Strips strips(grid, blocks.strip);
  const Index sums = kept_phases(size, blocks) * size.rows * sums_row(strips, blocks.strip, tile.columns());
  const Index steps = blocks.strip.channels * size.factor_taps * Index{sizeof(Step)};
  return (strip_elements(grid, blocks.strip, tile) + sums) * tile.bytes + steps + 3 * Index{kAlignment};
}

template void run_phase_strips(const PhaseProduct<float>&, const PhaseBlocks&, const Target&,
                               const RunContext&);
template void run_phase_strips(const PhaseProduct<double>&, const PhaseBlocks&, const Target&,
                               const RunContext&);

}  // namespace windrow
