"""The fast form of the reference against its definition, and both against what a convolution must be."""

import numpy as np
import pytest
from hypothesis import given, settings
from tests.strategies import problems

from windrow import reference

ANY = settings(max_examples=120, derandomize=True, deadline=None)
SMALL = problems(max_rank=3, max_batch=2, max_group_size=2)


def output_shape(problem):
    win = reference.windows(problem.size, problem.kernel, **problem.geometry)
    return (problem.batch, problem.filters, *win.output)


def with_special_values(rng, shape):
    """Integer-valued data, so that sums are exact in any order, with some NaN and Inf among them."""
    values = rng.integers(-3, 4, shape).astype(float)
    for special in (np.nan, np.inf, -np.inf):
        values[rng.random(shape) < 0.03] = special
    return values


@ANY
@given(problem=SMALL)
def test_conv_matches_its_definition(problem):
    rng = problem.rng()
    x, w = with_special_values(rng, problem.x_shape), with_special_values(rng, problem.w_shape)
    b = with_special_values(rng, (problem.filters,))
    keywords = {"groups": problem.groups, **problem.geometry}
    np.testing.assert_array_equal(
        reference.conv(x, w, b, **keywords), reference.conv_by_definition(x, w, b, **keywords)
    )


@ANY
@given(problem=SMALL)
def test_conv_grad_input_matches_its_definition(problem):
    rng = problem.rng()
    dy, w = with_special_values(rng, output_shape(problem)), with_special_values(rng, problem.w_shape)
    keywords = {"groups": problem.groups, **problem.geometry}
    np.testing.assert_array_equal(
        reference.conv_grad_input(dy, w, problem.x_shape, **keywords),
        reference.conv_grad_input_by_definition(dy, w, problem.x_shape, **keywords),
    )


@ANY
@given(problem=SMALL)
def test_conv_grad_weight_matches_its_definition(problem):
    rng = problem.rng()
    dy, x = with_special_values(rng, output_shape(problem)), with_special_values(rng, problem.x_shape)
    keywords = {"groups": problem.groups, **problem.geometry}
    np.testing.assert_array_equal(
        reference.conv_grad_weight(dy, x, problem.w_shape, **keywords),
        reference.conv_grad_weight_by_definition(dy, x, problem.w_shape, **keywords),
    )


@ANY
@given(problem=problems())
def test_gradients_are_adjoints(problem):
    """<dy, conv(x, w)> = <dx, x> = <dw, w>, exactly on integers."""
    rng = problem.rng()
    x, w = rng.integers(-9, 9, problem.x_shape), rng.integers(-9, 9, problem.w_shape)
    dy = rng.integers(-9, 9, output_shape(problem))
    keywords = {"groups": problem.groups, **problem.geometry}
    expected = np.vdot(dy, reference.conv(x, w, **keywords))
    assert np.vdot(reference.conv_grad_input(dy, w, x.shape, **keywords), x) == expected
    assert np.vdot(reference.conv_grad_weight(dy, x, w.shape, **keywords), w) == expected


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_results_have_the_type_of_the_operands(dtype):
    x, w = np.ones((1, 2, 5), dtype), np.ones((3, 2, 2), dtype)
    y = reference.conv(x, w)
    assert y.dtype == dtype
    assert reference.conv_grad_input(y, w, x.shape).dtype == dtype
    assert reference.conv_grad_weight(y, x, w.shape).dtype == dtype
    assert reference.conv_grad_bias(y).dtype == dtype
    assert reference.conv(x, w, dtype=np.longdouble).dtype == np.longdouble


@pytest.mark.parametrize("conv", [reference.conv, reference.conv_by_definition])
def test_padding_takes_part_in_the_sum(conv):
    """0 * NaN is NaN also where the 0 is padding."""
    w = np.array([[[np.nan, 1.0, 1.0]]])
    np.testing.assert_array_equal(conv(np.ones((1, 1, 3)), w, padding=1), np.full((1, 1, 3), np.nan))
    w = np.array([[[1.0, 1.0, np.inf]]])
    np.testing.assert_array_equal(conv(np.ones((1, 1, 3)), w, padding=1), [[[np.inf, np.inf, np.nan]]])


@pytest.mark.parametrize("grad", [reference.conv_grad_input, reference.conv_grad_input_by_definition])
def test_nothing_comes_from_between_strides(grad):
    """With stride 2 the NaN tap reaches only every second pixel."""
    w = np.array([[[1.0, np.nan]]])
    dx = grad(np.ones((1, 1, 2)), w, (1, 1, 5), stride=2)
    np.testing.assert_array_equal(dx, [[[1.0, np.nan, 1.0, np.nan, 0.0]]])


@pytest.mark.parametrize("grad", [reference.conv_grad_input, reference.conv_grad_input_by_definition])
def test_dy_is_extended_with_zeros(grad):
    """At stride 1 every tap meets every pixel: those off dy's ends give 0 * Inf."""
    w = np.array([[[1.0, np.inf]]])
    dx = grad(np.ones((1, 1, 2)), w, (1, 1, 3))
    np.testing.assert_array_equal(dx, [[[np.nan, np.inf, np.inf]]])


def test_empty_axis_has_no_windows():
    """Under "same" an empty image has ceil(0 / stride) = 0 windows, also where its padding is longer than
    one."""
    x, w = np.ones((2, 3, 0)), np.ones((4, 3, 5))
    y = reference.conv(x, w, padding="same", stride=2)
    assert y.shape == (2, 4, 0)
    assert reference.conv_grad_input(y, w, x.shape, padding="same", stride=2).shape == x.shape
    np.testing.assert_array_equal(reference.conv_grad_weight(y, x, w.shape, padding="same", stride=2), 0 * w)


def test_groups_do_not_see_each_other():
    x = np.ones((1, 2, 3))
    x[0, 1, 1] = np.nan
    y = reference.conv(x, np.ones((2, 1, 1)), groups=2)
    np.testing.assert_array_equal(y, x)


def test_sums_are_wider_than_their_operands():
    x = np.array([[[1.0], [1e8], [-1e8]]], "f4")
    assert reference.conv(x, np.ones((1, 3, 1), "f4"))[0, 0, 0] == 1
