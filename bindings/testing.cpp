// windrow._core._testing: kernels by name and machine peaks, for the project's own tests and
// benchmarks. Not public.
#include <nanobind/stl/string.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "arrays.hpp"
#include "base/border.hpp"
#include "base/workspace.hpp"
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

}  // namespace

void bind_testing(nb::module_& m) {
  m.def("fma_peak", &fma_peak, nb::arg("dtype"), nb::arg("seconds"));
  m.def("refuse_scratch", &refuse_scratch, nb::arg("after"));
  m.def(
      "border_run",
      [](int border, Index position, Index pace, Index most, Index size) {
        const BorderRun run = border_run(static_cast<Border>(border), position, pace, most, size);
        return nb::make_tuple(run.count, run.pixel, run.step);
      },
      nb::arg("border"), nb::arg("position"), nb::arg("pace"), nb::arg("most"), nb::arg("size"));
  bind_kernels(m);
  bind_row_kernels(m);
}

}  // namespace windrow::python
