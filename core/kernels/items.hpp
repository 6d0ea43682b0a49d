// Single elements of any alignment, and lines of memory.
#pragma once

#include <cstddef>

namespace {

template <class Item>
inline Item load_item(const char* p) {
  Item item;
  __builtin_memcpy(&item, p, sizeof item);
  return item;
}

template <class Item>
inline void store_item(char* p, Item item) {
  __builtin_memcpy(p, &item, sizeof item);
}

// The lines of so many bytes further along a target, which would be read before they are written: where a
// target is larger than the second-level cache, stores wait for them in their order.
inline void fetch_ahead(const char* target, std::ptrdiff_t bytes) {
  constexpr std::ptrdiff_t kAhead = 1024;
  for (std::ptrdiff_t i = 0; i < bytes; i += 64) __builtin_prefetch(target + kAhead + i, 1, 3);
}

}  // namespace
