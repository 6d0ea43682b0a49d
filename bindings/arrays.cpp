#include "arrays.hpp"

#include <cstdlib>
#include <limits>
#include <vector>

namespace windrow::python {

namespace {

// The bytes from the first to the last that an array uses.
struct Span {
  const char* low;
  const char* high;
};

Span span_of(PyArrayObject* array) {
  const char* low = PyArray_BYTES(array);
  const char* high = low + PyArray_ITEMSIZE(array);
  for (int i = 0; i < PyArray_NDIM(array); ++i) {
    if (PyArray_DIM(array, i) == 0) return {low, low};
    const npy_intp reach = (PyArray_DIM(array, i) - 1) * PyArray_STRIDE(array, i);
    (reach < 0 ? low : high) += reach;
  }
  return {low, high};
}

// Whether each axis, from the smallest stride on, steps over all that the axes before it reach.
bool steps_over_itself(PyArrayObject* array) {
  constexpr int kMostAxes = 8;
  const int rank = PyArray_NDIM(array);
  if (rank > kMostAxes) return false;
  int order[kMostAxes], count = 0;
  const auto step = [&](int axis) { return std::abs(PyArray_STRIDE(array, axis)); };
  for (int i = 0; i < rank; ++i) {
    if (PyArray_DIM(array, i) < 2) continue;
    int at = count++;
    for (; at > 0 && step(order[at - 1]) > step(i); --at) order[at] = order[at - 1];
    order[at] = i;
  }
  npy_intp reach = PyArray_ITEMSIZE(array) - 1;
  for (int i = 0; i < count; ++i) {
    if (step(order[i]) <= reach) return false;
    reach += step(order[i]) * (PyArray_DIM(array, order[i]) - 1);
  }
  return true;
}

}  // namespace

bool is_free_result(PyArrayObject* out, std::initializer_list<nb::handle> inputs) {
  if (!PyArray_ISWRITEABLE(out)) return false;
  if (!PyArray_IS_C_CONTIGUOUS(out) && !steps_over_itself(out)) return false;
  const Span written = span_of(out);
  for (nb::handle input : inputs) {
    if (input.is_none()) continue;
    const Span read = span_of(reinterpret_cast<PyArrayObject*>(input.ptr()));
    if (written.low < read.high && read.low < written.high) return false;
  }
  return true;
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
