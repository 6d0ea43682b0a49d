"""Pooling by a norm of every window, and its way back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arguments import show
from .arrays import Array, as_operand, check_out, common_float, empty, native
from .borders import repeats_pixels
from .convolution import _into
from .geometry import Windows, check_shape
from .pooling import _ADD, _prepared, _spread, max_unpool_backward

_BLOCK = 1 << 18  # pixels whose powers are held at a time


def lp_pool(
    x: Any,
    kernel_size: Any,
    p: float = 2,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    padding_mode: str | None = None,
    fill: Any = 0,
    out: Array | None = None,
) -> Array:
    """Take the p-norm of every window.

    ``y[n, c, l] = (sum over k of |x[n, c, l * stride + k * dilation - before]| ** p) ** (1 / p)``, over
    pixels inside the image only, which is the same as with zeros around it; for ``p = inf`` the greatest
    magnitude. A window without a pixel gives 0. Neither a mean nor a count enters.

    Magnitudes make it a norm for every p, as ONNX has it. PyTorch's ``lp_pool2d`` sums ``x ** p`` itself,
    which for an odd p is the same only where no pixel is negative.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, padding_mode, fill, out
        As `max_pool` takes them.
    p : float
        At least 1, `numpy.inf` included; rounded to the dtype of x. The norm overflows where the sum does.

    Returns
    -------
    array (N, C, output...), in the memory format of x.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came; nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> x = np.array([[[3.0, -4.0, 5.0, 12.0]]])
    >>> wr.lp_pool(x, 2)
    array([[[ 5., 13.]]])
    >>> wr.lp_pool(x, 2, 1), wr.lp_pool(x, 2, np.inf)
    (array([[[ 7., 17.]]]), array([[[ 4., 12.]]]))
    """
    x = as_operand("x", x)
    dtype = common_float({"x": x})
    norm = _norm(p, dtype)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, core, _ = _prepared(x.shape, options, "x", padding_mode, fill, dtype)
    target = None if out is None else check_out(out, geometry.y_shape, dtype, {"x": x})
    plain = native(x)
    if norm == np.inf:
        return _into(out, target, lambda to: core.max(plain, to, None, True))
    return _into(out, target, lambda to: core.norm(plain, to, norm))


def lp_pool_backward(
    dy: Any,
    x: Any,
    kernel_size: Any,
    p: float = 2,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    padding_mode: str | None = None,
    fill: Any = 0,
    out: Array | None = None,
) -> Array:
    """Gradient of `lp_pool` for its input.

    For a pixel x[n, c, i], over the windows l that see it, with the norms y, which are computed again::

        dx[n, c, i] = sign(x) * |x| ** (p - 1) * sum over l of dy[n, c, l] * y[n, c, l] ** (1 - p)

    Where the norm has no derivative, this is one of its subgradients: 0 for a window of zeros, and for a
    pixel of 0 under ``p = 1``. Under ``p = inf``, each dy goes to the first pixel of the greatest magnitude,
    with its sign.

    Parameters
    ----------
    dy : array (N, C, output...), the dtype of x
        Gradient of the result; a channels-last dy makes dx channels-last.
    x : array (N, C, spatial...), float32 or float64
    kernel_size, p, stride, padding, dilation, ceil_mode, padding_mode, fill
        As `lp_pool` took them.
    out : array of the shape of x, optional
        Written and returned.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.lp_pool_backward(np.array([[[5.0, 13.0]]]), np.array([[[3.0, -4.0, 5.0, 12.0]]]), 2)
    array([[[ 3., -4.,  5., 12.]]])
    """
    if repeats_pixels(padding_mode):
        from . import bordered  # noqa: PLC0415 - it needs this module

        pooled = {
            "kernel_size": kernel_size, "p": p, "stride": stride, "padding": padding, "dilation": dilation,
            "ceil_mode": ceil_mode,
        }  # fmt: skip
        return bordered.lp_pool_backward(dy, x, pooled, bordered.Mode(padding_mode, fill), out)
    dy, x = as_operand("dy", dy), as_operand("x", x)
    dtype = common_float({"dy": dy, "x": x})
    norm = _norm(p, dtype)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, core, pads = _prepared(x.shape, options, "x", padding_mode, fill, dtype)
    check_shape("dy", dy.shape, geometry.y_shape)
    inputs: dict[str, Array | None] = {"dy": dy, "x": x}
    target = None if out is None else check_out(out, x.shape, dtype, inputs)
    plain = native(x)
    if norm == np.inf:
        y = empty("y", geometry.y_shape, dtype)
        indices = empty("indices", geometry.y_shape, np.dtype(np.int64))
        core.max(plain, y, indices, True)
        shares = dy * np.sign(max_unpool_backward(plain, indices))
        return _spread("dx", shares, indices, x.shape, dtype, _ADD, out, inputs)
    shares = native(dy)
    if norm != 1:
        # A sum that neither overflows nor vanishes leaves y ** (1 - p) in range too.
        norms = core.norm(plain, None, norm)
        assert norms is not None, "the core was given an array that it cannot read"
        shares = np.array(shares)
        _times_power(shares, norms, 1 - norm, ())

    windows = geometry.windows._replace(size=x.shape[2:], padding=pads)

    def compute(to: Array | None) -> Array | None:
        dx = core.sum_backward(shares, to, 1.0)
        if dx is not None:
            _times_power(dx, x, norm - 1, _unseen(windows))
        return dx

    return _into(out, target, compute)


def _norm(p: Any, dtype: np.dtype[Any]) -> float:
    """The norm's exponent in the dtype that it is computed in."""
    if isinstance(p, (bool, np.bool_)) or not isinstance(p, (int, float, np.integer, np.floating)):
        raise TypeError(f"p: expected a number of at least 1, got {type(p).__name__}: {show(p)}")
    if not p >= 1:
        raise ValueError(f"p: expected a number of at least 1, got {show(p)}")
    try:
        with np.errstate(over="ignore"):
            return float(dtype.type(p))
    except OverflowError:  # an int beyond all floats
        return np.inf


def _unseen(windows: Windows) -> list[Array]:
    """Along every axis, the pixels that no window sees: whatever they are, their gradient is 0."""
    pixels = []
    for size, kernel, stride, dilation, (before, _), output in zip(*windows):
        seen = np.add.outer(np.arange(output) * stride, np.arange(kernel) * dilation) - before
        pixels.append(np.setdiff1d(np.arange(size), seen))
    return pixels


def _times_power(target: Array, base: Array, exponent: float, unseen: Sequence[Array]) -> None:
    """Multiply by ``sign(base) * |base| ** exponent``, which is 0 where the base is, in blocks of images."""
    images = max(1, _BLOCK // max(1, base[:1].size))
    with np.errstate(all="ignore"):
        for first in range(0, len(base), images):
            block = base[first : first + images]
            factor = np.abs(block) ** block.dtype.type(exponent) * np.sign(block)
            factor[block == 0] = 0  # also where the power of 0 is infinite
            for axis, pixels in enumerate(unseen):
                factor[(slice(None),) * (2 + axis) + (pixels,)] = 0
            target[first : first + images] *= factor
