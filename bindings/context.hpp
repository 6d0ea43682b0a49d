// How a call runs: its threads, the GIL, interrupts.
#pragma once

#include <nanobind/nanobind.h>

#include "base/parallel.hpp"

namespace windrow::python {

namespace nb = nanobind;

int get_num_threads();  // of the calling thread: its own override, else the process's
void bind_context(nb::module_& m);

RunContext run_context();

// Runs `body(context)` without the GIL; an interrupt comes back as the Python exception that the handler
// raised.
template <class Body>
void run_released(Body&& body) {
  const RunContext context = run_context();
  try {
    const nb::gil_scoped_release released;
    body(context);
  } catch (const Interrupted&) {
    throw nb::python_error();
  }
}

}  // namespace windrow::python
