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
// lanes of mask[s]. The first one of each vector goes to the kernel's first pass, the others to its second.
template <class T>
void run_gather(const Target& target, nb::handle target_array, nb::handle source_array, nb::handle offsets,
                nb::handle masks, nb::handle firsts, Index step) {
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
                  .ahead = 0});
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
         nb::handle mask, nb::handle first, Index step) {
        const auto run = is_double ? run_gather<double> : run_gather<float>;
        run(target_named(target), to, source, offset, mask, first, step);
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("to"), nb::arg("source"), nb::arg("offset"),
      nb::arg("mask"), nb::arg("first"), nb::arg("step"));
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
