"""windrow.testing: what is right passes by any order of summation, what is wrong does not, and is named."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import windrow as wr
from tests import programs
from tests.errors import raises
from tests.strategies import problems
from windrow import reference
from windrow.testing import assert_conv_close

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 4, 6, 7))
W = RNG.standard_normal((3, 4, 3, 2))
B = RNG.standard_normal(3)


def error_of(*args, **options):
    with pytest.raises(AssertionError) as caught:
        assert_conv_close(*args, **options)
    return str(caught.value)


@hypothesis.given(problems(max_group_size=2), st.sampled_from([np.float32, np.float64]))
@hypothesis.settings(max_examples=60)
def test_what_conv_returns_is_close(problem, dtype):
    rng = problem.rng()
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in (problem.x_shape, problem.w_shape))
    b = rng.standard_normal(problem.filters).astype(dtype)
    options = {**problem.geometry, "groups": problem.groups}
    plan = wr.explain("conv", x.shape, w.shape, dtype=dtype, algorithm="direct", **options)
    y = wr.conv(x, w, b, algorithm="direct", **options)
    assert_conv_close(y, x, w, b, **options)
    assert_conv_close(y, x, w, b, roundings=plan["roundings"], **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_wrong_product_in_one_entry_is_found(dtype):
    x, w = X.astype(dtype), W.astype(dtype)
    y = wr.conv(x, w)
    n = W[0].size + 1
    wrong = y.copy()
    wrong[1, 2, 3, 4] += x[1, 0, 3, 4] * w[2, 0, 0, 0]
    text = error_of(wrong, x, w)
    assert text.startswith(
        f"actual: expected every entry within {n} * eps * (conv(|x|, |w|) + |b|) of the convolution, "
        "got 1 of 144 outside; the worst at (1, 2, 3, 4): got "
    )


def test_the_text_word_for_word():
    x, w = np.ones((1, 1, 3)), np.ones((1, 1, 2))
    assert error_of([[[2.0, 3.0]]], x, w) == (
        "actual: expected every entry within 3 * eps * (conv(|x|, |w|) + |b|) of the convolution, got 1 of 2 "
        "outside; the worst at (0, 0, 1): got 3, expected 2, off by 1, allowed 1.33e-15"
    )
    assert error_of([[[np.nan, 2.0]]], x, w, entrywise=False) == (
        "actual: expected every entry within 3 * eps * max(conv(|x|, |w|) + |b|) of the convolution, "
        "got 1 of 2 outside; the worst at (0, 0, 0): got nan, expected 2, not of one kind"
    )


def test_the_bound_is_where_it_is_said_to_be():
    """An entry at the bound passes, one just beyond it does not."""
    x, w = np.ones((1, 1, 4), np.float32), np.full((1, 1, 4), 0.25, np.float32)  # the sum is 1, exactly
    eps = np.finfo(np.float32).eps
    for roundings in (None, 1, 9):
        n = 5 if roundings is None else roundings
        assert_conv_close(np.full((1, 1, 1), 1 + n * eps, np.float32), x, w, roundings=roundings)
        error_of(np.full((1, 1, 1), 1 + (n + 1) * eps, np.float32), x, w, roundings=roundings)


def test_the_bias_counts():
    y = wr.conv(X, W, B)
    assert_conv_close(y, X, W, B)
    error_of(y, X, W)
    large = np.array([1e12, 0, 0])
    assert_conv_close(wr.conv(X, W, large), X, W, large)
    error_of(wr.conv(X, W, large) - large[:, None, None], X, W)


def test_other_orders_of_summation_pass():
    for form in (np.float32, np.float64):
        x, w = X.astype(form), W.astype(form)
        windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
        assert_conv_close(np.einsum("nclmhw,fchw->nflm", windows, w), x, w)
        backwards = np.zeros(wr.conv(x, w).shape, form)
        for c, i, j in reversed(list(np.ndindex(w.shape[1:]))):
            backwards += w[None, :, c, i, j, None, None] * windows[:, c, None, :, :, i, j]
        assert_conv_close(backwards, x, w)


def test_a_fast_algorithm_is_close_by_the_largest_magnitude_only():
    """The FFT mixes a small entry with its large neighbours."""
    x = np.zeros((1, 1, 64))
    x[0, 0, :32] = 1e6 * RNG.standard_normal(32)
    x[0, 0, 32:] = 1e-6 * RNG.standard_normal(32)
    w = RNG.standard_normal((1, 1, 3))
    product = np.fft.irfft(np.fft.rfft(x, 66) * np.fft.rfft(w[..., ::-1], 66), 66)[..., 2:64]
    error_of(product, x, w)
    assert_conv_close(product, x, w, entrywise=False, roundings=50)
    error_of(product * (1 + 1e-9), x, w, entrywise=False, roundings=50)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_must_be_so_where_the_sum_is(special):
    x = np.abs(X) + 1
    x[0, 1, 2, 3] = special
    y = wr.conv(x, np.abs(W))
    assert not np.isfinite(y).all()
    assert_conv_close(y, x, np.abs(W))
    for other in (np.nan, np.inf, -np.inf, 1.0):
        wrong = y.copy()
        wrong[~np.isfinite(wrong)] = other
        if not np.array_equal(wrong, y, equal_nan=True):
            error_of(wrong, x, np.abs(W))
    wrong = y.copy()
    wrong[1, 0, 0, 0] = special
    assert "not of one kind" in error_of(wrong, x, np.abs(W))


def test_overflow_of_a_partial_sum_passes_and_of_nothing_does_not():
    large = np.float32(3e38)
    x = np.array([[[large, large, -large]]], np.float32)
    w = np.ones((1, 1, 3), np.float32)
    assert_conv_close(np.full((1, 1, 1), np.inf, np.float32), x, w)
    assert_conv_close(np.full((1, 1, 1), large), x, w)
    error_of(np.zeros((1, 1, 1), np.float32), x, w)
    error_of(np.full((1, 1, 1), np.inf, np.float32), x / 4, w)


def test_underflow_of_products_is_allowed_for():
    tiny = np.float32(1e-23)
    x, w = np.full((1, 1, 5), tiny), np.full((1, 1, 5), tiny)
    assert_conv_close(reference.conv(x, w), x, w)
    assert_conv_close(np.zeros((1, 1, 1), np.float32), x, w)
    error_of(np.full((1, 1, 1), 7e-45, np.float32) * 2, x, w)


def test_empty_results_are_close():
    assert_conv_close(np.empty((0, 3, 4, 6)), X[:0], W)
    assert_conv_close(np.zeros((2, 3, 4, 6)), X[:, :0], W[:, :0])
    error_of(np.ones((2, 3, 4, 6)), X[:, :0], W[:, :0])
    assert_conv_close(np.empty((0, 3, 4, 6)), X[:0], W, entrywise=False)


@pytest.mark.parametrize(
    ("args", "options", "kind", "text"),
    [
        ((wr.conv(X, W)[:1], X, W), {}, ValueError, "actual: expected shape (2, 3, 4, 6), got (1, 3, 4, 6)"),
        (
            (wr.conv(X, W), X, W.astype(np.float32)),
            {},
            TypeError,
            "w: expected float64, the dtype of actual, got float32; "
            "cast with w.astype(np.float64) or actual.astype(np.float32)",
        ),
        ((wr.conv(X, W), X, W, B[:2]), {}, ValueError, "b: expected shape (3,), got (2,)"),
        ((wr.conv(X, W), X, W), {"roundings": -1}, ValueError, "roundings: expected at least 0, got -1"),
        ((wr.conv(X, W), X, W), {"stride": 0}, ValueError, "stride: expected at least 1, got 0"),
        ((wr.conv(X, W), X, W), {"roundings": 2.0}, TypeError, "roundings: expected an int, got float: 2.0"),
    ],
)
def test_arguments_are_refused_by_name(args, options, kind, text):
    raises(kind, text, assert_conv_close, *args, **options)


def test_it_loads_on_first_use():
    show = "print('windrow.testing' in sys.modules, wr.testing.assert_conv_close.__name__)"
    assert programs.output(f"import sys, windrow as wr; {show}") == "False assert_conv_close"
