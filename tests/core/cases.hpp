// The cases of the seeded driver: each draws one problem, runs it, and throws Wrong where the result is not
// that of a plain loop.
#pragma once

#include <stdexcept>

#include "dispatch/targets.hpp"
#include "guarded.hpp"

namespace seeded {

struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void expect(bool holds, const char* what) {
  if (!holds) throw Wrong(what);
}

// What memory holds before it is written.
inline void fill(Draw& draw, Guarded<char>& memory) {
  for (char& byte : memory) byte = static_cast<char>(draw.number(0, 255));
}

struct Case {
  const char* name;
  void (*run)(Draw& draw, const windrow::Target& target);
};

extern const std::vector<Case> kKernelCases;       // kernels by name, against the contract: those that sum,
extern const std::vector<Case> kRowKernelCases;    // those that copy rows or change single elements,
extern const std::vector<Case> kPatchKernelCases;  // those that count in bytes, ...
extern const std::vector<Case> kFoldKernelCases;   // of which some sum whole rows of windows
extern const std::vector<Case> kOperationCases;    // whole operations of the core: packers and drivers
extern const std::vector<Case> kPoolingCases;      // and those of pooling

}  // namespace seeded
