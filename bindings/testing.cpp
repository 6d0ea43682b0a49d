// windrow._core._testing: kernels and targets by name, for the project's own tests and benchmarks. Not
// public.
#include <nanobind/stl/string.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "base/workspace.hpp"
#include "context.hpp"
#include "dispatch/targets.hpp"
#include "modules.hpp"

namespace windrow::python {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

template <class T>
double best_fma_rate(const Target& target, double seconds) {
  const KernelTable<T>& kernels = target.kernels<T>();
  double best = 0;
  const auto start = Clock::now();
  do {
    const auto begin = Clock::now();
    const double flops = kernels.fma_rounds(20000);
    best = std::max(best, flops / seconds_since(begin));
  } while (seconds_since(start) < seconds);
  return best;
}

// FLOP/s of independent multiply-adds in registers: the most that one thread of this machine can do.
double fma_peak(const std::string& dtype, double seconds) {
  const nb::gil_scoped_release released;
  const Target& target = current_target();
  return dtype == "float64" ? best_fma_rate<double>(target, seconds) : best_fma_rate<float>(target, seconds);
}

template <class T>
T* checked(nb::handle array, Index at_least, const char* name) {
  auto* a = reinterpret_cast<PyArrayObject*>(array.ptr());
  if (!PyArray_Check(array.ptr()) || PyArray_TYPE(a) != dtype_of<T>() || !PyArray_IS_C_CONTIGUOUS(a))
    throw nb::type_error(name);
  if (PyArray_SIZE(a) < at_least) throw nb::value_error(name);
  return data_of<T>(a);
}

// The product kernel on packed operands: a [rows][k], b [k][vectors * lanes], c [rows][vectors * lanes].
template <class T>
void run_product(const Target& target, nb::handle a, nb::handle b, nb::handle c, int rows, int vectors,
                 Index k, bool accumulate, nb::handle bias) {
  const KernelTable<T>& kernels = target.kernels<T>();
  if (rows < 1 || rows > kernels.rows || vectors < 1 || vectors > kernels.vectors || k < 0)
    throw std::invalid_argument("rows, vectors or k outside the tile");
  const Index width = Index{vectors} * kernels.lanes;
  std::vector<std::ptrdiff_t> a_offset(static_cast<std::size_t>(k)), b_offset(static_cast<std::size_t>(k));
  for (Index i = 0; i < k; ++i) {
    a_offset[static_cast<std::size_t>(i)] = i;
    b_offset[static_cast<std::size_t>(i)] = i * width;
  }
  const Product<T> product{.a = checked<T>(a, rows * k, "a"),
                           .a_row = k,
                           .a_offset = a_offset.data(),
                           .b = checked<T>(b, k * width, "b"),
                           .b_offset = b_offset.data(),
                           .c = checked<T>(c, rows * width, "c"),
                           .c_row = width,
                           .k = k,
                           .accumulate = accumulate,
                           .bias = bias.is_none() ? nullptr : checked<T>(bias, rows, "bias")};
  kernels.product(product, rows, vectors);
}

const Target& target_named(const std::string& name) {
  for (const Target& target : targets_built())
    if (target.name == name && target.runs_here()) return target;
  throw std::invalid_argument("unknown target " + name);
}

}  // namespace

void bind_testing(nb::module_& m) {
  m.attr("CHUNK") = kChunk;
  m.def("fma_peak", &fma_peak, nb::arg("dtype"), nb::arg("seconds"));
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
      [](const std::string& target, bool is_double, nb::handle a, nb::handle b, nb::handle c, int rows,
         int vectors, Index k, bool accumulate, nb::handle bias) {
        if (is_double) {
          run_product<double>(target_named(target), a, b, c, rows, vectors, k, accumulate, bias);
        } else {
          run_product<float>(target_named(target), a, b, c, rows, vectors, k, accumulate, bias);
        }
      },
      nb::arg("target"), nb::arg("is_double"), nb::arg("a"), nb::arg("b"), nb::arg("c"), nb::arg("rows"),
      nb::arg("vectors"), nb::arg("k"), nb::arg("accumulate"), nb::arg("bias").none());
}

}  // namespace windrow::python
