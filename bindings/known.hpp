// Problems that have come before, by the raw arguments of the call: the fast lane of conv, its gradients and
// the patches.
#pragma once

#include <cstddef>
#include <cstring>

#include "arrays.hpp"

namespace windrow::python {

// Raw arguments as a row of numbers: shapes, then exact ints, strings, and tuples of them. Anything else has
// no key: 1, True and 1.0 compare equal but are not one argument.
class ProblemKey {
 public:
  // False, and the key is of no use, where the value is not of that kind.
  bool add_shape(nb::handle array);
  bool add(nb::handle value);
  // What a padding of `fill` is in an array of NumPy's type number `type`; nothing for the int 0.
  bool add_fill(nb::handle fill, int type);
  bool add_text(const char* text, std::size_t size);

  bool operator==(const ProblemKey& other) const {
    return count_ == other.count_ && std::memcmp(words_, other.words_, count_ * sizeof(Index)) == 0;
  }
  std::size_t hash() const;

 private:
  bool push(Index word) {
    if (count_ == kMost) return false;
    words_[count_++] = word;
    return true;
  }
  bool add_entry(nb::handle value, int depth);

  static constexpr std::size_t kMost = 72;
  std::size_t count_ = 0;
  Index words_[kMost];
};

// Whether a value is the int 0.
inline bool is_zero(nb::handle value) {
  return PyLong_CheckExact(value.ptr()) && PyObject_IsTrue(value.ptr()) == 0;
}

// The problem (a _core.Conv where the key begins with a padding mode, a _core.Patches where it begins with
// the operation's name) that was remembered under this key, or an invalid object.
nb::object find_problem(const ProblemKey& key);
void remember_problem(const ProblemKey& key, nb::object problem);

}  // namespace windrow::python
