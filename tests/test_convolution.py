"""The compiled convolution and its gradients against the reference, over generated problems."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import windrow as wr
from tests import tolerances
from tests.examples import per_target
from tests.problems import channels_last, problems, scrambled
from windrow import _core, reference
from windrow.arrays import is_channels_last

CHUNK = _core._testing.CHUNK

dtypes = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)


def operands(problem, dtype, seed, *, integers=False):
    rng = np.random.default_rng(seed)

    def draw(shape):
        values = rng.integers(-4, 5, shape) if integers else rng.standard_normal(shape)
        return values.astype(dtype)

    shapes = problem.x_shape, problem.w_shape, (problem.w_shape[0],), problem.y_shape
    return [draw(shape) for shape in shapes]


def assert_within(result, exact, bound):
    assert result.dtype == exact.dtype
    assert result.shape == exact.shape
    error = np.abs(result.astype(np.longdouble) - exact)
    assert np.all(error <= bound), f"worst error / bound: {np.max(error / np.maximum(bound, 1e-300))}"


@pytest.mark.parametrize("threads", [1, 2, 5])
@per_target(60)
@given(problem=problems(), dtype=dtypes, seed=seeds)
def test_agrees_with_the_reference(target, threads, problem, dtype, seed):
    x, w, b, dy = operands(problem, dtype, seed)
    options = problem.options
    with wr.num_threads(threads):
        y = wr.conv(x, w, b, **options)
        dx, dw, db = wr.conv_backward(dy, x, w, **options)
    assert_within(
        y,
        reference.conv(x, w, b, **options),
        tolerances.conv_error_bound(x, w, b, chunk=CHUNK, **options),
    )
    assert_within(
        dx,
        reference.conv_grad_input(dy, w, x.shape, **options),
        tolerances.conv_grad_input_error_bound(dy, w, x.shape, chunk=CHUNK, **options),
    )
    assert_within(
        dw,
        reference.conv_grad_weight(dy, x, w.shape, **options),
        tolerances.conv_grad_weight_error_bound(
            dy,
            x,
            w.shape,
            roundings=wr.explain("conv_grad_weight", x.shape, w.shape, dtype=dtype, **options)["roundings"],
            **options,
        ),
    )
    assert_within(db, reference.conv_grad_bias(dy), tolerances.conv_grad_bias_error_bound(dy, chunk=CHUNK))


@per_target(60)
@given(problem=problems(max_rank=5, max_channels=6), dtype=dtypes, seed=seeds)
def test_integer_values_are_exact_at_any_rank(target, problem, dtype, seed):
    x, w, b, dy = operands(problem, dtype, seed, integers=True)
    options = problem.options
    np.testing.assert_array_equal(wr.conv(x, w, b, **options), reference.conv(x, w, b, **options))
    dx, dw, db = wr.conv_backward(dy, x, w, **options)
    np.testing.assert_array_equal(dx, reference.conv_grad_input(dy, w, x.shape, **options))
    np.testing.assert_array_equal(dw, reference.conv_grad_weight(dy, x, w.shape, **options))
    np.testing.assert_array_equal(db, reference.conv_grad_bias(dy))


@per_target(60)
@given(problem=problems(), dtype=dtypes, seed=seeds)
def test_same_bits_for_any_threads_layout_and_batch(target, problem, dtype, seed):
    """Promise 4: y, dx for any threads, strides and batch; dw, db for any threads and strides."""
    x, w, b, dy = operands(problem, dtype, seed)
    options = problem.options
    with wr.num_threads(1):
        y = wr.conv(x, w, b, **options)
        dx, dw, db = wr.conv_backward(dy, x, w, **options)
    rng = np.random.default_rng(seed)
    odd = {
        "scrambled": lambda a: scrambled(rng, a),
        "channels last": lambda a: channels_last(a) if a.ndim > 2 else a,
        "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
        "unaligned": unaligned,
    }
    for name, change in odd.items():
        x2, w2, b2, dy2 = (change(a) for a in (x, w, b, dy))
        y_out, dx_out, dw_out = (scrambled(rng, np.zeros_like(a)) for a in (y, dx, dw))
        with wr.num_threads(3):
            np.testing.assert_array_equal(bits(wr.conv(x2, w2, b2, out=y_out, **options)), bits(y), name)
            dx2, dw2, db2 = wr.conv_backward(dy2, x2, w2, **options)
            wr.conv_grad_input(dy2, w2, x.shape, out=dx_out, **options)
            wr.conv_grad_weight(dy2, x2, w.shape, out=dw_out, **options)
        for other, same in [(dx2, dx), (dx_out, dx), (dw2, dw), (dw_out, dw), (db2, db)]:
            np.testing.assert_array_equal(bits(other), bits(same), name)
    for i in range(len(x)):
        np.testing.assert_array_equal(bits(wr.conv(x[i : i + 1], w, b, **options)), bits(y[i : i + 1]))
        dxi = wr.conv_grad_input(dy[i : i + 1], w, x[i : i + 1].shape, **options)
        np.testing.assert_array_equal(bits(dxi), bits(dx[i : i + 1]))


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32 if array.itemsize == 4 else np.uint64)


def unaligned(array):
    raw = np.empty(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


@per_target(60)
@given(problem=problems(), dtype=dtypes, seed=seeds)
def test_non_finite_values_stay_where_a_term_reaches(target, problem, dtype, seed):
    """Promise 5: NaN, Inf and finite entries are exactly those of the direct sum."""
    x, w, b, dy = operands(problem, dtype, seed)
    rng = np.random.default_rng(seed)
    for array in (x, w, dy):
        for value in (np.nan, np.inf, -np.inf):
            if array.size and rng.random() < 0.7:
                array.flat[rng.integers(array.size)] = value
    options = problem.options
    assert_same_kind(wr.conv(x, w, b, **options), reference.conv(x, w, b, **options))
    dx, dw, db = wr.conv_backward(dy, x, w, **options)
    assert_same_kind(dx, reference.conv_grad_input(dy, w, x.shape, **options))
    assert_same_kind(dw, reference.conv_grad_weight(dy, x, w.shape, **options))
    assert_same_kind(db, reference.conv_grad_bias(dy))


def assert_same_kind(result, exact):
    np.testing.assert_array_equal(np.isnan(result), np.isnan(exact))
    np.testing.assert_array_equal(np.isposinf(result), np.isposinf(exact))
    np.testing.assert_array_equal(np.isneginf(result), np.isneginf(exact))


@per_target(60)
@given(problem=problems(), dtype=dtypes, seed=seeds)
def test_adjoint_identities_are_exact_on_integers(target, problem, dtype, seed):
    """<dy, conv(x, w)> = <conv_grad_input(dy, w), x> = <conv_grad_weight(dy, x), w>."""
    x, w, _, dy = operands(problem, dtype, seed, integers=True)
    dx, dw, _ = wr.conv_backward(dy, x, w, needs=("x", "w"), **problem.options)
    inner = np.vdot(dy.astype(np.float64), wr.conv(x, w, **problem.options))
    assert inner == np.vdot(dx.astype(np.float64), x) == np.vdot(dw.astype(np.float64), w)


@per_target(60)
@given(problem=problems(), dtype=dtypes, seed=seeds)
def test_accumulate_adds_to_out(target, problem, dtype, seed):
    x, w, _, dy = operands(problem, dtype, seed, integers=True)
    options = problem.options
    rng = np.random.default_rng(seed)
    for function, args, shape in [
        (wr.conv_grad_input, (dy, w, x.shape), x.shape),
        (wr.conv_grad_weight, (dy, x, w.shape), w.shape),
    ]:
        start = rng.integers(-9, 9, shape).astype(dtype)
        total = start.copy()
        assert function(*args, out=total, accumulate=True, **options) is total
        np.testing.assert_array_equal(total, start + function(*args, **options))
    start = rng.integers(-9, 9, w.shape[0]).astype(dtype)
    total = start.copy()
    wr.conv_grad_bias(dy, out=total, accumulate=True)
    np.testing.assert_array_equal(total, start + wr.conv_grad_bias(dy))


@per_target(60)
@given(problem=problems(), dtype=dtypes, seed=seeds)
def test_a_small_workspace_gives_the_same_sums(target, problem, dtype, seed):
    x, w, b, dy = operands(problem, dtype, seed, integers=True)
    options = {**problem.options, "max_workspace": 200_000}
    with wr.num_threads(1):
        np.testing.assert_array_equal(wr.conv(x, w, b, **options), wr.conv(x, w, b, **problem.options))
        small, usual = (wr.conv_backward(dy, x, w, **o) for o in (options, problem.options))
    for a, b in zip(small, usual, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((2, 3, 1700), (3, 3, 1500), {"padding": 30}),
        ((2, 3, 1700), (3, 3, 1500), {"padding": 30, "stride": 3}),
        ((1, 2, 45, 50), (3, 2, 40, 37), {"padding": ((5, 0), (0, 9))}),
        ((1, 2, 3, 1150), (3, 2, 2, 1100), {"padding": (1, 2)}),
        ((1, 80, 1700), (2, 80, 1500), {"padding": 30}),  # y by panels, as a strip would be too large
        ((1, 2, 1700), (80, 2, 1500), {"padding": 30}),  # dx by panels
    ],
)
def test_windows_of_thousands_of_taps(target, x_shape, w_shape, options):
    """Tables of panels are then made for some taps at a time."""
    if 80 in x_shape + w_shape:
        operation = "conv" if 80 in x_shape else "conv_grad_input"
        assert wr.explain(operation, x_shape, w_shape, **options)["kernel"] == "window_product"
    rng = np.random.default_rng(7)
    x, w = (rng.integers(-4, 5, shape).astype(np.float32) for shape in (x_shape, w_shape))
    y = wr.conv(x, w, **options)
    np.testing.assert_array_equal(y, reference.conv(x, w, **options))
    dy = rng.integers(-4, 5, y.shape).astype(np.float32)
    dx = wr.conv_grad_input(dy, w, x_shape, **options)
    np.testing.assert_array_equal(dx, reference.conv_grad_input(dy, w, x_shape, **options))


@per_target(60)
@given(problem=problems(), dtype=dtypes, seed=seeds)
def test_same_bits_for_any_threads_under_a_limit(target, problem, dtype, seed):
    x, w, b, dy = operands(problem, dtype, seed)
    options = {**problem.options, "max_workspace": 200_000}
    results = []
    for threads in (1, 4):
        with wr.num_threads(threads):
            results.append((wr.conv(x, w, b, **options), *wr.conv_backward(dy, x, w, **options)))
    for one, four in zip(*results, strict=True):
        np.testing.assert_array_equal(bits(one), bits(four))


def columns_first(array):
    """Channels innermost, but columns outside of rows: neither memory format."""
    return channels_last(array.swapaxes(2, 3)).swapaxes(2, 3)


@pytest.mark.parametrize("fmt", [np.ascontiguousarray, channels_last, columns_first])
def test_memory_format_follows_the_input(fmt):
    x = fmt(np.ones((2, 3, 5, 6), np.float32))
    w = np.ones((4, 3, 3, 3), np.float32)
    y = wr.conv(x, w)
    last = fmt is channels_last
    assert is_channels_last(y) is last
    assert y.flags.c_contiguous is not last
    assert is_channels_last(wr.conv_backward(np.ones_like(y), x, w).dx) is last
    assert is_channels_last(wr.conv_grad_input(y, w, x.shape)) is last
    assert wr.conv_grad_weight(y, x, w.shape).flags.c_contiguous


def test_inputs_are_not_written():
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s) for s in [(2, 3, 6, 6), (4, 3, 3, 3), (4,)])
    dy = rng.standard_normal((2, 4, 4, 4))
    for array in (x, w, b, dy):
        array.flags.writeable = False
    wr.conv(x, w, b)
    wr.conv_backward(dy, x, w)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weight_gradient_of_several_boxes(target, dtype):
    """Boxes of pixels of several sizes, added in slots, to a dw whose channels lie side by side or apart."""
    rng = np.random.default_rng(12)
    x = rng.integers(-4, 5, (3, 16, 41, 37)).astype(dtype)
    dy = rng.integers(-4, 5, (3, 9, 41, 37)).astype(dtype)
    expected = reference.conv_grad_weight(dy, x, (9, 16, 3, 3), padding=1)
    for out in (np.full((9, 16, 3, 3), np.nan, dtype), np.full((9, 32, 3, 3), np.nan, dtype)[:, ::2]):
        wr.conv_grad_weight(dy, x, (9, 16, 3, 3), padding=1, out=out, algorithm="direct")
        np.testing.assert_array_equal(out, expected)
