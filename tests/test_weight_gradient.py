"""Weight gradients of few channels or filters: lanes are filters, taps and channels, or the taps of a row."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given

import windrow as wr
from tests.choice import WEIGHT_CANDIDATES, only
from tests.examples import per_target
from tests.problems import channels_last, problems, scrambled
from windrow import _core, reference

LAYERS = [
    ((9, 3, 31, 31), (25, 3, 3, 3), {"stride": 2, "padding": 1}),  # filters that fill no vector
    ((5, 1, 28, 28), (6, 1, 5, 5), {"padding": 2}),
    ((3, 2, 9, 40), (10, 1, 3, 2), {"groups": 2}),
    ((2, 32, 14, 15), (32, 8, 3, 3), {"padding": 1, "groups": 4}),  # taps of a row as lanes
    ((2, 16, 20, 17), (16, 4, 3, 3), {"stride": 2, "padding": 1, "groups": 4}),
    ((1, 6, 300), (17, 6, 3), {"padding": ((2, 0),)}),
    ((3, 5, 4, 5, 6), (9, 5, 3, 3, 2), {"padding": 1}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), LAYERS)
def test_every_format_has_the_bits_of_c_order_and_integers_are_exact(
    target, x_shape, w_shape, options, dtype
):
    rng = np.random.default_rng(5)
    y_shape = wr.conv(np.zeros(x_shape, dtype), np.zeros(w_shape, dtype), **options).shape
    x, dy = (rng.integers(-3, 4, shape).astype(dtype) for shape in (x_shape, y_shape))
    expected = reference.conv_grad_weight(dy, x, w_shape, **options)
    np.testing.assert_array_equal(wr.conv_grad_weight(dy, x, w_shape, **options), expected)
    x, dy = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, y_shape))
    dw = wr.conv_grad_weight(dy, x, w_shape, **options)
    for change in (channels_last, lambda a: scrambled(rng, a)):
        for operands in ((change(dy), x), (dy, change(x)), (change(dy), change(x))):
            np.testing.assert_array_equal(wr.conv_grad_weight(*operands, w_shape, **options), dw)
    limited = wr.conv_grad_weight(dy, x, w_shape, max_workspace=2**40, **options)
    np.testing.assert_allclose(limited, dw, rtol=1e-3, atol=1e-3)


def test_lanes_of_other_pixels_reach_no_sum(target):
    """A vector of 25 filters holds some of the next pixel's: NaN there stays where it belongs."""
    rng = np.random.default_rng(6)
    x = channels_last(rng.standard_normal((2, 3, 9, 9)).astype(np.float32))
    dy = channels_last(rng.standard_normal((2, 25, 9, 9)).astype(np.float32))
    dy[:, 3] = np.nan
    dw = wr.conv_grad_weight(dy, x, (25, 3, 3, 3), padding=1)
    assert np.isnan(dw[3]).all()
    assert np.isfinite(np.delete(dw, 3, axis=0)).all()


@per_target(60)
@given(
    problem=problems(max_channels=40),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_lies_in_the_lanes_the_sums_are_the_same(target, problem, dtype, seed):
    """Each way that can be asked for, and the one that is chosen."""
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal(shape).astype(dtype) for shape in (problem.x_shape, problem.y_shape))
    change = (lambda a: a, channels_last, lambda a: scrambled(rng, a))[seed % 3]
    expected = reference.conv_grad_weight(dy, x, problem.w_shape, **problem.options)
    bound = reference.conv_grad_weight(abs(dy), abs(x), problem.w_shape, **problem.options)
    results = set()
    for name in WEIGHT_CANDIDATES:
        with only(name):
            plan = wr.explain(
                "conv_grad_weight", problem.x_shape, problem.w_shape, dtype=dtype, **problem.options
            )
            event(f"{name}: {plan['in_lanes']}")
            dw = wr.conv_grad_weight(change(dy), change(x), problem.w_shape, **problem.options)
        allowed = plan["roundings"] * np.finfo(dtype).eps * bound
        assert (np.abs(dw - expected) <= allowed).all()
        results.add(dw.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "memory_format", "certain"),
    [
        ((2, 1, 40, 40), (32, 1, 5, 5), "channels_first", {"runs", "side by side", "filters"}),
        ((1, 64, 28, 28), (64, 64, 3, 3), "channels_first", {"runs", "side by side", "filters"}),
        ((1, 32, 28, 28), (32, 1, 3, 3), "channels_first", {"runs", "side by side", "filters"}),
        ((1, 2048, 7, 7), (64, 2048, 1, 1), "channels_last", {"runs", "filters"}),
    ],
)
def test_each_way_can_be_asked_for(target, x_shape, w_shape, memory_format, certain, dtype):
    options = {"groups": x_shape[1] // w_shape[1], "dtype": dtype, "memory_format": memory_format}
    found = set()
    for name in WEIGHT_CANDIDATES:
        with only(name):
            found.add(wr.explain("conv_grad_weight", x_shape, w_shape, **options)["in_lanes"])
    assert certain <= found
    assert len(found) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [64, 320])
def test_x_is_read_in_place_or_copied_as_asked_for(target, channels, dtype):
    found = {}
    for name in WEIGHT_CANDIDATES:
        with only(name):
            plan = wr.explain(
                "conv_grad_weight", (1, channels, 28, 28), (128, channels, 1, 1), dtype=dtype,
                memory_format="channels_last",
            )  # fmt: skip
        found[name] = plan["in_lanes"]
    assert found["runs"].startswith("runs")
    assert found["filters"].startswith("filters") or channels > 256
    assert found["in_place"].endswith("in place")
    assert not found["copied"].endswith("in place")


@pytest.mark.parametrize(("threads", "pieces"), [(1, 3), (2, 6), (3, 3), (4, 12), (8, 15)])
def test_threads_share_unequal_pieces_by_rows(target, threads, pieces):
    """Three blocks of channels are no even share for most numbers of threads."""
    plan = wr.explain(
        "conv_grad_weight", (1, 192, 17, 17), (192, 192, 1, 7), padding=(0, 3), threads=threads,
        algorithm="direct",
    )  # fmt: skip
    assert plan["pieces"] == pieces


@pytest.mark.parametrize(("rows", "taps", "pieces"), [(96, 5, 2), (96, 1, 1), (31, 5, 1), (128, 1, 2)])
def test_rows_are_shared_where_a_strip_serves_many_sums(target, rows, taps, pieces):
    """Each thread copies the strip: for 16 rows at least, or for 64 sums of one tap."""
    plan = wr.explain(
        "conv_grad_weight", (1, 32, 28, 28), (rows, 32, taps, taps), padding=taps // 2, threads=2,
        algorithm="direct",
    )  # fmt: skip
    assert plan["pieces"] == pieces


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("images", [1, 70])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 1)])
def test_rows_go_to_dw_as_their_sums_come(target, dtype, images, kernel):
    """Of more rows than stay near, those of one tile are held where all pixels come at once."""
    rows, vectors, lanes = _core._testing.tile(target, dtype is np.float64)
    filters, channels = 4 * vectors * lanes + rows + 1, 5
    rng = np.random.default_rng(7)
    x = rng.integers(-3, 4, (images, channels, 7, 6)).astype(dtype)
    w_shape = (filters, channels, *kernel)
    dy = rng.integers(-3, 4, reference.conv(x, np.zeros(w_shape, dtype), padding=1).shape).astype(dtype)
    expected = reference.conv_grad_weight(dy, x, w_shape, padding=1)
    start = rng.integers(-3, 4, w_shape).astype(dtype)
    with only("runs"):
        plan = wr.explain("conv_grad_weight", x.shape, w_shape, dtype=dtype, padding=1, threads=1)
        np.testing.assert_array_equal(wr.conv_grad_weight(dy, x, w_shape, padding=1), expected)
        out = start.copy()
        wr.conv_grad_weight(dy, x, w_shape, padding=1, out=out, accumulate=True)
        np.testing.assert_array_equal(out, start + expected)
        apart = np.zeros((*w_shape[::-1],), dtype).T  # no taps side by side
        wr.conv_grad_weight(dy, x, w_shape, padding=1, out=apart)
        np.testing.assert_array_equal(apart, expected)
    sums = filters * channels * kernel[0] * kernel[1] * np.dtype(dtype).itemsize
    assert images == 1 or plan["workspace_bytes"] > sums
    assert images > 1 or kernel == (2, 1) or plan["workspace_bytes"] < sums
