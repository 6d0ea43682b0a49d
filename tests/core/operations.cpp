#include <algorithm>
#include <cmath>
#include <memory>

#include "api/conv.hpp"
#include "cases.hpp"
#include "drivers/fold.hpp"
#include "drivers/unfold.hpp"
#include "failures.hpp"

namespace seeded {
namespace {

using namespace windrow;

Index product(const Extents& extents) {
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
    groups = draw.of({1, 1, 1, 2, 3, 8});
    n = draw.of({0, 1, 1, 1, 2, 3});
    // Now and then more channels than a partial sum has, more filters or pixels than a block.
    c = groups * draw.of({0, 1, 1, 1, 2, 3, 4, 17, 40});
    k = groups * draw.of({0, 1, 1, 1, 2, 2, 3, 9, 9, 17, 220});
    const Index rank = tiles ? 2 : draw.of({1, 1, 2, 2, 2, 2, 3, 4});
    x = {n, c};
    w = {k, c / groups};
    y = {n, k};
    columns = {n, c};
    const Index longest = rank == 1 ? 70 : rank == 2 ? (tiles ? 30 : draw.of({14, 14, 14, 60})) : 4;
    for (Index i = 0; i < rank; ++i) {
      WindowAxis axis;
      axis.kernel = draw.of({1, 1, 2, 3, 3, 5});
      axis.dilation = draw.of({1, 1, 1, 2, 3});
      axis.stride = draw.of({1, 1, 1, 2, 2, 3, 7});
      if (tiles) axis = {.kernel = 3, .stride = 1, .dilation = 1};
      axis.before = draw.of({0, 0, 1, 1, 2, 5});
      const Index after = draw.of({0, 0, 1, 1, 3});
      const Index span = axis.dilation * (axis.kernel - 1) + 1;
      const Index least = std::max<Index>(1, span - axis.before - after);
      axis.size = draw.number(least, std::max(least, longest));
      axis.out = (axis.size + axis.before + after - span) / axis.stride + 1;
      axes.push_back(within_reach(axis));
      x.push_back(axis.size);
      w.push_back(axis.kernel);
      y.push_back(axis.out);
    }
    for (const WindowAxis& axis : axes) columns.push_back(axis.kernel);
    for (const WindowAxis& axis : axes) columns.push_back(axis.out);
  }

  // Calls body(image, channel, tap, position, pixel, inside) for every channel of every window.
  template <class Body>
  void each_tap(Body&& body) const {
    const std::size_t rank = axes.size();
    Extents place(2 + 2 * rank), tap(rank), position(rank), pixel(rank);
    for (Index left = product(columns); left > 0; --left) {
      bool inside = true;
      for (std::size_t i = 0; i < rank; ++i) {
        tap[i] = place[2 + i];
        position[i] = place[2 + rank + i];
        pixel[i] = position[i] * axes[i].stride + tap[i] * axes[i].dilation - axes[i].before;
        inside = inside && pixel[i] >= 0 && pixel[i] < axes[i].size;
      }
      body(place, tap, position, pixel, inside);
      for (std::size_t i = place.size(); i-- > 0;) {
        if (++place[i] < columns[i]) break;
        place[i] = 0;
      }
    }
  }
};

Extents with(Index first, Index second, const Extents& rest) {
  Extents place{first, second};
  for (const Index value : rest) place.push_back(value);
  return place;
}

RunContext threads(Draw& draw) { return {.threads = static_cast<int>(draw.number(1, 3))}; }

// Sums of small whole numbers are exact, or, where Winograd's weights round, right to the nearest one.
template <class T>
void expect_values(Array<T>& result, const std::vector<T>& expected, bool rounded = false) {
  std::vector<T> values = result.values();
  if (rounded)
    for (T& value : values) value = static_cast<T>(std::round(value));
  expect(values == expected, "other values");
  result.expect_rest_untouched();
}

template <class T, Algorithm kAlgorithm>
void convolution(Draw& draw, const Target& target) {
  constexpr bool kTiles = kAlgorithm == Algorithm::kWinograd;
  const Geometry g(draw, kTiles);
  if (product(g.columns) * std::max<Index>(g.k, 1) > 2'000'000) return;  // too slow for plain loops
  Array<T> x(draw, g.x, true), w(draw, g.w, true), dy(draw, g.y, true), b(draw, Extents{g.k, 1, 1}, true);
  const bool has_bias = draw.chance(50), accumulate = draw.chance(40);
  Array<T> y(draw, g.y, false), dx(draw, g.x, accumulate), dw(draw, g.w, accumulate);
  std::vector<T> y_sum(static_cast<std::size_t>(product(g.y)), T{0}), dx_sum, dw_sum;
  const auto start = [&](Array<T>& array) {
    return accumulate ? array.values() : std::vector<T>(static_cast<std::size_t>(product(array.shape)), T{0});
  };
  dx_sum = start(dx);
  dw_sum = start(dw);
  const auto index = [](const Extents& shape, const Extents& place) {
    Index at = 0;
    for (std::size_t i = 0; i < shape.size(); ++i) at = at * shape[i] + place[i];
    return static_cast<std::size_t>(at);
  };
  const Index per_group = g.k / g.groups, channels = g.c / g.groups;
  g.each_tap([&](const Extents& place, const Extents& tap, const Extents& position, const Extents& pixel,
                 bool inside) {
    if (!inside) return;
    const Index channel = place[1], group = channels > 0 ? channel / channels : 0;
    const Extents x_place = with(place[0], channel, pixel);
    for (Index f = group * per_group; f < (group + 1) * per_group; ++f) {
      const Extents w_place = with(f, channel % channels, tap), y_place = with(place[0], f, position);
      y_sum[index(g.y, y_place)] += x.at(x_place) * w.at(w_place);
      dx_sum[index(g.x, x_place)] += dy.at(y_place) * w.at(w_place);
      dw_sum[index(g.w, w_place)] += dy.at(y_place) * x.at(x_place);
    }
  });
  if (has_bias) {
    const Index plane = g.k > 0 && g.n > 0 ? product(g.y) / g.n / g.k : 0;
    for (std::size_t i = 0; i < y_sum.size(); ++i)
      y_sum[i] += b.at(Extents{static_cast<Index>(i) / plane % g.k, 0, 0});
  }
  const ConvShape shape{.n = g.n, .c = g.c, .k = g.k, .groups = g.groups, .axes = g.axes};
  const auto input = [](Array<T>& array) { return ArrayView<const T>{array.first, array.strides.data()}; };
  const auto output = [](Array<T>& array) { return ArrayView<T>{array.first, array.strides.data()}; };
  const BiasView<const T> bias{.data = has_bias ? b.first : nullptr, .stride = b.strides[0]};
  CallOptions options{.algorithm = kAlgorithm};
  // Now and then every allocation of it is refused in turn; without accumulating, the last run tells all.
  const auto run = [&](const std::function<void(const RunContext&)>& operation) {
    const RunContext context = threads(draw);
    if (!accumulate && draw.chance(3)) {
      refuse_each_allocation(context.threads == 1, [&] { operation(context); });
    } else {
      operation(context);
    }
  };
  run([&](const RunContext& context) {
    conv<T>(shape, input(x), input(w), bias, output(y), options, target, context);
  });
  expect_values(y, y_sum, kTiles);
  options.accumulate = accumulate;
  run([&](const RunContext& context) {
    conv_grad_input<T>(shape, input(dy), input(w), {}, output(dx), options, target, context);
  });
  expect_values(dx, dx_sum, kTiles);
  run([&](const RunContext& context) {
    conv_grad_weight<T>(shape, input(dy), input(x), output(dw), options, target, context);
  });
  expect_values(dw, dw_sum);
}

template <class T>
void patches(Draw& draw, const Target& target) {
  const Geometry g(draw);
  if (product(g.columns) > 500'000) return;
  Array<T> x(draw, g.x, true), columns(draw, g.columns, false), back(draw, g.x, false);
  const auto in_bytes = [](const Extents& strides) {
    Extents bytes = strides;
    for (Index& stride : bytes) stride *= Index{sizeof(T)};
    return bytes;
  };
  const Extents x_strides = in_bytes(x.strides), columns_strides = in_bytes(columns.strides),
                back_strides = in_bytes(back.strides);
  const PatchShape shape{.n = g.n, .c = g.c, .axes = g.axes};
  const T fill = small<T>(draw);
  run_unfold({.shape = shape,
              .item = sizeof(T),
              .x = reinterpret_cast<const char*>(x.first),
              .x_strides = x_strides.data(),
              .cols = reinterpret_cast<char*>(columns.first),
              .cols_strides = columns_strides.data(),
              .fill = reinterpret_cast<const char*>(&fill)},
             target, threads(draw));
  std::vector<T> taken, sums(static_cast<std::size_t>(product(g.x)), T{0});
  g.each_tap([&](const Extents& place, const Extents&, const Extents&, const Extents& pixel, bool inside) {
    taken.push_back(inside ? x.at(with(place[0], place[1], pixel)) : fill);
    if (!inside) return;
    Index at = place[0] * g.c + place[1];
    for (std::size_t i = 0; i < pixel.size(); ++i) at = at * g.axes[i].size + pixel[i];
    sums[static_cast<std::size_t>(at)] = static_cast<T>(sums[static_cast<std::size_t>(at)] + taken.back());
  });
  expect_values(columns, taken);
  constexpr Number kNumber = std::is_same_v<T, float> ? kF32 : std::is_same_v<T, double> ? kF64 : kI16;
  run_fold({.shape = shape,
            .number = kNumber,
            .complex_pairs = false,
            .reduction = kAdd,
            .cols = reinterpret_cast<const char*>(columns.first),
            .cols_strides = columns_strides.data(),
            .x = reinterpret_cast<char*>(back.first),
            .x_strides = back_strides.data(),
            .weights = nullptr,
            .divisor = nullptr,
            .divide = false,
            .uncovered = reinterpret_cast<const char*>(&fill)},
           target, threads(draw));
  expect_values(back, sums);
}

}  // namespace

const std::vector<Case> kOperationCases = {
    {"convolution float32", convolution<float, Algorithm::kDirect>},
    {"convolution float64", convolution<double, Algorithm::kDirect>},
    {"convolution by tiles float32", convolution<float, Algorithm::kWinograd>},
    {"convolution by tiles float64", convolution<double, Algorithm::kWinograd>},
    {"patches float32", patches<float>},
    {"patches float64", patches<double>},
    {"patches int16", patches<std::int16_t>},
};

}  // namespace seeded
