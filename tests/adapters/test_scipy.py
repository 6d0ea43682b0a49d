"""`windrow.scipy.linear_operator`: a right operator with a right adjoint, in every dtype and as columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

import windrow as wr
from tests.problems import problems
from windrow.scipy import linear_operator


@settings(max_examples=40)
@given(problem=problems(max_channels=6), seed=st.integers(0, 2**32 - 1), columns=st.integers(1, 3))
def test_is_conv_and_its_adjoint(problem, seed, columns):
    rng = np.random.default_rng(seed)
    w = rng.integers(-3, 4, problem.w_shape).astype(np.float64)
    operator = linear_operator(w, problem.x_shape, **problem.options)
    x = rng.integers(-3, 4, (operator.shape[1], columns)).astype(np.float64)
    y = rng.integers(-3, 4, (operator.shape[0], columns)).astype(np.float64)
    assert operator.y_shape == problem.y_shape
    for j in range(columns):
        image = x[:, j].reshape(problem.x_shape)
        assert np.array_equal((operator @ x)[:, j], wr.conv(image, w, **problem.options).ravel())
        assert np.array_equal((operator @ x)[:, j], operator @ x[:, j])
    # Integers: every sum is exact.
    assert np.array_equal(np.sum(y * (operator @ x)), np.sum((operator.H @ y) * x))


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64, np.complex64, np.complex128])
def test_computes_in_the_wider_dtype(dtype):
    w = np.random.default_rng(0).standard_normal((2, 1, 3)).astype(np.float32)
    operator = linear_operator(w, (1, 1, 9))
    v = np.arange(9).astype(dtype) * (1 + 2j if np.dtype(dtype).kind == "c" else 1)
    result = operator @ v.astype(dtype)
    assert result.dtype == np.result_type(dtype, w)
    wide = np.array([np.correlate(v, row[0].astype(np.float64), "valid") for row in w]).ravel()
    eps = np.finfo(result.dtype).eps
    assert np.all(np.abs(result - wide) <= 4 * eps * 3 * np.abs(w).max() * np.abs(v).max())


def test_later_changes_of_w_have_no_effect():
    w = np.ones((1, 1, 2))
    operator = linear_operator(w, (1, 1, 4))
    w[:] = 7
    assert np.array_equal(operator @ np.ones(4), [2, 2, 2])


def test_errors_are_those_of_conv():
    with pytest.raises(ValueError) as error:
        linear_operator(np.ones((1, 2, 3)), (1, 1, 4))
    with pytest.raises(ValueError) as conv_error:
        wr.conv_grad_input(np.ones((1, 1, 2)), np.ones((1, 2, 3)), (1, 1, 4))
    assert str(error.value) == str(conv_error.value)
