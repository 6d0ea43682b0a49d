// Runs written one after another past the caches: collected in a buffer that stays in the first-level cache
// and handed on in whole cache lines. Outputs larger than the caches are written once and not read before.
#pragma once

#include "base/types.hpp"
#include "kernels/patch_contract.hpp"

namespace windrow {

class Streamed {
 public:
  static constexpr Index kBuffer = 4096;  // bytes, of which whole lines are streamed at once
  static constexpr Index kRoom = kBuffer + 64;

  // `buffer`: kRoom bytes, aligned to 64.
  Streamed(const PatchKernels& kernels, char* buffer) : kernels_(kernels), buffer_(buffer) {}
  void write(GatherRuns runs);
  // The same, a part of the runs of all repeats after another where there are many runs: each of them reads a
  // line of its own, again and again as the repeats go along it, and only so many stay in the first-level
  // cache that a neighbour may share. False, and nothing is written: not for these runs.
  bool write_in_parts(const GatherRuns& runs);
  void finish();  // writes what is left; the piece's last call

 private:
  void begin(char* target);
  void close();  // writes what is left where it belongs
  void flush_lines();
  void write_round(GatherRuns runs);
  void write_first(const GatherRuns& run);  // of at least a line, into the line that began elsewhere
  void write_lines(GatherRuns runs);

  const PatchKernels& kernels_;
  char* buffer_;
  // The buffer stands for the memory from `line_` on; bytes [first_, end_) of it are there.
  char* line_ = nullptr;
  Index first_ = 0, end_ = 0;
};

}  // namespace windrow
