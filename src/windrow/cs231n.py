"""A drop-in for the compiled module and the fast layers of Stanford's course CS231n, with nothing to compile.

In the assignments, `im2col_cython` is a module that students build; here it is this one::

    from windrow.cs231n import im2col_cython, col2im_cython, col2im_6d_cython
    from windrow.cs231n import conv_forward_fast, conv_backward_fast
    from windrow.cs231n import max_pool_forward_fast, max_pool_backward_fast

The signatures, the order of the columns and the parameter dictionaries are the course's.

>>> import numpy as np
>>> from windrow.cs231n import conv_forward_fast, im2col_cython
>>> x = np.arange(8.0).reshape(2, 1, 2, 2)
>>> im2col_cython(x, 1, 2, 0, 1)
array([[0., 4., 2., 6.],
       [1., 5., 3., 7.]])
>>> out, cache = conv_forward_fast(x, np.ones((3, 1, 2, 2)), np.zeros(3), {"stride": 1, "pad": 0})
>>> out.shape
(2, 3, 1, 1)
"""

from collections.abc import Mapping
from typing import Any

from . import layers, pooling, unfolding
from .arguments import show
from .arrays import Array

__all__ = [
    "col2im_6d_cython",
    "col2im_cython",
    "conv_backward_fast",
    "conv_forward_fast",
    "im2col_cython",
    "max_pool_backward_fast",
    "max_pool_forward_fast",
]


def im2col_cython(x: Any, field_height: int, field_width: int, padding: int, stride: int) -> Array:
    """Columns (C * field_height * field_width, positions * N) of x (N, C, H, W), the image fastest."""
    return unfolding.im2col(x, (field_height, field_width), stride=stride, padding=padding)


def col2im_cython(
    cols: Any, N: int, C: int, H: int, W: int, field_height: int, field_width: int, padding: int, stride: int
) -> Array:
    """The adjoint of `im2col_cython`: overlapping columns summed into an array (N, C, H, W)."""
    window = (field_height, field_width)
    return unfolding.col2im(cols, (N, C, H, W), window, stride=stride, padding=padding)


def col2im_6d_cython(
    cols: Any, N: int, C: int, H: int, W: int, HH: int, WW: int, pad: int, stride: int
) -> Array:
    """The same of columns (C, HH, WW, N, rows, columns), each of whose axes stands alone."""
    return unfolding.col2im(
        cols, (N, C, H, W), (HH, WW), stride=stride, padding=pad, layout="c kh kw n lh lw"
    )


def conv_forward_fast(
    x: Any, w: Any, b: Any, conv_param: Mapping[str, int]
) -> tuple[Array, layers.ConvCache]:
    """Convolve x (N, C, H, W) with w (F, C, HH, WW), b (F,); conv_param is {"stride": ..., "pad": ...}."""
    stride, pad = _parameters("conv_param", conv_param, "stride", "pad")
    return layers.conv_forward(x, w, b, stride=stride, padding=pad, strict=True)


def conv_backward_fast(dout: Any, cache: layers.ConvCache) -> tuple[Array, Array, Array | None]:
    """Gradients (dx, dw, db) of `conv_forward_fast`."""
    return layers.conv_backward(dout, cache)


def max_pool_forward_fast(x: Any, pool_param: Mapping[str, int]) -> tuple[Array, Any]:
    """Maxima of x (N, C, H, W); pool_param is {"pool_height": ..., "pool_width": ..., "stride": ...}."""
    height, width, stride = _parameters("pool_param", pool_param, "pool_height", "pool_width", "stride")
    y, indices = pooling.max_pool_with_indices(x, (height, width), stride=stride)
    return y, (indices, x.shape)


def max_pool_backward_fast(dout: Any, cache: Any) -> Array:
    """Gradient by x of `max_pool_forward_fast`; of equal maxima the first one gets all of it."""
    indices, x_shape = cache
    return pooling.max_pool_backward(dout, indices, x_shape)


def _parameters(name: str, given: Mapping[str, int], *wanted: str) -> tuple[int, ...]:
    """The values of a parameter dictionary, which must have just these keys."""
    if not isinstance(given, Mapping) or set(given) != set(wanted):
        keys = ", ".join(repr(key) for key in wanted)
        got = show(sorted(given)) if isinstance(given, Mapping) else show(given)
        raise ValueError(f"{name}: expected a dictionary with {keys}, got {got}")
    return tuple(given[key] for key in wanted)
