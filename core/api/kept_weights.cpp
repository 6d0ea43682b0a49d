#include "api/kept_weights.hpp"

#include <memory>
#include <new>
#include <utility>

#include "base/workspace.hpp"

namespace windrow {
namespace {

constexpr Index kPanels = 0;  // no side of a tile

struct Free {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{kAlignment}); }
};

}  // namespace

struct KeptWeights::Entry {
  const Target* target;
  Index form;  // the side of Winograd's tiles, or panels
  bool usable;
  std::unique_ptr<void, Free> weights;
  Entry* next;
};

KeptWeights::~KeptWeights() {
  for (Entry* entry = first_.load(); entry;) delete std::exchange(entry, entry->next);
}

template <class T, class Make>
const T* KeptWeights::get(Index form, const Target& target, Index count, Make make) {
  for (const Entry* entry = first_.load(std::memory_order_acquire); entry; entry = entry->next) {
    if (entry->target == &target && entry->form == form)
      return entry->usable ? static_cast<const T*>(entry->weights.get()) : nullptr;
  }
  const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
  void* memory = ::operator new(bytes, std::align_val_t{kAlignment}, std::nothrow);
  if (!memory) throw ScratchRefused{bytes};
  auto fresh = std::make_unique<Entry>(
      Entry{.target = &target, .form = form, .usable = false, .weights = {}, .next = nullptr});
  fresh->weights.reset(memory);
  T* weights = static_cast<T*>(memory);
  fresh->usable = make(weights);
  fresh->next = first_.load(std::memory_order_relaxed);
  while (!first_.compare_exchange_weak(fresh->next, fresh.get(), std::memory_order_acq_rel)) {
  }
  return fresh.release()->usable ? weights : nullptr;
}

template <class T>
const T* KeptWeights::transformed(const WindowProduct<T>& problem, Index tile, const Target& target,
                                  const RunContext& context) {
  const Index count = winograd_weights(problem.grid, problem.groups, problem.rows, problem.channels, tile,
                                       tile_of<T>(target));
  return get<T>(tile, target, count,
                [&](T* weights) { return transform_weights(problem, tile, weights, target, context); });
}

template <class T>
const T* KeptWeights::panels(const WindowProduct<T>& problem, const FilterBlocks& blocks,
                             const Target& target, const RunContext& context) {
  const Index count =
      filter_panels(problem.groups, problem.rows, problem.channels * problem.grid.taps(), tile_of<T>(target));
  return get<T>(kPanels, target, count, [&](T* weights) {
    pack_filters(problem, blocks, weights, target, context);
    return true;
  });
}

#define WINDROW_KEPT_WEIGHTS(T)                                                                      \
  template const T* KeptWeights::transformed(const WindowProduct<T>&, Index, const Target&,          \
                                             const RunContext&);                                     \
  template const T* KeptWeights::panels(const WindowProduct<T>&, const FilterBlocks&, const Target&, \
                                        const RunContext&);
WINDROW_KEPT_WEIGHTS(float)
WINDROW_KEPT_WEIGHTS(double)
#undef WINDROW_KEPT_WEIGHTS

}  // namespace windrow
