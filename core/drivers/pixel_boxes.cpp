#include "drivers/pixel_boxes.hpp"

#include <algorithm>
#include <numeric>

#include "drivers/tiles.hpp"

namespace windrow {
namespace {

// In cycles, each of which has one multiply-add of a vector: of a tile for each chunk of terms, of a term in
// the table of a box, and of a box besides.
constexpr double kTileCycles = 60;
constexpr double kTermCycles = 4;
constexpr double kBoxCycles = 1000;

// Some pixels of a block, from its first one on, and the taps that they see.
struct Cut {
  Index first, count;
  const Extents* taps;
};

// All in one where no pixel of the block sees all taps.
std::vector<Cut> cut(const std::vector<VisibleSpan>& spans, Index first, Index count, const Extents& all) {
  std::vector<Cut> found;
  bool whole = false;
  for (const VisibleSpan& span : spans) {
    const Index from = std::max(span.first, first), to = std::min(span.first + span.count, first + count);
    if (from >= to) continue;
    found.push_back({from - first, to - from, &span.taps});
    whole = whole || span.taps.size() == all.size();
  }
  if (!whole) found = {{0, count, &all}};
  return found;
}

Extents all_taps(const PixelAxis& axis) {
  Extents taps(axis.tap.size());
  std::iota(taps.begin(), taps.end(), Index{0});
  return taps;
}

Index count_of(const Extents& taps) { return static_cast<Index>(taps.size()); }

}  // namespace

PixelBoxes::PixelBoxes(const PixelGrid& grid)
    : columns_(visible_spans(grid.axes.back())), column_taps_(all_taps(grid.axes.back())) {
  const std::size_t rank = grid.axes.size();
  const PixelAxis row_axis = rank > 1 ? grid.axes[rank - 2] : PixelAxis{.tap = {0}};
  rows_ = visible_spans(row_axis);
  row_taps_ = all_taps(row_axis);
  for (std::size_t i = 0; i + 2 < rank; ++i) outer_taps_ *= count_of(grid.axes[i].tap);
}

std::vector<PixelBox> PixelBoxes::of(const PixelBlock& block, const PixelWork& work) const {
  const PixelBox whole{.row = 0,
                       .rows = block.rows,
                       .column = 0,
                       .columns = block.columns,
                       .row_taps = &row_taps_,
                       .column_taps = &column_taps_};
  const std::vector<Cut> rows = cut(rows_, block.row, block.rows, row_taps_);
  const std::vector<Cut> columns = cut(columns_, block.column, block.columns, column_taps_);
  const auto panels = static_cast<double>(work.panels), channels = static_cast<double>(work.channels);
  const double vectors = static_cast<double>(ceil_div(work.filters, work.lanes)) / panels;
  const auto time = [&](const PixelBox& box) {
    const auto terms = channels * static_cast<double>(tap_count(box));
    const auto pixels = static_cast<double>(box.pixels() * work.images);
    const auto tiles = static_cast<double>(ceil_div(box.pixels() * work.images, work.tile_pixels));
    const double sums = std::max(pixels * vectors, tiles * static_cast<double>(kSumsInFlight));
    const double chunks = channels * static_cast<double>(tap_count(whole)) / static_cast<double>(kChunk);
    return panels * (terms * sums + chunks * tiles * kTileCycles) + terms * kTermCycles + kBoxCycles;
  };
  std::vector<PixelBox> boxes;
  double boxes_time = 0;
  for (const Cut& row : rows) {
    PixelBox box = whole;
    box.row = row.first;
    box.rows = row.count;
    box.row_taps = row.taps;
    const double together = time(box);
    double apart = 0;
    const std::size_t before = boxes.size();
    for (const Cut& column : columns) {
      box.column = column.first;
      box.columns = column.count;
      box.column_taps = column.taps;
      boxes.push_back(box);
      apart += time(box);
    }
    if (together <= apart) {
      box.column = 0;
      box.columns = block.columns;
      box.column_taps = &column_taps_;
      boxes.resize(before);
      boxes.push_back(box);
    }
    boxes_time += std::min(together, apart);
  }
  if (boxes_time >= time(whole) || static_cast<Index>(boxes.size()) > kMost) boxes = {whole};
  return boxes;
}

Index PixelBoxes::taps(const PixelBox& box, Index* numbers) const {
  Index count = 0;
  for (Index outer = 0; outer < outer_taps_; ++outer)
    for (const Index row : *box.row_taps)
      for (const Index column : *box.column_taps)
        numbers[count++] = (outer * count_of(row_taps_) + row) * count_of(column_taps_) + column;
  return count;
}

Index PixelBoxes::tap_count(const PixelBox& box) const {
  return outer_taps_ * count_of(*box.row_taps) * count_of(*box.column_taps);
}

}  // namespace windrow
