#include "drivers/unfold.hpp"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/workspace.hpp"
#include "drivers/permuted.hpp"
#include "drivers/streamed.hpp"
#include "drivers/unfold_rows.hpp"

namespace windrow {
namespace {

constexpr auto at(int i) { return static_cast<std::size_t>(i); }

// Bytes. A box's pixels stay in the second-level cache while all their taps are written; calibrated on
// benchmarks/shapes/patches.csv.
constexpr Index kPackedWanted = Index{256} << 10;
constexpr Index kPackedMost = Index{2} << 20;
constexpr Index kColumnsPerBox = Index{4} << 20;      // about 0.2 ms
constexpr Index kColumnsPerPiece = Index{256} << 10;  // about 20 us: small boxes share a piece
constexpr Index kMostRuns = 512;                      // of one table
constexpr Index kStreamedStretch = 1024;

// A column axis as the writing of a box walks it: element i lies at i * target in the columns, and in the
// packed pixels at i * source or, where that is not one stride, at table[i].
struct Walk {
  Index count, target, source;
  const Index* table;
  Index source_at(Index i) const { return table ? table[i] : i * source; }
};

class Unfolder {
 public:
  Unfolder(const Unfold& problem, const Target& target)
      : p_(problem), shape_(problem.shape), kernels_(*target.patches), rank_(problem.shape.rank()) {
    size_[0] = whole_[0] = shape_.n;
    size_[1] = whole_[1] = shape_.c;
    for (int i = 0; i < rank_; ++i) {
      size_[at(2 + i)] = shape_.axes[at(i)].size;
      whole_[at(2 + i)] = shape_.axes[at(i)].out;
      taps_ *= shape_.axes[at(i)].kernel;
    }
    choose_order();
    choose_block();
  }

  bool fits() const { return packed_bytes() <= kPackedMost; }

  void run(const RunContext& context) {
    Index boxes = 1;
    for (int a = 0; a < shape_.image_axes(); ++a) boxes *= ceil_div(whole_[at(a)], block_[at(a)]);
    const Index together = std::max<Index>(1, kColumnsPerPiece / columns_bytes());
    const bool streamed = static_cast<double>(boxes) * static_cast<double>(columns_bytes()) >= kPastCaches;
    parallel_for(context, ceil_div(boxes, together), [&](Index piece) {
      Scratch scratch;
      Streamed stream(kernels_, streamed ? scratch.take<char>(Streamed::kRoom) : nullptr);
      const Index end = std::min(boxes, (piece + 1) * together);
      for (Index box = piece * together; box < end; ++box) run_box(box, streamed ? &stream : nullptr);
      if (streamed) stream.finish();
    });
  }

 private:
  // Stride in the columns of what splits image axis a: n, c or a window position.
  Index split_stride(int a) const { return std::abs(p_.cols_strides[a < 2 ? a : shape_.position(a - 2)]); }

  // The packed pixels lie in the order of the columns, so that long runs are long on both sides.
  void choose_order() {
    ImageVector least;
    for (int a = 0; a < shape_.image_axes(); ++a) {
      order_[at(a)] = a;
      least[at(a)] = a < 2 ? reach(a) : std::min(reach(shape_.tap(a - 2)), reach(shape_.position(a - 2)));
    }
    sort_axes(order_.data(), shape_.image_axes(), [&](int a, int b) { return least[at(a)] > least[at(b)]; });
    const int inner = order_[at(shape_.image_axes() - 1)];
    if (inner < 2) return;
    const WindowAxis& axis = shape_.axes[at(inner - 2)];
    tap_inside_ = reach(shape_.tap(inner - 2)) < reach(shape_.position(inner - 2));
    phases_ = tap_inside_ ? axis.dilation : axis.stride;
  }

  // Stride of a column axis; axes of one element do not matter.
  Index reach(int e) const { return column_count(e) > 1 ? std::abs(p_.cols_strides[e]) : INT64_MAX; }

  Index column_count(int e) const {
    if (e < 2) return whole_[at(e)];
    if (e < 2 + rank_) return shape_.axes[at(e - 2)].kernel;
    return shape_.axes[at(e - 2 - rank_)].out;
  }

  static Index extent(const WindowAxis& axis, Index positions) {
    return (positions - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
  }

  // The box is cut across the columns' outermost axes first: its columns stay in long runs.
  void choose_block() {
    block_ = whole_;
    while (packed_bytes() > kPackedWanted || columns_bytes() > kColumnsPerBox) {
      int widest = -1;
      for (int a = 0; a < shape_.image_axes(); ++a)
        if (block_[at(a)] > 1 && (widest < 0 || split_stride(a) > split_stride(widest))) widest = a;
      if (widest < 0) return;
      block_[at(widest)] = ceil_div(block_[at(widest)], 2);
    }
  }

  Index packed_bytes() const {
    double bytes = static_cast<double>(p_.item);
    for (int a = 0; a < shape_.image_axes(); ++a)
      bytes *= static_cast<double>(a < 2 ? block_[at(a)] : extent(shape_.axes[at(a - 2)], block_[at(a)]));
    return static_cast<Index>(std::min(bytes, 1e18));
  }

  Index columns_bytes() const {
    Index bytes = p_.item * taps_;
    for (int a = 0; a < shape_.image_axes(); ++a) bytes *= block_[at(a)];
    return bytes;
  }

  void run_box(Index number, Streamed* stream) const {
    ImageVector first, count;
    for (int a = shape_.image_axes(); a-- > 0;) {
      const Index blocks = ceil_div(whole_[at(a)], block_[at(a)]);
      first[at(a)] = number % blocks * block_[at(a)];
      count[at(a)] = std::min(block_[at(a)], whole_[at(a)] - first[at(a)]);
      number /= blocks;
    }
    PackedImage box;
    box.axes = shape_.image_axes();
    box.phases = phases_;
    if (kAlignment % static_cast<std::size_t>(p_.item) == 0)  // the fill value goes over the gaps too
      box.spread_from = kSpreadFrom;
    for (int a = 0; a < box.axes; ++a) {
      box.start[at(a)] = first[at(a)];
      box.count[at(a)] = count[at(a)];
      if (a < 2) continue;
      const WindowAxis& axis = shape_.axes[at(a - 2)];
      box.start[at(a)] = first[at(a)] * axis.stride - axis.before;
      box.count[at(a)] = extent(axis, count[at(a)]);
      box.border = axis.border;
    }
    box.arrange(order_.data(), p_.item);
    Scratch scratch;
    char* packed = take_packed(scratch, box.bytes);
    if (!pack_rows(kernels_, box, size_, p_.fill, p_.x, p_.x_strides, packed)) {
      if (box.border == Border::kConstant) fill_border(kernels_, box, size_, p_.fill, packed);
      pack(kernels_, box, size_, p_.x, p_.x_strides, packed);
    }
    write(box, first, count, packed, scratch, stream);
  }

  void write(const PackedImage& box, const ImageVector& first, const ImageVector& count, const char* packed,
             Scratch& scratch, Streamed* stream) const {
    char* cols = p_.cols;
    std::array<Walk, kMaxAxes> walks;
    int n = 0;
    const auto add = [&](int e, Index elements, Index source, const Index* table) {
      if (elements > 1) walks[at(n++)] = {elements, p_.cols_strides[e], source, table};
    };
    for (int a = 0; a < box.axes; ++a) {
      cols += first[at(a)] * p_.cols_strides[a < 2 ? a : shape_.position(a - 2)];
      if (a < 2) {
        add(a, count[at(a)], box.stride[at(a)], nullptr);
        continue;
      }
      const WindowAxis& axis = shape_.axes[at(a - 2)];
      const bool split = a == box.inner && phases_ > 1;
      const bool table_of_taps = split && !tap_inside_, table_of_positions = split && tap_inside_;
      const Index tap = axis.dilation * box.stride[at(a)], position = axis.stride * box.stride[at(a)];
      add(shape_.tap(a - 2), axis.kernel, split ? p_.item : tap,
          table_of_taps ? offsets(box, a, axis.kernel, axis.dilation, scratch) : nullptr);
      add(shape_.position(a - 2), count[at(a)], split ? p_.item : position,
          table_of_positions ? offsets(box, a, count[at(a)], axis.stride, scratch) : nullptr);
    }
    std::sort(walks.begin(), walks.begin() + n,
              [](const Walk& a, const Walk& b) { return std::abs(a.target) < std::abs(b.target); });
    write_runs(walks.data(), n, cols, packed, scratch, stream);
  }

  static const Index* offsets(const PackedImage& box, int axis, Index count, Index step, Scratch& scratch) {
    Index* table = scratch.take<Index>(count);
    for (Index i = 0; i < count; ++i) table[i] = box.offset(axis, i * step);
    return table;
  }

  // The innermost axes make a run (contiguous on both sides), the next ones a table of runs that are
  // contiguous in the columns; the rest are walked one by one.
  void write_runs(const Walk* walks, int n, char* cols, const char* packed, Scratch& scratch,
                  Streamed* stream) const {
    GatherRuns runs{.target = cols,
                    .source = packed,
                    .offsets = nullptr,
                    .count = 1,
                    .bytes = p_.item,
                    .steps = nullptr,
                    .repeats = 1};
    int next = 0;
    while (next < n && !walks[next].table && walks[next].target == runs.bytes &&
           walks[next].source == runs.bytes)
      runs.bytes *= walks[next++].count;
    Index entries = 1;
    int last = next;
    while (last < n && walks[last].target == entries * runs.bytes && entries * walks[last].count <= kMostRuns)
      entries *= walks[last++].count;
    auto* table = scratch.take<std::ptrdiff_t>(entries);
    table[0] = 0;
    for (; next < last; ++next) {
      const Walk& walk = walks[next];
      for (Index i = walk.count; i-- > 0;)
        for (Index j = 0; j < runs.count; ++j) table[i * runs.count + j] = table[j] + walk.source_at(i);
      runs.count *= walk.count;
    }
    runs.offsets = table;
    Index stretch = runs.count * runs.bytes;
    const bool repeated = last < n && walks[last].target == stretch;
    if (repeated) runs.repeats = walks[last].count;
    auto* steps = scratch.take<std::ptrdiff_t>(runs.repeats);
    for (Index r = 0; r < runs.repeats; ++r) steps[r] = repeated ? walks[last].source_at(r) : 0;
    runs.steps = steps;
    if (repeated) stretch *= walks[last++].count;
    // Short stretches, with other memory between them, are better left to the caches.
    write_rest(walks + last, n - last, runs, stretch >= kStreamedStretch ? stream : nullptr);
  }

  void write_rest(const Walk* walks, int n, GatherRuns& runs, Streamed* stream) const {
    if (n == 0) {
      if (!stream) return kernels_.gather_runs(runs);
      if (!stream->write_in_parts(runs)) stream->write(runs);
      return;
    }
    const Walk& outer = walks[n - 1];
    if (n == 1 && !outer.table && runs.repeats * runs.count * runs.bytes == p_.item) {
      // Columns without contiguous runs.
      return kernels_.move({.target = runs.target,
                            .source = runs.source + runs.steps[0] + runs.offsets[0],
                            .target_row = 0,
                            .target_column = outer.target,
                            .source_row = 0,
                            .source_column = outer.source,
                            .rows = 1,
                            .columns = outer.count,
                            .item = p_.item});
    }
    char* const target = runs.target;
    const char* const source = runs.source;
    for (Index i = 0; i < outer.count; ++i) {
      runs.target = target + i * outer.target;
      runs.source = source + outer.source_at(i);
      write_rest(walks, n - 1, runs, stream);
    }
    runs.target = target;
    runs.source = source;
  }

  const Unfold& p_;
  const PatchShape& shape_;
  const PatchKernels& kernels_;
  int rank_;
  Index taps_ = 1;
  ImageVector size_{}, whole_{}, block_{};  // of the image; window positions, of all and of a box
  std::array<int, 2 + kMaxSpatial> order_{};
  Index phases_ = 1;
  bool tap_inside_ = false;
};

// Windows so wide that one of them, with the pixels between its taps, is too much to pack: on each axis the
// taps, or the positions where those are fewer, are taken one by one, and the others in runs of pixels.
class SparseUnfolder {
 public:
  SparseUnfolder(const Unfold& problem, const Target& target)
      : p_(problem), shape_(problem.shape), kernels_(*target.patches) {
    for (const WindowAxis& axis : shape_.axes) steps_ *= std::min(axis.kernel, axis.out);
  }

  void run(const RunContext& context) const {
    const Index planes = shape_.n * shape_.c;
    parallel_for(context, steps_ * planes, [&](Index piece) { run_step(piece / planes, piece % planes); });
  }

 private:
  // The elements of an axis that is not taken one by one.
  struct Side {
    Index count, origin, pace;   // positions in the image: the first, and from one to the next
    Index size, target, source;  // of the image; strides
    Border border;
  };

  void run_step(Index step, Index plane) const {
    const int rank = shape_.rank();
    std::array<Side, kMaxSpatial> sides;
    char* cols = p_.cols + plane / shape_.c * p_.cols_strides[0] + plane % shape_.c * p_.cols_strides[1];
    const char* x = p_.x + plane / shape_.c * p_.x_strides[0] + plane % shape_.c * p_.x_strides[1];
    for (int i = rank; i-- > 0;) {
      const WindowAxis& axis = shape_.axes[at(i)];
      const bool by_taps = axis.kernel <= axis.out;
      const Index few = std::min(axis.kernel, axis.out), one = step % few;
      step /= few;
      sides[at(i)] = {.count = std::max(axis.kernel, axis.out),
                      .origin = one * (by_taps ? axis.dilation : axis.stride) - axis.before,
                      .pace = by_taps ? axis.stride : axis.dilation,
                      .size = axis.size,
                      .target = p_.cols_strides[by_taps ? shape_.position(i) : shape_.tap(i)],
                      .source = p_.x_strides[2 + i],
                      .border = axis.border};
      cols += one * p_.cols_strides[by_taps ? shape_.tap(i) : shape_.position(i)];
    }
    copy_runs(std::span(sides).first(at(rank)), cols, x, {});
  }

  // All combinations of the sides' runs, inside a box of the axes before; x is null where one is a constant.
  void copy_runs(std::span<const Side> sides, char* cols, const char* x, const Box& box) const {
    if (sides.empty() && x) return copy_box(kernels_, p_.item, cols, x, box);
    if (sides.empty()) return fill_box(kernels_, p_.item, cols, p_.fill, box);
    const Side& side = sides.front();
    for (Index i = 0; i < side.count;) {
      const BorderRun run =
          border_run(side.border, side.origin + i * side.pace, side.pace, side.count - i, side.size);
      Box part = box;
      part.add(run.count, side.target, run.step * side.source);
      copy_runs(sides.subspan(1), cols + i * side.target,
                x && run.pixel >= 0 ? x + run.pixel * side.source : nullptr, part);
      i += run.count;
    }
  }

  const Unfold& p_;
  const PatchShape& shape_;
  const PatchKernels& kernels_;
  Index steps_ = 1;
};

}  // namespace

void run_unfold(const Unfold& problem, const Target& target, const RunContext& caller) {
  const PatchShape& shape = problem.shape;
  assert(shape.holds());
  const RunContext context = sized_context(shape, problem.item, caller);
  if (shape.n == 0 || shape.c == 0) return;
  for (const WindowAxis& axis : shape.axes)
    if (axis.out == 0) return;
  if (unfold_permuted(problem, target, context)) return;
  if (unfold_rows(problem, target, context)) return;
  Unfolder unfolder(problem, target);
  if (unfolder.fits()) {
    unfolder.run(context);
  } else {
    SparseUnfolder(problem, target).run(context);
  }
}

}  // namespace windrow
