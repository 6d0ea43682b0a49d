#include "drivers/permuted.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/workspace.hpp"
#include "drivers/fold_numbers.hpp"

namespace windrow {
namespace {

// Bytes; calibrated on vit_patches of benchmarks/shapes/patches.csv.
constexpr Index kStreamed = Index{8} << 20;  // targets from this size on are written past the caches
constexpr Index kStreamedRun = 1024;
constexpr Index kLine = 64;
// How many bytes a block has at most, and how many of them should be contiguous on either side. Blocks of
// smaller targets stay in the first-level cache; those of others in a half of the second that a neighbour
// leaves, so that memory is read and written in runs so long that where they begin and end (which costs a
// line each) does not matter. A block that is one run on both sides may be larger: it has no others.
constexpr Index kBlockCached = Index{28} << 10, kRunCached = 1024;
constexpr Index kBlockStreamed = Index{112} << 10, kRunStreamed = 4096, kBlockWhole = Index{224} << 10;
constexpr Index kInnermost = 512;  // of a block, on the target's innermost axis to begin with
constexpr Index kBlocksPerPiece = Index{512} << 10;  // about 50 us

constexpr auto at(int i) { return static_cast<std::size_t>(i); }

// Bytes to where the next cache line begins.
Index to_line(const char* p) {
  return -static_cast<Index>(reinterpret_cast<std::uintptr_t>(p)) & (kLine - 1);
}

// Elements on their way from scratch memory to the target: as they are, or as sums of one term. These begin
// with +0 as all sums do, so that -0 becomes +0; of integers, and as maximum or minimum, an element is its
// own.
struct Writer {
  const PatchKernels& kernels;
  Number number;
  bool sums;

  void copy(char* to, const char* from, Index bytes) const {
    if (!sums) {
      std::memcpy(to, from, static_cast<std::size_t>(bytes));
      return;
    }
    const Index head = bytes >= 4 * kLine && cuts(to) ? to_line(to) : 0;  // long runs are stored aligned
    sum(to, from, head);
    sum(to + head, from + head, bytes - head);
  }
  // Whether elements end where lines do: not where they are not aligned. Sums cannot be cut elsewhere.
  bool cuts(const char* to) const { return !sums || to_line(to) % number_bytes(number) == 0; }
  // Whole lines, past the caches.
  void stream(char* to, const char* from, Index bytes) const {
    (sums ? kernels.stream_sums[number] : kernels.stream)(to, from, bytes);
  }

 private:
  void sum(char* to, const char* from, Index bytes) const {
    if (bytes == 0) return;
    const Index length = bytes / number_bytes(number);
    const SumSource one{.data = from, .first = 0, .end = length, .weight = 0};
    kernels.sum_rows[kAdd][number]({.total = to,
                                    .total_row = 0,
                                    .rows = 1,
                                    .length = length,
                                    .sources = &one,
                                    .count = 1,
                                    .source_row = 0,
                                    .resume = false});
  }
};

// The elements of one array put into another in another order, block by block: a block is brought into the
// target's order in scratch memory, and written from there in runs. Blocks are as long on both sides as will
// do: a transpose inside of them uses up the lines that it reads and the lines that it writes.
class Permutation {
 public:
  Permutation(Box axes, Index item) : axes_(std::move(axes)), item_(item) {
    axes_.sort_by_target();
    axes_.merge();
    Index bytes = item_;
    for (int i = 0; i < axes_.size(); ++i) bytes *= axes_[i].count;
    streamed_ = bytes >= kStreamed;
    read_first_ = streamed_ && stride(axes_.size() - 1, false) > 2 * kLine;
    if (!streamed_) {
      choose_block(kBlockCached, kRunCached);
      return;
    }
    choose_block(kBlockWhole, kRunStreamed);
    if (reach(true).bytes < block_bytes() || reach(false).bytes < block_bytes())
      choose_block(kBlockStreamed, kRunStreamed);
  }

  void run(const Writer& writer, const RunContext& context, char* target, const char* source) const {
    Index blocks = 1;
    for (int i = 0; i < axes_.size(); ++i) blocks *= ceil_div(axes_[i].count, part_[at(i)]);
    const Index together = std::max<Index>(1, kBlocksPerPiece / block_bytes());
    parallel_for(context, ceil_div(blocks, together), [&](Index piece) {
      Scratch scratch;
      char* staged = scratch.take<char>(block_bytes());
      const Index last = std::min(blocks, (piece + 1) * together);
      for (Index block = piece * together; block < last; ++block)
        run_block(writer, block, target, source, staged);
      writer.kernels.stream_end();
    });
  }

 private:
  Index block_bytes() const {
    Index bytes = item_;
    for (int i = 0; i < axes_.size(); ++i) bytes *= part_[at(i)];
    return bytes;
  }

  Index stride(int i, bool of_target) const {
    return std::abs(of_target ? axes_[i].target : axes_[i].source);
  }

  // Contiguous bytes of a block on one side, and the axis that would make them more; -1: there is none.
  struct Reach {
    Index bytes;
    int next;
  };
  Reach reach(bool of_target) const {
    Reach r{item_, -1};
    bool broken = false;
    std::array<bool, kMaxAxes> seen{};
    for (int step = 0; step < axes_.size(); ++step) {
      int inner = -1;
      for (int i = axes_.size(); i-- > 0;)
        if (!seen[at(i)] && (inner < 0 || stride(i, of_target) < stride(inner, of_target))) inner = i;
      seen[at(inner)] = true;
      broken = broken || stride(inner, of_target) != r.bytes;
      if (!broken) r.bytes *= part_[at(inner)];
      if (part_[at(inner)] < axes_[inner].count) {
        r.next = inner;
        break;
      }
    }
    return r;
  }

  void grow(int axis, Index most) {
    const Index wanted = part_[at(axis)] * std::max<Index>(1, most / block_bytes());
    part_[at(axis)] = std::min(axes_[axis].count, wanted);
  }

  void choose_block(Index most, Index run) {
    std::fill_n(part_.begin(), axes_.size(), Index{1});
    if (const Reach inner = reach(true); inner.next >= 0) grow(inner.next, kInnermost);
    if (const Reach inner = reach(false); inner.next >= 0) grow(inner.next, most);
    for (;;) {
      const Reach target = reach(true), source = reach(false);
      const bool by_target = source.next < 0 || (target.next >= 0 && target.bytes <= source.bytes);
      const int next = by_target ? target.next : source.next;
      if (next < 0 || (target.bytes >= run && source.bytes >= run)) return;
      const Index before = part_[at(next)];
      grow(next, most);
      if (part_[at(next)] == before) return;
    }
  }

  void run_block(const Writer& writer, Index number, char* target, const char* source, char* staged) const {
    Box in, out;
    Index next = item_;
    std::array<Index, kMaxAxes> count, stride;
    for (int i = axes_.size(); i-- > 0;) {
      const Index blocks = ceil_div(axes_[i].count, part_[at(i)]);
      const Index first = number % blocks * part_[at(i)];
      number /= blocks;
      target += first * axes_[i].target;
      source += first * axes_[i].source;
      count[at(i)] = std::min(part_[at(i)], axes_[i].count - first);
      stride[at(i)] = next;
      next *= count[at(i)];
    }
    for (int i = 0; i < axes_.size(); ++i) {
      in.add(count[at(i)], stride[at(i)], axes_[i].source);
      out.add(count[at(i)], axes_[i].target, stride[at(i)]);
    }
    const bool far = streamed_ && !(read_first_ && read_run(source, in));
    copy_box(writer.kernels, item_, staged, source, in, far ? WalkBy::kFarSource : WalkBy::kSource);
    out.merge();  // in the order of the target already
    Index bytes = item_;
    if (out.size() && out[out.size() - 1].target == item_) bytes *= out.take(out.size() - 1).count;
    for_each_point(out, out.size(),
                   [&](Index to, Index from) { write(writer, target + to, staged + from, bytes); });
  }

  // Brings a block into the caches in its order, if it is one run of the source. By loads: GCC leaves out a
  // function that does nothing but prefetch.
  bool read_run(const char* source, const Box& in) const {
    Index bytes = item_, span = item_;
    for (int i = 0; i < in.size(); ++i) {
      if (in[i].source < 0) return false;
      bytes *= in[i].count;
      span += (in[i].count - 1) * in[i].source;
    }
    if (span != bytes) return false;
    for (Index i = 0; i < bytes; i += kLine)
      static_cast<void>(*static_cast<const volatile char*>(source + i));
    return true;
  }

  void write(const Writer& writer, char* to, const char* from, Index bytes) const {
    if (!streamed_ || bytes < kStreamedRun || !writer.cuts(to)) return writer.copy(to, from, bytes);
    const Index head = to_line(to), lines = (bytes - head) / kLine * kLine;
    writer.copy(to, from, head);
    writer.stream(to + head, from + head, lines);
    writer.copy(to + head + lines, from + head + lines, bytes - head - lines);
  }

  Box axes_;  // in the order of the target
  Index item_;
  bool streamed_;
  // Whether a transpose reads several short runs at once, in which the processor sees no order.
  bool read_first_ = false;
  std::array<Index, kMaxAxes> part_;  // of each axis, in a block
};

// Whether no window reaches out of the image, and none of its axes has more column elements than pixels.
bool is_apart(const PatchShape& shape) {
  for (const WindowAxis& axis : shape.axes) {
    const Index reach = (axis.out - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
    if (axis.before > 0 || reach > axis.size || axis.kernel * axis.out > axis.size) return false;
  }
  return true;
}

// Whether each pixel besides belongs to exactly one tap of one window.
bool is_bijective(const PatchShape& shape) {
  for (const WindowAxis& axis : shape.axes) {
    const bool side_by_side = axis.kernel == 1 || axis.out == 1 ||
                              (axis.dilation == 1 && axis.stride == axis.kernel) ||
                              (axis.stride == 1 && axis.dilation == axis.out);
    if (!side_by_side || axis.kernel * axis.out != axis.size) return false;
  }
  return is_apart(shape);
}

// The axes of the columns, with strides in columns and image.
template <class Add>
void for_each_axis(const PatchShape& shape, const Index* cols_strides, const Index* x_strides, Add&& add) {
  add(shape.n, cols_strides[0], x_strides[0]);
  add(shape.c, cols_strides[1], x_strides[1]);
  for (int i = 0; i < shape.rank(); ++i) {
    const WindowAxis& axis = shape.axes[at(i)];
    add(axis.kernel, cols_strides[shape.tap(i)], axis.dilation * x_strides[2 + i]);
    add(axis.out, cols_strides[shape.position(i)], axis.stride * x_strides[2 + i]);
  }
}

}  // namespace

bool unfold_permuted(const Unfold& problem, const Target& target, const RunContext& context) {
  if (!is_apart(problem.shape)) return false;
  Box axes;
  for_each_axis(problem.shape, problem.cols_strides, problem.x_strides,
                [&](Index count, Index cols, Index x) { axes.add(count, cols, x); });
  const Writer as_they_are{.kernels = *target.patches, .number = kU8, .sums = false};
  Permutation(axes, problem.item).run(as_they_are, context, problem.cols, problem.x);
  return true;
}

bool fold_permuted(const Fold& problem, const Target& target, const RunContext& context) {
  const Index number = number_bytes(problem.number);
  // Halves are summed as floats; a weighted sum is divided by its weights.
  if (problem.reduction == kWeighted || number != total_bytes(problem.number) || !is_bijective(problem.shape))
    return false;
  Box axes;
  for_each_axis(problem.shape, problem.cols_strides, problem.x_strides,
                [&](Index count, Index cols, Index x) { axes.add(count, x, cols); });
  const bool sums = problem.reduction == kAdd && (problem.number == kF32 || problem.number == kF64);
  const Writer writer{.kernels = *target.patches, .number = problem.number, .sums = sums};
  Permutation(axes, problem.complex_pairs ? 2 * number : number)
      .run(writer, context, problem.x, problem.cols);
  return true;
}

}  // namespace windrow
