#include "context.hpp"

#include <atomic>
#include <chrono>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#endif

#include "base/machine.hpp"
#include "base/workspace.hpp"

namespace windrow::python {
namespace {

std::atomic<int> g_threads{0};   // of the process; 0: not set, use the machine's
thread_local int t_threads = 0;  // of the calling thread; 0: no override
std::atomic<unsigned long> g_main_thread{0};

#if !defined(_WIN32)
// The thread that forks is the main thread of its child.
[[maybe_unused]] const int g_registered =
    pthread_atfork(nullptr, nullptr, [] { g_main_thread = PyThread_get_thread_ident(); });
#endif

// The main thread's number, without an import of `threading`: where nobody has imported that, there are no
// other threads that could be importing us.
unsigned long main_thread() {
  const nb::object modules = nb::module_::import_("sys").attr("modules");
  const nb::object threading = modules.attr("get")("threading");
  if (threading.is_none()) return PyThread_get_thread_ident();
  return nb::cast<unsigned long>(threading.attr("main_thread")().attr("ident"));
}

// Runs Python's signal handlers; true if one of them raised. Only the main thread hears signals.
bool interrupted() {
  const nb::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

}  // namespace

int get_num_threads() {
  if (t_threads > 0) return t_threads;
  int threads = g_threads.load(std::memory_order_relaxed);
  if (threads == 0) {
    threads = usable_cores();
    g_threads.store(threads, std::memory_order_relaxed);
  }
  return threads;
}

RunContext run_context() {
  const bool main = PyThread_get_thread_ident() == g_main_thread;
  return {.threads = get_num_threads(), .interrupted = main ? interrupted : nullptr};
}

void restore_thread(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    // A Python that is shutting down ends its other threads here by unwinding their stacks (before 3.14).
    // That must not reach the frames of nanobind, which are noexcept: wait for the end of the process
    // instead.
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

void raise(std::exception_ptr error) {
  try {
    std::rethrow_exception(std::move(error));
  } catch (const Interrupted&) {
    throw nb::python_error();
  } catch (const ScratchRefused& refused) {
    PyErr_Format(PyExc_MemoryError, "max_workspace: cannot allocate %zu bytes of scratch memory",
                 refused.bytes);
    throw nb::python_error();
  }
}

void bind_context(nb::module_& m) {
  g_main_thread = main_thread();
  m.def("get_num_threads", &get_num_threads);
  m.def("set_num_threads", [](int n) { g_threads.store(n, std::memory_order_relaxed); }, nb::arg("n"));
  // Sets the calling thread's own number (0: none) and returns the one it had.
  m.def("exchange_thread_override", [](int n) { return std::exchange(t_threads, n); }, nb::arg("n"));
  m.def("usable_cores", &usable_cores);
  m.def("release_workspaces", &release_workspaces);
  m.def("workspace_bytes", &workspace_bytes);
}

}  // namespace windrow::python
