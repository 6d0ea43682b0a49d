#include <cmath>
#include <limits>

#include "api/pool.hpp"
#include "operands.hpp"

namespace seeded {
namespace {

using namespace windrow;

template <class T>
ArrayView<const T> input(const Array<T>& array) {
  return {array.first, array.strides.data()};
}
template <class T>
ArrayView<T> output(Array<T>& array) {
  return {array.first, array.strides.data()};
}

std::size_t at(const Extents& shape, Index n, Index c, const Extents& rest) {
  Index place = n * shape[1] + c;
  for (std::size_t i = 0; i < rest.size(); ++i) place = place * shape[2 + i] + rest[i];
  return static_cast<std::size_t>(place);
}

// Among small whole numbers, of which many are equal, now and then a NaN.
template <class T>
void with_nan(Draw& draw, Array<T>& x) {
  if (draw.chance(50)) return;
  x.each([&](T& value) {
    if (draw.chance(4)) value = std::numeric_limits<T>::quiet_NaN();
  });
}

template <class T>
bool same(T a, T b) {
  return a == b || (a != a && b != b);
}

template <class T>
void maxima(Draw& draw, const Target& target) {
  set_current_target(target);
  const Geometry g(draw);
  const Extents y_shape = with(g.n, g.c, Extents(g.y.begin() + 2, g.y.end()));
  if (product(g.columns) > 500'000) return;
  Array<T> x(draw, g.x, true), y(draw, y_shape, false);
  Array<std::int64_t> indices(draw, y_shape, false);
  with_nan(draw, x);
  const bool magnitude = draw.chance(20), wants_indices = draw.chance(50);
  const T none = magnitude ? T{0} : -std::numeric_limits<T>::infinity();  // of a window without pixels
  std::vector<T> best(static_cast<std::size_t>(product(y_shape)), none);
  std::vector<std::int64_t> places(best.size(), -1);
  g.each_tap(
      [&](const Extents& place, const Extents&, const Extents& position, const Extents& pixel, bool inside) {
        if (!inside) return;
        const std::size_t i = at(y_shape, place[0], place[1], position);
        const T value = x.at(with(place[0], place[1], pixel)), v = magnitude ? std::abs(value) : value;
        if (places[i] >= 0 && (best[i] != best[i] || v <= best[i])) return;
        best[i] = v;
        places[i] = static_cast<std::int64_t>(at(g.x, 0, 0, pixel));
      });
  const IndexView view{wants_indices ? indices.first : nullptr, indices.strides.data()};
  max_pool<T>({.n = g.n, .c = g.c, .axes = g.axes}, input(x), output(y), view, magnitude, threads(draw));
  const std::vector<T> values = y.values();
  for (std::size_t i = 0; i < best.size(); ++i) expect(same(values[i], best[i]), "another maximum");
  y.expect_rest_untouched();
  if (!wants_indices) return;
  expect(indices.values() == places, "other places");
  indices.expect_rest_untouched();
}

template <class T>
void sums(Draw& draw, const Target& target) {
  set_current_target(target);
  const Geometry g(draw);
  const Extents y_shape = with(g.n, g.c, Extents(g.y.begin() + 2, g.y.end()));
  if (product(g.columns) > 500'000) return;
  Array<T> x(draw, g.x, true), y(draw, y_shape, false), dy(draw, y_shape, true), dx(draw, g.x, false);
  const T divisor = static_cast<T>(draw.of({1, 3, 4, 9}));
  const Index norm = draw.of({0, 0, 1, 2});
  std::vector<T> y_sum(static_cast<std::size_t>(product(y_shape))),
      dx_sum(static_cast<std::size_t>(product(g.x)));
  g.each_tap(
      [&](const Extents& place, const Extents&, const Extents& position, const Extents& pixel, bool inside) {
        if (!inside) return;
        const T value = x.at(with(place[0], place[1], pixel));
        y_sum[at(y_shape, place[0], place[1], position)] += norm == 0   ? value
                                                            : norm == 1 ? std::abs(value)
                                                                        : value * value;
        dx_sum[at(g.x, place[0], place[1], pixel)] += dy.at(with(place[0], place[1], position));
      });
  for (T& sum : y_sum) sum = norm == 0 ? sum / divisor : norm == 1 ? sum : std::sqrt(sum);
  for (T& sum : dx_sum) sum /= divisor;
  const PoolShape shape{.n = g.n, .c = g.c, .axes = g.axes};
  if (norm == 0) {
    sum_pool<T>(shape, input(x), output(y), divisor, threads(draw));
  } else {
    norm_pool<T>(shape, input(x), output(y), static_cast<T>(norm), threads(draw));
  }
  expect_values(y, y_sum);
  sum_pool_backward<T>(shape, input(dy), output(dx), divisor, threads(draw));
  expect_values(dx, dx_sum);
}

}  // namespace

const std::vector<Case> kPoolingCases = {
    {"maxima float32", maxima<float>},
    {"maxima float64", maxima<double>},
    {"sums float32", sums<float>},
    {"sums float64", sums<double>},
};

}  // namespace seeded
