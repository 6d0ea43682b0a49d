"""Pooling and its way back, on the compiled core.

As in `windrow.convolution`, the fast lane looks the raw arguments up and calls the core; whatever the core
does not take as it is goes through the checks first.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._core import exact
from .arguments import Pairs, axis_counts, shape_argument, show
from .arrays import (
    Array,
    as_operand,
    check_out,
    common_float,
    empty_images,
    is_channels_last,
    is_native,
    native,
)
from .borders import MODES, pool_border, repeats_pixels
from .convolution import _into
from .geometry import CACHED, PoolGeometry, Windows, check_shape, pool_geometry


class MaxPooled(NamedTuple):
    """The maxima of windows, and the row-major numbers of the pixels that they came from."""

    y: Array
    indices: Array


class _Problem(NamedTuple):
    geometry: PoolGeometry  # where padding is pixels, that on images with their border
    core: _core.Pool
    padding: Pairs


_problems: dict[tuple[Any, ...], _Problem] = {}  # by the raw arguments, exact types only
_counts: dict[tuple[Windows, bool], tuple[float, Array | None]] = {}

_FLOAT32 = np.dtype(np.float32)
_ADD, _PUT, _TAKE = range(3)  # core/drivers/pool.hpp: ScatterKind


def max_pool(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    padding_mode: str | None = None,
    fill: Any = 0,
    out: Array | None = None,
) -> Array:
    """Take the greatest value of every window.

    ``y[n, c, l] = max over k of x[n, c, l * stride + k * dilation - before]``, over pixels inside the image
    only: padding is never the maximum, not even where all pixels are -inf. A window with a NaN gives NaN, one
    without a pixel -inf. Of zeros of both signs the first one stays.

    Parameters
    ----------
    x : array (N, C, spatial...), float32 or float64
        Images. Any strides; a channels-last array makes y channels-last.
    kernel_size : int or one int per spatial axis
    stride : int or one int per spatial axis, optional
        The kernel's size unless given.
    padding : int, one int or one (before, after) pair per spatial axis, "valid", "same" or "same_lower"
    dilation : int or one int per spatial axis
    ceil_mode : bool
        One more window at the far side where pixels are left over. It may hang over the padding, but must
        begin inside the image or the padding before it.
    padding_mode : {None, "constant", "reflect", "edge", "wrap"}
        None: padding is no pixel. Else it is pixels, as in `conv`, which are in the windows like all others.
    fill : scalar
        The value of padding under "constant".
    out : array (N, C, output...), optional
        Written and returned; any strides, no memory shared with x.

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
    >>> wr.max_pool(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    if out is None:
        known = _known(x, options, padding_mode, fill)
        y = None if known is None else known.core.max(x, None, None)
        if y is not None:
            return y
    x = as_operand("x", x)
    dtype = common_float({"x": x})
    geometry, core, _ = _prepared(x.shape, options, "x", padding_mode, fill, dtype)
    target = None if out is None else check_out(out, geometry.y_shape, dtype, {"x": x})
    plain = native(x)
    return _into(out, target, lambda to: core.max(plain, to, None))


def max_pool_with_indices(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    padding_mode: str | None = None,
    fill: Any = 0,
) -> MaxPooled:
    """Take the greatest value of every window, and tell which pixel it was.

    As `max_pool`; the first of equal values counts, taps in row-major order, and the first NaN.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, padding_mode, fill
        As `max_pool` takes them.

    Returns
    -------
    named tuple ``(y, indices)`` of arrays (N, C, output...), in the memory format of x. An index is int64:
    the row-major number of the pixel in its image and channel, or -1 for a window without a pixel and where
    a `fill` is the greatest value.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.max_pool_with_indices(np.array([[[1.0, 3.0, 3.0, 2.0]]]), 2)
    MaxPooled(y=array([[[3., 3.]]]), indices=array([[[1, 2]]]))
    """
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    known = _known(x, options, padding_mode, fill)
    both = None if known is None else known.core.max_with_indices(x)
    if both is not None:
        return MaxPooled(*both)
    x = as_operand("x", x)
    dtype = common_float({"x": x})
    geometry, core, _ = _prepared(x.shape, options, "x", padding_mode, fill, dtype)
    last = is_channels_last(x)
    y = empty_images("y", geometry.y_shape, dtype, channels_last=last)
    indices = empty_images("indices", geometry.y_shape, np.dtype(np.int64), channels_last=last)
    core.max(native(x), y, indices)
    return MaxPooled(y, indices)


def max_pool_backward(dy: Any, indices: Any, x_shape: Sequence[int], *, out: Array | None = None) -> Array:
    """Gradient of `max_pool` for its input: each dy goes to the pixel that was the maximum.

    ``dx[n, c, i] = sum of dy[n, c, l] over the l with indices[n, c, l] = i``, in the order of l.

    Parameters
    ----------
    dy : array (N, C, output...), float32 or float64
        Gradient of the result; a channels-last dy makes dx channels-last.
    indices : array of ints, of dy's shape
        From `max_pool_with_indices`; nothing goes anywhere from -1.
    x_shape : sequence of int
        Shape of the input.
    out : array of shape x_shape, optional
        Written and returned.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> y, indices = wr.max_pool_with_indices(np.array([[[1.0, 3.0, 3.0, 5.0]]]), 2, stride=1)
    >>> wr.max_pool_backward(np.array([[[1.0, 10.0, 100.0]]]), indices, (1, 1, 4))
    array([[[  0.,  11.,   0., 100.]]])
    """
    if out is None:
        dx = _core.scatter_to_new(dy, indices, x_shape, _ADD)
        if dx is not None:
            return dx
    dy, indices = as_operand("dy", dy), _as_indices(indices)
    dtype = common_float({"dy": dy})
    x_shape = shape_argument("x_shape", x_shape)
    if len(x_shape) < 3:
        raise ValueError(f"x_shape: expected at least 3 axes (N, C and a spatial axis), got {x_shape}")
    if dy.ndim != len(x_shape) or dy.shape[:2] != x_shape[:2]:
        n, c = x_shape[:2]
        spatial = len(x_shape) - 2
        raise ValueError(f"dy: expected shape ({n}, {c}) and {spatial} spatial axes, got {dy.shape}")
    return _spread("dx", dy, indices, x_shape, dtype, _ADD, out, {"dy": dy, "indices": indices})


def max_unpool(x: Any, indices: Any, output_size: Any, *, out: Array | None = None) -> Array:
    """Put every value where its index says, and zeros elsewhere.

    ``y[n, c, indices[n, c, l]] = x[n, c, l]``; where an index comes several times the last value stays, and
    nothing goes anywhere from -1.

    Parameters
    ----------
    x : array (N, C, spatial...), float32 or float64
        A channels-last x makes y channels-last.
    indices : array of ints, of x's shape
        As from `max_pool_with_indices`: row-major numbers of places in the result.
    output_size : int or one int per spatial axis
    out : array (N, C, output_size...), optional
        Written and returned.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.max_unpool(np.array([[[5.0, 7.0]]]), np.array([[[1, 2]]]), 4)
    array([[[0., 5., 7., 0.]]])
    """
    x, indices = as_operand("x", x), _as_indices(indices)
    dtype = common_float({"x": x})
    if x.ndim < 3:
        raise ValueError(f"x: expected at least 3 axes (N, C and a spatial axis), got {x.ndim}: {x.shape}")
    size = axis_counts("output_size", output_size, x.ndim - 2, 0)
    shape = shape_argument("output_size", (*x.shape[:2], *size))
    return _spread("y", x, indices, shape, dtype, _PUT, out, {"x": x, "indices": indices})


def max_unpool_backward(dy: Any, indices: Any) -> Array:
    """Gradient of `max_unpool` for its input: ``dx[n, c, l] = dy[n, c, indices[n, c, l]]``.

    Parameters
    ----------
    dy : array (N, C, output_size...), float32 or float64
    indices : array of ints (N, C, spatial...)
        As `max_unpool` took them, each place once; the gradient is 0 where the index is -1.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.max_unpool_backward(np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.array([[[1, 2]]]))
    array([[[2., 3.]]])
    """
    dy, indices = as_operand("dy", dy), _as_indices(indices)
    dtype = common_float({"dy": dy})
    if dy.ndim < 3:
        raise ValueError(f"dy: expected at least 3 axes (N, C and a spatial axis), got {dy.ndim}: {dy.shape}")
    if indices.ndim != dy.ndim or indices.shape[:2] != dy.shape[:2]:
        expected = f"{dy.shape[:2]} and {dy.ndim - 2} spatial axes"
        raise ValueError(f"indices: expected shape {expected}, got {indices.shape}")
    dx = empty_images("dx", indices.shape, dtype, channels_last=is_channels_last(dy))
    if _core.scatter(_flat(dx), _flat(indices), _flat(native(dy)), _TAKE) != 1:
        _refuse_indices(indices, dy.shape)
    return dx


def avg_pool(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    padding_mode: str | None = None,
    fill: Any = 0,
    out: Array | None = None,
) -> Array:
    """Take the mean of every window.

    ``y[n, c, l] = (sum over k of x[n, c, l * stride + k * dilation - before]) / count[l]``, over pixels
    inside the image only. A window without a pixel gives 0.

    Parameters
    ----------
    x, kernel_size, stride, padding, dilation, ceil_mode, padding_mode, fill, out
        As `max_pool` takes them.
    count_include_pad : bool
        Whether padding counts: the count is the taps of the window inside the padded image, or else those
        inside the image.

    Returns
    -------
    array (N, C, output...), in the memory format of x.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> x = np.array([[[1.0, 3.0, 5.0]]])
    >>> wr.avg_pool(x, 2, padding=1)
    array([[[0.5, 4. ]]])
    >>> wr.avg_pool(x, 2, padding=1, count_include_pad=False)
    array([[[1., 4.]]])
    """
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    if out is None and type(count_include_pad) is bool:
        known = _known(x, options, padding_mode, fill)
        if known is not None:
            divisor, counts = _divisors(known.geometry.windows, count_include_pad)
            y = known.core.sum(x, None, divisor)
            if y is not None:
                return _divided(y, counts)
    x = as_operand("x", x)
    dtype = common_float({"x": x})
    geometry, core, _ = _prepared(x.shape, options, "x", padding_mode, fill, dtype)
    divisor, counts = _divisors(geometry.windows, _checked_bool("count_include_pad", count_include_pad))
    target = None if out is None else check_out(out, geometry.y_shape, dtype, {"x": x})
    plain = native(x)

    def compute(to: Array | None) -> Array | None:
        y = core.sum(plain, to, divisor)
        return None if y is None else _divided(y, counts)

    return _into(out, target, compute)


def avg_pool_backward(
    dy: Any,
    x_shape: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    padding_mode: str | None = None,
    fill: Any = 0,
    out: Array | None = None,
) -> Array:
    """Gradient of `avg_pool` for its input: each dy / count goes to all pixels of its window.

    Parameters
    ----------
    dy : array (N, C, output...), float32 or float64
        Gradient of the result; a channels-last dy makes dx channels-last.
    x_shape : sequence of int
        Shape of the input.
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, padding_mode, fill
        As `avg_pool` took them.
    out : array of shape x_shape, optional
        Written and returned.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.avg_pool_backward(np.array([[[2.0, 4.0]]]), (1, 1, 3), 2, stride=1)
    array([[[1., 3., 2.]]])
    """
    if repeats_pixels(padding_mode):
        from . import bordered  # noqa: PLC0415 - it needs this module

        pooled = {
            "kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation,
            "ceil_mode": ceil_mode, "count_include_pad": count_include_pad,
        }  # fmt: skip
        shape = shape_argument("x_shape", x_shape)
        return bordered.avg_pool_backward(dy, shape, pooled, bordered.Mode(padding_mode, fill), out)
    dy = as_operand("dy", dy)
    dtype = common_float({"dy": dy})
    x_shape = shape_argument("x_shape", x_shape)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, core, _ = _prepared(x_shape, options, "x_shape", padding_mode, fill, dtype)
    check_shape("dy", dy.shape, geometry.y_shape)
    divisor, counts = _divisors(geometry.windows, _checked_bool("count_include_pad", count_include_pad))
    target = None if out is None else check_out(out, x_shape, dtype, {"dy": dy})
    shares = native(dy)
    if counts is not None:
        shares = shares / counts.astype(dtype)
    return _into(out, target, lambda to: core.sum_backward(shares, to, divisor))


def sum_pool(x: Array, options: tuple[Any, ...], divisor: float) -> Array:
    """Sums of windows over one number; the options are those that `_prepared` takes."""
    plain = native(x)
    core = _prepared(x.shape, options, "x").core
    return _into(None, None, lambda to: core.sum(plain, to, divisor))


def sum_pool_backward(dy: Array, x_shape: tuple[int, ...], options: tuple[Any, ...], divisor: float) -> Array:
    """The adjoint of `sum_pool`."""
    plain = native(dy)
    core = _prepared(x_shape, options, "x_shape").core
    return _into(None, None, lambda to: core.sum_backward(plain, to, divisor))


# From arguments to prepared problems


def _key(
    x_shape: Any, options: tuple[Any, ...], padding_mode: Any, fill: Any, dtype: Any
) -> tuple[Any, ...] | None:
    """The raw arguments, where they may be a key: no two of them that are equal mean something else."""
    kernel_size, stride, padding, dilation, ceil_mode = options
    if stride is None:
        stride = kernel_size
    if type(ceil_mode) is not bool or not exact(x_shape, kernel_size, stride, padding, dilation):
        return None
    plain = (x_shape, kernel_size, stride, padding, dilation, ceil_mode, padding_mode)
    if type(fill) is int and fill == 0:
        return plain
    # There are zeros of both signs, and what a fill may be depends on the dtype.
    return (*plain, fill, dtype) if type(fill) in (int, float) and fill else None


def _known(x: Any, options: tuple[Any, ...], padding_mode: Any, fill: Any) -> _Problem | None:
    """The problem prepared for these raw arguments, if they have come before."""
    key = _key(getattr(x, "shape", None), options, padding_mode, fill, getattr(x, "dtype", None))
    return None if key is None else _problems.get(key)


def _prepared(
    x_shape: tuple[int, ...],
    options: tuple[Any, ...],
    x_name: str,
    padding_mode: str | None = None,
    fill: Any = 0,
    dtype: np.dtype[Any] = _FLOAT32,
) -> _Problem:
    """The core's form of a problem, checked, and kept where the raw arguments may be a key."""
    key = _key(x_shape, options, padding_mode, fill, dtype)
    known = None if key is None else _problems.get(key)
    if known is not None:
        return known
    mode, value = 0, None
    if padding_mode is None and type(fill) is int and fill == 0:
        geometry = pool_geometry(x_shape, *options, x_name=x_name)
        pads = geometry.windows.padding
    else:
        edge, geometry = pool_border(x_shape, options, padding_mode, fill, dtype, x_name)
        pads, mode, value = edge.padding, MODES.index(edge.mode), float(edge.fill)
    windows = geometry.windows
    core = _core.Pool(
        geometry.n, geometry.c, x_shape[2:], windows.kernel_size, windows.stride, windows.dilation,
        [pair[0] for pair in pads], windows.output_size, mode, [pair[1] for pair in pads], value,
    )  # fmt: skip
    problem = _Problem(geometry, core, pads)
    if key is not None:
        while len(_problems) >= CACHED:
            # The oldest; another thread may have been faster.
            _problems.pop(next(iter(_problems)), None)
        _problems[key] = problem
    return problem


def _divisors(windows: Windows, include_pad: bool) -> tuple[float, Array | None]:
    """What sums are divided by: one number for all windows, or 1 and an array (1, 1, output...)."""
    found = _counts.get((windows, include_pad))
    if found is None:
        counts = outer(tap_counts(windows, include_pad))
        one = float(counts.flat[0]) if counts.size else 1.0
        found = (one, None) if np.all(counts == one) else (1.0, counts)
        while len(_counts) >= CACHED:
            _counts.pop(next(iter(_counts)), None)
        _counts[(windows, include_pad)] = found
    return found


def tap_counts(windows: Windows, include_pad: bool) -> list[Array]:
    """Along each axis, how many taps of every window count."""
    counts = []
    for size, kernel, stride, dilation, (before, after), output in zip(*windows):
        start = np.arange(output) * stride - before
        end = np.minimum(-((start - size - (after if include_pad else 0)) // dilation), kernel)
        first = 0 if include_pad else np.maximum(-(start // dilation), 0)
        counts.append(np.maximum(end - first, 0))
    return counts


def outer(counts: Sequence[Array]) -> Array:
    """What the sums of windows are divided by, given their taps along each axis: (1, 1, output...)."""
    total = np.ones((1, 1))
    for count in counts:
        total = total[..., None] * count
    return np.maximum(total, 1)


def _divided(y: Array, counts: Array | None) -> Array:
    if counts is not None:
        y /= counts.astype(y.dtype)
    return y


def _checked_bool(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected a bool, got {type(value).__name__}: {show(value)}")
    return bool(value)


# Places that indices name


def _as_indices(value: Any) -> Array:
    indices = as_operand("indices", value)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices: expected ints, got {indices.dtype}")
    return indices if indices.dtype == np.int64 and is_native(indices) else indices.astype(np.int64)


def _flat(array: Array) -> Array:
    """Spatial axes as one: a view of an array in either memory format, a copy of others."""
    return array.reshape(*array.shape[:2], prod(array.shape[2:]))


def _refuse_indices(indices: Array, shape: tuple[int, ...]) -> None:
    size = prod(shape[2:])
    if not indices.size or (indices.min() >= -1 and indices.max() < size):
        return
    wrong = indices[(indices < -1) | (indices >= size)]
    raise ValueError(f"indices: expected -1 to {size - 1} for shape {shape}, got {wrong[0]}")


def _spread(
    name: str,
    values: Array,
    indices: Array,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    kind: int,
    out: Array | None,
    inputs: dict[str, Array | None],
) -> Array:
    """Add or put values where their indices say, in a new image or in `out`."""
    check_shape("indices", indices.shape, values.shape)
    target = None
    if out is not None:
        target = check_out(out, shape, dtype, inputs)
        _refuse_indices(indices, shape)  # before anything is written
    image = target
    if image is None or not is_native(image) or not np.may_share_memory(image, _flat(image)):
        image = empty_images(name, shape, dtype, channels_last=is_channels_last(values))
    values = native(values)
    found = _core.scatter(values, indices, image, kind)
    if found < 0:  # spatial axes that are not as good as one
        found = _core.scatter(_flat(values), _flat(indices), _flat(image), kind)
    if found != 1:
        _refuse_indices(indices, shape)
    if out is None:
        return image
    if target is not None and image is not target:
        target[...] = image
    return out
