#include "pack/rows.hpp"

#include <algorithm>

namespace windrow {
namespace {

// One channel, of whose rows and of whose elements of a row those in the image are known.
template <class T>
void copy_channel(const KernelTable<T>& kernels, const PlaneRows<T>& p, PixelAxis::Inside rows,
                  PixelAxis::Inside inside, const T* plane, T* channel) {
  const PixelAxis &down = p.down, &across = p.across;
  const Index source_row = p.row_step * down.source_stride;
  for (Index r = 0, some = 1; r < p.rows; r += some) {
    some = rows.from <= r && r < rows.to ? rows.to - r : 1;
    T* target = channel + r * p.target_row;
    const Index row = down.at(p.row + r * p.row_step);
    if (row < 0) {
      std::fill_n(std::fill_n(target, p.columns, p.fill), p.width - p.columns, T{0});
      continue;
    }
    const T* source = plane + row * down.source_stride;
    kernels.pad({.target = target,
                 .target_row = p.target_row,
                 .source = source + p.column * across.source_stride,
                 .source_row = source_row,
                 .step = p.column_step * across.source_stride,
                 .rows = some,
                 .width = p.width,
                 .low = inside.from,
                 .high = inside.to,
                 .ahead = p.ahead});
    if (across.border == Border::kConstant && p.fill == 0) continue;  // it is there
    const auto fill_border = [&](Index first, Index last) {
      for (Index j = first; j < last; ++j) {
        const Index position = across.at(p.column + j * p.column_step);
        for (Index i = 0; i < some; ++i)
          target[i * p.target_row + j] =
              position < 0 ? p.fill : source[i * source_row + position * across.source_stride];
      }
    };
    fill_border(0, inside.from);
    fill_border(inside.to, p.columns);
  }
}

}  // namespace

template <class T>
void copy_rows(const KernelTable<T>& kernels, const PlaneRows<T>& p) {
  const PixelAxis::Inside rows = p.down.inside(p.row, p.rows, p.row_step);
  const PixelAxis::Inside inside = p.across.inside(p.column, p.columns, p.column_step);
  for (Index i = 0; i < p.channels; ++i)
    copy_channel(kernels, p, rows, inside, p.plane + i * p.source_channel, p.target + i * p.target_channel);
}

template <class T>
void turn_rows(const KernelTable<T>& kernels, const PlaneRows<T>& p) {
  const PixelAxis &down = p.down, &across = p.across;
  const PixelAxis::Inside inside = across.inside(p.column, p.columns, p.column_step);
  const Index step = p.column_step * across.source_stride;
  for (Index r = 0; r < p.rows; ++r) {
    T* target = p.target + r * p.target_row;
    const Index row = down.at(p.row + r * p.row_step);
    const T* source = p.plane + row * down.source_stride;
    const auto fill = [&](Index first, Index last, T value) {
      for (Index i = 0; i < p.channels; ++i)
        std::fill(target + i * p.target_channel + first, target + i * p.target_channel + last, value);
    };
    const auto fill_border = [&](Index first, Index last) {
      for (Index j = first; j < last; ++j) {
        const Index position = across.at(p.column + j * p.column_step);
        if (position < 0) {
          fill(j, j + 1, p.fill);
        } else {
          for (Index i = 0; i < p.channels; ++i)
            target[i * p.target_channel + j] = source[position * across.source_stride + i];
        }
      }
    };
    fill(p.columns, p.width, T{0});
    if (row < 0) {
      fill(0, p.columns, p.fill);
      continue;
    }
    fill_border(0, inside.from);
    if (inside.from < inside.to)
      kernels.transpose({.target = target + inside.from,
                         .target_row = p.target_channel,
                         .source = source + p.column * across.source_stride + inside.from * step,
                         .source_row = step,
                         .rows = p.channels,
                         .columns = inside.to - inside.from,
                         .ahead = 0});
    fill_border(inside.to, p.columns);
  }
}

template <class T>
void fill_rows(const PlaneRows<T>& p) {
  for (Index i = 0; i < p.channels; ++i) {
    T* target = p.target + i * p.target_channel;
    for (Index r = 0; r < p.rows; ++r, target += p.target_row)
      std::fill_n(std::fill_n(target, p.columns, p.fill), p.width - p.columns, T{0});
  }
}

template void copy_rows(const KernelTable<float>&, const PlaneRows<float>&);
template void copy_rows(const KernelTable<double>&, const PlaneRows<double>&);
template void turn_rows(const KernelTable<float>&, const PlaneRows<float>&);
template void turn_rows(const KernelTable<double>&, const PlaneRows<double>&);
template void fill_rows(const PlaneRows<float>&);
template void fill_rows(const PlaneRows<double>&);

}  // namespace windrow
