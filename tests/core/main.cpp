// The seeded driver: kernels, packers and operations of the core without Python, on operands between pages
// that may not be touched, against plain loops. Runs wherever the core compiles, under emulation too.
//
//     windrow_seeded [--cases N] [--seconds S] [--seed N]
//
// Case N of a kind has a seed of its own, which a failure prints: `--seed N --cases 1` repeats it.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "cases.hpp"

namespace {

char g_now[200];  // what a fault is to be blamed on

[[maybe_unused]] void on_fault(int signal) {
  // Only what a signal handler may call.
  const auto say = [](const char* text) {
    if (write(STDERR_FILENO, text, std::strlen(text)) < 0) _exit(3);
  };
  say(signal == SIGSEGV || signal == SIGBUS ? "memory outside was touched: " : "fault: ");
  say(g_now);
  say("\n");
  _exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  long cases = 2000, seed = 0;
  double seconds = 1e9;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--cases") cases = std::atol(argv[i + 1]);
    if (name == "--seconds") seconds = std::atof(argv[i + 1]);
    if (name == "--seed") seed = std::atol(argv[i + 1]);
  }
#if !defined(__SANITIZE_ADDRESS__)  // which reports faults itself
  for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) signal(fault, on_fault);
#endif
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  long passed = 0;
  std::printf("seeded: seed %ld, targets", seed);
  for (const windrow::Target& target : windrow::targets_built())
    if (target.runs_here()) std::printf(" %s", target.name);
  std::printf("\n");
  std::fflush(stdout);
  for (long n = seed; n < seed + cases && Clock::now() < end; ++n) {
    for (const windrow::Target& target : windrow::targets_built()) {
      if (!target.runs_here()) continue;
      for (const auto* kind : {&seeded::kKernelCases, &seeded::kRowKernelCases, &seeded::kPatchKernelCases,
                               &seeded::kFoldKernelCases, &seeded::kOperationCases, &seeded::kPoolingCases}) {
        for (const seeded::Case& one : *kind) {
          std::snprintf(g_now, sizeof g_now, "%s on %s, --seed %ld --cases 1", one.name, target.name, n);
          seeded::Draw draw(static_cast<std::uint64_t>(n));
          try {
            one.run(draw, target);
          } catch (const std::exception& error) {
            std::fprintf(stderr, "%s: %s\n", g_now, error.what());
            return 1;
          }
          ++passed;
        }
      }
    }
  }
  std::printf("seeded: %ld passed, 0 failed\n", passed);
  return 0;
}
