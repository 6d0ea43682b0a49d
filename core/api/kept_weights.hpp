// Weights in another form, made by the first call that wants it and kept for the later ones of a prepared
// layer, from any number of threads.
#pragma once

#include <atomic>

#include "drivers/filter_product.hpp"
#include "drivers/winograd.hpp"

namespace windrow {

class KeptWeights {
 public:
  KeptWeights() = default;
  ~KeptWeights();
  KeptWeights(const KeptWeights&) = delete;
  KeptWeights& operator=(const KeptWeights&) = delete;

  // The transform of a problem's factors, which are the same in every call, for Winograd's tiles; null where
  // it is not finite.
  template <class T>
  const T* transformed(const WindowProduct<T>& problem, Index tile, const Target& target,
                       const RunContext& context);

  // The factors as panels of filters.
  template <class T>
  const T* panels(const WindowProduct<T>& problem, const FilterBlocks& blocks, const Target& target,
                  const RunContext& context);

 private:
  struct Entry;

  // No lock, which a forked child might find taken: two first calls at once both make them, and one is kept.
  template <class T, class Make>
  const T* get(Index form, const Target& target, Index count, Make make);

  std::atomic<Entry*> first_ = nullptr;  // for each form and target that came
};

}  // namespace windrow
