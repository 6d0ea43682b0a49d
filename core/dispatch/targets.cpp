#include "dispatch/targets.hpp"

#include <atomic>
#include <stdexcept>

namespace windrow {

#define WINDROW_DECLARE(name)               \
  namespace name {                          \
  extern const KernelTable<float> float32;  \
  extern const KernelTable<double> float64; \
  extern const PatchKernels patches;        \
  }

WINDROW_DECLARE(portable)
#if defined(__x86_64__)
WINDROW_DECLARE(x86_v3)
#ifdef WINDROW_X86_V4
WINDROW_DECLARE(x86_v4)
#endif
#elif defined(__aarch64__)
WINDROW_DECLARE(neon)
#endif
#undef WINDROW_DECLARE

namespace {

bool always() { return true; }

#if defined(__x86_64__)
bool is_x86_v3() { return __builtin_cpu_supports("x86-64-v3") != 0; }
#ifdef WINDROW_X86_V4
bool is_x86_v4() { return __builtin_cpu_supports("x86-64-v4") != 0; }
// A vector of 64 bytes goes through its units in two halves, and its second-level cache has 1 MiB.
bool is_zen4() { return is_x86_v4() && __builtin_cpu_is("amdfam19h") != 0; }
#endif
#endif

#define WINDROW_KERNELS(name) &name::float32, &name::float64, &name::patches

constexpr Target kTargets[] = {
    {"portable", "portable", always, Costs::kPortable, WINDROW_KERNELS(portable)},
#if defined(__x86_64__)
    {"x86_v3", "x86_v3", is_x86_v3, Costs::kX86V3, WINDROW_KERNELS(x86_v3)},
#ifdef WINDROW_X86_V4
    {"x86_v4", "x86_v4", is_x86_v4, Costs::kX86V4, WINDROW_KERNELS(x86_v4)},
    {"zen4", "x86_v4", is_zen4, Costs::kZen4, WINDROW_KERNELS(x86_v4)},
#endif
#elif defined(__aarch64__)
    {"neon", "neon", always, Costs::kPortable, WINDROW_KERNELS(neon)},
#endif
};
#undef WINDROW_KERNELS

std::atomic<const Target*> g_current{nullptr};

}  // namespace

std::span<const Target> targets_built() { return kTargets; }

const Target& select_target(std::string_view wanted) {
  const Target* best = nullptr;
  std::string available;
  for (const Target& target : kTargets) {
    if (!target.runs_here()) continue;
    best = &target;
    if (target.name == wanted) return target;
    available += available.empty() ? target.name : std::string(", ") + target.name;
  }
  if (wanted.empty()) return *best;
  throw std::invalid_argument("expected one of the targets that this machine can run (" + available +
                              "), got '" + std::string(wanted) + "'");
}

const Target& current_target() {
  const Target* current = g_current.load(std::memory_order_acquire);
  return current ? *current : select_target({});
}

void set_current_target(const Target& target) { g_current.store(&target, std::memory_order_release); }

}  // namespace windrow
