// windrow._core.Conv: one convolution problem, ready to run on arrays.
#include "api/conv.hpp"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "api/small_calls.hpp"
#include "arrays.hpp"
#include "context.hpp"
#include "known.hpp"
#include "modules.hpp"
#include "problem.hpp"

namespace windrow::python {
namespace {

Extents extents(nb::handle sequence) {
  Extents values;
  for (nb::handle value : sequence) values.push_back(nb::cast<Index>(value));
  return values;
}

std::vector<WindowAxis> window_axes(nb::handle size, nb::handle kernel_size, nb::handle stride,
                                    nb::handle dilation, nb::handle before, nb::handle output_size,
                                    Border border) {
  const Extents sizes = extents(size), kernels = extents(kernel_size), strides = extents(stride),
                dilations = extents(dilation), befores = extents(before), outs = extents(output_size);
  std::vector<WindowAxis> axes;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    axes.push_back(within_reach({.size = sizes[i],
                                 .out = outs[i],
                                 .kernel = kernels[i],
                                 .stride = strides[i],
                                 .dilation = dilations[i],
                                 .before = befores[i],
                                 .border = border}));
  }
  return axes;
}

// A float array that the core can read in place, or nothing: the Python layer then prepares it, or refuses it
// in the user's words.
template <class T>
class Operand {
 public:
  Operand(nb::handle value, const Extents& shape) {
    if (!PyArray_CheckExact(value.ptr())) return;
    auto* array = reinterpret_cast<PyArrayObject*>(value.ptr());
    if (PyArray_TYPE(array) != dtype_of<T>() || !PyArray_ISBEHAVED_RO(array)) return;
    const int rank = PyArray_NDIM(array);
    if (rank != static_cast<int>(shape.size())) return;
    const Index* sizes = shape.data();
    for (int i = 0; i < rank; ++i) {
      const npy_intp stride = PyArray_STRIDE(array, i);
      if (PyArray_DIM(array, i) != sizes[i] || (sizes[i] > 1 && stride % kBytes != 0)) return;
      strides_[i] = stride / kBytes;
    }
    array_ = array;
  }
  explicit operator bool() const { return array_ != nullptr; }
  PyArrayObject* array() const { return array_; }
  Index stride(int axis) const { return strides_[axis]; }
  ArrayView<const T> input() const { return {data_of<const T>(array_), strides_}; }
  ArrayView<T> output() const {
    if (!PyArray_ISWRITEABLE(array_))
      throw nb::value_error("out: expected a writeable array, got a read-only one");
    return {data_of<T>(array_), strides_};
  }

 private:
  static constexpr npy_intp kBytes = sizeof(T);
  PyArrayObject* array_ = nullptr;
  Index strides_[NPY_MAXDIMS];  // set as far as the rank goes
};

// Calls body with a value of the element type of `array`; None where that is not one of ours.
template <class Body>
nb::object with_type_of(nb::handle array, Body&& body) {
  const int dtype =
      PyArray_Check(array.ptr()) ? PyArray_TYPE(reinterpret_cast<PyArrayObject*>(array.ptr())) : NPY_NOTYPE;
  if (dtype == NPY_FLOAT32) return body(float{});
  if (dtype == NPY_FLOAT64) return body(double{});
  return nb::none();
}

// What "auto" stands for: WINDROW_ALGORITHM, set once at import.
Algorithm auto_algorithm = Algorithm::kAuto;

// Algorithms come as numbers, in the order of the enumeration.
Algorithm algorithm_of(int number) { return number == 0 ? auto_algorithm : static_cast<Algorithm>(number); }

// The numbers of `algorithm` that stand for a single candidate of explain, by its name.
nb::dict candidates() {
  nb::dict numbers;
  for (const auto& [name, algorithm] :
       {std::pair{"window_product", Algorithm::kWindowProduct},
        std::pair{"filter_product", Algorithm::kFilterProduct},
        std::pair{"strip_product", Algorithm::kStripProduct},
        std::pair{"winograd_2x2", Algorithm::kWinograd2}, std::pair{"winograd_4x4", Algorithm::kWinograd4}})
    numbers[name] = static_cast<int>(algorithm);
  return numbers;
}

// The same of the weight gradient.
nb::dict weight_candidates() {
  nb::dict numbers;
  for (const auto& [name, algorithm] :
       {std::pair{"runs", Algorithm::kWeightRuns}, std::pair{"side_by_side", Algorithm::kWeightSideBySide},
        std::pair{"filters", Algorithm::kWeightFilters}, std::pair{"copied", Algorithm::kWeightCopied},
        std::pair{"in_place", Algorithm::kWeightInPlace}})
    numbers[name] = static_cast<int>(algorithm);
  return numbers;
}

void set_algorithm(int number) { auto_algorithm = static_cast<Algorithm>(number); }

// One problem, with what its calls need not find out again; `border` is one of Border, `fill` what a constant
// one holds. Every method returns
// None, and has done nothing, where an operand is not plain.
class Conv {
 public:
  Conv(Index n, Index c, Index k, Index groups, nb::handle size, nb::handle kernel_size, nb::handle stride,
       nb::handle dilation, nb::handle before, nb::handle output_size, int border, double fill)
      : shape_{.n = n,
               .c = c,
               .k = k,
               .groups = groups,
               .axes = window_axes(size, kernel_size, stride, dilation, before, output_size,
                                   static_cast<Border>(border)),
               .fill = fill},
        small_(shape_),
        x_shape_{n, c},
        w_shape_{k, c / groups},
        y_shape_{n, k},
        b_shape_{k} {
    for (const WindowAxis& axis : shape_.axes) {
      x_shape_.push_back(axis.size);
      w_shape_.push_back(axis.kernel);
      y_shape_.push_back(axis.out);
    }
  }

  bool has_x_shape(PyArrayObject* x) const {
    return PyArray_NDIM(x) == static_cast<int>(x_shape_.size()) &&
           std::equal(x_shape_.begin(), x_shape_.end(), PyArray_DIMS(x));
  }

  nb::object forward(nb::handle x, nb::handle w, nb::handle b, nb::object out, Index max_workspace,
                     int algorithm) const {
    return forward(x, w, b, std::move(out), max_workspace, algorithm, {}, nullptr);
  }
  nb::object forward(nb::handle x, nb::handle w, nb::handle b, nb::object out, Index max_workspace,
                     int algorithm, const Limits& limits, KeptWeights* kept) const {
    return with_type_of(x, [&]<class T>(T) -> nb::object {
      const Operand<T> x_in(x, x_shape_), w_in(w, w_shape_), b_in(b, b_shape_);
      if (!x_in || !w_in || (!b_in && !b.is_none())) return nb::none();
      if (out.is_none()) out = new_array("y", dtype_of<T>(), y_shape_, is_channels_last(x_in.array()));
      const Operand<T> y(out, y_shape_);
      if (!y) return nb::none();
      const ArrayView<T> y_out = y.output();
      const BiasView<const T> bias =
          b_in ? BiasView<const T>{b_in.input().data, b_in.stride(0)} : BiasView<const T>{};
      const Algorithm chosen = algorithm_of(algorithm);
      if (max_workspace == 0 && chosen <= Algorithm::kDirect &&
          small_.conv<T>(x_in.input(), w_in.input(), bias, y_out, limits, current_target()))
        return std::move(out);
      run_released(max_workspace, [&](const RunContext& context) {
        conv<T>(shape_, x_in.input(), w_in.input(), bias, y_out,
                {.max_workspace = max_workspace,
                 .limits = limits,
                 .algorithm = chosen,
                 .prepared = kept != nullptr,
                 .kept = kept},
                current_target(), context);
      });
      return std::move(out);
    });
  }

  nb::object grad_input(nb::handle dy, nb::handle w, nb::object out, bool accumulate,
                        nb::handle channels_last, Index max_workspace, int algorithm) const {
    return input_side("dx", dy, w, nb::none(), std::move(out), accumulate, channels_last, max_workspace,
                      algorithm);
  }

  // The transposed convolution of x (of dy's shape) with w is the input gradient, plus a bias.
  nb::object transposed(nb::handle x, nb::handle w, nb::handle b, nb::object out, Index max_workspace,
                        int algorithm) const {
    return input_side("y", x, w, b, std::move(out), false, nb::none(), max_workspace, algorithm);
  }

  nb::object grad_weight(nb::handle dy, nb::handle x, nb::object out, bool accumulate, Index max_workspace,
                         int algorithm) const {
    return with_type_of(dy, [&]<class T>(T) -> nb::object {
      const Operand<T> dy_in(dy, y_shape_), x_in(x, x_shape_);
      if (!dy_in || !x_in) return nb::none();
      if (out.is_none()) out = new_array("dw", dtype_of<T>(), w_shape_, false);
      const Operand<T> dw(out, w_shape_);
      if (!dw) return nb::none();
      const ArrayView<T> dw_out = dw.output();
      const Algorithm chosen = algorithm_of(algorithm);
      if (max_workspace == 0 && !accumulate && may_be_small_gradient(chosen) &&
          small_.conv_grad_weight<T>(dy_in.input(), x_in.input(), dw_out, current_target()))
        return std::move(out);
      run_released(max_workspace, [&](const RunContext& context) {
        conv_grad_weight<T>(shape_, dy_in.input(), x_in.input(), dw_out,
                            {.max_workspace = max_workspace, .accumulate = accumulate, .algorithm = chosen},
                            current_target(), context);
      });
      return std::move(out);
    });
  }

  nb::dict plan(const std::string& operation, bool is_double, bool channels_last, int threads,
                Index max_workspace, int algorithm, bool is_prepared) const {
    const Pass pass = operation == "conv"              ? Pass::kForward
                      : operation == "conv_grad_input" ? Pass::kGradInput
                                                       : Pass::kGradWeight;
    const Target& target = current_target();
    const CallOptions options{
        .max_workspace = max_workspace, .algorithm = algorithm_of(algorithm), .prepared = is_prepared};
    PassPlan p{};
    try {
      p = is_double ? plan_pass<double>(shape_, pass, channels_last, options, target, threads)
                    : plan_pass<float>(shape_, pass, channels_last, options, target, threads);
    } catch (const WorkspaceTooSmall& small) {
      raise_too_small(small, max_workspace);
    }
    nb::dict result;
    result["algorithm"] = p.algorithm;
    result["kernel"] = p.kernel;
    result["target"] = target.name;
    result["MR"] = p.rows;
    result["NR"] = p.vectors * p.lanes;
    result["KC"] = p.block_k;
    result["NC"] = p.block_pixels;
    result["MC"] = p.block_rows;
    result["pieces"] = p.pieces;
    result["workspace_per_thread"] = p.scratch_bytes;
    result["workspace_shared"] = p.shared_bytes;
    result["threads"] = p.threads;
    result["roundings"] = p.roundings;
    result["in_lanes"] = p.in_lanes;
    // Seconds that were predicted, and the work that they come from.
    nb::dict candidates, work;
    const Tile tile = is_double ? tile_of<double>(target) : tile_of<float>(target);
    for (const Candidate& each : p.candidates) {
      candidates[each.name] = predicted(each.counts, tile);
      nb::dict counts;
      for (std::size_t i = 0; i < kWorks; ++i) counts[kWorkNames[i]] = each.counts.of[i];
      work[each.name] = counts;
    }
    result["candidates"] = candidates;
    result["work"] = work;
    return result;
  }

 private:
  nb::object input_side(const char* name, nb::handle dy, nb::handle w, nb::handle b, nb::object out,
                        bool accumulate, nb::handle channels_last, Index max_workspace, int algorithm) const {
    return with_type_of(dy, [&]<class T>(T) -> nb::object {
      const Operand<T> dy_in(dy, y_shape_), w_in(w, w_shape_), b_in(b, Extents{shape_.c});
      if (!dy_in || !w_in || (!b_in && !b.is_none())) return nb::none();
      if (out.is_none())
        out = new_array(
            name, dtype_of<T>(), x_shape_,
            channels_last.is_none() ? is_channels_last(dy_in.array()) : nb::cast<bool>(channels_last));
      const Operand<T> dx(out, x_shape_);
      if (!dx) return nb::none();
      const ArrayView<T> dx_out = dx.output();
      const Algorithm chosen = algorithm_of(algorithm);
      if (max_workspace == 0 && !accumulate && !b_in && chosen <= Algorithm::kDirect &&
          small_.conv_grad_input<T>(dy_in.input(), w_in.input(), dx_out, current_target()))
        return std::move(out);
      const BiasView<const T> bias =
          b_in ? BiasView<const T>{b_in.input().data, b_in.stride(0)} : BiasView<const T>{};
      run_released(max_workspace, [&](const RunContext& context) {
        conv_grad_input<T>(shape_, dy_in.input(), w_in.input(), bias, dx_out,
                           {.max_workspace = max_workspace, .accumulate = accumulate, .algorithm = chosen},
                           current_target(), context);
      });
      return std::move(out);
    });
  }

  [[noreturn]] static void raise_too_small(const WorkspaceTooSmall& small, Index max_workspace) {
    const std::string text = "max_workspace: expected at least " + std::to_string(small.needed) +
                             " bytes for this problem, got " + std::to_string(max_workspace);
    throw nb::value_error(text.c_str());
  }

  template <class Body>
  static void run_released(Index max_workspace, Body&& body) {
    try {
      python::run_released(std::forward<Body>(body));
    } catch (const WorkspaceTooSmall& small) {
      raise_too_small(small, max_workspace);
    }
  }

  ConvShape shape_;
  mutable SmallCalls small_;  // a cache, safe from any thread
  Extents x_shape_, w_shape_, y_shape_, b_shape_;
};

// The fast lane: the problem that has come before under the same raw arguments, on arrays that need no
// further look. None, and nothing done, for all others, which go through the checks of the Python layer.
class Known {
 public:
  template <class... Options>
  Known(bool has_shapes, ProblemKey& key, const Options&... options) {
    if (!has_shapes || !(... && key.add(options))) return;
    problem_ = find_problem(key);
  }
  const Conv* operator->() const { return nb::inst_ptr<Conv>(problem_); }

  // Whether there is such a problem, and `out` may be written as it is.
  bool accepts(nb::handle out, std::initializer_list<nb::handle> inputs) const {
    return problem_.is_valid() && takes_result(out, inputs);
  }

 private:
  nb::object problem_;
};

// NumPy's number of the dtype of an array.
int type_of(nb::handle array) { return PyArray_TYPE(reinterpret_cast<PyArrayObject*>(array.ptr())); }

nb::object known_conv(nb::handle x, nb::handle w, nb::handle b, nb::handle stride, nb::handle padding,
                      nb::handle dilation, nb::handle groups, nb::handle padding_mode, nb::handle fill,
                      nb::object out) {
  ProblemKey key;
  const Known problem(
      key.add(padding_mode) && key.add_shape(x) && key.add_fill(fill, type_of(x)) && key.add_shape(w), key,
      stride, padding, dilation, groups);
  if (!problem.accepts(out, {x, w, b})) return nb::none();
  return problem->forward(x, w, b, std::move(out), 0, 0);
}

nb::object known_grad_input(nb::handle dy, nb::handle w, nb::handle x_shape, nb::handle stride,
                            nb::handle padding, nb::handle dilation, nb::handle groups, nb::object out,
                            nb::handle accumulate) {
  ProblemKey key;
  const Known problem(
      PyBool_Check(accumulate.ptr()) && key.add_text("constant", 8) && key.add(x_shape) && key.add_shape(w),
      key, stride, padding, dilation, groups);
  const bool add = accumulate.ptr() == Py_True;
  if ((add && out.is_none()) || !problem.accepts(out, {dy, w})) return nb::none();
  return problem->grad_input(dy, w, std::move(out), add, nb::none(), 0, 0);
}

nb::object known_grad_weight(nb::handle dy, nb::handle x, nb::handle w_shape, nb::handle stride,
                             nb::handle padding, nb::handle dilation, nb::handle groups,
                             nb::handle padding_mode, nb::handle fill, nb::object out,
                             nb::handle accumulate) {
  ProblemKey key;
  const Known problem(PyBool_Check(accumulate.ptr()) && key.add(padding_mode) && key.add_shape(x) &&
                          key.add_fill(fill, type_of(x)) && key.add(w_shape),
                      key, stride, padding, dilation, groups);
  const bool add = accumulate.ptr() == Py_True;
  if ((add && out.is_none()) || !problem.accepts(out, {dy, x})) return nb::none();
  return problem->grad_weight(dy, x, std::move(out), add, 0, 0);
}

void remember(nb::object problem, nb::handle padding_mode, nb::handle x_shape, nb::handle w_shape,
              nb::handle stride, nb::handle padding, nb::handle dilation, nb::handle groups, nb::handle fill,
              int type) {
  ProblemKey key;
  if (key.add(padding_mode) && key.add(x_shape) && key.add_fill(fill, type) && key.add(w_shape) &&
      key.add(stride) && key.add(padding) && key.add(dilation) && key.add(groups))
    remember_problem(key, std::move(problem));
}

// db does not need the weights' shape, so it stands apart from Conv.
nb::object grad_bias(nb::handle dy, nb::object out, bool accumulate) {
  return with_type_of(dy, [&]<class T>(T) -> nb::object {
    auto* array = reinterpret_cast<PyArrayObject*>(dy.ptr());
    const Extents dy_shape(PyArray_DIMS(array), PyArray_DIMS(array) + PyArray_NDIM(array));
    if (dy_shape.size() < 3) return nb::none();
    const Extents db_shape{dy_shape[1]};
    const Operand<T> dy_in(dy, dy_shape);
    if (!dy_in) return nb::none();
    if (out.is_none()) out = new_array("db", dtype_of<T>(), db_shape, false);
    const Operand<T> db(out, db_shape);
    if (!db) return nb::none();
    const BiasView<T> db_out{db.output().data, db.stride(0)};
    ConvShape shape{.n = dy_shape[0], .c = 0, .k = dy_shape[1], .groups = 1, .axes = {}};
    for (std::size_t i = 2; i < dy_shape.size(); ++i) {
      WindowAxis axis;
      axis.out = dy_shape[i];
      shape.axes.push_back(axis);
    }
    const auto run = [&](const RunContext& context) {
      conv_grad_bias<T>(shape, dy_in.input(), db_out, {.accumulate = accumulate}, context);
    };
    // Work of a microsecond is not worth giving the GIL back.
    constexpr npy_intp kSmall = 4096;
    if (PyArray_SIZE(array) <= kSmall) {
      run(RunContext{});
    } else {
      run_released(run);
    }
    return std::move(out);
  });
}

}  // namespace

bool is_problem_of(nb::handle problem, PyArrayObject* x) {
  return nb::inst_ptr<Conv>(problem)->has_x_shape(x);
}

nb::object forward(nb::handle problem, nb::handle x, nb::handle w, nb::handle b, nb::object out,
                   int algorithm, const Limits& limits, KeptWeights& kept) {
  return nb::inst_ptr<Conv>(problem)->forward(x, w, b, std::move(out), 0, algorithm, limits, &kept);
}

bool takes_result(nb::handle out, std::initializer_list<nb::handle> inputs) {
  if (out.is_none()) return true;
  for (nb::handle input : inputs)
    if (!input.is_none() && !PyArray_CheckExact(input.ptr())) return false;
  return PyArray_CheckExact(out.ptr()) && is_free_result(reinterpret_cast<PyArrayObject*>(out.ptr()), inputs);
}

void bind_conv(nb::module_& m) {
  nb::class_<Conv>(m, "Conv")
      .def(nb::init<Index, Index, Index, Index, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle,
                    nb::handle, int, double>(),
           nb::arg("n"), nb::arg("c"), nb::arg("k"), nb::arg("groups"), nb::arg("size"),
           nb::arg("kernel_size"), nb::arg("stride"), nb::arg("dilation"), nb::arg("before"),
           nb::arg("output_size"), nb::arg("border"), nb::arg("fill"))
      .def("forward",
           nb::overload_cast<nb::handle, nb::handle, nb::handle, nb::object, Index, int>(&Conv::forward,
                                                                                         nb::const_),
           nb::arg("x").none(), nb::arg("w").none(), nb::arg("b").none(), nb::arg("out").none(),
           nb::arg("max_workspace"), nb::arg("algorithm"))
      .def("grad_input", &Conv::grad_input, nb::arg("dy").none(), nb::arg("w").none(), nb::arg("out").none(),
           nb::arg("accumulate"), nb::arg("channels_last").none(), nb::arg("max_workspace"),
           nb::arg("algorithm"))
      .def("transposed", &Conv::transposed, nb::arg("x").none(), nb::arg("w").none(), nb::arg("b").none(),
           nb::arg("out").none(), nb::arg("max_workspace"), nb::arg("algorithm"))
      .def("grad_weight", &Conv::grad_weight, nb::arg("dy").none(), nb::arg("x").none(),
           nb::arg("out").none(), nb::arg("accumulate"), nb::arg("max_workspace"), nb::arg("algorithm"))
      .def("plan", &Conv::plan, nb::arg("operation"), nb::arg("is_double"), nb::arg("channels_last"),
           nb::arg("threads"), nb::arg("max_workspace"), nb::arg("algorithm"), nb::arg("is_prepared"));
  m.def("candidates", &candidates);
  m.def("weight_candidates", &weight_candidates);
  m.def("set_algorithm", &set_algorithm, nb::arg("algorithm"));
  m.def("known_conv", &known_conv, nb::arg("x").none(), nb::arg("w").none(), nb::arg("b").none(),
        nb::arg("stride").none(), nb::arg("padding").none(), nb::arg("dilation").none(),
        nb::arg("groups").none(), nb::arg("padding_mode").none(), nb::arg("fill").none(),
        nb::arg("out").none());
  m.def("known_grad_input", &known_grad_input, nb::arg("dy").none(), nb::arg("w").none(),
        nb::arg("x_shape").none(), nb::arg("stride").none(), nb::arg("padding").none(),
        nb::arg("dilation").none(), nb::arg("groups").none(), nb::arg("out").none(),
        nb::arg("accumulate").none());
  m.def("known_grad_weight", &known_grad_weight, nb::arg("dy").none(), nb::arg("x").none(),
        nb::arg("w_shape").none(), nb::arg("stride").none(), nb::arg("padding").none(),
        nb::arg("dilation").none(), nb::arg("groups").none(), nb::arg("padding_mode").none(),
        nb::arg("fill").none(), nb::arg("out").none(), nb::arg("accumulate").none());
  m.def("remember", &remember, nb::arg("problem"), nb::arg("padding_mode"), nb::arg("x_shape"),
        nb::arg("w_shape"), nb::arg("stride").none(), nb::arg("padding").none(), nb::arg("dilation").none(),
        nb::arg("groups").none(), nb::arg("fill").none() = 0, nb::arg("dtype") = 0);
  m.def("grad_bias", &grad_bias, nb::arg("dy").none(), nb::arg("out").none(), nb::arg("accumulate"));
}

}  // namespace windrow::python
