"""Subnormal numbers, signed zeros, overflow and NaN, as docs/numerics.md states them, for every operation."""

import numpy as np
import pytest

import windrow as wr
from windrow import reference

FLOATS = (np.float32, np.float64)
LAYERS = {  # one for each family of drivers: products, strips, single channels, tiny calls
    "product": ((2, 32, 12, 11), (24, 32, 3, 3), {"padding": 1}),
    "strided": ((1, 16, 15, 15), (20, 16, 3, 3), {"padding": 1, "stride": 2}),
    "1x1": ((1, 40, 9, 9), (24, 40, 1, 1), {}),
    "depthwise": ((2, 16, 13, 12), (16, 1, 3, 3), {"padding": 1, "groups": 16}),
    "tiny": ((1, 2, 4, 4), (3, 2, 2, 2), {}),
}


def three(module, x, w, dy, options):
    return {
        "y": module.conv(x, w, **options),
        "dx": module.conv_grad_input(dy, w, x.shape, **options),
        "dw": module.conv_grad_weight(dy, x, w.shape, **options),
    }


def operands(layer, dtype, rng):
    x_shape, w_shape, options = LAYERS[layer]
    x = rng.integers(-3, 4, x_shape).astype(dtype)
    w = rng.integers(-3, 4, w_shape).astype(dtype)
    dy = rng.integers(-3, 4, wr.conv(x, w, **options).shape).astype(dtype)
    return x, w, dy, options


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layer", LAYERS)
def test_subnormal_numbers_are_exact(target, layer, dtype):
    """Whole multiples of the smallest number: their sums are such multiples, and nothing is flushed to 0."""
    x, w, dy, options = operands(layer, dtype, np.random.default_rng(1))
    smallest = np.finfo(dtype).smallest_subnormal
    y = wr.conv(x * smallest, w, algorithm="direct", **options)
    np.testing.assert_array_equal(y, reference.conv(x, w, **options).astype(dtype) * smallest)
    assert 0 < np.max(np.abs(y)) < np.finfo(dtype).tiny
    dx = wr.conv_grad_input(dy * smallest, w, x.shape, algorithm="direct", **options)
    exact = reference.conv_grad_input(dy, w, x.shape, **options).astype(dtype)
    np.testing.assert_array_equal(dx, exact * smallest)
    dw = wr.conv_grad_weight(dy, x * smallest, w.shape, **options)
    exact = reference.conv_grad_weight(dy, x, w.shape, **options).astype(dtype)
    np.testing.assert_array_equal(dw, exact * smallest)
    db = wr.conv_grad_bias(dy * smallest)
    np.testing.assert_array_equal(db, dy.sum((0, 2, 3)) * smallest)


@pytest.mark.parametrize("dtype", FLOATS)
def test_subnormal_numbers_of_fold_and_pooling(dtype):
    smallest = np.finfo(dtype).smallest_subnormal
    x = np.arange(-32, 32).reshape(1, 1, 8, 8).astype(dtype)
    columns = wr.unfold(x * smallest, 3)
    np.testing.assert_array_equal(columns, wr.unfold(x, 3) * smallest)
    folded = wr.fold(columns, (8, 8), 3)
    np.testing.assert_array_equal(folded, wr.fold(wr.unfold(x, 3), (8, 8), 3) * smallest)
    np.testing.assert_array_equal(wr.max_pool(x * smallest, 2), wr.max_pool(x, 2) * smallest)
    even = 4 * x
    np.testing.assert_array_equal(wr.avg_pool(even * smallest, 2), wr.avg_pool(even, 2) * smallest)


@pytest.mark.parametrize("dtype", FLOATS)
def test_overflow_is_that_of_the_partial_sums(target, dtype):
    """Three terms, in the order of the taps: an overflow on the way is not undone by what follows."""
    large = np.finfo(dtype).max
    x = np.array([[[large, -large, large], [large, large, -large], [-large, -large, large]]], dtype)
    x = np.ascontiguousarray(x.transpose(1, 0, 2))  # three images of one channel
    y = wr.conv(x, np.ones((1, 1, 3), dtype))
    np.testing.assert_array_equal(y[:, 0, 0], np.array([large, np.inf, -np.inf], dtype))
    # A product is past the largest number, and no NaN comes of it.
    y = wr.conv(x[:1], np.full((1, 1, 1), 2, dtype))
    np.testing.assert_array_equal(y[0, 0], np.array([np.inf, -np.inf, np.inf], dtype))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_where_the_direct_sum_is(target, layer, dtype, value):
    """One such value in each operand in turn; signs and payloads of NaN are left to the processor."""
    rng = np.random.default_rng(2)
    for name in ("x", "w", "dy"):
        x, w, dy, options = operands(layer, dtype, rng)
        spoilt = {"x": x, "w": w, "dy": dy}[name]
        spoilt[tuple(rng.integers(spoilt.shape))] = value
        with np.errstate(invalid="ignore"):
            expected = three(reference, x, w, dy, options)
        results = three(wr, x, w, dy, options)
        for what, result in results.items():
            # NaN is NaN here, the infinities are themselves, and all others are exact.
            np.testing.assert_array_equal(result, expected[what], err_msg=f"{what} with {value} in {name}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_payloads_pass_unchanged_where_nothing_is_computed(dtype):
    bits = np.uint32 if dtype is np.float32 else np.uint64
    quiet = np.array(np.nan, dtype).view(bits)
    payloads = (quiet + np.arange(36, dtype=bits)).view(dtype).reshape(1, 1, 6, 6)
    columns = wr.unfold(payloads, 2, stride=2)
    assert np.array_equal(np.sort(columns.view(bits), None), np.sort(payloads.view(bits), None))
    picked = wr.max_pool(payloads, 2)
    assert np.isnan(picked).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_signed_zeros(target, dtype):
    """A sum of zeros is +0; what is moved or chosen keeps its sign."""
    minus = np.full((1, 4, 6, 6), -0.0, dtype)
    w = np.ones((4, 4, 3, 3), dtype)
    results = [*three(wr, minus, w, minus[:, :, :4, :4], {}).values(), wr.conv_grad_bias(minus)]
    results += [wr.fold(wr.unfold(minus, 3), (6, 6), 3), wr.avg_pool(minus, 2)]
    for result in results:
        assert not np.any(result)
        assert not np.any(np.signbit(result))
    for result in (wr.unfold(minus, 3), wr.max_pool(minus, 2)):
        assert np.all(np.signbit(result))
    assert np.all(np.signbit(wr.fold(wr.unfold(minus, 3), (6, 6), 3, reduce="max")))
