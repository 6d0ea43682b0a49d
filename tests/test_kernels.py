"""Each kernel of each target by name, over the sizes at which its loops end, equal to the bit with NumPy."""

import numpy as np
import pytest

import windrow as wr
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


class ProductCall:
    """Operands of the product kernel in memory with gaps of NaN, which nobody may read or write."""

    def __init__(self, rng, name, dtype, rows, vectors, terms, *, accumulate=False, bias=False, chunk=CHUNK):
        self.name, self.dtype, self.rows, self.vectors, self.chunk = name, dtype, rows, vectors, chunk
        width = vectors * lanes_of(name, dtype)
        self.a = draw(rng, (rows, terms), dtype)
        self.b = draw(rng, (terms, width), dtype)
        self.start = draw(rng, (rows, width), dtype) if accumulate else None
        self.bias = draw(rng, rows, dtype) if bias else None

        gap = 3
        self.a_row = 2 * terms + gap
        self.a_offset = gap + 2 * rng.permutation(terms)
        self.a_memory = np.full(rows * self.a_row + gap, np.nan, dtype)
        for m in range(rows):
            self.a_memory[m * self.a_row + self.a_offset] = self.a[m]
        self.b_offset = gap + (width + gap) * rng.permutation(terms)
        self.b_memory = np.full(terms * (width + gap) + gap, np.nan, dtype)
        for k in range(terms):
            self.b_memory[self.b_offset[k] : self.b_offset[k] + width] = self.b[k]
        self.c_row = width + gap
        self.c_memory = np.full((rows + 1, self.c_row), np.nan, dtype)
        self.guard = np.ones(self.c_memory.shape, bool)
        self.guard[:rows, :width] = False
        if accumulate:
            self.c_memory[:rows, :width] = self.start

    def run(self):
        """The rows and columns of the result, once everything around it is known to be untouched."""
        before = self.c_memory.copy()
        testing.product(
            self.name,
            self.dtype is np.float64,
            self.a_memory,
            self.a_row,
            np.asarray(self.a_offset, np.int64),
            self.b_memory,
            np.asarray(self.b_offset, np.int64),
            self.c_memory,
            self.c_row,
            self.rows,
            self.vectors,
            self.start is not None,
            self.bias,
            self.chunk,
        )
        assert_same_bits(self.c_memory[self.guard], before[self.guard])
        return self.c_memory[~self.guard].reshape(self.rows, -1)

    def expected(self):
        return emulation.product(self.name, self.a, self.b, self.start, self.bias, self.chunk)


@each_target
@both_dtypes
@pytest.mark.parametrize("terms", TERMS)
def test_product_of_every_tile(name, dtype, terms):
    rng = np.random.default_rng(SEED + terms)
    most_rows, most_vectors, _ = testing.tile(name, dtype is np.float64)
    for rows in range(1, most_rows + 1):
        for vectors in range(1, most_vectors + 1):
            accumulate, bias = rng.integers(0, 2, 2).astype(bool)
            call = ProductCall(rng, name, dtype, rows, vectors, terms, accumulate=accumulate, bias=bias)
            assert_same_bits(call.run(), call.expected())


@each_target
@both_dtypes
@pytest.mark.parametrize("terms", [0, 1, CHUNK + 1])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_product_adds_c_first_and_the_bias_last(name, dtype, terms, accumulate, bias):
    rng = np.random.default_rng(SEED)
    call = ProductCall(rng, name, dtype, *testing.tile(name, dtype is np.float64)[:2], terms,
                       accumulate=accumulate, bias=bias)  # fmt: skip
    assert_same_bits(call.run(), call.expected())


@each_target
@both_dtypes
@pytest.mark.parametrize("chunk", [1, 32])
@pytest.mark.parametrize("terms", [0, 1, 31, 32, 33, 96])
def test_product_of_shorter_chunks(name, dtype, chunk, terms):
    """As Winograd's tiles are multiplied, whose partial sums are shorter."""
    rng = np.random.default_rng(SEED + terms)
    for accumulate in (False, True):
        call = ProductCall(rng, name, dtype, *testing.tile(name, dtype is np.float64)[:2], terms,
                           accumulate=accumulate, bias=True, chunk=chunk)  # fmt: skip
        assert_same_bits(call.run(), call.expected())


@each_target
def test_product_of_doubles_is_fused_where_the_target_has_it(name):
    """Full precision, where the product of two doubles is not exact: by rational arithmetic."""
    rng = np.random.default_rng(SEED)
    call = ProductCall(rng, name, np.float64, 2, 1, 9)
    call.a[...] = rng.standard_normal(call.a.shape)
    call.a_memory[call.a_offset] = call.a[0]
    call.a_memory[call.a_row + call.a_offset] = call.a[1]
    call.b[...] = rng.standard_normal(call.b.shape)
    for k, offset in enumerate(call.b_offset):
        call.b_memory[offset : offset + call.b.shape[1]] = call.b[k]
    result = call.run()
    assert_same_bits(result, call.expected())
    other = TARGETS[-1] if name in emulation.UNFUSED else emulation.UNFUSED[0]
    if other != name:
        assert np.any(result != emulation.product(other, call.a, call.b)), "fused and unfused must differ"


@each_target
@both_dtypes
def test_one_call_or_several_cut_at_chunks(name, dtype):
    rng = np.random.default_rng(SEED)
    rows, vectors, lanes = testing.tile(name, dtype is np.float64)
    terms, width = 3 * CHUNK + 5, vectors * lanes
    a, b, bias = (draw(rng, shape, dtype) for shape in [(rows, terms), (terms, width), rows])
    c = np.full((rows, width), np.nan, dtype)
    for first, last in [(0, CHUNK), (CHUNK, 3 * CHUNK), (3 * CHUNK, terms)]:
        steps = np.arange(first, last)
        testing.product(
            name, dtype is np.float64, a, terms, steps, b, steps * width, c, width, rows, vectors,
            first > 0, bias if last == terms else None,
        )  # fmt: skip
    assert_same_bits(c, emulation.product(name, a, b, None, bias))


@each_target
@both_dtypes
def test_product_keeps_ieee_specials(name, dtype):
    """Inf, NaN and zeros of either sign come out as in a plain sum from +0."""
    rows, vectors, lanes = testing.tile(name, dtype is np.float64)
    special = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], dtype)
    a = special[np.arange(rows) % special.size, None]
    b = special[np.arange(vectors * lanes) % special.size][None]
    c = np.empty((rows, vectors * lanes), dtype)
    zero = np.zeros(1, np.int64)
    with np.errstate(invalid="ignore"):
        expected = dtype(0) + a * b
    testing.product(name, dtype is np.float64, a, 1, zero, b, zero, c, c.shape[1], rows, vectors, False, None)
    np.testing.assert_array_equal(c, expected)
    np.testing.assert_array_equal(np.signbit(c[c == 0]), np.signbit(expected[expected == 0]))


@each_target
@both_dtypes
@pytest.mark.parametrize("step", [-3, -2, -1, 0, 1, 2, 3, 5])
@pytest.mark.parametrize("fill", [0.0, -1.5, np.inf])
def test_gather(name, dtype, step, fill):
    """Random vectors of up to three disjoint segments; whatever a lane may not read is NaN."""
    rng = np.random.default_rng(SEED + step)
    lanes = lanes_of(name, dtype)
    span = (lanes - 1) * abs(step) + 1
    for count in (0, 1, 2, 13):
        source = np.full(4 * span + 64, np.nan, dtype)
        expected = np.full(count * lanes, fill, dtype)
        offsets, masks, first = [], [], [0]
        for i in range(count):
            owner = rng.integers(0, 4, lanes)  # the segment that each lane belongs to; 3: none
            for segment in range(rng.integers(0, 4)):
                picked = np.flatnonzero(owner == segment)
                if picked.size == 0:
                    continue
                reads = picked * step
                offset = int(rng.integers(-reads.min(), source.size - reads.max()))
                if rng.random() < 0.5:  # at the very end of memory, or at its very start
                    offset = source.size - 1 - reads.max() if rng.random() < 0.5 else -reads.min()
                fresh = np.isnan(source[offset + reads])
                source[(offset + reads)[fresh]] = draw(rng, int(fresh.sum()), dtype)
                expected[i * lanes + picked] = source[offset + reads]
                offsets.append(offset)
                masks.append(int(np.bitwise_or.reduce(1 << picked)))
            first.append(len(offsets))
        # Two lanes may have asked for one element at step 0: what the kernel reads is what is there now.
        memory = aligned(source.size, dtype)
        memory[:] = source
        target = aligned((count + 1) * lanes, dtype)
        guard = target[count * lanes :].copy()
        numbers = [np.array(values, np.int64) for values in (offsets, masks, first)]
        testing.gather(name, dtype is np.float64, target, memory, *numbers, step, fill)
        assert_same_bits(target[: count * lanes], expected)
        assert_same_bits(target[count * lanes :], guard)


@each_target
@both_dtypes
@pytest.mark.parametrize("step", [1, 2, 3])
def test_spread(name, dtype, step):
    """Every count up to beyond two vectors; nothing between the strided elements is touched."""
    rng = np.random.default_rng(SEED)
    lanes = lanes_of(name, dtype)
    for count in range(2 * lanes + 3):
        source = aligned(count, dtype)
        source[:] = draw(rng, count, dtype)
        room = np.full(max(count, 1) * step + 6, np.nan, dtype)
        testing.spread(name, dtype is np.float64, room, step, source, count)
        expected = np.full_like(room, np.nan)
        expected[: count * step : step] = source
        assert_same_bits(room, expected)


@each_target
@both_dtypes
@pytest.mark.parametrize("runs", [1, 2, 5])
def test_runs(name, dtype, runs):
    """Every length up to beyond two vectors; only what a row spills after its end is free."""
    rng = np.random.default_rng(SEED)
    lanes = lanes_of(name, dtype)
    for count in range(1, 2 * lanes + 3):
        rows, row = 4, runs * count + 3
        source = draw(rng, 5 * count + 40 + lanes, dtype)
        start, offset = rng.integers(0, 40, rows), rng.integers(0, 4 * count, runs)
        room = np.full(rows * row + lanes, np.nan, dtype)
        testing.runs(name, dtype is np.float64, room, row, source, start, offset, count)
        for i in range(rows):
            expected = np.concatenate([source[start[i] + at :][:count] for at in offset])
            assert_same_bits(room[i * row :][: runs * count], expected)
        assert np.isnan(room[(rows - 1) * row + runs * count + lanes :]).all()


@each_target
@both_dtypes
@pytest.mark.parametrize("of_vectors", [False, True])
def test_add_lanes(name, dtype, of_vectors):
    """In pairs, lane l and the one half a vector after it, and so on."""
    rng = np.random.default_rng(SEED)
    lanes = lanes_of(name, dtype)
    width = lanes if of_vectors else 1
    for count in (*range(5), lanes - 1, lanes, 2 * lanes + 1):
        sums, totals = draw(rng, (count, lanes, width), dtype), draw(rng, count * width + 1, dtype)
        tree = sums
        while tree.shape[1] > 1:
            tree = tree[:, : tree.shape[1] // 2] + tree[:, tree.shape[1] // 2 :]
        expected = totals.copy()
        expected[: count * width] += tree.reshape(-1)
        testing.add_lanes(name, dtype is np.float64, sums, count, totals, of_vectors)
        assert_same_bits(totals, expected)


@each_target
@both_dtypes
@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (-0.5, 0.25), (-np.inf, -0.0), (0.25, 0.25)])
def test_limit(name, dtype, low, high):
    """Every count up to beyond two vectors; NaN stays, as -0 at a limit of 0, and what is between rows."""
    rng = np.random.default_rng(SEED)
    lanes = lanes_of(name, dtype)
    for count in range(2 * lanes + 3):
        room = draw(rng, 3 * (count + 2), dtype).reshape(3, count + 2)
        room.flat[::5] = np.resize(np.array([np.nan, -0.0, 0.0, np.inf, -np.inf], dtype), room.flat[::5].size)
        expected = room.copy()
        inside = expected[:, :count]
        inside[inside < low] = low
        inside[inside > high] = high
        testing.limit(name, dtype is np.float64, room, count + 2, 3, count, low, high)
        assert_same_bits(room, expected)


@each_target
@both_dtypes
@pytest.mark.parametrize("less", [0, 1])
def test_interleave(name, dtype, less):
    """Every count up to beyond two vectors; nothing is written beyond the last element."""
    rng = np.random.default_rng(SEED)
    lanes = lanes_of(name, dtype)
    for evens in range(less, 2 * lanes + 3):
        rows = np.full((2, -(-evens // lanes) * lanes), np.nan, dtype)
        rows[0, :evens] = draw(rng, evens, dtype)
        rows[1, : evens - less] = draw(rng, evens - less, dtype)
        room = np.full(2 * evens + 5, np.nan, dtype)
        testing.interleave(
            name, dtype is np.float64, room, rows[0].copy(), rows[1].copy(), evens, evens - less
        )
        expected = np.full_like(room, np.nan)
        expected[: 2 * evens : 2] = rows[0, :evens]
        expected[1 : 2 * (evens - less) : 2] = rows[1, : evens - less]
        assert_same_bits(room, expected)


@each_target
@both_dtypes
def test_transpose(name, dtype):
    rng = np.random.default_rng(SEED)
    block = 64 // np.dtype(dtype).itemsize
    sizes = (0, 1, block - 1, block, block + 1, 2 * block + 1, 53)
    for rows in sizes:
        for columns in sizes:
            source = np.full((columns + 1, rows + 2), np.nan, dtype)
            source[:columns, :rows] = draw(rng, (columns, rows), dtype)
            target = np.full((rows + 1, columns + 3), np.nan, dtype)
            testing.transpose(
                name, dtype is np.float64, target, target.shape[1], source, source.shape[1], rows, columns
            )
            assert_same_bits(target[:rows, :columns], source[:columns, :rows].T)
            assert np.isnan(target[rows:]).all()
            assert np.isnan(target[:, columns:]).all()


@both_dtypes
def test_conv_runs_the_target_that_is_forced(target, dtype):
    """Tiles tell the targets apart, and bits tell fused from unfused."""
    rows, vectors, lanes = testing.tile(target, dtype is np.float64)
    plan = wr.explain("conv", (1, 4, 9), (3, 4, 2), dtype=dtype).as_dict()
    assert plan["target"] == target
    assert (plan["MR"], plan["NR"]) == (rows, vectors * lanes)

    rng = np.random.default_rng(SEED)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in [(1, 5, 40), (3, 5, 1)])
    if dtype is np.float64:
        x = np.ascontiguousarray(x[:, :, :7])  # rational arithmetic is slow
    result = wr.conv(x, w)[0]
    assert_same_bits(result, emulation.product(target, w[:, :, 0], x[0]))
    other = TARGETS[-1] if target in emulation.UNFUSED else emulation.UNFUSED[0]
    if other != target:
        assert np.any(result != emulation.product(other, w[:, :, 0], x[0]))


@both_dtypes
def test_conv_at_the_edges_of_its_tiles(target, dtype):
    """Rows, pixels and terms around MR, NR and the chunk, in exact-size arrays: the plan's bits."""
    rng = np.random.default_rng(SEED)
    most_rows, vectors, lanes = testing.tile(target, dtype is np.float64)
    for rows in edges(most_rows, 13):
        for pixels in edges(vectors * lanes, 53):
            for channels, taps in [(1, 1), (CHUNK - 1, 1), (CHUNK // 2, 2), (43, 3), (2 * CHUNK + 1, 1)]:
                if channels * taps > 1 and rng.random() < 0.7:  # every pair of edges, a third of the triples
                    continue
                x = draw(rng, (1, channels, pixels + taps - 1), dtype)
                w = draw(rng, (rows, channels, taps), dtype)
                b = draw(rng, rows, dtype)
                columns = np.lib.stride_tricks.sliding_window_view(x[0], taps, axis=1)  # c, l, k
                columns = columns.transpose(0, 2, 1).reshape(channels * taps, pixels)
                expected = emulation.product(target, w.reshape(rows, -1), columns, None, b)
                assert_same_bits(wr.conv(x, w, b)[0], expected)


@each_target
def test_arguments_outside_the_memory_are_refused(name):
    """The tests' own safety net: a wrong test is an error, not a crash."""
    a = np.zeros(4, np.float32)
    c = np.zeros(64, np.float32)
    step = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match=r"^b$"):
        testing.product(name, False, a, 1, step, a[:1], step, c, 64, 1, 1, False, None)
    with pytest.raises(ValueError, match=r"^source$"):
        testing.gather(name, False, c, a, step + 4, step + 1, np.array([0, 1]), 1, 0.0)
    with pytest.raises(ValueError, match=r"^target$"):
        testing.transpose(name, False, c, 64, a, 2, 2, 2)
