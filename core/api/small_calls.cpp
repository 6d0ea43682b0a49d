#include "api/small_calls.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "api/products.hpp"
#include "drivers/small_gradient.hpp"
#include "drivers/small_product.hpp"

namespace windrow {
namespace {

constexpr Index kMostPhases = 16;  // of an input gradient: each is a product with tables of its own

// Calls body(product) for each product of a pass until it returns false.
template <class T, class Body>
bool all_products(const ConvShape& shape, Pass pass, ArrayView<const T> in, ArrayView<const T> w,
                  ArrayView<T> out, Body&& body) {
  if (pass == Pass::kForward) return body(forward_product<T>(shape, in, w, {}, out));
  bool good = true;
  for_each_phase<T>(shape, in, w, out, false, [&](const WindowProduct<T>& p) { good = good && body(p); });
  return good;
}

// What can be said before any product is made.
bool perhaps_small(const ConvShape& s, Pass pass) {
  constexpr Index kMost = 1 << 12;  // pixels or channels that a small problem may have
  Index phases = 1, pixels = 1;
  for (const WindowAxis& a : s.axes) {
    const Index here = std::min(a.stride, a.size);
    if (a.size > kMost || a.out > kMost || here > kMostPhases) return false;
    phases *= std::max<Index>(1, here);
    pixels *= std::max<Index>(1, a.out);
    if (phases > kMostPhases && pass == Pass::kGradInput) return false;
    if (pixels > kMost) return false;
  }
  // Several phases are scattered element by element; together they are not (drivers/phases.hpp).
  constexpr Index kMostScattered = 1 << 14;
  if (pass == Pass::kGradInput && phases > 1 && s.n * pixels * phases * s.c > kMostScattered) return false;
  return s.n * pixels <= kMost && s.c <= kMost && s.k <= kMost && s.n * s.c * s.k > 0;
}

template <class T>
std::optional<SmallGradientLayout> layout_of(const WeightGradient<T>& p, const Target& target) {
  return small_gradient_layout(p, tile_of<T>(target));
}

template <class T>
std::optional<SmallLayout> layout_of(const WindowProduct<T>& p, const Target& target) {
  return small_layout(p.grid, p.rows, p.channels, p.groups, tile_of<T>(target));
}

// All strides that plans depend on, one after another.
template <class T>
bool has_strides(const std::vector<Index>& strides, std::size_t rank, const ArrayView<const T>& first,
                 const ArrayView<const T>& second, const ArrayView<T>& out) {
  const Index* kept = strides.data();
  return std::equal(kept, kept + rank, first.strides) &&
         std::equal(kept + rank, kept + 2 * rank, second.strides) &&
         std::equal(kept + 2 * rank, kept + 3 * rank, out.strides);
}

}  // namespace

// What is kept for one target and one combination of strides; neither products nor a gradient where the pass
// is not small.
template <class T>
struct SmallCalls::Kept {
  struct Part {
    SmallProduct<T> product;
    Index target;  // from the result's first element
  };
  const Target* target;
  std::vector<Index> strides;
  std::vector<Part> parts;
  std::optional<SmallGradient<T>> gradient;

  Kept(const ConvShape& shape, Pass pass, ArrayView<const T> first, ArrayView<const T> second,
       ArrayView<T> out, const Target& current)
      : target(&current) {
    const std::size_t rank = shape.axes.size() + 2;
    for (const Index* these : {first.strides, second.strides, static_cast<const Index*>(out.strides)})
      strides.insert(strides.end(), these, these + rank);
    if (pass == Pass::kGradWeight) {
      const WeightGradient<T> p = weight_gradient(shape, first, second, out, false);
      if (const auto layout = layout_of(p, current)) gradient.emplace(p, *layout, current);
      return;
    }
    const bool small = all_products<T>(shape, pass, first, second, out, [&](const WindowProduct<T>& p) {
      const auto layout = layout_of(p, current);
      if (layout) parts.push_back({SmallProduct<T>(p, *layout, current), p.target - out.data});
      return layout.has_value();
    });
    if (!small) parts.clear();
  }

  bool run(const T* first, const T* second, BiasView<const T> b, T* out, const Limits& limits) const {
    if (gradient) gradient->run(second, first, out);
    for (const Part& part : parts)
      part.product.run(first, second, b.data, b.stride, out + part.target, limits);
    return gradient || !parts.empty();
  }
};

SmallCalls::SmallCalls(const ConvShape& shape)
    : shape_(shape),
      perhaps_{perhaps_small(shape, Pass::kForward), perhaps_small(shape, Pass::kGradInput),
               perhaps_small(shape, Pass::kGradWeight)} {}

SmallCalls::~SmallCalls() {
  for (auto& slots : floats_)
    for (auto& kept : slots.kept) delete kept.load();
  for (auto& slots : doubles_)
    for (auto& kept : slots.kept) delete kept.load();
}

template <class T>
SmallCalls::Slots<T>& SmallCalls::slots(Pass pass) {
  const auto which = static_cast<std::size_t>(pass);
  if constexpr (sizeof(T) == sizeof(float)) {
    return floats_[which];
  } else {
    return doubles_[which];
  }
}

template <class T>
bool SmallCalls::run(Pass pass, ArrayView<const T> first, ArrayView<const T> second, BiasView<const T> b,
                     ArrayView<T> out, const Limits& limits, const Target& target) {
  if (!perhaps_[static_cast<std::size_t>(pass)]) return false;
  for (std::atomic<Kept<T>*>& slot : slots<T>(pass).kept) {
    Kept<T>* kept = slot.load(std::memory_order_acquire);
    if (!kept) {
      auto fresh = std::make_unique<Kept<T>>(shape_, pass, first, second, out, target);
      // Another thread may have been faster.
      if (slot.compare_exchange_strong(kept, fresh.get(), std::memory_order_acq_rel)) kept = fresh.release();
    }
    if (kept->target == &target && has_strides(kept->strides, shape_.axes.size() + 2, first, second, out))
      return kept->run(first.data, second.data, b, out.data, limits);
  }
  return false;
}

template <class T>
bool SmallCalls::conv(ArrayView<const T> x, ArrayView<const T> w, BiasView<const T> b, ArrayView<T> y,
                      const Limits& limits, const Target& target) {
  return run<T>(Pass::kForward, x, w, b, y, limits, target);
}

template <class T>
bool SmallCalls::conv_grad_input(ArrayView<const T> dy, ArrayView<const T> w, ArrayView<T> dx,
                                 const Target& target) {
  return run<T>(Pass::kGradInput, dy, w, {}, dx, {}, target);
}

template <class T>
bool SmallCalls::conv_grad_weight(ArrayView<const T> dy, ArrayView<const T> x, ArrayView<T> dw,
                                  const Target& target) {
  return run<T>(Pass::kGradWeight, dy, x, {}, dw, {}, target);
}

template <class T>
bool is_small(const ConvShape& shape, Pass pass, const Target& target) {
  if (!perhaps_small(shape, pass)) return false;
  const std::vector<Index> strides(shape.axes.size() + 2, 1);
  if (pass == Pass::kGradWeight) {
    return layout_of(weight_gradient<T>(shape, {nullptr, strides.data()}, {nullptr, strides.data()},
                                        {nullptr, strides.data()}, false),
                     target)
        .has_value();
  }
  return all_products<T>(shape, pass, {nullptr, strides.data()}, {nullptr, strides.data()},
                         {nullptr, strides.data()},
                         [&](const WindowProduct<T>& p) { return layout_of(p, target).has_value(); });
}

#define WINDROW_INSTANTIATE(T)                                                                            \
  template bool SmallCalls::conv(ArrayView<const T>, ArrayView<const T>, BiasView<const T>, ArrayView<T>, \
                                 const Limits&, const Target&);                                           \
  template bool SmallCalls::conv_grad_input(ArrayView<const T>, ArrayView<const T>, ArrayView<T>,         \
                                            const Target&);                                               \
  template bool SmallCalls::conv_grad_weight(ArrayView<const T>, ArrayView<const T>, ArrayView<T>,        \
                                             const Target&);                                              \
  template bool is_small<T>(const ConvShape&, Pass, const Target&);
WINDROW_INSTANTIATE(float)
WINDROW_INSTANTIATE(double)
#undef WINDROW_INSTANTIATE

}  // namespace windrow
