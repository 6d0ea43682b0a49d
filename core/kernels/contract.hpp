// What drivers may ask of a kernel, and what a kernel may rely on. docs/kernel_contract.md draws the panels.
//
// A kernel knows no problem: no padding, groups, images or threads, and it allocates nothing. All sizes,
// strides and offsets are in elements. A kernel reads nothing outside what it was given: operands may end at
// the end of a page.
//
// This header is all that the kernel sources share with the rest of the core, and they are compiled once per
// target with that target's flags. It must therefore define no inline function that the linker could pick
// from the wrong target: declarations, plain structs and constants only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace windrow {

// The numerics plan of every product (docs/numerics.md): terms are added one after another, in order of k,
// within a chunk of kChunk terms; the chunks' sums are added one after another; the bias comes last. It is
// one constant for all targets, kernels and passes, so that cutting a reduction at multiples of it changes no
// bit.
inline constexpr std::ptrdiff_t kChunk = 128;

// C[m, n] (+)= sum over k of A[m, k] * B[k, n]  (+ bias[m])
//   A[m, k] = a[m * a_row + step[k].a]    broadcast; read in place or packed
//   B[k, n] = b[step[k].b + n]            whole vectors; a packed panel or rows read in place
//   C[m, n] = c[m * c_row + n]            whole vectors are read (if accumulate) and written
// Where there is a table a_at, row m of A begins at a_at[m] instead of m * a_row; c_at likewise.
struct Step {
  std::ptrdiff_t a, b;  // offsets of term k in the two operands
};

// 96 bytes: drivers copy it for each run of tiles, and of 104, which are no whole vectors, the copy took 8 %
// of a first layer.
template <class T>
struct Product {
  const T* a;
  std::ptrdiff_t a_row;
  const T* b;
  const Step* step;
  T* c;
  std::ptrdiff_t c_row;
  std::ptrdiff_t
      k;  // terms; 0 gives zeros. A call that another one continues must end at a multiple of `chunk`.
  bool accumulate;     // add to what C holds (the sum of earlier chunks), else overwrite without reading it
  int chunk = kChunk;  // terms that are summed by themselves before they are added to C
  const T* bias;       // one value per row, added last; or null
  const std::ptrdiff_t *a_at = nullptr, *c_at = nullptr;
};

// y[r * y_row + i] (+)= sum over k of w[step[k].a] * x[r * x_row + step[k].b + i]  (+ bias)    for r < rows,
// i < count The sum of each element follows the plan of Product. x is read in whole vectors, y exactly.
template <class T>
struct Stencil {
  const T* w;
  const T* x;
  std::ptrdiff_t x_row;
  const Step* step;
  std::ptrdiff_t k;
  T* y;
  std::ptrdiff_t y_row;
  std::ptrdiff_t rows, count;
  bool accumulate;
  const T* bias;  // one value, or null
};

// The same for a window of kernel_rows x kernel_columns taps in one channel, row-major: tap (i, j) of row r
// reads x[(r * row_step + i) * x_row + shift[j] + lane]. False, and nothing done, where the target has no
// code for this window.
template <class T>
struct Window {
  const T* w;  // one value per tap
  const T* x;
  std::ptrdiff_t x_row;
  const std::ptrdiff_t* shift;
  int kernel_rows, kernel_columns;
  std::ptrdiff_t row_step;
  T* y;
  std::ptrdiff_t y_row;
  std::ptrdiff_t rows, count;
  bool accumulate;
  const T* bias;  // one value, or null
};

// y[p * y_pixel + l] (+)= sum over k < taps of tap[k].w[l] * tap[k].x[p * tap[k].pixel + l]  (+ bias[l])
// for p < pixels, l < count. The sum of each element follows the plan of Product. All is read and written
// exactly.
template <class T>
struct ChannelTap {
  const T *w, *x;
  std::ptrdiff_t pixel;  // from pixel to pixel; 0 where all see the same
};
template <class T>
struct Channels {
  const ChannelTap<T>* tap;
  std::ptrdiff_t taps;
  T* y;
  std::ptrdiff_t y_pixel;
  std::ptrdiff_t pixels, count;
  bool accumulate;
  const T* bias;  // one value per lane, or null
};

// The same for windows of at most kChunk taps that follow one another, `columns` in each of some rows:
//   y[p * y_pixel + l] (+)= sum over r < rows, j < columns of row[r].w[j * w_tap + l] * seen(r, p + j)[l]
//   (+ bias[l])    for p < pixels, l < count, in whole vectors
// where seen(r, q) is row[r].x + q * x_pixel for low <= q < high, else `border`. False, and nothing done,
// where the target has no code for so many columns.
template <class T>
struct ChannelRow {
  const T *w, *x;
};
template <class T>
struct ChannelWindow {
  const ChannelRow<T>* row;
  std::ptrdiff_t rows;
  int columns;
  std::ptrdiff_t w_tap, x_pixel;
  std::ptrdiff_t low, high;
  const T* border;
  T* y;
  std::ptrdiff_t y_pixel;
  std::ptrdiff_t pixels, count;
  bool accumulate;
  const T* bias;  // one value per lane, or null
};

// sums[k * lanes + i % lanes] += dy[r * dy_row + i] * x[r * x_row + tap[k] + i]    for r < rows, i < count, k
// < taps in order of r, then i, for each of the `lanes` sums of a tap.
template <class T>
struct Correlate {
  const T* dy;
  std::ptrdiff_t dy_row;
  const T* x;
  std::ptrdiff_t x_row;
  const std::ptrdiff_t* tap;
  std::ptrdiff_t taps;
  std::ptrdiff_t rows, count;
  T* sums;
};

// The same for one vector of channels that lie side by side: each pixel's values are vectors, and so are the
// sums. Pixels lie a whole cache line of 64 bytes apart in dy, `x_lines` of them in x.
//   sums[(k * lanes + i % lanes) * lanes + l] +=
//       dy[r * dy_row + i * line + l] * x[r * x_row + i * x_lines * line + tap[k] + l]    for l < lanes
template <class T>
struct CorrelateChannels {
  const T* dy;
  std::ptrdiff_t dy_row;
  const T* x;
  std::ptrdiff_t x_row, x_lines;
  const std::ptrdiff_t* tap;
  std::ptrdiff_t taps;
  std::ptrdiff_t rows, count;
  T* sums;
  // If not null: the sums begin at +0 and are not kept; in pairs, as add_vectors adds them, they are added to
  // totals[k * totals_row + l].
  T* totals = nullptr;
  std::ptrdiff_t totals_row = 0;
};

// target[r * target_row + j] = source[r * source_row + j * step] for low <= j < high, and zero for the other
// j < width, for r < rows. Rows are written in order, and each may spill up to a vector over its end.
template <class T>
struct Pad {
  T* target;
  std::ptrdiff_t target_row;
  const T* source;
  std::ptrdiff_t source_row, step;
  std::ptrdiff_t rows, width, low, high;
  std::ptrdiff_t ahead;  // from the source to what will be copied next: fetched into the cache
};

// target[i * target_row + r * count + j] = source[step[i].b + offset[r] + j] for i < rows, r < runs, j <
// count, in order. Runs are at least one element long, and read, as rows are written, in whole vectors.
template <class T>
struct Runs {
  T* target;
  std::ptrdiff_t target_row;
  const T* source;
  const Step* step;
  std::ptrdiff_t rows;
  const std::ptrdiff_t* offset;
  std::ptrdiff_t runs, count;
};

// Lanes of one vector that are read from one run of memory: lane l of `mask` reads source[offset + l * step].
struct Segment {
  std::ptrdiff_t offset;
  std::uint32_t mask;
  std::int32_t vector;  // which vector of the target
};

// Vector i of `count` vectors at target = the lanes of segments[i], `fill` elsewhere; then the lanes of each
// of the `more` segments, where a vector's lanes come from several runs. Two passes, so that the first has no
// branch.
template <class T>
struct Gather {
  T* target;  // aligned; `count` whole vectors one after another
  const T* source;
  const Segment* segments;
  std::ptrdiff_t count;
  const Segment* more;
  std::ptrdiff_t more_count;
  std::ptrdiff_t more_vector;  // the number that `more` gives to the target's first vector
  std::ptrdiff_t step;
  T fill;
  std::ptrdiff_t ahead;  // from the source to what will be gathered next: fetched into the cache; 0: nothing
};

// Spread:  target[r * target_row + i * step] = source[r * source_row + i] for r < rows, i < count
// Collect: target[r * target_row + i] = source[r * source_row + i * step] likewise
template <class T>
struct Strided {
  T* target;
  const T* source;
  std::ptrdiff_t step;
  std::ptrdiff_t count;
  std::ptrdiff_t rows = 1, target_row = 0, source_row = 0;
};

// target[r * target_row + i] becomes `low` where that is greater and `high` where that is less, for r < rows,
// i < count.
template <class T>
struct Limit {
  T* target;
  std::ptrdiff_t target_row, rows, count;
  T low, high;
};

// target[2 * i] = even[i] for i < evens, target[2 * i + 1] = odd[i] for i < odds, where odds is evens or one
// less; so in each of some rows. Both are read in as many whole vectors as hold `evens`.
template <class T>
struct Interleave {
  T* target;
  const T* even;
  const T* odd;
  std::ptrdiff_t evens, odds;
  std::ptrdiff_t rows = 1, target_row = 0, source_row = 0;
};

// target[i * target_row + j] = source[j * source_row + i] for i < rows, j < columns
template <class T>
struct Transpose {
  T* target;
  std::ptrdiff_t target_row;
  const T* source;
  std::ptrdiff_t source_row;
  std::ptrdiff_t rows;     // of the target
  std::ptrdiff_t columns;  // of the target
  std::ptrdiff_t ahead;    // from the source to what will be turned next: fetched into the cache
};

// Winograd's transforms for 3 x 3 taps and tiles of `tile` x `tile` results, 2 or 4, with side = tile + 2
// points each way. All three say whether every value that they wrote was finite; lanes past the last one
// wanted count.
//
// Of `tiles` tiles side by side, tile i takes the pixels source[r * source_row + i * tile + c], r, c < side,
// to target[(r * side + c) * target_point + i]. Read and written in whole vectors of tiles; of a row of
// source, one vector of pixels more. Tiles whose bit is set in `ends`, which has a mask for each vector, are
// followed by pixels of others: their last two columns, c = tile + e, are edge[(2 * r + e) * edge_row + i].
template <class T>
struct WinogradInput {
  int tile;
  const T* source;
  std::ptrdiff_t source_row;
  const T* edge;
  std::ptrdiff_t edge_row;
  const std::uint32_t* ends;
  T* target;
  std::ptrdiff_t target_point;
  std::ptrdiff_t tiles;
};

// And back: the points source[(r * side + c) * source_point + i] of tile i, and the bias, to the results
// target[r * target_row + i * tile + c], r, c < tile. In whole vectors of tiles too.
template <class T>
struct WinogradOutput {
  int tile;
  const T* source;
  std::ptrdiff_t source_point;
  T* target;
  std::ptrdiff_t target_row;
  std::ptrdiff_t tiles;
  const T* bias;  // one value, or null
};

// The taps source[tap[3 * r + c] + i] of channel i < count to target[(r * side + c) * target_point + i]. In
// whole vectors of channels.
template <class T>
struct WinogradWeights {
  int tile;
  const T* source;
  const std::ptrdiff_t* tap;  // nine
  T* target;
  std::ptrdiff_t target_point;
  std::ptrdiff_t count;
};

// For the weight gradient, with tiles of 4 x 4 results and thus 6 x 6 points; lanes are channels, read and
// written in whole vectors. Both say whether every value that they wrote was finite, those past the last
// channel included.
//
//   winograd_pixels:  the 6 x 6 pixels source[i * source_tile + r * source_row + c * source_column + l] of
//   tile
//     i < tiles and channel l < count to target[(r * 6 + c) * target_point + i * target_tile + l]
//   winograd_results: the same of 4 x 4 results
template <class T>
struct WinogradChannels {
  const T* source;
  std::ptrdiff_t source_row, source_column, source_tile;
  T* target;
  std::ptrdiff_t target_point, target_tile;
  std::ptrdiff_t tiles, count;
};

// The sums source[(r * 6 + c) * source_point + l] of channel l < count to the taps
// target[(r * 3 + c) * target_tap + l], r, c < 3. Only what belongs to a channel counts as not finite.
template <class T>
struct WinogradTaps {
  const T* source;
  std::ptrdiff_t source_point;
  T* target;
  std::ptrdiff_t target_tap;
  std::ptrdiff_t count;
};

// Windows side by side: for r < rows, i < count, over the taps t in order,
//   pool_max:  target[r * target_row + i] = the maximum of source[r * source_row + i * step + offset[t]]
//   pool_sum:  ... their sum, in chunks of `chunk` taps, divided by `divisor`
// A NaN is the maximum; of equal values the first one stays. With `indices`, of maxima, index[r * index_row +
// i] = first_place + r * place_row + i * place_step + place[t] of the tap that it came from. With `twice`, of
// sums under step 1, each is written to places 2 * i and 2 * i + 1 of the target instead; and sums are
// written once more at each of `copies` distances from the target. `border` is what windows see besides:
// before all taps of a maximum without indices, which is not below it, or added to a sum before the division.
template <class T>
struct Pool {
  const T* source;
  std::ptrdiff_t source_row, step;  // step: 1 or 2
  const std::ptrdiff_t *offset, *place;
  std::ptrdiff_t taps;  // at least 1
  T* target;
  std::ptrdiff_t target_row;
  std::int64_t* indices;  // null: not wanted
  std::ptrdiff_t index_row, first_place, place_row, place_step;
  std::ptrdiff_t rows, count;  // count: at least `lanes`, those of KernelTable::pool_lanes
  const std::ptrdiff_t* copy;
  std::ptrdiff_t copies;  // of sums: at least 1
  std::ptrdiff_t chunk;
  T divisor, reciprocal;  // reciprocal: 0, or by which a product is the quotient to the bit
  T border;               // -inf for maxima, 0 for sums: nothing
  bool twice;
};

// The way back of maxima of 2 x 2 windows side by side. For r < rows, i < count: of the four pixels of a
// window,
//   target[r * target_row + a * next_row + b * next_column + i * s]    a, b < 2
// that one becomes 0 + value[r * value_row + i] for which indices[r * index_row + i] is first_place + r *
// place_row + i * place_step + a * next_row_place + b, and the others 0. Windows lie along a row (next_column
// 1, s 2) or channels do (next_column at least `count`, s 1). Returns whether every index was one of its
// window's; if not, what was written is of no use.
template <class T>
struct PoolSpread {
  const T* value;
  std::ptrdiff_t value_row;
  const std::int64_t* indices;
  std::ptrdiff_t index_row, first_place, place_row, place_step, next_row_place;
  T* target;
  std::ptrdiff_t target_row, next_row, next_column;
  std::ptrdiff_t rows, count;  // count: at least KernelTable::pool_lanes
};

// The kernels of one target for one element type. Every entry is set: a target takes the generic form of what
// it has no special code for.
template <class T>
struct KernelTable {
  int lanes;    // elements of a vector
  int rows;     // MR: the product's largest tile has this many rows ...
  int vectors;  // ... and this many vectors: NR = vectors * lanes
  void (*product)(const Product<T>&, int rows, int vectors);  // 1 <= rows <= MR, 1 <= vectors <= NR / lanes
  void (*gather)(const Gather<T>&);
  void (*stencil)(const Stencil<T>&);
  bool (*window)(const Window<T>&);
  void (*channels)(const Channels<T>&);
  bool (*channel_window)(const ChannelWindow<T>&);
  void (*correlate)(const Correlate<T>&);
  // totals[k] += the lanes of vector k of the sums, added in pairs: lane l and l + lanes / 2, and so on.
  void (*add_lanes)(const T* sums, std::ptrdiff_t count, T* totals);
  // totals[k * totals_row + l] += lane l of `lanes` vectors of the sums, added in pairs likewise.
  void (*add_vectors)(const T* sums, std::ptrdiff_t count, T* totals, std::ptrdiff_t totals_row);
  void (*correlate_channels)(const CorrelateChannels<T>&);
  void (*pad)(const Pad<T>&);
  void (*runs)(const Runs<T>&);
  void (*spread)(const Strided<T>&);
  void (*collect)(const Strided<T>&);
  void (*limit)(const Limit<T>&);
  void (*interleave)(const Interleave<T>&);
  void (*transpose)(const Transpose<T>&);
  int pool_lanes;  // windows in a vector of the three that follow
  void (*pool_max)(const Pool<T>&);
  void (*pool_sum)(const Pool<T>&);
  bool (*pool_spread)(const PoolSpread<T>&);
  bool (*winograd_input)(const WinogradInput<T>&);
  bool (*winograd_output)(const WinogradOutput<T>&);
  bool (*winograd_weights)(const WinogradWeights<T>&);
  bool (*winograd_pixels)(const WinogradChannels<T>&);
  bool (*winograd_results)(const WinogradChannels<T>&);
  bool (*winograd_taps)(const WinogradTaps<T>&);
  double (*fma_rounds)(
      std::ptrdiff_t rounds);  // for measuring the peak: returns the FLOPs done, in registers only
};

}  // namespace windrow
