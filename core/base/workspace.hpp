// Scratch memory: one arena per thread, kept between calls, so that no call pays for fresh pages twice.
#pragma once

#include <cstddef>
#include <new>

#include "base/types.hpp"

namespace windrow {

class Arena;

// What Scratch throws where the system refuses memory.
struct ScratchRefused : std::bad_alloc {
  std::size_t bytes;
  explicit ScratchRefused(std::size_t refused) : bytes(refused) {}
  const char* what() const noexcept override { return "scratch memory refused"; }
};

// The calling thread's arena, for one scope: what was taken in the scope is given back at its end. Scopes
// nest.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Uninitialised memory for `count` elements, aligned to kAlignment; throws ScratchRefused.
  template <class T>
  T* take(Index count) {
    return static_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  void* take_bytes(std::size_t bytes);

  Arena& arena_;
  std::size_t block_, used_, in_use_;  // how full the arena was before this scope
};

std::size_t workspace_bytes();  // held by all threads together, used or not
void release_workspaces();      // frees every arena that no call is using now

// For tests: of the allocations to come, the one after so many others is refused; negative: none is.
void refuse_scratch(Index after);

}  // namespace windrow
