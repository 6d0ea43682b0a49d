// NumPy arrays seen from C++. This header is the only one that includes NumPy's.
#pragma once

#include <Python.h>

#define PY_ARRAY_UNIQUE_SYMBOL windrow_array_api
#if !defined(WINDROW_IMPORT_ARRAY)
#define NO_IMPORT_ARRAY
#endif
#include <nanobind/nanobind.h>
#include <numpy/arrayobject.h>

#include <initializer_list>

#include "base/types.hpp"

namespace windrow::python {

namespace nb = nanobind;

// Whether a result can be written to this array without a further look: it is writeable, its elements can be
// seen not to overlap, and it shares no memory with the others (None, or arrays).
bool is_free_result(PyArrayObject* out, std::initializer_list<nb::handle> inputs);

// A new array, C-ordered, or with axis 1 innermost in memory. Raises MemoryError with the bytes in its text.
nb::object new_array(const char* name, int dtype, const Extents& shape, bool channels_last);

// Whether an array (N, C, spatial...) lies in memory as N, spatial..., C: windrow.arrays.is_channels_last.
bool is_channels_last(PyArrayObject* array);

template <class T>
constexpr int dtype_of() {
  return sizeof(T) == sizeof(float) ? NPY_FLOAT32 : NPY_FLOAT64;
}

template <class T>
T* data_of(PyArrayObject* array) {
  return static_cast<T*>(PyArray_DATA(array));
}

}  // namespace windrow::python
