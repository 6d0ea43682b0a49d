#include "pack/panels.hpp"

#include <algorithm>

namespace windrow {
namespace {

constexpr Index kManyTaps = 1024;  // beyond these a table has a chunk of them at a time

// The most pixels of a row for which one tap reads what the border repeats.
Index most_repeated(const PixelAxis& axis) {
  Index most = 0;
  for (std::size_t t = 0; axis.border != Border::kConstant && t < axis.tap.size(); ++t) {
    const PixelAxis::Inside own = axis.inside(axis.tap[t], axis.count);
    most = std::max(most, axis.count - (own.to - own.from));
  }
  return most;
}

}  // namespace

PixelAxis::Inside PixelAxis::inside(Index start, Index pixels, Index pace) const {
  const Index from = start < 0 ? std::min(ceil_div(-start, pace), pixels) : 0;
  if (start + (pixels - 1) * pace < size) return {from, pixels};
  return {from, start < size ? std::max(from, (size - 1 - start) / pace + 1) : from};
}

PixelAxis window_pixels(const WindowAxis& axis, Index source_stride, Index target_stride) {
  PixelAxis pixels{.count = axis.out,
                   .step = axis.stride,
                   .size = axis.size,
                   .source_stride = source_stride,
                   .target_stride = target_stride,
                   .border = axis.border,
                   .tap = {}};
  for (Index t = 0; t < axis.kernel; ++t) pixels.tap.push_back(t * axis.dilation - axis.before);
  return pixels;
}

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

PanelSize panel_size(const PixelGrid& grid, Index lanes, Index vectors) {
  const PixelAxis& last = grid.axes.back();
  const auto last_taps = static_cast<Index>(last.tap.size());
  const Index taps = grid.taps(), pixels = lanes * vectors;
  const bool many = taps > kManyTaps;
  // One more than there are row ends in a panel that begins at the end of a row.
  const Index runs = std::min(pixels, (pixels - 1) / std::max<Index>(1, last.count) + 2);
  return {.lanes = lanes,
          .vectors = vectors,
          .rank = static_cast<Index>(grid.axes.size()),
          .runs = runs,
          .taps = many ? std::min(kChunk, last_taps) : taps,
          .last_taps = many ? std::min(kChunk, last_taps) : last_taps,
          .repeated = std::min(pixels, runs * most_repeated(last))};
}

Index PanelSize::bytes() const {
  const auto rounded = [](Index count, std::size_t bytes) {
    return round_up(count * static_cast<Index>(bytes), static_cast<Index>(kAlignment));
  };
  return rounded(runs, sizeof(Run)) + rounded(runs, sizeof(PanelTable::SourceRun)) +
         rounded(runs * rank, sizeof(Index)) + rounded(last_taps * runs, sizeof(PanelTable::Seen)) +
         rounded(taps * vectors, sizeof(Segment)) + rounded(more(), sizeof(Segment)) +
         rounded(taps + 1, sizeof(std::ptrdiff_t));
}

PanelTable::PanelTable(Scratch& scratch, const PanelSize& size)
    : lanes_(size.lanes),
      vectors_(size.vectors),
      runs_(scratch.take<Run>(size.runs)),
      source_runs_(scratch.take<SourceRun>(size.runs)),
      positions_(scratch.take<Index>(size.runs * size.rank)),
      seen_(scratch.take<Seen>(size.last_taps * size.runs)),
      segments_(scratch.take<Segment>(size.taps * size.vectors)),
      more_(scratch.take<Segment>(size.more())),
      first_more_(scratch.take<std::ptrdiff_t>(size.taps + 1)) {}

void PanelTable::place(const PixelGrid& grid, Index first, Index count) {
  const std::size_t rank = grid.axes.size();
  const PixelAxis& last = grid.axes.back();
  count_ = count;
  lane_step_ = last.step * last.source_stride;
  fill_ = grid.fill;

  run_count_ = source_run_count_ = 0;
  for (Index lane = 0; lane < count;) {
    Index* position = positions_ + source_run_count_ * static_cast<Index>(rank);
    Index rest = first + lane;
    Index target = 0, place = 0;
    for (std::size_t i = rank; i-- > 0;) {
      position[i] = rest % grid.axes[i].count;
      rest /= grid.axes[i].count;
      target += position[i] * grid.axes[i].target_stride;
      place += position[i] * grid.axes[i].step * grid.axes[i].source_stride;
    }
    if (lane == 0) source_place_ = place + rest * grid.source_image;
    const Index side_by_side = std::min(count - lane, last.count - position[rank - 1]);
    source_runs_[source_run_count_++] = {
        .lane = lane, .count = side_by_side, .image_offset = rest * grid.source_image, .position = position};
    target += rest * grid.target_image;
    // Rows that follow one another without a gap in the target are one run there.
    if (run_count_ > 0 &&
        target == runs_[run_count_ - 1].target + runs_[run_count_ - 1].count * last.target_stride) {
      runs_[run_count_ - 1].count += side_by_side;
    } else {
      runs_[run_count_++] = {lane, side_by_side, target};
    }
    lane += side_by_side;
  }
}

void PanelTable::see(const PixelGrid& grid, Index tap0, Index tap1) {
  const std::size_t last_axis = grid.axes.size() - 1;
  const PixelAxis& last = grid.axes[last_axis];
  seen_tap_ = tap0;
  Seen* seen = seen_;
  for (Index tap = tap0; tap < tap1; ++tap) {
    for (const SourceRun& run : std::span(source_runs_, static_cast<std::size_t>(source_run_count_))) {
      // Pixel j of the run reads position start + j * step along the last axis.
      const Index start = run.position[last_axis] * last.step + last.tap[static_cast<std::size_t>(tap)];
      const PixelAxis::Inside own = last.inside(start, run.count);
      *seen++ = {.low = run.lane + own.from,
                 .high = run.lane + own.to,
                 .offset = run.image_offset + start * last.source_stride - run.lane * lane_step_};
    }
  }
}

void PanelTable::set_taps(const PixelGrid& grid, Index tap0, Index tap1) {
  const std::size_t rank = grid.axes.size();
  // Of a last axis of very many taps only those that are wanted.
  const auto last_taps = static_cast<Index>(grid.axes.back().tap.size());
  const bool in_one_row = tap1 > tap0 && tap0 / last_taps == (tap1 - 1) / last_taps;
  see(grid, in_one_row ? tap0 % last_taps : 0, in_one_row ? (tap1 - 1) % last_taps + 1 : last_taps);
  std::fill_n(segments_, (tap1 - tap0) * vectors_, Segment{});
  more_count_ = 0;
  first_more_[0] = 0;
  tap0_ = tap0;
  Extents tap(rank);
  Index rest = tap0;
  for (std::size_t i = rank; i-- > 0 && tap1 > tap0;) {
    tap[i] = rest % static_cast<Index>(grid.axes[i].tap.size());
    rest /= static_cast<Index>(grid.axes[i].tap.size());
  }
  for (Index t = tap0; t < tap1; ++t) {
    add_tap(grid, tap, (t - tap0) * vectors_);
    first_more_[t - tap0 + 1] = more_count_;
    for (std::size_t i = rank; i-- > 0;) {
      if (++tap[i] < static_cast<Index>(grid.axes[i].tap.size())) break;
      tap[i] = 0;
    }
  }
}

void PanelTable::add_tap(const PixelGrid& grid, const Extents& tap, Index first_vector) {
  const std::size_t outer = grid.axes.size() - 1;
  const PixelAxis& last = grid.axes[outer];
  const Seen* seen = seen_ + (tap[outer] - seen_tap_) * source_run_count_;
  for (const SourceRun& run : std::span(source_runs_, static_cast<std::size_t>(source_run_count_))) {
    const Seen lanes = *seen++;
    Index line = 0;
    bool is_constant = false;
    for (std::size_t i = 0; i < outer; ++i) {
      const PixelAxis& axis = grid.axes[i];
      const Index position =
          axis.at(run.position[i] * axis.step + axis.tap[static_cast<std::size_t>(tap[i])]);
      is_constant = is_constant || position < 0;
      line += position * axis.source_stride;
    }
    if (is_constant) continue;
    if (lanes.low < lanes.high) add_lanes(lanes.low, lanes.high, line + lanes.offset, first_vector);
    if (last.border == Border::kConstant) continue;
    const Index first = run.position[outer] * last.step + last.tap[static_cast<std::size_t>(tap[outer])];
    const auto repeat = [&](Index low, Index high) {
      for (Index lane = low; lane < high; ++lane) {
        const Index position = last.at(first + (lane - run.lane) * last.step);
        add_lanes(lane, lane + 1, line + run.image_offset + position * last.source_stride - lane * lane_step_,
                  first_vector);
      }
    };
    repeat(run.lane, lanes.low);
    repeat(lanes.high, run.lane + run.count);
  }
}

// Lanes that lie side by side in the source, where lane 0 would be at `offset`.
void PanelTable::add_lanes(Index low, Index high, Index offset, Index first_vector) {
  for (Index v = low / lanes_; v * lanes_ < high; ++v) {
    const Index from = std::max(low - v * lanes_, Index{0});
    const Index to = std::min(high - v * lanes_, Index{lanes_});
    const std::uint32_t mask = ((std::uint32_t{1} << (to - from)) - 1) << from;
    const Segment segment{.offset = offset + v * lanes_ * lane_step_,
                          .mask = mask,
                          .vector = static_cast<std::int32_t>(first_vector + v)};
    Segment& first = segments_[first_vector + v];
    (first.mask == 0 ? first : more_[more_count_++]) = segment;
  }
}

bool PanelTable::contiguous(const PixelGrid& grid) const {
  return run_count_ == 1 && (count_ == 1 || grid.axes.back().target_stride == 1);
}

}  // namespace windrow
