"""Forward-mode and second-order derivatives of `conv`, which is bilinear: each is a sum of convolutions.

`conv` is linear in its input and its bias together, and in its weights and its bias together. So its
derivatives are exact sums of `conv`, `conv_grad_input` and `conv_grad_weight`.
"""

from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, as_operand, common_float
from .convolution import conv, conv_grad_input, conv_grad_weight
from .geometry import check_shape, conv_geometry


class ConvSecondGradients(NamedTuple):
    """Gradients of `conv_backward` for its own inputs; None where nothing that was given reaches them."""

    ddy: Array
    dx: Array | None
    dw: Array | None


def conv_jvp(
    x: Any,
    w: Any,
    x_dot: Any = None,
    w_dot: Any = None,
    b_dot: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    algorithm: str = "auto",
    max_workspace: int | None = None,
) -> Array:
    """Derivative of `conv` along a direction (Jacobian-vector product, forward mode).

    ``d/dt conv(x + t x_dot, w + t w_dot, b + t b_dot)`` at t = 0, which is
    ``conv(x_dot, w) + conv(x, w_dot) + b_dot``.

    Parameters
    ----------
    x, w : arrays (N, C, spatial...) and (K, C / groups, kernel...), float32 or float64
        Where the derivative is taken.
    x_dot, w_dot, b_dot : arrays of the shapes of x, w and (K,), same dtype; None for zero
        The direction; at least one is needed.
    stride, padding, dilation, groups, algorithm, max_workspace
        As `conv` takes them.

    Returns
    -------
    array (N, K, output...)

    Raises
    ------
    ValueError
        If no direction is given, or a direction has not the shape of what it moves.
    TypeError, ValueError
        As `conv`.

    Examples
    --------
    >>> import numpy as np
    >>> from windrow.bilinear import conv_jvp
    >>> x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))
    >>> conv_jvp(x, w, x_dot=np.ones_like(x), stride=2)
    array([[[[4., 4.],
             [4., 4.]]]])
    >>> conv_jvp(x, w, w_dot=w, b_dot=np.array([0.5]), stride=2)
    array([[[[10.5, 18.5],
             [42.5, 50.5]]]])

    Notes
    -----
    The product rule; costs one `conv` for each of x_dot and w_dot.
    """
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        "algorithm": algorithm, "max_workspace": max_workspace,
    }  # fmt: skip
    x, w, x_dot, w_dot, b_dot = _operands(x=x, w=w, x_dot=x_dot, w_dot=w_dot, b_dot=b_dot)
    if x_dot is None and w_dot is None and b_dot is None:
        raise ValueError("x_dot: expected at least one of x_dot, w_dot and b_dot, got None for all")
    geometry = conv_geometry(x.shape, w.shape, stride, padding, dilation, groups)
    for name, given, shape in (
        ("x_dot", x_dot, x.shape), ("w_dot", w_dot, w.shape), ("b_dot", b_dot, (geometry.k,)),
    ):  # fmt: skip
        if given is not None:
            check_shape(name, given.shape, shape)
    if x_dot is not None:
        y = conv(x_dot, w, b_dot, **options)
        if w_dot is not None:
            y += conv(x, w_dot, **options)
        return y
    if w_dot is not None:
        return conv(x, w_dot, b_dot, **options)
    bias = b_dot.reshape(geometry.k, *(1 for _ in x.shape[2:]))
    return np.array(np.broadcast_to(bias, geometry.y_shape), order="C")


def conv_double_backward(
    dy: Any,
    x: Any,
    w: Any,
    ddx: Any = None,
    ddw: Any = None,
    ddb: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    algorithm: str = "auto",
    max_workspace: int | None = None,
) -> ConvSecondGradients:
    """Gradients of `conv_backward` (backward of backward), given gradients for its results.

    With ``gx, gw, gb = conv_backward(dy, x, w)`` these are the gradients of
    ``sum(ddx * gx) + sum(ddw * gw) + sum(ddb * gb)`` for dy, x and w::

        ddy = conv(ddx, w) + conv(x, ddw) + ddb
        dx  = conv_grad_input(dy, ddw, x.shape)
        dw  = conv_grad_weight(dy, ddx, w.shape)

    Parameters
    ----------
    dy, x, w : arrays (N, K, output...), (N, C, spatial...), (K, C / groups, kernel...), float32 or float64
        As `conv_backward` took them.
    ddx, ddw, ddb : arrays of the shapes of x, w and (K,), same dtype; None for zero
        Gradients for the three results of `conv_backward`; at least one is needed.
    stride, padding, dilation, groups, algorithm, max_workspace
        As `conv` takes them.

    Returns
    -------
    named tuple ``(ddy, dx, dw)`` of arrays of the shapes of dy, x and w; dx is None without ddw, dw without
    ddx.

    Raises
    ------
    ValueError
        If none of ddx, ddw and ddb is given, or one has not the shape of what it belongs to.
    TypeError, ValueError
        As `conv` and its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from windrow.bilinear import conv_double_backward
    >>> x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))
    >>> dy = np.ones((1, 1, 2, 2))
    >>> ddy, dx, dw = conv_double_backward(dy, x, w, ddw=np.eye(2).reshape(1, 1, 2, 2), stride=2)
    >>> ddy
    array([[[[ 5.,  9.],
             [21., 25.]]]])
    >>> dx[0, 0, :2, :2]
    array([[1., 0.],
           [0., 1.]])

    Notes
    -----
    The product rule, as PyTorch's ``_convolution_double_backward`` applies it.
    """
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        "algorithm": algorithm, "max_workspace": max_workspace,
    }  # fmt: skip
    dy, x, w, ddx, ddw, ddb = _operands(dy=dy, x=x, w=w, ddx=ddx, ddw=ddw, ddb=ddb)
    if ddx is None and ddw is None and ddb is None:
        raise ValueError("ddx: expected at least one of ddx, ddw and ddb, got None for all")
    geometry = conv_geometry(x.shape, w.shape, stride, padding, dilation, groups)
    for name, given, shape in (
        ("dy", dy, geometry.y_shape), ("ddx", ddx, x.shape),
        ("ddw", ddw, w.shape), ("ddb", ddb, (geometry.k,)),
    ):  # fmt: skip
        if given is not None:
            check_shape(name, given.shape, shape)
    return ConvSecondGradients(
        conv_jvp(x, w, ddx, ddw, ddb, **options),
        None if ddw is None else conv_grad_input(dy, ddw, x.shape, **options),
        None if ddx is None else conv_grad_weight(dy, ddx, w.shape, **options),
    )


def _operands(**given: Any) -> list[Any]:
    """The arrays among these, of one dtype; None stays."""
    arrays = {name: None if value is None else as_operand(name, value) for name, value in given.items()}
    common_float(arrays)
    return list(arrays.values())
