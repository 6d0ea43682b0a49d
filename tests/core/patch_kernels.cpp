#include <algorithm>
#include <limits>
#include <memory>

#include "cases.hpp"
#include "kernels/patch_contract.hpp"

namespace seeded {
namespace {

using namespace windrow;

// Two strides that address every element of rows x columns once, in either order and direction, and where
// element (0, 0) lies then.
struct Strided2 {
  Index row, column, start, bytes;

  Strided2(Draw& draw, Index rows, Index columns, Index item) {
    const Index gap = draw.of({0, 0, 0, 1, 3, 16});
    const bool rows_inside = draw.chance(40);
    const Index inner = item + (draw.chance(50) ? 0 : gap);
    const Index inner_count = rows_inside ? rows : columns;
    const Index outer = inner * std::max<Index>(inner_count, 1) + gap;
    row = rows_inside ? inner : outer;
    column = rows_inside ? outer : inner;
    bytes = rows > 0 && columns > 0 ? (rows - 1) * row + (columns - 1) * column + item : 0;
    start = 0;
    if (bytes > 0 && draw.chance(25)) {
      start += (rows - 1) * row;
      row = -row;
    }
    if (bytes > 0 && draw.chance(25)) {
      start += (columns - 1) * column;
      column = -column;
    }
  }
};

void move(Draw& draw, const Target& target) {
  const Index item = draw.of({1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 16, 3, 5, 12, 20, 33, 64});
  const Index rows = draw.number(0, 40), columns = draw.number(0, draw.chance(80) ? 40 : 150);
  const Strided2 from(draw, rows, columns, item), to(draw, rows, columns, item);
  Guarded<char> source(from.bytes, draw.chance(50)), result(to.bytes, draw.chance(50));
  fill(draw, source);
  fill(draw, result);
  std::vector<char> expected = result.copy();
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j)
      std::memcpy(expected.data() + to.start + i * to.row + j * to.column,
                  source.data() + from.start + i * from.row + j * from.column,
                  static_cast<std::size_t>(item));
  target.patches->move({.target = result.data() + to.start,
                        .source = source.data() + from.start,
                        .target_row = to.row,
                        .target_column = to.column,
                        .source_row = from.row,
                        .source_column = from.column,
                        .rows = rows,
                        .columns = columns,
                        .item = item});
  expect(std::equal(expected.begin(), expected.end(), result.begin()), "other bytes");
}

// Rows, and their even and odd elements by themselves, which lie apart from one another.
struct ZippedRows {
  Index item, rows, length, row_step, half_step, half_bytes, row_bytes;

  explicit ZippedRows(Draw& draw)
      : item(draw.of({4, 8})), rows(draw.number(0, 6)), length(draw.number(0, draw.chance(50) ? 20 : 90)) {
    row_step = length * item + draw.of({0, 0, 1, 4, 24});
    half_step = (length + 1) / 2 * item + draw.of({0, 0, 1, 4, 24});
    row_bytes = rows > 0 ? (rows - 1) * row_step + length * item : 0;
    half_bytes = rows > 0 ? (rows - 1) * half_step + (length + 1) / 2 * item : 0;
  }

  // Copies element by element between rows and halves: copy(place in the row, whether it is odd, place
  // there).
  template <class Copy>
  void for_each(Copy&& copy) const {
    for (Index r = 0; r < rows; ++r)
      for (Index i = 0; i < length; ++i)
        copy(r * row_step + i * item, i % 2 != 0, r * half_step + i / 2 * item);
  }
};

void unzip(Draw& draw, const Target& target) {
  const ZippedRows z(draw);
  Guarded<char> source(z.row_bytes, draw.chance(50));
  Guarded<char> even(z.half_bytes, draw.chance(50)), odd(z.half_bytes, draw.chance(50));
  for (Guarded<char>* memory : {&source, &even, &odd}) fill(draw, *memory);
  std::vector<char> expected_even = even.copy(), expected_odd = odd.copy();
  z.for_each([&](Index place, bool is_odd, Index half) {
    char* to = (is_odd ? expected_odd : expected_even).data() + half;
    std::memcpy(to, source.data() + place, static_cast<std::size_t>(z.item));
  });
  target.patches->unzip({.even = even.data(),
                         .odd = odd.data(),
                         .source = source.data(),
                         .target_row = z.half_step,
                         .source_row = z.row_step,
                         .rows = z.rows,
                         .length = z.length,
                         .item = z.item});
  expect(std::equal(expected_even.begin(), expected_even.end(), even.begin()), "other even bytes");
  expect(std::equal(expected_odd.begin(), expected_odd.end(), odd.begin()), "other odd bytes");
}

void zip(Draw& draw, const Target& target) {
  const ZippedRows z(draw);
  Guarded<char> even(z.half_bytes, draw.chance(50)), odd(z.half_bytes, draw.chance(50));
  Guarded<char> result(z.row_bytes, draw.chance(50));
  for (Guarded<char>* memory : {&even, &odd, &result}) fill(draw, *memory);
  std::vector<char> expected = result.copy();
  z.for_each([&](Index place, bool is_odd, Index half) {
    const char* from = (is_odd ? odd : even).data() + half;
    std::memcpy(expected.data() + place, from, static_cast<std::size_t>(z.item));
  });
  target.patches->zip({.target = result.data(),
                       .even = even.data(),
                       .odd = odd.data(),
                       .target_row = z.row_step,
                       .source_row = z.half_step,
                       .rows = z.rows,
                       .length = z.length,
                       .item = z.item});
  expect(std::equal(expected.begin(), expected.end(), result.begin()), "other bytes");
}

// Rows of an image's planes as taps see them, some beside it.
void tap_rows(Draw& draw, const Target& target) {
  if (!target.patches->tap_rows) return;
  const Index item = draw.of({4, 8}), step = draw.of({1, 2});
  const Index length = draw.number(1, draw.chance(70) ? 40 : kTapRowBytes / item), rows = draw.number(1, 5);
  const Index width = draw.number(1, step * length + 3), height = draw.number(1, 2 * rows + 2);
  const Index planes = draw.number(1, 3), count = draw.number(1, 4), row_step = draw.number(1, 2);
  const Index source_row = width * item + draw.of({0, 0, 4}), target_row = length * item + draw.of({0, 0, 4});
  const Index source_plane = (height - 1) * source_row + width * item, tap_bytes = rows * target_row;
  Guarded<char> source(planes * source_plane, draw.chance(50));
  Guarded<char> result(planes * count * tap_bytes, draw.chance(50));
  std::vector<char> fill_value(static_cast<std::size_t>(item));
  for (char& byte : fill_value) byte = static_cast<char>(draw.number(0, 255));
  fill(draw, source);
  fill(draw, result);
  std::vector<char> expected = result.copy();
  std::vector<TapRow> taps;
  for (Index t = 0; t < count; ++t) {
    const Index y = draw.number(-3, 3), x = draw.number(-3, 3);
    const auto span = [](Index origin, Index pace, Index size, Index most) {
      Index first = 0;
      while (first < most && origin + first * pace < 0) ++first;
      Index end = first;
      while (end < most && origin + end * pace < size) ++end;
      return std::pair{first, end};
    };
    const auto [first_row, end_row] = span(y, row_step, height, rows);
    const auto [first, end] = span(x, step, width, length);
    taps.push_back({.target = t * tap_bytes,
                    .source = y * source_row + x * item,
                    .first_row = first_row,
                    .end_row = end_row,
                    .first = first,
                    .end = end});
    for (Index p = 0; p < planes; ++p)
      for (Index r = 0; r < rows; ++r)
        for (Index i = 0; i < length; ++i) {
          const bool inside = first_row <= r && r < end_row && first <= i && i < end;
          const char* from = inside ? source.data() + p * source_plane + (y + r * row_step) * source_row +
                                          (x + i * step) * item
                                    : fill_value.data();
          std::copy_n(from, item, expected.begin() + (p * count + t) * tap_bytes + r * target_row + i * item);
        }
  }
  target.patches->tap_rows({.target = result.data(),
                            .source = source.data(),
                            .fill = fill_value.data(),
                            .target_plane = count * tap_bytes,
                            .source_plane = source_plane,
                            .planes = planes,
                            .taps = taps.data(),
                            .count = count,
                            .target_row = target_row,
                            .source_row = row_step * source_row,
                            .rows = rows,
                            .length = length,
                            .step = step,
                            .item = item});
  expect(std::equal(expected.begin(), expected.end(), result.begin()), "other bytes");
}

// Sums of one term past the caches.
template <class T, Number kNumber>
void streamed_sums(Draw& draw, const Target& target) {
  const Index bytes = 64 * draw.number(0, 9), count = bytes / static_cast<Index>(sizeof(T));
  Guarded<char> source(bytes, draw.chance(70)), result(bytes, false);
  std::vector<T> expected;
  for (Index i = 0; i < count; ++i) {
    const T value = draw.chance(20)   ? -T{0}
                    : draw.chance(10) ? -std::numeric_limits<T>::infinity()
                                      : small<T>(draw);
    std::memcpy(source.data() + i * static_cast<Index>(sizeof(T)), &value, sizeof value);
    expected.push_back(T{0} + value);
  }
  target.patches->stream_sums[kNumber](result.data(), source.data(), bytes);
  target.patches->stream_end();
  const auto size = static_cast<std::size_t>(bytes);  // of nothing, memcmp must not be asked
  expect(bytes == 0 || std::memcmp(result.data(), expected.data(), size) == 0,
         "other sums, or -0 among them");
}

// Runs at any places of a source, in rounds that begin elsewhere.
struct DrawnRuns {
  static constexpr Index kRoom = 300, kStart = kRoom + kOverread;
  Index bytes, count, repeats;
  std::vector<std::ptrdiff_t> offsets, steps;
  Guarded<char> source;

  DrawnRuns(Draw& draw, Index bytes_of_one, Index runs, Index rounds)
      : bytes(bytes_of_one),
        count(runs),
        repeats(rounds),
        source(kStart + 2 * kRoom + bytes_of_one + kOverread, true) {
    for (Index j = 0; j < count; ++j) offsets.push_back(draw.number(0, kRoom));
    for (Index r = 0; r < repeats; ++r) steps.push_back(draw.number(-kRoom, kRoom));
    fill(draw, source);
  }

  GatherRuns into(char* target) const {
    return {.target = target,
            .source = source.data() + kStart,
            .offsets = offsets.data(),
            .count = count,
            .bytes = bytes,
            .steps = steps.data(),
            .repeats = repeats};
  }

  // All runs one after another.
  std::vector<char> together() const {
    std::vector<char> all;
    for (const std::ptrdiff_t step : steps)
      for (const std::ptrdiff_t offset : offsets)
        for (Index i = 0; i < bytes; ++i) all.push_back(source[kStart + step + offset + i]);
    return all;
  }
};

// Rounds of runs that are apart, past the caches.
void runs_apart(Draw& draw, const Target& target) {
  const Index bytes = draw.of({12, 20, 24, 28, 40, 56}), count = 16 * draw.number(1, 3);
  const DrawnRuns drawn(draw, bytes, count, draw.number(1, 6));
  const Index round = count * bytes, apart = round + 64 * draw.number(0, 3);
  Guarded<char> result((drawn.repeats - 1) * apart + round, false);
  fill(draw, result);
  std::vector<char> expected = result.copy();
  const bool done = target.patches->stream_apart(drawn.into(result.data()), apart);
  target.patches->stream_end();
  const std::vector<char> all = drawn.together();
  for (Index r = 0; done && r < drawn.repeats; ++r)
    std::copy_n(all.begin() + r * round, round, expected.begin() + r * apart);
  expect(std::equal(expected.begin(), expected.end(), result.begin()), "other bytes");
}

// Runs one after another, into the cache or past it.
void runs(Draw& draw, const Target& target) {
  const Index bytes = draw.of({1, 2, 4, 6, 8, 12, 16, 20, 24, 28, 40, 56, 64, 65, 100, 130, 200});
  const Index count = draw.number(1, 9), repeats = draw.number(1, 9);
  const DrawnRuns drawn(draw, bytes, count, repeats);
  const std::vector<char> expected = drawn.together();
  const Index total = count * repeats * bytes;
  Guarded<char> result(total, true);
  target.patches->gather_runs(drawn.into(result.data()));
  expect(std::equal(expected.begin(), expected.end(), result.begin()), "other bytes");

  // The first `filled` bytes of a line are there already; what does not fill a line at the end stays there.
  const Index filled = draw.number(0, 63), lines = (filled + total) / 64 * 64;
  Guarded<char> streamed(lines, false), line(128, false);
  fill(draw, line);
  std::vector<char> all(line.begin(), line.begin() + filled);
  all.insert(all.end(), expected.begin(), expected.end());
  const Index left = target.patches->stream_runs(drawn.into(streamed.data()), line.data(), filled);
  target.patches->stream_end();
  expect(left == filled + total - lines, "another rest");
  expect(std::equal(streamed.begin(), streamed.end(), all.begin()), "other bytes past the cache");
  expect(std::equal(line.begin(), line.begin() + left, all.begin() + lines), "other bytes in the open line");

  Guarded<char> copy(lines, false);
  const Guarded<char>& streamed_source = streamed;
  target.patches->stream(copy.data(), streamed_source.data(), lines);
  target.patches->stream_end();
  expect(std::equal(copy.begin(), copy.end(), streamed.begin()), "other bytes copied");
}

template <class T>
T reduced(Reduction reduction, T total, T value, T weight) {
  switch (reduction) {
    case kAdd:
      return static_cast<T>(total + value);
    case kWeighted:
      return static_cast<T>(total + value * weight);
    case kMax:
      return std::max(total, value);
    default:
      return std::min(total, value);
  }
}

template <class T>
T neutral(Reduction reduction) {
  using L = std::numeric_limits<T>;
  if (reduction == kMax) return L::has_infinity ? -L::infinity() : L::lowest();
  if (reduction == kMin) return L::has_infinity ? L::infinity() : L::max();
  return 0;
}

template <class T, Number kNumber>
void sums(Draw& draw, const Target& target) {
  const bool floating = std::numeric_limits<T>::has_infinity;
  const auto reduction = static_cast<Reduction>(draw.of({kAdd, kMax, kMin, floating ? kWeighted : kAdd}));
  constexpr Index kSize = sizeof(T);
  const Index rows = draw.number(1, 11), length = draw.number(1, draw.chance(80) ? 90 : 400);
  const Index count = draw.number(0, 6);
  // Parts that sources miss at the ends of a row: a few numbers as a rule, as at an image's borders.
  const Index missed = draw.chance(60) ? std::min<Index>(length - 1, draw.of({1, 2, 5, 9, 17})) : length - 1;
  const Index source_row = (length + draw.number(0, 4)) * kSize,
              total_row = (length + draw.number(0, 4)) * kSize;
  Guarded<char> totals((rows - 1) * total_row + length * kSize, draw.chance(70));
  fill(draw, totals);
  const bool resume = draw.chance(50);
  std::vector<T> expected(static_cast<std::size_t>(rows * length));
  for (Index r = 0; r < rows; ++r) {
    for (Index x = 0; x < length; ++x) {
      T value = resume ? small<T>(draw) : neutral<T>(reduction);
      expected[static_cast<std::size_t>(r * length + x)] = value;
      if (resume) std::memcpy(totals.data() + r * total_row + x * kSize, &value, sizeof value);
    }
  }
  std::vector<char> outside = totals.copy();
  std::vector<std::unique_ptr<Guarded<char>>> kept;
  std::vector<SumSource> sources;
  for (Index j = 0; j < count; ++j) {
    const Index first = draw.chance(50) ? 0 : draw.number(0, missed);
    const Index end = draw.chance(50) ? length : draw.number(std::max(first + 1, length - missed), length);
    kept.push_back(
        std::make_unique<Guarded<char>>((rows - 1) * source_row + (end - first) * kSize, draw.chance(70)));
    fill(draw, *kept.back());
    const double weight = static_cast<double>(draw.number(-3, 3));
    char* data = kept.back()->data();
    sources.push_back({.data = data - first * kSize, .first = first, .end = end, .weight = weight});
    for (Index r = 0; r < rows; ++r) {
      for (Index x = first; x < end; ++x) {
        const T value = small<T>(draw);
        std::memcpy(data + r * source_row + (x - first) * kSize, &value, sizeof value);
        T& total = expected[static_cast<std::size_t>(r * length + x)];
        total = reduced(reduction, total, value, static_cast<T>(weight));
      }
    }
  }
  target.patches->sum_rows[reduction][kNumber]({.total = totals.data(),
                                                .total_row = total_row,
                                                .rows = rows,
                                                .length = length,
                                                .sources = sources.data(),
                                                .count = count,
                                                .source_row = source_row,
                                                .resume = resume,
                                                .ahead = draw.of({0, 4096})});
  for (Index r = 0; r < rows; ++r) {
    for (Index x = 0; x < length; ++x) {
      T value;
      std::memcpy(&value, totals.data() + r * total_row + x * kSize, sizeof value);
      expect(value == expected[static_cast<std::size_t>(r * length + x)], "another reduction");
    }
  }
  for (Index i = 0; i < totals.size(); ++i)
    if (i % total_row >= length * kSize)
      expect(totals[i] == outside[static_cast<std::size_t>(i)], "written between rows");
}

}  // namespace

const std::vector<Case> kPatchKernelCases = {
    {"move", move},
    {"unzip", unzip},
    {"zip", zip},
    {"tap rows", tap_rows},
    {"runs", runs},
    {"runs apart", runs_apart},
    {"streamed sums of float32", streamed_sums<float, kF32>},
    {"streamed sums of float64", streamed_sums<double, kF64>},
    {"sums of float32", sums<float, kF32>},
    {"sums of float64", sums<double, kF64>},
    {"sums of int8", sums<std::int8_t, kI8>},
    {"sums of uint16", sums<std::uint16_t, kU16>},
    {"sums of int32", sums<std::int32_t, kI32>},
    {"sums of uint64", sums<std::uint64_t, kU64>},
};

}  // namespace seeded
