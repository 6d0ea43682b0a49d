#include "base/workspace.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace windrow {
namespace {

constexpr std::size_t kFirstBlock = std::size_t{256} << 10;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::align_val_t alignment_of(std::size_t bytes) {
  return std::align_val_t{bytes >= kHugePage ? kHugePage : kAlignment};
}

std::atomic<Index> g_until_refused{-1};  // allocations; negative: none is refused

std::byte* allocate(std::size_t bytes) {
  if (g_until_refused.load(std::memory_order_relaxed) >= 0 && g_until_refused.fetch_sub(1) == 0)
    throw ScratchRefused(bytes);
  void* memory = ::operator new(bytes, alignment_of(bytes), std::nothrow);
  if (!memory) throw ScratchRefused(bytes);
#if defined(__linux__)
  // Advice only: page faults of small pages would cost more than the packing that fills them.
  if (bytes >= kHugePage) static_cast<void>(madvise(memory, bytes, MADV_HUGEPAGE));
#endif
  return static_cast<std::byte*>(memory);
}

}  // namespace

// A stack of aligned blocks. It grows by adding a block and never moves what was handed out. A call that
// needed several leaves none behind: the next one gets a single block of the size that was in use at most, so
// that no arena holds more than the largest of its calls needed.
class Arena {
 public:
  ~Arena() { free_blocks(); }

  // Begins and ends the use by the owning thread; only the outermost scope takes the arena from
  // release_workspaces.
  void enter() {
    if (depth_++ > 0) return;
    while (taken_.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
  }
  void leave() {
    if (--depth_ > 0) return;
    if (blocks_.size() > 1) free_blocks();
    taken_.store(false, std::memory_order_release);
  }

  bool try_free() {
    if (taken_.exchange(true, std::memory_order_acquire)) return false;
    free_blocks();
    most_ = 0;
    taken_.store(false, std::memory_order_release);
    return true;
  }

  // In a forked child, by its only thread: another thread of the parent may have been freeing this arena.
  void after_fork() { taken_.store(depth_ > 0, std::memory_order_relaxed); }

  void* take(std::size_t bytes) {
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    while (block < blocks_.size() && blocks_[block].size - used < bytes) {
      ++block;
      used = 0;
    }
    if (block == blocks_.size()) add_block(bytes);
    void* result = blocks_[block].memory + used;
    used += bytes;
    in_use += bytes;
    most_ = std::max(most_, in_use);
    return result;
  }

  std::size_t reserved() const { return reserved_.load(std::memory_order_relaxed); }

  std::size_t block = 0;   // the block that is being filled
  std::size_t used = 0;    // bytes of it
  std::size_t in_use = 0;  // bytes of all blocks

 private:
  struct Block {
    std::byte* memory;
    std::size_t size;
  };

  void add_block(std::size_t bytes) {
    std::size_t size = std::max(kFirstBlock, blocks_.empty() ? std::max(most_, bytes) : bytes);
    if (size > kHugePage / 2) size = (size + kHugePage - 1) / kHugePage * kHugePage;
    blocks_.reserve(blocks_.size() + 1);
    blocks_.push_back({allocate(size), size});
    reserved_.fetch_add(size, std::memory_order_relaxed);
  }

  void free_blocks() {
    for (const Block& b : blocks_) ::operator delete(b.memory, alignment_of(b.size));
    blocks_.clear();
    block = used = in_use = 0;
    reserved_.store(0, std::memory_order_relaxed);
  }

  std::vector<Block> blocks_;
  std::size_t most_ = 0;            // that in_use has been since the last release
  int depth_ = 0;                   // scopes open on the owning thread
  std::atomic<bool> taken_{false};  // by the owner while depth_ > 0, or by release_workspaces
  std::atomic<std::size_t> reserved_{0};
};

namespace {

// Every living arena. A thread registers its own at first use and takes it out when it ends.
struct Registry {
  std::mutex lock;
  std::vector<Arena*> arenas;
};

// Made when the library is loaded, when nobody can be forking in the middle of it; outlives the threads that
// take their arenas out at exit.
std::atomic<Registry*> g_registry{new Registry};

Registry& registry() { return *g_registry.load(std::memory_order_acquire); }

struct Registered {
  Arena arena;
  Registered() {
    const std::lock_guard guard(registry().lock);
    registry().arenas.push_back(&arena);
  }
  ~Registered() {
    const std::lock_guard guard(registry().lock);
    std::erase(registry().arenas, &arena);
  }
};

Arena& thread_arena() {
  thread_local Registered mine;
  return mine.arena;
}

// Another thread of the parent may have held the registry's lock when it forked: the child starts a new one,
// with the arena of its only thread. Those of the threads that did not come along are lost, as their memory
// may be half-written.
void after_fork() {
  g_registry.store(new Registry, std::memory_order_release);
  Arena& mine = thread_arena();
  mine.after_fork();
  auto& arenas = registry().arenas;
  if (std::find(arenas.begin(), arenas.end(), &mine) == arenas.end()) arenas.push_back(&mine);
}

#if !defined(_WIN32)
[[maybe_unused]] const int g_registered = pthread_atfork(nullptr, nullptr, after_fork);
#endif

}  // namespace

Scratch::Scratch() : arena_(thread_arena()) {
  arena_.enter();
  block_ = arena_.block;
  used_ = arena_.used;
  in_use_ = arena_.in_use;
}

Scratch::~Scratch() {
  arena_.block = block_;
  arena_.used = used_;
  arena_.in_use = in_use_;
  arena_.leave();
}

void* Scratch::take_bytes(std::size_t bytes) { return arena_.take(bytes); }

std::size_t workspace_bytes() {
  const std::lock_guard guard(registry().lock);
  std::size_t total = 0;
  for (const Arena* arena : registry().arenas) total += arena->reserved();
  return total;
}

void refuse_scratch(Index after) { g_until_refused.store(after); }

void release_workspaces() {
  const std::lock_guard guard(registry().lock);
  for (Arena* arena : registry().arenas) arena->try_free();
}

}  // namespace windrow
