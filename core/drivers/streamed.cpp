#include "drivers/streamed.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace windrow {
namespace {

constexpr Index kLine = 64;
constexpr Index kRunsTogether = 64;  // so many fill whole lines, of any number of bytes
constexpr Index kMostRuns = 512;     // that unfold puts into a table

}  // namespace

void Streamed::begin(char* target) {
  close();
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
  close();
  kernels_.stream_end();
}

void Streamed::close() {
  flush_lines();
  if (end_ > first_) std::memcpy(line_ + first_, buffer_ + first_, static_cast<std::size_t>(end_ - first_));
  first_ = end_ = 0;
  line_ = nullptr;
}

void Streamed::write(GatherRuns runs) {
  if (runs.target != line_ + end_) begin(runs.target);
  flush_lines();
  if (kernels_.streams(runs.bytes, end_) && (first_ == 0 || runs.bytes >= kLine)) {
    if (first_ > 0) {
      // The line that began elsewhere: the first run leads out of it.
      GatherRuns one = runs;
      one.count = one.repeats = 1;
      write_first(one);
      if (runs.count * runs.repeats == 1) return;
      if (runs.count > 1) {
        one = runs;
        one.repeats = 1;
        ++one.offsets;
        --one.count;
        write_lines(one);
      }
      ++runs.steps;
      --runs.repeats;
    }
    if (runs.repeats > 0) write_lines(runs);
    return;
  }
  const Index round = runs.count * runs.bytes;
  while (runs.repeats > 0) {
    if (round > kBuffer - kLine) {
      write_round(runs);
      ++runs.steps;
      --runs.repeats;
      continue;
    }
    if (round > kBuffer - end_) flush_lines();
    GatherRuns some = runs;
    some.target = buffer_ + end_;
    some.repeats = std::min((kBuffer - end_) / round, runs.repeats);
    kernels_.gather_runs(some);
    end_ += some.repeats * round;
    runs.steps += some.repeats;
    runs.repeats -= some.repeats;
  }
}

bool Streamed::write_in_parts(const GatherRuns& runs) {
  const Index round = runs.count * runs.bytes;
  GatherRuns rest = runs;
  rest.repeats = 0;
  if (runs.count <= kRunsTogether || runs.count > kMostRuns || runs.repeats < 2 || round % kLine != 0 ||
      !kernels_.stream_apart(rest, round))
    return false;
  // Parts begin where lines do: the first runs of each repeat go with the last ones of the repeat before.
  const auto fill = static_cast<Index>(reinterpret_cast<std::uintptr_t>(runs.target) % kLine);
  Index head = 0;
  while ((fill + head * runs.bytes) % kLine != 0)
    if (++head == kLine / 4) return false;
  const std::ptrdiff_t step = runs.steps[1] - runs.steps[0];
  for (Index r = 1; head > 0 && r < runs.repeats; ++r)
    if (runs.steps[r] - runs.steps[r - 1] != step) return false;
  std::array<std::ptrdiff_t, kMostRuns> offsets;
  for (Index j = 0; j < head; ++j)
    offsets[static_cast<std::size_t>(runs.count - head + j)] = runs.offsets[j] + step;
  std::copy_n(runs.offsets + head, runs.count - head, offsets.begin());
  if (head > 0) {
    GatherRuns first = runs;
    first.count = head;
    first.repeats = 1;
    write(first);
  }
  close();
  for (Index first = 0; first < runs.count; first += kRunsTogether) {
    GatherRuns part = runs;
    part.target += (head + first) * runs.bytes;
    part.offsets = offsets.data() + first;
    part.count = std::min(kRunsTogether, runs.count - first);
    part.repeats = runs.repeats - (head > 0 ? 1 : 0);
    kernels_.stream_apart(part, round);
  }
  if (head > 0) {
    rest.target += (runs.repeats - 1) * round + head * runs.bytes;
    rest.offsets += head;
    rest.count -= head;
    rest.steps += runs.repeats - 1;
    rest.repeats = 1;
    write(rest);
  }
  return true;
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

void Streamed::write_first(const GatherRuns& run) {
  const char* source = run.source + run.steps[0] + run.offsets[0];
  const Index some = std::min(run.bytes, kLine - end_);
  std::memcpy(buffer_ + end_, source, static_cast<std::size_t>(some));
  end_ += some;
  flush_lines();
  const std::ptrdiff_t none = 0;
  write_lines({.target = nullptr,
               .source = source + some,
               .offsets = &none,
               .count = 1,
               .bytes = run.bytes - some,
               .steps = &none,
               .repeats = 1});
}

void Streamed::write_lines(GatherRuns runs) {
  if (runs.bytes == 0) return;
  runs.target = line_;
  const Index total = end_ + runs.repeats * runs.count * runs.bytes;
  end_ = kernels_.stream_runs(runs, buffer_, end_);
  line_ += total - end_;
}

}  // namespace windrow
