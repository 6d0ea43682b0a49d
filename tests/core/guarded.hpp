// Memory that ends exactly where an operand ends: the pages before and behind it may not be touched, so that
// one byte too far is a fault, also for the masked and vector accesses that AddressSanitizer cannot see.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "base/types.hpp"

namespace seeded {

using windrow::Index;

// All that a case draws comes from its own seed.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}
  // A number of [low, high].
  Index number(Index low, Index high) {
    return low + static_cast<Index>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  Index of(std::initializer_list<Index> values) {
    return values.begin()[number(0, static_cast<Index>(values.size()) - 1)];
  }
  bool chance(int percent) { return number(1, 100) <= percent; }

 private:
  std::mt19937_64 engine_;
};

// `count` elements between two pages without access: against the far one, or at an alignment that the
// contract asks for against the near one.
template <class T>
class Guarded {
 public:
  Guarded(Index count, bool at_end) : count_(count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    const std::size_t inner = (bytes + page - 1) / page * page;
    size_ = inner + 2 * page;
    memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    char* first = static_cast<char*>(memory_) + page;
    mprotect(memory_, page, PROT_NONE);
    mprotect(first + inner, page, PROT_NONE);
    data_ = reinterpret_cast<T*>(at_end ? first + inner - bytes : first);
  }
  ~Guarded() { munmap(memory_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  Index size() const { return count_; }
  T& operator[](Index i) { return data_[i]; }
  const T& operator[](Index i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }
  std::vector<T> copy() const { return std::vector<T>(data_, data_ + count_); }

 private:
  void* memory_;
  std::size_t size_;
  T* data_;
  Index count_;
};

// What nobody may read: it would show in a result.
template <class T>
T untouchable() {
  if constexpr (std::numeric_limits<T>::has_quiet_NaN) {
    return std::numeric_limits<T>::quiet_NaN();
  } else {
    return static_cast<T>(0x55);
  }
}

// Small whole numbers: sums of their products are exact in any order, fused or not.
template <class T>
T small(Draw& draw) {
  return static_cast<T>(draw.number(-4, 4));
}

template <class T>
bool same_bytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

}  // namespace seeded
