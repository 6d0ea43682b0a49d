// windrow._core.Pool: one pooling problem, ready to run on arrays; and scatter, the way back of a maximum.
#include "api/pool.hpp"

#include <utility>

#include "arrays.hpp"
#include "context.hpp"
#include "drivers/pool.hpp"
#include "modules.hpp"

namespace windrow::python {
namespace {

Extents extents(nb::handle sequence) {
  Extents values;
  for (nb::handle value : sequence) values.push_back(nb::cast<Index>(value));
  return values;
}

// An array that the core can read in place, or nothing.
class Plain {
 public:
  Plain(nb::handle value, int dtype, const Extents& shape) {
    if (!PyArray_CheckExact(value.ptr())) return;
    auto* array = reinterpret_cast<PyArrayObject*>(value.ptr());
    if (PyArray_TYPE(array) != dtype || !PyArray_ISBEHAVED_RO(array)) return;
    if (PyArray_NDIM(array) != static_cast<int>(shape.size())) return;
    const npy_intp bytes = PyArray_ITEMSIZE(array);
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const npy_intp stride = PyArray_STRIDE(array, static_cast<int>(i));
      if (PyArray_DIM(array, static_cast<int>(i)) != shape[i] || (shape[i] > 1 && stride % bytes != 0))
        return;
      strides_.push_back(stride / bytes);
    }
    array_ = array;
  }
  explicit operator bool() const { return array_ != nullptr; }
  PyArrayObject* array() const { return array_; }
  const Index* strides() const { return strides_.data(); }
  template <class T>
  ArrayView<const T> input() const {
    return {data_of<const T>(array_), strides_.data()};
  }
  template <class T>
  ArrayView<T> output() const {
    return {data_of<T>(array_), strides_.data()};
  }

 private:
  PyArrayObject* array_ = nullptr;
  Extents strides_;
};

template <class Body>
nb::object with_type_of(nb::handle array, Body&& body) {
  const int dtype =
      PyArray_Check(array.ptr()) ? PyArray_TYPE(reinterpret_cast<PyArrayObject*>(array.ptr())) : NPY_NOTYPE;
  if (dtype == NPY_FLOAT32) return body(float{});
  if (dtype == NPY_FLOAT64) return body(double{});
  return nb::none();
}

// Work of a microsecond is not worth giving the GIL back.
template <class Body>
void run_maybe_released(Index elements, Body&& body) {
  constexpr Index kTiny = 4096;
  if (elements > kTiny) return run_released(std::forward<Body>(body));
  body(RunContext{});
}

// Every method returns None, and has done nothing, where an array is not plain.
class Pool {
 public:
  Pool(Index n, Index c, nb::handle size, nb::handle kernel_size, nb::handle stride, nb::handle dilation,
       nb::handle before, nb::handle output_size)
      : shape_{.n = n, .c = c, .axes = {}}, x_shape_{n, c}, y_shape_{n, c} {
    const Extents sizes = extents(size), kernels = extents(kernel_size), strides = extents(stride),
                  dilations = extents(dilation), befores = extents(before), outs = extents(output_size);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      shape_.axes.push_back(within_reach({.size = sizes[i],
                                          .out = outs[i],
                                          .kernel = kernels[i],
                                          .stride = strides[i],
                                          .dilation = dilations[i],
                                          .before = befores[i]}));
      x_shape_.push_back(sizes[i]);
      y_shape_.push_back(outs[i]);
    }
  }

  // With `indices`, an int64 array of y's shape, or none.
  nb::object max(nb::handle x, nb::object out, nb::handle indices, bool magnitude) const {
    return with_type_of(x, [&]<class T>(T) -> nb::object {
      const Plain x_in(x, dtype_of<T>(), x_shape_), from(indices, NPY_INT64, y_shape_);
      if (!x_in || (!from && !indices.is_none())) return nb::none();
      if (out.is_none()) out = new_array("y", dtype_of<T>(), y_shape_, is_channels_last(x_in.array()));
      const Plain y(out, dtype_of<T>(), y_shape_);
      if (!y) return nb::none();
      const IndexView index =
          from ? IndexView{data_of<std::int64_t>(from.array()), from.strides()} : IndexView{};
      run_maybe_released(PyArray_SIZE(x_in.array()), [&](const RunContext& context) {
        max_pool<T>(shape_, x_in.input<T>(), y.output<T>(), index, magnitude, context);
      });
      return std::move(out);
    });
  }

  nb::object sum(nb::handle x, nb::object out, double divisor) const {
    return with_type_of(x, [&]<class T>(T) -> nb::object {
      const Plain x_in(x, dtype_of<T>(), x_shape_);
      if (!x_in) return nb::none();
      if (out.is_none()) out = new_array("y", dtype_of<T>(), y_shape_, is_channels_last(x_in.array()));
      const Plain y(out, dtype_of<T>(), y_shape_);
      if (!y) return nb::none();
      run_maybe_released(PyArray_SIZE(x_in.array()), [&](const RunContext& context) {
        sum_pool<T>(shape_, x_in.input<T>(), y.output<T>(), static_cast<T>(divisor), context);
      });
      return std::move(out);
    });
  }

  nb::object norm(nb::handle x, nb::object out, double p) const {
    return with_type_of(x, [&]<class T>(T) -> nb::object {
      const Plain x_in(x, dtype_of<T>(), x_shape_);
      if (!x_in) return nb::none();
      if (out.is_none()) out = new_array("y", dtype_of<T>(), y_shape_, is_channels_last(x_in.array()));
      const Plain y(out, dtype_of<T>(), y_shape_);
      if (!y) return nb::none();
      run_maybe_released(PyArray_SIZE(x_in.array()), [&](const RunContext& context) {
        norm_pool<T>(shape_, x_in.input<T>(), y.output<T>(), static_cast<T>(p), context);
      });
      return std::move(out);
    });
  }

  nb::object sum_backward(nb::handle dy, nb::object out, double divisor) const {
    return with_type_of(dy, [&]<class T>(T) -> nb::object {
      const Plain dy_in(dy, dtype_of<T>(), y_shape_);
      if (!dy_in) return nb::none();
      if (out.is_none()) out = new_array("dx", dtype_of<T>(), x_shape_, is_channels_last(dy_in.array()));
      const Plain dx(out, dtype_of<T>(), x_shape_);
      if (!dx) return nb::none();
      run_maybe_released(PyArray_SIZE(dx.array()), [&](const RunContext& context) {
        sum_pool_backward<T>(shape_, dy_in.input<T>(), dx.output<T>(), static_cast<T>(divisor), context);
      });
      return std::move(out);
    });
  }

 private:
  PoolShape shape_;
  Extents x_shape_, y_shape_;
};

// On arrays (N, C, positions), (N, C, positions) and (N, C, size). None where one is not plain, else whether
// all indices were in range.
nb::object scatter(nb::handle values, nb::handle indices, nb::handle image, int kind) {
  return with_type_of(values, [&]<class T>(T) -> nb::object {
    if (!PyArray_Check(indices.ptr()) || !PyArray_Check(image.ptr())) return nb::none();
    const auto shape_of = [](nb::handle array) {
      auto* a = reinterpret_cast<PyArrayObject*>(array.ptr());
      return Extents(PyArray_DIMS(a), PyArray_DIMS(a) + PyArray_NDIM(a));
    };
    const Extents shape = shape_of(values), image_shape = shape_of(image);
    const Plain v(values, dtype_of<T>(), shape), from(indices, NPY_INT64, shape),
        to(image, dtype_of<T>(), image_shape);
    if (!v || !from || !to || shape.size() != 3 || image_shape.size() != 3) return nb::none();
    const Scatter<T> problem{.images = shape[0],
                             .channels = shape[1],
                             .positions = shape[2],
                             .size = image_shape[2],
                             .values = data_of<T>(v.array()),
                             .value_image = v.strides()[0],
                             .value_channel = v.strides()[1],
                             .value_step = v.strides()[2],
                             .indices = data_of<const std::int64_t>(from.array()),
                             .index_image = from.strides()[0],
                             .index_channel = from.strides()[1],
                             .index_step = from.strides()[2],
                             .image = data_of<T>(to.array()),
                             .image_image = to.strides()[0],
                             .image_channel = to.strides()[1],
                             .image_step = to.strides()[2]};
    bool good = true;
    run_maybe_released(PyArray_SIZE(to.array()) + PyArray_SIZE(v.array()), [&](const RunContext& context) {
      good = run_scatter(problem, static_cast<ScatterKind>(kind), context);
    });
    return nb::bool_(good);
  });
}

}  // namespace

void bind_pool(nb::module_& m) {
  nb::class_<Pool>(m, "Pool")
      .def(nb::init<Index, Index, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle>(),
           nb::arg("n"), nb::arg("c"), nb::arg("size"), nb::arg("kernel_size"), nb::arg("stride"),
           nb::arg("dilation"), nb::arg("before"), nb::arg("output_size"))
      .def("max", &Pool::max, nb::arg("x").none(), nb::arg("out").none(), nb::arg("indices").none(),
           nb::arg("magnitude") = false)
      .def("norm", &Pool::norm, nb::arg("x").none(), nb::arg("out").none(), nb::arg("p"))
      .def("sum", &Pool::sum, nb::arg("x").none(), nb::arg("out").none(), nb::arg("divisor"))
      .def("sum_backward", &Pool::sum_backward, nb::arg("dy").none(), nb::arg("out").none(),
           nb::arg("divisor"));
  m.def(
      "scatter",
      [](nb::handle values, nb::handle indices, nb::handle image, int kind) {
        const nb::object good = scatter(values, indices, image, kind);
        return good.is_none() ? -1 : static_cast<int>(nb::cast<bool>(good));
      },
      nb::arg("x"), nb::arg("indices"), nb::arg("image"), nb::arg("kind"));
}

}  // namespace windrow::python
