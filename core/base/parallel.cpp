#include "base/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif

namespace windrow::detail {
namespace {

using Clock = std::chrono::steady_clock;
// After a job: the next one of a program that computes comes sooner.
constexpr auto kSpin = std::chrono::microseconds(50);
// While others are at work on a job in which nothing is left to begin. Who sleeps then comes too late for the
// next job, has less of it to do, and is again the first to sleep.
constexpr auto kSpinMeanwhile = std::chrono::milliseconds(1);
constexpr auto kInterruptInterval = std::chrono::milliseconds(20);  // with pieces of 10 ms: well under 50 ms

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Spins for kSpin after others were last at work, and for kSpinMeanwhile at most.
template <class Condition, class AtWork>
bool spin_until(Condition condition, AtWork at_work) {
  if (condition()) return true;
  const auto begin = Clock::now();
  auto now = begin, end = begin + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      relax();
      if (condition()) return true;
    }
    now = Clock::now();
    if (now < begin + kSpinMeanwhile && at_work()) end = now + kSpin;
  } while (now < end);
  return false;
}

// Asks for an interrupt from time to time, on the calling thread only.
class InterruptPoll {
 public:
  explicit InterruptPoll(const RunContext& context) : context_(context) {
    if (context.interrupted && context.asked == Clock::time_point{}) context.asked = Clock::now();
  }
  // Whether the call is to stop.
  bool ask() {
    if (heard_ || !context_.interrupted) return heard_;
    const auto now = Clock::now();
    if (now - context_.asked < kInterruptInterval) return false;
    context_.asked = now;
    return heard_ = context_.interrupted();
  }
  bool heard() const { return heard_; }

 private:
  const RunContext& context_;
  bool heard_ = false;
};

// What tells the piece that this thread is doing to stop: its own poll if it is the calling thread, and the
// job's flag.
thread_local InterruptPoll* t_poll = nullptr;
thread_local const std::atomic<bool>* t_cancelled = nullptr;

class Calling {
 public:
  Calling(InterruptPoll& poll, const std::atomic<bool>* cancelled) {
    t_poll = &poll;
    t_cancelled = cancelled;
  }
  ~Calling() {
    t_poll = nullptr;
    t_cancelled = nullptr;
  }
};

// Pieces that one thread does before it helps others, in order: the same ones in every call of a layer, and
// neighbours in the images that it reads and writes, so that they are in the caches of its core.
struct alignas(kAlignment) Share {
  std::atomic<Index> next{0};
  Index end = 0;
};
constexpr int kMostShares = 64;  // which threads beyond so many have in common

struct Job {
  PieceBody call = nullptr;
  void* body = nullptr;
  int shares = 0;
  Share share[kMostShares];
  std::atomic<bool> cancelled{false};
  std::mutex error_lock;
  std::exception_ptr error;

  void start(PieceBody c, void* b, Index pieces, Index threads) {
    call = c;
    body = b;
    shares = static_cast<int>(std::min<Index>(threads, kMostShares));
    for (int i = 0; i < shares; ++i) {
      share[i].next.store(pieces * i / shares, std::memory_order_relaxed);
      share[i].end = pieces * (i + 1) / shares;
    }
    cancelled.store(false, std::memory_order_relaxed);
    error = nullptr;
  }

  // The next piece of a thread's own share, or one of another's; negative when none is left.
  Index take(int thread) {
    for (int i = 0; i < shares; ++i) {
      Share& from = share[(thread + i) % shares];
      if (from.next.load(std::memory_order_relaxed) >= from.end) continue;
      const Index piece = from.next.fetch_add(1, std::memory_order_relaxed);
      if (piece < from.end) return piece;
    }
    return -1;
  }

  // Does one piece; false when none is left.
  bool step(int thread) {
    if (cancelled.load(std::memory_order_relaxed)) return false;
    const Index piece = take(thread);
    if (piece < 0) return false;
    try {
      call(body, piece);
    } catch (const Interrupted&) {
      cancelled.store(true, std::memory_order_relaxed);
    } catch (...) {
      cancelled.store(true, std::memory_order_relaxed);
      const std::lock_guard guard(error_lock);
      if (!error) error = std::current_exception();
    }
    return true;
  }
};

void run_alone(const RunContext& context, Index pieces, PieceBody call, void* body) {
  InterruptPoll poll(context);
  const Calling calling(poll, nullptr);
  for (Index piece = 0; piece < pieces; ++piece) {
    call(body, piece);
    if (poll.ask()) throw Interrupted{};
  }
}

// Threads started while this lives take no signals: those belong to the threads of the program, which may
// wait for them.
class SignalsBlocked {
 public:
#if !defined(_WIN32)
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
#else
  SignalsBlocked() {}
#endif
};

// The state word: bits 0..15 how many workers are inside the job, bit 16 set once it is closed to newcomers,
// bits 32..63 the job's number. A worker enters by compare-and-swap, so that nobody can enter a closed or a
// later job.
constexpr std::uint64_t kInside = 0xffff;
constexpr std::uint64_t kClosed = std::uint64_t{1} << 16;
constexpr int kNumberShift = 32;
constexpr int kMaxWorkers = 0x7fff;

class Pool {
 public:
  // False when the pool is busy with another caller's job.
  bool run(const RunContext& context, Index pieces, PieceBody call, void* body) {
    const std::unique_lock owner(busy_, std::try_to_lock);
    if (!owner) return false;
    const Index wanted = std::min<Index>({context.threads, pieces, kMaxWorkers}) - 1;
    const int helpers = start_workers(static_cast<int>(wanted));
    job_.start(call, body, pieces, wanted + 1);
    open(helpers);
    InterruptPoll poll(context);
    {
      const Calling calling(poll, &job_.cancelled);
      while (job_.step(0))
        if (poll.ask()) job_.cancelled.store(true, std::memory_order_relaxed);
    }
    close();
    if (job_.error) std::rethrow_exception(std::exchange(job_.error, nullptr));
    if (poll.heard()) throw Interrupted{};
    return true;
  }

 private:
  // Makes sure that `wanted` workers exist; fewer where the system refuses to start a thread.
  int start_workers(int wanted) {
    if (workers_ >= wanted) return wanted;
    const SignalsBlocked blocked;
    while (workers_ < wanted) {
      try {
        std::thread([this, index = workers_] { work(index); }).detach();
      } catch (const std::system_error&) {
        break;
      }
      ++workers_;
    }
    return workers_;
  }

  void open(int helpers) {
    const std::uint64_t number = (state_.load(std::memory_order_relaxed) >> kNumberShift) + 1;
    helpers_.store(helpers, std::memory_order_relaxed);
    bool anyone_asleep = false;
    {
      // Under the lock, so that a worker between its last look and its sleep cannot miss the job.
      const std::lock_guard guard(sleep_lock_);
      state_.store(number << kNumberShift, std::memory_order_release);
      anyone_asleep = sleepers_ > 0;
    }
    if (anyone_asleep) wake_.notify_all();
  }

  void close() {
    state_.fetch_or(kClosed, std::memory_order_acq_rel);
    const auto empty = [this] { return (state_.load(std::memory_order_acquire) & kInside) == 0; };
    if (spin_until(empty, [] { return true; })) return;
    std::unique_lock guard(sleep_lock_);
    done_.wait(guard, empty);
  }

  bool enter(std::uint64_t number) {
    std::uint64_t seen = state_.load(std::memory_order_acquire);
    while ((seen >> kNumberShift) == number && !(seen & kClosed)) {
      if (state_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void leave() {
    const std::uint64_t before = state_.fetch_sub(1, std::memory_order_acq_rel);
    if ((before & kInside) == 1 && (before & kClosed)) {
      const std::lock_guard guard(sleep_lock_);
      done_.notify_one();
    }
  }

  [[noreturn]] void work(int index) {
    t_cancelled = &job_.cancelled;
    std::uint64_t done = 0;
    const auto has_news = [&] {
      const std::uint64_t state = state_.load(std::memory_order_acquire);
      return (state >> kNumberShift) != done && !(state & kClosed);
    };
    bool helped = false;
    const auto others_at_work = [&] {
      const std::uint64_t state = state_.load(std::memory_order_acquire);
      return helped && (!(state & kClosed) || (state & kInside) != 0);
    };
    for (;;) {
      if (!spin_until(has_news, others_at_work)) {
        std::unique_lock guard(sleep_lock_);
        ++sleepers_;
        wake_.wait(guard, has_news);
        --sleepers_;
      }
      const std::uint64_t number = state_.load(std::memory_order_acquire) >> kNumberShift;
      helped = index < helpers_.load(std::memory_order_relaxed) && enter(number);
      if (helped) {
        while (job_.step(index + 1)) {
        }
        leave();
      }
      done = number;
    }
  }

  std::mutex busy_;  // held by the caller whose job it is
  Job job_;
  int workers_ = 0;
  alignas(kAlignment) std::atomic<std::uint64_t> state_{kClosed};
  std::atomic<int> helpers_{0};  // workers with a smaller index may enter the current job
  std::mutex sleep_lock_;        // guards sleepers_, and the moments of going to sleep
  int sleepers_ = 0;
  std::condition_variable wake_;
  std::condition_variable done_;
};

// Never destroyed: its workers are detached and may sleep in it until the process ends.
std::atomic<Pool*> g_pool{nullptr};

#if !defined(_WIN32)
// The threads of the parent do not exist in a forked child, so it begins with no pool. Registered when the
// library is loaded, when nobody can be forking in the middle of it.
[[maybe_unused]] const int g_registered =
    pthread_atfork(nullptr, nullptr, [] { g_pool.store(nullptr, std::memory_order_release); });
#endif

Pool& pool() {
  Pool* current = g_pool.load(std::memory_order_acquire);
  if (current) return *current;
  auto* fresh = new Pool;
  if (g_pool.compare_exchange_strong(current, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *current;
}

}  // namespace

void run_pieces(const RunContext& context, Index pieces, PieceBody call, void* body) {
  if (context.threads > 1 && pieces > 1 && pool().run(context, pieces, call, body)) return;
  run_alone(context, pieces, call, body);
}

}  // namespace windrow::detail

namespace windrow {

void checkpoint() {
  using namespace detail;
  if (t_poll && t_poll->ask()) throw Interrupted{};
  if (t_cancelled && t_cancelled->load(std::memory_order_relaxed)) throw Interrupted{};
}

}  // namespace windrow
