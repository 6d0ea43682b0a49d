"""Transposed convolution and its gradients, by definition and, still simply, tap by tap.

For one group, ``i`` counting positions of the result and ``l`` those of x:

    y [n, f, i]  =  b[f] + sum over c, k of  x[n, c, (i + before - k * dilation) / stride] * w[c, f, k]
    dx[n, c, l]  =  sum over f, k       of  dy[n, f, l * stride + k * dilation - before] * w[c, f, k]
    dw[c, f, k]  =  sum over n, l       of  dy[n, f, l * stride + k * dilation - before] * x[n, c, l]

In y only the taps count whose division is exact. Outside their ranges x and dy are zero, and these zeros take
part in the sums: 0 * NaN and 0 * Inf are NaN.
"""

from typing import Any

import numpy as np

from windrow.reference.convolution import exact_position, flat, grouped, rounded, tap_slices, wide
from windrow.reference.patches import zero_pad
from windrow.reference.sizes import Windows, pad_pairs, per_axis

Array = np.ndarray[Any, Any]


def transposed_windows(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    output_padding: Any = 0,
    output_size: Any = None,
) -> Windows:
    """The windows that a convolution lays over the result: one for each position of x.

    ``output = (size - 1) * stride - pads + dilation * (kernel - 1) + 1 + output_padding``

    >>> transposed_windows((4,), (3,), stride=2, padding=1, output_padding=1).size
    (8,)
    """
    rank = len(size)
    strides, dilations, more = (per_axis(value, rank) for value in (stride, dilation, output_padding))
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    if padding in ("same", "same_lower"):
        result = tuple(i * s for i, s in zip(size, strides, strict=True))
    else:
        pads = pad_pairs(padding, size, extent, strides)
        result = tuple(
            (i - 1) * s - before - after + e + p
            for i, s, (before, after), e, p in zip(size, strides, pads, extent, more, strict=True)
        )
    if output_size is not None:
        result = per_axis(output_size, rank)
    return Windows(
        result, tuple(kernel), strides, dilations, pad_pairs(padding, result, extent, strides), tuple(size)
    )


def conv_transpose_by_definition(
    x: Array, w: Array, b: Array | None = None, *, groups: int = 1, dtype: Any = None, **options: Any
) -> Array:
    """``y[n, f, i] = b[f] + sum over c, k of x[n, c, (i + before - k * dilation) / stride] * w[c, f, k]``.

    >>> conv_transpose_by_definition(np.array([[[1, 10]]]), np.array([[[1, 2, 3]]]), stride=2)
    array([[[ 1,  2, 13, 20, 30]]])
    """
    win = transposed_windows(x.shape[2:], w.shape[2:], **options)
    channels_per_group = w.shape[0] // groups
    y = np.zeros((x.shape[0], w.shape[1] * groups, *win.size), wide(x, w))
    for n, f, *pixel in np.ndindex(y.shape):
        group, f_in_group = divmod(f, w.shape[1])
        total = y.dtype.type(0)
        for c_in_group, *tap in np.ndindex(channels_per_group, *win.kernel):
            c = group * channels_per_group + c_in_group
            position = exact_position(win, tap, pixel)
            if position is None:
                continue
            in_range = all(0 <= l < size for l, size in zip(position, win.output, strict=True))
            value = x[(n, c, *position)] if in_range else 0
            with np.errstate(all="ignore"):
                total += y.dtype.type(value) * y.dtype.type(w[(c, f_in_group, *tap)])
        with np.errstate(all="ignore"):
            y[(n, f, *pixel)] = total if b is None else total + y.dtype.type(b[f])
    return rounded(y, dtype, x, w)


def conv_transpose(
    x: Array, w: Array, b: Array | None = None, *, groups: int = 1, dtype: Any = None, **options: Any
) -> Array:
    """For each tap: every value of x, times the tap's weights, is added where the tap sends it.

    x is first surrounded with zeros, far enough that every position of the result gets all of its terms.

    >>> conv_transpose(np.array([[[1, 10]]]), np.array([[[1, 2, 3]]]), stride=2)
    array([[[ 1,  2, 13, 20, 30]]])
    """
    win = transposed_windows(x.shape[2:], w.shape[2:], **options)
    kind = wide(x, w)
    # Zeros of x that reach into the result lie at most this far before and after it.
    margin = [
        (d * (k - 1), before + size)
        for k, d, size, (before, _) in zip(win.kernel, win.dilation, win.size, win.pads, strict=True)
    ]
    x_padded = grouped(zero_pad(x.astype(kind), margin), 1, groups)
    weights = grouped(w.astype(kind), 0, groups)
    # The place of x's first zero, and a result wide enough for all that the taps send anywhere.
    first = [m * s + before for (m, _), s, (before, _) in zip(margin, win.stride, win.pads, strict=True)]
    spatial = [
        (l - 1) * s + d * (k - 1) + 1
        for l, s, d, k in zip(x_padded.shape[3:], win.stride, win.dilation, win.kernel, strict=True)
    ]
    y = np.zeros((x.shape[0], groups, w.shape[1], *spatial), kind)
    everywhere = win._replace(output=x_padded.shape[3:])
    with np.errstate(all="ignore"):
        for tap in np.ndindex(win.kernel):
            product = np.einsum("ngcl,gcf->ngfl", flat(x_padded, 3), weights[(..., *tap)])
            y[tap_slices(everywhere, tap)] += product.reshape(*product.shape[:3], *x_padded.shape[3:])
        inside: Any = (..., *(slice(f, f + size) for f, size in zip(first, win.size, strict=True)))
        y = y[inside].reshape(x.shape[0], w.shape[1] * groups, *win.size)
        if b is not None:
            y = y + b.astype(kind).reshape(-1, *(1,) * win.rank)
    return rounded(y, dtype, x, w)


def conv_transpose_grad_input(
    dy: Array, w: Array, x_shape: tuple[int, ...], *, groups: int = 1, dtype: Any = None, **options: Any
) -> Array:
    """For each tap: what it sees of dy in every window, times its weights.

    >>> dy = np.array([[[1, 2, 3, 4, 5]]])
    >>> conv_transpose_grad_input(dy, np.array([[[1, 2, 3]]]), (1, 1, 2), stride=2)
    array([[[14, 26]]])
    """
    win = transposed_windows(x_shape[2:], w.shape[2:], output_size=dy.shape[2:], **options)
    kind = wide(dy, w)
    dy_padded = grouped(zero_pad(dy.astype(kind), margins(win)), 1, groups)
    weights = grouped(w.astype(kind), 0, groups)
    dx = np.zeros((x_shape[0], groups, x_shape[1] // groups, *x_shape[2:]), kind)
    with np.errstate(all="ignore"):
        for tap in np.ndindex(win.kernel):
            seen = dy_padded[tap_slices(win, tap)]
            product = np.einsum("ngfl,gcf->ngcl", flat(seen, 3), weights[(..., *tap)])
            dx += product.reshape(dx.shape)
    return rounded(dx.reshape(x_shape), dtype, dy, w)


def conv_transpose_grad_weight(
    dy: Array, x: Array, w_shape: tuple[int, ...], *, groups: int = 1, dtype: Any = None, **options: Any
) -> Array:
    """For each tap: what it sees of dy in every window, times x there, summed over images and positions.

    >>> dy = np.array([[[1, 2, 3, 4, 5]]])
    >>> conv_transpose_grad_weight(dy, np.array([[[1, 10]]]), (1, 1, 3), stride=2)
    array([[[31, 42, 53]]])
    """
    win = transposed_windows(x.shape[2:], w_shape[2:], output_size=dy.shape[2:], **options)
    kind = wide(dy, x)
    dy_padded = grouped(zero_pad(dy.astype(kind), margins(win)), 1, groups)
    values = flat(grouped(x.astype(kind), 1, groups), 3)
    dw = np.zeros((groups, w_shape[0] // groups, *w_shape[1:]), kind)
    with np.errstate(all="ignore"):
        for tap in np.ndindex(win.kernel):
            seen = flat(dy_padded[tap_slices(win, tap)], 3)
            dw[(..., *tap)] = np.einsum("ngcl,ngfl->gcf", values, seen)
    return rounded(dw.reshape(w_shape), dtype, dy, x)


def margins(win: Windows) -> list[tuple[int, int]]:
    """How far windows reach over the ends of the result: before it, and past it."""
    return [
        (before, max(0, (l - 1) * s + d * (k - 1) + 1 - before - size))
        for size, k, s, d, (before, _), l in zip(*win, strict=True)
    ]
