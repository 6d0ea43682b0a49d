#include "api/kept_weights.hpp"

#include <memory>
#include <new>
#include <utility>

#include "base/workspace.hpp"

namespace windrow {
namespace {

struct Free {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{kAlignment}); }
};

}  // namespace

struct KeptWeights::Entry {
  const Target* target;
  Index tile;
  bool finite;
  std::unique_ptr<void, Free> weights;
  Entry* next;
};

KeptWeights::~KeptWeights() {
  for (Entry* entry = first_.load(); entry;) delete std::exchange(entry, entry->next);
}

template <class T>
const T* KeptWeights::get(const WindowProduct<T>& problem, Index tile, const Target& target,
                          const RunContext& context) {
  for (const Entry* entry = first_.load(std::memory_order_acquire); entry; entry = entry->next) {
    if (entry->target == &target && entry->tile == tile)
      return entry->finite ? static_cast<const T*>(entry->weights.get()) : nullptr;
  }
  const Index count =
      winograd_weights(problem.groups, problem.rows, problem.channels, tile, tile_of<T>(target));
  const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
  void* memory = ::operator new(bytes, std::align_val_t{kAlignment}, std::nothrow);
  if (!memory) throw ScratchRefused{bytes};
  auto fresh = std::make_unique<Entry>(
      Entry{.target = &target, .tile = tile, .finite = false, .weights = {}, .next = nullptr});
  fresh->weights.reset(memory);
  T* weights = static_cast<T*>(memory);
  fresh->finite = transform_weights(problem, tile, weights, target, context);
  fresh->next = first_.load(std::memory_order_relaxed);
  while (!first_.compare_exchange_weak(fresh->next, fresh.get(), std::memory_order_acq_rel)) {
  }
  return fresh.release()->finite ? weights : nullptr;
}

template const float* KeptWeights::get(const WindowProduct<float>&, Index, const Target&, const RunContext&);
template const double* KeptWeights::get(const WindowProduct<double>&, Index, const Target&,
                                        const RunContext&);

}  // namespace windrow
