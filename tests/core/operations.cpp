#include "api/conv.hpp"
#include "drivers/fold.hpp"
#include "drivers/unfold.hpp"
#include "failures.hpp"
#include "operands.hpp"

namespace seeded {
namespace {

using namespace windrow;

template <class T, Algorithm kAlgorithm>
void convolution(Draw& draw, const Target& target) {
  constexpr bool kTiles = kAlgorithm == Algorithm::kWinograd;
  Geometry g(draw, kTiles);
  if (product(g.columns) * std::max<Index>(g.k, 1) > 2'000'000) return;  // too slow for plain loops
  const auto border = static_cast<Border>(draw.of({0, 0, 0, 1, 2, 3}));
  for (WindowAxis& axis : g.axes) axis.border = border;
  const T fill = border == Border::kConstant && draw.chance(40) ? small<T>(draw) : T{0};
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
    const Index channel = place[1], group = channels > 0 ? channel / channels : 0;
    const Extents x_place = with(place[0], channel, pixel);
    const T seen = inside ? x.at(x_place) : fill;
    for (Index f = group * per_group; f < (group + 1) * per_group; ++f) {
      const Extents w_place = with(f, channel % channels, tap), y_place = with(place[0], f, position);
      y_sum[index(g.y, y_place)] += seen * w.at(w_place);
      if (inside) dx_sum[index(g.x, x_place)] += dy.at(y_place) * w.at(w_place);
      dw_sum[index(g.w, w_place)] += dy.at(y_place) * seen;
    }
  });
  if (has_bias) {
    const Index plane = g.k > 0 && g.n > 0 ? product(g.y) / g.n / g.k : 0;
    for (std::size_t i = 0; i < y_sum.size(); ++i)
      y_sum[i] += b.at(Extents{static_cast<Index>(i) / plane % g.k, 0, 0});
  }
  const ConvShape shape{.n = g.n, .c = g.c, .k = g.k, .groups = g.groups, .axes = g.axes, .fill = fill};
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
  if (shape.has_zeros_around()) {
    run([&](const RunContext& context) {
      conv_grad_input<T>(shape, input(dy), input(w), {}, output(dx), options, target, context);
    });
    expect_values(dx, dx_sum, kTiles);
  }
  run([&](const RunContext& context) {
    conv_grad_weight<T>(shape, input(dy), input(x), output(dw), options, target, context);
  });
  expect_values(dw, dw_sum, kTiles);
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
