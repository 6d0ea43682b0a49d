#include "arrays.hpp"

#include <limits>
#include <vector>

namespace windrow::python {

bool is_plain(nb::handle value, int dtype, const Extents& shape) {
  if (!PyArray_CheckExact(value.ptr())) return false;
  auto* array = reinterpret_cast<PyArrayObject*>(value.ptr());
  if (PyArray_TYPE(array) != dtype || !PyArray_ISBEHAVED_RO(array)) return false;
  if (PyArray_NDIM(array) != static_cast<int>(shape.size())) return false;
  const npy_intp itemsize = PyArray_ITEMSIZE(array);
  const npy_intp* dims = PyArray_DIMS(array);
  const npy_intp* strides = PyArray_STRIDES(array);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (dims[i] != shape[i] || (shape[i] > 1 && strides[i] % itemsize != 0)) return false;
  }
  return true;
}

Extents element_strides(PyArrayObject* array) {
  const npy_intp itemsize = PyArray_ITEMSIZE(array);
  Extents strides(static_cast<std::size_t>(PyArray_NDIM(array)));
  for (std::size_t i = 0; i < strides.size(); ++i)
    strides[i] = PyArray_STRIDE(array, static_cast<int>(i)) / itemsize;
  return strides;
}

namespace {

// The error of an array that NumPy did not make: the allocator refused it, or int64 cannot count its bytes.
[[noreturn]] void refuse_array(const char* name, int dtype, const Extents& shape) {
  const bool refused = PyErr_ExceptionMatches(PyExc_MemoryError);
  PyErr_Clear();
  const auto descr = nb::steal(reinterpret_cast<PyObject*>(PyArray_DescrFromType(dtype)));
  nb::list sizes;
  nb::object bytes = nb::int_(PyDataType_ELSIZE(reinterpret_cast<PyArray_Descr*>(descr.ptr())));
  for (const Index size : shape) {
    sizes.append(size);
    if (size > 0) bytes = bytes * nb::int_(size);  // NumPy too leaves out axes of length 0
  }
  if (refused) {
    PyErr_Format(PyExc_MemoryError, "%s: cannot allocate %S bytes for shape %S of %S", name, bytes.ptr(),
                 nb::tuple(sizes).ptr(), descr.ptr());
  } else {
    PyErr_Format(PyExc_ValueError, "%s: expected at most %lld bytes, got %S for shape %S of %S", name,
                 static_cast<long long>(std::numeric_limits<Index>::max()), bytes.ptr(),
                 nb::tuple(sizes).ptr(), descr.ptr());
  }
  throw nb::python_error();
}

}  // namespace

nb::object new_array(const char* name, int dtype, const Extents& shape, bool channels_last) {
  std::vector<npy_intp> dims(shape.begin(), shape.end());
  const std::size_t rank = dims.size();
  if (channels_last) {
    for (std::size_t i = 2; i < rank; ++i) dims[i - 1] = shape[i];
    dims[rank - 1] = shape[1];
  }
  nb::object array = nb::steal(PyArray_SimpleNew(static_cast<int>(rank), dims.data(), dtype));
  if (!array.is_valid()) refuse_array(name, dtype, shape);
  if (!channels_last) return array;
  std::vector<npy_intp> order(rank);
  order[0] = 0;
  order[1] = static_cast<npy_intp>(rank) - 1;
  for (std::size_t i = 2; i < rank; ++i) order[i] = static_cast<npy_intp>(i) - 1;
  PyArray_Dims permutation{order.data(), static_cast<int>(rank)};
  return nb::steal(PyArray_Transpose(reinterpret_cast<PyArrayObject*>(array.ptr()), &permutation));
}

bool is_channels_last(PyArrayObject* array) {
  const int rank = PyArray_NDIM(array);
  if (rank < 3 || PyArray_DIM(array, 1) < 2 || PyArray_STRIDE(array, 1) != PyArray_ITEMSIZE(array))
    return false;
  npy_intp least = PyArray_STRIDE(array, 1);
  bool spatial = false;
  for (int axis = rank - 1; axis >= 0; --axis) {
    if (axis == 1) continue;
    const npy_intp size = PyArray_DIM(array, axis);
    if (axis > 1 && size == 0) return false;
    if (size < 2) continue;
    spatial = spatial || axis > 1;
    if (PyArray_STRIDE(array, axis) <= least) return false;
    least = PyArray_STRIDE(array, axis);
  }
  return spatial;
}

}  // namespace windrow::python
