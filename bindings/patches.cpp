// windrow._core.Patches: one unfold and fold problem in one layout, ready to run on arrays.
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "context.hpp"
#include "drivers/fold.hpp"
#include "drivers/unfold.hpp"
#include "known.hpp"
#include "modules.hpp"

namespace windrow::python {
namespace {

Extents extents(nb::handle sequence) {
  Extents values;
  for (nb::handle value : sequence) values.push_back(nb::cast<Index>(value));
  return values;
}

PyArrayObject* array_of_shape(nb::handle value, const Extents& shape) {
  if (!PyArray_CheckExact(value.ptr())) return nullptr;
  auto* array = reinterpret_cast<PyArrayObject*>(value.ptr());
  if (PyArray_NDIM(array) != static_cast<int>(shape.size())) return nullptr;
  for (std::size_t i = 0; i < shape.size(); ++i)
    if (PyArray_DIM(array, static_cast<int>(i)) != shape[i]) return nullptr;
  return array;
}

// The numbers that fold reduces, or nothing.
struct Numbers {
  Number number;
  bool complex_pairs;
};
std::optional<Numbers> numbers_of(PyArrayObject* array) {
  const PyArray_Descr* descr = PyArray_DESCR(array);
  const Index bytes = PyArray_ITEMSIZE(array);
  const auto by_size = [&](Number one) {  // of 1, 2, 4 or 8 bytes
    return Numbers{static_cast<Number>(one + (bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3)), false};
  };
  switch (descr->kind) {
    case 'i':
      return by_size(kI8);
    case 'u':
      return by_size(kU8);
    case 'f':
      if (bytes == 2) return Numbers{kF16, false};
      if (bytes == 4) return Numbers{kF32, false};
      if (bytes == 8) return Numbers{kF64, false};
      return {};
    case 'c':
      if (bytes == 8) return Numbers{kF32, true};
      if (bytes == 16) return Numbers{kF64, true};
      return {};
    default:
      return {};
  }
}

// Work of a microsecond is not worth giving the GIL back.
template <class Body>
void run_maybe_released(Index elements, Body&& body) {
  constexpr Index kTiny = 1024;
  if (elements > kTiny) return run_released(std::forward<Body>(body));
  body(RunContext{});
}

// Whether all values are exact ints, strs, or tuples of ints or of tuples of ints. Only then may raw
// arguments be the key of a dict: 1, True and 1.0 are one key, but not one argument.
bool exact(nb::args values) {
  for (nb::handle value : values) {
    if (PyLong_CheckExact(value.ptr()) || PyUnicode_CheckExact(value.ptr())) continue;
    if (!PyTuple_CheckExact(value.ptr())) return false;
    for (nb::handle entry : nb::borrow<nb::tuple>(value)) {
      if (PyLong_CheckExact(entry.ptr())) continue;
      if (!PyTuple_CheckExact(entry.ptr())) return false;
      for (nb::handle side : nb::borrow<nb::tuple>(entry))
        if (!PyLong_CheckExact(side.ptr())) return false;
    }
  }
  return true;
}

// Every method returns None, and has done nothing, where it cannot take an array as it is: the Python layer
// then prepares it, or refuses it in the user's words.
class Patches {
 public:
  // How fold reduces, without weights and with 0 for what no window covers: what a small problem keeps, so
  // that its next call computes nothing of it.
  struct Reduced {
    int reduction;
    bool divide;
    nb::object divisor, uncovered;  // as fold takes them
  };

  // `axes`: for each axis of the columns its elementary axes (n, c, taps, positions by number), slowest
  // first. `border`: what unfold sees beyond the image, one of Border.
  Patches(Index n, Index c, nb::handle size, nb::handle kernel_size, nb::handle stride, nb::handle dilation,
          nb::handle before, nb::handle output_size, nb::handle axes, int border) {
    const Extents sizes = extents(size), kernels = extents(kernel_size), strides = extents(stride),
                  dilations = extents(dilation), befores = extents(before), outs = extents(output_size);
    shape_.n = n;
    shape_.c = c;
    x_shape_ = {n, c};
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      shape_.axes.push_back(within_reach({.size = sizes[i],
                                          .out = outs[i],
                                          .kernel = kernels[i],
                                          .stride = strides[i],
                                          .dilation = dilations[i],
                                          .before = befores[i],
                                          .border = static_cast<Border>(border)}));
      x_shape_.push_back(sizes[i]);
    }
    Extents counts{n, c};
    for (const Index taps : kernels) counts.push_back(taps);
    for (const Index positions : outs) counts.push_back(positions);
    place_.resize(counts.size());
    for (nb::handle group : axes) {
      Index count = 1;
      const Extents members = extents(group);
      for (std::size_t i = members.size(); i-- > 0;) {
        const auto e = static_cast<std::size_t>(members[i]);
        place_[e] = {.axis = static_cast<int>(cols_shape_.size()), .multiple = count};
        count *= counts[e];
      }
      cols_shape_.push_back(count);
    }
  }

  nb::object unfold(nb::handle x, nb::object out, nb::handle fill) const {
    PyArrayObject* source = array_of_shape(x, x_shape_);
    if (!source) return nb::none();
    PyArray_Descr* dtype = PyArray_DESCR(source);
    if (PyDataType_REFCHK(dtype) || PyTypeNum_ISSTRING(dtype->type_num) || PyDataType_ELSIZE(dtype) == 0)
      return nb::none();
    const Index item = PyArray_ITEMSIZE(source);
    if (out.is_none()) out = fresh(cols_shape_, dtype);
    PyArrayObject* cols = out.is_valid() ? array_of_shape(out, cols_shape_) : nullptr;
    if (!cols || PyArray_ITEMSIZE(cols) != item) return nb::none();
    ColumnVector strides;
    column_strides(cols, strides);
    const std::vector<char> zero(fill.is_none() ? static_cast<std::size_t>(item) : 0);
    const Unfold problem{.shape = shape_,
                         .item = item,
                         .x = data_of<const char>(source),
                         .x_strides = byte_strides(source),
                         .cols = data_of<char>(cols),
                         .cols_strides = strides.data(),
                         .fill = fill.is_none()
                                     ? zero.data()
                                     : data_of<const char>(reinterpret_cast<PyArrayObject*>(fill.ptr()))};
    run_maybe_released(PyArray_SIZE(cols),
                       [&](const RunContext& context) { run_unfold(problem, current_target(), context); });
    return out;
  }

  // `weights`: float64, C-ordered, one per tap, or None. `divisor`: C-ordered, shape of one plane, in the
  // real type that sums are held in, or None. `uncovered`: a 0-d array of the result's dtype.
  nb::object fold(nb::handle cols, nb::object out, int reduction, nb::handle weights, nb::handle divisor,
                  bool divide, nb::handle uncovered) const {
    PyArrayObject* source = array_of_shape(cols, cols_shape_);
    if (!source || !PyArray_ISBEHAVED_RO(source)) return nb::none();
    const std::optional<Numbers> numbers = numbers_of(source);
    if (!numbers) return nb::none();
    if (out.is_none()) out = fresh(x_shape_, PyArray_DESCR(source));
    PyArrayObject* x = out.is_valid() ? array_of_shape(out, x_shape_) : nullptr;
    if (!x || PyArray_ITEMSIZE(x) != PyArray_ITEMSIZE(source)) return nb::none();
    ColumnVector strides;
    column_strides(source, strides);
    const auto data = [](nb::handle array) {
      return array.is_none() ? nullptr : data_of<const char>(reinterpret_cast<PyArrayObject*>(array.ptr()));
    };
    const Fold problem{.shape = shape_,
                       .number = numbers->number,
                       .complex_pairs = numbers->complex_pairs,
                       .reduction = static_cast<Reduction>(reduction),
                       .cols = data_of<const char>(source),
                       .cols_strides = strides.data(),
                       .x = data_of<char>(x),
                       .x_strides = byte_strides(x),
                       .weights = reinterpret_cast<const double*>(data(weights)),
                       .divisor = data(divisor),
                       .divide = divide,
                       .uncovered = data(uncovered)};
    run_maybe_released(PyArray_SIZE(source) + PyArray_SIZE(x),
                       [&](const RunContext& context) { run_fold(problem, current_target(), context); });
    return out;
  }

  // `reduce` is fold's, `dtype` the number of the columns' native dtype.
  void keep(const char* reduce, int dtype, Reduced reduced) {
    const nb::ft_lock_guard guard(lock_);
    for (const auto& [kept, value] : kept_)
      if (kept.dtype == dtype && kept.reduce == reduce) return;
    kept_.emplace_back(Kind{reduce, dtype}, std::move(reduced));
  }
  std::optional<Reduced> kept(std::string_view reduce, int dtype) const {
    const nb::ft_lock_guard guard(lock_);
    for (const auto& [kept, value] : kept_)
      if (kept.dtype == dtype && kept.reduce == reduce) return value;
    return {};
  }

 private:
  struct Kind {
    std::string reduce;
    int dtype;
  };
  struct Place {
    int axis;
    Index multiple;  // of the axis's stride
  };

  // A new C-ordered array; invalid where it cannot be had: the Python layer says why.
  static nb::object fresh(const Extents& shape, PyArray_Descr* dtype) {
    static_assert(sizeof(npy_intp) == sizeof(Index));
    Py_INCREF(dtype);
    nb::object array = nb::steal(PyArray_NewFromDescr(&PyArray_Type, dtype, static_cast<int>(shape.size()),
                                                      reinterpret_cast<const npy_intp*>(shape.data()),
                                                      nullptr, nullptr, 0, nullptr));
    if (!array.is_valid()) PyErr_Clear();
    return array;
  }

  static const Index* byte_strides(PyArrayObject* array) {
    return reinterpret_cast<const Index*>(PyArray_STRIDES(array));
  }

  void column_strides(PyArrayObject* cols, ColumnVector& strides) const {
    for (std::size_t e = 0; e < place_.size(); ++e)
      strides[e] = PyArray_STRIDE(cols, place_[e].axis) * place_[e].multiple;
  }

  PatchShape shape_;
  Extents x_shape_, cols_shape_;
  std::vector<Place> place_;  // of each elementary axis in the columns
  std::vector<std::pair<Kind, Reduced>> kept_;
  mutable nb::ft_mutex lock_;
};

// The fast lane, as that of conv: the problem that has come before under the same raw arguments. None, and
// nothing done, for all calls that want a further look, which go through the checks of the Python layer.
template <class... Options>
nb::object known_problem(std::string_view operation, nb::handle array, const Options&... options) {
  ProblemKey key;
  if (!key.add_text(operation.data(), operation.size()) || !key.add_shape(array) ||
      !(... && key.add(options)))
    return {};
  return find_problem(key);
}

// Whether an `out` that nobody has checked may be written as it is: None, or an array of the input's dtype.
bool takes_columns(nb::handle out, nb::handle input) {
  if (out.is_none()) return true;
  if (!PyArray_CheckExact(out.ptr())) return false;
  auto* result = reinterpret_cast<PyArrayObject*>(out.ptr());
  PyArray_Descr* const dtype = PyArray_DESCR(reinterpret_cast<PyArrayObject*>(input.ptr()));
  return (PyArray_DESCR(result) == dtype || PyArray_EquivTypes(PyArray_DESCR(result), dtype)) &&
         is_free_result(result, {input});
}

nb::object known_unfold(nb::handle x, nb::handle kernel_size, nb::handle stride, nb::handle padding,
                        nb::handle dilation, nb::handle layout, nb::handle padding_mode, nb::handle fill,
                        nb::object out) {
  if (!is_zero(fill)) return nb::none();
  const nb::object problem =
      known_problem("unfold", x, kernel_size, stride, padding, dilation, layout, padding_mode);
  if (!problem.is_valid() || !takes_columns(out, x)) return nb::none();
  return nb::inst_ptr<Patches>(problem)->unfold(x, std::move(out), nb::none());
}

// `size`: fold's output_size, or col2im's x_shape. Sums, and what the problem keeps.
template <const char* kOperation>
nb::object known_fold(nb::handle cols, nb::handle size, nb::handle kernel_size, nb::handle stride,
                      nb::handle padding, nb::handle dilation, nb::handle layout, nb::handle reduce,
                      nb::handle window, nb::handle uncovered, nb::object out) {
  if (!window.is_none() || !is_zero(uncovered) || !PyUnicode_CheckExact(reduce.ptr())) return nb::none();
  const nb::object problem =
      known_problem(kOperation, cols, size, kernel_size, stride, padding, dilation, layout);
  if (!problem.is_valid() || !takes_columns(out, cols)) return nb::none();
  auto* patches = nb::inst_ptr<Patches>(problem);
  if (PyUnicode_CompareWithASCIIString(reduce.ptr(), "sum") == 0)
    return patches->fold(cols, std::move(out), kAdd, nb::none(), nb::none(), false, nb::none());
  Py_ssize_t size_of_text;
  const char* text = PyUnicode_AsUTF8AndSize(reduce.ptr(), &size_of_text);
  if (!text) {
    PyErr_Clear();
    return nb::none();
  }
  const int dtype = PyArray_TYPE(reinterpret_cast<PyArrayObject*>(cols.ptr()));
  const auto kept = patches->kept({text, static_cast<std::size_t>(size_of_text)}, dtype);
  if (!kept) return nb::none();
  return patches->fold(cols, std::move(out), kept->reduction, nb::none(), kept->divisor, kept->divide,
                       kept->uncovered);
}
constexpr char kFold[] = "fold", kCol2im[] = "col2im";

// `raw`: the operation's name, the shape of its input, and its other raw arguments in order.
void remember(nb::object problem, nb::args raw) {
  ProblemKey key;
  for (nb::handle value : raw)
    if (!key.add(value)) return;
  remember_problem(key, std::move(problem));
}

}  // namespace

void bind_patches(nb::module_& m) {
  m.def("exact", &exact, nb::arg("values"));
  nb::class_<Patches>(m, "Patches")
      .def(nb::init<Index, Index, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle, nb::handle,
                    nb::handle, int>(),
           nb::arg("n"), nb::arg("c"), nb::arg("size"), nb::arg("kernel_size"), nb::arg("stride"),
           nb::arg("dilation"), nb::arg("before"), nb::arg("output_size"), nb::arg("axes"), nb::arg("border"))
      .def("unfold", &Patches::unfold, nb::arg("x"), nb::arg("out").none(), nb::arg("fill").none())
      .def("fold", &Patches::fold, nb::arg("cols"), nb::arg("out").none(), nb::arg("reduction"),
           nb::arg("weights").none(), nb::arg("divisor").none(), nb::arg("divide"),
           nb::arg("uncovered").none())
      .def(
          "keep",
          [](Patches& patches, const char* reduce, int dtype, int reduction, nb::object divisor, bool divide,
             nb::object uncovered) {
            patches.keep(reduce, dtype,
                         {.reduction = reduction,
                          .divide = divide,
                          .divisor = std::move(divisor),
                          .uncovered = std::move(uncovered)});
          },
          nb::arg("reduce"), nb::arg("dtype"), nb::arg("reduction"), nb::arg("divisor").none(),
          nb::arg("divide"), nb::arg("uncovered"))
      .def("remember", &remember);
  m.def("known_unfold", &known_unfold, nb::arg("x").none(), nb::arg("kernel_size").none(),
        nb::arg("stride").none(), nb::arg("padding").none(), nb::arg("dilation").none(),
        nb::arg("layout").none(), nb::arg("padding_mode").none(), nb::arg("fill").none(),
        nb::arg("out").none());
  const auto define_fold = [&](const char* name, const char* size, auto* function) {
    m.def(name, function, nb::arg("cols").none(), nb::arg(size).none(), nb::arg("kernel_size").none(),
          nb::arg("stride").none(), nb::arg("padding").none(), nb::arg("dilation").none(),
          nb::arg("layout").none(), nb::arg("reduce").none(), nb::arg("window").none(),
          nb::arg("uncovered").none(), nb::arg("out").none());
  };
  define_fold("known_fold", "output_size", &known_fold<kFold>);
  define_fold("known_col2im", "x_shape", &known_fold<kCol2im>);
}

}  // namespace windrow::python
