"""Pooling with one window, against the reference and NumPy's own reductions."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import windrow as wr
from tests.errors import raises
from tests.pooling_problems import bits, dtypes, images, layouts, many, seeds
from windrow import reference

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)
channels = st.sampled_from([0, 1, 2, 3, 16, 19])
shapes = st.builds(lambda n, c, size: (n, c, *size), st.integers(0, 3), channels, sizes)


@many
@given(shape=shapes, dtype=dtypes, seed=seeds, special=st.booleans())
def test_maxima_and_their_places(shape, dtype, seed, special):
    x = images(shape, dtype, seed, special=special)
    y, indices = wr.global_max_pool_with_indices(x)
    expected, places = reference.global_max_pool_with_indices(x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_array_equal(wr.global_max_pool(x), y)
    dy = images(y.shape, dtype, seed + 1)
    dx = wr.global_max_pool_backward(dy, indices, shape)
    np.testing.assert_array_equal(dx, reference.max_pool_backward(dy, indices, shape))


@many
@given(shape=shapes, dtype=dtypes, seed=seeds)
def test_means_are_rounded_once_where_sums_are_exact(shape, dtype, seed):
    x = images(shape, dtype, seed)
    np.testing.assert_array_equal(wr.global_avg_pool(x), reference.global_avg_pool(x))
    dy = images((*shape[:2], *(1,) * (len(shape) - 2)), dtype, seed + 1)
    dx = wr.global_avg_pool_backward(dy, shape)
    np.testing.assert_array_equal(dx, np.broadcast_to(dy / dtype(np.prod(shape[2:])), shape))


@many
@given(shape=shapes, dtype=dtypes, seed=seeds)
def test_the_same_bits_for_any_threads_layout_and_batch(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    with wr.num_threads(1):
        y, top = wr.global_avg_pool(x), wr.global_max_pool(x)
    for change in layouts(rng):
        out, dx = change(np.zeros_like(y)), change(np.zeros_like(x))
        with wr.num_threads(3):
            np.testing.assert_array_equal(bits(wr.global_avg_pool(change(x))), bits(y))
            assert wr.global_avg_pool(change(x), out=out) is out
            np.testing.assert_array_equal(bits(out), bits(y))
            assert wr.global_max_pool(change(x), out=out) is out
            np.testing.assert_array_equal(bits(out), bits(top))
            assert wr.global_avg_pool_backward(change(y), shape, out=dx) is dx
    for i in range(len(x)):
        np.testing.assert_array_equal(bits(wr.global_avg_pool(x[i : i + 1])), bits(y[i : i + 1]))


def test_results_have_an_axis_of_1_for_every_spatial_axis():
    x = np.arange(24.0).reshape(2, 3, 1, 4)
    np.testing.assert_array_equal(wr.global_avg_pool(x), x.mean(axis=(2, 3), keepdims=True))
    np.testing.assert_array_equal(wr.global_max_pool(x), x.max(axis=(2, 3), keepdims=True))


@pytest.mark.parametrize(
    "function", [wr.global_avg_pool, wr.global_max_pool, wr.global_max_pool_with_indices]
)
def test_errors(function):
    raises(
        ValueError, "x: expected at least 3 axes (N, C and a spatial axis), got 2: (3, 4)",
        function, np.ones((3, 4)),
    )  # fmt: skip
    raises(
        ValueError, "x: expected spatial sizes of at least 1, got 0: (1, 2, 0)",
        function, np.ones((1, 2, 0)),
    )  # fmt: skip
    raises(
        TypeError, "x: expected float32 or float64, got int64; cast with x.astype(np.float64)",
        function, np.ones((1, 2, 3), int),
    )  # fmt: skip


def test_errors_of_the_ways_back():
    dy = np.ones((2, 3, 1, 1))
    raises(
        ValueError, "x_shape: expected spatial sizes of at least 1, got 0: (2, 3, 0, 4)",
        wr.global_avg_pool_backward, dy, (2, 3, 0, 4),
    )  # fmt: skip
    raises(
        ValueError, "dy: expected shape (2, 4, 1, 1), got (2, 3, 1, 1)",
        wr.global_avg_pool_backward, dy, (2, 4, 5, 5),
    )  # fmt: skip
    raises(
        ValueError, "dy: expected shape (2, 4) and 2 spatial axes, got (2, 3, 1, 1)",
        wr.global_max_pool_backward, dy, np.zeros(dy.shape, int), (2, 4, 5, 5),
    )  # fmt: skip


def test_numerical_gradients():
    x = np.random.default_rng(0).permutation(60).reshape(2, 3, 5, 2) / 10.0
    wr.gradcheck.assert_gradients(
        wr.global_avg_pool, lambda dy, x: wr.global_avg_pool_backward(dy, x.shape), (x,)
    )
    wr.gradcheck.assert_gradients(
        wr.global_max_pool,
        lambda dy, x: wr.global_max_pool_backward(dy, wr.global_max_pool_with_indices(x).indices, x.shape),
        (x,),
    )
