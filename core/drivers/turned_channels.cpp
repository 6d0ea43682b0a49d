#include "drivers/turned_channels.hpp"

#include <algorithm>

#include "base/workspace.hpp"

namespace windrow {
namespace {

constexpr Index kImageBytes = 192 << 10;  // of both images that a piece of work turns over

// Calls body(place, number, count) for runs of neighbouring pixels of an image: where each begins, and the
// numbers of its pixels, row-major.
template <class Body>
void each_run(const ChannelImages& images, Body&& body) {
  Index count = 1;
  std::size_t outer = images.size.size();
  for (; outer > 0 && images.stride[outer - 1] == count; --outer) count *= images.size[outer - 1];
  const Extents all(images.size.begin(), images.size.begin() + static_cast<std::ptrdiff_t>(outer));
  Extents at(outer, 0);
  Index number = 0;
  do {
    Index place = 0;
    for (std::size_t i = 0; i < outer; ++i) place += at[i] * images.stride[i];
    body(place, number, count);
    number += count;
  } while (advance(at, all));
}

template <class T>
class Driver {
 public:
  Driver(const TurnedChannels<T>& problem, const Target& target)
      : p_(problem),
        target_(target),
        kernels_(target.kernels<T>()),
        blocks_(ceil_div(problem.groups, problem.channels)) {}

  Index pieces() const { return p_.images * blocks_; }

  void piece(Index index) const {
    const Index image = index / blocks_, first = index % blocks_ * p_.channels;
    const Index channels = std::min(p_.channels, p_.groups - first);
    const ChannelImages &from = p_.source_images, &to = p_.target_images;
    T* target = p_.target + image * to.image + first * to.channel;
    Scratch scratch;
    T* source = scratch.take<T>(product_of(from.size) * p_.channels);
    T* result = scratch.take<T>(product_of(to.size) * p_.channels);
    turn(p_.source + image * from.image + first * from.channel, from, channels, source);
    if (p_.accumulate) turn(target, to, channels, result);
    for (const WindowProduct<T>& product : p_.products) {
      WindowProduct<T> some = product;
      some.groups = channels;
      some.source = source;
      some.target = result + (product.target - p_.target);
      some.factor += first * product.factor_group;
      if (some.bias) some.bias += first * product.bias_stride;
      run_channel_product_here(some, choose_channels(some.grid, channels), target_);
    }
    each_run(to, [&](Index place, Index number, Index count) {
      kernels_.transpose({.target = target + place,
                          .target_row = to.channel,
                          .source = result + number * p_.channels,
                          .source_row = p_.channels,
                          .rows = channels,
                          .columns = count,
                          .ahead = 0});
    });
  }

 private:
  void turn(const T* image, const ChannelImages& images, Index channels, T* turned) const {
    each_run(images, [&](Index place, Index number, Index count) {
      kernels_.transpose({.target = turned + number * p_.channels,
                          .target_row = p_.channels,
                          .source = image + place,
                          .source_row = images.channel,
                          .rows = count,
                          .columns = channels,
                          .ahead = 0});
    });
  }

  const TurnedChannels<T>& p_;
  const Target& target_;
  const KernelTable<T>& kernels_;
  const Index blocks_;
};

}  // namespace

template <class T>
void run_turned_channels(const TurnedChannels<T>& problem, const Target& target, const RunContext& context) {
  const Driver<T> driver(problem, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

// Whole cache lines of them.
template <class T>
Index turned_channels(const TurnedChannels<T>& p, Index threads) {
  constexpr Index kLine = kAlignment / sizeof(T);
  const Index all = ceil_div(p.groups, kLine);
  const Index line_bytes =
      (product_of(p.source_images.size) + product_of(p.target_images.size)) * Index{kAlignment};
  const Index lines = std::clamp<Index>(kImageBytes / line_bytes, 1, all);
  const Index blocks = ceil_div(all, lines);
  return ceil_div(all, blocks * parts_for_threads(p.images * blocks, threads, lines)) * kLine;
}

template <class T>
Index turned_pieces(const TurnedChannels<T>& problem) {
  return problem.images * ceil_div(problem.groups, problem.channels);
}

template <class T>
Index turned_scratch(const TurnedChannels<T>& problem) {
  const Index pixels = product_of(problem.source_images.size) + product_of(problem.target_images.size);
  Index most = 0;
  for (const WindowProduct<T>& product : problem.products)
    most = std::max(most, channel_scratch(product.grid) +
                              channel_shared(product.grid, problem.channels, Index{sizeof(T)}));
  return pixels * problem.channels * Index{sizeof(T)} + most;
}

template void run_turned_channels(const TurnedChannels<float>&, const Target&, const RunContext&);
template void run_turned_channels(const TurnedChannels<double>&, const Target&, const RunContext&);
template Index turned_channels(const TurnedChannels<float>&, Index);
template Index turned_channels(const TurnedChannels<double>&, Index);
template Index turned_pieces(const TurnedChannels<float>&);
template Index turned_pieces(const TurnedChannels<double>&);
template Index turned_scratch(const TurnedChannels<float>&);
template Index turned_scratch(const TurnedChannels<double>&);

}  // namespace windrow
