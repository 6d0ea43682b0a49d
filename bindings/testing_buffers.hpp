// What tests hand to kernels, and how far it reaches.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "arrays.hpp"
#include "dispatch/targets.hpp"

namespace windrow::python {

inline const Target& target_named(const std::string& name) {
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

inline Index whole_vectors(Index count, Index lanes) { return (count + lanes - 1) / lanes * lanes; }

}  // namespace windrow::python
