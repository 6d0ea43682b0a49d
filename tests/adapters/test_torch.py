"""`windrow.torch`: torch's own gradcheck to second order, and no copies of what it is given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import windrow as wr
from tests.strategies import problems
from windrow import torch as wt


def _leaf(array):
    return torch.from_numpy(array).requires_grad_()


@settings(max_examples=8)
@given(problem=problems(max_rank=2))
def test_conv_to_second_order(problem):
    if 0 in problem.x_shape or 0 in problem.w_shape:
        return
    rng = problem.rng()
    options = {**problem.geometry, "groups": problem.groups}
    shapes = (problem.x_shape, problem.w_shape, (problem.filters,))
    leaves = [_leaf(rng.standard_normal(shape)) for shape in shapes]
    call = lambda x, w, b: wt.conv(x, w, b, **options)  # noqa: E731
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)
    x, w, b = (leaf.detach().numpy() for leaf in leaves)
    plain = torch.from_numpy(wr.conv(x, w, **options)) + torch.from_numpy(b).reshape(
        1, -1, *[1] * (w.ndim - 2)
    )
    assert torch.equal(call(*leaves), plain)


@settings(max_examples=10)
@given(problem=problems(max_rank=3), reduce=st.sampled_from(["sum", "mean"]))
def test_patches_to_second_order(problem, reduce):
    if 0 in problem.x_shape:
        return
    x = _leaf(problem.rng().standard_normal(problem.x_shape))
    cols = wt.unfold(x, problem.kernel, **problem.geometry)
    size = problem.x_shape[2:]
    calls = (
        (lambda x: wt.unfold(x, problem.kernel, **problem.geometry), x),
        (
            lambda c: wt.fold(c, size, problem.kernel, reduce=reduce, **problem.geometry),
            cols.detach().requires_grad_(),
        ),
    )
    for call, leaf in calls:
        assert torch.autograd.gradcheck(call, (leaf,))
        assert torch.autograd.gradgradcheck(call, (leaf,))
    wanted = wr.fold(cols.detach().numpy(), size, problem.kernel, reduce=reduce, **problem.geometry)
    assert np.array_equal(calls[1][0](calls[1][1]).detach().numpy(), wanted)


def test_agrees_with_torch_where_it_has_an_answer():
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    cols = wt.unfold(x, (3, 2), stride=2, padding=1, dilation=(1, 2))
    assert torch.equal(cols, torch.nn.functional.unfold(x, (3, 2), dilation=(1, 2), padding=1, stride=2))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.complex64, torch.bool])
def test_patches_of_dtypes_that_torch_refuses(dtype):
    x = torch.arange(6).reshape(1, 1, 6).to(dtype)
    assert wt.unfold(x, 2).dtype == dtype


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.ones((1, 1, 4)), "x: expected a torch.Tensor, got ndarray"),
        (
            torch.ones((1, 1, 4), device="meta"),
            "x: expected a dense tensor on the CPU, got one on meta with layout torch.strided",
        ),
        (
            torch.ones((1, 1, 4), dtype=torch.bfloat16),
            "x: expected a dtype that NumPy has, got torch.bfloat16",
        ),
    ],
)
def test_refuses_by_name(value, text):
    with pytest.raises(TypeError) as error:
        wt.unfold(value, 2)
    assert str(error.value) == text


def test_a_maximum_has_no_derivative_here():
    with pytest.raises(ValueError) as error:
        wt.fold(torch.ones((1, 2, 3)), (4,), 2, reduce="max")
    assert str(error.value) == "reduce: expected 'sum' or 'mean' (those have a derivative), got 'max'"


def test_nothing_is_copied(monkeypatch):
    """What the functions beneath are given is the tensor's own memory, and theirs is that of the result."""
    given, made = [], []

    def watched(function):
        def call(*arguments, **options):
            given.extend(a.ctypes.data for a in arguments if isinstance(a, np.ndarray))
            result = function(*arguments, **options)
            made.append(result.ctypes.data)
            return result

        return call

    for module, names in [
        (wt.unfolding, ("unfold", "fold", "col2im")),
        (wt.convolution, ("conv", "conv_grad_input", "conv_grad_weight")),
    ]:
        for name in names:
            monkeypatch.setattr(module, name, watched(getattr(module, name)))
    sides = {"padding": ((1, 0), (2, 1))}
    x = torch.randn(2, 3, 9, 8).to(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(4, 3, 3, 2, requires_grad=True)
    y, cols = wt.conv(x, w, **sides), wt.unfold(x, (3, 2), **sides)
    back = wt.fold(cols, (9, 8), (3, 2), reduce="mean", **sides)
    pointers = [tensor.data_ptr() for tensor in (x, w, x, cols)]
    assert given == pointers
    assert made == [tensor.data_ptr() for tensor in (y, cols, back)]
    given.clear()
    made.clear()
    g = torch.randn_like(y)
    dx, dw = torch.autograd.grad(y, (x, w), g)
    assert given == [tensor.data_ptr() for tensor in (g, w, g, x)]
    assert made == [tensor.data_ptr() for tensor in (dx, dw)]
