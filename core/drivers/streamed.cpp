#include "drivers/streamed.hpp"

#include <algorithm>
#include <cstring>

namespace windrow {
namespace {

constexpr Index kLine = 64;

}  // namespace

void Streamed::begin(char* target) {
  finish();
  first_ = end_ = static_cast<Index>(reinterpret_cast<std::uintptr_t>(target) % kLine);
  line_ = target - first_;
}

// Whole lines go past the caches, but a first line that begins elsewhere goes the usual way.
void Streamed::flush_lines() {
  Index lines = end_ / kLine * kLine;
  if (lines == 0) return;
  Index from = 0;
  if (first_ > 0) {
    std::memcpy(line_ + first_, buffer_ + first_, static_cast<std::size_t>(kLine - first_));
    from = kLine;
  }
  if (lines > from) kernels_.stream(line_ + from, buffer_ + from, lines - from);
  std::memcpy(buffer_, buffer_ + lines, static_cast<std::size_t>(end_ - lines));
  line_ += lines;
  end_ -= lines;
  first_ = 0;
}

void Streamed::finish() {
  flush_lines();
  if (end_ > first_) std::memcpy(line_ + first_, buffer_ + first_, static_cast<std::size_t>(end_ - first_));
  first_ = end_ = 0;
  line_ = nullptr;
  kernels_.stream_end();
}

void Streamed::write(GatherRuns runs) {
  if (runs.target != line_ + end_) begin(runs.target);
  if (runs.bytes >= kBuffer / 4) {
    for (Index r = 0; r < runs.repeats; ++r)
      for (Index i = 0; i < runs.count; ++i)
        write_long(runs.source + r * runs.step + runs.offsets[i], runs.bytes);
    return;
  }
  const Index round = runs.count * runs.bytes;
  while (runs.repeats > 0) {
    if (round > kBuffer - kLine) {
      write_round(runs);
      runs.source += runs.step;
      --runs.repeats;
      continue;
    }
    if (round > kBuffer - end_) flush_lines();
    GatherRuns some = runs;
    some.target = buffer_ + end_;
    some.repeats = std::min((kBuffer - end_) / round, runs.repeats);
    kernels_.gather_runs(some);
    end_ += some.repeats * round;
    runs.source += some.repeats * runs.step;
    runs.repeats -= some.repeats;
  }
}

// One repeat, of more runs than the buffer holds.
void Streamed::write_round(GatherRuns runs) {
  runs.repeats = 1;
  Index rest = runs.count;
  while (rest > 0) {
    if (kBuffer - end_ < runs.bytes) flush_lines();
    runs.target = buffer_ + end_;
    runs.count = std::min((kBuffer - end_) / runs.bytes, rest);
    kernels_.gather_runs(runs);
    end_ += runs.count * runs.bytes;
    runs.offsets += runs.count;
    rest -= runs.count;
  }
}

void Streamed::write_long(const char* source, Index bytes) {
  flush_lines();
  const Index some = std::min(bytes, (kLine - end_) % kLine);
  std::memcpy(buffer_ + end_, source, static_cast<std::size_t>(some));
  end_ += some;
  flush_lines();
  source += some;
  bytes -= some;
  if (bytes == 0) return;
  const Index lines = bytes / kLine * kLine;
  kernels_.stream(line_, source, lines);
  line_ += lines;
  std::memcpy(buffer_, source + lines, static_cast<std::size_t>(bytes - lines));
  end_ = bytes - lines;
}

}  // namespace windrow
