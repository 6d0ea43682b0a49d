// The kernels of fold that take whole rows or runs of windows.
#include <algorithm>
#include <limits>
#include <utility>

#include "cases.hpp"
#include "kernels/patch_contract.hpp"

namespace seeded {
namespace {

using namespace windrow;

// For each row of an image the rows of columns that are summed, `step` bytes apart, and where its own begin.
std::pair<std::vector<std::ptrdiff_t>, std::vector<std::ptrdiff_t>> sources_of_rows(Draw& draw, Index rows,
                                                                                    Index source_rows,
                                                                                    Index step) {
  std::vector<std::ptrdiff_t> sources, first{0};
  for (Index y = 0; y < rows; ++y) {
    for (Index r = draw.number(0, 3); r > 0; --r) sources.push_back(draw.number(0, source_rows - 1) * step);
    first.push_back(static_cast<std::ptrdiff_t>(sources.size()));
  }
  return {std::move(sources), std::move(first)};
}

// The rows of sums that such a kernel writes into some planes; from row to row and plane to plane in bytes.
struct Sums {
  Index planes, plane_step, rows, row_step, length;

  // Each is the sum of what add(sum, plane, source, x) adds for the sources of its row, one after another.
  template <class T, class Add>
  void write(const std::vector<std::ptrdiff_t>& sources, const std::vector<std::ptrdiff_t>& row_first,
             std::vector<char>& bytes, Add&& add) const {
    for (Index p = 0; p < planes; ++p)
      for (Index y = 0; y < rows; ++y)
        for (Index x = 0; x < length; ++x) {
          T sum = 0;
          const auto row = static_cast<std::size_t>(y);
          for (auto r = row_first[row]; r < row_first[row + 1]; ++r)
            add(sum, p, sources[static_cast<std::size_t>(r)], x);
          std::memcpy(bytes.data() + p * plane_step + y * row_step + x * Index{sizeof(T)}, &sum, sizeof(T));
        }
  }
};

// Rows of an image summed over any rows of columns, each of which has a part of it.
template <class T, Number kNumber>
void folded_rows(Draw& draw, const Target& target) {
  if (!target.patches->fold_rows[kNumber]) return;
  constexpr Index kSize = sizeof(T);
  const Index phases = draw.number(1, 2);
  const Index most = phases * kFoldRowBytes / kSize;
  const Index length = draw.number(1, draw.chance(70) ? std::min<Index>(40, most) : most);
  const Index planes = draw.number(1, 10), rows = draw.number(1, 4), taps = draw.number(0, 4);
  std::vector<std::ptrdiff_t> tap_first{0};
  std::vector<FoldTap> list;
  const Index source_row = length + draw.number(0, 4), source_rows = draw.number(1, 5);
  const Index tap_step = source_rows * source_row, source_plane = std::max<Index>(1, taps) * tap_step;
  const auto [sources, row_first] = sources_of_rows(draw, rows, source_rows, source_row * kSize);
  for (Index q = 0; q < phases; ++q) {
    const Index pixels = (length - q + phases - 1) / phases;
    for (Index t = pixels > 0 ? draw.number(0, taps) : 0; t > 0; --t) {
      const Index first = draw.number(0, pixels - 1), end = draw.number(first + 1, pixels);
      const Index begin = draw.number(0, source_row - (end - first));  // of what the tap has in a row
      list.push_back({.source = ((t - 1) * tap_step + begin - first) * kSize, .first = first, .end = end});
    }
    tap_first.push_back(static_cast<std::ptrdiff_t>(list.size()));
  }
  const Index target_row = (length + draw.number(0, 3)) * kSize,
              target_plane = rows * target_row + draw.number(0, 3) * kSize;
  Guarded<T> columns(planes * source_plane, draw.chance(50));
  for (T& value : columns) value = draw.chance(20) ? -T{0} : small<T>(draw) / T{7};
  Guarded<char> result((planes - 1) * target_plane + (rows - 1) * target_row + length * kSize,
                       draw.chance(50));
  fill(draw, result);
  std::vector<char> expected = result.copy();
  const Sums sums{planes, target_plane, rows, target_row, length};
  sums.write<T>(sources, row_first, expected, [&](T& sum, Index p, Index source, Index x) {
    const auto q = static_cast<std::size_t>(x % phases);
    for (auto t = tap_first[q]; t < tap_first[q + 1]; ++t) {
      const FoldTap& tap = list[static_cast<std::size_t>(t)];
      const Index i = x / phases;
      if (tap.first <= i && i < tap.end) sum += columns[p * source_plane + (source + tap.source) / kSize + i];
    }
  });
  target.patches->fold_rows[kNumber]({.target = result.data(),
                                      .source = reinterpret_cast<const char*>(columns.data()),
                                      .target_plane = target_plane,
                                      .source_plane = source_plane * kSize,
                                      .planes = planes,
                                      .target_row = target_row,
                                      .rows = rows,
                                      .length = length,
                                      .phases = phases,
                                      .sources = sources.data(),
                                      .row_first = row_first.data(),
                                      .taps = list.data(),
                                      .tap_first = tap_first.data(),
                                      .ahead = draw.of({0, 4096})});
  expect(std::equal(expected.begin(), expected.end(), result.begin()), "other sums");
}

// Rows of an image summed over rows of windows, of which some reach beyond it.
template <class T, Number kNumber>
void folded_windows(Draw& draw, const Target& target) {
  if (!target.patches->fold_windows[kNumber]) return;
  constexpr Index kSize = sizeof(T);
  const Index stride = draw.number(1, 2), taps = draw.number(2, 5), windows = draw.number(1, 40);
  const Index before = draw.number(0, 3), reach = (windows - 1) * stride + taps;
  const Index length = std::max<Index>(1, reach - before + draw.number(-2, 4));
  const Index planes = draw.number(1, 4), rows = draw.number(0, 4), source_rows = draw.number(1, 4);
  const Index source_plane = taps + draw.number(0, 3), window = planes * source_plane + draw.number(0, 2);
  const Index source_row = windows * window + draw.number(0, 3);
  const auto [sources, row_first] = sources_of_rows(draw, rows, source_rows, source_row * kSize);
  const Index target_row = (length + draw.number(0, 3)) * kSize,
              target_plane = rows * target_row + draw.number(0, 3) * kSize;
  const Index lanes = kAlignment / kSize;  // those of the widest registers, and more
  Guarded<T> columns((source_rows - 1) * source_row + round_up(windows, lanes) * window + kOverread / kSize,
                     true);
  for (T& value : columns) value = std::numeric_limits<T>::quiet_NaN();
  for (Index r = 0; r < source_rows; ++r)
    for (Index l = 0; l < windows; ++l)
      for (Index p = 0; p < planes; ++p)
        for (Index k = 0; k < taps; ++k)
          columns[r * source_row + l * window + p * source_plane + k] =
              draw.chance(20) ? -T{0} : small<T>(draw) / T{7};
  Guarded<char> result(std::max<Index>(0, planes * target_plane), draw.chance(50));
  fill(draw, result);
  std::vector<char> expected = result.copy();
  const Sums sums{planes, target_plane, rows, target_row, length};
  sums.write<T>(sources, row_first, expected, [&](T& sum, Index p, Index source, Index x) {
    for (Index l = 0; l < windows; ++l) {
      const Index k = x + before - l * stride;
      if (0 <= k && k < taps) sum += columns[source / kSize + l * window + p * source_plane + k];
    }
  });
  const FoldWindows all{.target = result.data(),
                        .source = reinterpret_cast<const char*>(columns.data()),
                        .target_plane = target_plane,
                        .source_plane = source_plane * kSize,
                        .planes = planes,
                        .target_row = target_row,
                        .rows = rows,
                        .length = length,
                        .sources = sources.data(),
                        .row_first = row_first.data(),
                        .windows = windows,
                        .window = window * kSize,
                        .taps = taps,
                        .stride = stride,
                        .before = before,
                        .ahead = draw.of({0, 4096})};
  const auto kernel = target.patches->fold_windows[kNumber](all);
  if (!kernel) return;
  kernel(all);
  expect(std::equal(expected.begin(), expected.end(), result.begin()), "other sums");
}

// Windows added to sums that lie one number apart, so that they may be turned over, or further.
template <class T, Number kNumber>
void added_runs(Draw& draw, const Target& target) {
  constexpr Index kSize = sizeof(T);
  const Index count = draw.number(1, 6), length = draw.number(1, draw.chance(50) ? 9 : 40);
  const Index repeats = draw.number(1, draw.chance(50) ? 6 : 40);
  const Index total_step = draw.chance(70) ? Index{1} << draw.number(0, 2) : draw.number(0, 9);
  const Index rows = draw.chance(50) ? 1 : draw.number(2, 4), total_row = draw.number(0, 50);
  std::vector<AddRun> runs;
  Index total_end = 0, source_end = 0;
  for (Index j = 0; j < count; ++j) {
    const Index total = total_end + draw.number(0, 9), source = source_end + draw.number(0, 9);
    runs.push_back({.total = total * kSize, .source = source * kSize});
    total_end = total + (repeats - 1) * total_step + length;
    source_end = source + length;
  }
  const Index source_step = source_end + draw.number(0, 5);
  const Index further = draw.chance(50) ? 0 : draw.number(1, 20);  // windows, of which nothing is wanted
  const Index source_row = repeats * source_step + draw.number(0, 5);
  Guarded<T> source((rows - 1) * source_row + (repeats + further - 1) * source_step + source_end, true);
  Guarded<T> totals((rows - 1) * total_row + total_end + kOverread / kSize, true);
  // Sevenths, whose sums depend on their order; what lies between the runs must not be seen.
  for (T& value : source) value = std::numeric_limits<T>::quiet_NaN();
  for (T& value : totals) value = small<T>(draw) / T{7} + T{0};  // no -0
  std::vector<T> expected = totals.copy();
  for (Index i = 0; i < rows; ++i) {
    for (Index r = 0; r < repeats; ++r) {
      const Index from = i * source_row + r * source_step, to = i * total_row + r * total_step;
      for (const AddRun& run : runs) {
        for (Index x = 0; x < length; ++x) {
          T& value = source[from + run.source / kSize + x];
          value = small<T>(draw) / T{7};
          expected[static_cast<std::size_t>(to + run.total / kSize + x)] += value;
        }
      }
    }
  }
  target.patches->add_runs[kNumber]({.total = reinterpret_cast<char*>(totals.data()),
                                     .source = reinterpret_cast<const char*>(source.data()),
                                     .source_end = reinterpret_cast<const char*>(source.end()),
                                     .total_step = total_step * kSize,
                                     .source_step = source_step * kSize,
                                     .repeats = repeats,
                                     .runs = runs.data(),
                                     .count = count,
                                     .length = length,
                                     .rows = rows,
                                     .total_row = total_row * kSize,
                                     .source_row = source_row * kSize});
  expect(std::equal(expected.begin(), expected.end(), totals.begin()), "other sums");
}

}  // namespace

const std::vector<Case> kFoldKernelCases = {
    {"folded rows of float32", folded_rows<float, kF32>},
    {"folded rows of float64", folded_rows<double, kF64>},
    {"folded windows of float32", folded_windows<float, kF32>},
    {"folded windows of float64", folded_windows<double, kF64>},
    {"added runs of float32", added_runs<float, kF32>},
    {"added runs of float64", added_runs<double, kF64>},
};

}  // namespace seeded
