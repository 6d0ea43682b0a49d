#include "drivers/winograd_gradient.hpp"

#include <algorithm>
#include <atomic>
#include <vector>

#include "base/workspace.hpp"
#include "drivers/tile_axis.hpp"
#include "drivers/tiles.hpp"
#include "drivers/weight_cut.hpp"
#include "drivers/weight_result.hpp"
#include "pack/pixel_strips.hpp"

namespace windrow {
namespace {

constexpr Index kTile = kGradientTile, kPoints = kGradientSide * kGradientSide;
constexpr Index kPad = 48;  // elements between points, so that they do not share sets of the cache

// These cut the sum over tiles, so they belong to the numerics plan.
constexpr Index kUnitTiles = 32;   // of a partial sum, at most ...
constexpr Index kWholeTiles = 64;  // ... but where all of them are no more than this, they are one sum
constexpr Index kSlotTiles = 96;   // of a slot at least: adding the slots then costs little
constexpr Index kSlotBlock = 64;   // rows and channels of a piece of work, where pieces are counted for slots

// These do not.
constexpr Index kBlockBytes = 640 << 10;  // of sums, or of transformed pixels
constexpr Index kBlock = 64;              // rows or channels of a block whose sums are read again and again
constexpr Index kMostChannels = 256;      // of a block else
constexpr Index kPieceRows = 64;          // at least, where threads share them

// Tiles that are summed over together: some rows of tiles, of all images and planes in order, or a part of a
// long row. Slots share these evenly, and those of a slot make units of nearly equal size.
class TileUnits {
 public:
  TileUnits(Index lines, Index across)
      : lines_(lines),
        across_(across),
        parts_(lines * across <= kWholeTiles ? 1 : ceil_div(across, kUnitTiles)),
        most_(lines * across <= kWholeTiles ? lines : std::max<Index>(1, kUnitTiles / across)) {}

  void share(Index slots) { slots_ = slots; }

  Index tiles() const { return lines_ * across_; }
  Index pieces() const { return lines_ * parts_; }  // rows or parts of one: no slot has less
  Index parts() const { return parts_; }
  Index most_tiles() const { return std::min(most_, most_pieces()) * ceil_div(across_, parts_); }
  Index most_units() const { return ceil_div(most_pieces(), most_); }

  Index units(Index slot) const { return ceil_div(begin(slot + 1) - begin(slot), most_); }
  Index count() const {
    Index count = 0;
    for (Index slot = 0; slot < slots_; ++slot) count += units(slot);
    return count;
  }

  Index tiles(Index slot, Index unit) const {
    Index count = 0;
    each_line(slot, unit, [&](Index, Index first, Index end) { count += end - first; });
    return count;
  }

  // body(line, first tile across, end) for the lines of a unit.
  template <class Body>
  void each_line(Index slot, Index unit, Body&& body) const {
    const Index begin = this->begin(slot), size = this->begin(slot + 1) - begin, units = this->units(slot);
    for (Index i = begin + size * unit / units; i < begin + size * (unit + 1) / units; ++i) {
      const Index part = i % parts_;
      body(i / parts_, across_ * part / parts_, across_ * (part + 1) / parts_);
    }
  }

 private:
  Index begin(Index slot) const { return pieces() * slot / slots_; }
  Index most_pieces() const { return ceil_div(pieces(), slots_); }

  Index lines_, across_, parts_, most_, slots_ = 1;
};

PixelAxis whole_axis(const WindowAxis& axis, Index stride) {
  return {.count = axis.out,
          .step = 1,
          .size = axis.out,
          .source_stride = stride,
          .target_stride = 0,
          .tap = {0}};
}

// Of an axis whose taps are `dilation` apart, the positions of one phase, from its own first one on.
struct PhaseLines {
  PixelAxis axis;
  Index offset;  // of that position in the source
};
PhaseLines phase_of(const PixelAxis& axis, Index dilation, Index phase) {
  const Index first = phase + axis.tap[0];
  const Index rest = (first % dilation + dilation) % dilation;
  PhaseLines lines{.axis = axis, .offset = rest * axis.source_stride};
  lines.axis.count = ceil_div(axis.count - phase, dilation);
  lines.axis.size = rest < axis.size ? ceil_div(axis.size - rest, dilation) : 0;
  lines.axis.source_stride = axis.source_stride * dilation;
  for (std::size_t t = 0; t < axis.tap.size(); ++t)
    lines.axis.tap[t] = (first - rest) / dilation + static_cast<Index>(t);
  return lines;
}

template <class T>
class Driver {
 public:
  Driver(const WeightGradient<T>& problem, const Target& target)
      : p_(problem),
        kernels_(target.kernels<T>()),
        rank_(problem.axes.size()),
        down_(axis_of(rank_ - 2), kTile),
        across_(axis_of(rank_ - 1), kTile),
        units_(lines_of(problem, down_), across_.tiles()),
        result_(problem, kernels_),
        cut_(cut(units_)) {}

  const WinogradGradientCut& how() const { return cut_; }

  Index pieces() const { return p_.groups * cut_.taps * cut_.channel_blocks * cut_.row_blocks * cut_.slots; }

  WeightGradientCost cost() const {
    // Two transforms each of pixels, results and sums.
    constexpr Index kPixels = 5, kResults = 5, kTaps = 6;
    return {
        .scratch_bytes = scratch_elements() * Index{sizeof(T)} + units_.most_tiles() * Index{sizeof(Step)},
        .partial_bytes =
            cut_.slots == 1 && !p_.accumulate ? 0 : result_.elements() * cut_.slots * Index{sizeof(T)},
        .pieces = pieces(),
        .slots = cut_.slots,
        .roundings =
            2 * (kPixels + kResults + kTaps) + units_.most_tiles() + units_.most_units() + cut_.slots - 1,
        .in_lanes = "channels"};
  }

  bool run(const RunContext& context) const {
    const bool in_place = cut_.slots == 1 && !p_.accumulate;
    Scratch scratch;
    T* slots = in_place ? nullptr : scratch.take<T>(result_.elements() * cut_.slots);
    std::atomic<bool> finite{true};
    parallel_for(context, pieces(), [&](Index piece) {
      if (!finite.load(std::memory_order_relaxed)) return;
      const Index slot = piece % cut_.slots;
      if (!run_piece(piece / cut_.slots, slot, in_place ? nullptr : slots + slot * result_.elements()))
        finite.store(false, std::memory_order_relaxed);
    });
    if (!finite.load(std::memory_order_relaxed)) return false;
    if (!in_place) result_.add_slots(slots, cut_.slots, context);
    return true;
  }

 private:
  PixelAxis axis_of(std::size_t i) const { return window_pixels(p_.axes[i], p_.x_stride[i], 0); }

  // Rows of tiles in all planes of all images.
  static Index lines_of(const WeightGradient<T>& p, const TileAxis& down) {
    Index lines = p.images * down.tiles();
    for (std::size_t i = 0; i + 2 < p.axes.size(); ++i) lines *= p.axes[i].out;
    return lines;
  }

  // Tells the units how many slots share them, too.
  WinogradGradientCut cut(TileUnits& units) const {
    WinogradGradientCut c{};
    c.lines = lines_of(p_, down_);
    c.across = across_.tiles();
    c.taps = 1;
    for (std::size_t i = 0; i + 2 < rank_; ++i) c.taps *= p_.axes[i].kernel;
    const Index wanted =
        p_.groups * c.taps * ceil_div(p_.rows, kSlotBlock) * ceil_div(p_.channels, kSlotBlock);
    c.slots = std::max<Index>(
        1, std::min({ceil_div(kSlotPieces, wanted), kPartialBytes / (result_.elements() * Index{sizeof(T)}),
                     units.tiles() / kSlotTiles, units.pieces()}));
    units.share(c.slots);
    c.units = units.count();
    c.unit_tiles = units.most_tiles();
    const bool once = units.most_units() == 1;  // sums are written once
    const Index lanes = kernels_.lanes, bytes = kPoints * Index{sizeof(T)};
    const Index most =
        once ? std::clamp(kBlockBytes / (bytes * c.unit_tiles), kBlock, kMostChannels) : kBlock;
    const Index vectors = ceil_div(p_.channels, lanes), others = p_.groups * c.taps * c.slots;
    const Index blocks = ceil_div(p_.channels, most), threads = p_.threads;
    const bool shared = blocks >= threads && others % threads != 0 && vectors % threads == 0;
    c.channel_shares = shared ? threads : 1;
    const Index share = vectors / c.channel_shares, share_blocks = ceil_div(blocks, c.channel_shares);
    c.channels = ceil_div(share, share_blocks) * lanes;
    c.channel_blocks = c.channel_shares * ceil_div(share * lanes, c.channels);
    c.held = std::clamp(kBlockBytes / (bytes * c.channels) / kernels_.rows * kernels_.rows,
                        Index{kernels_.rows}, std::max<Index>(kernels_.rows, p_.rows));
    const Index pieces = others * c.channel_blocks;
    c.row_blocks = once ? 1 : ceil_div(p_.rows, c.held);
    c.rows = ceil_div(p_.rows, c.row_blocks);
    if (p_.threads > 1)
      c.rows = ceil_div(c.rows, parts_for_threads(pieces * c.row_blocks, p_.threads, c.rows / kPieceRows));
    c.row_blocks = ceil_div(p_.rows, c.rows);
    c.held = std::min(c.held, c.rows);
    return c;
  }

  // Layouts, in elements.
  Index pixels_point() const { return units_.most_tiles() * cut_.channels + kPad; }
  Index held_row() const { return round_up(cut_.held, kernels_.lanes); }
  Index results_point() const { return units_.most_tiles() * held_row() + kPad; }
  Index sums_row() const { return cut_.channels; }
  Index sums_point() const { return cut_.held * sums_row() + kPad; }
  Index slack() const { return Index{kernels_.lanes} * kernels_.vectors; }  // read past the last lanes

  Index scratch_elements() const {
    return kPoints * (pixels_point() + results_point() + sums_point()) + 9 * cut_.channels + 4 * slack() +
           strip_elements();
  }

  struct Part {
    Index group, channel, channels, row, rows;
    Extents tap;  // of the axes before the last two; 0 of those
  };
  Part part(Index piece) const {
    Part part{};
    const Index row_block = piece % cut_.row_blocks;
    piece /= cut_.row_blocks;
    const Index channel_block = piece % cut_.channel_blocks;
    piece /= cut_.channel_blocks;
    part.tap.resize(rank_);
    for (std::size_t i = rank_ - 2; i-- > 0; piece /= p_.axes[i].kernel)
      part.tap[i] = piece % p_.axes[i].kernel;
    part.group = piece;
    // Blocks of equal size but the last of each share.
    const Index blocks = cut_.channel_blocks / cut_.channel_shares;
    const Index share = ceil_div(p_.channels, kernels_.lanes) / cut_.channel_shares * kernels_.lanes;
    const Index first = channel_block % blocks * cut_.channels;
    part.channel = channel_block / blocks * share + first;
    part.channels = std::min({cut_.channels, share - first, p_.channels - part.channel});
    part.row = row_block * cut_.rows;
    part.rows = std::min(cut_.rows, p_.rows - part.row);
    return part;
  }

  // What rows of tiles of one phase of a dilation see, of a cache line of channels or of those that are left.
  struct Lines {
    PixelStrips full, rest;
    Index offset;
    Index rows, columns;  // that windows see, from the first row of the phase and the first column on
    bool bordered;        // by anything but zeros
  };
  // Pixels of a row that a strip has: all, or as many as a part of a row of tiles.
  Index strip_columns() const {
    if (units_.parts() > 1 && across_.step() == 1) return units_.most_tiles() * kTile;
    const Index step = kTile * across_.step();
    return ceil_div(p_.axes.back().out, step) * step;
  }
  // Of a line of channels.
  Index strip_elements() const {
    const Index columns = strip_columns() + 2 * across_.step();
    return kGradientSide * columns * line_elements() + slack();
  }
  Index line_elements() const { return static_cast<Index>(kAlignment / sizeof(T)); }

  Lines lines_of(const PixelGrid& grid, Index channels, Index offset) const {
    const Index line = line_elements(), full = std::min(channels, line);
    const PixelAxis &down = grid.axes[rank_ - 2], &across = grid.axes[rank_ - 1];
    return {
        .full = PixelStrips(grid, kTile, strip_columns(), full, line),
        .rest = PixelStrips(grid, kTile, strip_columns(), std::max<Index>(1, channels % line), line),
        .offset = offset,
        .rows = down.count + down.tap.back() - down.tap[0],
        .columns = across.count + across.tap.back() - across.tap[0],
        .bordered = grid.fill != 0 || down.border != Border::kConstant || across.border != Border::kConstant};
  }

  // What tiles see beyond all windows is zero, whatever the border has there.
  void clear_beyond(const Lines& lines, const PixelBlock& block, const PixelStrips& strips, T* strip) const {
    const Index row = strips.row_step(), column = strips.pixel_step();
    const Index seen = std::clamp<Index>((lines.columns - block.column) * column, 0, row);
    for (Index r = 0; r * row < strips.elements(); ++r, strip += row) {
      const Index from = block.row + r < lines.rows ? seen : 0;
      std::fill_n(strip + from, row - from, T{0});
    }
  }

  Lines x_lines(const Part& part, Index phase) const {
    PixelGrid grid{.axes = {},
                   .images = p_.images,
                   .source_image = p_.x_image,
                   .target_image = 0,
                   .fill = static_cast<double>(p_.fill)};
    for (std::size_t i = 0; i < rank_; ++i) grid.axes.push_back(axis_of(i));
    for (std::size_t i = 0; i + 2 < rank_; ++i) {
      Extents& taps = grid.axes[i].tap;
      taps = {taps[static_cast<std::size_t>(part.tap[i])]};
    }
    const PhaseLines rows = phase_of(grid.axes[rank_ - 2], down_.step(), phase);
    grid.axes[rank_ - 2] = rows.axis;
    return lines_of(grid, part.channels, rows.offset);
  }

  Lines dy_lines(Index rows, Index phase) const {
    PixelGrid grid{
        .axes = {}, .images = p_.images, .source_image = p_.dy_image, .target_image = 0, .fill = 0};
    for (std::size_t i = 0; i < rank_; ++i) grid.axes.push_back(whole_axis(p_.axes[i], p_.dy_stride[i]));
    const PhaseLines lines = phase_of(grid.axes[rank_ - 2], down_.step(), phase);
    grid.axes[rank_ - 2] = lines.axis;
    return lines_of(grid, rows, lines.offset);
  }

  // An operand of the products, and where its points go.
  struct Side {
    std::vector<Lines> phases;
    bool (*transform)(const WinogradChannels<T>&);
    const T* source;
    Index channel, channels;  // from one to the next, and how many
    T* points;
    Index point, tile;  // from one to the next
  };

  // Sums the slot's share of the units and writes it. False where something is not finite.
  bool run_piece(Index piece, Index slot, T* partial) const {
    const Part part = this->part(piece);
    Scratch scratch;
    Side x{.phases = {},
           .transform = kernels_.winograd_pixels,
           .source = p_.x + (part.group * p_.channels + part.channel) * p_.x_channel,
           .channel = p_.x_channel,
           .channels = part.channels,
           .points = scratch.take<T>(kPoints * pixels_point() + slack()),
           .point = pixels_point(),
           .tile = cut_.channels};
    Side dy{.phases = {},
            .transform = kernels_.winograd_results,
            .source = nullptr,
            .channel = p_.dy_channel,
            .channels = 0,
            .points = scratch.take<T>(kPoints * results_point() + slack()),
            .point = results_point(),
            .tile = held_row()};
    T* sums = scratch.take<T>(kPoints * sums_point() + slack());
    T* taps = scratch.take<T>(9 * cut_.channels);
    T* strip = scratch.take<T>(strip_elements());
    Step* steps = scratch.take<Step>(units_.most_tiles());
    for (Index i = 0; i < units_.most_tiles(); ++i) steps[i] = {.a = i * dy.tile, .b = i * x.tile};

    for (Index phase = 0; phase < down_.phases(); ++phase) x.phases.push_back(x_lines(part, phase));
    const Index units = units_.units(slot);
    for (Index row = part.row; row < part.row + part.rows; row += cut_.held) {
      dy.channels = std::min(cut_.held, part.row + part.rows - row);
      dy.source = p_.dy + (part.group * p_.rows + row) * p_.dy_channel;
      dy.phases.clear();
      for (Index phase = 0; phase < down_.phases(); ++phase)
        dy.phases.push_back(dy_lines(dy.channels, phase));
      for (Index unit = 0; unit < units; ++unit) {
        checkpoint();
        // A piece with several blocks of rows is of a single unit, whose pixels are there from the first.
        if (row == part.row && !transform(slot, unit, x, strip)) return false;
        if (!transform(slot, unit, dy, strip)) return false;
        multiply(x, dy, units_.tiles(slot, unit), steps, unit > 0, sums);
      }
      if (!write(part, row, dy.channels, sums, taps, partial)) return false;
    }
    return true;
  }

  // To the points of a unit's tiles.
  bool transform(Index slot, Index unit, const Side& side, T* strip) const {
    bool finite = true;
    Index done = 0;
    units_.each_line(slot, unit, [&](Index line, Index first, Index end) {
      const TileAxis::Place place = down_.place(line % down_.tiles());
      const Lines& lines = side.phases[static_cast<std::size_t>(place.pixel % down_.step())];
      PixelBlock block{.outer = Extents(rank_ - 2),
                       .image = line / down_.tiles(),
                       .row = place.pixel / down_.step(),
                       .rows = kTile,
                       .column = units_.parts() > 1 && across_.step() == 1 ? first * kTile : 0,
                       .columns = 0};
      for (std::size_t i = rank_ - 2; i-- > 0;) {
        block.outer[i] = block.image % p_.axes[i].out;
        block.image /= p_.axes[i].out;
      }
      const Index group = line_elements();
      for (Index c = 0; c < side.channels; c += group) {
        const PixelStrips& strips = side.channels - c < group ? lines.rest : lines.full;
        std::fill_n(strip + strips.elements(), slack(), T{0});
        strips.fill(kernels_, block, side.source + lines.offset + c * side.channel, side.channel, strip);
        if (lines.bordered) clear_beyond(lines, block, strips, strip);
        const Index column = strips.pixel_step();
        T* points = side.points + done * side.tile + c;
        for (Index tile = first; tile < end;) {  // those of one phase after another
          const TileAxis::Place across = across_.place(tile);
          const Index some = std::min(ceil_div(across.pixels, kTile), end - tile);
          finite &= side.transform({.source = strip + (across.pixel - block.column) * column,
                                    .source_row = strips.row_step(),
                                    .source_column = across_.step() * column,
                                    .source_tile = kTile * across_.step() * column,
                                    .target = points,
                                    .target_point = side.point,
                                    .target_tile = side.tile,
                                    .tiles = some,
                                    .count = std::min(group, side.channels - c)});
          points += some * side.tile;
          tile += some;
        }
      }
      done += end - first;
    });
    return finite;
  }

  void multiply(const Side& x, const Side& dy, Index tiles, const Step* steps, bool accumulate,
                T* sums) const {
    const Index vectors = ceil_div(x.channels, kernels_.lanes), panels = ceil_div(vectors, kernels_.vectors);
    for (Index point = 0; point < kPoints; ++point) {
      for (Index panel = 0; panel < panels; ++panel) {
        const Index first = vectors * panel / panels, lane = first * kernels_.lanes;
        run_tiles<T>(kernels_,
                     {.a = dy.points + point * dy.point,
                      .a_row = 1,
                      .b = x.points + point * x.point + lane,
                      .step = steps,
                      .c = sums + point * sums_point() + lane,
                      .c_row = sums_row(),
                      .k = tiles,
                      .accumulate = accumulate,
                      .bias = nullptr},
                     dy.channels, static_cast<int>(vectors * (panel + 1) / panels - first), nullptr, 0);
      }
    }
  }

  bool write(const Part& part, Index row, Index rows, const T* sums, T* taps, T* partial) const {
    Extents extent(rank_, 1);
    extent[rank_ - 2] = extent[rank_ - 1] = 3;
    const Extents to = result_.tap_offsets(part.tap, extent, partial != nullptr);
    for (Index m = 0; m < rows; ++m) {
      const bool finite = kernels_.winograd_taps({.source = sums + m * sums_row(),
                                                  .source_point = sums_point(),
                                                  .target = taps,
                                                  .target_tap = cut_.channels,
                                                  .count = part.channels});
      if (!finite) return false;
      result_.write({.row = part.group * p_.rows + row + m,
                     .channel = part.channel,
                     .channels = part.channels,
                     .to = to.data(),
                     .taps = 9,
                     .from = taps,
                     .tap_stride = cut_.channels},
                    partial);
    }
    return true;
  }

  const WeightGradient<T>& p_;
  const KernelTable<T>& kernels_;
  const std::size_t rank_;
  const TileAxis down_, across_;
  TileUnits units_;
  const WeightResult<T> result_;
  const WinogradGradientCut cut_;
};

}  // namespace

template <class T>
bool has_winograd_gradient(const WeightGradient<T>& p) {
  constexpr Index kMostDilatedRow = 2048;
  const std::size_t rank = p.axes.size();
  if (rank < 2 || p.rows == 0 || p.channels == 0 || p.images == 0) return false;
  double sums = static_cast<double>(p.groups * p.rows * p.channels);
  for (const WindowAxis& axis : p.axes) {
    if (axis.out == 0) return false;
    sums *= static_cast<double>(axis.kernel);
  }
  if (sums * sizeof(T) > static_cast<double>(kPartialBytes)) return false;
  const WindowAxis &down = p.axes[rank - 2], &across = p.axes[rank - 1];
  for (const WindowAxis& axis : {down, across})
    if (axis.stride != 1 || axis.kernel != 3) return false;
  if (down.dilation > 1 && down.border != Border::kConstant) return false;
  return across.dilation == 1 || across.out <= kMostDilatedRow;
}

template <class T>
WinogradGradientCut winograd_gradient_cut(const WeightGradient<T>& problem, const Target& target) {
  return Driver<T>(problem, target).how();
}

template <class T>
WeightGradientCost winograd_gradient_cost(const WeightGradient<T>& problem, const Target& target) {
  return Driver<T>(problem, target).cost();
}

template <class T>
bool run_winograd_gradient(const WeightGradient<T>& problem, const Target& target,
                           const RunContext& context) {
  return Driver<T>(problem, target).run(context);
}

#define WINDROW_INSTANTIATE(T)                                                                 \
  template bool has_winograd_gradient(const WeightGradient<T>&);                               \
  template WinogradGradientCut winograd_gradient_cut(const WeightGradient<T>&, const Target&); \
  template WeightGradientCost winograd_gradient_cost(const WeightGradient<T>&, const Target&); \
  template bool run_winograd_gradient(const WeightGradient<T>&, const Target&, const RunContext&);
WINDROW_INSTANTIATE(float)
WINDROW_INSTANTIATE(double)
#undef WINDROW_INSTANTIATE

}  // namespace windrow
