"""Convolution and its gradients on the compiled core.

Every function goes one way: the fast lane looks the raw arguments up in a table of prepared problems and
calls the core; whatever the core does not take as it is (new arguments, unusual arrays, `out=`) goes through
the checks first, which is where all errors come from.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._core import grad_bias, known_conv, known_grad_input, known_grad_weight, remember
from .arguments import int_argument, shape_argument, show
from .arrays import (
    Array,
    as_operand,
    check_out,
    common_float,
    converts,
    is_channels_last,
    is_native,
    native,
)
from .borders import MODES, is_plain
from .geometry import CACHED, ConvGeometry, check_shape, conv_geometry

ALGORITHMS = ("auto", "direct", "winograd")  # in the order of the core's numbers for them

_problems: dict[ConvGeometry, _core.Conv] = {}


class ConvGradients(NamedTuple):
    """Gradients of a convolution; None for those that were not asked for."""

    dx: Array | None
    dw: Array | None
    db: Array | None


def conv(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: str = "constant",
    fill: Any = 0,
    algorithm: str = "auto",
    max_workspace: int | None = None,
    accumulator: Any = None,
    out: Array | None = None,
) -> Array:
    """Convolve images with filters, as deep learning defines it (cross-correlation: no flip).

    For one group, with window position ``l``, tap ``k`` and padding ``before`` per axis::

        y[n, f, l] = b[f] + sum over c, k of  x[n, c, l * stride + k * dilation - before] * w[f, c, k]

    where x is zero outside the image, or what `padding_mode` says. The spatial rank is ``w.ndim - 2``; any
    rank is right.

    Parameters
    ----------
    x : array (N, C, spatial...), float32 or float64
        Images. Any strides; a channels-last array is read as it lies and makes y channels-last. float16 and
        bfloat16 (of ml_dtypes) are summed in float32 and rounded once; complex numbers are taken too.
    w : array (K, C / groups, kernel...), same dtype
        Filters.
    b : array (K,), same dtype, optional
        Bias, added last.
    stride, dilation : int or one int per spatial axis
    padding : int, one int or one (before, after) pair per spatial axis, "valid", "same" or "same_lower"
    padding_mode : {"constant", "reflect", "edge", "wrap"}
        What stands in the padding: `fill`, the image mirrored without repeating its edge, its edge, or the
        image's other side, as in `numpy.pad` (docs/borders.md has what each costs).
    fill : scalar
        The value of padding under "constant".
    groups : int
        Channels and filters are split into this many groups that do not see each other.
    algorithm : {"auto", "direct", "winograd"}
        "direct" forces the direct sum; "winograd" forces Winograd's tiles, for windows with 3 taps and
        stride 1 along the last two axes (the input gradient under a longer stride of another axis is a
        direct sum all the same); "auto" (or what the environment variable WINDROW_ALGORITHM says, wherever
        the problem has it) chooses by the shape of one image. `explain` tells which it is.
    max_workspace : int, optional
        Bytes of scratch memory that the call may use, all threads together.
    accumulator : {int32, int64}, optional
        For x and w (and b) of integers up to 32 bits: y has this dtype and is exact. Sums that it cannot hold
        raise an OverflowError.
    out : array (N, K, output...), optional
        Written and returned; any strides, no memory shared with an input.

    Returns
    -------
    array (N, K, output...), in the memory format of x, where
    ``output = floor((size + pads - dilation * (kernel - 1) - 1) / stride) + 1``.

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
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> wr.conv(x, np.ones((1, 1, 2, 2)), stride=2)
    array([[[[10., 18.],
             [42., 50.]]]])
    >>> wr.conv(np.ones((8, 3, 32, 32), np.float32), np.ones((16, 3, 3, 3), np.float32), padding="same").shape
    (8, 16, 32, 32)

    Notes
    -----
    A blocked matrix product whose packing step is im2col, after Chellapilla, Puri and Simard, "High
    Performance Convolutional Neural Networks for Document Processing" (2006), and Van Zee and van de Geijn,
    "BLIS: A Framework for Rapidly Instantiating BLAS Functionality" (2015). The column matrix never exists.
    Winograd's tiles after Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016).
    """
    if max_workspace is None and algorithm == "auto" and accumulator is None:
        y = known_conv(x, w, b, stride, padding, dilation, groups, padding_mode, fill, out)
        if y is not None:
            return y
    if not is_plain(padding_mode, fill):
        from . import bordered  # noqa: PLC0415 - it needs this module

        mode = bordered.Mode(padding_mode, fill)
        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
            "algorithm": algorithm, "max_workspace": max_workspace,
        }  # fmt: skip
        return bordered.conv(x, w, b, options, mode, out, accumulator)
    x, w = as_operand("x", x), as_operand("w", w)
    b = None if b is None else as_operand("b", b)
    if accumulator is not None or converts(x, w):
        from . import converted  # noqa: PLC0415 - it needs this module

        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
            "algorithm": algorithm, "max_workspace": max_workspace,
        }  # fmt: skip
        if accumulator is not None:
            return converted.conv_integers(x, w, b, options, accumulator, out)
        return converted.conv(x, w, b, options, out)
    dtype = common_float({"x": x, "w": w, "b": b})
    geometry = conv_geometry(x.shape, w.shape, stride, padding, dilation, groups)
    if b is not None:
        check_shape("b", b.shape, (geometry.k,))
    number, limit = _checked_options(algorithm, max_workspace, geometry)
    target = None if out is None else check_out(out, geometry.y_shape, dtype, {"x": x, "w": w, "b": b})
    problem = prepared(geometry)
    remember(problem, "constant", x.shape, w.shape, stride, padding, dilation, groups)
    x, w, b = native(x), native(w), None if b is None else native(b)
    return _into(out, target, lambda to: problem.forward(x, w, b, to, limit, number))


def conv_backward(
    dy: Any,
    x: Any,
    w: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: str = "constant",
    fill: Any = 0,
    algorithm: str = "auto",
    max_workspace: int | None = None,
    needs: Sequence[str] = ("x", "w", "b"),
) -> ConvGradients:
    """Gradients of `conv` for its input, weights and bias, given the gradient dy of its result.

    ``sum(dy * conv(x + u, w + v, b + t)) - sum(dy * conv(x, w, b))`` is, to first order,
    ``sum(dx * u) + sum(dw * v) + sum(db * t)``.

    Parameters
    ----------
    dy : array (N, K, output...), the dtype of x and w
    x, w, stride, padding, dilation, groups, padding_mode, fill, algorithm, max_workspace
        As `conv` took them.
    needs : sequence of "x", "w", "b"
        Which gradients to compute; the others are None.

    Returns
    -------
    named tuple ``(dx, dw, db)`` of arrays (N, C, spatial...), (K, C / groups, kernel...) and (K,);
    dx in the memory format of x.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))
    >>> dx, dw, db = wr.conv_backward(np.ones((1, 1, 2, 2)), x, w, stride=2)
    >>> dw
    array([[[[20., 24.],
             [36., 40.]]]])
    >>> db
    array([4.])
    """
    if not is_plain(padding_mode, fill):
        from . import bordered  # noqa: PLC0415 - it needs this module

        mode = bordered.Mode(padding_mode, fill)
        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
            "algorithm": algorithm, "max_workspace": max_workspace,
        }  # fmt: skip
        return bordered.conv_backward(dy, x, w, options, mode, needs)
    wanted = _checked_needs(needs)
    dy, x, w = as_operand("dy", dy), as_operand("x", x), as_operand("w", w)
    if converts(dy, x, w):
        from . import converted  # noqa: PLC0415 - it needs this module

        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
            "algorithm": algorithm, "max_workspace": max_workspace,
        }  # fmt: skip
        return converted.conv_backward(dy, x, w, options, needs)
    common_float({"dy": dy, "x": x, "w": w})
    geometry = conv_geometry(x.shape, w.shape, stride, padding, dilation, groups)
    check_shape("dy", dy.shape, geometry.y_shape)
    number, limit = _checked_options(algorithm, max_workspace, geometry)
    problem = prepared(geometry)
    channels_last = is_channels_last(x)
    dy, x, w = native(dy), native(x), native(w)
    return ConvGradients(
        problem.grad_input(dy, w, None, False, channels_last, limit, number) if "x" in wanted else None,
        problem.grad_weight(dy, x, None, False, limit, number) if "w" in wanted else None,
        grad_bias(dy, None, False) if "b" in wanted else None,
    )


def conv_grad_input(
    dy: Any,
    w: Any,
    x_shape: Sequence[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: str = "constant",
    fill: Any = 0,
    algorithm: str = "auto",
    max_workspace: int | None = None,
    out: Array | None = None,
    accumulate: bool = False,
) -> Array:
    """Gradient of `conv` for its input: the adjoint of convolution with w.

    For one group::

        dx[n, c, i] = sum over f, k of  dy[n, f, (i + before - k * dilation) / stride] * w[f, c, k]

    over the taps k where that division is exact, dy being zero outside its range.

    Parameters
    ----------
    dy : array (N, K, output...)
        Gradient of the result; a channels-last dy makes dx channels-last.
    w : array (K, C / groups, kernel...)
    x_shape : sequence of int
        Shape of the input: stride leaves it open.
    stride, padding, dilation, groups, padding_mode, fill, algorithm, max_workspace
        As `conv` took them.
    out : array of shape x_shape, optional
        Written (or, with ``accumulate=True``, added to) and returned.
    accumulate : bool
        Add to `out`, which must be given.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.conv_grad_input(np.ones((1, 1, 2)), np.array([[[1.0, 10.0, 100.0]]]), (1, 1, 5), stride=2)
    array([[[  1.,  10., 101.,  10., 100.]]])
    """
    if not is_plain(padding_mode, fill):
        from . import bordered  # noqa: PLC0415 - it needs this module

        mode = bordered.Mode(padding_mode, fill)
        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
            "algorithm": algorithm, "max_workspace": max_workspace,
        }  # fmt: skip
        shape = shape_argument("x_shape", x_shape)
        return bordered.conv_grad_input(dy, w, shape, options, mode, out, accumulate)
    if max_workspace is None and algorithm == "auto":
        dx = known_grad_input(dy, w, x_shape, stride, padding, dilation, groups, out, accumulate)
        if dx is not None:
            return dx
    dy, w = as_operand("dy", dy), as_operand("w", w)
    if converts(dy, w):
        from . import converted  # noqa: PLC0415 - it needs this module

        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
            "algorithm": algorithm, "max_workspace": max_workspace,
        }  # fmt: skip
        shape, last = shape_argument("x_shape", x_shape), is_channels_last(dy)
        return converted.conv_grad_input(dy, w, shape, options, out, accumulate, last)
    common_float({"dy": dy, "w": w})
    x_shape = shape_argument("x_shape", x_shape)
    geometry = conv_geometry(x_shape, w.shape, stride, padding, dilation, groups, x_name="x_shape")
    check_shape("dy", dy.shape, geometry.y_shape)
    problem = prepared(geometry)
    remember(problem, "constant", x_shape, w.shape, stride, padding, dilation, groups)
    number, limit = _checked_options(algorithm, max_workspace, geometry)
    return _grad_input(dy, w, geometry, limit, number, out, accumulate, is_channels_last(dy))


def conv_grad_weight(
    dy: Any,
    x: Any,
    w_shape: Sequence[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: str = "constant",
    fill: Any = 0,
    algorithm: str = "auto",
    max_workspace: int | None = None,
    out: Array | None = None,
    accumulate: bool = False,
) -> Array:
    """Gradient of `conv` for its weights.

    For one group::

        dw[f, c, k] = sum over n, l of  dy[n, f, l] * x[n, c, l * stride + k * dilation - before]

    Parameters
    ----------
    dy : array (N, K, output...)
    x : array (N, C, spatial...), same dtype
    w_shape : sequence of int
        Shape of the weights: stride leaves it open.
    stride, padding, dilation, groups, padding_mode, fill, algorithm, max_workspace
        As `conv` took them. Tiles serve dw of up to 32 MiB; it is a direct sum under every algorithm where
        the last axis but one is dilated and its border is not constant, or the last one is dilated and has
        more than 2048 results.
    out : array of shape w_shape, optional
        Written (or, with ``accumulate=True``, added to) and returned. A new result is C-ordered.
    accumulate : bool
        Add to `out`, which must be given.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.conv_grad_weight(np.ones((1, 1, 3)), np.arange(5.0).reshape(1, 1, 5), (1, 1, 3))
    array([[[3., 6., 9.]]])
    """
    if max_workspace is None and algorithm == "auto":
        dw = known_grad_weight(
            dy, x, w_shape, stride, padding, dilation, groups, padding_mode, fill, out, accumulate
        )
        if dw is not None:
            return dw
    if not is_plain(padding_mode, fill):
        from . import bordered  # noqa: PLC0415 - it needs this module

        mode = bordered.Mode(padding_mode, fill)
        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
            "algorithm": algorithm, "max_workspace": max_workspace,
        }  # fmt: skip
        shape = shape_argument("w_shape", w_shape)
        return bordered.conv_grad_weight(dy, x, shape, options, mode, out, accumulate)
    dy, x = as_operand("dy", dy), as_operand("x", x)
    if converts(dy, x):
        from . import converted  # noqa: PLC0415 - it needs this module

        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
            "algorithm": algorithm, "max_workspace": max_workspace,
        }  # fmt: skip
        shape = shape_argument("w_shape", w_shape)
        return converted.conv_grad_weight(dy, x, shape, options, out, accumulate)
    dtype = common_float({"dy": dy, "x": x})
    w_shape = shape_argument("w_shape", w_shape)
    geometry = conv_geometry(x.shape, w_shape, stride, padding, dilation, groups, w_name="w_shape")
    check_shape("dy", dy.shape, geometry.y_shape)
    number, limit = _checked_options(algorithm, max_workspace, geometry)
    target = _checked_accumulator(out, accumulate, geometry.w_shape, dtype, {"dy": dy, "x": x})
    problem = prepared(geometry)
    remember(problem, "constant", x.shape, w_shape, stride, padding, dilation, groups)
    dy, x = native(dy), native(x)
    return _into(out, target, lambda to: problem.grad_weight(dy, x, to, accumulate, limit, number))


def conv_grad_bias(dy: Any, *, out: Array | None = None, accumulate: bool = False) -> Array:
    """Gradient of `conv` for its bias: ``db[f] = sum over n, l of dy[n, f, l]``.

    Parameters
    ----------
    dy : array (N, K, output...), float32 or float64
    out : array (K,), optional
        Written (or, with ``accumulate=True``, added to) and returned.
    accumulate : bool
        Add to `out`, which must be given.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.conv_grad_bias(np.ones((2, 3, 4, 4)))
    array([32., 32., 32.])
    """
    if out is None and accumulate is False:
        db = grad_bias(dy, None, False)
        if db is not None:
            return db
    dy = as_operand("dy", dy)
    dtype = common_float({"dy": dy})
    if dy.ndim < 3:
        raise ValueError(f"dy: expected at least 3 axes (N, K and a spatial axis), got {dy.ndim}: {dy.shape}")
    target = _checked_accumulator(out, accumulate, (dy.shape[1],), dtype, {"dy": dy})
    dy = native(dy)
    return _into(out, target, lambda to: grad_bias(dy, to, accumulate))


# From arguments to prepared problems


def prepared(geometry: ConvGeometry) -> _core.Conv:
    """The core's form of a problem, made once."""
    problem = _problems.get(geometry)
    if problem is None:
        n, c, k, groups, windows, padding_mode, fill = geometry
        before = [pair[0] for pair in windows.padding]
        problem = _core.Conv(
            n, c, k, groups, windows.size, windows.kernel_size, windows.stride, windows.dilation, before,
            windows.output_size, MODES.index(padding_mode), fill,
        )  # fmt: skip
        while len(_problems) >= CACHED:
            # The oldest; another thread may have been faster.
            _problems.pop(next(iter(_problems)), None)
        _problems[geometry] = problem
    return problem


def _grad_input(
    dy: Array,
    w: Array,
    geometry: ConvGeometry,
    limit: int,
    algorithm: int,
    out: Array | None,
    accumulate: bool,
    channels_last: bool,
) -> Array:
    dtype = common_float({"dy": dy})
    target = _checked_accumulator(out, accumulate, geometry.x_shape, dtype, {"dy": dy, "w": w})
    problem = prepared(geometry)
    dy, w = native(dy), native(w)
    return _into(
        out, target, lambda to: problem.grad_input(dy, w, to, accumulate, channels_last, limit, algorithm)
    )


def _into(out: Array | None, target: Array | None, compute: Callable[[Array | None], Array | None]) -> Array:
    """Run `compute` on the checked view of `out`, and return `out` itself, or else a new result.

    A target that the core cannot write in place (unaligned, strides that are no whole elements) is the one
    case that goes through a copy.
    """
    plain = target if target is None or is_native(target) else np.array(target)
    result = compute(plain)
    assert result is not None, "the core was given an array that it cannot read"
    if out is None:
        return result
    if target is not None and plain is not target:
        target[...] = result
    return out


# Options


def _checked_options(algorithm: str, max_workspace: int | None, geometry: ConvGeometry) -> tuple[int, int]:
    """The algorithm's number and the workspace limit in bytes (0: none), once both are known to be right."""
    windows = geometry.windows
    number = checked_algorithm(algorithm, windows.kernel_size, windows.stride)
    return number, 0 if max_workspace is None else int_argument("max_workspace", max_workspace, 1)


def checked_algorithm(algorithm: str, kernel_size: Sequence[int], stride: Sequence[int]) -> int:
    """The core's number for an algorithm that these windows have."""
    _check_name("algorithm", algorithm)
    has_tiles = tuple(kernel_size)[-2:] == (3, 3) and tuple(stride)[-2:] == (1, 1)
    if algorithm == "winograd" and not has_tiles:
        raise ValueError(
            "algorithm: 'winograd' needs 3 taps with stride 1 along the last two axes, got kernel "
            f"{tuple(kernel_size)}, stride {tuple(stride)}"
        )
    return ALGORITHMS.index(algorithm)


def _check_name(name: str, value: Any) -> None:
    """Refuse an algorithm that there is not."""
    if not isinstance(value, str) or value not in ALGORITHMS:
        raise ValueError(f"{name}: expected {' or '.join(map(repr, ALGORITHMS))}, got {show(value)}")


def _checked_needs(needs: Any) -> set[str]:
    wanted = set(needs) if isinstance(needs, (tuple, list, set, frozenset, str)) else None
    if wanted is None or not wanted <= {"x", "w", "b"}:
        raise ValueError(f"needs: expected some of 'x', 'w', 'b', got {show(needs)}")
    return wanted


def _checked_accumulator(
    out: Any, accumulate: Any, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: dict[str, Array | None]
) -> Array | None:
    if not isinstance(accumulate, (bool, np.bool_)):
        raise TypeError(f"accumulate: expected a bool, got {type(accumulate).__name__}: {show(accumulate)}")
    if out is not None:
        return check_out(out, shape, dtype, inputs)
    if accumulate:
        raise ValueError("out: expected an array to add to, since accumulate=True, got None")
    return None


_by_environment = os.environ.get("WINDROW_ALGORITHM", "auto")
_check_name("WINDROW_ALGORITHM", _by_environment)
_core.set_algorithm(ALGORITHMS.index(_by_environment))
