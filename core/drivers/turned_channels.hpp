// The product of channel_product for arrays in C order: some channels of an image at a time are turned over,
// so that they and no more its pixels lie side by side, and what comes out is turned back. For small images
// and windows of many taps, where lanes along the pixels stay empty. Same plan of sums, so the same bits.
#pragma once

#include "drivers/channel_product.hpp"

namespace windrow {

// The channels of all images of an array.
struct ChannelImages {
  Extents size, stride;  // of an image, along each spatial axis
  Index image = 0, channel = 0;
};

// One or several products, as those of the phases of an input gradient, between the same two arrays. They
// are those of one image with `channels` channels side by side: `source` and `target` are where they begin.
template <class T>
struct TurnedChannels {
  std::vector<WindowProduct<T>> products;
  Index channels = 0;  // turned over at a time
  Index images = 0, groups = 0;
  const T* source = nullptr;
  T* target = nullptr;
  ChannelImages source_images, target_images;
  bool accumulate = false;
};

template <class T>
void run_turned_channels(const TurnedChannels<T>& problem, const Target& target, const RunContext& context);

// How many channels are best turned over at a time.
template <class T>
Index turned_channels(const TurnedChannels<T>& problem, Index threads);

template <class T>
Index turned_pieces(const TurnedChannels<T>& problem);
template <class T>
Index turned_scratch(const TurnedChannels<T>& problem);  // bytes of one thread

}  // namespace windrow
