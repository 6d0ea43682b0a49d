"""Layers that remember what their gradients need, as courses on neural networks write them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from . import convolution, global_pooling, lp_pooling, pooling, transposed
from .arguments import Shape, show
from .arrays import Array, as_operand, common_float
from .geometry import check_exact, check_shape, conv_geometry

_POOL_NAMES = ("stride", "pad", "dilation", "ceil_mode", "padding_mode", "fill")


class ConvCache(NamedTuple):
    """What `conv_forward` keeps for `conv_backward`: the arrays themselves, no copies and no columns."""

    x: Array
    w: Array
    bias_shape: Shape | None
    stride: Any
    padding: Any
    padding_mode: str = "constant"


def conv_forward(
    x: Any,
    w: Any,
    b: Any,
    stride: Any = 1,
    padding: Any = 1,
    strict: bool = False,
    padding_mode: str = "constant",
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
    padding_mode : str
        What stands in the padding, as in `windrow.conv`.

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
    bias = None if b is None else b.reshape(-1)
    out = convolution.conv(x, w, bias, stride=stride, padding=padding, padding_mode=padding_mode)
    return out, ConvCache(x, w, None if b is None else b.shape, stride, padding, padding_mode)


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
    x, w, bias_shape, stride, padding, padding_mode = cache
    dout = as_operand("dout", dout)
    check_shape("dout", dout.shape, conv_geometry(x.shape, w.shape, stride, padding, 1, 1).y_shape)
    common_float({"x": x, "dout": dout})
    needs = ("x", "w") if bias_shape is None else ("x", "w", "b")
    dx, dw, db = convolution.conv_backward(
        dout, x, w, stride=stride, padding=padding, padding_mode=padding_mode, needs=needs
    )
    assert dx is not None
    assert dw is not None
    return dx, dw, None if db is None else np.reshape(db, bias_shape)


class TransposedCache(NamedTuple):
    """What `conv_transpose_forward` keeps: the arrays themselves."""

    x: Array
    w: Array
    has_bias: bool
    options: dict[str, Any]


class MaxPoolCache(NamedTuple):
    """What `max_pool_forward` keeps: where the maxima came from."""

    indices: Array
    x_shape: Shape


class AvgPoolCache(NamedTuple):
    """What `avg_pool_forward` keeps."""

    x_shape: Shape
    options: dict[str, Any]


class LpPoolCache(NamedTuple):
    """What `lp_pool_forward` keeps: the array itself, whose powers the gradient needs."""

    x: Array
    options: dict[str, Any]


def conv_transpose_forward(
    x: Any, w: Any, b: Any, conv_param: Mapping[str, Any]
) -> tuple[Array, TransposedCache]:
    """`windrow.conv_transpose`, and what its gradients need.

    >>> x, w = np.array([[[1.0, 10.0]]]), np.array([[[1.0, 2.0, 3.0]]])
    >>> out, cache = conv_transpose_forward(x, w, None, {"stride": 2, "pad": 0})
    >>> out
    array([[[ 1.,  2., 13., 20., 30.]]])

    Parameters
    ----------
    x, w, b
        As `windrow.conv_transpose` takes them; b may be None.
    conv_param : dict
        "stride", "pad", "output_padding", "output_size", "dilation" and "groups", all optional, as
        `windrow.conv_transpose` takes them ("pad" is its padding).

    Returns
    -------
    out, cache
        The cache refers to x and w: do not change them in between.
    """
    names = ("stride", "pad", "output_padding", "output_size", "dilation", "groups")
    options = _options("conv_param", conv_param, names)
    x, w = as_operand("x", x), as_operand("w", w)
    out = transposed.conv_transpose(x, w, b, **options)
    options.pop("output_padding", None)
    options.pop("output_size", None)
    return out, TransposedCache(x, w, b is not None, options)


def conv_transpose_backward(dout: Any, cache: TransposedCache) -> tuple[Array, Array, Array | None]:
    """Gradients of `conv_transpose_forward` for x, w and b, given the gradient for its result.

    >>> x, w = np.array([[[1.0, 10.0]]]), np.array([[[1.0, 2.0, 3.0]]])
    >>> out, cache = conv_transpose_forward(x, w, np.zeros(1), {"stride": 2})
    >>> conv_transpose_backward(np.ones_like(out), cache)
    (array([[[6., 6.]]]), array([[[11., 11., 11.]]]), array([5.]))
    """
    x, w, has_bias, options = cache
    needs = ("x", "w", "b") if has_bias else ("x", "w")
    dx, dw, db = transposed.conv_transpose_backward(dout, x, w, needs=needs, **options)
    assert dx is not None
    assert dw is not None
    return dx, dw, db


def max_pool_forward(x: Any, pool_param: Mapping[str, Any]) -> tuple[Array, MaxPoolCache]:
    """`windrow.max_pool`, and what its gradient needs.

    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> out, cache = max_pool_forward(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    >>> out
    array([[[[ 5.,  7.],
             [13., 15.]]]])

    Parameters
    ----------
    x : (N, C, spatial...) float32 or float64
    pool_param : dict
        "pool_height" and "pool_width", or "kernel_size" for any number of axes; and, optional, "stride",
        "pad", "dilation", "ceil_mode", "padding_mode" and "fill", as `windrow.max_pool` takes them ("pad" is
        its padding).

    Returns
    -------
    out, cache
    """
    kernel, options = _pool_options(pool_param, _POOL_NAMES)
    x = as_operand("x", x)
    out, indices = pooling.max_pool_with_indices(x, kernel, **options)
    return out, MaxPoolCache(indices, x.shape)


def max_pool_backward(dout: Any, cache: MaxPoolCache) -> Array:
    """Gradient of `max_pool_forward` for x, given the gradient for its result.

    >>> out, cache = max_pool_forward(np.array([[[1.0, 2.0, 4.0, 3.0]]]), {"kernel_size": 2})
    >>> max_pool_backward(np.array([[[5.0, 7.0]]]), cache)
    array([[[0., 5., 7., 0.]]])
    """
    indices, x_shape = cache
    dout = as_operand("dout", dout)
    check_shape("dout", dout.shape, indices.shape)
    return pooling.max_pool_backward(dout, indices, x_shape)


def avg_pool_forward(x: Any, pool_param: Mapping[str, Any]) -> tuple[Array, AvgPoolCache]:
    """`windrow.avg_pool`, and what its gradient needs.

    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> avg_pool_forward(x, {"pool_height": 2, "pool_width": 2, "stride": 2})[0]
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])

    Parameters
    ----------
    x, pool_param
        As `max_pool_forward` takes them; pool_param may have "count_include_pad" too.

    Returns
    -------
    out, cache
    """
    kernel, options = _pool_options(pool_param, (*_POOL_NAMES, "count_include_pad"))
    x = as_operand("x", x)
    out = pooling.avg_pool(x, kernel, **options)
    return out, AvgPoolCache(x.shape, {"kernel_size": kernel, **options})


def avg_pool_backward(dout: Any, cache: AvgPoolCache) -> Array:
    """Gradient of `avg_pool_forward` for x, given the gradient for its result.

    >>> out, cache = avg_pool_forward(np.ones((1, 1, 4)), {"kernel_size": 2})
    >>> avg_pool_backward(np.array([[[2.0, 4.0]]]), cache)
    array([[[1., 1., 2., 2.]]])
    """
    x_shape, options = cache
    return pooling.avg_pool_backward(dout, x_shape, **options)


def lp_pool_forward(x: Any, pool_param: Mapping[str, Any]) -> tuple[Array, LpPoolCache]:
    """`windrow.lp_pool`, and what its gradient needs.

    >>> x = np.array([[[3.0, -4.0, 5.0, 12.0]]])
    >>> lp_pool_forward(x, {"kernel_size": 2, "p": 2})[0]
    array([[[ 5., 13.]]])

    Parameters
    ----------
    x, pool_param
        As `max_pool_forward` takes them; pool_param may have "p" too, as `windrow.lp_pool` takes it.

    Returns
    -------
    out, cache
        The cache refers to x: do not change it in between.
    """
    kernel, options = _pool_options(pool_param, ("p", *_POOL_NAMES))
    x = as_operand("x", x)
    return lp_pooling.lp_pool(x, kernel, **options), LpPoolCache(x, {"kernel_size": kernel, **options})


def lp_pool_backward(dout: Any, cache: LpPoolCache) -> Array:
    """Gradient of `lp_pool_forward` for x, given the gradient for its result.

    >>> out, cache = lp_pool_forward(np.array([[[3.0, -4.0]]]), {"kernel_size": 2})
    >>> lp_pool_backward(np.array([[[5.0]]]), cache)
    array([[[ 3., -4.]]])
    """
    x, options = cache
    return lp_pooling.lp_pool_backward(dout, x, **options)


def global_avg_pool_forward(x: Any) -> tuple[Array, Shape]:
    """`windrow.global_avg_pool`, and the shape that its gradient needs.

    >>> out, cache = global_avg_pool_forward(np.arange(4.0).reshape(1, 1, 2, 2))
    >>> out
    array([[[[1.5]]]])
    """
    x = as_operand("x", x)
    return global_pooling.global_avg_pool(x), x.shape


def global_avg_pool_backward(dout: Any, cache: Shape) -> Array:
    """Gradient of `global_avg_pool_forward` for x, given the gradient for its result.

    >>> out, cache = global_avg_pool_forward(np.ones((1, 1, 4)))
    >>> global_avg_pool_backward(np.array([[[8.0]]]), cache)
    array([[[2., 2., 2., 2.]]])
    """
    return global_pooling.global_avg_pool_backward(dout, cache)


def global_max_pool_forward(x: Any) -> tuple[Array, MaxPoolCache]:
    """`windrow.global_max_pool`, and what its gradient needs.

    >>> out, cache = global_max_pool_forward(np.array([[[1.0, 5.0, 2.0]]]))
    >>> out
    array([[[5.]]])
    """
    x = as_operand("x", x)
    out, indices = global_pooling.global_max_pool_with_indices(x)
    return out, MaxPoolCache(indices, x.shape)


def global_max_pool_backward(dout: Any, cache: MaxPoolCache) -> Array:
    """Gradient of `global_max_pool_forward` for x, given the gradient for its result.

    >>> out, cache = global_max_pool_forward(np.array([[[1.0, 5.0, 2.0]]]))
    >>> global_max_pool_backward(np.array([[[7.0]]]), cache)
    array([[[0., 7., 0.]]])
    """
    return max_pool_backward(dout, cache)


def _options(name: str, given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The options of a parameter dictionary, under the names of windrow's own functions."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{name}: expected a dict, got {type(given).__name__}: {show(given)}")
    unknown = [key for key in given if key not in names]
    if unknown:
        raise ValueError(f"{name}: expected some of {', '.join(map(repr, names))}, got {show(unknown[0])}")
    return {"padding" if key == "pad" else key: value for key, value in given.items()}


def _pool_options(pool_param: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    """The window's size and the options of a pooling's parameter dictionary."""
    sizes = ("pool_height", "pool_width", "kernel_size")
    options = _options("pool_param", pool_param, (*sizes, *names))
    height, width, kernel = (options.pop(name, None) for name in sizes)
    both = height is not None and width is not None
    if kernel is None and both:
        return (height, width), options
    if kernel is None or height is not None or width is not None:
        raise ValueError(
            "pool_param: expected 'pool_height' and 'pool_width', or else 'kernel_size', "
            f"got {show(sorted(pool_param))}"
        )
    return kernel, options
