// Rows of a result over one panel, tile by tile.
#pragma once

#include <algorithm>

#include "base/types.hpp"
#include "kernels/contract.hpp"

namespace windrow {

// Vectors of sums in a tile; two multiply-adds in a cycle then hide their latency of four.
inline constexpr Index kSumsInFlight = 8;

// As few tiles as can be for some columns, of whole vectors and nearly equal width: a tile of one vector
// loads as many factors as one of three. Or `least` of them, if that is more.
class EvenTiles {
 public:
  template <class T>
  EvenTiles(const KernelTable<T>& kernels, Index columns, Index least = 0)
      : columns_(columns),
        lanes_(kernels.lanes),
        vectors_(ceil_div(columns, lanes_)),
        count_(std::max(least, ceil_div(vectors_, kernels.vectors))) {}

  Index count() const { return count_; }
  Index begin(Index tile) const { return std::min(columns_, first(tile) * lanes_); }
  Index vectors(Index tile) const { return first(tile + 1) - first(tile); }

 private:
  Index first(Index tile) const { return vectors_ * tile / count_; }

  Index columns_, lanes_, vectors_, count_;
};

// Brings results into their limits, where there are any.
template <class T>
void limit(const KernelTable<T>& kernels, const Limits& limits, T* target, Index target_row, Index rows,
           Index count) {
  if (!limits.on) return;
  kernels.limit({.target = target,
                 .target_row = target_row,
                 .rows = rows,
                 .count = count,
                 .low = static_cast<T>(limits.low),
                 .high = static_cast<T>(limits.high)});
}

// `product` begins at the first of `rows` rows; the bias, if any, is that of the same row. Where a full tile
// and a sliver would be left, two tiles share their rows: a sliver of one or two rows takes as long as one of
// four.
template <class T>
void run_tiles(const KernelTable<T>& kernels, Product<T> product, Index rows, int vectors, const T* bias,
               Index bias_stride, const Limits& limits = {}) {
  constexpr int kMaxRows = 16;  // of any target's tile
  T tile_bias[kMaxRows];
  const auto product_kernel = kernels.product;
  const Index most = kernels.rows, a_row = product.a_row, c_row = product.c_row;
  for (Index m = 0, some; m < rows; m += some) {
    const Index left = rows - m;
    some = left >= 2 * most ? most : left > most ? ceil_div(left, 2) : left;
    if (bias) {
      for (Index r = 0; r < some; ++r) tile_bias[r] = bias[(m + r) * bias_stride];
      product.bias = tile_bias;
    }
    product_kernel(product, static_cast<int>(some), vectors);
    limit(kernels, limits, product.c, c_row, some, vectors * Index{kernels.lanes});
    product.a += some * a_row;
    product.c += some * c_row;
  }
}

// Runs of lanes that a product passes over: how many, and the distances from one to the next in B and C.
struct LaneRuns {
  Index runs, lanes, b, c;
};

// All terms of `product`, which begins at the first lane of the first run. What one chunk of them reads stays
// in the first-level cache while all lanes pass over it.
template <class T>
void run_chunks(const KernelTable<T>& kernels, const Product<T>& product, Index rows, const LaneRuns& over,
                const T* bias, Index bias_stride) {
  const Index nr = Index{kernels.lanes} * kernels.vectors;
  Index k = 0;
  do {  // once even where there are no terms
    Product<T> part = product;
    part.step += k;
    part.k = std::min(Index{kChunk}, product.k - k);
    part.accumulate = product.accumulate || k > 0;
    const T* last_bias = k + part.k == product.k ? bias : nullptr;
    for (Index run = 0; run < over.runs; ++run) {
      for (Index lane = 0; lane < over.lanes; lane += nr) {
        part.b = product.b + run * over.b + lane;
        part.c = product.c + run * over.c + lane;
        const auto vectors = static_cast<int>(ceil_div(std::min(nr, over.lanes - lane), kernels.lanes));
        run_tiles(kernels, part, rows, vectors, last_bias, bias_stride);
      }
    }
    k += part.k;
  } while (k < product.k);
}

}  // namespace windrow
