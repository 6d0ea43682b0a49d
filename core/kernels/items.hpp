// Single elements of any alignment.
#pragma once

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

}  // namespace
