"""Depthwise layers of small C-ordered images, whose channels are turned over: the bits of pixel strips."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given

import windrow as wr
from tests.choice import only
from tests.examples import per_target
from tests.kernels import both_dtypes, lanes_of
from tests.test_channel_product import ROOM, bits, depthwise, operands
from tests.test_channel_product import kernel as kernel_of
from tests.tolerances import reserved
from windrow import _core

dtypes = st.sampled_from([np.float32, np.float64])
# Rows of up to a vector of any target, or of up to one for 28 taps; channels around several blocks.
LAYERS = [
    ((2, 960, 4, 4), (3, 3), {"padding": 1}),
    ((1, 768, 7, 7), (7, 7), {"padding": 3}),
    ((3, 131, 8, 8), (3, 3), {"padding": 1, "stride": 2}),
    ((1, 40, 12, 4), (5, 3), {"padding": ((3, 1), (0, 2)), "dilation": (2, 1)}),
    ((2, 33, 12), (4,), {"padding": ((3, 0),), "dilation": 2, "stride": 3}),
    ((1, 20, 5, 6, 4), (3, 2, 3), {"padding": 1, "stride": (1, 2, 1)}),
    ((1, 48, 3, 3), (1, 1), {}),
]


def kernel(*problem, **options):
    return kernel_of(*problem, **{"memory_format": "channels_first", **options})


def check_bits(x, w, b, dy, options, rng):
    """The results of strips, for any number of threads, strides of the operands and `out=`."""
    options = {"groups": x.shape[1], "max_workspace": ROOM, **options}
    start = rng.standard_normal(x.shape).astype(x.dtype)
    with only("strip_product"):
        y = wr.conv(x, w, b, **options)
        dx = wr.conv_grad_input(dy, w, x.shape, **options)
        added = wr.conv_grad_input(dy, w, x.shape, out=start.copy(), accumulate=True, **options)
    wide = np.zeros((*x.shape[:-1], x.shape[-1] + 3), x.dtype)  # rows with gaps between them
    wide[..., 1:-2] = x
    for image in (x, wide[..., 1:-2]):
        for threads in (1, 3):
            with wr.num_threads(threads):
                np.testing.assert_array_equal(bits(wr.conv(image, w, b, **options)), bits(y))
                result = wr.conv_grad_input(dy, w, x.shape, **options)
                np.testing.assert_array_equal(bits(result), bits(dx))
    out = np.full_like(wide, 5)
    wr.conv_grad_input(dy, w, x.shape, out=out[..., 1:-2], **options)
    np.testing.assert_array_equal(bits(out[..., 1:-2]), bits(dx))
    assert (out[..., 0] == 5).all()
    assert (out[..., -2:] == 5).all()
    out = start.copy()
    wr.conv_grad_input(dy, w, x.shape, out=out, accumulate=True, **options)
    np.testing.assert_array_equal(bits(out), bits(added))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "window", "options"), LAYERS)
def test_has_the_bits_of_strips_on_layers(target, x_shape, window, options, dtype):
    rng = np.random.default_rng(3)
    check_bits(*operands(x_shape, window, options, dtype, rng), options, rng)


@per_target(60)
@given(problem=depthwise(), dtype=dtypes, seed=st.integers(0, 2**32 - 1))
def test_has_the_bits_of_strips(target, problem, dtype, seed):
    rng = np.random.default_rng(seed)
    x_shape, window, options = problem
    event(kernel("conv", x_shape, window, dtype, **options))
    check_bits(*operands(x_shape, window, options, dtype, rng), options, rng)


@both_dtypes
def test_explain_says_where(target, dtype):
    """Rows of one vector of pixels, of more under many taps, and of as many channels as fill one."""
    lanes = lanes_of(target, dtype)

    def turned(columns, window=(3, 3), channels=2 * lanes, operation="conv", **options):
        options = {"padding": [k // 2 for k in window], **options}
        return kernel(operation, (1, channels, 9, columns), window, dtype, **options) == "turned_channels"

    assert turned(lanes)
    assert not turned(lanes + 1)
    assert turned(lanes, operation="conv_grad_input")
    assert turned(2 * lanes, stride=2)
    assert turned(lanes, stride=2, operation="conv_grad_input")
    assert not turned(2 * lanes, stride=2, operation="conv_grad_input")
    assert turned(lanes * 49 // 28, (7, 7))
    assert not turned(lanes * 49 // 28 + 1, (7, 7))
    assert not turned(2, (11, 13), padding=(5, 6))  # more taps than a chunk
    assert turned(lanes, channels=lanes)
    assert not turned(lanes, channels=lanes - 1)
    assert not turned(lanes, memory_format="channels_last")


def test_borders_bias_and_limits(target):
    """Repeated pixels, a constant border, and what a prepared layer does to its results."""
    rng = np.random.default_rng(5)
    x, w, b, _ = operands((2, 40, 6, 4), (3, 3), {"padding": 1}, np.float32, rng)
    options = {"padding": 1, "groups": 40}
    for mode in ({"padding_mode": "reflect"}, {"padding_mode": "constant"}, {"activation": "relu"}):
        layer = wr.prepare_conv(w, b, **options, **mode)
        result = layer(x)
        with only("strip_product"):
            np.testing.assert_array_equal(bits(result), bits(layer(x)))


def test_non_finite_values_stay_where_they_belong(target):
    """A channel, a pixel and a padded position are nobody else's; Inf times the padding's 0 is NaN."""
    x, w = np.ones((2, 20, 3, 2), np.float32), np.ones((20, 1, 3, 3), np.float32)
    x[0, 3, 2, 1], w[7, 0, 0, 0] = np.nan, np.inf
    y = wr.conv(x, w, padding=1, groups=20, max_workspace=ROOM)
    expected = np.zeros(y.shape, bool)
    expected[0, 3, 1:, :] = True
    expected[:, 7, 0], expected[:, 7, :, 0] = True, True
    np.testing.assert_array_equal(np.isnan(y), expected)
    expected[:, 7] = True
    np.testing.assert_array_equal(~np.isfinite(y), expected)


def test_less_workspace_than_it_wants_is_another_driver():
    x_shape, window, options = LAYERS[1]
    x, w, b, _ = operands(x_shape, window, options, np.float32, np.random.default_rng(6))
    with wr.num_threads(1):
        plan = wr.explain("conv", x_shape, w.shape, groups=x_shape[1], threads=1, **options)
        assert plan["kernel"] == "turned_channels"
        y = wr.conv(x, w, b, groups=x_shape[1], **options)
        for room, fits in ((plan["workspace_bytes"], True), (plan["workspace_bytes"] - 1, False)):
            limit = {"max_workspace": room, **options}
            chosen = kernel("conv", x_shape, window, np.float32, threads=1, **limit)
            assert (chosen == "turned_channels") is fits
            np.testing.assert_array_equal(bits(wr.conv(x, w, b, groups=x_shape[1], **limit)), bits(y))


TALL = ((1, 16, 40_000, 4), (3, 3), {"padding": 1})  # rows are short, but 20 MiB would be turned over


@pytest.mark.parametrize("operation", ["conv", "conv_grad_input"])
@pytest.mark.parametrize(("layer", "expected"), [(LAYERS[0], True), (TALL, False)], ids=["small", "tall"])
def test_scratch_is_small_and_what_explain_tells(target, operation, layer, expected):
    x_shape, window, options = layer
    x, w, b, dy = operands(x_shape, window, options, np.float32, np.random.default_rng(6))
    options = {"groups": x_shape[1], **options}
    plan = wr.explain(operation, x_shape, w.shape, dtype=np.float32, threads=1, **options)
    assert (plan["kernel"] == "turned_channels") is expected
    told = plan["workspace_bytes"]
    assert told <= 8 * 2**20
    with wr.num_threads(1):
        wr.release_workspaces()
        for _ in range(2):  # an arena that needed several blocks is one the second time
            if operation == "conv":
                wr.conv(x, w, b, **options)
            else:
                wr.conv_grad_input(dy, w, x_shape, **options)
        assert _core.workspace_bytes() <= reserved(told + 8 * 64)  # each array begins at a cache line
