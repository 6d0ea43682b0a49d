"""Pooling by definition, tap by tap: maxima with their places, means, and the ways back.

Windows lie as everywhere (``sizes``); with ``ceil_mode`` there may be one more at the far side, which hangs
over the padded image but must begin inside the image or the padding before it. Padding is never the maximum
of a window, and NaN always is. Of equal values the first one counts, taps in row-major order.

    y [n, c, l]  =  max over k of x[n, c, l * stride + k * dilation - before],   only pixels inside the image
    y [n, c, l]  =  sum over k of the same, divided by the window's count
"""

import math
from typing import Any

import numpy as np

from windrow.reference.convolution import rounded, wide
from windrow.reference.patches import gather_indices, scatter_indices, zero_pad
from windrow.reference.sizes import Windows, windows

Array = np.ndarray[Any, Any]


def pool_windows(
    size: tuple[int, ...],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Windows:
    """The windows of a pooling; the stride is the kernel's size unless given.

    >>> pool_windows((7,), 3, stride=2, ceil_mode=True).output, pool_windows((6,), 2, 3).output
    ((3,), (2,))
    >>> pool_windows((8,), 3, stride=2, ceil_mode=True).output
    (4,)
    """
    win = windows(size, kernel_size, kernel_size if stride is None else stride, padding, dilation)
    if not ceil_mode:
        return win
    output = []
    for i, k, s, d, (before, after), _ in zip(*win, strict=True):
        count = -(-(i + before + after - d * (k - 1) - 1) // s) + 1
        # The last one must begin before the padding after the image.
        output.append(count - 1 if (count - 1) * s >= i + before else count)
    return win._replace(output=tuple(output))


def with_overhang(win: Windows) -> Windows:
    """The same windows on an image padded so far that none hangs over."""
    pads = tuple(
        (before, max(after, (l - 1) * s + d * (k - 1) + 1 - before - i))
        for i, k, s, d, (before, after), l in zip(*win, strict=True)
    )
    return win._replace(pads=pads)


def pixel_numbers(win: Windows) -> Array:
    """``numbers[0, 0, k, l]``: which pixel, row-major, a tap of a window sees; -1 outside the image."""
    image = np.arange(math.prod(win.size)).reshape(1, 1, *win.size)
    return gather_indices(image, with_overhang(win), -1)


def max_pool_with_indices(x: Array, kernel_size: Any, **options: Any) -> tuple[Array, Array]:
    """The greatest value of every window, and the row-major number of its pixel.

    >>> max_pool_with_indices(np.array([[[1.0, 3.0, 3.0, 2.0]]]), 2)
    (array([[[3., 3.]]]), array([[[1, 2]]]))
    """
    win = pool_windows(x.shape[2:], kernel_size, **options)
    patches = gather_indices(x, with_overhang(win), -np.inf)
    numbers = pixel_numbers(win)
    best = np.full((*x.shape[:2], *win.output), -np.inf, x.dtype)
    index = np.full(best.shape, -1)
    for tap in np.ndindex(win.kernel):
        value, number = patches[(slice(None), slice(None), *tap)], numbers[(slice(None), slice(None), *tap)]
        better = (number >= 0) & ~np.isnan(best) & ((value > best) | np.isnan(value) | (index < 0))
        best = np.where(better, value, best)
        index = np.where(better, number, index)
    return best, index


def max_pool_backward(dy: Array, indices: Array, x_shape: tuple[int, ...], *, dtype: Any = None) -> Array:
    """Each dy goes to the pixel that was the maximum.

    >>> max_pool_backward(np.array([[[1.0, 2.0, 4.0]]]), np.array([[[0, 2, 2]]]), (1, 1, 4))
    array([[[1., 0., 6., 0.]]])
    """
    dx = np.zeros((*x_shape[:2], math.prod(x_shape[2:])), wide(dy))
    for n, c, *position in np.ndindex(dy.shape):
        i = indices[(n, c, *position)]
        if i >= 0:
            with np.errstate(all="ignore"):
                dx[n, c, i] += dx.dtype.type(dy[(n, c, *position)])
    return rounded(dx.reshape(x_shape), dtype, dy)


def max_unpool(x: Array, indices: Array, output_size: tuple[int, ...]) -> Array:
    """Each value goes where its index says; zeros elsewhere; the last of several stays.

    >>> max_unpool(np.array([[[5.0, 7.0]]]), np.array([[[1, 2]]]), (4,))
    array([[[0., 5., 7., 0.]]])
    """
    y = np.zeros((*x.shape[:2], math.prod(output_size)), x.dtype)
    for n, c, *position in np.ndindex(x.shape):
        i = indices[(n, c, *position)]
        if i >= 0:
            y[n, c, i] = x[(n, c, *position)]
    return y.reshape(*x.shape[:2], *output_size)


def window_counts(win: Windows, count_include_pad: bool) -> Array:
    """What the sum of each window is divided by: its pixels, or its pixels and padding; at least 1."""
    ones = np.ones((1, 1, *win.size), int)
    if count_include_pad:
        ones = zero_pad(ones, win.pads, 1)
        bare = with_overhang(win)
        over = tuple((0, a - after) for (_, a), (_, after) in zip(bare.pads, win.pads, strict=True))
        win = win._replace(size=ones.shape[2:], pads=over)
    else:
        win = with_overhang(win)
    taps = tuple(range(2, 2 + win.rank))
    counts: Array = gather_indices(ones, win, 0).sum(axis=taps)
    return np.maximum(counts, 1)


def avg_pool(
    x: Array, kernel_size: Any, *, count_include_pad: bool = True, dtype: Any = None, **options: Any
) -> Array:
    """The sum of every window, divided by its count.

    >>> avg_pool(np.array([[[1.0, 3.0, 5.0]]]), 2, padding=1)
    array([[[0.5, 4. ]]])
    >>> avg_pool(np.array([[[1.0, 3.0, 5.0]]]), 2, padding=1, count_include_pad=False)
    array([[[1., 4.]]])
    """
    win = pool_windows(x.shape[2:], kernel_size, **options)
    kind = wide(x)
    with np.errstate(all="ignore"):
        total = gather_indices(x.astype(kind), with_overhang(win)).sum(axis=tuple(range(2, 2 + win.rank)))
    return rounded(total / window_counts(win, count_include_pad).astype(kind), dtype, x)


def avg_pool_backward(
    dy: Array,
    x_shape: tuple[int, ...],
    kernel_size: Any,
    *,
    count_include_pad: bool = True,
    dtype: Any = None,
    **options: Any,
) -> Array:
    """Each dy, divided by its window's count, goes to all pixels of the window.

    >>> avg_pool_backward(np.array([[[2.0, 4.0]]]), (1, 1, 3), 2, stride=1)
    array([[[1., 3., 2.]]])
    """
    win = pool_windows(x_shape[2:], kernel_size, **options)
    kind = wide(dy)
    shares = dy.astype(kind) / window_counts(win, count_include_pad).astype(kind)
    patches = shares.reshape(*dy.shape[:2], *(1,) * win.rank, *win.output)
    patches = np.broadcast_to(patches, (*dy.shape[:2], *win.kernel, *win.output))
    with np.errstate(all="ignore"):
        dx = scatter_indices(patches, with_overhang(win), np.add, 0)
    return rounded(dx, dtype, dy)


def norm_of(values: Array, p: Any, axis: tuple[int, ...]) -> Any:
    """``(sum |values| ** p) ** (1 / p)``, or the greatest magnitude for ``p = inf``; 0 of nothing."""
    if p == np.inf:
        return np.max(np.abs(values), axis=axis, initial=0)
    return np.sum(np.abs(values) ** p, axis=axis) ** (1 / values.dtype.type(p))


def lp_pool(x: Array, kernel_size: Any, p: float = 2, *, dtype: Any = None, **options: Any) -> Array:
    """The p-norm of every window.

    >>> lp_pool(np.array([[[3.0, -4.0, 5.0, 12.0]]]), 2)
    array([[[ 5., 13.]]])
    """
    win = pool_windows(x.shape[2:], kernel_size, **options)
    with np.errstate(all="ignore"):
        patches = gather_indices(x.astype(wide(x)), with_overhang(win))
        y = norm_of(patches, x.dtype.type(p), tuple(range(2, 2 + win.rank)))
    return rounded(y, dtype, x)


def lp_pool_backward(
    dy: Array, x: Array, kernel_size: Any, p: Any = 2, *, dtype: Any = None, **options: Any
) -> Array:
    """``dy * sign(x) * |x| ** (p - 1) * y ** (1 - p)`` to every pixel of a window; nothing from one of zeros.

    >>> lp_pool_backward(np.array([[[5.0, 13.0]]]), np.array([[[3.0, -4.0, 5.0, 12.0]]]), 2)
    array([[[ 3., -4.,  5., 12.]]])
    """
    if p == np.inf:
        places = max_pool_with_indices(np.abs(x), kernel_size, **options)[1]
        pixels = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
        pixels = np.concatenate([pixels, np.zeros((*x.shape[:2], 1), x.dtype)], axis=2)  # -1: no pixel
        greatest = np.take_along_axis(pixels, places.reshape(*x.shape[:2], math.prod(dy.shape[2:])), 2)
        shares = dy * np.sign(greatest.reshape(dy.shape))
        return max_pool_backward(shares, places, x.shape, dtype=dtype or x.dtype)
    win = with_overhang(pool_windows(x.shape[2:], kernel_size, **options))
    p = wide(x).type(x.dtype.type(p))
    with np.errstate(all="ignore"):
        patches = gather_indices(x.astype(wide(x)), win)
        y = norm_of(patches, p, tuple(range(2, 2 + win.rank)))
        y, dy = (a.reshape(*a.shape[:2], *(1,) * win.rank, *a.shape[2:]) for a in (y, dy))
        slope = np.where(patches == 0, 0, np.sign(patches) * np.abs(patches) ** (p - 1))
        shares = slope * (dy * np.where(y == 0, 0, y ** (1 - p)))
        dx = scatter_indices(shares, win, np.add, 0)
    return rounded(dx, dtype, x)


def global_avg_pool(x: Array, *, dtype: Any = None) -> Array:
    """The mean of every channel of every image.

    >>> global_avg_pool(np.array([[[1.0, 3.0, 5.0]]]))
    array([[[3.]]])
    """
    pixels = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    mean = pixels.astype(wide(x)).sum(axis=2) / pixels.shape[2]
    return rounded(mean.reshape(*x.shape[:2], *(1,) * (x.ndim - 2)), dtype, x)


def global_max_pool_with_indices(x: Array) -> tuple[Array, Array]:
    """The greatest value of every channel of every image, and the first pixel that has it.

    >>> global_max_pool_with_indices(np.array([[[1.0, 3.0, 3.0]]]))
    (array([[[3.]]]), array([[[1]]]))
    """
    pixels = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    places = pixels.argmax(axis=2, keepdims=True)  # a NaN is NumPy's greatest value too
    shape = (*x.shape[:2], *(1,) * (x.ndim - 2))
    return np.take_along_axis(pixels, places, 2).reshape(shape), places.reshape(shape)
