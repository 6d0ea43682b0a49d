// Weights transformed for Winograd's tiles by the first call that wants them, and kept for the later ones of
// a prepared layer, from any number of threads.
#pragma once

#include <atomic>

#include "drivers/winograd.hpp"

namespace windrow {

class KeptWeights {
 public:
  KeptWeights() = default;
  ~KeptWeights();
  KeptWeights(const KeptWeights&) = delete;
  KeptWeights& operator=(const KeptWeights&) = delete;

  // The transform of a problem's factors, which are the same in every call; null where it is not finite. No
  // lock, which a forked child might find taken: two first calls at once both transform, and one is kept.
  template <class T>
  const T* get(const WindowProduct<T>& problem, Index tile, const Target& target, const RunContext& context);

 private:
  struct Entry;
  std::atomic<Entry*> first_ = nullptr;  // for each tile and target that came
};

}  // namespace windrow
