"""A convolution layer that remembers what its gradient needs, as courses on neural networks write it."""

from typing import Any, NamedTuple

import numpy as np

from . import convolution
from .arguments import Shape
from .arrays import Array, as_operand, common_float
from .geometry import check_exact, check_shape, conv_geometry


class ConvCache(NamedTuple):
    """What `conv_forward` keeps for `conv_backward`: the arrays themselves, no copies and no columns."""

    x: Array
    w: Array
    bias_shape: Shape | None
    stride: Any
    padding: Any


def conv_forward(
    x: Any, w: Any, b: Any, stride: Any = 1, padding: Any = 1, strict: bool = False
) -> tuple[Array, ConvCache]:
    """Convolve x with the filters w, add the bias b, and remember what the gradients need.

    ``out[n, f, l] = b[f] + sum over c, k of x[n, c, l * stride + k - padding] * w[f, c, k]``

    >>> x = np.arange(32.0).reshape(1, 2, 4, 4)
    >>> w, b = np.ones((3, 2, 3, 3)), np.array([[0.0], [100.0], [200.0]])
    >>> out, cache = conv_forward(x, w, b)
    >>> out.shape
    (1, 3, 4, 4)
    >>> out[0, :, 0, 0]
    array([ 84., 184., 284.])

    Without padding, and with a last window that must end at the edge:

    >>> conv_forward(x, w, None, stride=1, padding=0, strict=True)[0].shape
    (1, 3, 2, 2)

    Parameters
    ----------
    x : (N, C, spatial...) float32 or float64
        Images, of any number of spatial axes.
    w : (F, C, kernel...) of x's dtype
        Filters.
    b : (F,) or (F, 1) of x's dtype, or None
        Bias of each filter. Its gradient comes back in the same shape.
    stride, padding : int, or as in `windrow.conv`
        Note that the padding is 1 unless said otherwise.
    strict : bool
        Refuse windows that do not end at the edge of the padded image, instead of leaving pixels out.

    Returns
    -------
    out : (N, F, output...) of x's dtype
    cache : ConvCache
        For `conv_backward`. It refers to x and w: do not change them in between.

    Raises
    ------
    TypeError, ValueError
        As `windrow.conv`; with ``strict=True`` also where the division by the stride is not exact.

    The signature is that of the assignments of Stanford's course CS231n, "Deep Learning for Computer Vision".
    """
    x, w = as_operand("x", x), as_operand("w", w)
    if b is not None:
        b = as_operand("b", b)
        if b.shape not in ((*w.shape[:1],), (*w.shape[:1], 1)):
            filters = w.shape[0] if w.ndim else 0
            raise ValueError(f"b: expected shape ({filters},) or ({filters}, 1), got {b.shape}")
    if strict:
        check_exact(conv_geometry(x.shape, w.shape, stride, padding, 1, 1).windows)
    out = convolution.conv(x, w, None if b is None else b.reshape(-1), stride=stride, padding=padding)
    return out, ConvCache(x, w, None if b is None else b.shape, stride, padding)


def conv_backward(dout: Any, cache: ConvCache) -> tuple[Array, Array, Array | None]:
    """Gradients of `conv_forward` by x, w and b, given the gradient by its result.

    For a loss L with ``dout = dL/dout``:

    ``dx[n, c, i] = sum over f, k of dout[n, f, (i + padding - k) / stride] * w[f, c, k]`` where that divides,
    ``dw[f, c, k] = sum over n, l of dout[n, f, l] * x[n, c, l * stride + k - padding]``,
    ``db[f] = sum over n, l of dout[n, f, l]``.

    >>> x, w, b = np.ones((2, 1, 5)), np.array([[[1.0, 2.0, 3.0]]]), np.zeros((1, 1))
    >>> out, cache = conv_forward(x, w, b)
    >>> dx, dw, db = conv_backward(np.ones_like(out), cache)
    >>> dx[0]
    array([[3., 6., 6., 6., 5.]])
    >>> dw, db
    (array([[[ 8., 10.,  8.]]]), array([[10.]]))

    Parameters
    ----------
    dout : shape and dtype of out
        The gradient of the loss by the layer's result.
    cache : ConvCache
        From `conv_forward`.

    Returns
    -------
    dx, dw, db : shapes of x, w and b
        db is None for a layer without bias.

    Raises
    ------
    TypeError, ValueError
        If dout has not the shape or dtype of the layer's result.
    """
    x, w, bias_shape, stride, padding = cache
    dout = as_operand("dout", dout)
    check_shape("dout", dout.shape, conv_geometry(x.shape, w.shape, stride, padding, 1, 1).y_shape)
    common_float({"x": x, "dout": dout})
    needs = ("x", "w") if bias_shape is None else ("x", "w", "b")
    dx, dw, db = convolution.conv_backward(dout, x, w, stride=stride, padding=padding, needs=needs)
    assert dx is not None
    assert dw is not None
    return dx, dw, None if db is None else np.reshape(db, bias_shape)
