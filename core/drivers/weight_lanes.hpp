// What lies in the lanes of a weight gradient, and which of its operands are read where they are. The sums
// are the same either way.
#pragma once

#include <algorithm>

#include "drivers/tiles.hpp"
#include "drivers/weight_boxes.hpp"

namespace windrow {

template <class T>
class WeightLanes {
 public:
  WeightLanes(const WeightGradient<T>& problem, const WeightCut& cut, const KernelTable<T>& kernels)
      : p_(problem),
        cut_(cut),
        kernels_(kernels),
        entries_(product_of(cut.taps) * cut.channels),
        run_(run_taps(problem.axes, cut.taps) * cut.channels),
        dy_is_dense_(is_dense()) {
    const bool free = p_.most_scratch == 0;
    const double apart = straight_cycles(false), together = straight_cycles(true);
    const WeightWay way = free ? p_.way : WeightWay::kChosen;
    const bool beside = way == WeightWay::kSideBySide && entries_ != run_;
    side_by_side_ = beside || (cut_.rows_of_taps && way != WeightWay::kRuns && (!free || together < apart));
    const bool straight = beside || way == WeightWay::kRuns;
    turned_ = free && may_turn() && !straight &&
              (way == WeightWay::kFilters ||
               (entries_ <= kMostRowLanes && turned_cycles() < (side_by_side_ ? together : apart)));
    x_in_place_ = (way == WeightWay::kInPlace ? windows_stay() : way != WeightWay::kCopied && may_see_x()) &&
                  (turned_ || x_fills_vectors());
  }

  const char* name() const {
    if (turned_) return x_in_place_ ? "filters, x in place" : "filters";
    if (side_by_side_) return "side by side";
    return x_in_place_ ? "runs, x in place" : "runs";
  }

  // Lanes are filters, and rows of tiles the taps and channels, which then are read wherever they lie.
  bool turned() const { return turned_; }
  // Lanes are taps and channels, those of a pixel copied side by side, instead of run by run of taps.
  bool rows_of_taps() const { return side_by_side_ && !turned_; }

  bool x_in_place() const { return x_in_place_; }
  // dy of these pixels, where lanes are filters.
  bool dy_in_place(const WeightPart& part, const PixelBox& box) const {
    if (dy_fills_vectors() || !dy_is_dense_) return dy_fills_vectors();
    Index last = (box.image + box.images - 1) * p_.dy_image, size = p_.groups * p_.rows * p_.images;
    for (std::size_t i = 0; i < p_.axes.size(); ++i) {
      last += (box.first[i] + box.extent[i] - 1) * p_.dy_stride[i];
      size *= p_.axes[i].out;
    }
    return last + part.group * p_.rows + round_up(part.rows, kernels_.lanes) <= size;
  }

  // What a piece takes beyond the strip and the sums of the cut.
  Index scratch_bytes() const { return turned_bytes() + runs_bytes(); }

 private:
  // Cycles for one pixel: of `rows` by `vectors` in tiles, where a few sums wait for their latency and what
  // is multiplied, and the step to it, for being loaded.
  double tile_cycles(Index rows, Index vectors) const {
    const Index row_tiles = ceil_div(rows, kernels_.rows), vector_tiles = ceil_div(vectors, kernels_.vectors);
    constexpr double kPerCycle = 2, kStepLoads = 2;
    const auto tiles = static_cast<double>(row_tiles * vector_tiles);
    const double sums = static_cast<double>(rows * vectors) / tiles;
    const double loads = static_cast<double>(rows) / static_cast<double>(row_tiles) +
                         static_cast<double>(vectors) / static_cast<double>(vector_tiles) + kStepLoads;
    return tiles * std::max({sums, loads, static_cast<double>(kSumsInFlight)}) / kPerCycle;
  }

  // Cycles for a vector.
  static constexpr double kTurn = 6, kCopyRun = 5, kCopy = 2;

  // Cycles for one pixel where lanes are taps and channels, those of a pixel run by run of neighbouring taps
  // or copied side by side.
  double straight_cycles(bool together) const {
    if (entries_ == 0) return 0;
    const Index runs = entries_ / run_, run_vectors = ceil_div(run_, kernels_.lanes);
    double cycles = static_cast<double>(runs) * tile_cycles(cut_.rows, run_vectors);
    if (together)
      cycles = tile_cycles(cut_.rows, ceil_div(entries_, kernels_.lanes)) +
               kCopyRun * static_cast<double>(runs * run_vectors);
    if (may_see_x() && !x_fills_vectors()) cycles += kTurn * static_cast<double>(run_vectors);
    return cycles;
  }

  // The same where lanes are filters.
  bool may_turn() const {
    return entries_ > 0 && p_.rows > 0 && (p_.dy_channel == 1 || p_.dy_stride.back() == 1);
  }
  double turned_cycles() const {
    const Index filters = ceil_div(cut_.rows, kernels_.lanes);
    const Index pixels = ceil_div(units_of(p_, cut_), cut_.slots) * box_pixels();  // of a piece
    double cycles = tile_cycles(entries_, filters) + kTurn * static_cast<double>(entries_ * filters) /
                                                         static_cast<double>(std::max<Index>(1, pixels));
    if (!dy_fills_vectors() && !dy_is_dense_)
      cycles += (p_.dy_channel == 1 ? kCopy : kTurn) * static_cast<double>(filters);
    return cycles;
  }

  // Whether the filters of a pixel fill whole vectors where they are, ...
  bool dy_fills_vectors() const {
    return p_.dy_channel == 1 && p_.rows % kernels_.lanes == 0 && cut_.rows % kernels_.lanes == 0;
  }
  // ... or are followed by other pixels', which the last vector may hold besides: in a channels-last array
  // without gaps all but those of the last pixels.
  bool is_dense() const {
    Index size = p_.groups * p_.rows;
    bool dense = p_.dy_channel == 1 && cut_.row_blocks == 1;
    for (std::size_t i = p_.axes.size(); i-- > 0;) {
      dense = dense && p_.dy_stride[i] == size;
      size *= p_.axes[i].out;
    }
    return dense && (p_.images == 1 || p_.dy_image == size);
  }

  // Whether windows of one tap stay in the image.
  bool windows_stay() const {
    return std::all_of(p_.axes.begin(), p_.axes.end(), [](const WindowAxis& a) {
      return a.kernel == 1 && a.before <= 0 && (a.out - 1) * a.stride - a.before < a.size;
    });
  }
  // Of many channels side by side each block is better copied: positions are too far apart for the caches.
  bool may_see_x() const {
    constexpr Index kFarPosition = 1024;  // bytes
    return (p_.x_channel != 1 || p_.channels * Index{sizeof(T)} <= kFarPosition) && windows_stay();
  }
  // Whether the channels of a position fill whole vectors where they are.
  bool x_fills_vectors() const { return p_.x_channel == 1 && p_.channels % kernels_.lanes == 0; }

  Index box_pixels() const { return product_of(cut_.pixels) * cut_.images; }

  Index turned_bytes() const {
    if (!turned_) return 0;
    const Index width = round_up(cut_.rows, kernels_.lanes), nr = Index{kernels_.lanes} * kernels_.vectors;
    return ((box_pixels() + entries_) * width + nr) * Index{sizeof(T)} + entries_ * Index{sizeof(Index)};
  }

  // What sums take more where taps that were to be copied side by side are not, or the other way round.
  Index runs_bytes() const {
    if (cut_.rows_of_taps == side_by_side_) return 0;
    if (side_by_side_) return box_pixels() * entries_ * Index{sizeof(T)};
    const Index width = entries_ / run_ * round_up(run_, kernels_.lanes);
    return cut_.rows * std::max<Index>(0, width - cut_.row_sums) * Index{sizeof(T)};
  }

  const WeightGradient<T>& p_;
  const WeightCut& cut_;
  const KernelTable<T>& kernels_;
  const Index entries_, run_;  // taps and channels of a box of taps, and those of one run of taps
  const bool dy_is_dense_;
  bool side_by_side_, turned_, x_in_place_;
};

}  // namespace windrow
