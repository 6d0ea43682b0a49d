"""The fast form of the transposed reference against its definition, and both against conv's gradients."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import problems

from windrow import reference

ANY = settings(max_examples=80, derandomize=True, deadline=None)
SMALL = problems(max_rank=3, max_batch=2, max_group_size=2)


def transposed(draw_more, problem):
    """A problem of conv seen from the other side: x of its result's shape, and output_padding to match."""
    win = reference.windows(problem.size, problem.kernel, **problem.geometry)
    rng = problem.rng()
    w = rng.integers(-3, 4, problem.w_shape).astype(float)
    x = rng.integers(-3, 4, (problem.batch, problem.filters, *win.output)).astype(float)
    for array in (x, w):
        for special in (np.nan, np.inf, -np.inf):
            array[rng.random(array.shape) < draw_more] = special
    natural = reference.transposed.transposed_windows(win.output, problem.kernel, **problem.geometry)
    more = tuple(size - least for size, least in zip(problem.size, natural.size, strict=True))
    return x, w, more, {"groups": problem.groups, **problem.geometry}


@ANY
@given(problem=SMALL, share=st.sampled_from([0.0, 0.03]))
def test_conv_transpose_matches_its_definition(problem, share):
    x, w, more, options = transposed(share, problem)
    b = np.arange(float(w.shape[1] * problem.groups))
    np.testing.assert_array_equal(
        reference.conv_transpose(x, w, b, output_padding=more, **options),
        reference.conv_transpose_by_definition(x, w, b, output_padding=more, **options),
    )


@ANY
@given(problem=SMALL)
def test_it_is_the_input_gradient_of_conv(problem):
    x, w, more, options = transposed(0.03, problem)
    shape = (problem.batch, problem.channels, *problem.size)
    if 0 in shape or 0 in x.shape:
        return
    np.testing.assert_array_equal(
        reference.conv_transpose(x, w, output_padding=more, **options),
        reference.conv_grad_input(x, w, shape, **options),
    )


@ANY
@given(problem=SMALL)
def test_gradients_are_adjoints(problem):
    x, w, more, options = transposed(0.0, problem)
    y = reference.conv_transpose(x, w, output_padding=more, **options)
    dy = problem.rng().integers(-3, 4, y.shape).astype(float)
    inner = np.vdot(dy, y)
    assert inner == np.vdot(reference.conv_transpose_grad_input(dy, w, x.shape, **options), x)
    assert inner == np.vdot(reference.conv_transpose_grad_weight(dy, x, w.shape, **options), w)


def test_same_gives_size_times_stride():
    for mode in ("same", "same_lower"):
        y = reference.conv_transpose(np.ones((1, 1, 5)), np.ones((1, 1, 4)), stride=3, padding=mode)
        assert y.shape == (1, 1, 15)
