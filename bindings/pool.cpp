// windrow._core.Pool: one pooling problem, ready to run on arrays; and scatter, the way back of a maximum.
#include "api/pool.hpp"

#include <nanobind/stl/optional.h>

#include <functional>
#include <numeric>
#include <optional>
#include <utility>

#include "arrays.hpp"
#include "context.hpp"
#include "dispatch/targets.hpp"
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
  // `border`: one of Border, with `beyond` pixels at the end of each axis; a constant one of `fill`, or of
  // none.
  Pool(Index n, Index c, nb::handle size, nb::handle kernel_size, nb::handle stride, nb::handle dilation,
       nb::handle before, nb::handle output_size, int border, nb::handle beyond, std::optional<double> fill)
      : shape_{.n = n, .c = c, .axes = {}, .beyond = extents(beyond), .fill = fill},
        x_shape_{n, c},
        y_shape_{n, c} {
    const Extents sizes = extents(size), kernels = extents(kernel_size), strides = extents(stride),
                  dilations = extents(dilation), befores = extents(before), outs = extents(output_size);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      shape_.axes.push_back(within_reach({.size = sizes[i],
                                          .out = outs[i],
                                          .kernel = kernels[i],
                                          .stride = strides[i],
                                          .dilation = dilations[i],
                                          .before = befores[i],
                                          .border = static_cast<Border>(border)}));
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

  // New maxima and their places.
  nb::object max_with_indices(nb::handle x) const {
    if (!PyArray_CheckExact(x.ptr())) return nb::none();
    const bool last = is_channels_last(reinterpret_cast<PyArrayObject*>(x.ptr()));
    nb::object indices = new_array("indices", NPY_INT64, y_shape_, last);
    nb::object y = max(x, nb::none(), indices, false);
    if (y.is_none()) return y;
    return nb::make_tuple(y, indices);
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

  // Of one of PoolPass.
  nb::dict plan(int pass, bool is_double, bool channels_last) const {
    const auto which = static_cast<PoolPass>(pass);
    const PoolPlan p = is_double ? plan_pool<double>(shape_, which, channels_last)
                                 : plan_pool<float>(shape_, which, channels_last);
    nb::dict result;
    result["kernel"] = p.kernel;
    result["target"] = current_target().name;
    result["lanes"] = p.lanes;
    result["along"] = p.along;
    result["share"] = p.share;
    result["pieces"] = p.pieces;
    return result;
  }

 private:
  PoolShape shape_;
  Extents x_shape_, y_shape_;
};

// Strides of images (N, C, spatial...) whose spatial axes are as good as one.
struct Flat {
  Index image = 0, channel = 0, step = 0;

  static std::optional<Flat> of(const Plain& array, const Extents& shape) {
    const Index* strides = array.strides();
    Flat flat{.image = strides[0], .channel = strides[1], .step = 1};
    bool found = false;
    Index next = 0;
    for (std::size_t i = shape.size(); i-- > 2;) {
      if (shape[i] == 1) continue;
      if (!found) flat.step = strides[i];
      if (found && strides[i] != next) return std::nullopt;
      found = true;
      next = strides[i] * shape[i];
    }
    return flat;
  }
};

Extents shape_of(nb::handle array) {
  auto* a = reinterpret_cast<PyArrayObject*>(array.ptr());
  return Extents(PyArray_DIMS(a), PyArray_DIMS(a) + PyArray_NDIM(a));
}

Index positions_of(const Extents& shape) {
  return std::accumulate(shape.begin() + 2, shape.end(), Index{1}, std::multiplies<>{});
}

// None where one of the arrays is not plain, else whether all indices were in range.
template <class T>
nb::object scatter_of(nb::handle values, nb::handle indices, nb::handle image, ScatterKind kind) {
  if (!PyArray_Check(indices.ptr()) || !PyArray_Check(image.ptr())) return nb::none();
  const Extents shape = shape_of(values), image_shape = shape_of(image);
  if (shape.size() < 3 || image_shape.size() < 3) return nb::none();
  const Plain v(values, dtype_of<T>(), shape), from(indices, NPY_INT64, shape),
      to(image, dtype_of<T>(), image_shape);
  if (!v || !from || !to) return nb::none();
  const bool halves = shape.size() == 4 && image_shape[2] == 2 * shape[2] && image_shape[3] == 2 * shape[3];
  const std::optional<Flat> value = Flat::of(v, shape), index = Flat::of(from, shape),
                            place = Flat::of(to, image_shape);
  if (!value || !index || !place) return nb::none();
  const Scatter<T> problem{.images = shape[0],
                           .channels = shape[1],
                           .positions = positions_of(shape),
                           .size = positions_of(image_shape),
                           .values = data_of<T>(v.array()),
                           .value_image = value->image,
                           .value_channel = value->channel,
                           .value_step = value->step,
                           .indices = data_of<const std::int64_t>(from.array()),
                           .index_image = index->image,
                           .index_channel = index->channel,
                           .index_step = index->step,
                           .image = data_of<T>(to.array()),
                           .image_image = place->image,
                           .image_channel = place->channel,
                           .image_step = place->step,
                           .width = halves ? shape[3] : 0};
  bool good = true;
  run_maybe_released(PyArray_SIZE(to.array()) + PyArray_SIZE(v.array()),
                     [&](const RunContext& context) { good = run_scatter(problem, kind, context); });
  return nb::bool_(good);
}

nb::object scatter(nb::handle values, nb::handle indices, nb::handle image, int kind) {
  return with_type_of(values, [&]<class T>(T) {
    return scatter_of<T>(values, indices, image, static_cast<ScatterKind>(kind));
  });
}

// A new image of this shape, whose first two sizes are those of the values, from values and indices that are
// in range; else None.
nb::object scatter_to_new(nb::handle values, nb::handle indices, nb::handle shape, int kind) {
  return with_type_of(values, [&]<class T>(T) -> nb::object {
    if (!PyTuple_CheckExact(shape.ptr())) return nb::none();
    auto* array = reinterpret_cast<PyArrayObject*>(values.ptr());
    const auto rank = static_cast<std::size_t>(PyArray_NDIM(array));
    Extents sizes;
    for (nb::handle size : nb::borrow<nb::tuple>(shape)) {
      if (!PyLong_CheckExact(size.ptr())) return nb::none();
      const Index value = PyLong_AsSsize_t(size.ptr());
      if (value < 0) PyErr_Clear();
      if (value < 0) return nb::none();
      sizes.push_back(value);
    }
    if (rank < 3 || sizes.size() != rank || sizes[0] != PyArray_DIM(array, 0) ||
        sizes[1] != PyArray_DIM(array, 1))
      return nb::none();
    // Before the memory is asked for.
    if (!PyArray_Check(indices.ptr()) || !Plain(values, dtype_of<T>(), shape_of(values)) ||
        !Plain(indices, NPY_INT64, shape_of(values)))
      return nb::none();
    nb::object image = new_array(kind == static_cast<int>(ScatterKind::kAdd) ? "dx" : "y", dtype_of<T>(),
                                 sizes, is_channels_last(array));
    const nb::object good = scatter_of<T>(values, indices, image, static_cast<ScatterKind>(kind));
    return good.is(nb::bool_(true)) ? image : nb::none();
  });
}

}  // namespace

void bind_pool(nb::module_& m) {
  nb::class_<Pool>(m, "Pool")
      .def(nb::init<Index, Index, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle, int,
                    nb::handle, std::optional<double>>(),
           nb::arg("n"), nb::arg("c"), nb::arg("size"), nb::arg("kernel_size"), nb::arg("stride"),
           nb::arg("dilation"), nb::arg("before"), nb::arg("output_size"), nb::arg("border"),
           nb::arg("beyond"), nb::arg("fill").none())
      .def("max", &Pool::max, nb::arg("x").none(), nb::arg("out").none(), nb::arg("indices").none(),
           nb::arg("magnitude") = false)
      .def("max_with_indices", &Pool::max_with_indices, nb::arg("x").none())
      .def("plan", &Pool::plan, nb::arg("which"), nb::arg("is_double"), nb::arg("channels_last"))
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
  m.def("scatter_to_new", &scatter_to_new, nb::arg("x").none(), nb::arg("indices").none(),
        nb::arg("shape").none(), nb::arg("kind"));
}

}  // namespace windrow::python
