#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/contract.hpp"
#include "rows.hpp"

namespace seeded {
namespace {

using namespace windrow;

std::vector<Index> permutation(Draw& draw, Index count) {
  std::vector<Index> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), Index{0});
  for (Index i = count - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(draw.number(0, i))]);
  return order;
}

template <class T>
void product(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const auto rows = static_cast<int>(draw.number(1, kernels.rows));
  const auto vectors = static_cast<int>(draw.number(1, kernels.vectors));
  const Index width = Index{vectors} * kernels.lanes;
  const Index terms = draw.chance(50) ? draw.number(0, 9) : draw.number(120, 300);
  Rows<T> a(draw, rows, terms, true), b(draw, terms, width, true), c(draw, rows, width, true);
  Guarded<T> bias(rows, true);
  for (T& value : bias) value = small<T>(draw);
  const bool accumulate = draw.chance(50), has_bias = draw.chance(50);
  std::vector<Step> steps;
  const std::vector<Index> a_order = permutation(draw, terms), b_order = permutation(draw, terms);
  for (std::size_t k = 0; k < a_order.size(); ++k)
    steps.push_back({.a = a_order[k], .b = b_order[k] * b.row});
  // Rows of the tile in order, or wherever tables say.
  const bool anywhere = draw.chance(50);
  std::vector<Index> of_a(static_cast<std::size_t>(rows)), of_c = of_a;
  std::iota(of_a.begin(), of_a.end(), Index{0});
  of_c = of_a;
  if (anywhere) of_a = permutation(draw, rows), of_c = permutation(draw, rows);
  std::vector<Index> a_at, c_at;
  for (const Index m : of_a) a_at.push_back(m * a.row);
  for (const Index m : of_c) c_at.push_back(m * c.row);
  const std::vector<T> before = c.memory.copy();
  kernels.product({.a = a.memory.data(),
                   .a_row = a.row,
                   .b = b.memory.data(),
                   .step = steps.data(),
                   .c = c.memory.data(),
                   .c_row = c.row,
                   .k = terms,
                   .accumulate = accumulate,
                   .bias = has_bias ? bias.data() : nullptr,
                   .a_at = anywhere ? a_at.data() : nullptr,
                   .c_at = anywhere ? c_at.data() : nullptr},
                  rows, vectors);
  for (Index m = 0; m < rows; ++m) {
    const Index row = of_a[static_cast<std::size_t>(m)], to = of_c[static_cast<std::size_t>(m)];
    for (Index n = 0; n < width; ++n) {
      T sum = accumulate ? before[static_cast<std::size_t>(to * c.row + n)] : T{0};
      for (std::size_t k = 0; k < steps.size(); ++k) sum += a.at(row, a_order[k]) * b.at(b_order[k], n);
      if (has_bias) sum += bias[m];
      expect(c.at(to, n) == sum, "another sum");
    }
  }
  expect_gaps(before, c);
}

Index whole_vectors(Index count, Index lanes) { return ceil_div(count, lanes) * lanes; }

template <class T>
void stencil(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index rows = draw.number(0, 10), count = draw.number(1, 3 * kernels.lanes + 2);
  const Index terms = draw.chance(80) ? draw.number(0, 12) : draw.number(125, 140);
  const Index read = whole_vectors(count, kernels.lanes), most_shift = draw.number(0, 9);
  Rows<T> x(draw, rows, read + most_shift, true), y(draw, rows, count, true);
  Guarded<T> w(terms, true);
  for (T& value : w) value = small<T>(draw);
  std::vector<Step> steps;
  for (Index k = 0; k < terms; ++k) steps.push_back({.a = terms - 1 - k, .b = draw.number(0, most_shift)});
  const bool accumulate = draw.chance(50), has_bias = draw.chance(50);
  const T bias = small<T>(draw);
  const std::vector<T> before = y.memory.copy();
  kernels.stencil({.w = w.data(),
                   .x = x.memory.data(),
                   .x_row = x.row,
                   .step = steps.data(),
                   .k = terms,
                   .y = y.memory.data(),
                   .y_row = y.row,
                   .rows = rows,
                   .count = count,
                   .accumulate = accumulate,
                   .bias = has_bias ? &bias : nullptr});
  for (Index r = 0; r < rows; ++r) {
    for (Index i = 0; i < count; ++i) {
      T sum = accumulate ? before[static_cast<std::size_t>(r * y.row + i)] : T{0};
      for (const Step& step : steps) sum += w[step.a] * x.at(r, step.b + i);
      expect(y.at(r, i) == (has_bias ? sum + bias : sum), "another sum");
    }
  }
  expect_gaps(before, y);
}

template <class T>
void window(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const auto kernel_rows = static_cast<int>(draw.number(1, 7)), columns = static_cast<int>(draw.number(1, 7));
  const Index row_step = draw.number(1, 2), rows = draw.number(1, 9), count = draw.number(1, 70);
  const Index read = whole_vectors(count, kernels.lanes);
  Rows<T> x(draw, (rows - 1) * row_step + kernel_rows, read + columns + 2, true), y(draw, rows, count, true);
  Guarded<T> w(Index{kernel_rows} * columns, true);
  for (T& value : w) value = small<T>(draw);
  std::vector<Index> shift;
  for (int j = 0; j < columns; ++j) shift.push_back(draw.chance(70) ? j : draw.number(0, columns + 2));
  const bool accumulate = draw.chance(50), has_bias = draw.chance(50);
  const T bias = small<T>(draw);
  const std::vector<T> before = y.memory.copy();
  const bool done = kernels.window({.w = w.data(),
                                    .x = x.memory.data(),
                                    .x_row = x.row,
                                    .shift = shift.data(),
                                    .kernel_rows = kernel_rows,
                                    .kernel_columns = columns,
                                    .row_step = row_step,
                                    .y = y.memory.data(),
                                    .y_row = y.row,
                                    .rows = rows,
                                    .count = count,
                                    .accumulate = accumulate,
                                    .bias = has_bias ? &bias : nullptr});
  for (Index r = 0; r < rows; ++r) {
    for (Index l = 0; l < count; ++l) {
      T sum = before[static_cast<std::size_t>(r * y.row + l)];
      if (done) {
        sum = accumulate ? sum : T{0};
        for (int i = 0; i < kernel_rows; ++i)
          for (int j = 0; j < columns; ++j)
            sum += w[Index{i} * columns + j] * x.at(r * row_step + i, shift[static_cast<std::size_t>(j)] + l);
        if (has_bias) sum += bias;
      }
      expect(y.at(r, l) == sum, "another sum");
    }
  }
  expect_gaps(before, y);
}

template <class T>
void correlate_channels(Draw& draw, const Target& target) {
  constexpr Index kLine = 64 / sizeof(T);
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index lanes = kernels.lanes, rows = draw.number(0, 4), count = draw.number(1, 3 * lanes + 2);
  const Index taps = draw.number(0, 8), most_tap = draw.number(0, 4), step = draw.number(1, 3);
  Rows<T> dy(draw, rows * count, lanes, true, kLine - lanes, kLine - lanes);
  Rows<T> x(draw, rows * count * step + most_tap, lanes, true, kLine - lanes, kLine - lanes);
  std::vector<Index> first, tap;
  for (Index k = 0; k < taps; ++k) {
    first.push_back(draw.number(0, most_tap));
    tap.push_back(first.back() * x.row);
  }
  Guarded<T> sums(taps * lanes * lanes, true);
  for (T& value : sums) value = small<T>(draw);
  Rows<T> totals(draw, taps, lanes, true);
  std::vector<T> expected = sums.copy(), before = totals.memory.copy();
  CorrelateChannels<T> call{.dy = dy.memory.data(),
                            .dy_row = count * dy.row,
                            .x = x.memory.data(),
                            .x_row = count * step * x.row,
                            .x_lines = step,
                            .tap = tap.data(),
                            .taps = taps,
                            .rows = rows,
                            .count = count,
                            .sums = sums.data()};
  kernels.correlate_channels(call);
  for (Index k = 0; k < taps; ++k)
    for (Index i = 0; i < rows * count; ++i)
      for (Index l = 0; l < lanes; ++l)
        expected[static_cast<std::size_t>((k * lanes + i % count % lanes) * lanes + l)] +=
            dy.at(i, l) * x.at(i * step + first[static_cast<std::size_t>(k)], l);
  expect(std::equal(expected.begin(), expected.end(), sums.begin()), "another sum");

  // Of the same terms alone, to the totals.
  std::vector<T> all = before;
  for (Index k = 0; k < taps; ++k)
    for (Index i = 0; i < rows * count; ++i)
      for (Index l = 0; l < lanes; ++l)
        all[static_cast<std::size_t>(k * totals.row + l)] +=
            dy.at(i, l) * x.at(i * step + first[static_cast<std::size_t>(k)], l);
  call.sums = nullptr;
  call.totals = totals.memory.data();
  call.totals_row = totals.row;
  kernels.correlate_channels(call);
  for (Index k = 0; k < taps; ++k)
    for (Index l = 0; l < lanes; ++l)
      expect(totals.at(k, l) == all[static_cast<std::size_t>(k * totals.row + l)], "another total");
  expect_gaps(before, totals);
}

template <class T>
void channels(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index pixels = draw.number(0, 9), count = draw.number(1, 18 * kernels.lanes + 2);
  const Index taps = draw.chance(80) ? draw.number(0, 12) : draw.number(125, 140);
  Rows<T> w(draw, taps, count, true), y(draw, pixels, count, true);
  Rows<T> x(draw, pixels + 3, count, true);
  Guarded<T> bias(count, true);
  for (T& value : bias) value = small<T>(draw);
  std::vector<Index> first, step;
  std::vector<ChannelTap<T>> tap;
  for (Index k = 0; k < taps; ++k) {
    first.push_back(draw.number(0, 3));
    step.push_back(draw.chance(80) ? 1 : 0);
    tap.push_back({.w = w.memory.data() + k * w.row,
                   .x = x.memory.data() + first.back() * x.row,
                   .pixel = step.back() * x.row});
  }
  const bool accumulate = draw.chance(50), has_bias = draw.chance(50);
  const std::vector<T> before = y.memory.copy();
  kernels.channels({.tap = tap.data(),
                    .taps = taps,
                    .y = y.memory.data(),
                    .y_pixel = y.row,
                    .pixels = pixels,
                    .count = count,
                    .accumulate = accumulate,
                    .bias = has_bias ? bias.data() : nullptr});
  for (Index p = 0; p < pixels; ++p) {
    for (Index l = 0; l < count; ++l) {
      T sum = accumulate ? before[static_cast<std::size_t>(p * y.row + l)] : T{0};
      for (std::size_t k = 0; k < tap.size(); ++k)
        sum += w.at(static_cast<Index>(k), l) * x.at(first[k] + p * step[k], l);
      expect(y.at(p, l) == (has_bias ? sum + bias[l] : sum), "another sum");
    }
  }
  expect_gaps(before, y);
}

template <class T>
void channel_window(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index pixels = draw.number(0, 19), count = draw.number(1, 5) * kernels.lanes;
  const Index rows = draw.number(0, 4), columns = draw.of({3, 5, 7}), places = pixels + columns - 1;
  // Pixels [low, high) of a line are memory, the others the border.
  const Index low = draw.number(0, 4), high = draw.number(low, std::max(low, places));
  Rows<T> w(draw, rows * columns, count, true), y(draw, pixels, count, true);
  Guarded<T> bias(count, true), border(count, true);
  for (Index l = 0; l < count; ++l) {
    bias[l] = small<T>(draw);
    border[l] = small<T>(draw);
  }
  // The lines of x follow one another; the last one ends with the memory.
  Rows<T> x(draw, rows * (high - low), count, true);
  std::vector<windrow::ChannelRow<T>> row;
  for (Index r = 0; r < rows; ++r)
    row.push_back({.w = w.memory.data() + r * columns * w.row,
                   .x = x.memory.data() + (r * (high - low) - low) * x.row});
  const bool accumulate = draw.chance(50), has_bias = draw.chance(50);
  const std::vector<T> before = y.memory.copy();
  const bool done = kernels.channel_window({.row = row.data(),
                                            .rows = rows,
                                            .columns = static_cast<int>(columns),
                                            .w_tap = w.row,
                                            .x_pixel = x.row,
                                            .low = low,
                                            .high = high,
                                            .border = border.data(),
                                            .y = y.memory.data(),
                                            .y_pixel = y.row,
                                            .pixels = pixels,
                                            .count = count,
                                            .accumulate = accumulate,
                                            .bias = has_bias ? bias.data() : nullptr});
  expect(done || columns == 3, "no code for these columns");
  for (Index p = 0; done && p < pixels; ++p) {
    for (Index l = 0; l < count; ++l) {
      T sum = accumulate ? before[static_cast<std::size_t>(p * y.row + l)] : T{0};
      for (Index r = 0; r < rows; ++r) {
        for (Index j = 0; j < columns; ++j) {
          const bool inside = low <= p + j && p + j < high;
          sum += w.at(r * columns + j, l) * (inside ? x.at(r * (high - low) + p + j - low, l) : border[l]);
        }
      }
      expect(y.at(p, l) == (has_bias ? sum + bias[l] : sum), "another sum");
    }
  }
  expect_gaps(before, y);
  for (Index i = 0; !done && i < y.memory.size(); ++i)
    expect(same_bytes(before[static_cast<std::size_t>(i)], y.memory[i]), "written without code");
}

template <class T>
void correlate(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index lanes = kernels.lanes, rows = draw.number(1, 9), count = draw.number(1, 3 * lanes + 2);
  const Index taps = draw.number(1, 12), most_tap = draw.number(0, 9);
  Rows<T> dy(draw, rows, count, true), x(draw, rows, count + most_tap, true),
      sums(draw, taps, lanes, true, 0);
  std::vector<Index> tap;
  for (Index k = 0; k < taps; ++k) tap.push_back(draw.number(0, most_tap));
  const std::vector<T> before = sums.memory.copy();
  kernels.correlate({.dy = dy.memory.data(),
                     .dy_row = dy.row,
                     .x = x.memory.data(),
                     .x_row = x.row,
                     .tap = tap.data(),
                     .taps = taps,
                     .rows = rows,
                     .count = count,
                     .sums = sums.memory.data()});
  std::vector<T> expected = before;
  for (Index k = 0; k < taps; ++k)
    for (Index r = 0; r < rows; ++r)
      for (Index i = 0; i < count; ++i)
        expected[static_cast<std::size_t>(k * lanes + i % lanes)] +=
            dy.at(r, i) * x.at(r, tap[static_cast<std::size_t>(k)] + i);
  expect(std::equal(expected.begin(), expected.end(), sums.memory.begin()), "other sums");
}

template <class T>
void add_lanes(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index lanes = kernels.lanes, count = draw.number(0, 2 * lanes + 2);
  Guarded<T> sums(count * lanes * lanes, true), totals(count, true), many(count * lanes, true);
  for (T& value : sums) value = small<T>(draw);
  for (T& value : totals) value = small<T>(draw);
  for (T& value : many) value = small<T>(draw);
  std::vector<T> expected = totals.copy(), expected_many = many.copy();
  for (Index k = 0; k < count; ++k)
    for (Index j = 0; j < lanes; ++j) {
      expected[static_cast<std::size_t>(k)] += sums[k * lanes + j];
      for (Index l = 0; l < lanes; ++l)
        expected_many[static_cast<std::size_t>(k * lanes + l)] += sums[(k * lanes + j) * lanes + l];
    }
  kernels.add_lanes(sums.data(), count, totals.data());
  kernels.add_vectors(sums.data(), count, many.data(), lanes);
  expect(std::equal(expected.begin(), expected.end(), totals.begin()), "another sum of lanes");
  expect(std::equal(expected_many.begin(), expected_many.end(), many.begin()), "another sum of vectors");
}

// The three transforms together: of tiles, of taps, and back what they make of each other, which must be the
// direct sums. Weights of sqrt(2) round, so sums of small whole numbers are right to the nearest one.
template <class T>
void winograd(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const int tile = draw.chance(50) ? 2 : 4, side = tile + 2;
  const Index lanes = kernels.lanes, tiles = draw.number(1, 3 * lanes), channels = draw.number(1, 2 * lanes);
  const Index across = whole_vectors(tiles, lanes), deep = whole_vectors(channels, lanes);
  const Index width = across * tile + lanes;
  Rows<T> x(draw, side, width, true), w(draw, 9, deep, true);
  std::vector<Index> tap;
  for (Index i = 0; i < 9; ++i) tap.push_back(i * w.row);
  Rows<T> points(draw, Index{side} * side, across, false), factors(draw, Index{side} * side, deep, false),
      y(draw, tile, across * tile, false);
  const std::vector<T> before = y.memory.copy();
  // Tiles whose last columns are not those of the next one.
  Rows<T> edge(draw, 2 * side, across, true);
  std::vector<std::uint32_t> ends(static_cast<std::size_t>(across / lanes), 0);
  const auto ends_at = [&](Index i) { return ends[static_cast<std::size_t>(i / lanes)] >> i % lanes & 1; };
  for (Index i = 0; i < tiles; ++i)
    if (draw.chance(20)) ends[static_cast<std::size_t>(i / lanes)] |= 1u << i % lanes;
  const auto pixel = [&](Index r, Index i, Index c) -> T& {
    return c >= tile && ends_at(i) ? edge.at(2 * r + c - tile, i) : x.at(r, i * tile + c);
  };
  const WinogradInput<T> input{.tile = tile,
                               .source = x.memory.data(),
                               .source_row = x.row,
                               .edge = edge.memory.data(),
                               .edge_row = edge.row,
                               .ends = ends.data(),
                               .target = points.memory.data(),
                               .target_point = points.row,
                               .tiles = tiles};
  bool finite = kernels.winograd_input(input);
  finite = kernels.winograd_weights({.tile = tile,
                                     .source = w.memory.data(),
                                     .tap = tap.data(),
                                     .target = factors.memory.data(),
                                     .target_point = factors.row,
                                     .count = channels}) &&
           finite;
  const Index channel = draw.number(0, channels - 1);
  for (Index point = 0; point < Index{side} * side; ++point)
    for (Index i = 0; i < across; ++i) points.at(point, i) *= factors.at(point, channel);
  const T bias = small<T>(draw);
  const bool has_bias = draw.chance(50);
  finite = kernels.winograd_output({.tile = tile,
                                    .source = points.memory.data(),
                                    .source_point = points.row,
                                    .target = y.memory.data(),
                                    .target_row = y.row,
                                    .tiles = tiles,
                                    .bias = has_bias ? &bias : nullptr}) &&
           finite;
  expect(finite, "called not finite");
  for (Index r = 0; r < tile; ++r) {
    for (Index i = 0; i < tiles * tile; ++i) {
      T sum = has_bias ? bias : T{0};
      for (Index j = 0; j < 9; ++j) sum += pixel(r + j / 3, i / tile, i % tile + j % 3) * w.at(j, channel);
      expect(std::round(y.at(r, i)) == sum, "another sum");
    }
  }
  expect_gaps(before, y);

  // One value that is not finite, of a tile that is wanted, is told.
  pixel(draw.number(0, side - 1), draw.number(0, tiles - 1), draw.number(0, side - 1)) =
      std::numeric_limits<T>::infinity();
  expect(!kernels.winograd_input(input), "called finite");
}

// The transforms of the weight gradient together: of pixels, of results, and back the sums over tiles of what
// they make of each other, which must be the direct sums.
template <class T>
void winograd_gradient(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  constexpr Index kSide = 6, kPoints = kSide * kSide;
  const Index tiles = draw.number(1, 4), channels = draw.number(1, 3 * kernels.lanes);
  const Index width = whole_vectors(channels, kernels.lanes), step = draw.number(1, 2);
  // A row of tiles whose pixels are `step` positions apart, channels side by side.
  const Index columns = (4 * (tiles - 1) + kSide - 1) * step + 1;
  Rows<T> x(draw, kSide * columns, width, true), dy(draw, 4 * columns, width, true);
  Rows<T> pixels(draw, kPoints * tiles, width, false), results(draw, kPoints * tiles, width, false),
      sums(draw, kPoints, width, true), taps(draw, 9, width, false);
  const std::vector<T> pixels_before = pixels.memory.copy(), taps_before = taps.memory.copy();
  const auto points = [&](Rows<T>& from, Rows<T>& to) {
    return WinogradChannels<T>{.source = from.memory.data(),
                               .source_row = columns * from.row,
                               .source_column = step * from.row,
                               .source_tile = 4 * step * from.row,
                               .target = to.memory.data(),
                               .target_point = tiles * to.row,
                               .target_tile = to.row,
                               .tiles = tiles,
                               .count = channels};
  };
  expect(kernels.winograd_pixels(points(x, pixels)), "called pixels not finite");
  expect(kernels.winograd_results(points(dy, results)), "called results not finite");
  expect_gaps(pixels_before, pixels);
  for (Index point = 0; point < kPoints; ++point)
    for (Index l = 0; l < width; ++l) {
      sums.at(point, l) = 0;
      for (Index i = 0; i < tiles; ++i)
        sums.at(point, l) += pixels.at(point * tiles + i, l) * results.at(point * tiles + i, l);
    }
  const WinogradTaps<T> back{.source = sums.memory.data(),
                             .source_point = sums.row,
                             .target = taps.memory.data(),
                             .target_tap = taps.row,
                             .count = channels};
  for (Index l = channels; l < width; ++l) sums.at(0, l) = std::numeric_limits<T>::infinity();
  expect(kernels.winograd_taps(back), "called taps not finite");
  expect_gaps(taps_before, taps);
  for (Index tap = 0; tap < 9; ++tap)
    for (Index l = 0; l < channels; ++l) {
      T sum = 0;
      for (Index i = 0; i < tiles; ++i)
        for (Index r = 0; r < 4; ++r)
          for (Index c = 0; c < 4; ++c)
            sum += dy.at(r * columns + (4 * i + c) * step, l) *
                   x.at((r + tap / 3) * columns + (4 * i + c + tap % 3) * step, l);
      expect(std::round(taps.at(tap, l)) == sum, "another sum");
    }

  // One value that is not finite, of a tile and a channel that are wanted, is told.
  const Index tile = draw.number(0, tiles - 1), channel = draw.number(0, channels - 1);
  x.at(draw.number(0, 5) * columns + (4 * tile + draw.number(0, 5)) * step, channel) =
      -std::numeric_limits<T>::infinity();
  dy.at(draw.number(0, 3) * columns + (4 * tile + draw.number(0, 3)) * step, channel) =
      std::numeric_limits<T>::quiet_NaN();
  sums.at(draw.number(0, kPoints - 1), channel) = std::numeric_limits<T>::infinity();
  expect(!kernels.winograd_pixels(points(x, pixels)), "called pixels finite");
  expect(!kernels.winograd_results(points(dy, results)), "called results finite");
  expect(!kernels.winograd_taps(back), "called taps finite");
}

}  // namespace

#define WINDROW_BOTH(kernel) \
  {#kernel " float32", kernel<float>}, { #kernel " float64", kernel<double> }
const std::vector<Case> kKernelCases = {
    WINDROW_BOTH(product),        WINDROW_BOTH(stencil),
    WINDROW_BOTH(window),         WINDROW_BOTH(correlate_channels),
    WINDROW_BOTH(channels),       WINDROW_BOTH(correlate),
    WINDROW_BOTH(channel_window), WINDROW_BOTH(add_lanes),
    WINDROW_BOTH(winograd),       WINDROW_BOTH(winograd_gradient),
};
#undef WINDROW_BOTH

}  // namespace seeded
