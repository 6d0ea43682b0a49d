"""What `check` refuses, word for word."""

import numpy as np
import pytest
from tests.errors import raises

from windrow.gradcheck import check

X, W = np.random.default_rng(7).standard_normal((2, 4, 4))
X, W = X[:3], W[:, :2]


def matmul(x, w):
    return x @ w


def matmul_backward(dy, x, w):
    return dy @ w.T, x.T @ dy


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: check(np.sin, np.cos, np.arange(3)),
            TypeError,
            "inputs: expected at least one array of floating-point numbers, got an array of int64",
        ),
        (
            lambda: check(np.sin, np.cos, ()),
            TypeError,
            "inputs: expected at least one array of floating-point numbers, got no inputs",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, np.array(["a"]))),
            TypeError,
            "inputs: expected an array of numbers, got dtype <U1",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, W), wrt="v"),
            ValueError,
            "wrt: expected names among x, w, got 'v'",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, W), wrt=[2]),
            ValueError,
            "wrt: expected positions below 2, got 2",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, np.ones((4, 2), int)), wrt="w"),
            TypeError,
            "w: expected floating-point numbers, got int64, in which a small step is lost; "
            "cast it first: w.astype(np.float64)",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, W), names=["x"]),
            ValueError,
            "names: expected 2 names, one per input, got ['x']",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, W), axes={"x": "n c h"}),
            ValueError,
            "axes: expected 2 names for x of shape (3, 4), got 'n c h'",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, W), dy=np.ones(3)),
            ValueError,
            "dy: expected the shape of y, (3, 2), got (3,)",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, W), directions=0),
            ValueError,
            "directions: expected at least 1, got 0",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, W), entries="some"),
            ValueError,
            "entries: expected 'auto', 'all' or a count, got 'some'",
        ),
        (
            lambda: check(matmul, matmul_backward, (X, W), shrink=True),
            TypeError,
            "inputs: expected a callable that makes them from sizes, got arrays",
        ),
        (
            lambda: check(lambda x: (x, None), lambda dy, x: dy, X),
            TypeError,
            "forward: expected one array, got a tuple of 2; "
            "a layer that returns (out, cache) needs cached=True",
        ),
        (
            lambda: check(lambda x: x, lambda dy, x: dy, X, cached=True),
            TypeError,
            "forward: expected (out, cache) with cached=True, got an array of float64",
        ),
        (
            lambda: check(lambda x: x > 0, lambda dy, x: dy, X),
            TypeError,
            "y: expected floating-point numbers, got bool, in which a small step is lost; "
            "cast it first: y.astype(np.float64)",
        ),
        (
            lambda: check(matmul, lambda dy, x, w: dy, (X, W)),
            TypeError,
            "backward: expected 2 gradients, got an array of float64",
        ),
        (
            lambda: check(matmul, lambda dy, x, w: (dy, dy, dy), (X, W)),
            TypeError,
            "backward: expected 2 gradients, got a tuple of 3",
        ),
    ],
)
def test_errors(call, error, text):
    raises(error, text, call)


def test_what_the_functions_raise_goes_through():
    def forward(x):
        raise RuntimeError("mine")

    raises(RuntimeError, "mine", lambda: check(forward, lambda dy, x: dy, X))
