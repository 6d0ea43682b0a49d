"""The measurements under the verdicts: noise, precision, affinity, slopes."""

import numpy as np
import pytest
from tests.gradcheck import layers

from windrow.gradcheck.meter import STENCIL, Claim, Meter, summation, table_variance
from windrow.gradcheck.noise import natural_sizes, nudged, split_probes
from windrow.gradcheck.pair import Pair
from windrow.gradcheck.taylor import taylor_rate


def pair_of(forward, backward, *inputs):
    pair = Pair(forward, backward, inputs, wrt=None, names=None, axes=None, cached=False)
    y = pair.first_output()
    return pair, np.ones(y.size)


def meter_of(forward, backward, *inputs):
    pair, dy = pair_of(forward, backward, *inputs)
    claim = Claim(dy, pair.gradients(dy)[0], float(np.finfo(inputs[0].dtype).eps), (), 0.0)
    return Meter(pair, pair.arguments[0], claim, np.random.default_rng(0))


def test_the_difference_table_measures_noise_and_not_the_smooth_part():
    """The mean over 20000 outputs of an unbiased estimate with 2 to 4 samples each: within 3 %."""
    rng = np.random.default_rng(0)
    t = 1e-3 * STENCIL[:, None]
    smooth = np.sin(3 * t + rng.uniform(0, 6, 20000))
    noise = 1e-9 * rng.standard_normal(smooth.shape)
    measured = np.mean(table_variance(smooth + noise))
    assert abs(measured / 1e-18 - 1) < 0.03
    assert np.max(table_variance(smooth)) < 1e-28  # the rounding of sin, about (2.2e-16)**2, and a margin


def test_summation_bounds_the_rounding_of_a_sum():
    rng = np.random.default_rng(0)
    for size in (0, 1, 10, 100_000):
        terms = rng.standard_normal(size) * 10.0 ** rng.integers(-8, 8, size)
        exact = float(np.sum(terms.astype(np.longdouble)))
        assert abs(float(np.sum(terms)) - exact) <= summation(terms)


def test_nudges_move_by_one_unit_and_keep_ties_and_zeros():
    for dtype in (np.float32, np.float64):
        x = np.array([0.0, 1.0, 1.0, -2.5, 1e-30, 1e30, 0.0, -2.5], dtype)
        moves = {tuple(nudged(x, seed)) for seed in range(40)}
        assert len(moves) > 4
        for move in moves:
            y = np.array(move)
            assert np.all(np.abs(y - x) <= np.spacing(np.abs(x)))
            assert y[0] == y[6] == 0
            assert y[1] == y[2] != x[1]
            assert y[3] == y[7] != x[3]


def test_a_split_leaves_rounding_of_a_right_backward_only():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50)
    eps = np.finfo(float).eps
    pair, dy = pair_of(np.sin, lambda dy, x: dy * np.cos(x), x)
    assert all(np.max(np.abs(r)) <= 8 * eps for r in split_probes(pair, dy, pair.gradients(dy), rng)[0])
    for wrong in (lambda dy, x: dy**2, lambda dy, x: np.abs(dy), lambda dy, x: dy + 1e-3):
        pair, dy = pair_of(np.sin, wrong, x)
        assert all(np.max(np.abs(r)) > 1e-4 for r in split_probes(pair, dy, pair.gradients(dy), rng)[0])


def test_natural_sizes_are_those_of_slopes():
    """Of tanh about 1; far from zero what counts is how much x and y vary."""
    x = np.random.default_rng(0).standard_normal(500)
    pair, dy = pair_of(np.tanh, layers.tanh_backward, x)
    assert 0.5 < natural_sizes(pair, dy)[0] < 2
    pair, dy = pair_of(lambda x: 5 * (x - 1e4), lambda dy, x: 5 * dy, x + 1e4)
    assert 4 < natural_sizes(pair, dy)[0] < 6
    pair, dy = pair_of(lambda x: x[:0], lambda dy, x: np.zeros_like(x), x)
    assert natural_sizes(pair, dy) == [0.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_affine_functions_are_recognised(dtype):
    rng = np.random.default_rng(0)
    x, matrix = rng.standard_normal(30).astype(dtype), rng.standard_normal((20, 30)).astype(dtype)
    offset = rng.standard_normal(20).astype(dtype)
    assert meter_of(lambda x: matrix @ x + offset, lambda dy, x: matrix.T @ dy, x).affine
    assert meter_of(lambda x: x.sum(), lambda dy, x: np.broadcast_to(dy, x.shape), x).affine
    for function, slope in (
        (np.sin, np.cos),
        (lambda x: x**3, lambda x: 3 * x**2),
        (np.abs, np.sign),
        (lambda x: x + dtype(1e-3) * x**2, lambda x: 1 + dtype(2e-3) * x),
    ):
        assert not meter_of(function, lambda dy, x, slope=slope: dy * slope(x), x).affine
    # At zero an odd function looks affine from its two sides alone.
    assert not meter_of(lambda x: x**3, lambda dy, x: 3 * dy * x**2, np.zeros(4, dtype)).affine


def test_a_kink_far_from_the_point_takes_affinity_back():
    x = np.array([3.0, 4.0])
    meter = meter_of(lambda x: np.maximum(x, -30), lambda dy, x: dy * (x > -30), x)
    assert meter.affine
    assert meter.compare(np.array([1.0, 2.0])).holds
    assert meter.compare(np.array([40.0, 0.0])).holds
    assert not meter.affine


def test_the_precision_that_a_function_works_in_is_seen():
    x = np.random.default_rng(0).standard_normal(30)
    double, single = np.finfo(np.float64).eps, np.finfo(np.float32).eps
    assert meter_of(np.tanh, layers.tanh_backward, x).eps == double
    through = meter_of(lambda x: np.tanh(x.astype(np.float32)).astype(float), layers.tanh_backward, x)
    assert single <= through.eps <= 16 * single
    # Few values are no precision.
    assert meter_of(lambda x: np.sign(x) + x, lambda dy, x: dy, x).eps == double
    assert meter_of(np.sign, lambda dy, x: 0 * dy, x).eps == double


def test_the_taylor_rate_tells_right_from_wrong():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(40)
    v = rng.standard_normal(40)
    right = taylor_rate(meter_of(np.sin, lambda dy, x: dy * np.cos(x), x), v)
    assert right.verdict == "holds"
    assert abs(right.rate - 2) < 0.05  # the next term is smaller by the last step, 1e-4 or less
    wrong = taylor_rate(meter_of(np.sin, lambda dy, x: dy * np.cos(x) * 1.01, x), v)
    assert wrong.verdict == "fails"
    assert abs(wrong.rate - 1) < 0.1
    kinked = taylor_rate(meter_of(np.abs, lambda dy, x: dy * np.sign(x), np.zeros(3)), np.ones(3))
    assert kinked.verdict == "kink"
    linear = taylor_rate(meter_of(lambda x: 2 * x, lambda dy, x: 2 * dy, x), v)
    assert (linear.verdict, linear.rate) == ("holds", None)
