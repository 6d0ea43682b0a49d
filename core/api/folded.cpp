#include "api/folded.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/finite.hpp"

namespace windrow {
namespace {

// Less is computed with all taps as terms; problems that keep their tables are smaller still.
constexpr double kFewestFlops = 4e6;
constexpr Index kMostPhases = 16;               // as many are made together without folding
constexpr Index kFewChannels = 8;               // whose phases are made from strips, and written row by row
constexpr Index kMostColumns = Index{3} << 17;  // elements of an image: 3 MiB of float64

bool is_single(const WindowAxis& a) { return a.out == 1 && a.kernel > 1; }

// Windows side by side, all inside.
bool is_apart(const WindowAxis& a) {
  return a.out > 1 && a.kernel > 1 && a.dilation == 1 && a.before == 0 && a.kernel <= a.stride &&
         (a.out - 1) * a.stride + a.kernel <= a.size;
}

bool pays(const ConvShape& s, Index column_stride, bool phases_together) {
  double flops = 2.0 * static_cast<double>(s.c * (s.k / s.groups));
  double phases = 1;
  bool single = false, apart = false;
  for (const WindowAxis& a : s.axes) {
    if (a.out == 0) return false;
    flops *= static_cast<double>(a.size) * static_cast<double>(a.kernel);
    phases *= static_cast<double>(std::min(a.stride, a.size));
    single = single || is_single(a);
    apart = apart || is_apart(a);
  }
  const bool far = std::min(s.axes.back().stride, s.axes.back().size) > 2;
  const bool strips = phases_together && column_stride == 1 && s.c / s.groups <= kFewChannels;
  const bool many = phases > kMostPhases || (far && !strips);
  return (single && flops > kFewestFlops) || (apart && many);
}

// All positions of one channel of one image: body(offset), the last axis innermost.
template <class Body>
void each_position(const ConvShape& s, const Index* dx_strides, Body&& body) {
  Extents at(s.axes.size(), 0);
  for (;;) {
    Index offset = 0;
    for (std::size_t i = 0; i < at.size(); ++i) offset += at[i] * dx_strides[2 + i];
    body(at, offset);
    std::size_t i = at.size();
    while (i-- > 0) {
      if (++at[i] < s.axes[i].size) break;
      at[i] = 0;
    }
    if (i == static_cast<std::size_t>(-1)) return;
  }
}

bool is_empty(const ConvShape& s) {
  return s.n == 0 || s.c == 0 ||
         std::any_of(s.axes.begin(), s.axes.end(), [](const WindowAxis& a) { return a.size == 0; });
}

}  // namespace

std::optional<FoldedGradient> fold_axes(const ConvShape& s, const Index* w_strides, const Index* dy_strides,
                                        const Index* dx_strides, Index bias_stride, bool has_bias,
                                        bool phases_together) {
  if (s.c == 0 || s.k == 0 || s.n == 0 || !pays(s, dx_strides[1 + s.axes.size()], phases_together))
    return std::nullopt;
  const std::size_t rank = s.axes.size();
  FoldedGradient f{.shape = s,
                   .w_strides = Extents(w_strides, w_strides + 2 + rank),
                   .dx_strides = Extents(dx_strides, dx_strides + 2 + rank),
                   .first = {},
                   .loops = {},
                   .rows = {}};
  // What rows may be: the channels of a group, and the taps of each folded axis.
  struct Rows {
    Index count, w, dx;
    bool channels = false;
  };
  std::vector<Rows> each{{s.c / s.groups, w_strides[1], dx_strides[1], true}};  // in the order of w's memory
  const auto before = [](const Rows& a, const Rows& b) { return std::abs(a.w) > std::abs(b.w); };
  for (std::size_t i = 0; i < rank; ++i) {
    WindowAxis& a = f.shape.axes[i];
    if (!is_single(a) && !is_apart(a)) continue;
    const Index low = ceil_div(a.before, a.dilation);
    const Index high = std::min(a.kernel - 1, (a.size - 1 + a.before) / a.dilation);
    const Index count = std::max<Index>(0, high - low + 1), step = dx_strides[2 + i];
    f.covers_all =
        f.covers_all && (is_single(a) ? count == a.size : a.kernel == a.stride && a.out * a.stride == a.size);
    f.first.w += low * w_strides[2 + i];
    f.first.dx += (low * a.dilation - a.before) * step;
    f.dx_strides[2 + i] = a.stride * step;
    const Rows taps{count, w_strides[2 + i], a.dilation * step};
    each.insert(std::upper_bound(each.begin(), each.end(), taps, before), taps);
    a = {.size = a.out, .out = a.out};
  }
  // Those that follow each other in w and in dx are one. The channels of one group are not followed by those
  // of the next where taps lie between them.
  std::vector<Rows> all;
  for (const Rows& inner : each) {
    const bool follow = !all.empty() && all.back().w == inner.w * inner.count &&
                        all.back().dx == inner.dx * inner.count && !(inner.channels && s.groups > 1);
    if (follow && !(has_bias && (all.back().channels || inner.channels))) {
      const Rows& outer = all.back();
      all.back() = {outer.count * inner.count, inner.w, inner.dx, outer.channels || inner.channels};
    } else {
      all.push_back(inner);
    }
  }
  Index columns = s.groups;
  for (const WindowAxis& a : f.shape.axes) columns *= a.size;
  bool even = all.size() > 1 && !has_bias;
  for (std::size_t i = 0; i < all.size(); ++i) {
    columns *= all[i].count;
    even = even && (i == 0 || all[i - 1].w == all[i].w * all[i].count);
  }
  if (even && columns <= kMostColumns && columns > 0) {
    f.rows.push_back({.count = s.groups, .dx = s.c / s.groups * dx_strides[1]});
    f.shape.c = s.groups;
    for (const Rows& rows : all) {
      f.rows.push_back({.count = rows.count, .dx = rows.dx});
      f.shape.c *= rows.count;
    }
    f.shape.n = 1;
    f.w_strides[1] = all.back().w;
    return f;
  }
  // Rows that lie side by side in dx fill lanes.
  const auto worth = [](const Rows& r) { return r.dx == 1 && r.count >= 8 ? 4 * r.count : r.count; };
  const auto rows = std::max_element(all.begin(), all.end(),
                                     [&](const Rows& a, const Rows& b) { return worth(a) < worth(b); });
  f.w_strides[1] = rows->w;
  f.dx_strides[1] = rows->dx;
  if (rows->channels) {
    // dx of the next group follows at the same distance as the next channel does.
    f.shape.c = rows->count * s.groups;
    f.bias_stride = bias_stride;
  } else {
    f.shape.c = rows->count;
    f.shape.k = s.k / s.groups;
    f.shape.groups = 1;
    f.loops.push_back({.count = s.groups,
                       .w = f.shape.k * w_strides[0],
                       .dy = f.shape.k * dy_strides[1],
                       .dx = s.c / s.groups * dx_strides[1],
                       .bias = s.c / s.groups * bias_stride});
  }
  for (auto other = all.begin(); other != all.end(); ++other) {
    if (other == rows) continue;
    f.loops.push_back(
        {.count = other->count, .w = other->w, .dx = other->dx, .bias = other->channels ? bias_stride : 0});
  }
  return f;
}

template <class T>
void scatter_columns(const FoldedGradient& f, const T* columns, ArrayView<T> dx, bool accumulate,
                     const RunContext& context) {
  const FoldedGradient::Loop run = f.rows.back();
  parallel_for(context, f.shape.c / run.count, [&](Index outer) {
    T* data = dx.data;
    Index rest = outer;
    for (std::size_t i = f.rows.size() - 1; i-- > 0; rest /= f.rows[i].count)
      data += rest % f.rows[i].count * f.rows[i].dx;
    const T* from = columns + outer * run.count;
    each_position(f.shape, f.dx_strides.data(), [&](const Extents&, Index offset) {
      T* to = data + offset;
      if (accumulate) {
        for (Index i = 0; i < run.count; ++i) to[i * run.dx] += from[i];
      } else if (run.dx == 1) {
        std::copy_n(from, run.count, to);
      } else {
        for (Index i = 0; i < run.count; ++i) to[i * run.dx] = from[i];
      }
      from += f.shape.c;
    });
  });
}

template <class T>
void fill_gradient(const ConvShape& s, BiasView<const T> b, ArrayView<T> dx, const RunContext& context) {
  if (is_empty(s)) return;
  parallel_for(context, s.n * s.c, [&](Index plane) {
    T* data = dx.data + plane / s.c * dx.strides[0] + plane % s.c * dx.strides[1];
    const T value = b.data ? b.data[plane % s.c * b.stride] : T{0};
    each_position(s, dx.strides, [&](const Extents&, Index offset) { data[offset] = value; });
  });
}

// In the order of memory, unlike what follows.
template <class T>
bool all_finite(const ConvShape& s, ArrayView<const T> w, const RunContext& context) {
  const Index taps = product_of(s.axes, &WindowAxis::kernel);
  Index dense = 1;
  bool rows = true;
  for (std::size_t i = s.axes.size(); i-- > 0; dense *= s.axes[i].kernel)
    rows = rows && (s.axes[i].kernel == 1 || w.strides[2 + i] == dense);
  if (!rows || (s.c > s.groups && w.strides[1] != taps)) return false;
  std::atomic<bool> finite{true};
  parallel_for(context, s.k, [&](Index filter) {
    if (!all_finite(w.data + filter * w.strides[0], s.c / s.groups * taps))
      finite.store(false, std::memory_order_relaxed);
  });
  return finite.load(std::memory_order_relaxed);
}

template <class T>
void spread_nan(const ConvShape& s, ArrayView<const T> w, ArrayView<T> dx, const RunContext& context) {
  if (all_finite(s, w, context)) return;
  const Index per_group = s.c / s.groups, filters = s.k / s.groups;
  std::vector<WindowAxis> window;
  for (const WindowAxis& a : s.axes) window.push_back({.size = a.kernel});
  const ConvShape taps{.n = 1, .c = 1, .k = 1, .groups = 1, .axes = window};
  parallel_for(context, s.c, [&](Index channel) {
    const T* first =
        w.data + channel / per_group * filters * w.strides[0] + channel % per_group * w.strides[1];
    std::vector<Extents> poisoned;
    each_position(taps, w.strides, [&](const Extents& tap, Index offset) {
      bool finite = true;
      for (Index f = 0; f < filters; ++f) finite = finite && std::isfinite(first[f * w.strides[0] + offset]);
      if (!finite) poisoned.push_back(tap);
    });
    if (poisoned.empty()) return;
    each_position(s, dx.strides, [&](const Extents& at, Index offset) {
      const bool sees_outside = std::any_of(poisoned.begin(), poisoned.end(), [&](const Extents& tap) {
        bool sees = true, inside = true;
        for (std::size_t i = 0; i < at.size(); ++i) {
          const WindowAxis& a = s.axes[i];
          const Index distance = at[i] + a.before - tap[i] * a.dilation;
          sees = sees && distance % a.stride == 0;
          inside = inside && distance >= 0 && distance / a.stride < a.out;
        }
        return sees && !inside;
      });
      if (!sees_outside) return;
      for (Index n = 0; n < s.n; ++n)
        dx.data[n * dx.strides[0] + channel * dx.strides[1] + offset] = std::numeric_limits<T>::quiet_NaN();
    });
  });
}

#define WINDROW_INSTANTIATE(T)                                                                           \
  template void scatter_columns(const FoldedGradient&, const T*, ArrayView<T>, bool, const RunContext&); \
  template void fill_gradient(const ConvShape&, BiasView<const T>, ArrayView<T>, const RunContext&);     \
  template void spread_nan(const ConvShape&, ArrayView<const T>, ArrayView<T>, const RunContext&);
WINDROW_INSTANTIATE(float)
WINDROW_INSTANTIATE(double)
#undef WINDROW_INSTANTIATE

}  // namespace windrow
