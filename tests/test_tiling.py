"""Patch round trips: where patches lie, and what comes back, against loops over the patches."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import windrow as wr
from tests.errors import raises


@st.composite
def tilings(draw):
    rank = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    stride = tuple(draw(st.integers(1, 6)) for _ in range(rank))
    remainder = draw(st.sampled_from(["pad", "shift", "drop"]))
    least = [1 if remainder == "pad" else d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(low + draw(st.integers(0, 9 if rank < 3 else 4)) for low in least)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *size)
    return wr.patches(shape, kernel, stride=stride, dilation=dilation, remainder=remainder), dilation, stride


def pixels(tiles, dilation, position):
    """The pixels of each axis that a patch covers."""
    return [
        start + d * np.arange(k) for start, k, d in zip(position, tiles.kernel_size, dilation, strict=True)
    ]


@settings(max_examples=150)
@given(tilings(), st.integers(0, 2**32 - 1))
def test_round_trips(case, seed):
    tiles, dilation, stride = case
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 99, tiles.x_shape).astype(float)
    size = x.shape[2:]
    span = [d * (k - 1) + 1 for d, k in zip(dilation, tiles.kernel_size, strict=True)]
    # Positions: whole steps, and at most one more.
    for axis, (firsts, pace) in enumerate(zip(zip(*tiles.positions, strict=True), stride, strict=True)):
        starts = sorted(set(firsts))
        assert starts[0] == 0
        steps = np.diff(starts)
        assert (steps[:-1] == pace).all()
        if tiles.remainder == "shift":
            assert starts[-1] + span[axis] == size[axis] or len(starts) == 1
        elif len(steps):
            assert steps[-1] == pace
        if tiles.remainder != "drop" and pace <= span[axis]:
            assert starts[-1] + span[axis] >= size[axis]
    assert tiles.count == len(tiles.positions) == np.prod(tiles.grid)

    padded = np.full((*x.shape[:2], *(n + 40 for n in size)), -7.0)
    padded[(..., *(slice(0, n) for n in size))] = x
    p = tiles.unfold(x, fill=-7)
    assert p.shape == tiles.shape
    total = np.zeros_like(padded)
    count = np.zeros_like(padded)
    largest = np.full_like(padded, -np.inf)
    for i, position in enumerate(tiles.positions):
        place = np.ix_(*pixels(tiles, dilation, position))
        np.testing.assert_array_equal(p[:, i], padded[(..., *place)])
        total[(..., *place)] += p[:, i]
        count[(..., *place)] += 1
        largest[(..., *place)] = np.maximum(largest[(..., *place)], p[:, i])
    inside = (..., *(slice(0, n) for n in size))
    total, count, largest = total[inside], count[inside], largest[inside]
    np.testing.assert_array_equal(tiles.fold(p), total)
    np.testing.assert_array_equal(tiles.fold(p, reduce="mean", uncovered=5), np.where(count, x, 5))
    np.testing.assert_array_equal(tiles.fold(p, reduce="max", uncovered=5), np.where(count, largest, 5))
    ints = tiles.fold(-p.astype(np.int16), reduce="min", uncovered=3)
    np.testing.assert_array_equal(ints, np.where(count, -largest, 3).astype(np.int16))
    batch = int(rng.integers(1, 20))
    seen = []

    def double(part):
        seen.append(len(part))
        return 2 * part

    np.testing.assert_array_equal(tiles.map(double, x, batch=batch, uncovered=5), np.where(count, 2 * x, 5))
    assert max(seen) <= batch
    assert sum(seen) == tiles.count * len(x)
    window = tuple(rng.integers(1, 4, k) for k in tiles.kernel_size)
    blended = tiles.fold(p, window=window, uncovered=5)
    np.testing.assert_allclose(blended, np.where(count, x, 5), rtol=64 * np.finfo(float).eps)


def test_other_channels_and_types():
    x = np.random.default_rng(0).integers(0, 9, (2, 3, 7, 9)).astype(np.float32)
    tiles = wr.patches(x.shape, 3, stride=2, remainder="shift")
    gray = tiles.map(lambda p: p.mean(axis=1, keepdims=True, dtype=np.float64), x, batch=5)
    assert gray.dtype == np.float64
    np.testing.assert_allclose(
        gray, x.mean(axis=1, keepdims=True, dtype=np.float64), rtol=16 * np.finfo(float).eps
    )
    halves = tiles.fold(tiles.unfold(x.astype(np.float16)), reduce="mean")
    assert halves.dtype == np.float16
    np.testing.assert_array_equal(halves, x)
    out = np.zeros_like(x)
    assert tiles.fold(tiles.unfold(x), reduce="mean", out=out) is out
    np.testing.assert_array_equal(out, x)
    room = np.zeros(tiles.shape, np.float32)
    assert tiles.unfold(x, out=room) is room
    assert repr(tiles) == "patches((2, 3, 7, 9), (3, 3), stride=(2, 2), dilation=(1, 1), remainder='shift')"


def test_memory_of_map_is_bounded():
    x = np.ones((1, 1, 400, 400), np.float32)
    tiles = wr.patches(x.shape, 16, stride=1)  # 165 MB of patches
    tracemalloc.start()
    tiles.map(lambda p: p, x, batch=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * x.nbytes


def test_errors():
    raises(
        ValueError,
        "remainder: expected 'pad', 'shift' or 'drop', got 'wrap'",
        wr.patches, (1, 1, 5, 5), 3, remainder="wrap",
    )  # fmt: skip
    raises(
        ValueError,
        "kernel_size: expected a window of at most 2 on spatial axis 0 (size 2 + padding 0 + 0), "
        "got 3 (kernel 3, dilation 1): 1 too large",
        wr.patches, (1, 1, 2, 5), 3, remainder="shift",
    )  # fmt: skip
    tiles = wr.patches((1, 1, 5, 5), 3, stride=2)
    raises(
        ValueError, "x: expected shape (1, 1, 5, 5), got (1, 1, 5, 6)", tiles.unfold, np.zeros((1, 1, 5, 6))
    )
    raises(
        ValueError,
        "p: expected shape (1, 4, 1, 3, 3), got (1, 5, 1, 3, 3)",
        tiles.fold, np.zeros((1, 5, 1, 3, 3)),
    )  # fmt: skip
    raises(
        ValueError,
        "f: expected shape (4, 1, 3, 3), got (4, 1, 3, 2)",
        tiles.map, lambda p: p[..., :2], np.zeros((1, 1, 5, 5)),
    )  # fmt: skip
    raises(ValueError, "batch: expected at least 1, got 0", tiles.map, abs, np.zeros((1, 1, 5, 5)), batch=0)
    with pytest.raises(TypeError, match=r"^p: expected floats or complex for reduce='mean', got int64"):
        tiles.fold(np.zeros((1, 4, 1, 3, 3), int), reduce="mean")
