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

bool PixelGrid::target_is_contiguous() const {
  Index expected = 1;
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
    if (axis->count > 1 && axis->target_stride != expected) return false;
    expected *= axis->count;
  }
  return true;
}

void PanelTable::place(const PixelGrid& grid, Index first, Index count, int lanes) {
  const std::size_t rank = grid.axes.size();
  const PixelAxis& last = grid.axes.back();
  count_ = count;
  lanes_ = lanes;
  vectors_ = static_cast<int>(ceil_div(count, lanes));
  lane_step_ = last.step * last.source_stride;

  runs_.clear();
  source_runs_.clear();
  for (Index lane = 0; lane < count;) {
    SourceRun run{.lane = lane, .count = 0, .image = 0, .position = Extents(rank)};
    Index rest = first + lane;
    Index target = 0;
    for (std::size_t i = rank; i-- > 0;) {
      run.position[i] = rest % grid.axes[i].count;
      rest /= grid.axes[i].count;
      target += run.position[i] * grid.axes[i].target_stride;
    }
    run.image = rest;
    run.count = std::min(count - lane, last.count - run.position.back());
    runs_.push_back({lane, run.count, target + run.image * grid.target_image});
    lane += run.count;
    source_runs_.push_back(std::move(run));
  }
}

void PanelTable::set_taps(const PixelGrid& grid, Index tap0, Index tap1) {
  const std::size_t rank = grid.axes.size();
  segments_.clear();
  first_segment_.assign(1, 0);
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
  const PixelAxis& last = grid.axes.back();
  const Index tap_position = last.tap[static_cast<std::size_t>(tap[outer])];
  std::size_t next = 0;  // the run that the vector begins in or before
  for (int v = 0; v < vectors_; ++v) {
    const Index lane0 = Index{v} * lanes_;
    const Index lane1 = std::min(lane0 + lanes_, count_);
    while (next < source_runs_.size() && source_runs_[next].lane + source_runs_[next].count <= lane0) ++next;
    for (std::size_t r = next; r < source_runs_.size() && source_runs_[r].lane < lane1; ++r) {
      const SourceRun& run = source_runs_[r];
      Index offset = run.image * grid.source_image;
      bool inside = true;
      for (std::size_t i = 0; i < outer; ++i) {
        const PixelAxis& axis = grid.axes[i];
        const Index position = run.position[i] * axis.step + axis.tap[static_cast<std::size_t>(tap[i])];
        inside = inside && position >= 0 && position < axis.size;
        offset += position * axis.source_stride;
      }
      if (!inside) continue;
      // Lanes whose position along the last axis lies in the source: start + j * step in [0, size).
      const Index start = run.position[outer] * last.step + tap_position;
      const Index from = start < 0 ? ceil_div(-start, last.step) : 0;
      const Index to = start < last.size ? (last.size - 1 - start) / last.step + 1 : 0;
      const Index low = std::max(run.lane + from, lane0);
      const Index high = std::min(run.lane + std::min(to, run.count), lane1);
      if (low >= high) continue;
      const std::uint32_t ones = (std::uint32_t{1} << (high - low)) - 1;
      offset += start * last.source_stride + (lane0 - run.lane) * lane_step_;
      segments_.push_back({static_cast<std::ptrdiff_t>(offset), ones << (low - lane0)});
    }
    first_segment_.push_back(static_cast<std::int32_t>(segments_.size()));
  }
}

bool PanelTable::contiguous(const PixelGrid& grid) const {
  for (std::size_t i = 1; i < runs_.size(); ++i) {
    if (runs_[i].target != runs_[0].target + runs_[i].lane) return false;
  }
  return count_ == 1 || grid.axes.back().count == 1 || grid.axes.back().target_stride == 1;
}

}  // namespace windrow
