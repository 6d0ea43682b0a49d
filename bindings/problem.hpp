// What the other bindings need of windrow._core.Conv.
#pragma once

#include "api/conv.hpp"
#include "arrays.hpp"

namespace windrow::python {

// Whether `problem`, a _core.Conv, is one on arrays of x's shape.
bool is_problem_of(nb::handle problem, PyArrayObject* x);

// _core.Conv.forward of a prepared layer, with limits on the result.
nb::object forward(nb::handle problem, nb::handle x, nb::handle w, nb::handle b, nb::object out,
                   int algorithm, const Limits& limits, KeptWeights& kept);

// Whether an `out` that nobody has checked may be written as it is: None, or an array that `is_free_result`.
bool takes_result(nb::handle out, std::initializer_list<nb::handle> inputs);

}  // namespace windrow::python
