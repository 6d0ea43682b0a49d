// The kernels of unfold and fold: moving elements that nobody looks into, and adding runs of numbers.
//
// Unlike the product's kernels these count strides and offsets in BYTES: arrays of any dtype come as they
// are, with byte strides of any sign and data of any alignment. The other rules of contract.hpp hold: a
// kernel knows no problem, allocates nothing and has internal linkage only; this header defines no function.
#pragma once

#include <cstddef>
#include <cstdint>

namespace windrow {

// target[i, j] = source[i, j] for i < rows, j < columns; elements of `item` bytes. What lies so many bytes
// `ahead` of the source may be fetched into the cache; 0: nothing is known of it. Of a far target, which is
// not in the caches though the source is, the lines that come next are.
struct Move {
  char* target;
  const char* source;
  std::ptrdiff_t target_row, target_column;
  std::ptrdiff_t source_row, source_column;
  std::ptrdiff_t rows, columns, item;
  std::ptrdiff_t ahead = 0;
  bool far_target = false;
};

// Rows of `length` elements of 4 or 8 bytes, one after another, and their even and odd ones by themselves:
// what a window's stride of 2 does to the pixels of a row. For r < rows,
//   even[r, i] = source[r, 2 * i],  odd[r, i] = source[r, 2 * i + 1]
struct Unzip {
  char *even, *odd;
  const char* source;
  std::ptrdiff_t target_row, source_row, rows, length, item;
};
// The way back: target[r, 2 * i] = even[r, i],  target[r, 2 * i + 1] = odd[r, i].
struct Zip {
  char* target;
  const char *even, *odd;
  std::ptrdiff_t target_row, source_row, rows, length, item;
};

// What taps see of planes: for p < planes, t < count, r < rows and i < length elements of 4 or 8 bytes,
//   target[p * target_plane + taps[t].target + r * target_row + i] =
//       source[p * source_plane + taps[t].source + r * source_row + step * i]
// for the tap's first_row <= r < end_row and first <= i < end, and `fill` elsewhere. A row of the target has
// kTapRowBytes at most, and should have kLeastTapRow; step is 1 or 2.
struct TapRow {
  std::ptrdiff_t target, source, first_row, end_row, first, end;
};
struct TapRows {
  char* target;
  const char *source, *fill;
  std::ptrdiff_t target_plane, source_plane, planes;
  const TapRow* taps;
  std::ptrdiff_t count, target_row, source_row, rows, length, step, item;
};
inline constexpr std::ptrdiff_t kTapRowBytes = 512, kLeastTapRow = 32;

// `repeats` times `count` runs of `bytes` bytes, all one after another at target; run j of repeat r is read
// from source + steps[r] + offsets[j]. Up to kOverread bytes before and after each source run may be read
// (they are the caller's own scratch memory); nothing is written after the last run.
struct GatherRuns {
  char* target;
  const char* source;
  const std::ptrdiff_t* offsets;
  std::ptrdiff_t count, bytes;
  const std::ptrdiff_t* steps;
  std::ptrdiff_t repeats;
};
inline constexpr std::ptrdiff_t kOverread = 64;

// Rows of sums: for every r < rows, x < length
//   total[r, x] = (resume ? total[r, x] : neutral value) op source 0 [r, x] op source 1 [r, x] ...
// over the sources with first <= x < end, in their order, one operation each: there is no order to choose.
// Number x of row r of a source is at data + r * source_row + x numbers. What lies so many bytes `ahead` of
// the sources may be fetched into the cache; 0: nothing is known of it.
struct SumSource {
  const char* data;
  std::ptrdiff_t first, end;  // first < end
  double weight;              // of kWeighted; exact in the total's type
};
struct SumRows {
  char* total;
  std::ptrdiff_t total_row, rows, length;
  const SumSource* sources;
  std::ptrdiff_t count, source_row;
  bool resume;
  std::ptrdiff_t ahead = 0;
};

// Rows of an image, each of a few phases of pixels, summed over rows of columns: for p < planes, y < rows,
// q < phases (1 or 2) and i with phases * i + q < length,
//   target[p * target_plane + y * target_row + phases * i + q numbers] =
//       +0 + source[p * source_plane + sources[r] + taps[t].source + i numbers] + ...
// over row_first[y] <= r < row_first[y + 1], and for each over tap_first[q] <= t < tap_first[q + 1] with
// first <= i < end, in their order. A row has kFoldRowBytes of each phase at most, and kMostFoldTaps taps.
// What lies so many bytes `ahead` of the source may be fetched into the cache.
struct FoldTap {
  std::ptrdiff_t source, first, end;
};
struct FoldRows {
  char* target;
  const char* source;
  std::ptrdiff_t target_plane, source_plane, planes, target_row, rows, length, phases;
  const std::ptrdiff_t *sources, *row_first;
  const FoldTap* taps;
  const std::ptrdiff_t* tap_first;
  std::ptrdiff_t ahead;
};
inline constexpr std::ptrdiff_t kMostFoldTaps = 16, kFoldRowBytes = 256;

// Windows added to sums: for every row i < rows, r < repeats, j < count and x < length numbers, each sum in
// the order of the rows and of r,
//   total[i * total_row + r * total_step + runs[j].total + x numbers] +=
//       source[i * source_row + r * source_step + runs[j].source + x numbers]
// No total is -0, and no two runs of a row have totals in common, of whichever windows. Up to kOverread bytes
// after a run of totals may be read, and written as they are; what follows a run of the source may be read up
// to source_end.
struct AddRun {
  std::ptrdiff_t total, source;
};
struct AddRuns {
  char* total;
  const char *source, *source_end;
  std::ptrdiff_t total_step, source_step, repeats;
  const AddRun* runs;
  std::ptrdiff_t count, length;
  std::ptrdiff_t rows = 1, total_row = 0, source_row = 0;
};

// Rows of an image summed over rows of windows, in which the last axis' taps lie one after another: for
// p < planes, y < rows and x < length,
//   target[p * target_plane + y * target_row + x numbers] =
//       +0 + source[p * source_plane + sources[r] + l * window + (x + before - l * stride) numbers] + ...
// over row_first[y] <= r < row_first[y + 1], and for each over the l < windows with
// 0 <= x + before - l * stride < taps, in their order. A row's windows are those of kMostFoldVectors
// registers at most, and its sums one register more. Windows up to a whole register of them may be read, and
// up to kOverread bytes after each. Of what follows the source's first bytes, `ahead` may be fetched into the
// cache.
struct FoldWindows {
  char* target;
  const char* source;
  std::ptrdiff_t target_plane, source_plane, planes, target_row, rows, length;
  const std::ptrdiff_t *sources, *row_first;
  std::ptrdiff_t windows, window, taps, stride, before, ahead;
};
inline constexpr std::ptrdiff_t kMostFoldVectors = 4;

enum Reduction { kAdd, kWeighted, kMax, kMin, kReductions };

// What a run consists of. Complex numbers are pairs of floats; integers wrap, so that adding needs no sign.
enum Number { kI8, kI16, kI32, kI64, kU8, kU16, kU32, kU64, kF16, kF32, kF64, kNumbers };

struct PatchKernels {
  void (*move)(const Move&);
  void (*unzip)(const Unzip&);
  void (*zip)(const Zip&);
  void (*tap_rows)(const TapRows&);  // null where there are no masks
  void (*gather_runs)(const GatherRuns&);
  // gather_runs past the caches: target is aligned to 64 bytes, and `line` (aligned, with room for 128 bytes)
  // holds the `fill` bytes (< 64) that belong before the first run. Whole lines are streamed; what is left of
  // the last one is put into `line`. Returns how much that is.
  std::ptrdiff_t (*stream_runs)(const GatherRuns&, char* line, std::ptrdiff_t fill);
  // The same of rounds that are apart: repeat r goes to target + r * apart. Whole lines only: target, apart
  // and count * bytes are multiples of 64. False, and nothing is done, where there is no loop for such runs.
  bool (*stream_apart)(const GatherRuns&, std::ptrdiff_t apart);
  // Whether that is the fast way for runs of so many bytes after such a fill. Others are put together by
  // gather_runs in memory that stays in the first-level cache, and streamed from there.
  bool (*streams)(std::ptrdiff_t bytes, std::ptrdiff_t fill);
  // Copies whole cache lines past the caches: target aligned to 64 bytes, bytes a multiple of 64.
  void (*stream)(char* target, const char* source, std::ptrdiff_t bytes);
  // The same of sums of one term, +0 + element: null but for float32 and float64.
  void (*stream_sums[kNumbers])(char* target, const char* source, std::ptrdiff_t bytes);
  void (*stream_end)();  // after the last stream of a piece, before another thread may read
  void (*add_runs[kNumbers])(const AddRuns&);  // null but for float32 and float64
  // add_runs turns windows over in registers, as many as have their sums in so many bytes, where runs are no
  // longer, sums lie 4, 8 or 16 bytes apart (a quarter of it at most) and a window's runs end before the next
  // window begins; no store then waits for the one before it. 0: never.
  std::ptrdiff_t turned_bytes;
  void (*fold_rows[kNumbers])(const FoldRows&);  // null but for float32 and float64, and without masks
  // Null but for float32 and float64, and where windows are not turned over. The kernel for such windows,
  // whatever the pointers, rows and planes are, or null.
  void (*(*fold_windows[kNumbers])(const FoldWindows&))(const FoldWindows&);
  void (*sum_rows[kReductions][kNumbers])(const SumRows&);  // float16 comes in, float32 is the total
};

}  // namespace windrow
