#include "drivers/strip_product.hpp"

#include <algorithm>

#include "base/workspace.hpp"

namespace windrow {
namespace {

constexpr int kMaxRows = 16;     // of any target's tile
constexpr Index kMostTaps = 64;  // of a window that has a kernel of its own

Index floor_div(Index a, Index b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// The axes of a grid as a strip sees them: outer axes, one axis of rows, and the last one along which lanes
// lie.
struct StripShape {
  // Taps of the last axis with equal position modulo the step read the same row of the strip, shifted.
  Extents phase;      // the phases that have taps, each a position modulo the step
  Extents tap_phase;  // for each tap of the last axis: which of those
  Extents tap_shift;  // and the position divided by the step, from the smallest one on
  Index first_shift = 0, width = 0;
  Index first_row = 0;                   // the smallest tap of the row axis
  Index row_span = 0;                    // rows that one row of pixels sees
  Index rows = 0;                        // rows of the strip
  Index slices = 1;                      // combinations of outer taps
  Index part = 0, slice = 0, plane = 0;  // elements of the rows of one phase, of all phases, of all slices

  StripShape(const PixelGrid& grid, const StripBlocks& blocks) {
    const PixelAxis& last = grid.axes.back();
    Index last_shift = 0;
    for (std::size_t t = 0; t < last.tap.size(); ++t) {
      const Index shift = floor_div(last.tap[t], last.step);
      const Index p = last.tap[t] - shift * last.step;
      auto found = std::find(phase.begin(), phase.end(), p);
      if (found == phase.end()) found = phase.insert(phase.end(), p);
      tap_phase.push_back(found - phase.begin());
      tap_shift.push_back(shift);
      first_shift = t == 0 ? shift : std::min(first_shift, shift);
      last_shift = t == 0 ? shift : std::max(last_shift, shift);
    }
    for (Index& shift : tap_shift) shift -= first_shift;
    width = blocks.columns + last_shift - first_shift;

    const std::size_t rank = grid.axes.size();
    rows = 1;
    if (rank > 1) {
      const PixelAxis& axis = grid.axes[rank - 2];
      if (!axis.tap.empty()) {
        const auto [low, high] = std::minmax_element(axis.tap.begin(), axis.tap.end());
        first_row = *low;
        row_span = *high - *low + 1;
        rows = (blocks.rows - 1) * axis.step + row_span;
      }
    }
    for (std::size_t i = 0; i + 2 < rank; ++i) slices *= static_cast<Index>(grid.axes[i].tap.size());
    part = width * rows;
    slice = part * static_cast<Index>(phase.size());
    plane = slice * slices;
  }
};

template <class T>
class Driver {
 public:
  Driver(const WindowProduct<T>& problem, const StripBlocks& blocks, const Target& target)
      : p_(problem),
        blocks_(blocks),
        target_(target),
        kernels_(target.kernels<T>()),
        nr_(Index{kernels_.lanes} * kernels_.vectors),
        shape_(problem.grid, blocks),
        rank_(problem.grid.axes.size()),
        last_(problem.grid.axes.back()),
        row_axis_(rank_ > 1 ? problem.grid.axes[rank_ - 2] : one_row_),
        row_blocks_(ceil_div(row_axis_.count, blocks.rows)),
        column_blocks_(ceil_div(last_.count, blocks.columns)),
        terms_(problem.channels * problem.grid.taps()) {
    outer_ = 1;
    for (std::size_t i = 0; i + 2 < rank_; ++i) outer_ *= problem.grid.axes[i].count;
    // What is copied next: the next rows of the same plane, or else the next plane.
    ahead_ = row_blocks_ > 1        ? blocks.rows * row_axis_.step * row_axis_.source_stride
             : problem.channels > 1 ? problem.source_channel
                                    : problem.source_group;
    units_ = problem.grid.images * problem.groups * outer_ * row_blocks_ * column_blocks_;
  }

  Index pieces() const { return ceil_div(units_, blocks_.units); }

  void piece(Index index) const {
    Scratch scratch;
    T* strip = scratch.take<T>(strip_elements(p_.grid, p_.channels, blocks_, tile_of<T>(target_)));
    T* buffer = scratch.take<T>(std::max(kMaxRows * nr_, blocks_.columns));
    auto* steps = scratch.take<Step>(terms_);
    set_steps(steps);
    const Index end = std::min(units_, (index + 1) * blocks_.units);
    for (Index unit = index * blocks_.units; unit < end; ++unit) run_unit(unit, strip, buffer, steps);
  }

 private:
  struct Unit {
    Index group, image, row, rows, column, columns;
    Extents outer;  // position along each outer axis
    const T* source;
    T* target;
  };

  Unit unit_at(Index index) const {
    Unit unit;
    const auto part = [&index](Index count) {
      const Index result = index % count;
      index /= count;
      return result;
    };
    unit.column = part(column_blocks_) * blocks_.columns;
    unit.columns = std::min(blocks_.columns, last_.count - unit.column);
    unit.row = part(row_blocks_) * blocks_.rows;
    unit.rows = std::min(blocks_.rows, row_axis_.count - unit.row);
    unit.target = p_.target + unit.column * last_.target_stride + unit.row * row_axis_.target_stride;
    if (rank_ > 2) {
      unit.outer.resize(rank_ - 2);
      for (std::size_t i = rank_ - 2; i-- > 0;) {
        unit.outer[i] = part(p_.grid.axes[i].count);
        unit.target += unit.outer[i] * p_.grid.axes[i].target_stride;
      }
    }
    unit.group = part(p_.groups);
    unit.image = index;
    unit.source = p_.source + unit.image * p_.grid.source_image + unit.group * p_.source_group;
    unit.target += unit.image * p_.grid.target_image + unit.group * p_.target_group;
    return unit;
  }

  void set_steps(Step* steps) const {
    const Index row_taps = rank_ > 1 ? static_cast<Index>(row_axis_.tap.size()) : 1;
    const auto last_taps = static_cast<Index>(last_.tap.size());
    const Index taps = shape_.slices * row_taps * last_taps;
    for (Index channel = 0; channel < p_.channels; ++channel) {
      Index tap = 0;
      for (Index slice = 0; slice < shape_.slices; ++slice) {
        for (Index r = 0; r < row_taps; ++r) {
          const Index row = rank_ > 1 ? row_axis_.tap[static_cast<std::size_t>(r)] - shape_.first_row : 0;
          for (std::size_t t = 0; t < last_.tap.size(); ++t, ++tap) {
            steps[channel * taps + tap] = {
                .a = channel * p_.factor_channel + p_.factor_tap[static_cast<std::size_t>(tap)],
                .b = channel * shape_.plane + slice * shape_.slice + shape_.tap_phase[t] * shape_.part +
                     row * shape_.width + shape_.tap_shift[t]};
          }
        }
      }
    }
  }

  void run_unit(Index index, T* strip, T* buffer, const Step* steps) const {
    const Unit unit = unit_at(index);
    for (Index channel = 0; terms_ > 0 && channel < p_.channels; ++channel)
      fill(unit, unit.source + channel * p_.source_channel, strip + channel * shape_.plane);
    const T* factor = p_.factor + unit.group * p_.factor_group;
    const T* bias = p_.bias ? p_.bias + unit.group * p_.rows * p_.bias_stride : nullptr;
    if (p_.rows == 1) {
      run_one_row(unit, strip, buffer, factor, bias, steps);
      return;
    }
    for (Index m = 0; m < p_.rows; m += kernels_.rows) {
      const int rows = static_cast<int>(std::min<Index>(kernels_.rows, p_.rows - m));
      T tile_bias[kMaxRows];
      if (bias) {
        for (Index r = 0; r < rows; ++r) tile_bias[r] = bias[(m + r) * p_.bias_stride];
      }
      Product<T> product{.a = factor + m * p_.factor_row,
                         .a_row = p_.factor_row,
                         .b = nullptr,
                         .step = steps,
                         .c = nullptr,
                         .c_row = 0,
                         .k = terms_,
                         .accumulate = p_.accumulate,
                         .bias = bias ? tile_bias : nullptr};
      for (Index r = 0; r < unit.rows; ++r) {
        for (Index column = 0; column < unit.columns; column += nr_) {
          product.b = strip + r * row_axis_.step * shape_.width + column;
          T* target =
              unit.target + m * p_.target_row + r * row_axis_.target_stride + column * last_.target_stride;
          run_tile(product, target, rows, std::min(nr_, unit.columns - column), buffer);
        }
      }
    }
  }

  // A result of one row per group, as in depthwise convolution: no tiles.
  void run_one_row(const Unit& unit, const T* strip, T* buffer, const T* factor, const T* bias,
                   const Step* steps) const {
    Stencil<T> stencil{.w = factor,
                       .x = strip,
                       .x_row = row_axis_.step * shape_.width,
                       .step = steps,
                       .k = terms_,
                       .y = unit.target,
                       .y_row = row_axis_.target_stride,
                       .rows = unit.rows,
                       .count = unit.columns,
                       .accumulate = p_.accumulate,
                       .bias = bias};
    if (last_.target_stride == 1 || unit.columns == 1) {
      if (!run_window(stencil, steps)) kernels_.stencil(stencil);
      return;
    }
    // Row by row through the buffer, where pixels do not lie side by side.
    stencil.rows = 1;
    stencil.y = buffer;
    for (Index r = 0; r < unit.rows; ++r, stencil.x += stencil.x_row) {
      T* target = unit.target + r * row_axis_.target_stride;
      const Strided<T> out{
          .target = target, .source = buffer, .step = last_.target_stride, .count = unit.columns};
      if (p_.accumulate)
        kernels_.collect(
            {.target = buffer, .source = target, .step = last_.target_stride, .count = unit.columns});
      kernels_.stencil(stencil);
      kernels_.spread(out);
    }
  }

  // The kernel for windows of the usual sizes, if this is one: two axes, no dilation along rows.
  bool run_window(const Stencil<T>& s, const Step* steps) const {
    constexpr Index kMostColumns = 16;
    const auto columns = static_cast<Index>(last_.tap.size());
    if (p_.channels != 1 || shape_.slices != 1 || rank_ < 2 || columns > kMostColumns) return false;
    const auto kernel_rows = static_cast<Index>(row_axis_.tap.size());
    if (kernel_rows == 0 || shape_.row_span != kernel_rows || row_axis_.tap.front() != shape_.first_row)
      return false;
    if (kernel_rows * columns > kMostTaps) return false;
    T w[kMostTaps];
    std::ptrdiff_t shift[kMostColumns];
    for (Index t = 0; t < kernel_rows * columns; ++t) w[t] = s.w[steps[t].a];
    for (Index j = 0; j < columns; ++j) shift[j] = steps[j].b;
    return kernels_.window({.w = w,
                            .x = s.x,
                            .x_row = shape_.width,
                            .shift = shift,
                            .kernel_rows = static_cast<int>(kernel_rows),
                            .kernel_columns = static_cast<int>(columns),
                            .row_step = row_axis_.step,
                            .y = s.y,
                            .y_row = s.y_row,
                            .rows = s.rows,
                            .count = s.count,
                            .accumulate = s.accumulate,
                            .bias = s.bias});
  }

  // A tile of `columns` pixels, through the buffer where they are no whole vectors or do not lie side by
  // side.
  void run_tile(Product<T> product, T* target, int rows, Index columns, T* buffer) const {
    const int vectors = static_cast<int>(ceil_div(columns, kernels_.lanes));
    if (last_.target_stride == 1 && columns % kernels_.lanes == 0) {
      product.c = target;
      product.c_row = p_.target_row;
      kernels_.product(product, rows, vectors);
      return;
    }
    product.c = buffer;
    product.c_row = nr_;
    if (product.accumulate) {
      for (Index r = 0; r < rows; ++r)
        kernels_.collect({.target = buffer + r * nr_,
                          .source = target + r * p_.target_row,
                          .step = last_.target_stride,
                          .count = columns});
    }
    kernels_.product(product, rows, vectors);
    for (Index r = 0; r < rows; ++r)
      kernels_.spread({.target = target + r * p_.target_row,
                       .source = buffer + r * nr_,
                       .step = last_.target_stride,
                       .count = columns});
  }

  // Copies what the unit sees of one channel.
  void fill(const Unit& unit, const T* source, T* strip) const {
    Extents tap(rank_ > 2 ? rank_ - 2 : 0, 0);
    for (Index slice = 0; slice < shape_.slices; ++slice) {
      const T* from = source;
      bool inside = true;
      for (std::size_t i = 0; i < tap.size(); ++i) {
        const PixelAxis& axis = p_.grid.axes[i];
        const Index position = unit.outer[i] * axis.step + axis.tap[static_cast<std::size_t>(tap[i])];
        inside = inside && position >= 0 && position < axis.size;
        from += position * axis.source_stride;
      }
      const Index rows = (unit.rows - 1) * row_axis_.step + std::max<Index>(1, shape_.row_span);
      // Rows [low, high) lie in the image.
      const Index first = rank_ > 1 ? unit.row * row_axis_.step + shape_.first_row : 0;
      const Index low = inside ? std::clamp<Index>(-first, 0, rows) : rows;
      const Index high = inside ? std::clamp<Index>(row_axis_.size - first, low, rows) : rows;
      for (const Index phase : shape_.phase) {
        // In order of memory: the kernel may spill over the end of each row.
        std::fill_n(strip, low * shape_.width, T{0});
        fill_rows(unit, phase, from + (first + low) * row_axis_.source_stride, high - low,
                  strip + low * shape_.width);
        std::fill_n(strip + high * shape_.width, (rows - high) * shape_.width, T{0});
        strip += shape_.part;
      }
      for (std::size_t i = tap.size(); i-- > 0;) {
        if (++tap[i] < static_cast<Index>(p_.grid.axes[i].tap.size())) break;
        tap[i] = 0;
      }
    }
  }

  void fill_rows(const Unit& unit, Index phase, const T* source, Index rows, T* strip) const {
    // Element j is position start + j * step.
    const Index start = (unit.column + shape_.first_shift) * last_.step + phase;
    const Index low = std::min(start < 0 ? ceil_div(-start, last_.step) : 0, shape_.width);
    const Index high = start < last_.size ? ceil_div(last_.size - start, last_.step) : 0;
    kernels_.pad({.target = strip,
                  .target_row = shape_.width,
                  .source = source + start * last_.source_stride,
                  .source_row = row_axis_.source_stride,
                  .step = last_.step * last_.source_stride,
                  .rows = rows,
                  .width = shape_.width,
                  .low = low,
                  .high = std::clamp(high, low, shape_.width),
                  .ahead = ahead_});
  }

  const PixelAxis one_row_;
  const WindowProduct<T>& p_;
  const StripBlocks& blocks_;
  const Target& target_;
  const KernelTable<T>& kernels_;
  const Index nr_;
  const StripShape shape_;
  const std::size_t rank_;
  const PixelAxis& last_;
  const PixelAxis& row_axis_;
  const Index row_blocks_, column_blocks_, terms_;
  Index outer_ = 1, units_ = 0, ahead_ = 0;
};

}  // namespace

template <class T>
void run_strip_product(const WindowProduct<T>& problem, const StripBlocks& blocks, const Target& target,
                       const RunContext& context) {
  const Driver<T> driver(problem, blocks, target);
  parallel_for(context, driver.pieces(), [&](Index piece) { driver.piece(piece); });
}

Index strip_elements(const PixelGrid& grid, Index channels, const StripBlocks& blocks, const Tile& tile) {
  // Kernels read whole vectors past the last row, and `pad` writes past it.
  return StripShape(grid, blocks).plane * channels + tile.columns();
}

Index strip_scratch(const PixelGrid& grid, Index channels, const StripBlocks& blocks, const Tile& tile) {
  const Index buffer = std::max(kMaxRows * tile.columns(), blocks.columns);
  const Index steps = channels * grid.taps() * Index{sizeof(Step)};
  return (strip_elements(grid, channels, blocks, tile) + buffer) * tile.bytes + steps;
}

template void run_strip_product(const WindowProduct<float>&, const StripBlocks&, const Target&,
                                const RunContext&);
template void run_strip_product(const WindowProduct<double>&, const StripBlocks&, const Target&,
                                const RunContext&);

}  // namespace windrow
