#include "api/small_calls.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "api/products.hpp"
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
  if (pass == Pass::kGradWeight) return false;
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
  return s.n * pixels <= kMost && s.c <= kMost && s.k <= kMost && s.n * s.c * s.k > 0;
}

template <class T>
std::optional<SmallLayout> layout_of(const WindowProduct<T>& p, const Target& target) {
  return small_layout(p.grid, p.rows, p.channels, p.groups, tile_of<T>(target));
}

// All strides that plans depend on, one after another.
template <class T>
bool has_strides(const std::vector<Index>& strides, std::size_t rank, const ArrayView<const T>& in,
                 const ArrayView<const T>& w, const ArrayView<T>& out) {
  const Index* kept = strides.data();
  return std::equal(kept, kept + rank, in.strides) && std::equal(kept + rank, kept + 2 * rank, w.strides) &&
         std::equal(kept + 2 * rank, kept + 3 * rank, out.strides);
}

}  // namespace

template <class T>
struct SmallCalls::Kept {
  struct Part {
    SmallProduct<T> product;
    Index target;  // from the result's first element
  };
  const Target* target;
  std::vector<Index> strides;
  std::vector<Part> parts;  // none: the problem is not small
};

SmallCalls::SmallCalls(const ConvShape& shape)
    : shape_(shape), perhaps_{perhaps_small(shape, Pass::kForward), perhaps_small(shape, Pass::kGradInput)} {}

SmallCalls::~SmallCalls() {
  for (auto& slots : floats_)
    for (auto& kept : slots.kept) delete kept.load();
  for (auto& slots : doubles_)
    for (auto& kept : slots.kept) delete kept.load();
}

template <class T>
SmallCalls::Slots<T>& SmallCalls::slots(Pass pass) {
  const int which = pass == Pass::kForward ? 0 : 1;
  if constexpr (sizeof(T) == sizeof(float)) {
    return floats_[which];
  } else {
    return doubles_[which];
  }
}

template <class T>
bool SmallCalls::run(Pass pass, ArrayView<const T> in, ArrayView<const T> w, BiasView<const T> b,
                     ArrayView<T> out, const Target& target) {
  const std::size_t rank = shape_.axes.size() + 2;
  const auto run_kept = [&](const Kept<T>& kept) {
    for (const auto& part : kept.parts)
      part.product.run(in.data, w.data, b.data, b.stride, out.data + part.target);
    return !kept.parts.empty();
  };
  for (std::atomic<Kept<T>*>& slot : slots<T>(pass).kept) {
    Kept<T>* kept = slot.load(std::memory_order_acquire);
    if (!kept) {
      auto fresh = new Kept<T>{&target, {}, {}};
      for (const Index* strides : {in.strides, w.strides, static_cast<const Index*>(out.strides)})
        fresh->strides.insert(fresh->strides.end(), strides, strides + rank);
      const bool small = all_products<T>(shape_, pass, in, w, out, [&](const WindowProduct<T>& p) {
        const std::optional<SmallLayout> layout = layout_of(p, target);
        if (layout) fresh->parts.push_back({SmallProduct<T>(p, *layout, target), p.target - out.data});
        return layout.has_value();
      });
      if (!small) fresh->parts.clear();
      // Another thread may have been faster.
      if (slot.compare_exchange_strong(kept, fresh, std::memory_order_acq_rel)) {
        kept = fresh;
      } else {
        delete fresh;
      }
    }
    if (kept->target == &target && has_strides(kept->strides, rank, in, w, out)) return run_kept(*kept);
  }
  return false;
}

template <class T>
bool SmallCalls::conv(ArrayView<const T> x, ArrayView<const T> w, BiasView<const T> b, ArrayView<T> y,
                      const Target& target) {
  return perhaps_[0] && run<T>(Pass::kForward, x, w, b, y, target);
}

template <class T>
bool SmallCalls::conv_grad_input(ArrayView<const T> dy, ArrayView<const T> w, ArrayView<T> dx,
                                 const Target& target) {
  return perhaps_[1] && run<T>(Pass::kGradInput, dy, w, {}, dx, target);
}

template <class T>
bool is_small(const ConvShape& shape, Pass pass, const Target& target) {
  if (!perhaps_small(shape, pass)) return false;
  const std::vector<Index> strides(shape.axes.size() + 2, 1);
  return all_products<T>(shape, pass, {nullptr, strides.data()}, {nullptr, strides.data()},
                         {nullptr, strides.data()},
                         [&](const WindowProduct<T>& p) { return layout_of(p, target).has_value(); });
}

#define WINDROW_INSTANTIATE(T)                                                                            \
  template bool SmallCalls::conv(ArrayView<const T>, ArrayView<const T>, BiasView<const T>, ArrayView<T>, \
                                 const Target&);                                                          \
  template bool SmallCalls::conv_grad_input(ArrayView<const T>, ArrayView<const T>, ArrayView<T>,         \
                                            const Target&);                                               \
  template bool is_small<T>(const ConvShape&, Pass, const Target&);
WINDROW_INSTANTIATE(float)
WINDROW_INSTANTIATE(double)
#undef WINDROW_INSTANTIATE

}  // namespace windrow
