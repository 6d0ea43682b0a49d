"""`windrow.autograd`: autograd's own `check_grads`, both modes, to second order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("autograd")

from autograd.test_util import check_grads

import windrow as wr
from tests.strategies import problems
from windrow import autograd as wa

MODES = ["fwd", "rev"]


@settings(max_examples=8)
@given(problem=problems(max_rank=2))
def test_conv_to_second_order(problem):
    if 0 in problem.x_shape or 0 in problem.w_shape:
        return  # nothing to differentiate
    rng = problem.rng()
    x, w = rng.standard_normal(problem.x_shape), rng.standard_normal(problem.w_shape)
    b = rng.standard_normal(problem.filters)
    options = {**problem.geometry, "groups": problem.groups}
    check_grads(lambda x, w, b: wa.conv(x, w, b, **options), modes=MODES, order=2)(x, w, b)
    y = wa.conv(x, w, b, **options)
    assert np.allclose(y, wr.conv(x, w, b, **options), rtol=1e-13, atol=1e-13)
    dy = rng.standard_normal(y.shape)
    check_grads(lambda dy, w: wa.conv_grad_input(dy, w, x.shape, **options), modes=MODES, order=2)(dy, w)
    check_grads(lambda dy, x: wa.conv_grad_weight(dy, x, w.shape, **options), modes=MODES, order=2)(dy, x)


@settings(max_examples=10)
@given(
    problem=problems(max_rank=2),
    layout=st.sampled_from(["n (c k) l", "(c k) (l n)", "(n l) (c k)"]),
    reduce=st.sampled_from(["sum", "mean"]),
)
def test_patches_to_second_order(problem, layout, reduce):
    if 0 in problem.x_shape:
        return
    x = problem.rng().standard_normal(problem.x_shape)
    options = {**problem.geometry, "layout": layout}
    unfold = lambda x: wa.unfold(x, problem.kernel, fill=2.0, **options)  # noqa: E731
    check_grads(unfold, modes=MODES, order=2)(x)
    cols = unfold(x)
    assert np.array_equal(cols, wr.unfold(x, problem.kernel, fill=2.0, **options))
    fold = lambda cols: wa.fold(cols, x.shape, problem.kernel, reduce=reduce, **options)  # noqa: E731
    check_grads(fold, modes=MODES, order=2)(cols)
    wanted = wr.col2im(cols, x.shape, problem.kernel, reduce=reduce, **options)
    assert np.allclose(fold(cols), wanted, rtol=1e-14, atol=0)


def test_a_maximum_has_no_derivative_here():
    with pytest.raises(ValueError) as error:
        wa.fold(np.ones((1, 2, 3)), (1, 1, 4), 2, reduce="max")
    assert str(error.value) == "reduce: expected 'sum' or 'mean' (those have a derivative), got 'max'"
