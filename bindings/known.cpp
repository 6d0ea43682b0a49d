#include "known.hpp"

#include <algorithm>
#include <bit>
#include <unordered_map>

namespace windrow::python {
namespace {

constexpr std::size_t kMostProblems = 1024;  // as windrow.geometry.CACHED: a network has tens

enum Kind : Index { kInt = -1, kText = -2, kTuple = -3, kFill = -4 };

struct Hash {
  std::size_t operator()(const ProblemKey& key) const { return key.hash(); }
};

struct Table {
  nb::ft_mutex lock;
  std::unordered_map<ProblemKey, nb::object, Hash> problems;
};

// Never destroyed: Python may have ended before.
Table& table() {
  static auto* const made = new Table;
  return *made;
}

}  // namespace

bool ProblemKey::add_shape(nb::handle array) {
  if (!PyArray_CheckExact(array.ptr())) return false;
  auto* a = reinterpret_cast<PyArrayObject*>(array.ptr());
  const int rank = PyArray_NDIM(a);
  if (!push(kTuple) || !push(rank)) return false;
  for (int i = 0; i < rank; ++i) {
    if (!push(kInt) || !push(PyArray_DIM(a, i))) return false;
  }
  return true;
}

bool ProblemKey::add(nb::handle value) { return add_entry(value, 0); }

bool ProblemKey::add_entry(nb::handle value, int depth) {
  if (PyLong_CheckExact(value.ptr())) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    return overflow == 0 && push(kInt) && push(number);
  }
  if (PyTuple_CheckExact(value.ptr())) {
    const Py_ssize_t size = PyTuple_GET_SIZE(value.ptr());
    if (depth == 2 || !push(kTuple) || !push(size)) return false;
    for (Py_ssize_t i = 0; i < size; ++i) {
      if (!add_entry(PyTuple_GET_ITEM(value.ptr(), i), depth + 1)) return false;
    }
    return true;
  }
  if (PyUnicode_CheckExact(value.ptr())) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
    if (text) return add_text(text, static_cast<std::size_t>(size));
    PyErr_Clear();  // half a surrogate pair
  }
  return false;
}

bool ProblemKey::add_fill(nb::handle fill, int type) {
  if (is_zero(fill)) return true;
  if (!push(kFill) || !push(type)) return false;
  if (!PyFloat_CheckExact(fill.ptr())) return PyLong_CheckExact(fill.ptr()) && add(fill);
  return push(std::bit_cast<Index>(PyFloat_AS_DOUBLE(fill.ptr())));
}

bool ProblemKey::add_text(const char* text, std::size_t size) {
  if (!push(kText) || !push(static_cast<Index>(size))) return false;
  for (std::size_t i = 0; i < size; i += sizeof(Index)) {
    Index word = 0;
    std::memcpy(&word, text + i, std::min(sizeof word, size - i));
    if (!push(word)) return false;
  }
  return true;
}

std::size_t ProblemKey::hash() const {
  std::uint64_t hash = count_;
  for (std::size_t i = 0; i < count_; ++i) {
    hash = (hash ^ static_cast<std::uint64_t>(words_[i])) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  return static_cast<std::size_t>(hash);
}

nb::object find_problem(const ProblemKey& key) {
  Table& t = table();
  const nb::ft_lock_guard guard(t.lock);
  const auto found = t.problems.find(key);
  return found == t.problems.end() ? nb::object() : found->second;
}

void remember_problem(const ProblemKey& key, nb::object problem) {
  Table& t = table();
  std::unordered_map<ProblemKey, nb::object, Hash> forgotten;  // freed after the lock is given back
  const nb::ft_lock_guard guard(t.lock);
  if (t.problems.size() >= kMostProblems) t.problems.swap(forgotten);
  t.problems.insert_or_assign(key, std::move(problem));
}

}  // namespace windrow::python
