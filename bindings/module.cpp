#define WINDROW_IMPORT_ARRAY
#include <nanobind/stl/string.h>

#include <string>

#include "arrays.hpp"
#include "context.hpp"
#include "dispatch/targets.hpp"
#include "modules.hpp"

namespace windrow::python {
namespace {

nb::object import_numpy() {
  if (_import_array() < 0) throw nb::python_error();
  return nb::none();
}

void bind_targets(nb::module_& m) {
  m.def("targets_built", [] {
    nb::list names;
    for (const Target& target : targets_built()) names.append(target.name);
    return names;
  });
  m.def("targets_available", [] {
    nb::list names;
    for (const Target& target : targets_built())
      if (target.runs_here()) names.append(target.name);
    return names;
  });
  m.def("target", [] { return current_target().name; });
  // An empty name takes the best target of this machine.
  m.def(
      "set_target", [](const std::string& name) { set_current_target(select_target(name)); },
      nb::arg("name"));
}

}  // namespace
}  // namespace windrow::python

NB_MODULE(windrow_core, m) {
  using namespace windrow::python;
  // Prepared problems live in a cache until Python has ended, and so do threads that still compute: no leak.
  nanobind::set_leak_warnings(false);
  import_numpy();
  m.attr("__version__") = WINDROW_VERSION;
  m.attr("compiler") = WINDROW_COMPILER;
  bind_context(m);
  bind_targets(m);
  bind_conv(m);
  bind_prepared(m);
  bind_patches(m);
  bind_pool(m);
  nb::module_ testing = m.def_submodule("_testing");
  bind_testing(testing);
}

// Threads, workspaces and signals belong to the process, and NumPy to the main interpreter. Refused before
// nanobind begins: a second beginning would spoil what the main interpreter has.
extern "C" NB_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return PyInit_windrow_core();
  PyErr_SetString(PyExc_ImportError,
                  "windrow: expected the main interpreter of the process, got a subinterpreter");
  return nullptr;
}
