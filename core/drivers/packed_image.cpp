#include "drivers/packed_image.hpp"

#include <algorithm>

namespace windrow {
namespace {

constexpr Index kLine = 64;               // bytes
constexpr Index kStreamedStretch = 1024;  // bytes that lie together in the image
constexpr Index kMostRuns = 256;          // of a stretch that are handed on at once
constexpr double kThreaded = 8 << 20;     // bytes of columns or image, under a millisecond

constexpr auto at(int i) { return static_cast<std::size_t>(i); }

// Coordinates along an axis of a box, and where they lie in the image: the first one at `image`, in bytes.
struct Span {
  Range range;
  Index image, step;
};
using Spans = std::array<Span, 2 + kMaxSpatial>;

// The axes (count, packed stride, image stride) of the spans but the innermost one, and where they begin.
struct Outer {
  Box box;
  Index packed = 0, image = 0;

  Outer(const PackedImage& p, const Spans& spans) {
    for (int a = 0; a < p.axes; ++a) {
      const Span& span = spans[at(a)];
      image += span.image;
      if (a == p.inner) continue;
      packed += span.range.low * p.stride[at(a)];
      box.add(span.range.size(), p.stride[at(a)], span.step);
    }
  }
};

// Whether rows of the image, one pixel after another, are even and odd pixels apart in scratch memory: for
// these there are kernels.
bool is_zipped(const PackedImage& p, Index image_step) {
  return p.phases == 2 && image_step == p.item && (p.item == 4 || p.item == 8);
}

// Calls body(rows (count, packed stride, image stride), packed offset of even and of odd pixels, image
// offset) for rows that make up the spans.
template <class Body>
void for_each_zipped(const PackedImage& p, const Spans& spans, Body&& body) {
  auto [box, packed, image] = Outer(p, spans);
  box.sort_by_target();
  box.merge();
  const BoxAxis rows = box.size() ? box.take(box.size() - 1) : BoxAxis{1, 0, 0};
  const Index low = spans[at(p.inner)].range.low;
  const Index even = packed + p.offset(p.inner, low), odd = packed + p.offset(p.inner, low + 1);
  for_each_point(box, box.size(),
                 [&](Index to, Index from) { body(rows, even + to, odd + to, image + from); });
}

// Calls body(box of axes (count, packed stride, image stride), packed offset, image offset) for boxes that
// make up the spans: one, or with phases the whole rounds of phases and what is left at each end.
template <class Body>
void for_each_part(const PackedImage& p, const Spans& spans, Body&& body) {
  auto [box, packed, image] = Outer(p, spans);
  const Index step = spans[at(p.inner)].step;
  const Range inner = spans[at(p.inner)].range;
  if (p.phases == 1) {
    const Index strip = step == p.item ? inner.size() : std::max<Index>(1, kLine / p.item);
    for (Index u = inner.low; u < inner.high; u += strip) {
      Box part = box;
      part.add(std::min(strip, inner.high - u), p.item, step);
      body(part, packed + u * p.item, image + (u - inner.low) * step);
    }
    return;
  }
  const Range t{inner.low + p.shift, inner.high + p.shift};
  const auto emit = [&](Range phase, Range round) {
    if (phase.size() <= 0 || round.size() <= 0) return;
    Box part = box;
    part.add(phase.size(), p.phase_stride, step);
    part.add(round.size(), p.item, p.phases * step);
    body(part, packed + phase.low * p.phase_stride + round.low * p.item,
         image + (phase.low + round.low * p.phases - t.low) * step);
  };
  const Range whole{ceil_div(t.low, p.phases), t.high / p.phases};  // rounds that have every phase
  if (whole.size() < 0) {
    emit({t.low % p.phases, t.high % p.phases}, {whole.high, whole.high + 1});  // inside one round
    return;
  }
  if (t.low % p.phases) emit({t.low % p.phases, p.phases}, {whole.low - 1, whole.low});
  emit({0, p.phases}, whole);
  emit({0, t.high % p.phases}, {whole.high, whole.high + 1});
}

void pack_part(const PatchKernels& kernels, const PackedImage& p, const Spans& spans, const char* image,
               char* scratch) {
  if (is_zipped(p, spans[at(p.inner)].step)) {
    for_each_zipped(p, spans, [&](const BoxAxis& rows, Index even, Index odd, Index offset) {
      kernels.unzip({.even = scratch + even,
                     .odd = scratch + odd,
                     .source = image + offset,
                     .target_row = rows.target,
                     .source_row = rows.source,
                     .rows = rows.count,
                     .length = spans[at(p.inner)].range.size(),
                     .item = p.item});
    });
    return;
  }
  for_each_part(p, spans, [&](const Box& part, Index packed, Index offset) {
    copy_box(kernels, p.item, scratch + packed, image + offset, part);
  });
}

// The rows of a stretch, which lie one after another in the image.
void write_rows(Streamed& stream, char* image, const char* packed, const BoxAxis& rows, Index bytes) {
  std::array<std::ptrdiff_t, kMostRuns> offsets;
  const std::ptrdiff_t none = 0;
  for (Index first = 0; first < rows.count; first += kMostRuns) {
    const Index count = std::min(kMostRuns, rows.count - first);
    for (Index i = 0; i < count; ++i) offsets[static_cast<std::size_t>(i)] = (first + i) * rows.source;
    stream.write({.target = image + first * bytes,
                  .source = packed,
                  .offsets = offsets.data(),
                  .count = count,
                  .bytes = bytes,
                  .steps = &none,
                  .repeats = 1});
  }
}

// Writes a box into the image past the caches, if its rows lie there as they do in scratch memory and enough
// of them together. What is turned over on its way is not: one more copy takes what the stores save.
bool stream_box(Streamed& stream, Index item, char* image, const char* packed, Box box) {
  box.sort_by_target();
  box.merge();
  if (box.size() == 0 || box[box.size() - 1].target != item || box[box.size() - 1].source != item)
    return false;
  const Index bytes = box.take(box.size() - 1).count * item;
  const bool many = box.size() && box[box.size() - 1].target == bytes;
  const BoxAxis rows = many ? box.take(box.size() - 1) : BoxAxis{1, 0, 0};
  if (rows.count * bytes < kStreamedStretch) return false;
  for_each_point(box, box.size(),
                 [&](Index to, Index from) { write_rows(stream, image + to, packed + from, rows, bytes); });
  return true;
}

// Even and odd pixels of rows on their way into the image.
void zip_rows(const PatchKernels& kernels, const BoxAxis& rows, const PackedImage& p, const char* even,
              const char* odd, char* image, Streamed* stream) {
  const Index row = p.count[at(p.inner)] * p.item, bytes = rows.count * row;
  const bool together = stream && rows.source == row && bytes >= kStreamedStretch;
  Scratch scratch;
  char* const target = together ? take_packed(scratch, bytes) : image;
  kernels.zip({.target = target,
               .even = even,
               .odd = odd,
               .target_row = rows.source,
               .source_row = rows.target,
               .rows = rows.count,
               .length = p.count[at(p.inner)],
               .item = p.item});
  if (together) write_rows(*stream, image, target, {1, 0, 0}, bytes);
}

}  // namespace

RunContext sized_context(const PatchShape& shape, Index item, const RunContext& context) {
  double columns = static_cast<double>(item) * static_cast<double>(shape.n) * static_cast<double>(shape.c);
  double image = columns;
  for (const WindowAxis& axis : shape.axes) {
    columns *= static_cast<double>(axis.kernel) * static_cast<double>(axis.out);
    image *= static_cast<double>(axis.size);
  }
  RunContext sized = context;
  if (std::max(columns, image) < kThreaded) sized.threads = 1;
  return sized;
}

void PackedImage::arrange(const int* order, Index item_bytes) {
  item = item_bytes;
  inner = order[axes - 1];
  Index next = item;
  for (int i = axes; i-- > 0;) {
    const auto a = at(order[i]);
    stride[a] = next;
    if (order[i] == inner && phases > 1) {
      phase_stride = ceil_div(count[a] + shift, phases) * item;
      next = phase_stride * phases;
    } else {
      next *= count[a];
    }
    // What lies one step apart does not meet in the same set of the cache.
    if (next >= spread_from) next = round_up(next, kLine) | kLine;
  }
  bytes = next;
}

Index PackedImage::offset(int axis, Index u) const {
  if (axis != inner || phases == 1) return u * stride[at(axis)];
  const Index t = u + shift;
  return t % phases * phase_stride + t / phases * item;
}

void fill_border(const PatchKernels& kernels, const PackedImage& box, const ImageVector& size,
                 const char* value, char* scratch) {
  const auto inside = [&](int a) {
    return positions_inside(box.start[at(a)], 1, size[at(a)], box.count[at(a)]);
  };
  // Borders at both ends of short runs are as many lines as there are.
  if (inside(box.inner).size() < box.count[at(box.inner)])
    return fill_run(scratch, value, box.item, box.bytes);
  for (int a = 0; a < box.axes; ++a) {
    const Range pixels = inside(a);
    if (pixels.size() == box.count[at(a)]) continue;
    Box border;
    for (int i = 0; i < box.axes; ++i) {
      if (i == a) continue;
      const bool sorted = i == box.inner && box.phases > 1;
      border.add(sorted ? box.phases * box.phase_stride / box.item : box.count[at(i)], box.stride[at(i)], 0);
    }
    for (const Range outside : {Range{0, pixels.low}, Range{pixels.high, box.count[at(a)]}})
      for (Index u = outside.low; u < outside.high; ++u)
        fill_box(kernels, box.item, scratch + u * box.stride[at(a)], value, border);
  }
}

void pack(const PatchKernels& kernels, const PackedImage& box, const ImageVector& size, const char* image,
          const Index* image_strides, char* scratch) {
  // Along every axis from the first coordinate inside the image around to that before it: where a border
  // repeats pixels, the part inside has brought them into the caches.
  Spans spans;
  ImageVector first;
  std::array<bool, 2 + kMaxSpatial> pixels;
  const auto place = [&](int a, Index low) {
    const Index end = low < first[at(a)] ? first[at(a)] : box.count[at(a)];
    const BorderRun run = border_run(box.border, box.start[at(a)] + low, 1, end - low, size[at(a)]);
    spans[at(a)] = {{low, low + run.count}, run.pixel * image_strides[a], run.step * image_strides[a]};
    pixels[at(a)] = run.pixel >= 0;
  };
  for (int a = 0; a < box.axes; ++a) {
    const Index inside = std::max<Index>(0, -box.start[at(a)]);
    first[at(a)] = inside < box.count[at(a)] ? inside : 0;
    place(a, first[at(a)]);
  }
  for (;;) {
    if (std::all_of(pixels.begin(), pixels.begin() + box.axes, [](bool there) { return there; }))
      pack_part(kernels, box, spans, image, scratch);
    int a = box.axes - 1;
    for (; a >= 0; --a) {
      const Index high = spans[at(a)].range.high, next = high < box.count[at(a)] ? high : 0;
      place(a, next);
      if (next != first[at(a)]) break;
    }
    if (a < 0) return;
  }
}

bool pack_rows(const PatchKernels& kernels, const PackedImage& box, const ImageVector& size,
               const char* value, const char* image, const Index* image_strides, char* scratch) {
  const int inner = box.inner;
  const Index length = box.phases > 1 ? box.phase_stride / box.item : box.count[at(inner)];
  if (!kernels.tap_rows || box.border != Border::kConstant || box.axes > 4 || inner < 2 || box.phases > 2 ||
      box.shift != 0 || image_strides[inner] != box.item || (box.item != 4 && box.item != 8) ||
      length * box.item < kLeastTapRow || length * box.item > kTapRowBytes)
    return false;
  const int other = box.axes == 4 ? 5 - inner : -1;  // the other spatial axis
  const Index rows = other < 0 ? 1 : box.count[at(other)];
  const Range high =
      other < 0 ? Range{0, 1} : positions_inside(box.start[at(other)], 1, size[at(other)], rows);
  std::array<TapRow, 2> phases;
  for (Index i = 0; i < box.phases; ++i) {
    const Index first = box.start[at(inner)] + i;
    const Range wide = positions_inside(first, box.phases, size[at(inner)], length);
    phases[at(static_cast<int>(i))] = {
        .target = i * box.phase_stride,
        .source = first * box.item + (other < 0 ? 0 : box.start[at(other)] * image_strides[other]),
        .first_row = high.low,
        .end_row = high.high,
        .first = wide.low,
        .end = wide.high};
  }
  for (Index n = 0; n < box.count[0]; ++n)
    kernels.tap_rows(
        {.target = scratch + n * box.stride[0],
         .source = image + (box.start[0] + n) * image_strides[0] + box.start[1] * image_strides[1],
         .fill = value,
         .target_plane = box.stride[1],
         .source_plane = image_strides[1],
         .planes = box.count[1],
         .taps = phases.data(),
         .count = box.phases,
         .target_row = other < 0 ? 0 : box.stride[at(other)],
         .source_row = other < 0 ? 0 : image_strides[other],
         .rows = rows,
         .length = length,
         .step = box.phases,
         .item = box.item});
  return true;
}

void unpack(const PatchKernels& kernels, const PackedImage& box, const char* scratch, char* image,
            const Index* image_strides, Streamed* stream) {
  Spans spans;
  for (int a = 0; a < box.axes; ++a)
    spans[at(a)] = {{0, box.count[at(a)]}, box.start[at(a)] * image_strides[a], image_strides[a]};
  if (is_zipped(box, image_strides[box.inner])) {
    for_each_zipped(box, spans, [&](const BoxAxis& rows, Index even, Index odd, Index offset) {
      zip_rows(kernels, rows, box, scratch + even, scratch + odd, image + offset, stream);
    });
    return;
  }
  for_each_part(box, spans, [&](Box part, Index packed, Index offset) {
    for (int i = 0; i < part.size(); ++i) std::swap(part[i].target, part[i].source);
    if (!stream || !stream_box(*stream, box.item, image + offset, scratch + packed, part))
      copy_box(kernels, box.item, image + offset, scratch + packed, part, WalkBy::kFarTarget);
  });
}

}  // namespace windrow
