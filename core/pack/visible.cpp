#include "pack/visible.hpp"

#include <algorithm>

namespace windrow {

std::vector<VisibleSpan> visible_spans(const PixelAxis& axis) {
  std::vector<Index> ends{0, axis.count};
  std::vector<PixelAxis::Inside> seen;
  for (const Index tap : axis.tap) {
    seen.push_back(axis.inside(tap, axis.count));
    ends.insert(ends.end(), {seen.back().from, seen.back().to});
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  std::vector<VisibleSpan> found;
  for (std::size_t i = 0; i + 1 < ends.size(); ++i) {
    VisibleSpan span{.first = ends[i], .count = ends[i + 1] - ends[i], .taps = {}};
    for (std::size_t t = 0; t < seen.size(); ++t)
      if (seen[t].from <= span.first && span.first < seen[t].to) span.taps.push_back(static_cast<Index>(t));
    found.push_back(std::move(span));
  }
  return found;
}

double visible_share(const PixelGrid& grid) {
  double share = 1;
  for (const PixelAxis& axis : grid.axes) {
    if (axis.border != Border::kConstant || grid.fill != 0 || axis.tap.empty() || axis.count == 0) return 1;
    Index pairs = 0;
    for (const Index tap : axis.tap) {
      const PixelAxis::Inside seen = axis.inside(tap, axis.count);
      pairs += seen.to - seen.from;
    }
    share *=
        static_cast<double>(pairs) / static_cast<double>(axis.count * static_cast<Index>(axis.tap.size()));
  }
  return share;
}

std::vector<VisiblePart> visible_parts(const PixelGrid& grid) {
  VisiblePart none{.grid = grid, .taps = {0}};
  none.grid.axes.clear();
  std::vector<VisiblePart> parts{std::move(none)};
  for (const PixelAxis& axis : grid.axes) {
    const auto all_taps = static_cast<Index>(axis.tap.size());
    std::vector<VisiblePart> next;
    for (const VisiblePart& part : parts) {
      for (const VisibleSpan& span : visible_spans(axis)) {
        VisiblePart finer = part;
        PixelAxis pixels = axis;
        pixels.count = span.count;
        pixels.tap = {};
        for (const Index tap : span.taps)
          pixels.tap.push_back(axis.tap[static_cast<std::size_t>(tap)] + span.first * axis.step);
        finer.grid.axes.push_back(std::move(pixels));
        finer.taps = {};
        for (const Index outer : part.taps)
          for (const Index tap : span.taps) finer.taps.push_back(outer * all_taps + tap);
        finer.target += span.first * axis.target_stride;
        next.push_back(std::move(finer));
      }
    }
    parts = std::move(next);
  }
  return parts;
}

}  // namespace windrow
