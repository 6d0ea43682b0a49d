// windrow._core.Prepared: weights that are kept, for images of any size.
#include <algorithm>
#include <vector>

#include "api/kept_weights.hpp"
#include "modules.hpp"
#include "problem.hpp"

namespace windrow::python {
namespace {

class Prepared {
 public:
  // `w` and `b` (or None) belong to the object from here on: nobody writes them.
  Prepared(nb::object w, nb::object b, bool limited, double low, double high, int algorithm)
      : w_(std::move(w)),
        b_(std::move(b)),
        algorithm_(algorithm),
        limits_{.on = limited, .low = low, .high = high} {}

  // The layer on x, or None, and nothing done, where x or out wants a closer look or its shape is new.
  nb::object fast(nb::handle x, nb::object out) const {
    if (!PyArray_CheckExact(x.ptr())) return nb::none();
    const nb::object problem = find(reinterpret_cast<PyArrayObject*>(x.ptr()));
    if (!problem.is_valid() || !takes_result(out, {x})) return nb::none();
    return forward(problem, x, w_, b_, std::move(out), algorithm_, limits_, kept_);
  }

  // The same for arrays that have been checked, and remembers their shape.
  nb::object checked(nb::object problem, nb::handle x, nb::object out) {
    nb::object result = forward(problem, x, w_, b_, std::move(out), algorithm_, limits_, kept_);
    const nb::ft_lock_guard guard(lock_);
    const bool known = std::any_of(problems_.begin(), problems_.end(),
                                   [&](const nb::object& kept) { return kept.is(problem); });
    if (!known) problems_.push_back(std::move(problem));
    if (problems_.size() > kMostShapes) problems_.erase(problems_.begin());
    return result;
  }

 private:
  static constexpr std::size_t kMostShapes = 16;  // that are known without a look at the arguments

  nb::object find(PyArrayObject* x) const {
    const nb::ft_lock_guard guard(lock_);
    for (const nb::object& problem : problems_)
      if (is_problem_of(problem, x)) return problem;
    return {};
  }

  const nb::object w_, b_;
  const int algorithm_;
  const Limits limits_;
  mutable KeptWeights kept_;
  mutable nb::ft_mutex lock_;
  std::vector<nb::object> problems_;  // guarded by lock_
};

}  // namespace

void bind_prepared(nb::module_& m) {
  nb::class_<Prepared>(m, "Prepared")
      .def(nb::init<nb::object, nb::object, bool, double, double, int>(), nb::arg("w"), nb::arg("b").none(),
           nb::arg("limited"), nb::arg("low"), nb::arg("high"), nb::arg("algorithm"))
      .def("fast", &Prepared::fast, nb::arg("x").none(), nb::arg("out").none())
      .def("checked", &Prepared::checked, nb::arg("problem"), nb::arg("x"), nb::arg("out").none());
}

}  // namespace windrow::python
