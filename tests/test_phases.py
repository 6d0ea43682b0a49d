"""The input gradient of a longer stride, all phases together: the bits of one phase after another."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given

import windrow as wr
from tests.examples import per_target
from tests.kernels import CHUNK
from tests.problems import problems, scrambled
from tests.tolerances import conv_grad_input_error_bound

ROOM = 2**40  # any limit at all keeps a call away from the driver of small problems
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Rows that fill tiles and a few that do not; several chunks of terms; odd and even sizes. The first seven are
# for panels, the others for strips, but for targets on which the other kind is the faster.
LAYERS = [
    ((2, 24, 14, 15), (150, 24, 3, 3), {"stride": 2, "padding": 1}),
    ((1, 130, 13, 7), (270, 130, 2, 2), {"stride": 2}),
    ((1, 16, 9, 33), (40, 8, 5, 4), {"stride": 2, "padding": ((2, 1), (0, 2)), "groups": 2}),
    ((1, 9, 11, 40), (8, 9, 3, 3), {"stride": (3, 1), "dilation": (1, 2)}),
    ((3, 40, 101), (33, 40, 7), {"stride": 2, "padding": 3}),
    ((1, 12, 6, 7, 8), (10, 12, 3, 2, 3), {"stride": 2, "padding": 1}),
    ((1, 40, 13, 31), (70, 40, 3, 4), {"stride": (2, 3), "padding": 1}),
    ((2, 3, 40, 41), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((2, 1, 1503), (70, 1, 10), {"stride": 5}),
    ((1, 4, 2, 260), (10, 2, 1, 80), {"stride": (1, 7), "padding": (0, 3), "groups": 2}),
    ((1, 20, 33, 30), (20, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 20}),
    ((2, 6, 5000), (12, 1, 4), {"stride": 2, "groups": 6}),
    ((1, 2, 9, 20, 21), (5, 2, 1, 2, 2), {"stride": 2}),
    # Channels of dy in several goes; phases that are rows of one product, among them some of an image's rows.
    ((2, 1, 1303), (300, 1, 10), {"stride": 5}),
    ((1, 2, 30, 37), (140, 2, 4, 6), {"stride": (2, 3)}),
    ((1, 3, 20, 45), (130, 3, 3, 8), {"stride": (1, 4), "padding": (1, 4)}),
    ((2, 2, 21, 33), (260, 1, 4, 4), {"stride": 2, "groups": 2}),
]


def values(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def one_by_one(dy, w, x_shape, options):
    """Added to zeros, which is never done for all phases at once."""
    out = np.zeros(x_shape, dy.dtype)
    return wr.conv_grad_input(dy, w, x_shape, out=out, accumulate=True, **options)


def assert_same(result, expected):
    """The same values and the same NaN; zeros of either sign, since 0 + -0 is 0."""
    np.testing.assert_array_equal(result, expected)


def kernel(x_shape, w_shape, options, dtype):
    options = {"dtype": dtype, "max_workspace": ROOM, **options}
    return wr.explain("conv_grad_input", x_shape, w_shape, **options)["kernel"]


@both_dtypes
def test_either_kind_is_among_the_layers(target, dtype):
    assert {kernel(*layer, dtype) for layer in LAYERS} == {"phase_product", "phase_strips"}


@both_dtypes
def test_a_single_phase_with_taps_is_written_alone(target, dtype):
    """Also in small images: phases together took up to twice its time there."""
    assert not kernel((1, 130, 13, 7), (270, 130, 1, 1), {"stride": 2}, dtype).startswith("phase")
    assert not kernel((1, 4, 13, 7), (27, 4, 1, 1), {"stride": 2}, dtype).startswith("phase")


@both_dtypes
@pytest.mark.parametrize(("channels", "strips"), [(3, True), (20, False)])
def test_windows_side_by_side_of_few_channels(target, channels, strips, dtype):
    """Phases from strips in C order and products over all taps in channels-last have the same bits."""
    rng = np.random.default_rng(12)
    x_shape, w_shape = (2, channels, 32, 36), (150, channels, 4, 4)
    plan = wr.explain("conv_grad_input", x_shape, w_shape, dtype=dtype, stride=4)
    assert plan["kernel"].startswith("phase") == strips
    dy, w = values(rng, (2, 150, 8, 9), dtype), values(rng, w_shape, dtype)
    dx = wr.conv_grad_input(dy, w, x_shape, stride=4)
    out = np.empty((2, 32, 36, channels), dtype).transpose(0, 3, 1, 2)
    assert_same(wr.conv_grad_input(dy, w, x_shape, stride=4, out=out), dx)
    assert_same(dx, one_by_one(dy, w, x_shape, {"stride": 4}))


@per_target(150)
@given(
    problem=problems(max_channels=40),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_has_the_bits_of_single_phases(target, problem, dtype, seed):
    rng = np.random.default_rng(seed)
    options = problem.options
    event(kernel(problem.x_shape, problem.w_shape, options, dtype))
    dy, w = values(rng, problem.y_shape, dtype), values(rng, problem.w_shape, dtype)
    for operand in (dy, w):
        if operand.size and rng.integers(3) == 0:
            operand.flat[rng.integers(operand.size)] = rng.choice([np.nan, np.inf])
    expected = one_by_one(dy, w, problem.x_shape, options)
    for change in (np.copy, lambda a: scrambled(rng, a)):
        out = change(np.full(problem.x_shape, np.nan, dtype))
        wr.conv_grad_input(change(dy), change(w), problem.x_shape, max_workspace=ROOM, out=out, **options)
        assert_same(out, expected)


@both_dtypes
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), LAYERS)
def test_layers(target, x_shape, w_shape, options, dtype):
    """Against the reference; the bits of single phases, of other strides and of any number of threads."""
    rng = np.random.default_rng(9)
    assert kernel(x_shape, w_shape, options, dtype).startswith("phase_")
    w = values(rng, w_shape, dtype)
    dy = values(rng, wr.conv(np.zeros(x_shape, dtype), w, **options).shape, dtype)
    dx = wr.conv_grad_input(dy, w, x_shape, max_workspace=ROOM, **options)
    exact = wr.reference.conv_grad_input(
        dy.astype(np.longdouble), w.astype(np.longdouble), x_shape, **options
    )
    bound = conv_grad_input_error_bound(dy, w, x_shape, chunk=CHUNK, **options)
    assert (np.abs(dx - exact) <= bound).all()
    assert_same(dx, one_by_one(dy, w, x_shape, options))
    out = scrambled(rng, np.full(x_shape, np.nan, dtype))
    for threads in (1, 3):
        with wr.num_threads(threads):
            wr.conv_grad_input(scrambled(rng, dy), scrambled(rng, w), x_shape, out=out, **options)
        assert_same(out, dx)
    assert_same(wr.conv_grad_input(dy[-1:], w, (1, *x_shape[1:]), max_workspace=ROOM, **options), dx[-1:])


@both_dtypes
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), LAYERS)
def test_bias_of_transposed_convolution(target, x_shape, w_shape, options, dtype):
    """Added once to every pixel, also to those that no tap reaches."""
    rng = np.random.default_rng(10)
    options = {name: value for name, value in options.items() if name != "padding"}
    w, b = values(rng, w_shape, dtype), values(rng, x_shape[1], dtype)
    x = values(rng, (x_shape[0], w_shape[0], *(6 for _ in x_shape[2:])), dtype)
    y = wr.conv_transpose(x, w, None, **options)
    assert_same(wr.conv_transpose(x, w, b, **options), y + b.reshape(-1, *(1 for _ in x_shape[2:])))


def test_a_little_workspace_takes_one_phase_after_another():
    x_shape, w_shape, options = LAYERS[0]
    rng = np.random.default_rng(11)
    w = values(rng, w_shape, np.float32)
    dy = values(rng, (2, 150, 7, 8), np.float32)
    plan = wr.explain("conv_grad_input", x_shape, w_shape, dtype=np.float32, max_workspace=2**16, **options)
    assert not plan["kernel"].startswith("phase")
    dx = wr.conv_grad_input(dy, w, x_shape, max_workspace=2**16, **options)
    assert_same(dx, wr.conv_grad_input(dy, w, x_shape, **options))


@both_dtypes
@pytest.mark.parametrize("stride", [40_000, 65_536])
def test_phases_by_the_ten_thousand(dtype, stride):
    """Windows that overlap under a long stride: a phase has two taps, found without a look at the others."""
    rng = np.random.default_rng(5)
    x_shape, w_shape = (1, 1, 3 * stride), (2, 1, 3 * stride // 2)
    w = rng.integers(-4, 5, w_shape).astype(dtype)
    dy = rng.integers(-4, 5, (1, 2, 2)).astype(dtype)
    expected = np.zeros(3 * stride, dtype)
    for position in range(2):
        expected[position * stride :][: w_shape[2]] += dy[0, :, position] @ w[:, 0]
    dx = wr.conv_grad_input(dy, w, x_shape, stride=stride)
    np.testing.assert_array_equal(dx[0, 0], expected)
    y = wr.avg_pool_backward(dy[:, :1], x_shape, w_shape[2], stride=stride)
    ones = np.zeros(3 * stride)
    for position in range(2):
        ones[position * stride :][: w_shape[2]] += dy[0, 0, position]
    np.testing.assert_allclose(y[0, 0], ones / w_shape[2], rtol=4 * np.finfo(dtype).eps)
