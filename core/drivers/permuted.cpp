#include "drivers/permuted.hpp"

#include <cstdlib>
#include <cstring>

#include "base/workspace.hpp"
#include "drivers/fold_numbers.hpp"

namespace windrow {
namespace {

// Bytes; calibrated on vit_patches of benchmarks/shapes/patches.csv.
constexpr Index kBlock = Index{28} << 10;  // of one block, which stays in the first-level cache
constexpr Index kRun = 1024;               // contiguous bytes wanted on both sides of a block
constexpr Index kInnermost = 512;          // of a block, on the target's innermost axis to begin with
constexpr Index kBlocksPerPiece = Index{512} << 10;  // about 50 us
constexpr Index kStreamed = Index{8} << 20;          // targets from this size on are written past the caches
constexpr Index kLine = 64;

constexpr auto at(int i) { return static_cast<std::size_t>(i); }

// The elements of one array put into another in another order, block by block: a block is brought into the
// target's order in scratch memory, and written from there in runs. Blocks are as long on both sides as will
// do: a transpose inside of them uses up the lines that it reads and the lines that it writes.
class Permutation {
 public:
  Permutation(Box axes, Index item) : axes_(std::move(axes)), item_(item) {
    axes_.sort_by_target();
    axes_.merge();
    for (int i = 0; i < axes_.size(); ++i) part_[at(i)] = 1;
    choose_block();
    Index bytes = item_;
    for (int i = 0; i < axes_.size(); ++i) bytes *= axes_[i].count;
    streamed_ = bytes >= kStreamed;
  }

  // alter(elements, bytes) is called with every block in scratch memory.
  template <class Alter>
  void run(const PatchKernels& kernels, const RunContext& context, char* target, const char* source,
           Alter&& alter) const {
    Index blocks = 1;
    for (int i = 0; i < axes_.size(); ++i) blocks *= ceil_div(axes_[i].count, part_[at(i)]);
    const Index together = std::max<Index>(1, kBlocksPerPiece / block_bytes());
    parallel_for(context, ceil_div(blocks, together), [&](Index piece) {
      Scratch scratch;
      char* staged = scratch.take<char>(block_bytes());
      const Index last = std::min(blocks, (piece + 1) * together);
      for (Index block = piece * together; block < last; ++block)
        run_block(kernels, block, target, source, staged, alter);
      kernels.stream_end();
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

  void choose_block() {
    if (const Reach inner = reach(true); inner.next >= 0) grow(inner.next, kInnermost);
    if (const Reach inner = reach(false); inner.next >= 0) grow(inner.next, kBlock);
    for (;;) {
      const Reach target = reach(true), source = reach(false);
      const bool by_target = source.next < 0 || (target.next >= 0 && target.bytes <= source.bytes);
      const int next = by_target ? target.next : source.next;
      if (next < 0 || (target.bytes >= kRun && source.bytes >= kRun)) return;
      const Index before = part_[at(next)];
      grow(next, kBlock);
      if (part_[at(next)] == before) return;
    }
  }

  template <class Alter>
  void run_block(const PatchKernels& kernels, Index number, char* target, const char* source, char* staged,
                 Alter& alter) const {
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
    copy_box(kernels, item_, staged, source, in, WalkBy::kSource);
    alter(staged, next);
    out.merge();  // in the order of the target already
    Index bytes = item_;
    if (out.size() && out[out.size() - 1].target == item_) bytes *= out.take(out.size() - 1).count;
    for_each_point(out, out.size(),
                   [&](Index to, Index from) { write(kernels, target + to, staged + from, bytes); });
  }

  void write(const PatchKernels& kernels, char* to, const char* from, Index bytes) const {
    if (!streamed_ || bytes < kRun) {
      std::memcpy(to, from, static_cast<std::size_t>(bytes));
      return;
    }
    const auto past = static_cast<Index>(reinterpret_cast<std::uintptr_t>(to) % kLine);
    const Index head = past ? kLine - past : 0, lines = (bytes - head) / kLine * kLine;
    std::memcpy(to, from, static_cast<std::size_t>(head));
    kernels.stream(to + head, from + head, lines);
    std::memcpy(to + head + lines, from + head + lines, static_cast<std::size_t>(bytes - head - lines));
  }

  Box axes_;  // in the order of the target
  Index item_;
  bool streamed_;
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
  Permutation(axes, problem.item).run(*target.patches, context, problem.cols, problem.x, [](char*, Index) {});
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
  const auto sum = target.patches->sum_rows[problem.reduction][problem.number];
  // Sums begin with the neutral value also here: -0 becomes +0. A mean's count is 1.
  const auto reduce = [&](char* elements, Index bytes) {
    const Index length = bytes / number;
    const SumSource one{.data = elements, .first = 0, .end = length, .weight = 0};
    sum({.total = elements,
         .total_row = 0,
         .rows = 1,
         .length = length,
         .sources = &one,
         .count = 1,
         .source_row = 0,
         .resume = false});
  };
  Permutation(axes, problem.complex_pairs ? 2 * number : number)
      .run(*target.patches, context, problem.x, problem.cols, reduce);
  return true;
}

}  // namespace windrow
