"""conv_jvp and conv_double_backward, checked by the gradient checker and by what they are defined to be."""

import numpy as np
import pytest

from tests.errors import raises
from windrow.bilinear import conv_double_backward, conv_jvp
from windrow.convolution import conv, conv_backward
from windrow.gradcheck import assert_gradients

GEOMETRIES = [
    ((2, 3, 7), (4, 3, 3), {"stride": 2, "padding": 1}),
    ((2, 4, 6, 5), (6, 2, 3, 2), {"padding": ((1, 0), (0, 1)), "groups": 2}),
    ((1, 2, 4, 5, 4), (3, 2, 2, 2, 2), {"stride": (1, 2, 1), "dilation": (2, 1, 1)}),
]
DTYPES = [np.float32, np.float64]


def draw(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def operands(x_shape, w_shape, options, dtype):
    rng = np.random.default_rng(5)
    x, w, b = (draw(rng, dtype, *shape) for shape in (x_shape, w_shape, w_shape[:1]))
    dy = draw(rng, dtype, *conv(x, w, b, **options).shape)
    moves = tuple(draw(rng, dtype, *array.shape) for array in (x, w, b))
    return dy, x, w, b, moves


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), GEOMETRIES)
def test_jvp_is_the_transpose_of_backward(x_shape, w_shape, options, dtype):
    """<dy, jvp(v)> = <backward(dy), v>, with jvp as the forward of a pair that is linear in its direction."""
    dy, x, w, _, (x_dot, w_dot, b_dot) = operands(x_shape, w_shape, options, dtype)

    def forward(x_dot, w_dot, b_dot):
        return conv_jvp(x, w, x_dot, w_dot, b_dot, **options)

    def backward(dy, x_dot, w_dot, b_dot):
        return conv_backward(dy, x, w, **options)

    report = assert_gradients(forward, backward, (x_dot, w_dot, b_dot), dy=dy)
    assert all(argument.affine for argument in report.arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), GEOMETRIES)
def test_double_backward(x_shape, w_shape, options, dtype):
    """The gradient of <ddx, dx> + <ddw, dw> + <ddb, db> for dy, x and w, each checked on its own output."""
    dy, x, w, _, (ddx, ddw, ddb) = operands(x_shape, w_shape, options, dtype)

    def forward(dy, x, w):
        gradients = conv_backward(dy, x, w, **options)
        return np.concatenate([gradient.reshape(-1) for gradient in gradients])

    def backward(weights, dy, x, w):
        ddx, ddw, ddb = np.split(weights, [x.size, x.size + w.size])
        return conv_double_backward(dy, x, w, ddx.reshape(x.shape), ddw.reshape(w.shape), ddb, **options)

    weights = np.concatenate([array.reshape(-1) for array in (ddx, ddw, ddb)])
    report = assert_gradients(forward, backward, (dy, x, w), dy=weights)
    assert all(argument.affine for argument in report.arguments)


@pytest.mark.parametrize("given", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1)])
def test_missing_directions_count_as_zero(given):
    """Integer-valued data, so that both sides are exact."""
    rng = np.random.default_rng(1)
    shapes = ((2, 2, 5, 5), (3, 2, 3, 3), (3,))
    x, w, b = (rng.integers(-4, 5, shape).astype(np.float64) for shape in shapes)
    dy = rng.integers(-4, 5, (2, 3, 5, 5)).astype(np.float64)
    some = tuple(array if k in given else None for k, array in enumerate((x, w, b)))
    whole = tuple(array if k in given else np.zeros_like(array) for k, array in enumerate((x, w, b)))
    np.testing.assert_array_equal(conv_jvp(x, w, *some, padding=1), conv_jvp(x, w, *whole, padding=1))
    got = conv_double_backward(dy, x, w, *some, padding=1)
    expected = conv_double_backward(dy, x, w, *whole, padding=1)
    np.testing.assert_array_equal(got.ddy, expected.ddy)
    assert (got.dx is None) == (1 not in given)
    assert (got.dw is None) == (0 not in given)
    np.testing.assert_array_equal(expected.dx if got.dx is None else got.dx, expected.dx)
    np.testing.assert_array_equal(expected.dw if got.dw is None else got.dw, expected.dw)
    if got.dx is None:
        assert not expected.dx.any()
    if got.dw is None:
        assert not expected.dw.any()


X, W, DY = np.ones((1, 2, 4)), np.ones((3, 2, 2)), np.ones((1, 3, 3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: conv_jvp(X, W),
            ValueError,
            "x_dot: expected at least one of x_dot, w_dot and b_dot, got None for all",
        ),
        (lambda: conv_jvp(X, W, X[:, :, :3]), ValueError, "x_dot: expected shape (1, 2, 4), got (1, 2, 3)"),
        (lambda: conv_jvp(X, W, w_dot=W[:2]), ValueError, "w_dot: expected shape (3, 2, 2), got (2, 2, 2)"),
        (lambda: conv_jvp(X, W, b_dot=np.ones(2)), ValueError, "b_dot: expected shape (3,), got (2,)"),
        (
            lambda: conv_double_backward(DY, X, W),
            ValueError,
            "ddx: expected at least one of ddx, ddw and ddb, got None for all",
        ),
        (
            lambda: conv_double_backward(DY[..., :2], X, W, X),
            ValueError,
            "dy: expected shape (1, 3, 3), got (1, 3, 2)",
        ),
        (
            lambda: conv_double_backward(DY, X, W, W),
            ValueError,
            "ddx: expected shape (1, 2, 4), got (3, 2, 2)",
        ),
        (
            lambda: conv_double_backward(DY, X, W, ddw=X),
            ValueError,
            "ddw: expected shape (3, 2, 2), got (1, 2, 4)",
        ),
        (
            lambda: conv_double_backward(DY, X, W, ddb=X[0, 0]),
            ValueError,
            "ddb: expected shape (3,), got (4,)",
        ),
    ],
)
def test_errors(call, error, text):
    raises(error, text, call)
