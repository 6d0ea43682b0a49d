// How a call runs: its threads, the GIL, interrupts.
#pragma once

#include <nanobind/nanobind.h>

#include <exception>
#include <utility>

#include "base/parallel.hpp"

namespace windrow::python {

namespace nb = nanobind;

int get_num_threads();  // of the calling thread: its own override, else the process's
void bind_context(nb::module_& m);

RunContext run_context();

// Throws what nanobind passes on to Python.
[[noreturn]] void raise(std::exception_ptr error);

// Takes the GIL back.
void restore_thread(PyThreadState* state);

// Runs `body(context)` without the GIL; an interrupt comes back as the Python exception that the handler
// raised, scratch memory that the system refuses as a MemoryError.
template <class Body>
void run_released(Body&& body) {
  const RunContext context = run_context();
  std::exception_ptr error;
  PyThreadState* const state = PyEval_SaveThread();
  try {
    body(context);
  } catch (...) {
    error = std::current_exception();
  }
  restore_thread(state);
  if (error) raise(std::move(error));
}

}  // namespace windrow::python
