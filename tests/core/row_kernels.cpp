#include <algorithm>

#include "kernels/contract.hpp"
#include "rows.hpp"

namespace seeded {
namespace {

using namespace windrow;

template <class T>
void gather(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index lanes = kernels.lanes, count = draw.number(0, 9), step = draw.of({1, 1, 2, 2, 3, -1, 0, 7});
  const Index reach = (lanes - 1) * std::abs(step) + 1;
  Guarded<T> source(reach + draw.number(0, 20), draw.chance(50));
  for (T& value : source) value = small<T>(draw);
  Guarded<T> to(count * lanes, false);  // aligned
  for (T& value : to) value = untouchable<T>();
  const T fill = draw.chance(50) ? T{0} : small<T>(draw);
  std::vector<T> expected(static_cast<std::size_t>(count * lanes), fill);
  std::vector<Segment> segments, more;
  const Index number = draw.number(0, 5);
  for (Index i = 0; i < count; ++i) {
    std::uint32_t left = (std::uint32_t{1} << (lanes - 1) << 1) - 1;
    for (Index part = 0, parts = draw.number(1, 3); part < parts; ++part) {
      const auto mask = static_cast<std::uint32_t>(draw.number(0, 0xffffffff)) & left;
      left &= ~mask;
      // The lanes that are read lie inside; the others need not.
      Index low = 0, high = 0;
      bool any = false;
      for (Index lane = 0; lane < lanes; ++lane) {
        if (!(mask >> lane & 1)) continue;
        low = any ? std::min(low, lane * step) : lane * step;
        high = any ? std::max(high, lane * step) : lane * step;
        any = true;
      }
      const Index least = -low, most = source.size() - 1 - high;
      const Index offset = any ? draw.of({least, most, draw.number(least, most)}) : 0;
      for (Index lane = 0; lane < lanes; ++lane)
        if (mask >> lane & 1)
          expected[static_cast<std::size_t>(i * lanes + lane)] = source[offset + lane * step];
      (part == 0 ? segments : more)
          .push_back({.offset = offset, .mask = mask, .vector = static_cast<std::int32_t>(number + i)});
    }
  }
  kernels.gather({.target = to.data(),
                  .source = source.data(),
                  .segments = segments.data(),
                  .count = count,
                  .more = more.data(),
                  .more_count = static_cast<Index>(more.size()),
                  .more_vector = number,
                  .step = step,
                  .fill = fill,
                  .ahead = draw.of({0, 100, 1 << 20})});
  expect(std::equal(expected.begin(), expected.end(), to.begin()), "other lanes");
}

template <class T>
void pad(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index rows = draw.number(0, 5), width = draw.number(0, 3 * kernels.lanes + 2);
  const Index low = draw.number(0, width), high = draw.number(low, width), step = draw.of({1, 1, 2, 2, 3});
  Rows<T> source(draw, rows, high > low ? (high - low - 1) * step + 1 : 0, true);
  const Index to_row = width + draw.number(0, 5);
  Guarded<T> to(rows > 0 ? (rows - 1) * to_row + width + kernels.lanes : 0, draw.chance(50));
  for (T& value : to) value = untouchable<T>();
  kernels.pad({.target = to.data(),
               .target_row = to_row,
               .source = source.memory.data() - low * step,
               .source_row = source.row,
               .step = step,
               .rows = rows,
               .width = width,
               .low = low,
               .high = high,
               .ahead = draw.of({0, 1000})});
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < width; ++j)
      expect(to[r * to_row + j] == (j < low || j >= high ? T{0} : source.at(r, (j - low) * step)),
             "another element");
}

template <class T>
void runs(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index lanes = kernels.lanes, count = draw.number(1, 3 * lanes + 2), rows = draw.number(0, 5);
  const Index whole = ceil_div(count, lanes) * lanes, most = draw.number(0, 30);
  Guarded<T> source(2 * most + whole, draw.chance(50));
  for (T& value : source) value = small<T>(draw);
  std::vector<Step> step;
  std::vector<Index> offset;
  for (Index i = 0; i < rows; ++i) step.push_back({.a = 0, .b = draw.number(0, most)});
  for (Index r = 0, number = draw.number(1, 4); r < number; ++r) offset.push_back(draw.number(0, most));
  const auto number = static_cast<Index>(offset.size());
  const Index row = number * count + draw.number(0, 3);
  Guarded<T> to(rows > 0 ? (rows - 1) * row + (number - 1) * count + whole : 0, draw.chance(50));
  kernels.runs({.target = to.data(),
                .target_row = row,
                .source = source.data(),
                .step = step.data(),
                .rows = rows,
                .offset = offset.data(),
                .runs = number,
                .count = count});
  for (Index i = 0; i < rows; ++i)
    for (Index r = 0; r < number; ++r)
      for (Index j = 0; j < count; ++j)
        expect(to[i * row + r * count + j] ==
                   source[step[static_cast<std::size_t>(i)].b + offset[static_cast<std::size_t>(r)] + j],
               "another element");
}

template <class T>
void limit(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  Rows<T> to(draw, draw.number(0, 5), draw.number(0, 3 * kernels.lanes + 2), true);
  const std::vector<T> before = to.memory.copy();
  const T low = small<T>(draw), high = std::max(low, small<T>(draw));
  kernels.limit({.target = to.memory.data(),
                 .target_row = to.row,
                 .rows = to.rows,
                 .count = to.width,
                 .low = low,
                 .high = high});
  for (Index r = 0; r < to.rows; ++r)
    for (Index i = 0; i < to.width; ++i)
      expect(to.at(r, i) == std::clamp(before[static_cast<std::size_t>(r * to.row + i)], low, high),
             "outside of the limits");
  expect_gaps(before, to);
}

template <class T>
void strided(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index count = draw.number(0, 3 * kernels.lanes + 2), step = draw.of({1, 1, 2, 2, 3, 10});
  const Index rows = draw.chance(50) ? 1 : draw.number(0, 9);
  Rows<T> apart(draw, rows, count > 0 ? (count - 1) * step + 1 : 0, true);
  Rows<T> together(draw, rows, count, false), source(draw, rows, count, true);
  const std::vector<T> empty = together.memory.copy(), before = apart.memory.copy();
  kernels.collect({.target = together.memory.data(),
                   .source = apart.memory.data(),
                   .step = step,
                   .count = count,
                   .rows = rows,
                   .target_row = together.row,
                   .source_row = apart.row});
  for (Index r = 0; r < rows; ++r)
    for (Index i = 0; i < count; ++i)
      expect(together.at(r, i) == apart.at(r, i * step), "another element collected");
  expect_gaps(empty, together);
  kernels.spread({.target = apart.memory.data(),
                  .source = source.memory.data(),
                  .step = step,
                  .count = count,
                  .rows = rows,
                  .target_row = apart.row,
                  .source_row = source.row});
  for (Index r = 0; r < rows; ++r) {
    for (Index i = 0; i < apart.width; ++i)
      expect(apart.at(r, i) == (i % step == 0 ? source.at(r, i / step)
                                              : before[static_cast<std::size_t>(r * apart.row + i)]),
             "another element spread");
  }
  expect_gaps(before, apart);
}

template <class T>
void interleave(Draw& draw, const Target& target) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Index evens = draw.number(1, 3 * kernels.lanes + 2), odds = evens - draw.number(0, 1);
  const Index rows = draw.number(1, 5);
  Rows<T> even(draw, rows, round_up(evens, kernels.lanes), true, 0), odd(draw, rows, even.width, true, 0);
  Rows<T> to(draw, rows, evens + odds, false);
  const std::vector<T> before = to.memory.copy();
  kernels.interleave({.target = to.memory.data(),
                      .even = even.memory.data(),
                      .odd = odd.memory.data(),
                      .evens = evens,
                      .odds = odds,
                      .rows = rows,
                      .target_row = to.row,
                      .source_row = even.row});
  for (Index r = 0; r < rows; ++r)
    for (Index i = 0; i < to.width; ++i)
      expect(to.at(r, i) == (i % 2 == 0 ? even : odd).at(r, i / 2), "another element interleaved");
  expect_gaps(before, to);
}

template <class T>
void transpose(Draw& draw, const Target& target) {
  const Index rows = draw.number(0, 40), columns = draw.chance(50) ? draw.number(0, 8) : draw.number(0, 40);
  Rows<T> source(draw, columns, rows, true), to(draw, rows, columns, false);
  const std::vector<T> before = to.memory.copy();
  target.kernels<T>().transpose({.target = to.memory.data(),
                                 .target_row = to.row,
                                 .source = source.memory.data(),
                                 .source_row = source.row,
                                 .rows = rows,
                                 .columns = columns,
                                 .ahead = draw.of({0, 1000})});
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j) expect(to.at(i, j) == source.at(j, i), "another element");
  expect_gaps(before, to);
}

}  // namespace

#define WINDROW_BOTH(kernel) \
  {#kernel " float32", kernel<float>}, { #kernel " float64", kernel<double> }
const std::vector<Case> kRowKernelCases = {
    WINDROW_BOTH(gather),  WINDROW_BOTH(pad),        WINDROW_BOTH(runs),      WINDROW_BOTH(limit),
    WINDROW_BOTH(strided), WINDROW_BOTH(interleave), WINDROW_BOTH(transpose),
};
#undef WINDROW_BOTH

}  // namespace seeded
