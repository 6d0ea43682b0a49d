"""Depthwise layers with lanes along the channels, in channels-last arrays: the bits of the other drivers."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given

import windrow as wr
from tests.examples import per_target
from tests.problems import Problem, channels_last, problems, scrambled
from tests.tolerances import reserved
from windrow import _core

ROOM = 2**40  # any limit at all keeps a call away from the driver of small problems

dtypes = st.sampled_from([np.float32, np.float64])
# Channels around one vector, eight of them and a block of lanes; every tap count around a chunk of terms;
# images that are all border, and lines that are cut.
LAYERS = [
    ((2, 40, 9, 11), (3, 3), {"padding": 1}),
    ((1, 131, 14, 14), (5, 5), {"padding": 2}),
    ((2, 64, 7, 7), (7, 7), {"padding": 3}),
    ((1, 300, 12, 13), (3, 3), {"padding": 1, "stride": 2}),
    ((1, 33, 20, 20), (13, 10), {"padding": 6}),
    ((2, 20, 60, 70), (3, 2), {}),  # several blocks of pixels in dw
    ((1, 24, 1300), (4,), {"padding": ((3, 0),), "dilation": 2}),
    ((1, 16, 5, 6, 7), (3, 2, 3), {"padding": 1, "stride": (1, 2, 3)}),
    ((1, 48, 15, 15), (1, 1), {"stride": 2}),
    ((1, 50, 11, 25), (3, 7), {"padding": ((2, 4), (5, 1)), "dilation": (2, 1)}),
    ((2, 35, 4, 6, 9), (3, 2, 5), {"padding": (1, 0, 2)}),
    ((1, 32, 12, 530), (5, 7), {"padding": 3, "stride": (2, 1)}),  # lines that are cut
]


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def kernel(operation, x_shape, window, dtype, **options):
    options = {"memory_format": "channels_last", "max_workspace": ROOM, **options}
    w_shape = (x_shape[1], 1, *window)
    return wr.explain(operation, x_shape, w_shape, dtype=dtype, groups=x_shape[1], **options)["kernel"]


def operands(x_shape, window, options, dtype, rng):
    x = rng.standard_normal(x_shape).astype(dtype)
    w = rng.standard_normal((x_shape[1], 1, *window)).astype(dtype)
    b = rng.standard_normal(x_shape[1]).astype(dtype)
    dy = rng.standard_normal(wr.conv(x, w, groups=x_shape[1], **options).shape).astype(dtype)
    return x, w, b, dy


def check_bits(x, w, b, dy, options, rng):
    options = {"groups": x.shape[1], "max_workspace": ROOM, **options}
    y = wr.conv(x, w, b, **options)
    dx = wr.conv_grad_input(dy, w, x.shape, **options)
    start = rng.standard_normal(x.shape).astype(x.dtype)
    added = wr.conv_grad_input(dy, w, x.shape, out=start.copy(), accumulate=True, **options)
    dw = wr.conv_grad_weight(dy, x, w.shape, **options)
    dw_added = wr.conv_grad_weight(dy, x, w.shape, out=w.copy(), accumulate=True, **options)
    for change in (np.copy, lambda a: scrambled(rng, a)):
        w2, b2 = change(w), np.repeat(b, 2)[::2]
        for threads in (1, 3):
            with wr.num_threads(threads):
                result = wr.conv(channels_last(x), w2, b2, **options)
                np.testing.assert_array_equal(bits(result), bits(y))
                result = wr.conv_grad_input(channels_last(dy), w2, x.shape, **options)
                np.testing.assert_array_equal(bits(result), bits(dx))
                result = wr.conv_grad_weight(channels_last(dy), channels_last(x), w.shape, **options)
                np.testing.assert_array_equal(bits(result), bits(dw))
        out_dw = change(w)
        wr.conv_grad_weight(
            channels_last(dy), channels_last(x), w.shape, out=out_dw, accumulate=True, **options
        )
        np.testing.assert_array_equal(bits(out_dw), bits(dw_added))
        out = channels_last(start.copy())
        wr.conv_grad_input(channels_last(dy), w2, x.shape, out=out, accumulate=True, **options)
        np.testing.assert_array_equal(bits(out), bits(added))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "window", "options"), LAYERS)
def test_has_the_bits_of_channels_first_on_layers(target, x_shape, window, options, dtype):
    rng = np.random.default_rng(3)
    for operation in ("conv", "conv_grad_input"):
        assert kernel(operation, x_shape, window, dtype, **options) == "channel_product"
    check_bits(*operands(x_shape, window, options, dtype, rng), options, rng)


@st.composite
def depthwise(draw: st.DrawFn) -> Problem:
    """A generated problem with one channel per group, and enough of them for the lanes of any target."""
    x_shape, w_shape, options = draw(problems())
    channels = draw(st.integers(16, 70))
    options = {name: value for name, value in options.items() if name != "groups"}
    return Problem((x_shape[0], channels, *x_shape[2:]), w_shape[2:], options)


@per_target(80)
@given(problem=depthwise(), dtype=dtypes, seed=st.integers(0, 2**32 - 1))
def test_has_the_bits_of_channels_first(target, problem, dtype, seed):
    rng = np.random.default_rng(seed)
    x_shape, window, options = problem
    event(kernel("conv", x_shape, window, dtype, **options))
    check_bits(*operands(x_shape, window, options, dtype, rng), options, rng)


def test_non_finite_values_stay_where_they_belong(target):
    """A channel's lane, a pixel and a padded position are nobody else's; Inf times the padding's 0 is NaN."""
    x, w = np.ones((2, 20, 8, 8), np.float32), np.ones((20, 1, 3, 3), np.float32)
    x[0, 3, 4, 5], w[7, 0, 0, 0] = np.nan, np.inf
    y = wr.conv(channels_last(x), w, padding=1, groups=20, max_workspace=ROOM)
    expected = np.zeros(y.shape, bool)
    expected[0, 3, 3:6, 4:7] = True
    expected[:, 7, 0], expected[:, 7, :, 0] = True, True
    np.testing.assert_array_equal(np.isnan(y), expected)
    expected[:, 7] = True
    np.testing.assert_array_equal(~np.isfinite(y), expected)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "format", "expected"),
    [
        ((1, 64, 56, 56), (64, 1, 3, 3), "channels_last", True),
        ((1, 64, 56, 56), (64, 1, 3, 3), "channels_first", False),
        ((1, 64, 56, 56), (128, 1, 3, 3), "channels_last", False),
        ((1, 64, 56, 56), (64, 2, 3, 3), "channels_last", False),
        ((1, 3, 56, 56), (3, 1, 3, 3), "channels_last", False),
    ],
)
def test_explain_says_so(x_shape, w_shape, format, expected):
    for operation in ("conv", "conv_grad_input"):
        plan = wr.explain(
            operation, x_shape, w_shape, groups=x_shape[1] // w_shape[1], padding=1, memory_format=format
        )
        assert (plan["kernel"] == "channel_product") is expected


def test_less_workspace_than_it_wants_is_another_driver():
    _, window, options = LAYERS[1]
    x_shape = (1, 600, 14, 14)  # so many that it wants more than the others need
    x, w, b, _ = operands(x_shape, window, options, np.float32, np.random.default_rng(6))
    plan = wr.explain(
        "conv", x_shape, w.shape, groups=x_shape[1], memory_format="channels_last", threads=1, **options
    )
    assert plan["kernel"] == "channel_product"
    for room, fits in ((plan["workspace_bytes"], True), (plan["workspace_bytes"] - 1, False)):
        limit = {"max_workspace": room, **options}
        with wr.num_threads(1):
            chosen = kernel("conv", x_shape, window, np.float32, threads=1, **limit)
            assert (chosen == "channel_product") is fits
            y = wr.conv(channels_last(x), w, b, groups=x_shape[1], **limit)
        np.testing.assert_array_equal(bits(y), bits(wr.conv(x, w, b, groups=x_shape[1], **options)))


def test_scratch_is_what_explain_tells(target):
    x_shape, window, options = LAYERS[1]
    x, w, b, _ = operands(x_shape, window, options, np.float64, np.random.default_rng(6))
    options = {"groups": x_shape[1], **options}
    told = wr.explain(
        "conv", x_shape, w.shape, dtype=np.float64, memory_format="channels_last", threads=1, **options
    )["workspace_bytes"]  # fmt: skip
    assert told >= (25 + 1) * 131 * 8  # the weights and a row of zeros
    with wr.num_threads(1):
        wr.release_workspaces()
        for _ in range(2):  # an arena that needed several blocks is one the second time
            wr.conv(channels_last(x), w, b, **options)
        assert _core.workspace_bytes() <= reserved(told + 5 * 64)  # each array begins at a cache line
