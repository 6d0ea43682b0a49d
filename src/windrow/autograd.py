"""windrow for HIPS autograd: primitives with reverse and forward derivatives of every order.

>>> import autograd.numpy as np
>>> from autograd import grad
>>> from windrow.autograd import conv
>>> x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))
>>> grad(lambda w: np.sum(conv(x, w, stride=2) ** 2) / 2)(w)
array([[[[ 872.,  992.],
         [1352., 1472.]]]])

Convolution is bilinear, so `conv` and its two gradients are each other's derivatives, and `conv_transpose` is
one of them; unfold and fold are linear and each other's adjoints, and so are a mean over windows and its way
back. A maximum is the pixel that it came from, as long as that does not change.

Needs autograd (``pip install 'windrow[autograd]'``).
"""

from collections.abc import Callable, Sequence
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defjvp, defvjp, primitive
from autograd.tracer import getval, isbox

from . import convolution, pooling, unfolding
from .adapting import check_linear, coverage
from .geometry import transposed_geometry

__all__ = [
    "avg_pool", "conv", "conv_grad_input", "conv_grad_weight", "conv_transpose", "fold", "global_avg_pool",
    "global_max_pool", "lp_pool", "max_pool", "max_unpool", "unfold",
]  # fmt: skip

_conv = primitive(convolution.conv)
conv_grad_input = primitive(convolution.conv_grad_input)
conv_grad_weight = primitive(convolution.conv_grad_weight)
_unfold = primitive(unfolding.unfold)
_col2im = primitive(unfolding.col2im)
avg_pool = primitive(pooling.avg_pool)
_avg_pool_backward = primitive(pooling.avg_pool_backward)
_sum_pool = primitive(pooling.sum_pool)
_sum_pool_backward = primitive(pooling.sum_pool_backward)
_put = primitive(pooling.max_unpool)
_add = primitive(pooling.max_pool_backward)
_take = primitive(pooling.max_unpool_backward)


def conv(x: Any, w: Any, b: Any = None, **options: Any) -> Any:
    """`windrow.conv`, differentiable by x, w and b."""
    y = _conv(x, w, **options)
    return y if b is None else y + b.reshape((1, -1) + (1,) * (w.ndim - 2))


def conv_transpose(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    output_size: Any = None,
    dilation: Any = 1,
    groups: Any = 1,
    **options: Any,
) -> Any:
    """`windrow.conv_transpose`, differentiable by x, w and b."""
    shape = transposed_geometry(
        x.shape, w.shape, stride, padding, dilation, groups,
        output_padding=output_padding, output_size=output_size,
    ).x_shape  # fmt: skip
    sizes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    y = conv_grad_input(x, w, shape, **sizes, **options)
    return y if b is None else y + b.reshape((1, -1) + (1,) * (w.ndim - 2))


def max_pool(x: Any, kernel_size: Any, **options: Any) -> Any:
    """`windrow.max_pool`, differentiable by x: by the pixel that is the maximum, here and at every order."""
    value = x
    while isbox(value):
        value = getval(value)
    indices = pooling.max_pool_with_indices(value, kernel_size, **options).indices
    y = _take(x, indices)
    # What is taken from no pixel is 0, whose maximum is less than any.
    return y if np.all(indices >= 0) else y + np.where(indices < 0, -np.inf, 0).astype(value.dtype)


def lp_pool(
    x: Any,
    kernel_size: Any,
    p: float = 2,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    """`windrow.lp_pool`, differentiable by x; a window of zeros gives the gradient 0."""
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    if p == np.inf:
        names = ("stride", "padding", "dilation", "ceil_mode")
        return max_pool(anp.abs(x), kernel_size, **dict(zip(names, options[1:])))
    total = _sum_pool(anp.abs(x) ** p, options, 1.0)
    zero = total == 0
    return anp.where(zero, 0, anp.where(zero, 1, total) ** (1 / p))


def global_avg_pool(x: Any) -> Any:
    """`windrow.global_avg_pool`, differentiable by x."""
    return avg_pool(x, x.shape[2:])


def global_max_pool(x: Any) -> Any:
    """`windrow.global_max_pool`, differentiable by x."""
    return max_pool(x, x.shape[2:])


def max_unpool(x: Any, indices: Any, output_size: Any) -> Any:
    """`windrow.max_unpool`, differentiable by x where each place comes once."""
    return _put(x, indices, output_size)


def unfold(x: Any, kernel_size: Any, **options: Any) -> Any:
    """`windrow.unfold`, differentiable by x."""
    return _unfold(x, kernel_size, **options)


def fold(
    cols: Any,
    x_shape: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "n (c k) l",
    reduce: str = "sum",
) -> Any:
    """`windrow.fold` to images of the full shape `x_shape`, by "sum" or "mean", differentiable by cols."""
    check_linear(reduce)
    sizes = {"stride": stride, "padding": padding, "dilation": dilation}
    total = _col2im(cols, x_shape, kernel_size, layout=layout, **sizes)
    return total if reduce == "sum" else total / coverage(x_shape[2:], kernel_size, **sizes)


def _without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in names}


def _vjp(by_argument: dict[int, Callable[..., Any]], of: Any) -> None:
    """Register g -> by_argument[i](g, arguments, options) as the derivatives of a primitive."""
    makers = [
        (lambda _, *a, _f=make, **options: lambda g: _f(g, a, options)) for make in by_argument.values()
    ]
    defvjp(of, *makers, argnums=tuple(by_argument))


def _jvp(by_argument: dict[int, Callable[..., Any]], of: Any) -> None:
    makers = [(lambda g, _, *a, _f=make, **options: _f(g, a, options)) for make in by_argument.values()]
    defjvp(of, *makers, argnums=tuple(by_argument))


# conv(x, w), conv_grad_input(dy, w, x_shape), conv_grad_weight(dy, x, w_shape)
_vjp(
    {
        0: lambda g, a, o: conv_grad_input(g, a[1], a[0].shape, **o),
        1: lambda g, a, o: conv_grad_weight(g, a[0], a[1].shape, **o),
    },
    _conv,
)
_jvp({0: lambda g, a, o: _conv(g, a[1], **o), 1: lambda g, a, o: _conv(a[0], g, **o)}, _conv)
_vjp(
    {
        0: lambda g, a, o: _conv(g, a[1], **o),
        1: lambda g, a, o: conv_grad_weight(a[0], g, a[1].shape, **o),
    },
    conv_grad_input,
)
_jvp(
    {
        0: lambda g, a, o: conv_grad_input(g, a[1], a[2], **o),
        1: lambda g, a, o: conv_grad_input(a[0], g, a[2], **o),
    },
    conv_grad_input,
)
_vjp(
    {
        0: lambda g, a, o: _conv(a[1], g, **o),
        1: lambda g, a, o: conv_grad_input(a[0], g, a[1].shape, **o),
    },
    conv_grad_weight,
)
_jvp(
    {
        0: lambda g, a, o: conv_grad_weight(g, a[1], a[2], **o),
        1: lambda g, a, o: conv_grad_weight(a[0], g, a[2], **o),
    },
    conv_grad_weight,
)


# unfold(x, kernel_size), col2im(cols, x_shape, kernel_size): a fill is a constant, without a derivative
def _adjoint_of_unfold(g: Any, arguments: Any, options: dict[str, Any]) -> Any:
    sizes = {"layout": "n (c k) l", **_without(options, "fill")}
    return _col2im(g, arguments[0].shape, arguments[1], **sizes)


_vjp({0: _adjoint_of_unfold}, _unfold)
_jvp({0: lambda g, a, o: _unfold(g, a[1], **_without(o, "fill"))}, _unfold)
_vjp({0: lambda g, a, o: _unfold(g, a[2], **o)}, _col2im)
_jvp({0: lambda g, a, o: _col2im(g, a[1], a[2], **o)}, _col2im)


# avg_pool(x, kernel_size), avg_pool_backward(dy, x_shape, kernel_size)
_vjp({0: lambda g, a, o: _avg_pool_backward(g, a[0].shape, a[1], **o)}, avg_pool)
_jvp({0: lambda g, a, o: avg_pool(g, a[1], **o)}, avg_pool)
_vjp({0: lambda g, a, o: avg_pool(g, a[2], **o)}, _avg_pool_backward)
_jvp({0: lambda g, a, o: _avg_pool_backward(g, a[1], a[2], **o)}, _avg_pool_backward)

# sum_pool(x, options, divisor), sum_pool_backward(dy, x_shape, options, divisor)
_vjp({0: lambda g, a, _: _sum_pool_backward(g, a[0].shape, *a[1:])}, _sum_pool)
_jvp({0: lambda g, a, _: _sum_pool(g, *a[1:])}, _sum_pool)
_vjp({0: lambda g, a, _: _sum_pool(g, *a[2:])}, _sum_pool_backward)
_jvp({0: lambda g, a, _: _sum_pool_backward(g, *a[1:])}, _sum_pool_backward)

# take(x, indices), add(y, indices, shape), put(x, indices, size): linear in what they move
_vjp({0: lambda g, a, _: _add(g, a[1], a[0].shape)}, _take)
_jvp({0: lambda g, a, _: _take(g, a[1])}, _take)
_vjp({0: lambda g, a, _: _take(g, a[1])}, _add)
_jvp({0: lambda g, a, _: _add(g, a[1], a[2])}, _add)
_vjp({0: lambda g, a, _: _take(g, a[1])}, _put)
_jvp({0: lambda g, a, _: _put(g, a[1], a[2])}, _put)
