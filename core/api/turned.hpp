// Depthwise passes on small images in C order, whose channels are turned over: where, and as what products.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>

#include "api/products.hpp"
#include "drivers/turned_channels.hpp"

namespace windrow {

inline constexpr Index kMostTurnedScratch = Index{4} << 20;  // bytes: beyond, images are not small

template <class T>
struct TurnedPlan {
  TurnedChannels<T> problem;
  Index scratch = 0;  // bytes, of one thread
  int threads = 1;
};

// Whether lanes along the channels take less time, with what it takes to turn them over. By measurement:
// where a row of pixels fills no more than a vector, or one for each so many taps; a row of one of several
// phases, which have few taps, three quarters of that.
inline bool gains_by_turning(const ConvShape& s, Index WindowAxis::* target_size, bool in_phases,
                             Index lanes) {
  constexpr Index kVectorTaps = 28, kMostPhases = 16;
  if (s.groups < lanes || s.c != s.groups || s.k != s.groups || s.n == 0) return false;
  Index columns = 1;  // those of the last axis that has more than one
  for (const WindowAxis& a : s.axes) {
    if (a.size == 0 || a.out == 0) return false;
    if (a.*target_size != 1) columns = ceil_div(a.*target_size, in_phases ? a.stride : 1);
  }
  const Index taps = product_of(s.axes, &WindowAxis::kernel);
  const double phases = in_phases ? phase_count(s) : 1;
  if (phases > 1) columns = ceil_div(4 * columns, 3);
  return taps > 1 && taps <= kChunk && phases <= kMostPhases &&
         kVectorTaps * columns <= std::max(kVectorTaps, taps) * lanes;
}

// Where the pixels of each image lie side by side.
inline bool turns_over(const ConvShape& s, const Index* strides) {
  return strides[1] != 1 && strides[1 + s.axes.size()] == 1;
}

inline ChannelImages channel_images(const ConvShape& s, Index WindowAxis::* size, const Index* strides) {
  return {.size = extents_of(s.axes, size),
          .stride = Extents(strides + 2, strides + 2 + s.axes.size()),
          .image = strides[0],
          .channel = strides[1]};
}

// Nothing where another way is faster or asked for, or has to do with the workspace that there is.
// products(shape, source, target): those of one image of some channels that are turned over.
template <class T, class Products>
std::optional<TurnedPlan<T>> plan_turned(const ConvShape& s, ArrayView<const T> source,
                                         Index WindowAxis::* source_size, ArrayView<T> target,
                                         Index WindowAxis::* target_size, bool in_phases,
                                         const CallOptions& options, Index lanes, int threads,
                                         Products&& products) {
  if (!gains_by_turning(s, target_size, in_phases, lanes) || options.algorithm > Algorithm::kDirect ||
      !turns_over(s, source.strides) || !turns_over(s, target.strides))
    return std::nullopt;
  TurnedPlan<T> plan{.problem = {.products = {},
                                 .images = s.n,
                                 .groups = s.groups,
                                 .source = source.data,
                                 .target = target.data,
                                 .source_images = channel_images(s, source_size, source.strides),
                                 .target_images = channel_images(s, target_size, target.strides),
                                 .accumulate = options.accumulate},
                     .scratch = 0,
                     .threads = threads};
  TurnedChannels<T>& p = plan.problem;
  p.channels = turned_channels(p, threads);
  ConvShape some = s;
  some.n = 1;
  some.c = some.k = some.groups = p.channels;
  const Extents from = channels_last_strides(p.channels, p.source_images.size);
  const Extents to = channels_last_strides(p.channels, p.target_images.size);
  p.products =
      products(some, ArrayView<const T>{source.data, from.data()}, ArrayView<T>{target.data, to.data()});
  plan.scratch = turned_scratch(p);
  if (plan.scratch > kMostTurnedScratch) return std::nullopt;
  if (options.max_workspace == 0) return plan;
  if (plan.scratch > options.max_workspace) return std::nullopt;
  plan.threads = static_cast<int>(std::min<Index>(threads, options.max_workspace / plan.scratch));
  return plan;
}

template <class T>
std::optional<TurnedPlan<T>> plan_turned_forward(const ConvShape& s, ArrayView<const T> x,
                                                 ArrayView<const T> w, BiasView<const T> b, ArrayView<T> y,
                                                 const CallOptions& options, const Target& target,
                                                 int threads) {
  return plan_turned<T>(s, x, &WindowAxis::size, y, &WindowAxis::out, false, options,
                        target.kernels<T>().lanes, threads,
                        [&](const ConvShape& some, ArrayView<const T> from, ArrayView<T> to) {
                          std::vector<WindowProduct<T>> products{forward_product<T>(some, from, w, b, to)};
                          products.front().limits = options.limits;
                          return products;
                        });
}

template <class T>
std::optional<TurnedPlan<T>> plan_turned_gradient(const ConvShape& s, ArrayView<const T> dy,
                                                  ArrayView<const T> w, BiasView<const T> b, ArrayView<T> dx,
                                                  const CallOptions& options, const Target& target,
                                                  int threads) {
  return plan_turned<T>(s, dy, &WindowAxis::out, dx, &WindowAxis::size, true, options,
                        target.kernels<T>().lanes, threads,
                        [&](const ConvShape& some, ArrayView<const T> from, ArrayView<T> to) {
                          std::vector<WindowProduct<T>> phases;
                          const auto add = [&](const WindowProduct<T>& phase) { phases.push_back(phase); };
                          for_each_phase<T>(some, from, w, to, options.accumulate, add, b);
                          return phases;
                        });
}

}  // namespace windrow
