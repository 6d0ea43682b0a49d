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
    const WeightWay way = free ? p_.way : WeightWay::kChosen;
    const auto least = [&](auto cycles, bool may_stay) {  // over where x is read
      const bool here = may_stay && windows_stay() && way != WeightWay::kCopied;
      if (here && way == WeightWay::kInPlace) return Estimate{cycles(true), true};
      const double copied = cycles(false);
      if (!here || is_alike()) return Estimate{copied, false};
      const double stays = cycles(true);
      return stays <= copied ? Estimate{stays, true} : Estimate{copied, false};
    };
    const Estimate apart = least([&](bool here) { return straight_cycles(false, here); }, x_fills_vectors());
    const Estimate together = least([&](bool here) { return straight_cycles(true, here); }, false);
    const bool beside = way == WeightWay::kSideBySide && entries_ != run_;
    side_by_side_ =
        beside || (cut_.rows_of_taps && way != WeightWay::kRuns && (!free || together.cycles < apart.cycles));
    const Estimate& straight = side_by_side_ ? together : apart;
    turned_ = false;
    x_in_place_ = straight.x_in_place;
    if (!free || !may_turn() || beside || way == WeightWay::kRuns) return;
    if (way != WeightWay::kFilters && entries_ > kMostRowLanes) return;
    const Estimate turned = least([&](bool here) { return turned_cycles(here); }, true);
    turned_ = way == WeightWay::kFilters || turned.cycles < straight.cycles;
    if (turned_) x_in_place_ = turned.x_in_place;
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

  // What of a pixel's estimate is in place, and its cycles.
  struct Estimate {
    double cycles;
    bool x_in_place;
  };

  // Cycles for a vector: turned over, copied where channels lie side by side, or run by run; and for one that
  // a tile reads where arrays have it, which most often lies across two cache lines.
  static constexpr double kTurn = 6, kCopy = 2, kCopyX = 5, kCopyRun = 5, kAcross = 0.35;
  // For a line of factors that lie side by side, where pixels are so far apart that each tile goes through
  // all of them for a piece of each.
  static constexpr double kFarLine = 5;
  static constexpr Index kNear = 256, kLine = 64;  // bytes
  double far_cycles(Index channels, Index pixel) const {
    if (pixel * Index{sizeof(T)} <= kNear) return 0;
    return kFarLine * static_cast<double>(channels * Index{sizeof(T)}) / kLine;
  }

  // Cycles for one pixel where lanes are taps and channels, those of a pixel run by run of neighbouring taps
  // or copied side by side.
  double straight_cycles(bool together, bool x_in_place) const {
    if (entries_ == 0) return 0;
    const Index runs = entries_ / run_, run_vectors = ceil_div(run_, kernels_.lanes);
    double cycles = static_cast<double>(runs) * tile_cycles(cut_.rows, run_vectors);
    if (together)
      cycles = tile_cycles(cut_.rows, ceil_div(entries_, kernels_.lanes)) +
               kCopyRun * static_cast<double>(runs * run_vectors);
    if (p_.dy_channel == 1) cycles += far_cycles(cut_.rows, p_.dy_stride.back());
    return cycles + (x_in_place
                         ? kAcross * static_cast<double>(ceil_div(cut_.rows, kernels_.rows) * run_vectors)
                         : x_copy_cycles(run_vectors));
  }

  // The same where lanes are filters.
  bool may_turn() const {
    return entries_ > 0 && p_.rows > 0 && (p_.dy_channel == 1 || p_.dy_stride.back() == 1);
  }
  double turned_cycles(bool x_in_place) const {
    const Index filters = ceil_div(cut_.rows, kernels_.lanes);
    const Index pixels = ceil_div(units_of(p_, cut_), cut_.slots) * box_pixels();  // of a piece
    double cycles = tile_cycles(entries_, filters) + kTurn * static_cast<double>(entries_ * filters) /
                                                         static_cast<double>(std::max<Index>(1, pixels));
    if (dy_fills_vectors() || dy_is_dense_) {
      cycles += kAcross * static_cast<double>(ceil_div(entries_, kernels_.rows) * filters);
    } else {
      cycles += (p_.dy_channel == 1 ? kCopy : kTurn) * static_cast<double>(filters);
    }
    if (!x_in_place) return cycles + x_copy_cycles(ceil_div(entries_, kernels_.lanes));
    return cycles + (p_.x_channel == 1 ? far_cycles(entries_, p_.x_stride.back()) : 0);
  }

  // For the vectors of a pixel. Where windows leave the image or overlap, all ways copy.
  double x_copy_cycles(Index vectors) const {
    if (!windows_stay()) return 0;
    return (p_.x_channel == 1 ? kCopyX : kTurn) * static_cast<double>(vectors);
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
  // Whether positions share the sets of the caches, so that what tiles read of them would not stay.
  bool is_alike() const {
    constexpr Index kSets = 4096;  // bytes
    return p_.x_channel == 1 && p_.x_stride.back() * Index{sizeof(T)} % kSets == 0;
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
