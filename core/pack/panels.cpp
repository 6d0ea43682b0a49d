#include "pack/panels.hpp"

#include <algorithm>

namespace windrow {

Index PixelGrid::per_image() const {
  Index count = 1;
  for (const PixelAxis& axis : axes) count *= axis.count;
  return count;
}

Index PixelGrid::taps() const {
  Index count = 1;
  for (const PixelAxis& axis : axes) count *= static_cast<Index>(axis.tap.size());
  return count;
}

void PanelTable::place(const PixelGrid& grid, Index first, Index count, int lanes, int vectors) {
  const std::size_t rank = grid.axes.size();
  const PixelAxis& last = grid.axes.back();
  count_ = count;
  lanes_ = lanes;
  vectors_ = vectors;
  lane_step_ = last.step * last.source_stride;

  runs_.clear();
  source_runs_.clear();
  for (Index lane = 0; lane < count;) {
    SourceRun run{.lane = lane, .count = 0, .image_offset = 0, .position = Extents(rank)};
    Index rest = first + lane;
    Index target = 0;
    for (std::size_t i = rank; i-- > 0;) {
      run.position[i] = rest % grid.axes[i].count;
      rest /= grid.axes[i].count;
      target += run.position[i] * grid.axes[i].target_stride;
    }
    run.image_offset = rest * grid.source_image;
    run.count = std::min(count - lane, last.count - run.position.back());
    runs_.push_back({lane, run.count, target + rest * grid.target_image});
    lane += run.count;
    source_runs_.push_back(std::move(run));
  }
}

void PanelTable::see(const PixelAxis& last, Index tap0, Index tap1) {
  seen_.clear();
  seen_tap_ = tap0;
  for (Index tap = tap0; tap < tap1; ++tap) {
    for (const SourceRun& run : source_runs_) {
      // Pixel j of the run reads position start + j * step along the last axis.
      const Index start = run.position.back() * last.step + last.tap[static_cast<std::size_t>(tap)];
      Index from = 0, to = run.count;
      if (start < 0) from = ceil_div(-start, last.step);
      if (start + (run.count - 1) * last.step >= last.size)
        to = start < last.size ? (last.size - 1 - start) / last.step + 1 : 0;
      seen_.push_back({.low = run.lane + from,
                       .high = run.lane + to,
                       .offset = run.image_offset + start * last.source_stride - run.lane * lane_step_});
    }
  }
}

void PanelTable::set_taps(const PixelGrid& grid, Index tap0, Index tap1) {
  const std::size_t rank = grid.axes.size();
  // Of a last axis of very many taps only those that are wanted.
  const PixelAxis& last = grid.axes.back();
  const auto last_taps = static_cast<Index>(last.tap.size());
  const bool in_one_row = tap1 > tap0 && tap0 / last_taps == (tap1 - 1) / last_taps;
  see(last, in_one_row ? tap0 % last_taps : 0, in_one_row ? (tap1 - 1) % last_taps + 1 : last_taps);
  segments_.clear();
  more_.clear();
  first_more_.assign(1, 0);
  tap0_ = tap0;
  Extents tap(rank);
  Index rest = tap0;
  for (std::size_t i = rank; i-- > 0 && tap1 > tap0;) {
    tap[i] = rest % static_cast<Index>(grid.axes[i].tap.size());
    rest /= static_cast<Index>(grid.axes[i].tap.size());
  }
  for (Index t = tap0; t < tap1; ++t) {
    add_tap(grid, tap);
    for (std::size_t i = rank; i-- > 0;) {
      if (++tap[i] < static_cast<Index>(grid.axes[i].tap.size())) break;
      tap[i] = 0;
    }
  }
}

void PanelTable::add_tap(const PixelGrid& grid, const Extents& tap) {
  const std::size_t outer = grid.axes.size() - 1;
  const auto first_vector = static_cast<std::int32_t>(segments_.size());
  segments_.resize(segments_.size() + static_cast<std::size_t>(vectors_));
  const Seen* seen = seen_.data() + static_cast<std::size_t>(tap[outer] - seen_tap_) * source_runs_.size();
  for (const SourceRun& run : source_runs_) {
    const Seen lanes = *seen++;
    Index offset = lanes.offset;
    bool inside = lanes.low < lanes.high;
    for (std::size_t i = 0; i < outer; ++i) {
      const PixelAxis& axis = grid.axes[i];
      const Index position = run.position[i] * axis.step + axis.tap[static_cast<std::size_t>(tap[i])];
      inside = inside && position >= 0 && position < axis.size;
      offset += position * axis.source_stride;
    }
    if (!inside) continue;
    for (Index v = lanes.low / lanes_; v * lanes_ < lanes.high; ++v) {
      const Index low = std::max(lanes.low - v * lanes_, Index{0});
      const Index high = std::min(lanes.high - v * lanes_, Index{lanes_});
      const std::uint32_t mask = ((std::uint32_t{1} << (high - low)) - 1) << low;
      const auto vector = first_vector + static_cast<std::int32_t>(v);
      const Segment segment{.offset = offset + v * lanes_ * lane_step_, .mask = mask, .vector = vector};
      Segment& first = segments_[static_cast<std::size_t>(vector)];
      if (first.mask == 0) {
        first = segment;
      } else {
        more_.push_back(segment);
      }
    }
  }
  first_more_.push_back(static_cast<std::ptrdiff_t>(more_.size()));
}

bool PanelTable::contiguous(const PixelGrid& grid) const {
  for (std::size_t i = 1; i < runs_.size(); ++i) {
    if (runs_[i].target != runs_[0].target + runs_[i].lane) return false;
  }
  return count_ == 1 || grid.axes.back().count == 1 || grid.axes.back().target_stride == 1;
}

}  // namespace windrow
