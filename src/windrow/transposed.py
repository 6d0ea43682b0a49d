"""Transposed convolution and its gradients: the passes of `conv` seen from the other side.

`conv_transpose` is the input gradient of a convolution, plus a bias. So its own input gradient is that
convolution, and its weight gradient is that of the convolution with the two arrays exchanged. Nothing is
computed here that `windrow.convolution` does not have.
"""

from collections.abc import Sequence
from typing import Any

from . import _core
from ._core import exact
from .arrays import Array, as_operand, check_out, common_float, empty_images, is_channels_last, native
from .borders import border_of, is_plain, with_border
from .convolution import (
    ConvGradients,
    _checked_needs,
    _checked_options,
    _into,
    prepared,
)
from .geometry import CACHED, ConvGeometry, check_shape, transposed_geometry

_known: dict[tuple[Any, ...], _core.Conv] = {}  # by the raw arguments, exact types only


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
    padding_mode: str = "constant",
    algorithm: str = "auto",
    max_workspace: int | None = None,
    out: Array | None = None,
) -> Array:
    """Spread every value of x over a window: transposed convolution, as decoders and upsampling use it.

    For one group, with positions ``i`` of the result, ``l`` of x, and taps ``k``::

        y[n, f, i] = b[f] + sum over c, k of  x[n, c, (i + before - k * dilation) / stride] * w[c, f, k]

    over the taps k where that division is exact, x being zero outside its range. It is the adjoint of `conv`:
    without a bias, ``sum(conv_transpose(x, w) * z)`` is ``sum(x * conv(z, w))``.

    Parameters
    ----------
    x : array (N, C, spatial...), float32 or float64
        A channels-last array makes y channels-last.
    w : array (C, K / groups, kernel...), same dtype
        Filters, with the channels of x in front, as in PyTorch.
    b : array (K,), same dtype, optional
        Bias, added last.
    stride, dilation : int or one int per spatial axis
    padding : int, one int or one (before, after) pair per spatial axis, "valid", "same" or "same_lower"
        What `conv` would have padded, so here it is cut off: the result gets smaller. With "same" it has
        ``size * stride`` positions.
    output_padding : int or one int per spatial axis
        Positions more after the end of the result: fewer than the stride or the dilation.
    output_size : int or one int per spatial axis, optional
        Size of the result instead, among those that `output_padding` could give.
    groups : int
        Channels and filters are split into this many groups that do not see each other.
    padding_mode : {"constant", "reflect", "edge", "wrap"}
        Of the `conv` that this is the adjoint of. What padding cuts off is dropped under "constant", else
        added to the pixels that it repeats there: "wrap" is a transposed convolution on a ring.
    algorithm, max_workspace
        As in `conv`.
    out : array (N, K, output...), optional
        Written and returned; any strides, no memory shared with an input.

    Returns
    -------
    array (N, K, output...), in the memory format of x, where
    ``output = (size - 1) * stride - pads + dilation * (kernel - 1) + 1 + output_padding``.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came; nothing is written then.
    MemoryError
        With the bytes, if the result cannot be allocated.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.conv_transpose(np.array([[[1.0, 10.0]]]), np.array([[[1.0, 2.0, 3.0]]]), stride=2)
    array([[[ 1.,  2., 13., 20., 30.]]])
    >>> x, w = np.ones((8, 32, 14, 14), np.float32), np.ones((32, 16, 4, 4), np.float32)
    >>> wr.conv_transpose(x, w, stride=2, padding=1).shape
    (8, 16, 28, 28)

    Notes
    -----
    No zeros are put between the values of x: each remainder of the stride is a dense product of its own
    (docs/architecture.md), after Dumoulin and Visin, "A guide to convolution arithmetic for deep learning"
    (2016), chapter 4.
    """
    plain = is_plain(padding_mode, 0)
    if plain and out is None and max_workspace is None and algorithm == "auto" and output_size is None:
        options = (stride, padding, output_padding, dilation, groups)
        problem = None
        if exact(*options):
            problem = _known.get((getattr(x, "shape", None), getattr(w, "shape", None), *options))
        y = None if problem is None else problem.transposed(x, w, b, None, 0, 0)
        if y is not None:
            return y
    x, w = as_operand("x", x), as_operand("w", w)
    b = None if b is None else as_operand("b", b)
    dtype = common_float({"x": x, "w": w, "b": b})
    geometry = transposed_geometry(
        x.shape, w.shape, stride, padding, dilation, groups,
        output_padding=output_padding, output_size=output_size,
    )  # fmt: skip
    if b is not None:
        check_shape("b", b.shape, (geometry.c,))
    number, limit = _checked_options(algorithm, max_workspace, geometry)
    target = None if out is None else check_out(out, geometry.x_shape, dtype, {"x": x, "w": w, "b": b})
    if not plain:
        from . import bordered  # noqa: PLC0415 - it needs what this module needs

        conv_options = _conv_options(geometry, algorithm, max_workspace)
        return bordered.conv_transpose(x, w, b, geometry, conv_options, padding_mode, out)
    problem = prepared(geometry)
    options = (stride, padding, output_padding, dilation, groups)
    if output_size is None and exact(*options):
        while len(_known) >= CACHED:
            # The oldest; another thread may have been faster.
            _known.pop(next(iter(_known)), None)
        _known[(x.shape, w.shape, *options)] = problem
    x, w, b = native(x), native(w), None if b is None else native(b)
    return _into(out, target, lambda to: problem.transposed(x, w, b, to, limit, number))


def conv_transpose_backward(
    dy: Any,
    x: Any,
    w: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: str = "constant",
    algorithm: str = "auto",
    max_workspace: int | None = None,
    needs: Sequence[str] = ("x", "w", "b"),
) -> ConvGradients:
    """Gradients of `conv_transpose` for its input, weights and bias, given the gradient dy of its result.

    For one group::

        dx[n, c, l] = sum over f, k of  dy[n, f, l * stride + k * dilation - before] * w[c, f, k]
        dw[c, f, k] = sum over n, l of  dy[n, f, l * stride + k * dilation - before] * x[n, c, l]
        db[f]       = sum over n, i of  dy[n, f, i]

    dy being zero outside its range, or what `padding_mode` says.

    Parameters
    ----------
    dy : array (N, K, output...), the dtype of x and w
        Its shape says which of the possible output sizes the call had.
    x, w, stride, padding, dilation, groups, padding_mode, algorithm, max_workspace
        As `conv_transpose` took them.
    needs : sequence of "x", "w", "b"
        Which gradients to compute; the others are None.

    Returns
    -------
    named tuple ``(dx, dw, db)`` of arrays of the shapes of x and w, and (K,); dx in the memory format of x.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> x, w = np.array([[[1.0, 10.0]]]), np.array([[[1.0, 2.0, 3.0]]])
    >>> dx, dw, db = wr.conv_transpose_backward(np.arange(5.0).reshape(1, 1, 5), x, w, stride=2)
    >>> dx, dw, db
    (array([[[ 8., 20.]]]), array([[[20., 31., 42.]]]), array([10.]))
    """
    wanted = _checked_needs(needs)
    dy, x, w = as_operand("dy", dy), as_operand("x", x), as_operand("w", w)
    dtype = common_float({"dy": dy, "x": x, "w": w})
    geometry = transposed_geometry(
        x.shape, w.shape, stride, padding, dilation, groups,
        output_size=dy.shape[2:] if dy.ndim == x.ndim else None, size_name="dy",
    )  # fmt: skip
    check_shape("dy", dy.shape, geometry.x_shape)
    number, limit = _checked_options(algorithm, max_workspace, geometry)
    if not is_plain(padding_mode, 0):
        geometry = with_border(geometry, border_of(geometry.windows, padding_mode, 0, dtype))
    problem = prepared(geometry)
    dx = dw = db = None
    channels_last = is_channels_last(x)
    dy, x, w = native(dy), native(x), native(w)
    if "x" in wanted:
        dx = empty_images("dx", geometry.y_shape, dtype, channels_last=channels_last)
        problem.forward(dy, w, None, dx, limit, number)
    if "w" in wanted:
        dw = problem.grad_weight(x, dy, None, False, limit, number)
    if "b" in wanted:
        db = _core.grad_bias(dy, None, False)
    return ConvGradients(dx, dw, db)


def _conv_options(geometry: ConvGeometry, algorithm: str, max_workspace: int | None) -> dict[str, Any]:
    """Of the convolution whose input gradient this is."""
    windows = geometry.windows
    return {
        "stride": windows.stride, "padding": windows.padding, "dilation": windows.dilation,
        "groups": geometry.groups, "algorithm": algorithm, "max_workspace": max_workspace,
    }  # fmt: skip
