// windrow._core._testing: each kernel of each target by name, on operands in any memory layout that the
// contract allows (core/kernels/contract.hpp).
#include <nanobind/stl/string.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "arrays.hpp"
#include "dispatch/targets.hpp"
#include "modules.hpp"

namespace windrow::python {
namespace {

const Target& target_named(const std::string& name) {
  for (const Target& target : targets_built())
    if (target.name == name && target.runs_here()) return target;
  throw std::invalid_argument("unknown target " + name);
}

template <class T>
constexpr int kTypeNumber = std::is_integral_v<T> ? NPY_INT64 : dtype_of<T>();

// A C-contiguous array that a kernel is given, and where it ends: what a test asks for is checked against it,
// so that a wrong test cannot pass for a wrong kernel.
template <class T>
struct Buffer {
  const char* name;
  T* data;
  Index size;

  Buffer(const char* what, nb::handle array) : name(what) {
    auto* a = reinterpret_cast<PyArrayObject*>(array.ptr());
    if (!PyArray_Check(array.ptr()) || PyArray_TYPE(a) != kTypeNumber<T> || !PyArray_IS_C_CONTIGUOUS(a))
      throw nb::type_error(name);
    data = data_of<T>(a);
    size = PyArray_SIZE(a);
  }
  void check(Index one_end, Index other_end) const {
    if (std::min(one_end, other_end) < 0 || std::max(one_end, other_end) >= size) throw nb::value_error(name);
  }
  // `rows` runs of `width` elements, `row` apart, of which the first one starts at `first`.
  void check_rows(Index first, Index rows, Index row, Index width) const {
    if (rows <= 0 || width <= 0) return;
    const Index last = first + (rows - 1) * row;
    check(std::min(first, last), std::max(first, last) + width - 1);
  }
};

// B and C are whole vectors wide; offsets have one entry for each k.
template <class T>
void run_product(const Target& target, nb::handle a_array, Index a_row, nb::handle a_offsets,
                 nb::handle b_array, nb::handle b_offsets, nb::handle c_array, Index c_row, int rows,
                 int vectors, bool accumulate, nb::handle bias_array) {
  const KernelTable<T>& kernels = target.kernels<T>();
  if (rows < 1 || rows > kernels.rows || vectors < 1 || vectors > kernels.vectors)
    throw nb::value_error("rows or vectors outside the tile");
  const Index width = Index{vectors} * kernels.lanes;
  const Buffer<T> a("a", a_array), b("b", b_array), c("c", c_array);
  const Buffer<Index> a_offset("a_offset", a_offsets), b_offset("b_offset", b_offsets);
  if (a_offset.size != b_offset.size) throw nb::value_error("b_offset");
  std::vector<Step> steps;
  for (Index k = 0; k < a_offset.size; ++k) {
    a.check(a_offset.data[k], a_offset.data[k] + (rows - 1) * a_row);
    b.check(b_offset.data[k], b_offset.data[k] + width - 1);
    steps.push_back({.a = a_offset.data[k], .b = b_offset.data[k]});
  }
  c.check(0, (rows - 1) * c_row + width - 1);
  Product<T> product{.a = a.data,
                     .a_row = a_row,
                     .b = b.data,
                     .step = steps.data(),
                     .c = c.data,
                     .c_row = c_row,
                     .k = a_offset.size,
                     .accumulate = accumulate,
                     .bias = nullptr};
  if (!bias_array.is_none()) {
    const Buffer<T> bias("bias", bias_array);
    bias.check(0, rows - 1);
    product.bias = bias.data;
  }
  kernels.product(product, rows, vectors);
}

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

Index whole_vectors(Index count, Index lanes) { return (count + lanes - 1) / lanes * lanes; }

// A bias of one value or none.
template <class T>
const T* one_bias(nb::handle array) {
  if (array.is_none()) return nullptr;
  const Buffer<T> bias("bias", array);
  bias.check(0, 0);
  return bias.data;
}

// Row 0 of x starts at x[x_start]; offsets have one entry for each k.
template <class T>
void run_stencil(const Target& target, nb::handle w_array, nb::handle w_offsets, nb::handle x_array,
                 Index x_start, Index x_row, nb::handle x_offsets, nb::handle y_array, Index y_row,
                 Index rows, Index count, bool accumulate, nb::handle bias) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Buffer<T> w("w", w_array), x("x", x_array), y("y", y_array);
  const Buffer<Index> w_offset("w_offset", w_offsets), x_offset("x_offset", x_offsets);
  if (w_offset.size != x_offset.size) throw nb::value_error("x_offset");
  std::vector<Step> steps;
  for (Index k = 0; k < w_offset.size; ++k) {
    w.check(w_offset.data[k], w_offset.data[k]);
    x.check_rows(x_start + x_offset.data[k], rows, x_row, whole_vectors(count, kernels.lanes));
    steps.push_back({.a = w_offset.data[k], .b = x_offset.data[k]});
  }
  y.check_rows(0, rows, y_row, count);
  kernels.stencil({.w = w.data,
                   .x = x.data + x_start,
                   .x_row = x_row,
                   .step = steps.data(),
                   .k = w_offset.size,
                   .y = y.data,
                   .y_row = y_row,
                   .rows = rows,
                   .count = count,
                   .accumulate = accumulate,
                   .bias = one_bias<T>(bias)});
}

// A window of kernel_rows rows and as many columns as there are shifts.
template <class T>
bool run_window(const Target& target, nb::handle w_array, nb::handle x_array, Index x_start, Index x_row,
                nb::handle shifts, int kernel_rows, Index row_step, nb::handle y_array, Index y_row,
                Index rows, Index count, bool accumulate, nb::handle bias) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Buffer<T> w("w", w_array), x("x", x_array), y("y", y_array);
  const Buffer<Index> shift("shift", shifts);
  w.check_rows(0, kernel_rows, shift.size, shift.size);
  for (Index j = 0; j < shift.size; ++j) {
    for (Index i = 0; i < kernel_rows; ++i) {
      x.check_rows(x_start + i * x_row + shift.data[j], rows, row_step * x_row,
                   whole_vectors(count, kernels.lanes));
    }
  }
  y.check_rows(0, rows, y_row, count);
  return kernels.window({.w = w.data,
                         .x = x.data + x_start,
                         .x_row = x_row,
                         .shift = shift.data,
                         .kernel_rows = kernel_rows,
                         .kernel_columns = static_cast<int>(shift.size),
                         .row_step = row_step,
                         .y = y.data,
                         .y_row = y_row,
                         .rows = rows,
                         .count = count,
                         .accumulate = accumulate,
                         .bias = one_bias<T>(bias)});
}

// Tap k begins at x[starts[k]], and w holds its weights in row k.
template <class T>
void run_channels(const Target& target, nb::handle w_array, Index w_tap, nb::handle x_array,
                  nb::handle starts, nb::handle steps, nb::handle y_array, Index y_pixel, Index pixels,
                  Index count, bool accumulate, nb::handle bias_array) {
  const Buffer<T> w("w", w_array), x("x", x_array), y("y", y_array);
  const Buffer<Index> start("start", starts), step("step", steps);
  if (start.size != step.size) throw nb::value_error("step");
  std::vector<ChannelTap<T>> taps;
  for (Index k = 0; k < start.size; ++k) {
    x.check_rows(start.data[k], pixels, step.data[k], count);
    taps.push_back({.w = w.data + k * w_tap, .x = x.data + start.data[k], .pixel = step.data[k]});
  }
  w.check_rows(0, start.size, w_tap, count);
  y.check_rows(0, pixels, y_pixel, count);
  const T* bias = nullptr;
  if (!bias_array.is_none()) {
    const Buffer<T> values("bias", bias_array);
    values.check_rows(0, 1, 0, count);
    bias = values.data;
  }
  target.kernels<T>().channels({.tap = taps.data(),
                                .taps = start.size,
                                .y = y.data,
                                .y_pixel = y_pixel,
                                .pixels = pixels,
                                .count = count,
                                .accumulate = accumulate,
                                .bias = bias});
}

// One vector of channels; tap k begins at x[x_start + taps[k]].
template <class T>
void run_correlate_channels(const Target& target, nb::handle dy_array, Index dy_row, Index dy_pixel,
                            nb::handle x_array, Index x_start, Index x_row, Index x_pixel, nb::handle taps,
                            Index rows, Index count, nb::handle sums_array) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Buffer<T> dy("dy", dy_array), x("x", x_array), sums("sums", sums_array);
  const Buffer<Index> tap("tap", taps);
  for (Index r = 0; r < rows; ++r) {
    dy.check_rows(r * dy_row, count, dy_pixel, kernels.lanes);
    for (Index k = 0; k < tap.size; ++k)
      x.check_rows(x_start + r * x_row + tap.data[k], count, x_pixel, kernels.lanes);
  }
  sums.check_rows(0, 1, 0, tap.size * kernels.lanes * kernels.lanes);
  kernels.correlate_channels({.dy = dy.data,
                              .dy_row = dy_row,
                              .dy_pixel = dy_pixel,
                              .x = x.data + x_start,
                              .x_row = x_row,
                              .x_pixel = x_pixel,
                              .tap = tap.data,
                              .taps = tap.size,
                              .rows = rows,
                              .count = count,
                              .sums = sums.data});
}

template <class T>
void run_correlate(const Target& target, nb::handle dy_array, Index dy_row, nb::handle x_array, Index x_start,
                   Index x_row, nb::handle taps, Index rows, Index count, nb::handle sums_array) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Buffer<T> dy("dy", dy_array), x("x", x_array), sums("sums", sums_array);
  const Buffer<Index> tap("tap", taps);
  dy.check_rows(0, rows, dy_row, count);
  for (Index k = 0; k < tap.size; ++k) x.check_rows(x_start + tap.data[k], rows, x_row, count);
  sums.check_rows(0, tap.size, kernels.lanes, kernels.lanes);
  kernels.correlate({.dy = dy.data,
                     .dy_row = dy_row,
                     .x = x.data + x_start,
                     .x_row = x_row,
                     .tap = tap.data,
                     .taps = tap.size,
                     .rows = rows,
                     .count = count,
                     .sums = sums.data});
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

// Of single lanes, or of vectors of them.
template <class T>
void run_add_lanes(const Target& target, nb::handle sums_array, Index count, nb::handle totals_array,
                   bool of_vectors) {
  const KernelTable<T>& kernels = target.kernels<T>();
  const Buffer<T> sums("sums", sums_array), totals("totals", totals_array);
  const Index lanes = kernels.lanes, width = of_vectors ? lanes : 1;
  sums.check_rows(0, 1, 0, count * lanes * width);
  totals.check_rows(0, 1, 0, count * width);
  if (of_vectors) {
    kernels.add_vectors(sums.data, count, totals.data, lanes);
  } else {
    kernels.add_lanes(sums.data, count, totals.data);
  }
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

void bind_kernels(nb::module_& m) {
  m.attr("CHUNK") = kChunk;
  m.def(
      "tile",
      [](const std::string& target, bool is_double) {
        const Target& t = target_named(target);
        return is_double ? nb::make_tuple(t.float64->rows, t.float64->vectors, t.float64->lanes)
                         : nb::make_tuple(t.float32->rows, t.float32->vectors, t.float32->lanes);
      },
      nb::arg("target"), nb::arg("is_double"));
  m.def(
      "product",
      [](const std::string& target, bool is_double, nb::handle a, Index a_row, nb::handle a_offset,
         nb::handle b, nb::handle b_offset, nb::handle c, Index c_row, int rows, int vectors, bool accumulate,
         nb::handle bias) {
        const auto run = is_double ? run_product<double> : run_product<float>;
        run(target_named(target), a, a_row, a_offset, b, b_offset, c, c_row, rows, vectors, accumulate, bias);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("a"), nb::arg("a_row"), nb::arg("a_offset"),
      nb::arg("b"), nb::arg("b_offset"), nb::arg("c"), nb::arg("c_row"), nb::arg("rows"), nb::arg("vectors"),
      nb::arg("accumulate"), nb::arg("bias").none());
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
      "stencil",
      [](const std::string& target, bool is_double, nb::handle w, nb::handle w_offset, nb::handle x,
         Index x_start, Index x_row, nb::handle x_offset, nb::handle y, Index y_row, Index rows, Index count,
         bool accumulate, nb::handle bias) {
        const auto run = is_double ? run_stencil<double> : run_stencil<float>;
        run(target_named(target), w, w_offset, x, x_start, x_row, x_offset, y, y_row, rows, count, accumulate,
            bias);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("w"), nb::arg("w_offset"), nb::arg("x"),
      nb::arg("x_start"), nb::arg("x_row"), nb::arg("x_offset"), nb::arg("y"), nb::arg("y_row"),
      nb::arg("rows"), nb::arg("count"), nb::arg("accumulate"), nb::arg("bias").none());
  m.def(
      "window",
      [](const std::string& target, bool is_double, nb::handle w, nb::handle x, Index x_start, Index x_row,
         nb::handle shift, int kernel_rows, Index row_step, nb::handle y, Index y_row, Index rows,
         Index count, bool accumulate, nb::handle bias) {
        const auto run = is_double ? run_window<double> : run_window<float>;
        return run(target_named(target), w, x, x_start, x_row, shift, kernel_rows, row_step, y, y_row, rows,
                   count, accumulate, bias);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("w"), nb::arg("x"), nb::arg("x_start"),
      nb::arg("x_row"), nb::arg("shift"), nb::arg("kernel_rows"), nb::arg("row_step"), nb::arg("y"),
      nb::arg("y_row"), nb::arg("rows"), nb::arg("count"), nb::arg("accumulate"), nb::arg("bias").none());
  m.def(
      "channels",
      [](const std::string& target, bool is_double, nb::handle w, Index w_tap, nb::handle x, nb::handle start,
         nb::handle step, nb::handle y, Index y_pixel, Index pixels, Index count, bool accumulate,
         nb::handle bias) {
        const auto run = is_double ? run_channels<double> : run_channels<float>;
        run(target_named(target), w, w_tap, x, start, step, y, y_pixel, pixels, count, accumulate, bias);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("w"), nb::arg("w_tap"), nb::arg("x"), nb::arg("start"),
      nb::arg("step"), nb::arg("y"), nb::arg("y_pixel"), nb::arg("pixels"), nb::arg("count"),
      nb::arg("accumulate"), nb::arg("bias").none());
  m.def(
      "correlate",
      [](const std::string& target, bool is_double, nb::handle dy, Index dy_row, nb::handle x, Index x_start,
         Index x_row, nb::handle tap, Index rows, Index count, nb::handle sums) {
        const auto run = is_double ? run_correlate<double> : run_correlate<float>;
        run(target_named(target), dy, dy_row, x, x_start, x_row, tap, rows, count, sums);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("dy"), nb::arg("dy_row"), nb::arg("x"),
      nb::arg("x_start"), nb::arg("x_row"), nb::arg("tap"), nb::arg("rows"), nb::arg("count"),
      nb::arg("sums"));
  m.def(
      "correlate_channels",
      [](const std::string& target, bool is_double, nb::handle dy, Index dy_row, Index dy_pixel, nb::handle x,
         Index x_start, Index x_row, Index x_pixel, nb::handle tap, Index rows, Index count,
         nb::handle sums) {
        const auto run = is_double ? run_correlate_channels<double> : run_correlate_channels<float>;
        run(target_named(target), dy, dy_row, dy_pixel, x, x_start, x_row, x_pixel, tap, rows, count, sums);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("dy"), nb::arg("dy_row"), nb::arg("dy_pixel"),
      nb::arg("x"), nb::arg("x_start"), nb::arg("x_row"), nb::arg("x_pixel"), nb::arg("tap"), nb::arg("rows"),
      nb::arg("count"), nb::arg("sums"));
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
      "add_lanes",
      [](const std::string& target, bool is_double, nb::handle sums, Index count, nb::handle totals,
         bool of_vectors) {
        const auto run = is_double ? run_add_lanes<double> : run_add_lanes<float>;
        run(target_named(target), sums, count, totals, of_vectors);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("sums"), nb::arg("count"), nb::arg("totals"),
      nb::arg("of_vectors"));
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
