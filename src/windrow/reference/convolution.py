"""Convolution and its gradients, by definition and, still simply, tap by tap.

For one group (groups split the channels of x and the filters of w into equal parts that do not see each
other):

    y [n, f, l]  =  b[f] + sum over c, k of  x[n, c, l * stride + k * dilation - before] * w[f, c, k]
    dx[n, c, i]  =  sum over f, k       of  dy[n, f, (i + before - k * dilation) / stride] * w[f, c, k]
    dw[f, c, k]  =  sum over n, l       of  dy[n, f, l] * x[n, c, l * stride + k * dilation - before]
    db[f]        =  sum over n, l       of  dy[n, f, l]

No kernel is flipped: this is what deep learning calls convolution. In dx only the taps count whose division
is exact.

**Non-finite values.** Outside the image x is zero, and outside its range dy is zero, and these zeros take
part in the sums: 0 * NaN and 0 * Inf are NaN. A tap of dx whose division is not exact is no term at all, so
nothing comes from there.

The functions ``*_by_definition`` are the formulas as loops. The others do the same sums with one step per
tap, fast enough to be compared with in thousands of tests. Both sum in a wider type (float64 for float32,
long double for float64) and round once.
"""

import math
from typing import Any

import numpy as np

from windrow.reference.patches import zero_pad
from windrow.reference.sizes import Windows, windows

Array = np.ndarray[Any, Any]
Index = tuple[Any, ...]


def wide(*arrays: Array) -> np.dtype[Any]:
    """The type that sums run in."""
    dtype = np.result_type(*arrays)
    return np.dtype({"f": np.float64, "d": np.longdouble}.get(dtype.char, dtype))


def rounded(total: Array, dtype: Any, *arrays: Array) -> Array:
    """A sum in the type asked for, else in that of the operands."""
    with np.errstate(all="ignore"):
        return total.astype(np.result_type(*arrays) if dtype is None else dtype)


# ------------------------------------------------------------------------------------------------- definition


def conv_by_definition(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    dtype: Any = None,
) -> Array:
    """``y[n, f, l] = b[f] + sum over c, k of x[n, c, l * stride + k * dilation - before] * w[f, c, k]``.

    >>> conv_by_definition(np.array([[[1, 2, 3, 4]]]), np.array([[[1, 0, -1]]]), padding=1)
    array([[[-2, -2, -2,  3]]])
    """
    win = windows(x.shape[2:], w.shape[2:], stride, padding, dilation)
    filters_per_group = w.shape[0] // groups
    y = np.zeros((x.shape[0], w.shape[0], *win.output), wide(x, w))
    for n, f, *position in np.ndindex(y.shape):
        first_channel = f // filters_per_group * w.shape[1]
        total = y.dtype.type(0)
        for c, *tap in np.ndindex(w.shape[1:]):
            pixel = win.pixel(tap, position)
            value = x[(n, first_channel + c, *pixel)] if win.inside(pixel) else 0
            with np.errstate(all="ignore"):
                total += y.dtype.type(value) * y.dtype.type(w[(f, c, *tap)])
        with np.errstate(all="ignore"):
            y[(n, f, *position)] = total if b is None else total + y.dtype.type(b[f])
    return rounded(y, dtype, x, w)


def conv_grad_input_by_definition(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    dtype: Any = None,
) -> Array:
    """``dx[n, c, i] = sum over f, k of dy[n, f, (i + before - k * dilation) / stride] * w[f, c, k]``.

    >>> conv_grad_input_by_definition(np.array([[[1, 10]]]), np.array([[[1, 2, 3]]]), (1, 1, 5), stride=2)
    array([[[ 1,  2, 13, 20, 30]]])
    """
    win = windows(x_shape[2:], w.shape[2:], stride, padding, dilation)
    filters_per_group = w.shape[0] // groups
    dx = np.zeros(x_shape, wide(dy, w))
    for n, c, *pixel in np.ndindex(dx.shape):
        group, c_in_group = divmod(c, w.shape[1])
        total = dx.dtype.type(0)
        for f_in_group, *tap in np.ndindex(filters_per_group, *win.kernel):
            f = group * filters_per_group + f_in_group
            position = exact_position(win, tap, pixel)
            if position is None:
                continue
            in_range = all(0 <= l < size for l, size in zip(position, win.output, strict=True))
            value = dy[(n, f, *position)] if in_range else 0
            with np.errstate(all="ignore"):
                total += dx.dtype.type(value) * dx.dtype.type(w[(f, c_in_group, *tap)])
        dx[(n, c, *pixel)] = total
    return rounded(dx, dtype, dy, w)


def exact_position(win: Windows, tap: list[int], pixel: list[int]) -> tuple[int, ...] | None:
    """The position whose window looks at ``pixel`` with ``tap``; None where the division is not exact."""
    position = []
    for i, k, s, d, (before, _) in zip(pixel, tap, win.stride, win.dilation, win.pads, strict=True):
        l, rest = divmod(i + before - k * d, s)
        if rest:
            return None
        position.append(l)
    return tuple(position)


def conv_grad_weight_by_definition(
    dy: Array,
    x: Array,
    w_shape: tuple[int, ...],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    dtype: Any = None,
) -> Array:
    """``dw[f, c, k] = sum over n, l of dy[n, f, l] * x[n, c, l * stride + k * dilation - before]``.

    >>> conv_grad_weight_by_definition(np.array([[[1, 10]]]), np.array([[[1, 2, 3, 4]]]), (1, 1, 3))
    array([[[21, 32, 43]]])
    """
    win = windows(x.shape[2:], w_shape[2:], stride, padding, dilation)
    filters_per_group = w_shape[0] // groups
    dw = np.zeros(w_shape, wide(dy, x))
    for f, c, *tap in np.ndindex(dw.shape):
        channel = f // filters_per_group * w_shape[1] + c
        total = dw.dtype.type(0)
        for n, *position in np.ndindex(x.shape[0], *win.output):
            pixel = win.pixel(tap, position)
            value = x[(n, channel, *pixel)] if win.inside(pixel) else 0
            with np.errstate(all="ignore"):
                total += dw.dtype.type(dy[(n, f, *position)]) * dw.dtype.type(value)
        dw[(f, c, *tap)] = total
    return rounded(dw, dtype, dy, x)


def conv_grad_bias(dy: Array, *, dtype: Any = None) -> Array:
    """``db[f] = sum over n, l of dy[n, f, l]``.

    >>> conv_grad_bias(np.ones((2, 3, 4, 5)))
    array([40., 40., 40.])
    """
    with np.errstate(all="ignore"):
        total = dy.astype(wide(dy)).sum(axis=(0, *range(2, dy.ndim)))
    return rounded(total, dtype, dy)


# ------------------------------------------------------------------------------------------------- tap by tap


def grouped(array: Array, axis: int, groups: int) -> Array:
    """Split one axis into (groups, rest)."""
    split = (groups, array.shape[axis] // groups)
    return array.reshape(*array.shape[:axis], *split, *array.shape[axis + 1 :])


def tap_slices(win: Windows, tap: tuple[int, ...]) -> Index:
    """The pixels of the padded image that a tap looks at: every stride-th from ``tap * dilation`` on."""
    return (
        ...,
        *(
            slice(k * d, k * d + (l - 1) * s + 1 if l else 0, s)
            for k, d, l, s in zip(tap, win.dilation, win.output, win.stride, strict=True)
        ),
    )


def flat(array: Array, leading: int) -> Array:
    """Join all axes after the first ``leading`` ones."""
    return array.reshape(*array.shape[:leading], math.prod(array.shape[leading:]))


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    dtype: Any = None,
) -> Array:
    """For each tap: what it sees in every window, times its weights.

    >>> conv(np.array([[[1, 2, 3, 4]]]), np.array([[[1, 0, -1]]]), padding=1)
    array([[[-2, -2, -2,  3]]])
    """
    win = windows(x.shape[2:], w.shape[2:], stride, padding, dilation)
    kind = wide(x, w)
    x_padded = grouped(zero_pad(x.astype(kind), win.pads), 1, groups)
    weights = grouped(w.astype(kind), 0, groups)
    y = np.zeros((x.shape[0], groups, w.shape[0] // groups, math.prod(win.output)), kind)
    with np.errstate(all="ignore"):
        for tap in np.ndindex(win.kernel):
            seen = flat(x_padded[tap_slices(win, tap)], 3)
            y += np.einsum("ngcl,gfc->ngfl", seen, weights[(..., *tap)])
        y = y.reshape(x.shape[0], w.shape[0], *win.output)
        if b is not None:
            y += b.astype(kind).reshape(-1, *(1,) * win.rank)
    return rounded(y, dtype, x, w)


def conv_grad_input(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    dtype: Any = None,
) -> Array:
    """For each tap: the pixels it reaches lie ``stride`` apart, and get a run of dy times its weights.

    >>> conv_grad_input(np.array([[[1, 10]]]), np.array([[[1, 2, 3]]]), (1, 1, 5), stride=2)
    array([[[ 1,  2, 13, 20, 30]]])
    """
    win = windows(x_shape[2:], w.shape[2:], stride, padding, dilation)
    kind = wide(dy, w)
    # A tap may need dy from before its first position and from past its last: there dy is zero.
    margin = [
        (d * (k - 1), before + size)
        for k, d, size, (before, _) in zip(win.kernel, win.dilation, win.size, win.pads, strict=True)
    ]
    dy_padded = grouped(zero_pad(dy.astype(kind), margin), 1, groups)
    weights = grouped(w.astype(kind), 0, groups)
    dx = np.zeros((x_shape[0], groups, x_shape[1] // groups, *win.size), kind)
    with np.errstate(all="ignore"):
        for tap in np.ndindex(win.kernel):
            pixels: list[Any] = [...]
            positions: list[Any] = [...]
            for k, d, s, size, (before, _), (extra, _) in zip(
                tap, win.dilation, win.stride, win.size, win.pads, margin, strict=True
            ):
                first = (k * d - before) % s  # the first pixel whose division by the stride is exact
                position = (first + before - k * d) // s
                count = len(range(first, size, s))
                pixels.append(slice(first, None, s))
                positions.append(slice(extra + position, extra + position + count))
            run = dy_padded[tuple(positions)]
            product = np.einsum("ngfl,gfc->ngcl", flat(run, 3), weights[(..., *tap)])
            dx[tuple(pixels)] += product.reshape(*product.shape[:3], *run.shape[3:])
    return rounded(dx.reshape(x_shape), dtype, dy, w)


def conv_grad_weight(
    dy: Array,
    x: Array,
    w_shape: tuple[int, ...],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    dtype: Any = None,
) -> Array:
    """For each tap: what it sees in every window, times dy there, summed over images and positions.

    >>> conv_grad_weight(np.array([[[1, 10]]]), np.array([[[1, 2, 3, 4]]]), (1, 1, 3))
    array([[[21, 32, 43]]])
    """
    win = windows(x.shape[2:], w_shape[2:], stride, padding, dilation)
    kind = wide(dy, x)
    x_padded = grouped(zero_pad(x.astype(kind), win.pads), 1, groups)
    upstream = flat(grouped(dy.astype(kind), 1, groups), 3)
    dw = np.zeros((groups, w_shape[0] // groups, *w_shape[1:]), kind)
    with np.errstate(all="ignore"):
        for tap in np.ndindex(win.kernel):
            seen = flat(x_padded[tap_slices(win, tap)], 3)
            dw[(..., *tap)] = np.einsum("ngfl,ngcl->gfc", upstream, seen)
    return rounded(dw.reshape(w_shape), dtype, dy, x)
