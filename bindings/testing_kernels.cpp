// windrow._core._testing: each kernel that sums, of each target, by name, on operands in any memory layout
// that the contract allows (core/kernels/contract.hpp).
#include <nanobind/stl/string.h>

#include <string>
#include <vector>

#include "modules.hpp"
#include "testing_buffers.hpp"

namespace windrow::python {
namespace {

// B and C are whole vectors wide; offsets have one entry for each k.
template <class T>
void run_product(const Target& target, nb::handle a_array, Index a_row, nb::handle a_offsets,
                 nb::handle b_array, nb::handle b_offsets, nb::handle c_array, Index c_row, int rows,
                 int vectors, bool accumulate, nb::handle bias_array, int chunk) {
  const KernelTable<T>& kernels = target.kernels<T>();
  if (chunk < 1) throw nb::value_error("chunk");
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
                     .chunk = chunk,
                     .bias = nullptr};
  if (!bias_array.is_none()) {
    const Buffer<T> bias("bias", bias_array);
    bias.check(0, rows - 1);
    product.bias = bias.data;
  }
  kernels.product(product, rows, vectors);
}

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

// One vector of channels, of pixels a cache line apart in dy and x_lines of them in x; tap k begins at
// x[x_start + taps[k]].
template <class T>
void run_correlate_channels(const Target& target, nb::handle dy_array, Index dy_row, nb::handle x_array,
                            Index x_start, Index x_row, Index x_lines, nb::handle taps, Index rows,
                            Index count, nb::handle sums_array) {
  constexpr Index kLine = 64 / sizeof(T);
  const KernelTable<T>& kernels = target.kernels<T>();
  const Buffer<T> dy("dy", dy_array), x("x", x_array), sums("sums", sums_array);
  const Buffer<Index> tap("tap", taps);
  for (Index r = 0; r < rows; ++r) {
    dy.check_rows(r * dy_row, count, kLine, kernels.lanes);
    for (Index k = 0; k < tap.size; ++k)
      x.check_rows(x_start + r * x_row + tap.data[k], count, x_lines * kLine, kernels.lanes);
  }
  sums.check_rows(0, 1, 0, tap.size * kernels.lanes * kernels.lanes);
  kernels.correlate_channels({.dy = dy.data,
                              .dy_row = dy_row,
                              .x = x.data + x_start,
                              .x_row = x_row,
                              .x_lines = x_lines,
                              .tap = tap.data,
                              .taps = tap.size,
                              .rows = rows,
                              .count = count,
                              .sums = sums.data,
                              .totals = nullptr,
                              .totals_row = 0});
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

}  // namespace

void bind_kernels(nb::module_& m) {
  m.attr("CHUNK") = kChunk;
  // The target whose kernels a target has.
  m.def(
      "compiled_as",
      [](const std::string& name) {
        for (const Target& target : targets_built())
          if (target.name == name) return target.compiled_as;
        throw nb::value_error("target");
      },
      nb::arg("target"));
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
         nb::handle bias, int chunk) {
        const auto run = is_double ? run_product<double> : run_product<float>;
        run(target_named(target), a, a_row, a_offset, b, b_offset, c, c_row, rows, vectors, accumulate, bias,
            chunk);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("a"), nb::arg("a_row"), nb::arg("a_offset"),
      nb::arg("b"), nb::arg("b_offset"), nb::arg("c"), nb::arg("c_row"), nb::arg("rows"), nb::arg("vectors"),
      nb::arg("accumulate"), nb::arg("bias").none(), nb::arg("chunk") = static_cast<int>(kChunk));
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
      [](const std::string& target, bool is_double, nb::handle dy, Index dy_row, nb::handle x, Index x_start,
         Index x_row, Index x_lines, nb::handle tap, Index rows, Index count, nb::handle sums) {
        const auto run = is_double ? run_correlate_channels<double> : run_correlate_channels<float>;
        run(target_named(target), dy, dy_row, x, x_start, x_row, x_lines, tap, rows, count, sums);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("dy"), nb::arg("dy_row"), nb::arg("x"),
      nb::arg("x_start"), nb::arg("x_row"), nb::arg("x_lines"), nb::arg("tap"), nb::arg("rows"),
      nb::arg("count"), nb::arg("sums"));
  m.def(
      "add_lanes",
      [](const std::string& target, bool is_double, nb::handle sums, Index count, nb::handle totals,
         bool of_vectors) {
        const auto run = is_double ? run_add_lanes<double> : run_add_lanes<float>;
        run(target_named(target), sums, count, totals, of_vectors);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("sums"), nb::arg("count"), nb::arg("totals"),
      nb::arg("of_vectors"));
}

}  // namespace windrow::python
