// Operands of whole operations: arrays of any layout between guard pages, geometries, and plain loops over
// them.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>

#include "cases.hpp"

namespace seeded {

using windrow::Extents;
using windrow::RunContext;
using windrow::WindowAxis;

inline Index product(const Extents& extents) {
  Index count = 1;
  for (const Index extent : extents) count *= extent;
  return count;
}

// An array of any axis order and direction, with or without gaps, whose memory ends with its farthest
// element.
template <class T>
struct Array {
  Extents shape, strides;
  std::unique_ptr<Guarded<T>> memory;
  T* first;

  Array(Draw& draw, const Extents& extents, bool filled) : shape(extents), strides(extents.size()) {
    const std::size_t rank = shape.size();
    std::vector<std::size_t> order(rank);
    for (std::size_t i = 0; i < rank; ++i) order[i] = i;
    if (draw.chance(30)) {  // channels last
      std::rotate(order.begin() + 1, order.begin() + 2, order.end());
    } else if (draw.chance(30)) {
      for (std::size_t i = rank; i-- > 1;)
        std::swap(order[i], order[static_cast<std::size_t>(draw.number(0, static_cast<Index>(i)))]);
    }
    const bool gaps = draw.chance(30);
    Index stride = gaps ? draw.number(1, 3) : 1, reach = 0;
    for (std::size_t i = rank; i-- > 0;) {
      const std::size_t axis = order[i];
      strides[axis] = stride;
      reach += std::max<Index>(shape[axis] - 1, 0) * stride;
      stride *= std::max<Index>(shape[axis], 1);
      if (gaps) stride += draw.number(0, 3);
    }
    const bool empty = product(shape) == 0;
    memory = std::make_unique<Guarded<T>>(empty ? 0 : reach + 1, draw.chance(60));
    for (T& value : *memory) value = untouchable<T>();
    first = memory->data();
    for (std::size_t axis = 0; axis < rank && !empty; ++axis) {
      if (!draw.chance(15)) continue;
      first += (shape[axis] - 1) * strides[axis];
      strides[axis] = -strides[axis];
    }
    if (filled) each([&](T& value) { value = small<T>(draw); });
  }

  T& at(const Extents& place) {
    T* element = first;
    for (std::size_t i = 0; i < place.size(); ++i) element += place[i] * strides[i];
    return *element;
  }
  // Calls body on every element, row-major.
  template <class Body>
  void each(Body&& body) {
    Extents place(shape.size());
    for (Index left = product(shape); left > 0; --left) {
      body(at(place));
      for (std::size_t i = shape.size(); i-- > 0;) {
        if (++place[i] < shape[i]) break;
        place[i] = 0;
      }
    }
  }
  std::vector<T> values() {
    std::vector<T> all;
    each([&](T& value) { all.push_back(value); });
    return all;
  }
  // Elements of memory that belong to no entry still hold what they held.
  void expect_rest_untouched() {
    std::vector<bool> mine(static_cast<std::size_t>(memory->size()));
    each([&](T& value) { mine[static_cast<std::size_t>(&value - memory->data())] = true; });
    for (Index i = 0; i < memory->size(); ++i)
      if (!mine[static_cast<std::size_t>(i)])
        expect(same_bytes((*memory)[i], untouchable<T>()), "written between entries");
  }
};

struct Geometry {
  Index n, c, k, groups;
  std::vector<WindowAxis> axes;
  Extents x, w, y, columns;

  // Any geometry, or one that Winograd's tiles take.
  explicit Geometry(Draw& draw, bool tiles = false) {
    groups = draw.of({1, 1, 1, 2, 3, 8, 21});
    n = draw.of({0, 1, 1, 1, 2, 3});
    // Now and then more channels than a partial sum has, more filters or pixels than a block.
    c = groups * draw.of({0, 1, 1, 1, 2, 3, 4, 17, 40});
    k = groups * draw.of({0, 1, 1, 1, 2, 2, 3, 9, 9, 17, 220});
    // Depthwise: channels in whole vectors of every target, and some that are left.
    if (groups > 8) c = k = groups;
    const Index rank = tiles ? draw.of({2, 2, 2, 3, 4}) : draw.of({1, 1, 2, 2, 2, 2, 3, 4});
    x = {n, c};
    w = {k, c / groups};
    y = {n, k};
    columns = {n, c};
    const Index longest = rank == 1 ? 70 : rank == 2 ? (tiles ? 30 : draw.of({14, 14, 14, 60})) : 4;
    for (Index i = 0; i < rank; ++i) {
      const bool tiled = tiles && i + 2 >= rank;  // axes before these are any
      WindowAxis axis;
      axis.kernel = draw.of({1, 1, 2, 3, 3, 5});
      axis.dilation = draw.of({1, 1, 1, 2, 3});
      axis.stride = draw.of({1, 1, 1, 2, 2, 3, 7});
      if (tiled) axis = {.kernel = 3, .stride = 1, .dilation = draw.of({1, 1, 1, 2, 3, rank == 2 ? 9 : 1})};
      axis.before = draw.of({0, 0, 1, 1, 2, 5});
      const Index after = draw.of({0, 0, 1, 1, 3});
      const Index span = axis.dilation * (axis.kernel - 1) + 1;
      const Index least = std::max<Index>(1, span - axis.before - after);
      axis.size = draw.number(least, std::max(least, tiled && rank > 2 ? 3 * longest : longest));
      axis.out = (axis.size + axis.before + after - span) / axis.stride + 1;
      axes.push_back(windrow::within_reach(axis));
      x.push_back(axis.size);
      w.push_back(axis.kernel);
      y.push_back(axis.out);
    }
    for (const WindowAxis& axis : axes) columns.push_back(axis.kernel);
    for (const WindowAxis& axis : axes) columns.push_back(axis.out);
  }

  // Calls body(image, channel, tap, position, pixel, inside) for every channel of every window; a pixel that
  // the border repeats is inside.
  template <class Body>
  void each_tap(Body&& body) const {
    const std::size_t rank = axes.size();
    Extents place(2 + 2 * rank), tap(rank), position(rank), pixel(rank);
    for (Index left = product(columns); left > 0; --left) {
      bool inside = true;
      for (std::size_t i = 0; i < rank; ++i) {
        tap[i] = place[2 + i];
        position[i] = place[2 + rank + i];
        pixel[i] = axes[i].at(position[i] * axes[i].stride + tap[i] * axes[i].dilation - axes[i].before);
        inside = inside && pixel[i] >= 0;
      }
      body(place, tap, position, pixel, inside);
      for (std::size_t i = place.size(); i-- > 0;) {
        if (++place[i] < columns[i]) break;
        place[i] = 0;
      }
    }
  }
};

inline Extents with(Index first, Index second, const Extents& rest) {
  Extents place{first, second};
  for (const Index value : rest) place.push_back(value);
  return place;
}

inline RunContext threads(Draw& draw) { return {.threads = static_cast<int>(draw.number(1, 3))}; }

// Sums of small whole numbers are exact, or, where Winograd's weights round, right to the nearest one.
template <class T>
void expect_values(Array<T>& result, const std::vector<T>& expected, bool rounded = false) {
  std::vector<T> values = result.values();
  if (rounded)
    for (T& value : values) value = static_cast<T>(std::round(value));
  expect(values == expected, "other values");
  result.expect_rest_untouched();
}

}  // namespace seeded
