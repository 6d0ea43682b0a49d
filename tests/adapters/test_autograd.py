"""`windrow.autograd`: autograd's own `check_grads`, both modes, to second order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("autograd")

from autograd import grad
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


@settings(max_examples=8)
@given(problem=problems(max_rank=2), more=st.booleans())
def test_conv_transpose_to_second_order(problem, more):
    if 0 in problem.x_shape or 0 in problem.w_shape:
        return
    rng = problem.rng()
    options = {**problem.geometry, "groups": problem.groups}
    x = wr.conv(rng.standard_normal(problem.x_shape), rng.standard_normal(problem.w_shape), **options)
    w, b = rng.standard_normal(problem.w_shape), rng.standard_normal(problem.x_shape[1])
    options["output_size"] = problem.x_shape[2:]
    transpose = lambda x, w, b: wa.conv_transpose(x, w, b, **options)  # noqa: E731
    check_grads(transpose, modes=MODES, order=2)(x, w, b)
    y, wanted = transpose(x, w, b), wr.conv_transpose(x, w, b, **options)
    assert np.allclose(y, wanted, rtol=1e-13, atol=1e-13)


POOLS = [
    (2, {}),
    ((3, 2), {"stride": (2, 1), "padding": ((1, 0), (0, 1)), "dilation": (1, 2)}),
    (3, {"stride": 2, "padding": 1, "ceil_mode": True}),
]


@pytest.mark.parametrize(("kernel", "options"), POOLS)
def test_pools_to_second_order(kernel, options):
    # A permutation: no two values so near that a step of the numerical derivative could exchange them.
    x = np.random.default_rng(0).permutation(2 * 3 * 6 * 7).reshape(2, 3, 6, 7) / 10
    squared = lambda x: wa.max_pool(x**2, kernel, **options)  # noqa: E731
    check_grads(squared, modes=MODES, order=2)(x)
    assert np.array_equal(wa.max_pool(x, kernel, **options), wr.max_pool(x, kernel, **options))
    for include in (False, True):
        mean = lambda x, _include=include: wa.avg_pool(x**3, kernel, count_include_pad=_include, **options)  # noqa: E731
        check_grads(mean, modes=MODES, order=2)(x / 10)
        check_grads(grad(lambda x, _mean=mean: np.sum(_mean(x) ** 2)), modes=MODES, order=1)(x / 10)

    for p in (1, 2, 2.5, np.inf):
        norm = lambda x, _p=p: wa.lp_pool(x, kernel, _p, **options)  # noqa: E731
        check_grads(norm, modes=MODES, order=2)((x - 12.03) / 10)  # of both signs, none near 0
        wanted = wr.lp_pool((x - 12.03) / 10, kernel, p, **options)
        assert np.allclose(norm((x - 12.03) / 10), wanted, rtol=1e-13, atol=0)


def test_global_pools_to_second_order():
    x = np.random.default_rng(0).permutation(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) / 10
    for ours, whole in ((wa.global_avg_pool, wr.global_avg_pool), (wa.global_max_pool, wr.global_max_pool)):
        check_grads(lambda x, _ours=ours: _ours(x**2), modes=MODES, order=2)(x)
        assert np.array_equal(ours(x), whole(x))


def test_a_norm_of_zeros_has_the_gradient_zero():
    x = np.array([[[0.0, 0.0, 3.0, 4.0]]])
    slope = grad(lambda x: np.sum(wa.lp_pool(x, 2)))(x)
    assert np.array_equal(slope[..., :2], [[[0, 0]]])
    assert np.allclose(slope[..., 2:], [[[0.6, 0.8]]], rtol=4 * np.finfo(float).eps, atol=0)


def test_unpool_to_second_order():
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    y, indices = wr.max_pool_with_indices(x, 2)
    back = lambda y: wa.max_unpool(y**2, indices, (6, 6))  # noqa: E731
    check_grads(back, modes=MODES, order=2)(y)
    assert np.array_equal(back(y), wr.max_unpool(y**2, indices, (6, 6)))


def test_the_maximum_of_no_pixel():
    x = np.arange(3.0).reshape(1, 1, 3)
    assert np.array_equal(wa.max_pool(x, 1, padding=1), [[[-np.inf, 0, 1, 2, -np.inf]]])
    assert np.array_equal(grad(lambda x: wa.max_pool(x, 1, padding=1)[0, 0, 2])(x), [[[0, 1, 0]]])


def test_a_maximum_has_no_derivative_here():
    with pytest.raises(ValueError) as error:
        wa.fold(np.ones((1, 2, 3)), (1, 1, 4), 2, reduce="max")
    assert str(error.value) == "reduce: expected 'sum' or 'mean' (those have a derivative), got 'max'"
