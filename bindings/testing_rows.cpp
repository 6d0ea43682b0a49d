// windrow._core._testing: likewise the kernels that copy rows or change single elements.
#include <nanobind/stl/string.h>

#include <string>
#include <vector>

#include "modules.hpp"
#include "testing_buffers.hpp"

namespace windrow::python {
namespace {

// Segment s of vector i, for first[i] <= s < first[i + 1], reads source[offset[s] + lane * step] for the
// lanes of mask[s]; the other lanes are `fill`. The first segment of each vector goes to the kernel's first
// pass, the others to its second.
template <class T>
void run_gather(const Target& target, nb::handle target_array, nb::handle source_array, nb::handle offsets,
                nb::handle masks, nb::handle firsts, Index step, T fill) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Buffer<T> to("target", target_array), source("source", source_array);
  const Buffer<Index> offset("offset", offsets), mask("mask", masks), first("first", firsts);
  if (mask.size != offset.size || first.size < 1) throw nb::value_error("mask or first");
  const Index count = first.size - 1;
  if (count > 0) to.check(0, count * kernels.lanes - 1);
  constexpr Index kNumber = 7;  // of the target's first vector among the segments of the second pass
  std::vector<Segment> segments, more;
  for (Index i = 0; i < count; ++i) {
    if (first.data[i] < 0 || first.data[i] > first.data[i + 1] || first.data[i + 1] > offset.size)
      throw nb::value_error("first");
    const auto vector = static_cast<std::int32_t>(kNumber + i);
    if (first.data[i] == first.data[i + 1]) segments.push_back({.offset = 0, .mask = 0, .vector = vector});
    for (Index s = first.data[i]; s < first.data[i + 1]; ++s) {
      for (Index lane = 0; lane < kernels.lanes; ++lane)
        if (mask.data[s] >> lane & 1)
          source.check(offset.data[s] + lane * step, offset.data[s] + lane * step);
      (s == first.data[i] ? segments : more)
          .push_back(
              {.offset = offset.data[s], .mask = static_cast<std::uint32_t>(mask.data[s]), .vector = vector});
    }
  }
  kernels.gather({.target = to.data,
                  .source = source.data,
                  .segments = segments.data(),
                  .count = count,
                  .more = more.data(),
                  .more_count = static_cast<Index>(more.size()),
                  .more_vector = kNumber,
                  .step = step,
                  .fill = fill,
                  .ahead = 0});
}

// Row 0 of the source starts at source[source_start], which may lie outside if nothing is read there.
template <class T>
void run_pad(const Target& target, nb::handle target_array, Index target_row, nb::handle source_array,
             Index source_start, Index source_row, Index step, Index rows, Index width, Index low,
             Index high) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Buffer<T> to("target", target_array), source("source", source_array);
  if (low < 0 || low > high || high > width || target_row < width) throw nb::value_error("low or high");
  to.check_rows(0, rows, target_row, width + kernels.lanes);
  if (low < high) {
    source.check_rows(source_start + low * step, rows, source_row, 1);
    source.check_rows(source_start + (high - 1) * step, rows, source_row, 1);
  }
  kernels.pad({.target = to.data,
               .target_row = target_row,
               .source = source.data + source_start,
               .source_row = source_row,
               .step = step,
               .rows = rows,
               .width = width,
               .low = low,
               .high = high,
               .ahead = 0});
}

template <class T>
void run_collect(const Target& target, nb::handle target_array, nb::handle source_array, Index source_start,
                 Index step, Index count) {
  const Buffer<T> to("target", target_array), source("source", source_array);
  if (count > 0) {
    to.check(0, count - 1);
    source.check(source_start, source_start + (count - 1) * step);
  }
  target.kernels<T>().collect(
      {.target = to.data, .source = source.data + source_start, .step = step, .count = count});
}

// Run r of row i begins at source[start[i] + offset[r]].
template <class T>
void run_runs(const Target& target, nb::handle target_array, Index row, nb::handle source_array,
              nb::handle starts, nb::handle offsets, Index count) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Buffer<T> to("target", target_array), source("source", source_array);
  const Buffer<Index> start("start", starts), offset("offset", offsets);
  const Index whole = whole_vectors(count, kernels.lanes);
  std::vector<Step> steps;
  for (Index i = 0; i < start.size; ++i) {
    steps.push_back({.a = 0, .b = start.data[i]});
    for (Index r = 0; r < offset.size; ++r) {
      source.check_rows(start.data[i] + offset.data[r], 1, 0, whole);
      to.check_rows(i * row + r * count, 1, 0, whole);
    }
  }
  kernels.runs({.target = to.data,
                .target_row = row,
                .source = source.data,
                .step = steps.data(),
                .rows = start.size,
                .offset = offset.data,
                .runs = offset.size,
                .count = count});
}

template <class T>
void run_limit(const Target& target, nb::handle target_array, Index row, Index rows, Index count, T low,
               T high) {
  const Buffer<T> to("target", target_array);
  to.check_rows(0, rows, row, count);
  target.kernels<T>().limit(
      {.target = to.data, .target_row = row, .rows = rows, .count = count, .low = low, .high = high});
}

template <class T>
void run_spread(const Target& target, nb::handle target_array, Index step, nb::handle source_array,
                Index count) {
  const Buffer<T> to("target", target_array), source("source", source_array);
  if (count > 0) {
    to.check(0, (count - 1) * step);
    source.check(0, count - 1);
  }
  target.kernels<T>().spread({.target = to.data, .source = source.data, .step = step, .count = count});
}

template <class T>
void run_interleave(const Target& target, nb::handle target_array, nb::handle even_array,
                    nb::handle odd_array, Index evens, Index odds) {
  const Buffer<T> to("target", target_array), even("even", even_array), odd("odd", odd_array);
  if (evens > 0) {
    const Index read = round_up(evens, target.kernels<T>().lanes);
    to.check(0, evens + odds - 1);
    even.check(0, read - 1);
    odd.check(0, read - 1);
  }
  target.kernels<T>().interleave(
      {.target = to.data, .even = even.data, .odd = odd.data, .evens = evens, .odds = odds});
}

template <class T>
void run_transpose(const Target& target, nb::handle target_array, Index target_row, nb::handle source_array,
                   Index source_row, Index rows, Index columns) {
  const Buffer<T> to("target", target_array), source("source", source_array);
  if (rows > 0 && columns > 0) {
    to.check(0, (rows - 1) * target_row + columns - 1);
    source.check(0, (columns - 1) * source_row + rows - 1);
  }
  target.kernels<T>().transpose({.target = to.data,
                                 .target_row = target_row,
                                 .source = source.data,
                                 .source_row = source_row,
                                 .rows = rows,
                                 .columns = columns,
                                 .ahead = 0});
}

}  // namespace

void bind_row_kernels(nb::module_& m) {
  m.def(
      "gather",
      [](const std::string& target, bool is_double, nb::handle to, nb::handle source, nb::handle offset,
         nb::handle mask, nb::handle first, Index step, double fill) {
        if (is_double)
          return run_gather<double>(target_named(target), to, source, offset, mask, first, step, fill);
        run_gather<float>(target_named(target), to, source, offset, mask, first, step,
                          static_cast<float>(fill));
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("to"), nb::arg("source"), nb::arg("offset"),
      nb::arg("mask"), nb::arg("first"), nb::arg("step"), nb::arg("fill"));
  m.def(
      "pad",
      [](const std::string& target, bool is_double, nb::handle to, Index to_row, nb::handle source,
         Index source_start, Index source_row, Index step, Index rows, Index width, Index low, Index high) {
        const auto run = is_double ? run_pad<double> : run_pad<float>;
        run(target_named(target), to, to_row, source, source_start, source_row, step, rows, width, low, high);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("to"), nb::arg("to_row"), nb::arg("source"),
      nb::arg("source_start"), nb::arg("source_row"), nb::arg("step"), nb::arg("rows"), nb::arg("width"),
      nb::arg("low"), nb::arg("high"));
  m.def(
      "collect",
      [](const std::string& target, bool is_double, nb::handle to, nb::handle source, Index source_start,
         Index step, Index count) {
        const auto run = is_double ? run_collect<double> : run_collect<float>;
        run(target_named(target), to, source, source_start, step, count);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("to"), nb::arg("source"), nb::arg("source_start"),
      nb::arg("step"), nb::arg("count"));
  m.def(
      "runs",
      [](const std::string& target, bool is_double, nb::handle to, Index row, nb::handle source,
         nb::handle start, nb::handle offset, Index count) {
        const auto run = is_double ? run_runs<double> : run_runs<float>;
        run(target_named(target), to, row, source, start, offset, count);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("to"), nb::arg("row"), nb::arg("source"),
      nb::arg("start"), nb::arg("offset"), nb::arg("count"));
  m.def(
      "limit",
      [](const std::string& target, bool is_double, nb::handle to, Index row, Index rows, Index count,
         double low, double high) {
        if (is_double) return run_limit<double>(target_named(target), to, row, rows, count, low, high);
        run_limit<float>(target_named(target), to, row, rows, count, static_cast<float>(low),
                         static_cast<float>(high));
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("to"), nb::arg("row"), nb::arg("rows"),
      nb::arg("count"), nb::arg("low"), nb::arg("high"));
  m.def(
      "spread",
      [](const std::string& target, bool is_double, nb::handle to, Index step, nb::handle source,
         Index count) {
        const auto run = is_double ? run_spread<double> : run_spread<float>;
        run(target_named(target), to, step, source, count);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("to"), nb::arg("step"), nb::arg("source"),
      nb::arg("count"));
  m.def(
      "interleave",
      [](const std::string& target, bool is_double, nb::handle to, nb::handle even, nb::handle odd,
         Index evens, Index odds) {
        const auto run = is_double ? run_interleave<double> : run_interleave<float>;
        run(target_named(target), to, even, odd, evens, odds);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("to"), nb::arg("even"), nb::arg("odd"),
      nb::arg("evens"), nb::arg("odds"));
  m.def(
      "transpose",
      [](const std::string& target, bool is_double, nb::handle to, Index to_row, nb::handle source,
         Index source_row, Index rows, Index columns) {
        const auto run = is_double ? run_transpose<double> : run_transpose<float>;
        run(target_named(target), to, to_row, source, source_row, rows, columns);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("to"), nb::arg("to_row"), nb::arg("source"),
      nb::arg("source_row"), nb::arg("rows"), nb::arg("columns"));
}

}  // namespace windrow::python
