"""Input gradients in which a position sees one tap of an axis: windows side by side, or a single one."""

import numpy as np
import pytest

import windrow as wr
from tests.kernels import CHUNK
from tests.problems import channels_last, scrambled
from tests.tolerances import conv_grad_input_error_bound

ROOM = 2**40  # under any limit every tap is a term
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
APART = [  # the bits are those of taps as terms
    ((2, 3, 32, 33), (40, 3, 16, 16), {"stride": 16}),
    ((2, 6, 13, 27), (21, 2, 3, 4), {"stride": (3, 5), "groups": 3}),
    ((1, 9, 60), (17, 9, 3), {"stride": 4}),
    ((1, 2, 9, 8, 8), (5, 2, 3, 4, 4), {"stride": (3, 4, 4)}),
    ((2, 3, 40, 44), (9, 3, 4, 4), {"stride": 4}),
]
SINGLE = [
    ((5, 1, 20, 100), (30, 1, 3, 100), {}),
    ((2, 64, 5, 5), (70, 64, 5, 5), {}),
    ((1, 40, 9, 24), (30, 20, 9, 3), {"groups": 2, "padding": ((0, 0), (1, 2))}),
    ((2, 12, 40, 50), (20, 12, 30, 4), {"padding": ((3, 2), (1, 1)), "stride": (20, 2), "dilation": (1, 2)}),
    ((1, 8, 400), (60, 8, 90), {"padding": ((7, 3),), "dilation": 4, "stride": 60}),
]


def some_strides(array):
    return scrambled(np.random.default_rng(6), array)


def flipped(array):
    """Taps in the other direction of memory."""
    return np.ascontiguousarray(array[..., ::-1])[..., ::-1]


FORMATS = [  # of dy, w and dx
    (some_strides, some_strides, some_strides),
    (channels_last, channels_last, channels_last),
    (channels_last, np.ascontiguousarray, channels_last),
    (np.ascontiguousarray, channels_last, np.ascontiguousarray),
    (np.ascontiguousarray, flipped, flipped),
]


def operands(rng, x_shape, w_shape, options, dtype):
    w = rng.standard_normal(w_shape).astype(dtype)
    y = wr.conv(np.zeros(x_shape, dtype), w, **options)
    return rng.standard_normal(y.shape).astype(dtype), w


@both_dtypes
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), APART + SINGLE)
def test_against_the_reference(target, x_shape, w_shape, options, dtype):
    """Within the bound; the same bits for threads, strides and a batch; the adding form."""
    rng = np.random.default_rng(1)
    dy, w = operands(rng, x_shape, w_shape, options, dtype)
    dx = wr.conv_grad_input(dy, w, x_shape, **options)
    wide = dy.astype(np.longdouble), w.astype(np.longdouble)
    bound = conv_grad_input_error_bound(dy, w, x_shape, chunk=CHUNK, **options)
    assert (np.abs(dx - wr.reference.conv_grad_input(*wide, x_shape, **options)) <= bound).all()
    for form_dy, form_w, form_dx in FORMATS:
        out = form_dx(np.full_like(dx, np.nan))
        with wr.num_threads(3):
            wr.conv_grad_input(form_dy(dy), form_w(w), x_shape, out=out, **options)
        np.testing.assert_array_equal(out, dx)
    alone = wr.conv_grad_input(dy[-1:], w, (1, *x_shape[1:]), **options)
    np.testing.assert_array_equal(alone, dx[-1:])
    added = np.ones_like(dx)
    wr.conv_grad_input(dy, w, x_shape, out=added, accumulate=True, **options)
    assert (np.abs(added - dx - 1) <= 2 * bound + 2 * np.finfo(dtype).eps * (1 + np.abs(dx))).all()


@both_dtypes
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), APART)
def test_windows_apart_have_the_bits_of_taps_as_terms(target, x_shape, w_shape, options, dtype):
    dy, w = operands(np.random.default_rng(2), x_shape, w_shape, options, dtype)
    expected = wr.conv_grad_input(dy, w, x_shape, max_workspace=ROOM, **options)
    np.testing.assert_array_equal(wr.conv_grad_input(dy, w, x_shape, **options), expected)


@both_dtypes
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), APART + SINGLE)
def test_non_finite_values_are_those_of_taps_as_terms(target, x_shape, w_shape, options, dtype):
    """A weight that is not finite meets zeros outside of dy, also where its tap is no term."""
    rng = np.random.default_rng(3)
    dy, w = operands(rng, x_shape, w_shape, options, dtype)
    for value in (np.nan, np.inf):
        for array in (dy, w):
            poisoned = {id(dy): dy.copy(), id(w): w.copy()}
            poisoned[id(array)].flat[rng.integers(array.size)] = value
            pair = poisoned[id(dy)], poisoned[id(w)]
            dx = wr.conv_grad_input(*pair, x_shape, **options)
            expected = wr.conv_grad_input(*pair, x_shape, max_workspace=ROOM, **options)
            for kind in (np.isnan, np.isposinf, np.isneginf):
                np.testing.assert_array_equal(kind(dx), kind(expected))


@both_dtypes
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), [*APART, *SINGLE[:3]])
def test_transposed_convolution_adds_its_bias_everywhere(target, x_shape, w_shape, options, dtype):
    rng = np.random.default_rng(4)
    dy, w = operands(rng, x_shape, w_shape, options, dtype)
    b = rng.standard_normal(x_shape[1]).astype(dtype)
    options = {**options, "output_size": x_shape[2:]}
    y = wr.conv_transpose(dy, w, None, **options)
    with_bias = wr.conv_transpose(dy, w, b, **options)
    np.testing.assert_array_equal(with_bias, y + b.reshape(-1, *(1 for _ in x_shape[2:])))
