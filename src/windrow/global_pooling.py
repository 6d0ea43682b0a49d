"""Pooling with one window: the whole image."""

from collections.abc import Sequence
from typing import Any

from .arguments import shape_argument
from .arrays import Array, as_operand
from .pooling import (
    MaxPooled,
    avg_pool,
    avg_pool_backward,
    max_pool,
    max_pool_backward,
    max_pool_with_indices,
)


def global_avg_pool(x: Any, *, out: Array | None = None) -> Array:
    """Take the mean of every channel of every image: `avg_pool` whose window is the image.

    Parameters
    ----------
    x : array (N, C, spatial...), float32 or float64
    out : array (N, C, 1...), optional
        Written and returned.

    Returns
    -------
    array (N, C, 1...), with an axis of length 1 for every spatial axis.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.global_avg_pool(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[[[1.5]],
    <BLANKLINE>
            [[5.5]]]])
    """
    x = as_operand("x", x)
    return avg_pool(x, whole("x", x.shape), stride=1, out=out)


def global_avg_pool_backward(dy: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    """Gradient of `global_avg_pool`: every dy, divided by the number of pixels, goes to all of them.

    Parameters
    ----------
    dy : array (N, C, 1...), float32 or float64
    x_shape : sequence of int
        Shape of the input.
    out : array of shape x_shape, optional
        Written and returned.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.global_avg_pool_backward(np.array([[[8.0], [4.0]]]), (1, 2, 4))
    array([[[2., 2., 2., 2.],
            [1., 1., 1., 1.]]])
    """
    shape = shape_argument("x_shape", x_shape)
    return avg_pool_backward(dy, shape, whole("x_shape", shape), stride=1, out=out)


def global_max_pool(x: Any, *, out: Array | None = None) -> Array:
    """Take the greatest value of every channel of every image: `max_pool` whose window is the image.

    Parameters
    ----------
    x : array (N, C, spatial...), float32 or float64
    out : array (N, C, 1...), optional
        Written and returned.

    Returns
    -------
    array (N, C, 1...); NaN where a pixel is.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.global_max_pool(np.array([[[3.0, 5.0, 4.0]]]))
    array([[[5.]]])
    """
    x = as_operand("x", x)
    return max_pool(x, whole("x", x.shape), stride=1, out=out)


def global_max_pool_with_indices(x: Any) -> MaxPooled:
    """Take the greatest value of every channel, and tell the first pixel that has it.

    Parameters
    ----------
    x : array (N, C, spatial...), float32 or float64

    Returns
    -------
    named tuple ``(y, indices)`` of arrays (N, C, 1...), as from `max_pool_with_indices`.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.global_max_pool_with_indices(np.array([[[3.0, 5.0, 5.0]]]))
    MaxPooled(y=array([[[5.]]]), indices=array([[[1]]]))
    """
    x = as_operand("x", x)
    return max_pool_with_indices(x, whole("x", x.shape), stride=1)


def global_max_pool_backward(
    dy: Any, indices: Any, x_shape: Sequence[int], *, out: Array | None = None
) -> Array:
    """Gradient of `global_max_pool`: every dy goes to the pixel that was the maximum.

    Parameters
    ----------
    dy : array (N, C, 1...), float32 or float64
    indices : array of ints (N, C, 1...)
        From `global_max_pool_with_indices`.
    x_shape : sequence of int
        Shape of the input.
    out : array of shape x_shape, optional
        Written and returned.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.global_max_pool_backward(np.array([[[7.0]]]), np.array([[[1]]]), (1, 1, 3))
    array([[[0., 7., 0.]]])
    """
    return max_pool_backward(dy, indices, x_shape, out=out)


def whole(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The window that is the image."""
    if len(shape) < 3:
        expected = "at least 3 axes (N, C and a spatial axis)"
        raise ValueError(f"{name}: expected {expected}, got {len(shape)}: {shape}")
    if 0 in shape[2:]:
        raise ValueError(f"{name}: expected spatial sizes of at least 1, got 0: {shape}")
    return shape[2:]
