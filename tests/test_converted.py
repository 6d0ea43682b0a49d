"""Convolution of integers, halves and complex numbers, against exact sums, the reference and PyTorch."""

from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import windrow as wr
from tests.errors import raises
from tests.pooling_problems import many, seeds
from tests.problems import channels_last, problems, scrambled
from windrow import converted, reference
from windrow.arrays import is_channels_last

integers = st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "uint32"])
cuts = st.sampled_from([1, 4 << 20])  # bytes of a block: one image, or all of these


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(converted, "_BLOCK_BYTES", converted._BLOCK_BYTES)


def of_integers(rng, shape, dtype):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


@many
@given(problem=problems(), kinds=st.tuples(integers, integers), seed=seeds, cut=cuts)
def test_integers_are_exact_or_refused(problem, kinds, seed, cut):
    converted._BLOCK_BYTES = cut
    rng = np.random.default_rng(seed)
    x, w = (of_integers(rng, s, d) for s, d in zip((problem.x_shape, problem.w_shape), kinds, strict=True))
    b = of_integers(rng, problem.w_shape[:1], "int32")
    exact = reference.conv(x.astype(object), w.astype(object), **problem.options)
    exact = exact + b.astype(object).reshape(-1, *(1,) * (x.ndim - 2))
    for dtype in (np.int32, np.int64):
        call = partial(wr.conv, x, w, b, **problem.options, accumulator=dtype)
        info = np.iinfo(dtype)
        if all(info.min <= value <= info.max for value in exact.flat):
            try:
                y = call()
            except OverflowError:  # a bound on the sums, where 64 bits may not hold them
                assert int(converted._largest(x)) * converted._row_sum(w) + converted._largest(b) >= 2**63
                continue
            assert y.dtype == dtype
            assert np.array_equal(y.astype(object), exact)
            np.testing.assert_array_equal(
                wr.conv(np.asfortranarray(x), w, b, **problem.options, accumulator=dtype), y
            )
        else:
            with pytest.raises(OverflowError):
                call()


@pytest.mark.parametrize("kind", ["int8", "int16", "int32"])
def test_the_largest_integers(kind):
    """Sums of products of the smallest values: 2**14, 2**30 and 2**62 each."""
    least = np.full((1, 1, 1), np.iinfo(kind).min, kind)
    accumulator = np.int32 if kind == "int8" else np.int64
    y = wr.conv(least, least, accumulator=accumulator)
    assert int(y[0, 0, 0]) == int(np.iinfo(kind).min) ** 2


def test_an_overflow_is_reported_and_nothing_is_written():
    x, w = np.full((1, 140000, 1), 127, np.int8), np.full((1, 140000, 1), 127, np.int8)
    out = np.full((1, 1, 1), 5, np.int32)
    text = (
        "accumulator: expected sums that int32 holds, got 2258060000 to 2258060000; take accumulator=np.int64"
    )
    raises(OverflowError, text, partial(wr.conv, x, w, accumulator=np.int32, out=out))
    assert out == 5
    assert wr.conv(x, w, accumulator=np.int64) == 2258060000
    x = np.full((1, 3, 1), np.iinfo(np.int32).min, np.int32)
    text = f"accumulator: expected sums that 64 bits hold, got a bound of {3 * 2**62} for them"
    raises(OverflowError, text, partial(wr.conv, x, x, accumulator=np.int64))


def test_errors_of_integers():
    x, w = np.ones((1, 2, 5), np.int8), np.ones((3, 2, 2), np.int8)
    raises(
        TypeError, "accumulator: expected int32 or int64, got <class 'numpy.int16'>",
        partial(wr.conv, x, w, accumulator=np.int16),
    )  # fmt: skip
    raises(TypeError, "accumulator: expected int32 or int64, got 7", partial(wr.conv, x, w, accumulator=7))
    raises(
        TypeError, "w: expected integers of 8, 16 or 32 bits with accumulator=, got float64",
        partial(wr.conv, x, w.astype(float), accumulator=np.int32),
    )  # fmt: skip
    raises(
        TypeError, "b: expected integers that int32 holds, got float64",
        partial(wr.conv, x, w, np.ones(3), accumulator=np.int32),
    )  # fmt: skip
    raises(ValueError, "b: expected shape (3,), got (2,)",
           partial(wr.conv, x, w, np.ones(2, np.int32), accumulator=np.int32))  # fmt: skip
    raises(
        TypeError, "out: expected dtype int32, got int64",
        partial(wr.conv, x, w, accumulator=np.int32, out=np.ones((1, 3, 4), np.int64)),
    )  # fmt: skip
    raises(
        TypeError, "x: expected float32 or float64, got int8; cast with x.astype(np.float32)",
        partial(wr.conv, x, w),
    )  # fmt: skip


def halves():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    return [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]


@many
@given(problem=problems(), seed=seeds, which=st.integers(0, 1), cut=cuts)
def test_halves_are_summed_in_float32_and_rounded_once(problem, seed, which, cut):
    converted._BLOCK_BYTES = cut
    dtype = halves()[which]
    rng = np.random.default_rng(seed)
    shapes = (problem.x_shape, problem.w_shape, problem.y_shape, problem.w_shape[:1])
    # Whole numbers, whose sums float32 holds and a half does not.
    x, w, dy, b = (rng.integers(-9, 10, shape).astype(dtype) for shape in shapes)
    wide = [a.astype(np.float32) for a in (x, w, dy, b)]
    options = {**problem.options, "algorithm": "direct"}
    y = wr.conv(x, w, b, **options)
    assert y.dtype == dtype
    exact = reference.conv(wide[0], wide[1], wide[3], **problem.options)
    np.testing.assert_array_equal(y, exact.astype(dtype))
    dx = reference.conv_grad_input(wide[2], wide[1], x.shape, **problem.options).astype(dtype)
    dw = reference.conv_grad_weight(wide[2], wide[0], w.shape, **problem.options).astype(dtype)
    db = wide[2].sum(axis=(0, *range(2, dy.ndim))).astype(dtype)
    for got, expected in zip(wr.conv_backward(dy, x, w, **options), (dx, dw, db), strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(wr.conv_grad_input(dy, w, x.shape, **options), dx)
    out = np.zeros_like(w)
    assert wr.conv_grad_weight(dy, x, w.shape, **options, out=out, accumulate=True) is out
    np.testing.assert_array_equal(out, dw)


def complexes(rng, shape, dtype):
    """Whole numbers, whose sums are exact."""
    return (rng.integers(-4, 5, shape) + 1j * rng.integers(-4, 5, shape)).astype(dtype)


@many
@given(problem=problems(), seed=seeds, dtype=st.sampled_from([np.complex64, np.complex128]), cut=cuts)
def test_complex_numbers(problem, seed, dtype, cut):
    converted._BLOCK_BYTES = cut
    rng = np.random.default_rng(seed)
    shapes = (problem.x_shape, problem.w_shape, problem.y_shape, problem.w_shape[:1])
    x, w, dy, b = (complexes(rng, shape, dtype) for shape in shapes)
    options = {**problem.options, "algorithm": "direct"}
    y = wr.conv(x, w, b, **options)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, reference.conv(x, w, b, **problem.options))
    out = scrambled(rng, np.zeros_like(y))
    assert wr.conv(scrambled(rng, x), w, b, **options, out=out) is out
    np.testing.assert_array_equal(out, y)
    # The gradients are those by the conjugates.
    dx, dw, db = wr.conv_backward(dy, x, w, **options)
    expected = reference.conv_grad_input(dy, np.conj(w), x.shape, **problem.options)
    np.testing.assert_array_equal(dx, expected)
    np.testing.assert_array_equal(wr.conv_grad_input(dy, w, x.shape, **options), expected)
    expected = reference.conv_grad_weight(dy, np.conj(x), w.shape, **problem.options)
    np.testing.assert_array_equal(dw, expected)
    np.testing.assert_array_equal(wr.conv_grad_weight(dy, x, w.shape, **options), expected)
    np.testing.assert_array_equal(db, dy.sum(axis=(0, *range(2, dy.ndim))))
    # Adjoints by the Hermitian product: <dy, conv(x)> = <dx, x> = conj <dw, w>.
    product = np.vdot(dy.astype(np.complex128), wr.conv(x, w, **options))
    assert product == np.vdot(dx.astype(np.complex128), x)
    assert product == np.vdot(dw.astype(np.complex128), w)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_agrees_with_torch(dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, w, b = (complexes(rng, s, dtype) for s in [(2, 4, 9, 7), (6, 2, 3, 3), (6,)])
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, w, b)]
    y = torch.nn.functional.conv2d(*leaves, stride=2, padding=1, groups=2)
    options = {"stride": 2, "padding": 1, "groups": 2}
    np.testing.assert_array_equal(wr.conv(x, w, b, **options), y.detach().numpy())
    dy = complexes(rng, tuple(y.shape), dtype)
    y.backward(torch.from_numpy(dy))
    for got, leaf in zip(wr.conv_backward(dy, x, w, **options), leaves, strict=True):
        np.testing.assert_array_equal(got, leaf.grad.resolve_conj().numpy())


def test_memory_format_follows_the_input():
    for dtype in (np.float16, np.complex64):
        x, w = channels_last(np.ones((2, 3, 6, 8), dtype)), np.ones((4, 3, 3, 3), dtype)
        y = wr.conv(x, w)
        dx = wr.conv_backward(y, x, w).dx
        assert [is_channels_last(a) for a in (y, dx, wr.conv_grad_input(y, w, x.shape))] == [True] * 3


def test_errors_of_dtypes():
    x, w = np.ones((1, 2, 5), np.complex64), np.ones((3, 2, 2), np.complex64)
    raises(
        TypeError, "w: expected complex64, the dtype of x, got complex128",
        partial(wr.conv, x, w.astype(np.complex128)),
    )  # fmt: skip
    raises(
        TypeError, "x: expected float32 or float64, got float16; cast with x.astype(np.float32)",
        partial(wr.conv, x.real.astype(np.float16), w.real),
    )  # fmt: skip
    raises(ValueError, "b: expected shape (3,), got (2,)", partial(wr.conv, x, w, np.ones(2, np.complex64)))
    raises(
        ValueError, "dy: expected shape (1, 3, 4), got (1, 3, 5)",
        partial(wr.conv_backward, np.ones((1, 3, 5), np.complex64), x, w),
    )  # fmt: skip
