#include "drivers/window_product.hpp"

#include <algorithm>
#include <vector>

#include "base/workspace.hpp"

namespace windrow {
namespace {

// One tile of the result where its pixels do not lie side by side: through a small buffer.
template <class T>
class TileBuffer {
 public:
  TileBuffer(T* memory, Index row) : memory_(memory), row_(row) {}

  void load(const PanelTable& table, const T* target, Index rows, Index target_row, Index step) const {
    for (Index m = 0; m < rows; ++m, target += target_row) {
      for (const Run& run : table.runs()) {
        const T* from = target + run.target;
        T* to = memory_ + m * row_ + run.lane;
        for (Index i = 0; i < run.count; ++i) to[i] = from[i * step];
      }
    }
  }

  void store(const PanelTable& table, T* target, Index rows, Index target_row, Index step) const {
    for (Index m = 0; m < rows; ++m, target += target_row) {
      for (const Run& run : table.runs()) {
        const T* from = memory_ + m * row_ + run.lane;
        T* to = target + run.target;
        for (Index i = 0; i < run.count; ++i) to[i * step] = from[i];
      }
    }
  }

  T* memory() const { return memory_; }
  Index row() const { return row_; }

 private:
  T* memory_;
  Index row_;
};

template <class T>
class Driver {
 public:
  Driver(const WindowProduct<T>& problem, const ProductBlocks& blocks, const Target& target)
      : problem_(problem),
        blocks_(blocks),
        kernels_(target.kernels<T>()),
        nr_(Index{kernels_.lanes} * kernels_.vectors),
        taps_(problem.grid.taps()),
        terms_(problem.channels * taps_),
        pixels_(problem.grid.images * problem.grid.per_image()),
        panels_(ceil_div(pixels_, nr_)),
        pixel_blocks_(ceil_div(panels_, blocks.panels)),
        row_blocks_(ceil_div(problem.rows, blocks.rows)) {}

  Index pieces() const { return problem_.groups * pixel_blocks_ * row_blocks_; }

  void piece(Index index) const {
    const Index row_block = index % row_blocks_;
    const Index pixel_block = index / row_blocks_ % pixel_blocks_;
    const Index group = index / row_blocks_ / pixel_blocks_;

    // Blocks of equal size, so that the last one is not a sliver.
    const Index first_panel = panels_ * pixel_block / pixel_blocks_;
    const Index last_panel = panels_ * (pixel_block + 1) / pixel_blocks_;
    thread_local std::vector<PanelTable> tables;
    tables.resize(static_cast<std::size_t>(std::max<Index>(blocks_.panels, Index(tables.size()))));
    for (Index i = first_panel; i < last_panel; ++i) {
      PanelTable& table = tables[static_cast<std::size_t>(i - first_panel)];
      table.place(problem_.grid, i * nr_, std::min(nr_, pixels_ - i * nr_), kernels_.lanes);
      if (taps_ <= kManyTaps) table.set_taps(problem_.grid, 0, taps_);
    }

    Scratch scratch;
    const Index k_max = std::min(blocks_.k, terms_);
    T* packed = scratch.take<T>(blocks_.panels * nr_ * k_max);
    const TileBuffer<T> buffer(scratch.take<T>(kernels_.rows * nr_), nr_);
    auto* a_offset = scratch.take<std::ptrdiff_t>(k_max);
    auto* b_offset = scratch.take<std::ptrdiff_t>(k_max * kernels_.vectors);
    // Panels of fewer vectors have shorter rows: one table of offsets for each width.
    for (int v = 1; v <= kernels_.vectors; ++v)
      for (Index k = 0; k < k_max; ++k) b_offset[(v - 1) * k_max + k] = k * v * kernels_.lanes;

    const T* source = problem_.source + group * problem_.source_group;
    const T* factor = problem_.factor + group * problem_.factor_group;
    T* target = problem_.target + group * problem_.target_group;
    const Index row0 = row_block * blocks_.rows;
    const Index row1 = std::min(row0 + blocks_.rows, problem_.rows);
    const Index step = problem_.grid.axes.back().target_stride;

    Index k0 = 0;
    do {  // once even where there are no terms: the result is then zero plus the bias
      const Index k1 = std::min(k0 + blocks_.k, terms_);
      for (Index k = k0; k < k1; ++k)
        a_offset[k - k0] =
            k / taps_ * problem_.factor_channel + problem_.factor_tap[static_cast<std::size_t>(k % taps_)];
      for (Index i = 0; i < last_panel - first_panel; ++i)
        pack(tables[static_cast<std::size_t>(i)], source, k0, k1, packed + i * nr_ * k_max);

      for (Index m = row0; m < row1; m += kernels_.rows) {
        const int rows = static_cast<int>(std::min<Index>(kernels_.rows, row1 - m));
        for (Index i = 0; i < last_panel - first_panel; ++i) {
          const PanelTable& table = tables[static_cast<std::size_t>(i)];
          T bias[kMaxRows];
          Product<T> product{.a = factor + m * problem_.factor_row,
                             .a_row = problem_.factor_row,
                             .a_offset = a_offset,
                             .b = packed + i * nr_ * k_max,
                             .b_offset = b_offset + (table.vectors() - 1) * k_max,
                             .c = target + m * problem_.target_row,
                             .c_row = problem_.target_row,
                             .k = k1 - k0,
                             .accumulate = k0 > 0 || problem_.accumulate,
                             .bias = nullptr};
          if (problem_.bias && k1 == terms_) {
            for (Index r = 0; r < rows; ++r)
              bias[r] = problem_.bias[(group * problem_.rows + m + r) * problem_.bias_stride];
            product.bias = bias;
          }
          run_tile(table, product, rows, buffer, step);
        }
      }
      k0 = k1;
    } while (k0 < terms_);
  }

 private:
  static constexpr int kMaxRows = 16;
  static constexpr Index kManyTaps = 1024;  // beyond these a panel's table is made for a few taps at a time

  void pack(PanelTable& table, const T* source, Index k0, Index k1, T* packed) const {
    for (Index k = k0; k < k1;) {
      const Index channel = k / taps_;
      const Index tap0 = k % taps_;
      const Index tap1 = std::min(taps_, tap0 + k1 - k);
      if (taps_ > kManyTaps) table.set_taps(problem_.grid, tap0, tap1);
      table.pack(kernels_, source + channel * problem_.source_channel, tap0, tap1, packed);
      packed += (tap1 - tap0) * table.vectors() * kernels_.lanes;
      k += tap1 - tap0;
    }
  }

  void run_tile(const PanelTable& table, Product<T> product, int rows, const TileBuffer<T>& buffer,
                Index step) const {
    if (table.count() == table.vectors() * kernels_.lanes && table.contiguous(problem_.grid)) {
      product.c += table.runs().front().target;
      kernels_.product(product, rows, table.vectors());
      return;
    }
    T* target = product.c;
    const Index target_row = product.c_row;
    product.c = buffer.memory();
    product.c_row = buffer.row();
    if (product.accumulate) buffer.load(table, target, rows, target_row, step);
    kernels_.product(product, rows, table.vectors());
    buffer.store(table, target, rows, target_row, step);
  }

  const WindowProduct<T>& problem_;
  const ProductBlocks& blocks_;
  const KernelTable<T>& kernels_;
  const Index nr_, taps_, terms_, pixels_, panels_, pixel_blocks_, row_blocks_;
};

}  // namespace

template <class T>
void run_window_product(const WindowProduct<T>& problem, const ProductBlocks& blocks, const Target& target,
                        const RunContext& context) {
  const Driver<T> driver(problem, blocks, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

Index product_scratch(const ProductBlocks& blocks, Index terms, const Tile& tile) {
  const Index k = std::min(blocks.k, terms);
  const auto offsets = (1 + tile.vectors) * k * Index{sizeof(std::ptrdiff_t)};
  return (blocks.panels * k + tile.rows) * tile.columns() * tile.bytes + offsets;
}

template void run_window_product(const WindowProduct<float>&, const ProductBlocks&, const Target&,
                                 const RunContext&);
template void run_window_product(const WindowProduct<double>&, const ProductBlocks&, const Target&,
                                 const RunContext&);

}  // namespace windrow
