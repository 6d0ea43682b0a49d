#include <algorithm>
#include <cstring>

#include "base/workspace.hpp"
#include "drivers/fold_numbers.hpp"
#include "drivers/fold_rows.hpp"
#include "drivers/plane_pieces.hpp"

namespace windrow {
namespace {

constexpr auto at(int i) { return static_cast<std::size_t>(i); }

// Bytes. Rows of windows that a row of the image comes back to stay in the first-level cache.
constexpr Index kTogether = Index{24} << 10;
constexpr Index kMostColumns = Index{1} << 20;  // of an image, about 0.1 ms
constexpr Index kColumnsPerPiece = Index{256} << 10;

// Asked of every call: a tiny one would notice more.
bool may_serve(const Fold& p, const PatchKernels& kernels) {
  const PatchShape& shape = p.shape;
  const int last = shape.rank() - 1;
  if (p.cols_strides[shape.tap(last)] != number_bytes(p.number) || shape.rank() > 2 ||
      !kernels.fold_windows[p.number] || p.complex_pairs || p.reduction != kAdd || p.divisor ||
      shape.axes.back().dilation != 1 || p.x_strides[2 + last] != number_bytes(p.number))
    return false;
  for (int e = 0; e < shape.column_axes(); ++e)
    if (p.cols_strides[e] < 0) return false;
  return true;
}

class WindowRows {
 public:
  WindowRows(const Fold& problem, const PatchKernels& kernels)
      : p_(problem), shape_(problem.shape), row_(shape_, problem.x_strides, problem.cols_strides) {
    const WindowAxis& last = shape_.axes.back();
    const Index item = number_bytes(p_.number);
    all_ = {.target = nullptr,
            .source = nullptr,
            .target_plane = p_.x_strides[1],
            .source_plane = p_.cols_strides[1],
            .planes = shape_.c,
            .target_row = row_.image,
            .rows = row_.axis.size,
            .length = last.size,
            .sources = nullptr,
            .row_first = nullptr,
            .windows = last.out,
            .window = p_.cols_strides[shape_.position(shape_.rank() - 1)],
            .taps = last.kernel,
            .stride = last.stride,
            .before = last.before,
            .ahead = p_.cols_strides[0]};
    row_columns_ = (shape_.c - 1) * all_.source_plane + (row_.axis.kernel - 1) * row_.tap +
                   (last.out - 1) * all_.window + last.kernel * item;
    row_reach_ =
        row_columns_ + (round_up(last.out, kernels.turned_bytes / item) - last.out) * all_.window + kOverread;
    columns_ = (row_.axis.out - 1) * row_.position + row_columns_;
    if (columns_ <= kMostColumns && row_.axis.size * row_.axis.kernel <= kMostFoldSources &&
        live_rows() * last.out * all_.window <= kTogether)
      kernel_ = kernels.fold_windows[p_.number](all_);
  }
  bool serve() const { return kernel_; }

  void run(const RunContext& context) {
    Scratch scratch;
    auto* sources = scratch.take<Index>(row_.axis.size * row_.axis.kernel);
    auto* row_first = scratch.take<Index>(row_.axis.size + 1);
    list_fold_rows(row_.axis, row_.tap, row_.position, sources, row_first);
    all_.sources = sources;
    all_.row_first = row_first;
    const Index some = std::clamp<Index>(kColumnsPerPiece / columns_, 1, shape_.n);
    parallel_for(context, ceil_div(shape_.n, some), [&](Index piece) {
      for (Index n = piece * some; n < std::min(shape_.n, (piece + 1) * some); ++n) sum_image(n);
    });
  }

 private:
  // Rows of windows that meet a row of the image, at most.
  Index live_rows() const { return std::min(row_.axis.out, ceil_div(row_.axis.kernel, row_.axis.stride)); }

  void sum_image(Index n) const {
    const WindowAxis& axis = row_.axis;
    FoldWindows image = all_;
    image.target = p_.x + n * p_.x_strides[0];
    image.source = p_.cols + n * p_.cols_strides[0];
    // Rows of windows that may be read with what lies behind them.
    const Index left = (shape_.n - 1 - n) * p_.cols_strides[0] + columns_ - row_reach_;
    const Index readable = left < 0                                 ? 0
                           : left >= (axis.out - 1) * row_.position ? axis.out
                                                                    : left / row_.position + 1;
    if (readable == axis.out) return kernel_(image);
    const Index whole = std::clamp<Index>(readable * axis.stride - axis.before, 0, axis.size);
    image.rows = whole;
    kernel_(image);
    // The image's last rows are summed over copies of theirs, which have room behind them.
    const Index first_tap = whole + axis.before - (axis.kernel - 1) * axis.dilation;
    const Index first = std::clamp<Index>(ceil_div(first_tap, axis.stride), 0, axis.out - 1) * row_.position;
    Scratch scratch;
    char* copy = scratch.take<char>(columns_ - first + row_reach_);
    std::memcpy(copy, image.source + first, static_cast<std::size_t>(columns_ - first));
    image.target += whole * image.target_row;
    image.source = copy - first;
    image.rows = axis.size - whole;
    image.row_first += whole;
    image.ahead = 0;
    kernel_(image);
  }

  const Fold& p_;
  const PatchShape& shape_;
  RowAxis row_;
  FoldWindows all_{};
  // Bytes of an image's columns, and of a row of its windows: without what lies between, and read.
  Index columns_ = 0, row_columns_ = 0, row_reach_ = 0;
  void (*kernel_)(const FoldWindows&) = nullptr;
};

}  // namespace

bool fold_window_rows(const Fold& problem, const Target& target, const RunContext& context) {
  if (!may_serve(problem, *target.patches)) return false;
  WindowRows rows(problem, *target.patches);
  if (!rows.serve()) return false;
  rows.run(context);
  return true;
}

}  // namespace windrow
