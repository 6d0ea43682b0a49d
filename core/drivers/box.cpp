#include "drivers/box.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace windrow {
namespace {

// Places from what is copied to what is fetched meanwhile. A tile of a transpose reads 16 lines of as many
// runs, and processors run ahead by hardly more than one tile.
constexpr std::size_t kPlacesAhead = 3;
// Lines so far apart share a set of the first-level cache, from which those fetched would drive those in use.
constexpr Index kSetPeriod = 4096;

}  // namespace

bool Box::empty() const {
  for (int i = 0; i < size_; ++i)
    if ((*this)[i].count == 0) return true;
  return false;
}

BoxAxis Box::take(int i) {
  const BoxAxis taken = (*this)[i];
  for (int j = i + 1; j < size_; ++j) (*this)[j - 1] = (*this)[j];
  --size_;
  return taken;
}

void Box::sort_by_target() {
  // Insertion: a handful of axes, mostly in order already; equal strides keep their order.
  for (int i = 1; i < size_; ++i)
    for (int j = i; j > 0 && std::abs((*this)[j - 1].target) < std::abs((*this)[j].target); --j)
      std::swap((*this)[j - 1], (*this)[j]);
}

void Box::merge() {
  int last = 0;
  for (int i = 1; i < size_; ++i) {
    BoxAxis& outer = (*this)[last];
    const BoxAxis& inner = (*this)[i];
    if (outer.target == inner.count * inner.target && outer.source == inner.count * inner.source) {
      outer = {outer.count * inner.count, inner.target, inner.source};
    } else {
      (*this)[++last] = inner;
    }
  }
  if (size_ > 0) size_ = last + 1;
}

void copy_box(const PatchKernels& kernels, Index item, char* target, const char* source, Box box,
              WalkBy walk) {
  if (box.empty()) return;
  const bool by_target = walk == WalkBy::kTarget || walk == WalkBy::kFarTarget;
  box.sort_by_target();
  box.merge();
  BoxAxis column = box.size() ? box.take(box.size() - 1) : BoxAxis{1, item, item};
  BoxAxis row{1, 0, 0};
  if (box.size()) {
    // The source's innermost axis makes the rows, so that whatever lines one side reads, the block uses up.
    int inner = box.size() - 1;
    for (int i = inner; i-- > 0;)
      if (std::abs(box[i].source) < std::abs(box[inner].source)) inner = i;
    if (by_target && std::abs(column.source) <= std::abs(box[inner].source)) inner = box.size() - 1;
    row = box.take(inner);
  }
  if (!by_target)
    for (int i = 1; i < box.size(); ++i)
      for (int j = i; j > 0 && std::abs(box[j - 1].source) < std::abs(box[j].source); --j)
        std::swap(box[j - 1], box[j]);
  Move move{.target = target,
            .source = source,
            .target_row = row.target,
            .target_column = column.target,
            .source_row = row.source,
            .source_column = column.source,
            .rows = row.count,
            .columns = column.count,
            .item = item,
            .ahead = 0,
            .far_target = walk == WalkBy::kFarTarget};
  struct Place {
    Index to, from;
  };
  const auto copy = [&](const Place& place, Index ahead) {
    move.target = target + place.to;
    move.source = source + place.from;
    move.ahead = ahead;
    kernels.move(move);
  };
  if (walk != WalkBy::kFarSource || column.source % kSetPeriod == 0) {
    for_each_point(box, box.size(), [&](Index to, Index from) { copy({to, from}, 0); });
    return;
  }
  std::array<Place, kPlacesAhead> waiting;
  std::size_t come = 0;
  for_each_point(box, box.size(), [&](Index to, Index from) {
    Place& oldest = waiting[come % kPlacesAhead];
    if (come++ >= kPlacesAhead) copy(oldest, from - oldest.from);
    oldest = {to, from};
  });
  for (std::size_t i = come - std::min(come, waiting.size()); i < come; ++i)
    copy(waiting[i % kPlacesAhead], 0);
}

void fill_run(char* target, const char* value, Index item, Index bytes) {
  if (bytes <= 0) return;
  bool same = true;
  for (Index i = 1; i < item; ++i) same = same && value[i] == value[0];
  if (same) {
    std::memset(target, value[0], static_cast<std::size_t>(bytes));
    return;
  }
  std::memcpy(target, value, static_cast<std::size_t>(item));
  for (Index done = item; done < bytes;) {
    const Index some = std::min(done, bytes - done);
    std::memcpy(target + done, target, static_cast<std::size_t>(some));
    done += some;
  }
}

void fill_box(const PatchKernels& kernels, Index item, char* target, const char* value, Box box) {
  for (int i = 0; i < box.size(); ++i) box[i].source = 0;
  if (box.empty()) return;
  box.sort_by_target();
  box.merge();
  if (box.size() && box[box.size() - 1].target == item) {
    const BoxAxis run = box.take(box.size() - 1);
    for_each_point(box, box.size(),
                   [&](Index to, Index) { fill_run(target + to, value, item, run.count * item); });
  } else {
    copy_box(kernels, item, target, value, box);
  }
}

}  // namespace windrow
