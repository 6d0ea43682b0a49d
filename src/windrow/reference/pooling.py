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
