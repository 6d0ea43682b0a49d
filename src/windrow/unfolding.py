"""Patches on the compiled core: every window of an image as columns, and columns reduced back to an image.

As in `convolution`, the fast lane looks the raw arguments up in a table of prepared problems and calls the
core; whatever the core does not take as it is goes through the checks first, which is where all errors come
from.
"""

from collections.abc import Sequence
from functools import lru_cache
from functools import reduce as fold_left
from math import prod
from typing import Any

import numpy as np

from . import _core
from ._core import known_col2im, known_fold, known_unfold
from .arguments import shape_argument, show
from .arrays import (
    Array,
    as_operand,
    check_fold_dtype,
    check_out,
    empty,
    fill_value,
    native,
)
from .borders import MODES, border_of
from .geometry import CACHED, PatchGeometry, Windows, fold_geometry, fold_windows, patch_geometry
from .layout import Layout, check_columns, column_shape, elementary_axes, infer_images, parse_layout

_ADD, _WEIGHTED, _MAX, _MIN = range(4)  # Reduction of core/kernels/patch_contract.hpp
_KEPT_BYTES = 64 << 10  # of what windows cover: less is kept from call to call
_REDUCTIONS = {"sum": _ADD, "mean": _ADD, "max": _MAX, "min": _MIN}


def unfold(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "n (c k) l",
    padding_mode: str = "constant",
    fill: Any = 0,
    out: Array | None = None,
) -> Array:
    """Copy every window of images out, as columns in any order.

    With window position ``l``, position in the window ``k`` and padding ``before`` per axis::

        cols[n, c, k, l] = x[n, c, l * stride + k * dilation - before]

    and ``fill`` where that is outside the image, or what `padding_mode` says. Any rank from one spatial axis
    up.

    Parameters
    ----------
    x : array (N, C, spatial...), any dtype but object and strings
        Any strides, alignment and byte order; read in place.
    kernel_size, stride, dilation : int or one int per spatial axis
    padding : int, one int or one (before, after) pair per spatial axis, "valid", "same" or "same_lower"
    layout : str
        The order of the columns' axes: n (image), c (channel), k (position in the window, row-major) and l
        (the window's position, row-major), or parts ``kh kw``, ``lh lw``, ``k0 k1 ...``; names in parentheses
        share an axis, the last one fastest. ``"n (c k) l"`` is PyTorch's order, ``"(c k) (l n)"`` that of
        CS231n, ``"(n l) (c k)"`` the rows of a matrix product, ``"n l c kh kw"`` a stack of patches.
    padding_mode : {"constant", "reflect", "edge", "wrap"}
        What stands in the padding: `fill`, the image mirrored without repeating its edge, its edge, or the
        image's other side, as in `numpy.pad`.
    fill : scalar
        The value of padding under "constant", of x's dtype; 0 is the zero of every dtype.
    out : array, optional
        Written and returned; any strides, no memory shared with x.

    Returns
    -------
    array of x's dtype and byte order, in the shape that layout gives, where
    ``l = floor((size + pads - dilation * (kernel - 1) - 1) / stride) + 1`` on each spatial axis.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came; nothing is written then.
    MemoryError
        With the bytes, if the columns cannot be allocated.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> x = np.arange(16).reshape(1, 1, 4, 4)
    >>> wr.unfold(x, 2, stride=2)
    array([[[ 0,  2,  8, 10],
            [ 1,  3,  9, 11],
            [ 4,  6, 12, 14],
            [ 5,  7, 13, 15]]])
    >>> wr.unfold(x, 2, stride=2, layout="n l c kh kw")[0, 1, 0]
    array([[2, 3],
           [6, 7]])
    >>> wr.unfold(np.array([[["2026-01-01"]]], "M8[D]"), 2, padding=((1, 0),), fill=np.datetime64("NaT"))
    array([[[       'NaT'],
            ['2026-01-01']]], dtype='datetime64[D]')

    Notes
    -----
    im2col is due to Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for
    Document Processing" (2006).
    """
    cols = known_unfold(x, kernel_size, stride, padding, dilation, layout, padding_mode, fill, out)
    if cols is not None:
        return cols
    x = as_operand("x", x)
    geometry = patch_geometry(x.shape, kernel_size, stride, padding, dilation)
    parsed = parse_layout(layout, geometry.windows.rank)
    edge = border_of(geometry.windows, padding_mode, fill, x.dtype)
    shape = column_shape(parsed, geometry)
    result = empty("cols", shape, x.dtype) if out is None else check_out(out, shape, x.dtype, {"x": x})
    key = ("unfold", x.shape, kernel_size, stride, padding, dilation, layout, padding_mode)
    _done(_problem(key, geometry, parsed, edge.mode).unfold(x, result, edge.fill))
    return result if out is None else out


def fold(
    cols: Any,
    output_size: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "n (c k) l",
    padding_mode: str = "constant",
    reduce: str = "sum",
    window: Any = None,
    uncovered: Any = 0,
    out: Array | None = None,
) -> Array:
    """Put columns back into images, reducing where windows overlap: the adjoint of `unfold`, or its inverse.

    ::

        x[n, c, i] = sum over all k, l with l * stride + k * dilation - before = i of  cols[n, c, k, l]

    or the mean, maximum or minimum of these values. "sum" is the exact adjoint of `unfold`; "mean" its
    inverse: ``fold(unfold(x), reduce="mean")`` gives x back within ``count * eps``, exactly for integers and
    where 1, 2 or 4 windows overlap.

    Parameters
    ----------
    cols : array of ints, floats up to 64 bits or complex numbers up to 128, in the shape that layout gives
        float16 is summed in float32 and rounded once; integers wrap.
    output_size : sequence of int
        Spatial size of the images; its length is the rank.
    kernel_size, stride, padding, dilation, layout, padding_mode
        As `unfold` took them. What lies in a border of pixels goes to the pixels that it repeats; reduce is
        then "sum" or "mean".
    reduce : {"sum", "mean", "max", "min"}
        NaN wins "max" and "min"; "mean" wants floats or complex numbers.
    window : array of shape kernel_size, or one vector per spatial axis, optional
        Weights of the positions in the window, for blending overlapping patches: the result is the weighted
        sum divided by the summed weights (so "sum" and "mean" are the same). Floats and complex numbers only.
    uncovered : scalar
        The value of pixels that no window covers (with `window`: whose weights sum to 0).
    out : array (N, C, output_size...), optional
        Written and returned; any strides, no memory shared with cols.

    Returns
    -------
    array (N, C, output_size...) of cols' dtype in native byte order. Its bits do not depend on the layout,
    strides or threads: each pixel takes its terms in the row-major order of the window positions.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came; nothing is written then. Where N and C cannot be
        read off the columns, use `col2im`.
    MemoryError
        With the bytes, if the images cannot be allocated.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> cols = wr.unfold(np.array([[[1, 2, 3, 4]]]), 3)
    >>> wr.fold(cols, (4,), 3)
    array([[[1, 4, 6, 4]]])
    >>> wr.fold(cols.astype(float), (4,), 3, reduce="mean")
    array([[[1., 2., 3., 4.]]])
    >>> wr.fold(cols.astype(float), (4,), 3, window=(np.hanning(5)[1:-1],))
    array([[[1., 2., 3., 4.]]])
    """
    if type(padding_mode) is str and padding_mode == "constant":
        x = known_fold(
            cols, output_size, kernel_size, stride, padding, dilation, layout, reduce, window, uncovered, out
        )
        if x is not None:
            return x
    cols = as_operand("cols", cols)
    windows = fold_windows(output_size, kernel_size, stride, padding, dilation)
    parsed = parse_layout(layout, windows.rank)
    geometry = fold_geometry(*infer_images("cols", cols.shape, parsed, windows), windows)
    return _fold(
        cols, geometry, parsed, padding_mode, reduce, window, uncovered, out,
        ("fold", cols.shape, output_size, kernel_size, stride, padding, dilation, layout),
    )  # fmt: skip


def im2col(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "(c k) (l n)",
    padding_mode: str = "constant",
    fill: Any = 0,
    out: Array | None = None,
) -> Array:
    """`unfold` to the matrix of CS231n: rows are (channel, window position k), columns (position l, image).

    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.im2col(np.arange(8).reshape(2, 1, 4), 2, stride=2)
    array([[0, 4, 2, 6],
           [1, 5, 3, 7]])
    """
    cols = known_unfold(x, kernel_size, stride, padding, dilation, layout, padding_mode, fill, out)
    if cols is not None:
        return cols
    return unfold(
        x, kernel_size, stride=stride, padding=padding, dilation=dilation, layout=layout,
        padding_mode=padding_mode, fill=fill, out=out,
    )  # fmt: skip


def col2im(
    cols: Any,
    x_shape: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "(c k) (l n)",
    padding_mode: str = "constant",
    reduce: str = "sum",
    window: Any = None,
    uncovered: Any = 0,
    out: Array | None = None,
) -> Array:
    """`fold` of the matrix of `im2col`; it is given the full shape of x, so that every layout can be read.

    >>> import numpy as np
    >>> import windrow as wr
    >>> wr.col2im(np.array([[0, 4, 2, 6], [1, 5, 3, 7]]), (2, 1, 4), 2, stride=2)
    array([[[0, 1, 2, 3]],
    <BLANKLINE>
           [[4, 5, 6, 7]]])
    """
    if type(padding_mode) is str and padding_mode == "constant":
        x = known_col2im(
            cols, x_shape, kernel_size, stride, padding, dilation, layout, reduce, window, uncovered, out
        )
        if x is not None:
            return x
    cols = as_operand("cols", cols)
    shape = shape_argument("x_shape", x_shape)
    geometry = patch_geometry(shape, kernel_size, stride, padding, dilation, x_name="x_shape")
    parsed = parse_layout(layout, geometry.windows.rank)
    check_columns("cols", cols.shape, parsed, geometry)
    return _fold(
        cols, geometry, parsed, padding_mode, reduce, window, uncovered, out,
        ("col2im", cols.shape, x_shape, kernel_size, stride, padding, dilation, layout),
    )  # fmt: skip


# The rest of fold


def _fold(
    cols: Array,
    geometry: PatchGeometry,
    layout: Layout,
    padding_mode: str,
    reduce: str,
    window: Any,
    uncovered: Any,
    out: Array | None,
    key: tuple[Any, ...],
) -> Array:
    if not (type(padding_mode) is str and padding_mode == "constant"):
        from . import bordered  # noqa: PLC0415 - it needs this module

        mode = bordered.Mode(padding_mode, 0)
        return bordered.fold(cols, geometry, layout, reduce, window, uncovered, out, mode)
    check_fold_dtype("cols", cols, reduce)
    dtype = cols.dtype.newbyteorder("=")
    weights = None if window is None else window_weights("cols", window, geometry.windows, dtype, reduce)
    value = fill_value("uncovered", uncovered, dtype)
    if out is not None:
        result = check_out(out, geometry.x_shape, dtype, {"cols": cols})
    else:
        result = empty("x", geometry.x_shape, dtype)
    reduction = _REDUCTIONS[reduce] if weights is None else _WEIGHTED
    divide = reduce == "mean" or weights is not None
    divisor: Array | None = None
    if weights is not None:
        divisor = _weights_coverage(geometry.windows, weights, total_dtype(dtype))
    elif divide:
        divisor = _counts(geometry.windows, total_dtype(dtype))
    elif (reduce != "sum" or any(value.tobytes())) and not _all_covered(geometry.windows):
        divisor = (_counts(geometry.windows, np.dtype(np.float64)) != 0).astype(total_dtype(dtype))
    problem = _problem(key, geometry, layout)
    _done(problem.fold(native(cols), result, reduction, weights, divisor, divide, value))
    small = divisor is None or divisor.nbytes <= _KEPT_BYTES
    if small and weights is None and not any(value.tobytes()):
        problem.keep(reduce, dtype.num, reduction, divisor, divide, value)
    return result if out is None else out


def total_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The real type that sums are held in."""
    if dtype.kind == "c":
        return np.dtype(np.float32 if dtype.itemsize == 8 else np.float64)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def divide(sums: Array, counts: Array) -> None:
    """Divide sums by real numbers in place, complex ones part by part as the core does (NumPy does not)."""
    divisor = counts.astype(total_dtype(sums.dtype))
    for part in (sums.real, sums.imag) if sums.dtype.kind == "c" else (sums,):
        np.divide(part, divisor, out=part)


def window_weights(name: str, window: Any, windows: Windows, dtype: np.dtype[Any], reduce: str) -> Array:
    """The weight of every tap in float64, each one a value of the type that sums are held in."""
    if reduce in ("max", "min"):
        raise ValueError(f"window: expected None for reduce={reduce!r}, got {show(window)}")
    if dtype.kind not in "fc":
        raise TypeError(
            f"{name}: expected floats or complex with window=, got {dtype}; "
            f"cast with {name}.astype(np.float64)"
        )
    kernel = windows.kernel_size
    if isinstance(window, (tuple, list)):
        vectors = [_real_weights(vector, f"window[{axis}]") for axis, vector in enumerate(window)]
        shapes = tuple(vector.shape for vector in vectors)
        if shapes != tuple((size,) for size in kernel):
            raise ValueError(
                f"window: expected one vector per spatial axis of lengths {kernel}, got {shapes}"
            )
        weights: Array = fold_left(np.multiply.outer, vectors)
    else:
        weights = _real_weights(window, "window")
        if weights.shape != kernel:
            raise ValueError(f"window: expected shape {kernel}, got {weights.shape}")
    with np.errstate(over="ignore"):
        weights = weights.astype(total_dtype(dtype)).astype(np.float64, order="C")
    if not np.isfinite(weights).all():
        raise ValueError(f"window: expected finite weights, got {show(window)}")
    return weights


def _real_weights(value: Any, name: str) -> Array:
    array = as_operand(name, value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array.astype(np.float64)


# What windows cover


@lru_cache(CACHED)
def _axis_counts(windows: Windows) -> tuple[Array, ...]:
    """How many windows cover each pixel along each spatial axis, the others left out."""
    counts = []
    for size, kernel, stride, dilation, (before, _), output in zip(*windows, strict=True):
        count = np.zeros(size, np.int64)
        # One slice per tap, or per position where those are fewer.
        few, step, many, pace = kernel, dilation, output, stride
        if output < kernel:
            few, step, many, pace = output, stride, kernel, dilation
        for i in range(few):
            origin = i * step - before
            low = max(0, -(origin // pace))
            high = min(many, (size - 1 - origin) // pace + 1)
            if low < high:
                count[origin + low * pace : origin + (high - 1) * pace + 1 : pace] += 1
        counts.append(count)
    return tuple(counts)


def _all_covered(windows: Windows) -> bool:
    return all(bool(count.all()) for count in _axis_counts(windows))


def _counts(windows: Windows, dtype: np.dtype[Any]) -> Array:
    """How many windows cover each pixel of one plane."""
    counts: Array = fold_left(np.multiply.outer, [count.astype(dtype) for count in _axis_counts(windows)])
    return counts


def _weights_coverage(windows: Windows, weights: Array, dtype: np.dtype[Any]) -> Array:
    """`_summed_weights`, which small images keep for the next call with the same weights."""
    pixels = prod(windows.size)
    if max(pixels, weights.size) * 8 > _KEPT_BYTES:
        return _summed_weights(windows, weights, dtype)
    return _kept_summed_weights(windows, weights.tobytes(), dtype)


@lru_cache(CACHED)
def _kept_summed_weights(windows: Windows, weights: bytes, dtype: np.dtype[Any]) -> Array:
    return _summed_weights(windows, np.frombuffer(weights).reshape(windows.kernel_size), dtype)


def _summed_weights(windows: Windows, weights: Array, dtype: np.dtype[Any]) -> Array:
    """The weights of all windows that cover each pixel of one plane: a fold of one patch, everywhere."""
    rank = windows.rank
    layout = parse_layout(" ".join(elementary_axes(rank)), rank)
    geometry = PatchGeometry(1, 1, windows)
    everywhere = np.broadcast_to(
        weights.astype(dtype).reshape(1, 1, *windows.kernel_size, *(1,) * rank),
        column_shape(layout, geometry),
    )
    problem = _prepared(geometry, layout)
    return _done(problem.fold(everywhere, None, _ADD, None, None, False, None))


# From arguments to prepared problems


def _problem(
    key: tuple[Any, ...], geometry: PatchGeometry, layout: Layout, padding_mode: str = "constant"
) -> _core.Patches:
    """The prepared problem, remembered under the raw arguments where those may be a key."""
    problem = _prepared(geometry, layout, padding_mode)
    problem.remember(*key)
    return problem


@lru_cache(CACHED)
def _prepared(geometry: PatchGeometry, layout: Layout, padding_mode: str = "constant") -> _core.Patches:
    windows = geometry.windows
    number = {name: i for i, name in enumerate(elementary_axes(windows.rank))}
    return _core.Patches(
        geometry.n, geometry.c, windows.size, windows.kernel_size, windows.stride, windows.dilation,
        [pair[0] for pair in windows.padding], windows.output_size,
        [[number[name] for name in group] for group in layout.axes],
        MODES.index(padding_mode),
    )  # fmt: skip


def _done(array: Array | None) -> Array:
    assert array is not None, "the core was given an array that it cannot read"
    return array
