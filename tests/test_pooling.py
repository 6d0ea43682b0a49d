"""Pooling and its way back against the reference and PyTorch, over generated problems."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import windrow as wr
from tests.errors import raises
from tests.pooling_problems import bits, dtypes, fitting, images, layouts, many, problems, seeds
from tests.problems import channels_last
from windrow import _core, reference
from windrow.arrays import is_channels_last


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds, special=st.booleans())
def test_max_pool_is_the_reference(problem, dtype, seed, special):
    x_shape, kernel, options = problem
    x = images(x_shape, dtype, seed, special=special)
    y, indices = wr.max_pool_with_indices(x, kernel, **options)
    expected, places = reference.max_pool_with_indices(x, kernel, **options)
    np.testing.assert_array_equal(bits(y), bits(expected))
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_array_equal(bits(wr.max_pool(x, kernel, **options)), bits(expected))


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds)
def test_max_pool_has_the_same_bits_for_any_threads_layout_and_batch(problem, dtype, seed):
    x_shape, kernel, options = problem
    x = images(x_shape, dtype, seed, special=True)
    with wr.num_threads(1):
        y, indices = wr.max_pool_with_indices(x, kernel, **options)
    rng = np.random.default_rng(seed)
    for change in layouts(rng):
        with wr.num_threads(3):
            other, places = wr.max_pool_with_indices(change(x), kernel, **options)
            out = change(np.zeros_like(y))
            assert wr.max_pool(change(x), kernel, out=out, **options) is out
        np.testing.assert_array_equal(bits(other), bits(y))
        np.testing.assert_array_equal(bits(out), bits(y))
        np.testing.assert_array_equal(places, indices)
    for i in range(len(x)):
        np.testing.assert_array_equal(bits(wr.max_pool(x[i : i + 1], kernel, **options)), bits(y[i : i + 1]))


@many
@given(problem=problems(max_rank=4).filter(fitting), dtype=dtypes, seed=seeds)
def test_the_way_back_of_a_maximum(problem, dtype, seed):
    x_shape, kernel, options = problem
    x = images(x_shape, dtype, seed)
    y, indices = wr.max_pool_with_indices(x, kernel, **options)
    dy = images(y.shape, dtype, seed + 1)
    dx = wr.max_pool_backward(dy, indices, x_shape)
    np.testing.assert_array_equal(dx, reference.max_pool_backward(dy, indices, x_shape))
    seen = indices >= 0  # a window without a pixel has no part in the adjoint identity
    assert np.vdot(dy[seen].astype(float), y[seen]) == np.vdot(dx.astype(float), x)
    rng = np.random.default_rng(seed)
    for change in layouts(rng):
        out = change(np.ones_like(x))
        with wr.num_threads(3):
            np.testing.assert_array_equal(
                wr.max_pool_backward(change(dy), np.asfortranarray(indices), x_shape), dx
            )
            assert wr.max_pool_backward(dy, indices, x_shape, out=out) is out
        np.testing.assert_array_equal(out, dx)


@settings(many, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    count=st.tuples(st.integers(1, 2), st.sampled_from([1, 2, 8, 17, 19])),
    size=st.tuples(st.integers(1, 5), st.integers(1, 37)),
    dtype=dtypes,
    seed=seeds,
    elsewhere=st.booleans(),
)
def test_the_way_back_to_windows_of_two_by_two(target, count, size, dtype, seed, elsewhere):
    """Which has a kernel of its own, as long as every index lies in its window."""
    x_shape = (*count, *(2 * length for length in size))
    dy = images((*count, *size), dtype, seed, special=True)
    indices = wr.max_pool_with_indices(images(x_shape, dtype, seed + 1), 2).indices
    rng = np.random.default_rng(seed)
    if elsewhere:
        others = rng.integers(-1, 4 * size[0] * size[1], indices.shape)
        indices = np.where(rng.random(indices.shape) < 0.05, others, indices)
    with np.errstate(invalid="ignore"):
        expected = reference.max_pool_backward(dy, indices, x_shape)
    assert _core.target() == target
    for change in (np.ascontiguousarray, *layouts(rng)):
        with wr.num_threads(3):
            places = channels_last(indices) if change is channels_last else indices
            dx = wr.max_pool_backward(change(dy), places, x_shape)
            np.testing.assert_array_equal(bits(dx), bits(expected))
            out = change(np.ones(x_shape, dtype))
            assert wr.max_pool_backward(dy, indices, x_shape, out=out) is out
        np.testing.assert_array_equal(bits(out), bits(expected))


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds)
def test_max_unpool_and_its_adjoint(problem, dtype, seed):
    x_shape, kernel, options = problem
    y, indices = wr.max_pool_with_indices(images(x_shape, dtype, seed), kernel, **options)
    back = wr.max_unpool(y, indices, x_shape[2:])
    np.testing.assert_array_equal(back, reference.max_unpool(y, indices, x_shape[2:]))
    for change in layouts(np.random.default_rng(seed)):
        np.testing.assert_array_equal(wr.max_unpool(change(y), channels_last(indices), x_shape[2:]), back)
    dy = images(x_shape, dtype, seed + 1)
    dx = wr.max_unpool_backward(dy, indices)
    seen = indices >= 0
    flat = dy.reshape(*x_shape[:2], int(np.prod(x_shape[2:])))
    for n, c in np.ndindex(x_shape[:2]):
        np.testing.assert_array_equal(dx[n, c][seen[n, c]], flat[n, c][indices[n, c][seen[n, c]]])
    assert np.all(dx[~seen] == 0)


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds, include=st.booleans())
def test_avg_pool_is_the_reference_rounded_once(problem, dtype, seed, include):
    """Sums of these integers are exact, and so the division is the only rounding."""
    x_shape, kernel, options = problem
    options = {**options, "count_include_pad": include}
    x = images(x_shape, dtype, seed)
    y = wr.avg_pool(x, kernel, **options)
    np.testing.assert_array_equal(y, reference.avg_pool(x, kernel, **options))
    assert y.dtype == dtype


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds, include=st.booleans())
def test_avg_pool_has_the_same_bits_for_any_threads_layout_and_batch(problem, dtype, seed, include):
    x_shape, kernel, options = problem
    options = {**options, "count_include_pad": include}
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(x_shape).astype(dtype)
    with wr.num_threads(1):
        y = wr.avg_pool(x, kernel, **options)
        dx = wr.avg_pool_backward(y, x_shape, kernel, **options)
    for change in layouts(rng):
        out, dx_out = change(np.zeros_like(y)), change(np.zeros_like(x))
        with wr.num_threads(3):
            other = wr.avg_pool(change(x), kernel, **options)
            assert wr.avg_pool(change(x), kernel, out=out, **options) is out
            back = wr.avg_pool_backward(change(y), x_shape, kernel, **options)
            wr.avg_pool_backward(change(y), x_shape, kernel, out=dx_out, **options)
        for got, expected in [(other, y), (out, y), (back, dx), (dx_out, dx)]:
            np.testing.assert_array_equal(bits(got), bits(expected))
    for i in range(len(x)):
        np.testing.assert_array_equal(bits(wr.avg_pool(x[i : i + 1], kernel, **options)), bits(y[i : i + 1]))


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds, include=st.booleans())
def test_avg_pool_backward_is_the_reference(problem, dtype, seed, include):
    x_shape, kernel, options = problem
    options = {**options, "count_include_pad": include}
    shape = (*x_shape[:2], *reference.pool_windows(x_shape[2:], kernel, **problem[2]).output)
    dy = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    dx = wr.avg_pool_backward(dy, x_shape, kernel, **options)
    exact = reference.avg_pool_backward(dy, x_shape, kernel, dtype=np.float64, **options)
    size = reference.avg_pool_backward(np.abs(dy), x_shape, kernel, dtype=np.float64, **options)
    # Every window that sees a pixel is a term: a division and an addition each, in any order.
    info = np.finfo(dtype)
    terms = int(np.prod(kernel))
    bound = (terms + 1) * info.eps * size + terms * info.smallest_subnormal
    assert np.all(np.abs(dx - exact) <= bound + info.eps * np.abs(exact) * (dtype == np.float64))


@many
@given(problem=problems(max_rank=4, kernels=(1, 2, 4)).filter(fitting), dtype=dtypes, seed=seeds)
def test_adjoint_of_avg_pool_is_exact_on_integers(problem, dtype, seed):
    x_shape, kernel, options = problem
    options = {**options, "ceil_mode": False}  # so that all counts are powers of two
    if not fitting((x_shape, kernel, options)):
        return
    x = images(x_shape, dtype, seed)
    y = wr.avg_pool(x, kernel, **options)
    dy = images(y.shape, dtype, seed + 1)
    dx = wr.avg_pool_backward(dy, x_shape, kernel, **options)
    assert np.vdot(dy.astype(float), y) == np.vdot(dx.astype(float), x)


@many
@given(problem=problems().filter(fitting), dtype=dtypes, seed=seeds)
def test_non_finite_sums_are_those_of_the_pixels_seen(problem, dtype, seed):
    x_shape, kernel, options = problem
    x = images(x_shape, dtype, seed, special=True)
    np.testing.assert_array_equal(wr.avg_pool(x, kernel, **options), reference.avg_pool(x, kernel, **options))


def test_windows_of_more_taps_than_a_chunk():
    x = np.arange(2 * 3 * 20 * 21.0).reshape(2, 3, 20, 21)
    np.testing.assert_array_equal(wr.avg_pool(x, (20, 21)), x.mean(axis=(2, 3), keepdims=True))
    np.testing.assert_array_equal(wr.max_pool(x, (20, 21)), x.max(axis=(2, 3), keepdims=True))
    ones = np.ones((1, 9, 4000), np.float32)
    assert np.all(wr.avg_pool(channels_last(ones), 4000) == 1)


def test_places_that_do_not_fit_32_bits():
    """A window that spans more than 2**31 pixels, on an image whose pixels are one in memory."""
    x = np.broadcast_to(np.float32(3), (1, 1, 65536, 65536))
    y, indices = wr.max_pool_with_indices(
        x, 2, stride=(30000, 4), dilation=(40000, 1), padding=((0, 0), (1, 0))
    )
    assert y.shape == (1, 1, 1, 16384)
    np.testing.assert_array_equal(indices[0, 0, 0, :3], [0, 3, 7])
    nan_last = np.lib.stride_tricks.as_strided(np.array([1, 2], np.float32), (1, 1, 2, 65536), (0, 0, 4, 0))
    assert wr.max_pool_with_indices(nan_last, (2, 1)).indices[0, 0, 0, 5] == 65536 + 5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", [np.ascontiguousarray, channels_last])
def test_kernels_of_every_target(target, dtype, fmt):
    """Rows of lengths about those of vectors, under steps of 1, 2 and others, with ties, NaN and zeros."""
    assert _core.target() == target
    for width in (*range(2, 40), 70, 131):
        for kernel, stride in ((2, 2), (3, 2), (3, 1), (2, 3)):
            x = fmt(images((2, 5, 6, max(width, kernel)), dtype, width, special=True))
            options = {"stride": stride, "padding": kernel // 2}
            y, indices = wr.max_pool_with_indices(x, kernel, **options)
            expected, places = reference.max_pool_with_indices(x, kernel, **options)
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(indices, places)
            np.testing.assert_array_equal(bits(wr.max_pool(x, kernel, **options)), bits(expected))
            mean = reference.avg_pool(x, kernel, **options)
            np.testing.assert_array_equal(wr.avg_pool(x, kernel, **options), mean)
            # Counts of 4 and 9, and pixels that no window sees.
            plain = {"stride": kernel}
            size = reference.pool_windows(x.shape[2:], kernel, **plain).output
            dy = fmt(36 * images((2, 5, *size), dtype, width + 1))
            dx = wr.avg_pool_backward(dy, x.shape, kernel, **plain)
            np.testing.assert_array_equal(dx, reference.avg_pool_backward(dy, x.shape, kernel, **plain))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmt", [np.ascontiguousarray, channels_last])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1), (5, 3, 2)]
)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_agrees_with_torch(dtype, fmt, kernel, stride, padding, ceil_mode):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x = fmt(images((2, 19, 15, 23), dtype, 3))
    x[:, ::4] = -np.inf  # padding does not win over -inf
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    value, places = f.max_pool2d(leaf, kernel, return_indices=True, **options)
    y, indices = wr.max_pool_with_indices(x, kernel, **options)
    np.testing.assert_array_equal(y, value.detach().numpy())
    np.testing.assert_array_equal(indices, places.numpy())
    dy = images(y.shape, dtype, 4)
    value.backward(torch.from_numpy(dy))
    np.testing.assert_array_equal(wr.max_pool_backward(dy, indices, x.shape), leaf.grad.numpy())
    for include in (True, False):
        x = fmt(images((2, 19, 15, 23), dtype, 5))
        leaf = torch.from_numpy(x.copy()).requires_grad_()
        value = f.avg_pool2d(leaf, kernel, count_include_pad=include, **options)
        mean = wr.avg_pool(x, kernel, count_include_pad=include, **options)
        np.testing.assert_array_equal(mean, value.detach().numpy())
        value.backward(torch.from_numpy(dy))
        dx = wr.avg_pool_backward(dy, x.shape, kernel, count_include_pad=include, **options)
        bound = 2 * (kernel**2 + 1) * np.finfo(dtype).eps * 4 * kernel**2
        assert np.all(np.abs(dx - leaf.grad.numpy()) <= bound)


def test_nan_is_the_maximum_and_the_first_one_counts():
    x = np.array([[[1.0, np.nan, 5.0, np.nan, 2.0, 7.0]]])
    y, indices = wr.max_pool_with_indices(x, 4, stride=2)
    assert np.isnan(y).all()
    np.testing.assert_array_equal(indices, [[[1, 3]]])


def test_a_window_without_a_pixel():
    x = np.ones((1, 1, 1))
    options = {"stride": 1, "padding": 1, "dilation": 2}
    y, indices = wr.max_pool_with_indices(x, 2, **options)
    np.testing.assert_array_equal(y, [[[-np.inf]]])
    np.testing.assert_array_equal(indices, [[[-1]]])
    np.testing.assert_array_equal(wr.max_pool_backward(y, indices, x.shape), [[[0.0]]])
    np.testing.assert_array_equal(wr.avg_pool(x, 2, count_include_pad=False, **options), [[[0.0]]])


@pytest.mark.parametrize("fmt", [np.ascontiguousarray, channels_last])
def test_memory_format_follows_the_input(fmt):
    last = fmt is channels_last
    x = fmt(np.ones((2, 3, 6, 8)))
    for _ in range(2):  # the second call takes the fast lane
        y, indices = wr.max_pool_with_indices(x, 2)
        results = [y, indices, wr.max_pool(x, 2), wr.avg_pool(x, 2), wr.max_unpool(y, indices, (6, 8))]
        results += [wr.max_pool_backward(y, indices, x.shape), wr.avg_pool_backward(y, x.shape, 2)]
        assert [is_channels_last(a) for a in results] == [last] * len(results)


X = np.ones((2, 3, 6, 7))

ERRORS = [
    ({"kernel_size": 9}, ValueError, "kernel_size: expected a window of at most 6 on spatial axis 0 "
     "(size 6 + padding 0 + 0), got 9 (kernel 9, dilation 1): 3 too large"),
    ({"kernel_size": (2, 2, 2)}, ValueError, "x: expected 5 axes (N, C and 3 spatial) for the 3-D "
     "kernel_size (2, 2, 2), got 4: (2, 3, 6, 7); for one image without N pass x[None]"),
    ({"stride": 0}, ValueError, "stride: expected at least 1, got 0"),
    ({"padding": -1}, ValueError, "padding: expected at least 0, got -1; to crop, slice the array"),
    ({"ceil_mode": 1}, TypeError, "ceil_mode: expected a bool, got int: 1"),
    ({"x": X.astype(int)}, TypeError, "x: expected float32 or float64, got int64; "
     "cast with x.astype(np.float64)"),
    ({"out": np.ones((2, 3, 3, 4))}, ValueError, "out: expected shape (2, 3, 3, 3), got (2, 3, 3, 4)"),
    ({"out": X[:, :, :3, :3]}, ValueError, "out: expected memory of its own, got memory that x uses too"),
]  # fmt: skip


@pytest.mark.parametrize("function", [wr.max_pool, wr.avg_pool])
@pytest.mark.parametrize(("changes", "kind", "text"), ERRORS)
def test_errors(function, changes, kind, text):
    arguments = {"x": X, "kernel_size": 2, **changes}
    raises(kind, text, function, arguments.pop("x"), arguments.pop("kernel_size"), **arguments)


def test_errors_of_the_ways_back():
    dy, indices = np.ones((2, 3, 3, 3)), np.zeros((2, 3, 3, 3), int)
    raises(TypeError, "indices: expected ints, got float64", wr.max_pool_backward, dy, dy, X.shape)
    raises(
        ValueError, "indices: expected shape (2, 3, 3, 3), got (2, 3, 3, 4)",
        wr.max_pool_backward, dy, np.zeros((2, 3, 3, 4), int), X.shape,
    )  # fmt: skip
    raises(
        ValueError, "dy: expected shape (2, 4) and 2 spatial axes, got (2, 3, 3, 3)",
        wr.max_pool_backward, dy, indices, (2, 4, 6, 7),
    )  # fmt: skip
    raises(
        ValueError, "x_shape: expected at least 3 axes (N, C and a spatial axis), got (2, 3)",
        wr.max_pool_backward, dy, indices, (2, 3),
    )  # fmt: skip
    raises(
        ValueError, "dy: expected shape (2, 3, 3, 3), got (2, 3, 3, 4)",
        wr.avg_pool_backward, np.ones((2, 3, 3, 4)), X.shape, 2,
    )  # fmt: skip
    raises(
        TypeError, "count_include_pad: expected a bool, got int: 1",
        wr.avg_pool, X, 2, count_include_pad=1,
    )  # fmt: skip
    raises(
        ValueError, "output_size: expected 2 values for a 2-D window, got 1: (6,)",
        wr.max_unpool, dy, indices, (6,),
    )  # fmt: skip
    raises(
        ValueError, "indices: expected shape (2, 3) and 2 spatial axes, got (1, 3, 3, 3)",
        wr.max_unpool_backward, X, indices[:1],
    )  # fmt: skip


@pytest.mark.parametrize("wrong", [-2, 42, 2**62])
def test_indices_out_of_range_are_refused_and_nothing_is_written(wrong):
    dy, indices = np.ones((2, 3, 3, 3)), np.zeros((2, 3, 3, 3), int)
    indices[1, 2, 0, 1] = wrong
    text = f"indices: expected -1 to 41 for shape (2, 3, 6, 7), got {wrong}"
    raises(ValueError, text, wr.max_pool_backward, dy, indices, X.shape)
    raises(ValueError, text, wr.max_unpool, dy, indices, (6, 7))
    raises(ValueError, text, wr.max_unpool_backward, X, indices)
    out = np.full(X.shape, 5.0)
    raises(ValueError, text, wr.max_pool_backward, dy, indices, X.shape, out=out)
    assert np.all(out == 5)


def test_inputs_are_not_written():
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 7))
    x.flags.writeable = False
    y, indices = wr.max_pool_with_indices(x, 3, padding=1)
    for array in (y, indices):
        array.flags.writeable = False
    wr.max_pool_backward(y, indices, x.shape)
    wr.avg_pool_backward(y, x.shape, 3, padding=1, count_include_pad=False)
    wr.max_unpool_backward(x, indices)


def test_numerical_gradients():
    rng = np.random.default_rng(0)
    # No two values are nearer to each other than the steps of the differences.
    x = rng.permutation(2 * 3 * 7 * 6).reshape(2, 3, 7, 6) / 10.0
    options = {"stride": 2, "padding": ((1, 0), (0, 1)), "ceil_mode": True}

    def max_backward(dy, x):
        return wr.max_pool_backward(dy, wr.max_pool_with_indices(x, 3, **options).indices, x.shape)

    def avg_backward(dy, x):
        return wr.avg_pool_backward(dy, x.shape, 3, count_include_pad=False, **options)

    wr.gradcheck.assert_gradients(lambda x: wr.max_pool(x, 3, **options), max_backward, (x,))
    wr.gradcheck.assert_gradients(
        lambda x: wr.avg_pool(x, 3, count_include_pad=False, **options), avg_backward, (x,)
    )
