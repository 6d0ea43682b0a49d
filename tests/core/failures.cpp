// Every allocation of an operation refused in turn: the first one, then the second, until the operation gets
// through. Each refusal must come out as std::bad_alloc, on any number of threads; nothing may be lost, and
// the next call must work.
#include "failures.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

#include "base/workspace.hpp"

namespace {

constexpr long kNever = -1;
std::atomic<long> g_left{kNever};  // allocations until one is refused
std::atomic<long> g_living{0};     // blocks of memory that have not been given back

// Whether the next allocation gets memory.
bool granted() {
  long left = g_left.load();
  while (left > 0 && !g_left.compare_exchange_weak(left, left - 1)) {
  }
  return left != 0;
}

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (!granted()) return nullptr;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  void* memory = alignment <= alignof(std::max_align_t) ? std::malloc(bytes > 0 ? bytes : 1)
                                                        : std::aligned_alloc(alignment, bytes);
  if (memory) g_living.fetch_add(1);
  return memory;
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  void* memory = allocate(bytes, alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}

void release(void* memory) {
  if (memory) g_living.fetch_sub(1);
  std::free(memory);
}

}  // namespace

// All that C++ allocates goes through these; those that are missing here call them.
void* operator new(std::size_t bytes) { return allocate_or_throw(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace seeded {

void refuse_each_allocation(bool alone, const std::function<void()>& operation) {
  operation();  // what is made once and kept (threads, a thread's list of arenas) exists from here on
  windrow::release_workspaces();
  operation();
  windrow::release_workspaces();
  const long before = g_living;
  for (long n = 0;; ++n) {
    g_left = n;
    bool refused = false;
    try {
      operation();
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    const bool came_so_far = g_left.exchange(kNever) == 0;
    windrow::release_workspaces();
    expect(!refused || came_so_far, "an error without a refusal");
    // Other threads keep tables of their own from the first piece that they happen to take.
    expect(!alone || g_living.load() == before, "memory was lost");
    if (!came_so_far) return;
    expect(n < 100'000, "it never gets through");
  }
}

}  // namespace seeded
