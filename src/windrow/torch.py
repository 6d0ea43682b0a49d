"""What PyTorch lacks, as differentiable functions on its CPU tensors, without copies.

Patches of any rank and column order, per-side padding, a fold that is the inverse of unfold, and convolution
with per-side padding.

>>> import torch
>>> from windrow.torch import fold, unfold
>>> x = torch.arange(12.0, dtype=torch.float64).reshape(1, 1, 12).requires_grad_()
>>> cols = unfold(x, 3, padding=((2, 0),))
>>> cols.shape
torch.Size([1, 3, 12])
>>> torch.equal(fold(cols, (12,), 3, padding=((2, 0),), reduce="mean"), x)
True
>>> cols.sum().backward()
>>> x.grad[0, 0, -3:]
tensor([3., 2., 1.], dtype=torch.float64)

Needs PyTorch (``pip install 'windrow[torch]'``).
"""

from collections.abc import Sequence
from typing import Any

import torch

from . import convolution, unfolding
from .adapting import check_linear, coverage

__all__ = ["conv", "fold", "unfold"]

_PATCHES = "n (c k) l"


def unfold(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = _PATCHES,
    fill: Any = 0,
) -> Any:
    """`windrow.unfold` of a CPU tensor, differentiable to every order."""
    sizes = {"stride": stride, "padding": padding, "dilation": dilation, "layout": layout}
    return _Unfold.apply(_checked("x", x), kernel_size, sizes, fill)


def fold(
    cols: Any,
    output_size: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = _PATCHES,
    reduce: str = "sum",
) -> Any:
    """`windrow.fold` of a CPU tensor by "sum" or "mean", differentiable to every order."""
    check_linear(reduce)
    sizes = {"stride": stride, "padding": padding, "dilation": dilation, "layout": layout}
    return _Fold.apply(_checked("cols", cols), tuple(output_size), kernel_size, sizes, reduce)


def conv(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    algorithm: str = "auto",
) -> Any:
    """`windrow.conv` of CPU tensors, differentiable to every order by x, w and b."""
    options = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "algorithm": algorithm,
    }  # fmt: skip
    y = _Conv.apply(_checked("x", x), _checked("w", w), options)
    return y if b is None else y + _checked("b", b).reshape(1, -1, *[1] * (w.ndim - 2))


def _checked(name: str, tensor: Any) -> Any:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise TypeError(
            f"{name}: expected a dense tensor on the CPU, got one on {tensor.device} "
            f"with layout {tensor.layout}"
        )
    if tensor.dtype == torch.bfloat16:
        raise TypeError(f"{name}: expected a dtype that NumPy has, got torch.bfloat16")
    return tensor


def _array(tensor: Any) -> Any:
    return tensor.detach().numpy()


class _Unfold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, kernel_size: Any, sizes: dict[str, Any], fill: Any) -> Any:
        ctx.x_shape, ctx.kernel_size, ctx.sizes = tuple(x.shape), kernel_size, sizes
        return torch.from_numpy(unfolding.unfold(_array(x), kernel_size, fill=fill, **sizes))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return _Col2im.apply(g, ctx.x_shape, ctx.kernel_size, ctx.sizes), None, None, None


class _Col2im(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cols: Any, x_shape: Any, kernel_size: Any, sizes: dict[str, Any]) -> Any:
        ctx.kernel_size, ctx.sizes = kernel_size, sizes
        return torch.from_numpy(unfolding.col2im(_array(cols), x_shape, kernel_size, **sizes))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return _Unfold.apply(g, ctx.kernel_size, ctx.sizes, 0), None, None, None


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cols: Any, output_size: Any, kernel_size: Any, sizes: dict[str, Any], reduce: str
    ) -> Any:
        ctx.kernel_size, ctx.sizes, ctx.reduce = kernel_size, sizes, reduce
        folded = unfolding.fold(_array(cols), output_size, kernel_size, reduce=reduce, **sizes)
        return torch.from_numpy(folded)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        if ctx.reduce == "mean":
            sizes = {key: value for key, value in ctx.sizes.items() if key != "layout"}
            g = g / torch.from_numpy(coverage(g.shape[2:], ctx.kernel_size, **sizes)).to(g.dtype)
        return _Unfold.apply(g, ctx.kernel_size, ctx.sizes, 0), None, None, None, None


class _Conv(torch.autograd.Function):
    """conv and its two gradients are bilinear, and each other's derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, options: dict[str, Any]) -> Any:
        ctx.save_for_backward(x, w)
        ctx.options = options
        return torch.from_numpy(convolution.conv(_array(x), _array(w), **options))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w = ctx.saved_tensors
        dx = _GradInput.apply(g, w, tuple(x.shape), ctx.options) if ctx.needs_input_grad[0] else None
        dw = _GradWeight.apply(g, x, tuple(w.shape), ctx.options) if ctx.needs_input_grad[1] else None
        return dx, dw, None


class _GradInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Any, w: Any, x_shape: Any, options: dict[str, Any]) -> Any:
        ctx.save_for_backward(dy, w)
        ctx.options = options
        return torch.from_numpy(convolution.conv_grad_input(_array(dy), _array(w), x_shape, **options))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        dy, w = ctx.saved_tensors
        ddy = _Conv.apply(g, w, ctx.options)
        dw = _GradWeight.apply(dy, g, tuple(w.shape), ctx.options)
        return ddy, dw, None, None


class _GradWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dy: Any, x: Any, w_shape: Any, options: dict[str, Any]) -> Any:
        ctx.save_for_backward(dy, x)
        ctx.options = options
        return torch.from_numpy(convolution.conv_grad_weight(_array(dy), _array(x), w_shape, **options))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        dy, x = ctx.saved_tensors
        ddy = _Conv.apply(x, g, ctx.options)
        dx = _GradInput.apply(dy, g, tuple(x.shape), ctx.options)
        return ddy, dx, None, None
