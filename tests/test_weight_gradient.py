"""Weight gradients of few channels or filters: lanes are filters, taps and channels, or the taps of a row."""

import numpy as np
import pytest

import windrow as wr
from tests.problems import channels_last, scrambled
from windrow import reference

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
