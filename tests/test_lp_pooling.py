"""Pooling by norms, against the reference and PyTorch."""

from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import windrow as wr
from tests.errors import raises
from tests.pooling_problems import bits, dtypes, fitting, images, layouts, many, problems, seeds
from tests.problems import channels_last
from tests.tolerances import lp_pool_backward_roundings as backward_roundings
from tests.tolerances import lp_pool_roundings as roundings
from windrow import reference
from windrow.arrays import is_channels_last

exponents = st.sampled_from([1, 2, 3, 4, 7, 1.5, 2.75, np.inf])


def values(shape, dtype, seed):
    """Of either sign, some of them 0, none so small or large that its power is not a normal number."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.25, 4, shape) * rng.choice([-1, 0, 1, 1], shape)
    return x.astype(dtype)


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds, p=exponents)
def test_lp_pool_is_the_reference(problem, dtype, seed, p):
    x_shape, kernel, options = problem
    x = values(x_shape, dtype, seed)
    y = wr.lp_pool(x, kernel, p, **options)
    exact = reference.lp_pool(x, kernel, p, dtype=np.longdouble, **options)
    assert y.dtype == dtype
    assert np.all(np.abs(y - exact) <= roundings(kernel, p) * np.finfo(dtype).eps * exact)


@many
@given(problem=problems(max_rank=4).filter(fitting), dtype=dtypes, seed=seeds, p=exponents)
def test_lp_pool_backward_is_the_reference(problem, dtype, seed, p):
    x_shape, kernel, options = problem
    x = values(x_shape, dtype, seed)
    shape = (*x_shape[:2], *reference.pool_windows(x_shape[2:], kernel, **options).output)
    dy = values(shape, dtype, seed + 1)
    dx = wr.lp_pool_backward(dy, x, kernel, p, **options)
    exact = reference.lp_pool_backward(dy, x, kernel, p, dtype=np.longdouble, **options)
    size = reference.lp_pool_backward(np.abs(dy), np.abs(x), kernel, p, dtype=np.longdouble, **options)
    assert dx.dtype == dtype
    assert np.all(np.abs(dx - exact) <= backward_roundings(kernel, p) * np.finfo(dtype).eps * size)


@many
@given(problem=problems(kernels=(1, 2, 4)).filter(fitting), dtype=dtypes, seed=seeds)
def test_the_adjoint_of_sums_of_magnitudes_is_exact_on_integers(problem, dtype, seed):
    """Under p = 1 the norm is linear where no sign changes, and so <dy, y> = <dx, x>."""
    x_shape, kernel, options = problem
    x = images(x_shape, dtype, seed)
    y = wr.lp_pool(x, kernel, 1, **options)
    dy = images(y.shape, dtype, seed + 1)
    dx = wr.lp_pool_backward(dy, x, kernel, 1, **options)
    assert np.vdot(dy.astype(float), y) == np.vdot(dx.astype(float), x)


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds, p=exponents)
def test_the_same_bits_for_any_threads_layout_and_batch(problem, dtype, seed, p):
    x_shape, kernel, options = problem
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(x_shape).astype(dtype)
    with wr.num_threads(1):
        y = wr.lp_pool(x, kernel, p, **options)
        dx = wr.lp_pool_backward(y, x, kernel, p, **options)
    for change in layouts(rng):
        out, dx_out = change(np.zeros_like(y)), change(np.zeros_like(x))
        with wr.num_threads(3):
            other = wr.lp_pool(change(x), kernel, p, **options)
            assert wr.lp_pool(change(x), kernel, p, out=out, **options) is out
            back = wr.lp_pool_backward(change(y), change(x), kernel, p, **options)
            assert wr.lp_pool_backward(change(y), x, kernel, p, out=dx_out, **options) is dx_out
        for got, expected in [(other, y), (out, y), (back, dx), (dx_out, dx)]:
            np.testing.assert_array_equal(bits(got), bits(expected))
    for i in range(len(x)):
        one = wr.lp_pool(x[i : i + 1], kernel, p, **options)
        np.testing.assert_array_equal(bits(one), bits(y[i : i + 1]))
        one = wr.lp_pool_backward(y[i : i + 1], x[i : i + 1], kernel, p, **options)
        np.testing.assert_array_equal(bits(one), bits(dx[i : i + 1]))


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds, p=exponents)
def test_non_finite_norms_are_those_of_the_pixels_seen(problem, dtype, seed, p):
    x_shape, kernel, options = problem
    x = images(x_shape, dtype, seed, special=True)
    y, exact = wr.lp_pool(x, kernel, p, **options), reference.lp_pool(x, kernel, p, **options)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(exact))
    np.testing.assert_array_equal(y[~np.isfinite(y)], exact[~np.isfinite(exact)])
    dx = wr.lp_pool_backward(y, x, kernel, p, **options)
    np.testing.assert_array_equal(
        np.isnan(dx), np.isnan(reference.lp_pool_backward(y, x, kernel, p, **options))
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_agrees_with_torch_where_no_pixel_is_negative(dtype, p, ceil_mode):
    torch = pytest.importorskip("torch")
    # Sizes that windows of 3 with stride 2 fit: PyTorch scales those that hang over the image.
    x = np.random.default_rng(1).uniform(0.25, 4, (2, 5, 15, 23)).astype(dtype)
    leaf = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.lp_pool2d(leaf, p, 3, 2, ceil_mode)
    y = wr.lp_pool(x, 3, p, stride=2, ceil_mode=ceil_mode)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=2 * roundings((3, 3), p) * eps)
    expected.backward(torch.ones_like(expected))
    dx = wr.lp_pool_backward(np.ones_like(y), x, 3, p, stride=2, ceil_mode=ceil_mode)
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=2 * backward_roundings((3, 3), p) * eps)


def test_a_window_of_zeros_has_gradient_0_and_one_without_pixels_is_0():
    for p in (1, 1.5, 2, 3, np.inf):
        zeros = np.zeros((1, 1, 4))
        np.testing.assert_array_equal(wr.lp_pool_backward(np.ones((1, 1, 2)), zeros, 2, p), zeros)
        outside = wr.lp_pool(np.ones((1, 1, 1)), 2, p, stride=1, padding=1, dilation=2)
        np.testing.assert_array_equal(outside, [[[0.0]]])


@pytest.mark.parametrize("fmt", [np.ascontiguousarray, channels_last])
def test_memory_format_follows_the_input(fmt):
    x = fmt(np.ones((2, 3, 6, 8)))
    for p in (2, np.inf):
        y = wr.lp_pool(x, 2, p)
        results = [y, wr.lp_pool_backward(y, x, 2, p)]
        assert [is_channels_last(a) for a in results] == [fmt is channels_last] * 2


X = np.ones((2, 3, 6, 7))


@pytest.mark.parametrize(("p", "kind", "text"), [
    ("2", TypeError, "p: expected a number of at least 1, got str: '2'"),
    (True, TypeError, "p: expected a number of at least 1, got bool: True"),
    (0.5, ValueError, "p: expected a number of at least 1, got 0.5"),
    (np.nan, ValueError, "p: expected a number of at least 1, got nan"),
])  # fmt: skip
def test_errors_of_p(p, kind, text):
    raises(kind, text, wr.lp_pool, X, 2, p)
    raises(kind, text, wr.lp_pool_backward, np.ones((2, 3, 3, 3)), X, 2, p)


def test_other_errors():
    raises(
        ValueError, "dy: expected shape (2, 3, 3, 3), got (2, 3, 3, 4)",
        wr.lp_pool_backward, np.ones((2, 3, 3, 4)), X, 2,
    )  # fmt: skip
    raises(
        TypeError, "x: expected float32 or float64, got int64; cast with x.astype(np.float64)",
        wr.lp_pool, X.astype(int), 2,
    )  # fmt: skip
    raises(
        ValueError, "out: expected memory of its own, got memory that x uses too",
        partial(wr.lp_pool, out=X[:, :, :3, :3]), X, 2,
    )  # fmt: skip


def test_an_exponent_beyond_the_dtype_is_infinite():
    x = np.array([[[1.0, -3.0]]], np.float32)
    for p in (10**400, 1e300, np.float64(np.inf)):
        np.testing.assert_array_equal(wr.lp_pool(x, 2, p), [[[3.0]]])


@pytest.mark.parametrize("p", [1, 2, 3, 2.5, np.inf])
def test_numerical_gradients(p):
    rng = np.random.default_rng(0)
    # No value is near 0 and no two magnitudes are near each other, for the kinks.
    x = (1 + rng.permutation(2 * 3 * 7 * 6).reshape(2, 3, 7, 6) / 10.0) * rng.choice([-1, 1], (2, 3, 7, 6))
    options = {"stride": 2, "padding": ((1, 0), (0, 1)), "ceil_mode": True}
    forward = partial(wr.lp_pool, kernel_size=3, p=p, **options)
    wr.gradcheck.assert_gradients(forward, partial(wr.lp_pool_backward, kernel_size=3, p=p, **options), (x,))
