"""The kernels of strips and depthwise gradients by name: stencil, window, correlate, pad and collect.

Each operand lies between NaN that nobody may read into a result or write over; results are equal to the bit
with the numerics plan in NumPy.
"""

from typing import NamedTuple

import numpy as np
import pytest

from tests import emulation
from tests.kernels import (
    CHUNK,
    SEED,
    TARGETS,
    TERMS,
    aligned,
    assert_same_bits,
    both_dtypes,
    draw,
    each_target,
    edges,
    lanes_of,
    testing,
)

GAP = 3
SPARE = (
    16  # elements behind a result: a kernel that writes a vector too many fails a test and corrupts nothing
)
TAPS = (0, 1, 2, 3, 4, 8, 9, 10, 12, 13, 22)  # correlate takes nine, then three, then one at a time
no_yes = [False, True]


def stencil_counts(lanes):
    """Around each number of vectors that a stencil sums at once, and around its tile of four."""
    return sorted({*edges(lanes, 53), 2 * lanes, 3 * lanes, 3 * lanes + 1, *edges(4 * lanes, 37)})


class Runs(NamedTuple):
    """Runs of values, each of them followed by NaN: run k of row r at memory[start + r * row + offset[k]]."""

    memory: np.ndarray
    start: int
    row: int
    offset: np.ndarray


def place(rng, values, whole, *, upwards):
    """The runs values[r, k], each in room for `whole` elements and a gap, in random order within a row.

    Offsets of either sign; rows forwards or backwards in memory.
    """
    rows, runs, count = values.shape
    room = whole + GAP
    memory = np.full(rows * runs * room, np.nan, values.dtype)
    order = rng.permutation(runs)
    cells = memory.reshape(rows, runs, room)[:: -1 if upwards else 1]
    cells[:, order, :count] = values
    first, row = (max(rows - 1, 0) * runs * room, -runs * room) if upwards else (0, runs * room)
    middle = runs // 2 * room
    return Runs(memory, first + middle, row, order * room - middle)


class Target:
    """Rows of a result with gaps of NaN between and behind them."""

    def __init__(self, rows, count, start, dtype):
        self.memory = np.full((rows + SPARE // GAP, count + GAP), np.nan, dtype)
        self.row, self.inner = count + GAP, (slice(rows), slice(count))
        if start is not None:
            self.memory[self.inner] = start[self.inner]

    def check(self, expected):
        everything = np.full_like(self.memory, np.nan)
        everything[self.inner] = expected[self.inner]
        assert_same_bits(self.memory, everything)


def stencil_expected(name, w, x, start, bias):
    """x: rows, terms, lanes of one row."""
    rows, terms, count = x.shape
    columns = x.transpose(1, 0, 2).reshape(terms, rows * count)
    start = None if start is None else start.reshape(1, -1)
    return emulation.product(name, w[None], columns, start, bias).reshape(rows, count)


def run_stencil(name, w, w_offset, x, y, rows, count, accumulate, bias):
    testing.stencil(
        name, w.dtype == np.float64, w, w_offset, x.memory, x.start, x.row, x.offset,
        y.memory, y.row, rows, count, accumulate, bias,
    )  # fmt: skip


@each_target
@both_dtypes
@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("accumulate", no_yes)
@pytest.mark.parametrize("bias", no_yes)
def test_stencil(name, dtype, terms, accumulate, bias):
    """Every number of vectors and of rows, with the factors in any order and lanes past the row NaN."""
    rng = np.random.default_rng(SEED + terms)
    lanes = lanes_of(name, dtype)
    counts = stencil_counts(lanes)
    most_rows = 9  # short rows are summed eight at a time
    w = draw(rng, terms, dtype)
    values = draw(rng, (most_rows, terms, counts[-1]), dtype)
    start = draw(rng, (most_rows, counts[-1]), dtype) if accumulate else None
    added = draw(rng, 1, dtype) if bias else None
    expected = stencil_expected(name, w, values, start, added)
    w_offset = GAP + 2 * rng.permutation(terms)
    w_memory = np.full(2 * terms + GAP, np.nan, dtype)
    w_memory[w_offset] = w
    short = [(count, rows) for count in counts if count <= 2 * lanes for rows in range(most_rows + 1)]
    long = [(count, i % 4) for i, count in enumerate(counts) if count > 2 * lanes]
    for i, (count, rows) in enumerate(short + long):
        x = place(rng, values[:rows, :, :count], -(-count // lanes) * lanes, upwards=i % 3 == 0)
        y = Target(rows, count, start, dtype)
        run_stencil(name, w_memory, w_offset, x, y, rows, count, accumulate, added)
        y.check(expected)


@each_target
@both_dtypes
def test_one_stencil_or_several_cut_at_chunks(name, dtype):
    rng = np.random.default_rng(SEED)
    lanes = lanes_of(name, dtype)
    terms, rows, count = 2 * CHUNK + 5, 2, 2 * lanes + 1
    w, bias = draw(rng, terms, dtype), draw(rng, 1, dtype)
    values = draw(rng, (rows, terms, count), dtype)
    x = place(rng, values, 3 * lanes, upwards=False)
    y = Target(rows, count, None, dtype)
    for first, last in [(0, CHUNK), (CHUNK, 2 * CHUNK), (2 * CHUNK, terms)]:
        run_stencil(
            name, w, np.arange(first, last), x._replace(offset=x.offset[first:last].copy()), y, rows, count,
            first > 0, bias if last == terms else None,
        )  # fmt: skip
    y.check(stencil_expected(name, w, values, None, bias))


def run_window(name, w, x, kernel_rows, row_step, y, rows, count, accumulate, bias):
    return testing.window(
        name, w.dtype == np.float64, w, x.memory, x.start, x.row, x.offset, kernel_rows, row_step,
        y.memory, y.row, rows, count, accumulate, bias,
    )  # fmt: skip


def window_terms(values, size, row_step, rows):
    """values: rows of x, shifts, lanes; gives rows of y, taps, lanes."""
    taps = [values[i : i + (rows - 1) * row_step + 1 : row_step] for i in range(size)]
    return np.concatenate(taps, axis=1)


@each_target
@both_dtypes
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("row_step", [1, 2])
@pytest.mark.parametrize("accumulate", no_yes)
@pytest.mark.parametrize("bias", no_yes)
def test_window_is_the_stencil_of_its_taps(name, dtype, size, row_step, accumulate, bias):
    """Blocks of four rows and what is left of them; the plan's bits, and those of the other kernel."""
    rng = np.random.default_rng(SEED + size)
    lanes = lanes_of(name, dtype)
    most_rows, most = 9, max(2 * lanes + 1, 19)
    w = draw(rng, size * size, dtype)
    values = draw(rng, ((most_rows - 1) * row_step + size, size, most), dtype)
    start = draw(rng, (most_rows, most), dtype) if accumulate else None
    added = draw(rng, 1, dtype) if bias else None
    expected = stencil_expected(name, w, window_terms(values, size, row_step, most_rows), start, added)
    for rows in (1, 3, 4, 5, 8, 9):
        for count in edges(lanes, 19):
            x_rows = (rows - 1) * row_step + size
            x = place(
                rng, values[:x_rows, :, :count], -(-count // lanes) * lanes, upwards=bool(rng.integers(2))
            )
            y = Target(rows, count, start, dtype)
            assert run_window(name, w, x, size, row_step, y, rows, count, accumulate, added) is True
            y.check(expected)

            offset = (np.arange(size)[:, None] * x.row + x.offset).ravel()
            other = Target(rows, count, start, dtype)
            same = x._replace(row=row_step * x.row, offset=offset)
            run_stencil(name, w, np.arange(size * size), same, other, rows, count, accumulate, added)
            assert_same_bits(other.memory, y.memory)


@each_target
@both_dtypes
@pytest.mark.parametrize(
    ("kernel_rows", "columns", "row_step"),
    [(1, 1, 1), (2, 2, 1), (4, 4, 2), (6, 6, 1), (9, 9, 1), (11, 11, 1), (3, 5, 1), (7, 3, 2), (1, 3, 1),
     (3, 1, 1), (3, 3, 3), (5, 5, 4), (7, 7, 3)],
)  # fmt: skip
def test_window_without_code_does_nothing(name, dtype, kernel_rows, columns, row_step):
    rng = np.random.default_rng(SEED)
    lanes = lanes_of(name, dtype)
    rows, count = 5, lanes + 1
    values = draw(rng, ((rows - 1) * row_step + kernel_rows, columns, count), dtype)
    x = place(rng, values, 2 * lanes, upwards=False)
    w = draw(rng, kernel_rows * columns, dtype)
    y = Target(rows, count, None, dtype)
    assert run_window(name, w, x, kernel_rows, row_step, y, rows, count, False, None) is False
    assert np.isnan(y.memory).all()


@each_target
@both_dtypes
@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("accumulate", no_yes)
@pytest.mark.parametrize("bias", no_yes)
def test_channels(name, dtype, terms, accumulate, bias):
    """Every number of vectors, in fours of pixels and single ones, which may share what they see."""
    rng = np.random.default_rng(SEED + terms)
    lanes = lanes_of(name, dtype)
    counts = [*edges(lanes, 5), 3 * lanes - 1, 8 * lanes, 11 * lanes + 1]
    most_pixels = 6
    w = draw(rng, (terms, counts[-1]), dtype)
    values = draw(rng, (terms, most_pixels, counts[-1]), dtype)
    values[::3] = values[::3, :1]  # these do not move from pixel to pixel
    start = draw(rng, (most_pixels, counts[-1]), dtype) if accumulate else None
    added = draw(rng, counts[-1], dtype) if bias else None
    seen = values.transpose(1, 0, 2)  # by each pixel
    expected = emulation.sums(name, np.broadcast_to(w, seen.shape), seen, start)
    expected = expected + added if bias else expected
    for i, count in enumerate(counts):
        pixels = i % (most_pixels + 1)
        x = np.full((terms, most_pixels, count + GAP), np.nan, dtype)
        x[..., :count] = values[..., :count]
        w_memory = np.full((terms, count + GAP), np.nan, dtype)
        w_memory[:, :count] = w[:, :count]
        y = Target(pixels, count, start, dtype)
        pixel = count + GAP
        first, step = np.arange(terms) * most_pixels * pixel, np.where(np.arange(terms) % 3, pixel, 0)
        testing.channels(
            name, dtype is np.float64, w_memory, pixel, x, first, step, y.memory, y.row,
            pixels, count, accumulate, None if added is None else added[:count].copy(),
        )  # fmt: skip
        y.check(expected)


@each_target
@both_dtypes
@pytest.mark.parametrize("taps", TAPS)
def test_correlate(name, dtype, taps):
    """Every group of taps; each lane's sum to the bit, and nothing of what lies beyond a row."""
    rng = np.random.default_rng(SEED + taps)
    lanes = lanes_of(name, dtype)
    for i, count in enumerate([0, *edges(lanes, 37)]):
        for rows in (0, 1, 3):
            dy = draw(rng, (rows, count), dtype)
            values = draw(rng, (rows, taps, count), dtype)
            dy_memory = np.full((rows, count + GAP), np.nan, dtype)
            dy_memory[:, :count] = dy
            x = place(rng, values, count, upwards=i % 2 == 0)
            sums = np.full((taps + 2, lanes), np.nan, dtype)
            sums[1:-1] = draw(rng, (taps, lanes), dtype)
            expected = sums.copy()
            expected[1:-1] = emulation.correlate(name, dy, values.transpose(1, 0, 2), sums[1:-1])
            testing.correlate(
                name, dtype is np.float64, dy_memory, count + GAP, x.memory, x.start, x.row, x.offset,
                rows, count, sums[1:],
            )  # fmt: skip
            assert_same_bits(sums, expected)


@each_target
@both_dtypes
@pytest.mark.parametrize("taps", [0, 1, 3, 5])
@pytest.mark.parametrize("lines", [1, 2, 3])
def test_correlate_channels(name, dtype, taps, lines):
    """Each channel has the bits of `correlate`: each remainder of pixels, and pixels apart in memory."""
    rng = np.random.default_rng(SEED + taps)
    lanes, line = lanes_of(name, dtype), 64 // np.dtype(dtype).itemsize
    for i, count in enumerate([*range(1, lanes + 2), 2 * lanes + 1]):
        rows = i % 3
        dy = np.full((rows, count, line), np.nan, dtype)
        x = np.full((taps, rows, count, lines * line), np.nan, dtype)
        dy[..., :lanes] = draw(rng, (rows, count, lanes), dtype)
        x[..., :lanes] = draw(rng, (taps, rows, count, lanes), dtype)
        sums = np.full((taps + 1, lanes, lanes), np.nan, dtype)
        sums[:-1] = draw(rng, (taps, lanes, lanes), dtype)
        expected = sums.copy()
        for lane in range(lanes):
            expected[:-1, :, lane] = emulation.correlate(
                name, dy[..., lane], x[..., lane], sums[:-1, :, lane]
            )
        tap = np.arange(taps) * rows * count * lines * line
        testing.correlate_channels(
            name, dtype is np.float64, dy, count * line, x, 0, count * lines * line, lines, tap,
            rows, count, sums,
        )  # fmt: skip
        assert_same_bits(sums, expected)


@each_target
@pytest.mark.parametrize("kernel", ["stencil", "window", "correlate"])
def test_doubles_are_fused_where_the_target_has_it(name, kernel):
    """Full precision, where the product of two doubles is not exact: by rational arithmetic."""
    rng = np.random.default_rng(SEED)
    lanes = lanes_of(name, np.float64)
    rows, size, count = 1, 3, lanes + 1
    if kernel == "correlate":
        dy, values = rng.standard_normal((3, count)), rng.standard_normal((3, 4, count))
        x = place(rng, values, count, upwards=False)
        start = rng.standard_normal((4, lanes))
        result = start.copy()
        testing.correlate(name, True, dy, count, x.memory, x.start, x.row, x.offset, 3, count, result)
        emulate = lambda target: emulation.correlate(target, dy, values.transpose(1, 0, 2), start)  # noqa: E731
    else:
        w, values = rng.standard_normal(size * size), rng.standard_normal((size, size, count))
        x = place(rng, values, 2 * lanes, upwards=False)
        y = Target(rows, count, None, np.float64)
        if kernel == "window":
            assert run_window(name, w, x, size, 1, y, rows, count, False, None)
        else:
            offset = (np.arange(size)[:, None] * x.row + x.offset).ravel()
            run_stencil(
                name, w, np.arange(size * size), x._replace(offset=offset), y, rows, count, False, None
            )
        result = y.memory[y.inner]
        terms = window_terms(values, size, 1, rows)
        emulate = lambda target: stencil_expected(target, w, terms, None, None)  # noqa: E731
    assert_same_bits(result, emulate(name))
    other = TARGETS[-1] if name in emulation.UNFUSED else emulation.UNFUSED[0]
    if other != name:
        assert np.any(result != emulate(other)), "fused and unfused must differ"


@each_target
@both_dtypes
@pytest.mark.parametrize("step", [-3, -2, -1, 0, 1, 2, 3])
def test_pad(name, dtype, step):
    """Zeros, a run of the source and zeros; a row spills less than a vector, and the next one mends it."""
    rng = np.random.default_rng(SEED + step)
    lanes = lanes_of(name, dtype)
    for width in [0, *edges(lanes, 37)]:
        marks = sorted({0, 1, lanes - 1, lanes, width - 1, width} & set(range(width + 1)))
        for low, high in [(a, b) for a in marks for b in marks if a <= b]:
            rows = int(rng.integers(0, 4))
            row = width + int(rng.choice([0, 1, lanes + GAP]))
            reads = np.arange(low, high) * step
            span = int(np.ptp(reads)) + 1 if reads.size else 0
            # Each row of the source ends with the last element that is read, before a gap of NaN; the last
            # one ends the memory.
            source = np.full((rows, span + GAP), np.nan, dtype)
            upwards = bool(rng.integers(2))
            first = GAP - (int(reads.min()) if reads.size else 0)
            lines = source[::-1] if upwards else source
            lines[:, first + reads] = draw(rng, (rows, reads.size), dtype)
            expected = np.zeros((rows, width), dtype)
            expected[:, low:high] = lines[:, first + reads]
            if upwards:
                first += max(rows - 1, 0) * source.shape[1]
            room = np.full(max(rows, 1) * row + width + lanes + SPARE, np.nan, dtype)
            testing.pad(
                name, dtype is np.float64, room[GAP:], row, source, first,
                (-1 if upwards else 1) * source.shape[1], step, rows, width, low, high,
            )  # fmt: skip
            free = np.ones(room.size, bool)  # of any write
            for r in range(rows):
                begin = GAP + r * row
                assert_same_bits(room[begin : begin + width], expected[r])
                free[begin : begin + width + lanes] = False
            assert np.isnan(room[free]).all()


@each_target
@both_dtypes
@pytest.mark.parametrize("step", [-3, -2, -1, 0, 1, 2, 3, 5])
def test_collect(name, dtype, step):
    """Every count up to beyond two vectors, from the first to the very last element of the memory."""
    rng = np.random.default_rng(SEED)
    lanes = lanes_of(name, dtype)
    for count in range(2 * lanes + 3):
        reads = np.arange(count) * step
        start = -int(reads.min()) if count else 0
        source = aligned(int(np.ptp(reads)) + 1 if count else 0, dtype)
        source[start + reads] = draw(rng, count, dtype)
        room = np.full(GAP + count + SPARE, np.nan, dtype)
        expected = room.copy()
        expected[GAP : GAP + count] = source[start + reads]
        testing.collect(name, dtype is np.float64, room[GAP:], source, start, step, count)
        assert_same_bits(room, expected)


@each_target
def test_arguments_outside_the_memory_are_refused(name):
    """The tests' own safety net: a wrong test is an error, not a crash."""
    few, many, step = np.zeros(4, np.float32), np.zeros(640, np.float32), np.zeros(1, np.int64)
    nine = np.arange(3)
    for argument, call in {
        "x": lambda: testing.stencil(name, False, many, step, few, 4, 4, step, many, 1, 1, 1, False, None),
        "w": lambda: testing.stencil(
            name, False, few, step + 4, many, 0, 4, step, many, 1, 1, 1, False, None
        ),
        "y": lambda: testing.window(name, False, many, many, 0, 9, nine, 3, 1, few, 4, 2, 4, False, None),
        "dy": lambda: testing.correlate(name, False, few, 1, many, 0, 4, step, 1, 5, many),
        "sums": lambda: testing.correlate(name, False, many, 1, many, 0, 4, step, 1, 5, few[:1]),
        "source": lambda: testing.pad(name, False, many, 9, few, 2, -1, -2, 1, 9, 1, 3),
        "target": lambda: testing.collect(name, False, few, many, 0, 1, 5),
    }.items():
        with pytest.raises(ValueError, match=rf"^{argument}$"):
            call()
