// Which kernels this build has, which of them this machine can run, and which one is in use.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/types.hpp"
#include "kernels/contract.hpp"
#include "kernels/patch_contract.hpp"

namespace windrow {

// On whose processors the costs were measured by which a target chooses between algorithms and blocks.
enum class Costs { kPortable, kX86V3, kX86V4, kZen4 };

struct Target {
  const char* name;
  const char* compiled_as;  // the target whose kernels it has: its own, or another one's
  bool (*runs_here)();
  Costs costs;
  const KernelTable<float>* float32;
  const KernelTable<double>* float64;
  const PatchKernels* patches;

  template <class T>
  const KernelTable<T>& kernels() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return *float32;
    } else {
      return *float64;
    }
  }
};

// The largest tile of a target's product for one element type: MR rows, NR = lanes * vectors columns.
struct Tile {
  Index rows, lanes, vectors;
  Index bytes;  // of an element
  Costs costs;
  Index columns() const { return lanes * vectors; }
};

template <class T>
Tile tile_of(const Target& target) {
  const KernelTable<T>& k = target.kernels<T>();
  return {.rows = k.rows, .lanes = k.lanes, .vectors = k.vectors, .bytes = sizeof(T), .costs = target.costs};
}

// From the plainest to the most capable.
std::span<const Target> targets_built();

// The most capable target that runs here, or the one that `wanted` names (empty: no wish). Throws
// std::invalid_argument, whose text lists what there is, for a name that is unknown or cannot run here.
const Target& select_target(std::string_view wanted);

const Target& current_target();
void set_current_target(const Target& target);

}  // namespace windrow
