"""The packed product where its paths part: axes taken together, factors packed, tables made in parts."""

from functools import cache

import numpy as np
import pytest

import windrow as wr
from tests.choice import only
from tests.problems import channels_last, scrambled
from tests.tolerances import reserved
from windrow import _core, reference

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def integers(rng, shape, dtype):
    """Small enough for every sum to be exact."""
    return rng.integers(-4, 5, shape).astype(dtype)


@DTYPES
@pytest.mark.parametrize("size", [(7, 7), (5, 3, 7), (49,), (1, 49), (49, 1)])
def test_one_tap_joins_axes_that_follow_one_another(target, dtype, size):
    """The same bits where rows and columns are one axis and where gaps, or another order, keep them apart."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((2, 130, *size)).astype(dtype)
    w = rng.standard_normal((100, 130, *(1 for _ in size))).astype(dtype)
    y = wr.conv(x, w)
    dx = wr.conv_grad_input(y, w, x.shape)
    for other in (scrambled(rng, x), channels_last(x)):
        assert wr.conv(other, w).tobytes() == y.tobytes()
    for other in (scrambled(rng, y), channels_last(y)):
        assert wr.conv_grad_input(other, w, x.shape).tobytes() == dx.tobytes()
    wide = np.full((*x.shape[:-1], size[-1] + 1), np.nan, dtype)[..., :-1]
    assert wr.conv(x, w, out=scrambled(rng, y)).tobytes() == y.tobytes()
    assert wr.conv_grad_input(y, w, x.shape, out=wide).tobytes() == dx.tobytes()
    x, w = integers(rng, x.shape, dtype), integers(rng, w.shape, dtype)
    np.testing.assert_array_equal(wr.conv(x, w), reference.conv(x, w))


@DTYPES
@pytest.mark.parametrize("rows", [1, 5, 64, 211])
@pytest.mark.parametrize("stride", [1, 2])
def test_factors_are_packed_without_a_change_of_bits(target, dtype, rows, stride):
    """dx under one tap: w is packed where its rows lie side by side, and read in place elsewhere."""
    rng = np.random.default_rng(8)
    x_shape, w_shape = (1, rows, 23, 22), (259, rows, 1, 1)
    w = rng.standard_normal(w_shape).astype(dtype)
    dy = wr.conv(rng.standard_normal(x_shape).astype(dtype), w, stride=stride)
    dx = wr.conv_grad_input(dy, w, x_shape, stride=stride)
    in_place = np.full((259, rows, 1, 2), np.nan, dtype)[..., :1]
    in_place[...] = w
    assert wr.conv_grad_input(dy, in_place, x_shape, stride=stride).tobytes() == dx.tobytes()
    small = wr.conv_grad_input(dy, w, x_shape, stride=stride, max_workspace=60_000)
    assert small.tobytes() == dx.tobytes()
    added = wr.conv_grad_input(dy, w, x_shape, stride=stride, out=np.ones_like(dx), accumulate=True)
    w, dy = integers(rng, w_shape, dtype), integers(rng, dy.shape, dtype)
    expected = reference.conv_grad_input(dy, w, x_shape, stride=stride)
    np.testing.assert_array_equal(wr.conv_grad_input(dy, w, x_shape, stride=stride), expected)
    np.testing.assert_allclose(added, dx + 1, rtol=0, atol=float(np.abs(dx).max() + 2) * np.finfo(dtype).eps)


@DTYPES
@pytest.mark.parametrize("size", [(2, 8), (7, 32), (50, 96)])
@pytest.mark.parametrize("places", [(0, 4), (4, 4), (13, 4), (4, 0)])
def test_planes_are_read_in_place_from_any_address(target, dtype, size, places):
    """Blocks move with the cache lines of x: the same bits, and nothing is written outside of y."""
    rng = np.random.default_rng(17)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 12, *size), (10, 12, 1, 1)))
    y = wr.conv(x, w)
    shifted, out = (at_place(a, place) for a, place in zip((x, y), places, strict=True))
    with only("strip_product"):
        wr.conv(shifted, w, out=out)
    assert out.tobytes() == y.tobytes()
    out[...] = np.nan
    assert np.isnan(out.base).all()


def at_place(array, place):
    """A copy that begins so many elements after a cache line, in memory of NaN."""
    room = np.full(array.size + 64, np.nan, array.dtype)
    place += -room.ctypes.data % 64 // room.itemsize
    view = room[place : place + array.size].reshape(array.shape)
    view[...] = array
    return view


@cache
def many_taps(kernel):
    """Operands and results that both dtypes hold; the specification takes seconds for them."""
    rng = np.random.default_rng(9)
    x_shape = (2, 3, kernel[0] + 3, kernel[1] + 4)
    x, w = integers(rng, x_shape, np.float64), integers(rng, (40, 3, *kernel), np.float64)
    y = reference.conv(x, w, padding=1)
    dy = integers(rng, y.shape, np.float64)
    return x, w, dy, y, reference.conv_grad_input(dy, w, x_shape, padding=1)


@DTYPES
@pytest.mark.parametrize("kernel", [(3, 401), (35, 35)])
def test_windows_of_very_many_taps(target, dtype, kernel):
    """A table has a chunk of the taps at a time, of one row of the window."""
    x, w, dy, y, dx = (array.astype(dtype) for array in many_taps(kernel))
    np.testing.assert_array_equal(wr.conv(x, w, padding=1), y)
    np.testing.assert_array_equal(wr.conv_grad_input(dy, w, x.shape, padding=1), dx)


@DTYPES
@pytest.mark.parametrize("w_shape", [(40, 32, 3, 3), (40, 2, 31, 31), (300, 32, 1, 1)])
def test_scratch_is_what_explain_tells(target, dtype, w_shape):
    """Panels, their tables, packed factors: all of it lies in the arena, and no more."""
    rng = np.random.default_rng(10)
    x_shape = (3, w_shape[1], 40, 33)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
    dy = wr.conv(x, w)
    calls = {"conv": lambda: wr.conv(x, w), "conv_grad_input": lambda: wr.conv_grad_input(dy, w, x_shape)}
    with wr.num_threads(1):
        for operation, call in calls.items():
            told = wr.explain(operation, x_shape, w_shape, dtype=dtype, threads=1)["workspace_bytes"]
            wr.release_workspaces()
            call()
            call()  # an arena that needed several blocks is now one
            assert _core.workspace_bytes() <= reserved(told + 16 * 64)  # each array begins at a cache line


@DTYPES
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("candidate", ["window_product", "filter_product"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((2, 40, 17, 19), (70, 40, 3, 3), {"padding": 1}),
        ((1, 24, 30, 30), (96, 12, 2, 5), {"stride": (2, 1), "groups": 2}),
        ((1, 20, 6, 7, 8), (33, 20, 3, 2, 3), {}),
        ((1, 3, 40, 40), (37, 3, 7, 7), {"padding": 3, "stride": 2}),  # chunks that begin within a channel
        ((1, 51, 33, 33), (40, 51, 3, 3), {"dilation": 12, "padding": 12}),  # parts that see some taps only
    ],
)
def test_channels_last_weights(target, dtype, threads, candidate, x_shape, w_shape, options):
    """Their factors are copied tap by tap: the bits are those of C-ordered weights."""
    rng = np.random.default_rng(11)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
    with only("window_product"):
        y = wr.conv(x, w, **options)
    dy = rng.standard_normal(y.shape).astype(dtype)
    with only("window_product"):
        dx = wr.conv_grad_input(dy, w, x.shape, **options)
    w = channels_last(w)
    with only(candidate), wr.num_threads(threads):
        for change in (np.ascontiguousarray, channels_last):
            assert wr.conv(change(x), w, **options).tobytes() == y.tobytes()
            assert wr.conv_grad_input(change(dy), w, x.shape, **options).tobytes() == dx.tobytes()


@DTYPES
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("size", "kernel", "dilation", "padding", "groups"),
    [
        ((33, 33), (3, 3), (12, 12), ((12, 12), (12, 12)), 1),
        ((33, 40), (3, 3), (12, 1), ((12, 12), (0, 2)), 1),
        ((20, 33), (3, 5), (9, 12), ((21, 9), (24, 52)), 2),  # pixels that see no tap at all
        ((1100,), (3,), (700,), ((700, 700),), 1),
        ((7, 12, 13), (3, 3, 3), (5, 6, 6), ((5, 5), (6, 6), (6, 6)), 1),
        ((24, 24), (23, 9), (1, 2), ((11, 11), (8, 8)), 1),  # chunks without a tap
    ],
)
def test_taps_on_zeros_are_left_out_without_a_change_of_bits(
    target, dtype, threads, size, kernel, dilation, padding, groups
):
    """The same bits as on the image with its zeros around it, where nothing can be left out."""
    rng = np.random.default_rng(10)
    taps, pixels = np.prod(kernel), np.prod(size)
    channels = max(17, round(6e5 / taps / pixels)) * 3
    x = rng.standard_normal((2, groups * channels, *size)).astype(dtype)
    w = rng.standard_normal((50 * groups, channels, *kernel)).astype(dtype)
    b = rng.standard_normal(50 * groups).astype(dtype)
    options = {"dilation": dilation, "groups": groups}
    wide = np.pad(x, ((0, 0), (0, 0), *padding))
    with only("window_product"), wr.num_threads(threads):
        y = wr.conv(wide, w, b, **options)
        assert wr.conv(x, w, b, padding=padding, **options).tobytes() == y.tobytes()
        assert wr.conv(channels_last(x), w, b, padding=padding, **options).tobytes() == y.tobytes()
        assert wr.conv(x, scrambled(rng, w), b, padding=padding, **options).tobytes() == y.tobytes()
        layer = wr.prepare_conv(w, b, padding=padding, activation="relu", **options)
        np.testing.assert_array_equal(layer(x), np.maximum(y, 0))
        # dx is such a product on dy, with zeros of its own around it.
        dy = rng.standard_normal(y.shape).astype(dtype)
        dx = wr.conv_grad_input(dy, w, x.shape, padding=padding, **options)
        added = np.ones_like(dx)
        wr.conv_grad_input(dy, w, x.shape, padding=padding, out=added, accumulate=True, **options)
        with only("strip_product"):  # which leaves nothing out
            whole = wr.conv_grad_input(dy, w, x.shape, padding=padding, **options)
            assert whole.tobytes() == dx.tobytes()
            whole[...] = 1
            wr.conv_grad_input(dy, w, x.shape, padding=padding, out=whole, accumulate=True, **options)
            assert whole.tobytes() == added.tobytes()
        # A zero times what is not finite counts.
        w[3, 1] = np.inf
        np.testing.assert_array_equal(
            wr.conv(x, w, b, padding=padding, **options), wr.conv(wide, w, b, **options)
        )
