// Work on several threads, by pieces: each thread has some in a row, and takes from the others' when it is
// done.
//
// One persistent pool serves the process. A call that finds it busy (another Python thread is computing) does
// its pieces itself. Workers spin for at most 50 us after a job, then sleep. After fork the child starts a
// new pool and takes no lock of the parent's.
#pragma once

#include <algorithm>
#include <chrono>
#include <type_traits>
#include <utility>

#include "base/types.hpp"

namespace windrow {

// What a call brings along from outside: how many threads it may use, and how it hears of an interrupt.
struct RunContext {
  int threads = 1;
  bool (*interrupted)() = nullptr;  // asked by the calling thread between pieces, now and then; may be null
  // When that was asked last; not yet: the epoch. It lasts over all parallel_for of a call, so that a call of
  // many short ones asks too. Only the calling thread touches it.
  mutable std::chrono::steady_clock::time_point asked = {};
};

// Thrown out of parallel_for when RunContext::interrupted said so; pieces not yet begun are left undone.
struct Interrupted {};

namespace detail {
using PieceBody = void (*)(void* body, Index piece);
void run_pieces(const RunContext& context, Index pieces, PieceBody call, void* body);
}  // namespace detail

// For a piece that may take longer than 10 ms: to be called in it more often than that. Throws Interrupted
// where the whole call is to stop, which the piece lets pass.
void checkpoint();

// Into how many equal parts, `most` at most, each of so many equal pieces of work is best cut: the fewest
// with which no thread waits for the others longer than an eighth of the time, or where there are none, the
// ones with which all are done first.
constexpr Index parts_for_threads(Index pieces, Index threads, Index most) {
  const auto turns = [&](Index parts) { return ceil_div(pieces * parts, threads); };
  Index best = 1;
  for (Index parts = 2; parts <= most && 8 * turns(best) * threads > 9 * pieces * best; ++parts)
    if (turns(parts) * best < turns(best) * parts) best = parts;
  return best;
}

// As few blocks of nearly equal size as can be, from `blocks` on, of which each thread has as many as the
// others. There are `others` pieces of work for each block, and no block is empty if there are `all` of them.
constexpr Index blocks_for_threads(Index all, Index blocks, Index others, Index threads) {
  for (Index more = blocks; more < blocks + threads && more <= all; ++more)
    if (more * others % threads == 0) return more;
  return std::min(blocks, std::max<Index>(1, all));
}

// The same of blocks of equal size but the last: how many of `all` each holds.
constexpr Index block_for_threads(Index all, Index blocks, Index others, Index threads) {
  for (Index more = blocks; more < blocks + threads && more <= all; ++more) {
    const Index block = ceil_div(all, more);
    if (ceil_div(all, block) * others % threads == 0) return block;
  }
  return ceil_div(all, std::max<Index>(1, blocks));
}

// Calls body(piece) once for each piece in [0, pieces), in any order, on up to context.threads threads. The
// first exception that a piece throws is thrown again here, after all running pieces have ended. Pieces must
// not call parallel_for. A piece should take between 20 us and 10 ms: shorter ones cost overhead, longer ones
// delay Ctrl-C unless they call checkpoint.
template <class Body>
void parallel_for(const RunContext& context, Index pieces, Body&& body) {
  using B = std::remove_reference_t<Body>;
  detail::run_pieces(
      context, pieces, [](void* b, Index piece) { (*static_cast<B*>(b))(piece); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace windrow
