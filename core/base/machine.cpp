#include "base/machine.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace windrow {
namespace {

// Whole cores of the cgroup's CPU quota (version 2 or 1), or a large number where there is none.
int quota_cores() {
  constexpr int kNone = 1 << 20;
  double quota = 0, period = 0;
  if (std::ifstream file("/sys/fs/cgroup/cpu.max"); file) {
    std::string first;
    if (!(file >> first >> period) || first == "max") return kNone;
    quota = std::strtod(first.c_str(), nullptr);
  } else {
    std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    std::ifstream period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period)) return kNone;
  }
  if (quota <= 0 || period <= 0) return kNone;
  return std::max(1, static_cast<int>(std::ceil(quota / period)));
}

}  // namespace

int usable_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
#endif
  return std::max(1, std::min(cores, quota_cores()));
}

}  // namespace windrow
