"""What tools/mutate.py breaks: one line of the sources each, and which tests should notice.

A text must stand exactly once in its file; one that does not is reported as stale, to be brought up to date.
"""

from typing import NamedTuple

SEEDED = ("seeded",)  # the seeded driver of the core, for what changes exact sums or touches other memory
BITS = ("tests/test_numerics.py", "tests/test_kernels.py")  # for what changes only the order of sums
POOLS = ("tests/test_pooling.py", "tests/test_lp_pooling.py", "tests/test_global_pooling.py")
BORDERS = ("tests/test_borders.py",)
THREADS = ("tests/test_threads.py", "tests/test_failures.py")


class Mutation(NamedTuple):
    path: str
    old: str
    new: str
    tests: tuple[str, ...] = SEEDED


def _in(path: str, *pairs: tuple[str, str], tests: tuple[str, ...] = SEEDED) -> list[Mutation]:
    return [Mutation(path, old, new, tests) for old, new in pairs]


MUTATIONS = [
    # Kernels
    *_in(
        "core/kernels/product.hpp",
        ("p.c_at[m] : m * p.c_row", "p.c_at[m] : m * (p.c_row + 1)"),
        ("bool add_to_c = p.accumulate;", "bool add_to_c = false;"),
        ("    add_to_c = true;\n", ""),
        ("p.bias && last + 1 == p.k", "p.bias && last + 1 != p.k"),
        ("if (p.accumulate) sum = S::add(S::load(to), sum);", ""),
        ("if (rows < M) {", "if (rows < M - 1) {"),
        ("const std::ptrdiff_t column = p.step[k].a;", "const std::ptrdiff_t column = p.step[0].a;"),
    ),
    *_in(
        "core/kernels/product.hpp",
        ("p.k - k < p.chunk ? p.k : k + p.chunk", "p.k"),
        ("s = S::add(s, S::all(p.bias[m]))", "s = S::fma(S::all(p.bias[m]), S::all(2), s)"),
        tests=BITS,
    ),
    *_in("core/kernels/simd.hpp", ("return a * b + c;", "return b * a + c + c - c;"), tests=BITS),
    *_in(
        "core/kernels/stencil.hpp",
        ("for (std::ptrdiff_t i = 0; i < count; ++i) lanes[i] = p[i];", "lanes[0] = p[0];"),
        ("for (std::ptrdiff_t i = 0; i < count; ++i) p[i] = lanes[i];", "S::store(p, v);"),
        ("bool add_to_y = s.accumulate;", "bool add_to_y = true;"),
        ("if (count > 3 * kLanes) {", "if (count >= 3 * kLanes) {"),
        ("const T* row = x + s.step[k].b;", "const T* row = x + s.step[k].b + 1;"),
        ("if (rest == S::kLanes) {", "if (rest <= S::kLanes) {"),
    ),
    *_in(
        "core/kernels/window.hpp",
        ("if (i >= 0 && i < KR) sum[r]", "if (i >= 0 && i < KR - 1) sum[r]"),
        ("if (count >= S::kLanes) {", "if (count >= 0) {"),
        ("for (; r + 4 <= p.rows; r += 4)", "for (; r + 4 < p.rows; r += 3)"),
        ("if (p.kernel_rows != p.kernel_columns) return false;", ""),
        ("if (p.bias) sum[r] = S::add(sum[r], S::all(*p.bias));\n      S::store", "S::store"),
        ("S::load(x + row * p.x_row + p.shift[j])", "S::load(x + row * p.x_row + j)"),
    ),
    *_in(
        "core/kernels/correlate.hpp",
        ("if (i < c.count) {", "if (i + 1 < c.count) {"),
        ("i + S::kLanes <= c.count", "i <= c.count"),
        ("for (; k + 3 <= c.taps; k += 3)", "for (; k + 2 <= c.taps; k += 3)"),
        ("for (int i = 0; i < kRest; ++i) add(i);", "for (int i = 1; i < kRest; ++i) add(i);"),
        ("x[t] += S::kLanes * x_line;", "x[t] += x_line;"),
    ),
    *_in(
        "core/kernels/pad.hpp",
        ("for (std::ptrdiff_t j = 0; j < p.low; ++j) target[j] = 0;", ""),
        (
            "for (std::ptrdiff_t j = p.high; j < p.width; ++j)",
            "for (std::ptrdiff_t j = p.high + 1; j < p.width; ++j)",
        ),
        ("target[j] = source[j * p.step];", "target[j] = source[j];"),
    ),
    *_in("core/kernels/gather.hpp", ("source[lane * g.step]", "source[lane]")),
    *_in(
        "core/kernels/transpose.hpp",
        ("j0 + kBlock < t.columns ? j0 + kBlock : t.columns", "j0 + kBlock"),
        (
            "          t.target[i * t.target_row + j] = t.source[j * t.source_row + i];",
            "          t.target[i * t.target_row + j] = t.source[j * t.source_row + j];",
        ),
        ("for (std::ptrdiff_t i = t.rows; i < all.rows; ++i)", "for (std::ptrdiff_t i = t.rows; false; ++i)"),
    ),
    *_in(
        "core/kernels/move.hpp",
        ("i + kWide < bytes; i += kWide", "i + kWide < bytes - 1; i += kWide + 1"),
        (
            "const char* const last = g.target + g.repeats * count * bytes - kWide;",
            "const char* const last = g.target + g.repeats * count * bytes;",
        ),
        ("if (m.target_column == m.item && m.source_column == m.item) {", "if (m.target_column == m.item) {"),
    ),
    *_in(
        "core/kernels/sum_rows.hpp",
        ("if (x < source.first || x >= source.end) continue;", "if (x < source.first) continue;"),
        (
            "sum_singly<T, In, Op>(s, row, from, to);",
            "sum_singly<T, In, Op>(s, row, from, to - 1);",
        ),
        ("(s, row, end - kBlock, last);", "(s, row, first, last);"),
        ("x + kBlock < end; x += kBlock", "x + 2 * kBlock < end; x += kBlock"),
    ),
    *_in(
        "core/kernels/sum_rows.hpp",
        ("((total != total) | (value <= total)) ? total : value", "(value <= total) ? total : value"),
        ("magnitude >= 0x7c00u ? 0x38000000u : 0u", "0u"),
        tests=("tests/test_unfolding.py",),
    ),
    *_in(
        "core/kernels/winograd.hpp",
        ("v[2] = d[2] - d[1];", "v[2] = d[1] - d[2];"),
        ("y[1] = gap_a + gap_b;", "y[1] = gap_a - gap_b;"),
        ("u[5] = w[2];", "u[5] = w[1];"),
        ("column[3] = shifted<1>(column[1], in[2], Lanes<T>{});", "column[3] = column[1];"),
        ("zeros.add(c, v[c]);", ""),
        ("result[r][c] = p.bias ? y[r] + bias : y[r];", "result[r][c] = y[r];"),
    ),
    *_in(
        "core/kernels/winograd.hpp",
        ("v[5] = y[3];", "v[5] = y[2];"),
        ("w[2] = S::fma(third, sum_b - sum_a, m[5]);", "w[2] = S::fma(third, sum_b, m[5]);"),
    ),
    *_in(
        "core/kernels/winograd_gradient.hpp",
        ("source = p.source + tile * p.source_tile + i;", "source = p.source + tile * p.source_tile;"),
        ("zeros.add(c, v);", ""),
        ("(i + S::kLanes <= p.count ? zeros : last) += here.total();", "zeros += here.total();"),
    ),
    *_in(
        "core/drivers/winograd_gradient.cpp",
        ("if (!finite.load(std::memory_order_relaxed)) return false;", ""),
        ("side.source + lines.offset + c * side.channel", "side.source + c * side.channel"),
        ("if (lines.bordered) clear_beyond(lines, block, strips, strip);", ""),
        ("units_.parts() > 1 && across_.step() == 1 ? first * kTile : 0", "0"),
        (
            "multiply(x, dy, units_.tiles(slot, unit), steps, unit > 0, sums);",
            "multiply(x, dy, units_.tiles(slot, unit), steps, true, sums);",
        ),
        (
            "const bool in_place = cut_.slots == 1 && !p_.accumulate;",
            "const bool in_place = cut_.slots == 1;",
        ),
        ("channel_block / blocks * share + first", "first"),
        tests=("tests/test_winograd_gradient.py",),
    ),
    *_in(
        "core/drivers/weight_result.hpp",
        ("in_order_ = in_order_ && p_.dw_channel == taps_;", ""),
        tests=("tests/test_convolution.py",),
    ),
    *_in(
        "core/kernels/add_turned.hpp",
        ("return windows_ + kLength - 1 > kUnits;", "return false;"),
        ("wanted_(L::before(windows_ * kNumbers))", "wanted_(L::before(S::kLanes))"),
        ("wanted_end_(L::both(wanted_, at_end_))", "wanted_end_(wanted_)"),
        ("for (int p = kPieces - 1; p >= 0; --p) {", "for (int p = 0; p < kPieces; ++p) {"),
        ("for (int i = kPiece - 1; i >= 0; --i) {", "for (int i = 0; i < kPiece; ++i) {"),
    ),
    *_in(
        "core/kernels/fold_windows.hpp",
        ("lanes_between<T>(kLanes - before, kLanes)", "lanes_between<T>(kLanes, kLanes)"),
        ("v < kVectors ? rotate(sum[v + 1], -before) : S::zero()", "S::zero()"),
        ("w.length + w.before <= (vectors + 1) * kLanes", "true"),
        ("for (int v = 0; v <= kVectors; ++v) sum[v] = S::zero();", ""),
    ),
    *_in(
        "core/kernels/add_runs.hpp",
        ("(kUnits - 1) * all.source_step + furthest + 16;", "(kUnits - 2) * all.source_step + furthest;"),
        ("static_cast<std::size_t>(a.length * kSize % kBytes)", "static_cast<std::size_t>(kBytes)"),
        ("if (a.source_end - source >= furthest + kBytes) {", "if (a.source_end >= source) {"),
        ("if (kWhole >= 0 || whole < bytes)", "if (kWhole >= 0)"),
    ),
    *_in(
        "core/kernels/pool.hpp",
        ("if (any(nan)) nans_first<T, kStep, kVectors>(p, source, best, from);", ""),
        ("from[k] = v > best[k] ? here : from[k];", "from[k] = v >= best[k] ? here : from[k];"),
        (
            "const std::ptrdiff_t last = p.count - kLanes;",
            "const std::ptrdiff_t last = p.count - kLanes + 1;",
        ),
        ("if (left > 2 * kLanes) {", "if (left > 3 * kLanes) {"),
    ),
    *_in(
        "core/kernels/pool.hpp",
        ("for (int k = 0; k < kVectors; ++k) sum[k] += more[k];", ""),
        (
            "low = __builtin_shufflevector(a, b, 0, n, 2, n + 2);",
            "low = __builtin_shufflevector(a, b, 0, n, 1, n + 1);",
        ),
        tests=POOLS,
    ),
    # Packers
    *_in(
        "core/pack/panels.cpp",
        (
            "start < 0 ? std::min(ceil_div(-start, pace), pixels)",
            "start < 0 ? std::min(-start / pace, pixels)",
        ),
        ("(size - 1 - start) / pace + 1", "(size - start) / pace + 1"),
        (".image_offset = rest * grid.source_image,", ".image_offset = 0,"),
        ("std::min(count - lane, last.count - position[rank - 1])", "count - lane"),
        ("lane_step_ = last.step * last.source_stride;", "lane_step_ = last.source_stride;"),
        ("is_constant = is_constant || position < 0;", ""),
        ("repeat(lanes.high, run.lane + run.count);", ""),
        ("line + run.image_offset + position", "line + position"),
        ("(first.mask == 0 ? first : more_[more_count_++])", "first"),
        ("return run_count_ == 1 && (", "return (run_count_ == 1 || run_count_ == 2) && ("),
        ("first_more_[t - tap0 + 1] = more_count_;", "first_more_[t - tap0 + 1] = 0;"),
        ("if (is_constant) continue;", ""),
        (
            "Index{lanes_});\n    const std::uint32_t mask",
            "Index{lanes_} - 1);\n    const std::uint32_t mask",
        ),
    ),
    *_in(
        "core/pack/strips.cpp",
        ("width_ = blocks.columns + columns_.span - 1;", "width_ = blocks.columns;"),
        ("span = last - first + 1;", "span = last - first;"),
        ("place.rows = std::min(blocks_.rows, row_axis_.count - place.row);", "place.rows = blocks_.rows;"),
        ("+ columns_.tap_phase[column];", ";"),
        ("is_constant = is_constant || position < 0;", ""),
        ("std::fill_n(strip + c * plane_, rows * width_, static_cast<T>(fill_));", ""),
    ),
    *_in(
        "core/pack/rows.cpp",
        ("some = rows.from <= r && r < rows.to ? rows.to - r : 1;", "some = 1;"),
        ("p.plane + i * p.source_channel", "p.plane"),
        ("if (across.border == Border::kConstant && p.fill == 0) continue;", "continue;"),
        ("fill(p.columns, p.width, T{0});", ""),
    ),
    *_in("core/pack/visible.cpp", ("span.first * axis.step", "0"), tests=("tests/test_window_product.py",)),
    # Drivers
    *_in(
        "core/drivers/window_product.cpp",
        ("pixels = first_pixel(panel0 + i + 1) - pixel;", "pixels = nr_;"),
        ("if (++tap == taps_) {", "if (++tap > taps_) {"),
        ("last ? bias : nullptr", "bias"),
        (".accumulate = chunk > 1 || p_.accumulate,", ".accumulate = p_.accumulate,"),
        ("(group * p_.rows + row0) * p_.bias_stride", "row0 * p_.bias_stride"),
    ),
    *_in(
        "core/drivers/window_product.cpp",
        ("const Index row0 = row_block * blocks_.rows;", "const Index row0 = 0 * row_block;"),
        ("end / p_.all_taps * taps_ + taps", "end / p_.all_taps * taps_"),
        (".rows = ceil_div(terms - k, taps_),", ".rows = (terms - k) / taps_,"),
        tests=("tests/test_window_product.py", "tests/test_candidates.py"),
    ),
    *_in(
        "core/drivers/winograd_tiles.hpp",
        (".column = s.across.pixel + planes_.across().tap[0],", ".column = s.across.pixel,"),
        (
            ".columns = std::min(s.count * b_.tile, s.across.pixels) + 2,",
            ".columns = s.count * b_.tile,",
        ),
        ("*edge = strip[end + e];", "*edge = strip[end];"),
    ),
    *_in(
        "core/drivers/winograd_tiles.hpp",
        ("if (r >= seen.rows) std::fill_n(strip + start, width, T{0});", ""),
        ("if (term == begin || channel == 0) see_planes", "if (channel == 0) see_planes"),
        tests=("tests/test_winograd.py",),
    ),
    *_in(
        "core/drivers/winograd_tiles.hpp",
        (".rows = std::min(b_.tile, s.down.pixels) + 2,", ".rows = b_.tile + 2,"),
        tests=("tests/test_borders_fused.py",),
    ),
    *_in(
        "core/drivers/winograd.cpp",
        (".k = terms_,", ".k = std::min(kPartial, terms_),"),
        ("p_.accumulate && c < columns", "p_.accumulate && c < columns - 1"),
        ("std::min(end * b_.tile, wide) - at", "end * b_.tile - at"),
    ),
    *_in(
        "core/drivers/tile_axis.hpp",
        ("longer_(axis.count % step_)", "longer_(0)"),
        ("phase + tile * tile_ * step_", "phase + tile * tile_"),
        (".pixels = pixels - tile * tile_", ".pixels = pixels"),
    ),
    *_in(
        "core/drivers/tile_planes.hpp",
        ("position * axis.step + axis.tap", "position + axis.tap"),
        ("tap /= taps;", ""),
        ("inside = inside && at >= 0;", ""),
        ("return offset + image * grid_.target_image;", "return offset;"),
        tests=("tests/test_winograd.py",),
    ),
    *_in(
        "core/drivers/winograd.cpp",
        ("if (!finite) good = mark_failed", "if (finite) good = mark_failed"),
        ("for (Index& tap : axis.tap) tap += corner[i];", ""),
        ("failed[lane] = 1;", "failed[lane] = 0;"),
        (
            "row_tiles * (part + 1) / b_.row_parts * kernel_.rows",
            "row_tiles * part / b_.row_parts * kernel_.rows",
        ),
        tests=("tests/test_winograd.py",),
    ),
    *_in(
        "core/drivers/filter_product.cpp",
        ("panels_ + factors_.place(group, k0) + m", "panels_ + factors_.place(group, 0) + m"),
        ("k0 = i % passes * blocks_.pass;", "k0 = 0;"),
        ("sight.steps + (panel.is_wide ? 0 : blocks_.pass)", "sight.steps"),
        (
            "set_steps(sight, k0, k1, rows_follow_ ? row : factors_.wide(), sight.steps);",
            "set_steps(sight, k0, k1, factors_.wide(), sight.steps);",
        ),
        ("for (; k >= next; next += kChunk) sight", "for (; false; next += kChunk) sight"),
        ("product.accumulate = call > 0 || panel.k0 > 0", "product.accumulate = panel.k0 > 0"),
        ("finite = all_finite(sums(0), panel.count);", "finite = true;"),
        ("r * block.columns + c) * sums_row_", "r * box.columns + c) * sums_row_"),
        tests=("tests/test_filter_product.py", "tests/test_prepared.py"),
    ),
    *_in(
        "core/drivers/filter_factors.hpp",
        ("k0 + (t + taps_ - k0 % taps_) % taps_;", "k0 + t;"),
        tests=("tests/test_filter_product.py", "tests/test_prepared.py"),
    ),
    *_in(
        "core/drivers/pixel_boxes.cpp",
        ("found.push_back({from - first, to - from,", "found.push_back({from, to - from,"),
        ("if (!whole) found = {{0, count, &all}};", ""),
        ("* count_of(column_taps_) + column;", "+ column;"),
        tests=("tests/test_filter_product.py",),
    ),
    *_in(
        "core/drivers/weight_gradient.cpp",
        (
            "if (rows || unit == unit0 || box.extent != before.extent || box.images != before.images ||",
            "if (rows || pixels == 0 ||",
        ),
        tests=("tests/test_convolution.py",),
    ),
    *_in(
        "core/drivers/weight_gradient.cpp",
        ("units == 1 && !lanes_.turned()", "!lanes_.turned()"),
        ("write(part, m, rows, sums, partial);", "write(part, 0, rows, sums, partial);"),
        ("!in_place && unit + 1 == unit1", "!in_place && unit == unit0"),
        tests=("tests/test_weight_gradient.py",),
    ),
    *_in(
        "core/api/products.hpp",
        ("(p.columns == 2 ? 1 : last.stride);", "1;"),
        tests=("tests/test_phases.py",),
    ),
    *_in(
        "core/drivers/turned_channels.cpp",
        ("some.factor += first * product.factor_group;", ""),
        ("if (some.bias) some.bias += first * product.bias_stride;", ""),
        ("if (p_.accumulate) turn(target, to, channels, result);", ""),
        ("result + (product.target - p_.target);", "result;"),
        ("number += count;", ""),
        tests=("tests/test_turned_channels.py",),
    ),
    *_in(
        "core/drivers/channel_product.cpp",
        ("whole == p_.groups || p_.accumulate) return whole;", "whole == p_.groups) return whole;"),
        tests=("tests/test_channel_product.py",),
    ),
    *_in(
        "core/base/parallel.hpp",
        ("turns(parts) * best < turns(best) * parts", "turns(parts) < turns(best)"),
        tests=("tests/test_weight_gradient.py",),
    ),
    *_in(
        "core/drivers/depthwise_gradient.cpp",
        ("image * p_.x_image + index / p_.rows * p_.x_channel", "image * p_.x_image + index * p_.x_channel"),
        ("entry = p_.accumulate ? entry + total : total;", "entry = total;"),
        ("std::fill_n(m.sums, taps_ * kernels_.lanes, T{0});\n        if (is_far_)", "if (is_far_)"),
    ),
    *_in(
        "core/drivers/bias_gradient.cpp",
        ("for (Index i = whole; i < some; ++i) sums_[i - whole] += values[i];", ""),
        ("p.accumulate ? db + total : total", "total"),
        ("rest % p.size[i] * p.dy_stride[i]", "rest * p.dy_stride[i]"),
        tests=("tests/test_convolution.py",),
    ),
    *_in(
        "core/drivers/pool.cpp",
        ("lane.count >= current_target().kernels<T>().pool_lanes && ", ""),
        (
            "const Index tap0 = first_from(low), tap1 =",
            "const Index tap0 = 0, tap1 =",
        ),
    ),
    *_in(
        "core/drivers/pool.cpp",
        ("(lane.source == 2 && !p.twice)", "lane.source == 2"),
        ("if (p.twice) line.sum(source, target + copy + 1);", ""),
        tests=POOLS,
    ),
    *_in(
        "core/drivers/pool_lines.hpp",
        ("const L stays = (best[k] != best[k]) | (v <= best[k]);", "const L stays = v <= best[k];"),
        ("bits |= is_nan[k];", ""),
    ),
    *_in(
        "core/drivers/pool_lines.hpp",
        ("if (whole & bit) result = result * v;", ""),
        ("t == kChunk ? sum[k] : total[k] + sum[k]", "sum[k]"),
        tests=POOLS,
    ),
    *_in(
        "core/api/pool.cpp",
        (" || a.size % a.stride != 0", ""),
        ("k * step);", "(k - 1) * step);"),
        ("p.target += first[i] * dx.strides[2 + i];", ""),
    ),
    *_in(
        "core/drivers/box.cpp",
        ("&& outer.source == inner.count * inner.source) {", ") {"),
        ("same = same && value[i] == value[0];", "same = true;"),
    ),
    # Threads, memory and calls
    *_in(
        "core/base/parallel.cpp",
        ("if (!error) error = std::current_exception();", "error = nullptr;"),
        (
            "for (int i = 0; i < shares; ++i) {\n      Share& from",
            "for (int i = 0; i < 1; ++i) {\n      Share& from",
        ),
        ("if (poll.heard()) throw Interrupted{};\n    return true;", "return true;"),
        ("[] { g_pool.store(nullptr, std::memory_order_release); }", "[] {}"),
        ("    sigfillset(&all);", "    sigemptyset(&all);"),
        tests=THREADS,
    ),
    *_in(
        "core/base/workspace.cpp",
        ("std::erase(registry().arenas, &arena);", ""),
        ("if (blocks_.size() > 1) free_blocks();", ""),
        tests=THREADS,
    ),
    *_in(
        "bindings/context.cpp",
        ("if (t_threads > 0) return t_threads;", ""),
        ("g_main_thread = PyThread_get_thread_ident(); }", "}"),
        tests=("tests/test_processes.py", *THREADS),
    ),
    *_in(
        "bindings/conv.cpp",
        (" || !PyArray_ISBEHAVED_RO(array)", ""),
        tests=("tests/test_arrays.py", "tests/test_convolution.py"),
    ),
    *_in(
        "bindings/arrays.cpp",
        ("if (PyArray_STRIDE(array, axis) <= least) return false;", ""),
        tests=("tests/test_arrays.py", "tests/test_convolution.py", "tests/test_arrays_out.py"),
    ),
    # Python: geometry, arguments, layouts, arrays
    *_in(
        "src/windrow/geometry.py",
        ("(stride - 1 if ceil_mode else 0)", "(stride - 1)"),
        ("if padded > MAX_PADDED:", "if padded > 2 * MAX_PADDED:"),
        ("if out > MAX_PADDED:", "if out >= MAX_PADDED:"),
        ("less, more = total // 2, total - total // 2", "more, less = total // 2, total - total // 2"),
        (
            "remainder = (size + before + after - span) % stride",
            "remainder = (size + before - span) % stride",
        ),
        ("if per_group * groups != c:", "if per_group * groups > c:"),
        ("return 2 * self.n * self.k", "return self.n * self.k"),
        tests=("tests/test_geometry.py",),
    ),
    *_in(
        "src/windrow/arguments.py",
        ("isinstance(value, (bool, np.bool_))", "isinstance(value, np.bool_)"),
        ("if number.bit_length() > 63:", "if number.bit_length() > 64:"),
        ("if number < minimum:", "if number <= minimum:"),
        ("if min(sides) < 0:", "if max(sides) < 0:"),
        ("prod(size or 1 for size in shape)", "prod(shape)"),
        tests=("tests/test_arguments.py", "tests/test_geometry.py"),
    ),
    *_in(
        "src/windrow/layout.py",
        ("for name in reversed(group):", "for name in group:"),
        ("if group is not None:\n        _refuse(spec, opened", "if group:\n        _refuse(spec, opened"),
        ("elif length % known if known else length:", "elif length % known if known else False:"),
        ("if axis in taken:", "if token in taken:"),
        tests=("tests/test_layout.py", "tests/test_unfolding_errors.py"),
    ),
    *_in(
        "src/windrow/arrays.py",
        ("if axes[0][0] < array.itemsize:", "if axes[0][0] < 0:"),
        (
            "high = min((reach - offset) // stride, size - 1)",
            "high = min((reach - offset) // stride, size - 2)",
        ),
        ("if not array.flags.writeable:", "if False:"),
        ("stride % itemsize == 0 or size < 2", "stride % itemsize == 0"),
        ("if strides[axis] <= least:", "if strides[axis] < least:"),
        tests=("tests/test_arrays.py", "tests/test_arrays_out.py"),
    ),
    *_in(
        "src/windrow/lp_pooling.py",
        ("if not p >= 1:", "if not p > 1:"),
        ("_times_power(shares, norms, 1 - norm, ())", "_times_power(shares, norms, norm - 1, ())"),
        ("shares = np.array(shares)", "shares = np.asarray(shares)"),
        ("shares = dy * np.sign(", "shares = dy * np.abs("),
        tests=POOLS,
    ),
    *_in(
        "src/windrow/global_pooling.py",
        ("if 0 in shape[2:]:", "if 0 in shape:"),
        ("if len(shape) < 3:", "if len(shape) < 2:"),
        tests=POOLS,
    ),
    *_in(
        "src/windrow/borders.py",
        (
            "place = np.minimum(place, 2 * (size - 1) - place)",
            "place = np.minimum(place, 2 * size - 1 - place)",
        ),
        ("for place in (*range(before), *range(end, len(table))):", "for place in range(before):"),
        ("region[(*lead, side)] = border.fill", "region[(*lead, side)] = 0"),
        ("step = min(max(1, BLOCK_BYTES // each), images)", "step = images"),
        tests=BORDERS,
    ),
    *_in(
        "src/windrow/bordered.py",
        (
            'return {**options, "padding": 0} if windows.positions else options',
            'return {**options, "padding": 0}',
        ),
        (
            "add = part.start > 0 or (bool(accumulate) and sums is dw)",
            "add = bool(accumulate) and sums is dw",
        ),
        ("        target += value", "        target[...] = value"),
        (
            "wide = np.dtype(np.float32) if dtype == np.float16 else dtype  # which fold itself sums in",
            "wide = dtype",
        ),
        ("x[part] = np.where(covered == 0, value, sums)", "x[part] = sums"),
        tests=BORDERS,
    ),
]
