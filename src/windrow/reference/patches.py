"""Patch extraction and its adjoint, each written three times.

======== =================================================================================
loops    the definition: one loop over every image, channel, tap and position
indices  index arrays (k, i, j, ...), one gather, one ``np.add.at`` scatter
sliding  the window slides over the padded image and is copied out, or added in, whole
======== =================================================================================

The three forms gather plain patches ``patches[n, c, k0, k1, ..., l0, l1, ...]`` and scatter them back (see
``layouts``); ``unfold`` and ``fold`` add the layout, the data types and the reductions.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from windrow.reference.layouts import arrange, restore
from windrow.reference.sizes import Windows, windows

Array = np.ndarray[Any, Any]
Index = tuple[Any, ...]


def zero_pad(x: Array, padding: Any, fill: Any = 0) -> Array:
    """Surround every image of ``x`` (N, C, spatial...) with ``padding`` pixels of value ``fill``.

    >>> zero_pad(np.ones((1, 1, 1, 2), int), ((0, 1), (1, 2)))[0, 0]
    array([[0, 1, 1, 0, 0],
           [0, 0, 0, 0, 0]])
    """
    spatial = x.shape[2:]
    pads = windows(spatial, 1, padding=padding).pads
    shape = tuple(before + size + after for size, (before, after) in zip(spatial, pads, strict=True))
    padded = filled((*x.shape[:2], *shape), x.dtype, fill)
    padded[image_slices(spatial, pads)] = x
    return padded


def filled(shape: tuple[int, ...], dtype: np.dtype[Any], fill: Any) -> Array:
    """An array of one value. 0 stands for the zero of any type, also of those that cannot hold a number."""
    array = np.zeros(shape, dtype)
    if not (isinstance(fill, int) and fill == 0):
        array[...] = fill
    return array


def image_slices(size: Sequence[int], pads: Sequence[tuple[int, int]]) -> Index:
    """Where the image lies in its padded copy; ``before : before + size`` is right also for no padding."""
    return (..., *(slice(before, before + i) for i, (before, _) in zip(size, pads, strict=True)))


# ------------------------------------------------------------------------------------------------------ loops


def gather_loops(x: Array, win: Windows, fill: Any = 0) -> Array:
    """``patches[n, c, k, l] = x[n, c, l * stride + k * dilation - before]``; outside the image ``fill``."""
    n_images, n_channels = x.shape[:2]
    patches = filled((n_images, n_channels, *win.kernel, *win.output), x.dtype, fill)
    for tap in np.ndindex(win.kernel):
        for position in np.ndindex(win.output):
            pixel = win.pixel(tap, position)
            if win.inside(pixel):
                for n, c in np.ndindex(n_images, n_channels):
                    patches[(n, c, *tap, *position)] = x[(n, c, *pixel)]
    return patches


def scatter_loops(patches: Array, win: Windows, add: np.ufunc, start: Any) -> Array:
    """``x[n, c, l * stride + k * dilation - before] += patches[n, c, k, l]``, only inside the image."""
    n_images, n_channels = patches.shape[:2]
    x = np.full((n_images, n_channels, *win.size), start, patches.dtype)
    for tap in np.ndindex(win.kernel):
        for position in np.ndindex(win.output):
            pixel = win.pixel(tap, position)
            if win.inside(pixel):
                for n, c in np.ndindex(n_images, n_channels):
                    x[(n, c, *pixel)] = add(x[(n, c, *pixel)], patches[(n, c, *tap, *position)])
    return x


# ---------------------------------------------------------------------------------------------------- indices


def window_indices(n_channels: int, win: Windows) -> Index:
    """The index arrays (k, i, j, ...): row = (channel, tap), column = position, entry = place in the image.

    ``k`` has shape (C * taps, 1) and holds channels; ``i``, ``j``, ... have shape (C * taps, positions), one
    per spatial axis, and count pixels of the padded image.

    >>> k, i, j = window_indices(1, windows((4, 4), 2, stride=2))
    >>> i
    array([[0, 0, 2, 2],
           [0, 0, 2, 2],
           [1, 1, 3, 3],
           [1, 1, 3, 3]])
    """
    channel_taps = np.indices((n_channels, *win.kernel)).reshape(
        1 + win.rank, n_channels * math.prod(win.kernel), 1
    )
    positions = np.indices(win.output).reshape(win.rank, 1, math.prod(win.output))
    k, taps = channel_taps[0], channel_taps[1:]
    pixels = (
        positions[axis] * win.stride[axis] + taps[axis] * win.dilation[axis] for axis in range(win.rank)
    )
    return (k, *pixels)


def gather_indices(x: Array, win: Windows, fill: Any = 0) -> Array:
    """``x_padded[:, k, i, j]``: NumPy's fancy indexing does the loops."""
    every_image: Index = (slice(None), *window_indices(x.shape[1], win))
    cols = zero_pad(x, win.pads, fill)[every_image]
    return cols.reshape(*x.shape[:2], *win.kernel, *win.output)


def scatter_indices(patches: Array, win: Windows, add: np.ufunc, start: Any) -> Array:
    """``np.add.at(x_padded, (:, k, i, j), cols)``, then cut the image out of its padding."""
    n_images, n_channels = patches.shape[:2]
    shape = tuple(before + size + after for size, (before, after) in zip(win.size, win.pads, strict=True))
    x_padded = np.full((n_images, n_channels, *shape), start, patches.dtype)
    cols = patches.reshape(n_images, n_channels * math.prod(win.kernel), math.prod(win.output))
    every_image: Any = (slice(None), *window_indices(n_channels, win))
    add.at(x_padded, every_image, cols)
    return x_padded[image_slices(win.size, win.pads)]


# ---------------------------------------------------------------------------------------------------- sliding


def window_slices(win: Windows) -> dict[tuple[int, ...], Index]:
    """For every position of the window, the slices of the padded image that it covers.

    >>> window_slices(windows((5,), 2, stride=2, dilation=2))
    {(0,): (Ellipsis, slice(0, 3, 2)), (1,): (Ellipsis, slice(2, 5, 2))}
    """
    per_axis = [
        [slice(l * s, l * s + d * (k - 1) + 1, d) for l in range(n)]
        for n, s, k, d in zip(win.output, win.stride, win.kernel, win.dilation, strict=True)
    ]
    covered = ((..., *slices) for slices in itertools.product(*per_axis))
    return dict(zip(np.ndindex(win.output), covered, strict=True))


def at(position: tuple[int, ...]) -> Index:
    """The last axes at ``position``, all of the others."""
    return (..., *position)


def gather_sliding(x: Array, win: Windows, fill: Any = 0) -> Array:
    """Slide the window over the padded image and copy out what it covers."""
    x_padded = zero_pad(x, win.pads, fill)
    patches = np.zeros((*x.shape[:2], *win.kernel, *win.output), x.dtype)
    for position, covered in window_slices(win).items():
        patches[at(position)] = x_padded[covered]
    return patches


def scatter_sliding(patches: Array, win: Windows, add: np.ufunc, start: Any) -> Array:
    """Slide the window over an empty padded image and add its patch to what it covers."""
    shape = tuple(before + size + after for size, (before, after) in zip(win.size, win.pads, strict=True))
    x_padded = np.full((*patches.shape[:2], *shape), start, patches.dtype)
    for position, covered in window_slices(win).items():
        x_padded[covered] = add(x_padded[covered], patches[at(position)])
    return x_padded[image_slices(win.size, win.pads)]


# ------------------------------------------------------------------------------- unfold, fold, im2col, col2im

Scatter = Callable[[Array, Windows, np.ufunc, Any], Array]

GATHER: dict[str, Callable[[Array, Windows, Any], Array]] = {
    "loops": gather_loops,
    "indices": gather_indices,
    "sliding": gather_sliding,
}
SCATTER: dict[str, Scatter] = {"loops": scatter_loops, "indices": scatter_indices, "sliding": scatter_sliding}


def unfold(
    x: Array,
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "n (c k) l",
    fill: Any = 0,
    form: str = "loops",
) -> Array:
    """Copy every window of ``x`` (N, C, spatial...) out, in any data type.

    >>> unfold(np.arange(16).reshape(1, 1, 4, 4), 2, stride=2)[0]
    array([[ 0,  2,  8, 10],
           [ 1,  3,  9, 11],
           [ 4,  6, 12, 14],
           [ 5,  7, 13, 15]])
    """
    win = windows(x.shape[2:], kernel_size, stride, padding, dilation)
    return np.ascontiguousarray(arrange(GATHER[form](x, win, fill), layout))


def im2col(x: Array, kernel_size: Any, *, layout: str = "(c k) (l n)", **keywords: Any) -> Array:
    """``unfold`` as one matrix: row = (channel, tap), column = (position, image) with the image fastest.

    >>> im2col(np.arange(8).reshape(2, 1, 4), 2, stride=2)
    array([[0, 4, 2, 6],
           [1, 5, 3, 7]])
    """
    return unfold(x, kernel_size, layout=layout, **keywords)


def fold(
    cols: Array,
    output_size: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "n (c k) l",
    reduce: str = "sum",
    window: Any = None,
    uncovered: Any = 0,
    form: str = "loops",
) -> Array:
    """Put every window back and reduce where windows overlap; with "sum" this is the adjoint of ``unfold``.

    >>> cols = unfold(np.array([[[1, 2, 3, 4]]]), 3)
    >>> fold(cols, (4,), 3)
    array([[[1, 4, 6, 4]]])
    >>> fold(cols, (4,), 3, reduce="max")
    array([[[1, 2, 3, 4]]])
    """
    win = windows(output_size, kernel_size, stride, padding, dilation)
    patches = restore(np.asarray(cols), layout, tap_and_position_sizes(win))
    return fold_patches(patches, win, SCATTER[form], reduce=reduce, window=window, uncovered=uncovered)


def col2im(
    cols: Array,
    x_shape: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "(c k) (l n)",
    reduce: str = "sum",
    window: Any = None,
    uncovered: Any = 0,
    form: str = "loops",
) -> Array:
    """``fold`` of the matrix of ``im2col``; the full shape of x is given, so any layout can be read.

    >>> col2im(np.array([[0, 4, 2, 6], [1, 5, 3, 7]]), (2, 1, 4), 2, stride=2)
    array([[[0, 1, 2, 3]],
    <BLANKLINE>
           [[4, 5, 6, 7]]])
    """
    win = windows(x_shape[2:], kernel_size, stride, padding, dilation)
    sizes = {"n": x_shape[0], "c": x_shape[1], **tap_and_position_sizes(win)}
    patches = restore(np.asarray(cols), layout, sizes)
    return fold_patches(patches, win, SCATTER[form], reduce=reduce, window=window, uncovered=uncovered)


def tap_and_position_sizes(win: Windows) -> dict[str, int]:
    """The sizes of the axes k0, k1, ... and l0, l1, ... by name."""
    taps = {f"k{axis}": size for axis, size in enumerate(win.kernel)}
    return taps | {f"l{axis}": size for axis, size in enumerate(win.output)}


def fold_patches(
    patches: Array, win: Windows, scatter: Scatter, *, reduce: str, window: Any, uncovered: Any
) -> Array:
    """Reduce plain patches onto the image.

    float16 is summed in float32 and rounded once; integers wrap; the result is in native byte order. A pixel
    that no window covers, or only with weight 0, becomes ``uncovered``.
    """
    dtype = patches.dtype.newbyteorder("=")
    with np.errstate(all="ignore"):
        if reduce in ("max", "min"):
            pick, start = (np.maximum, lowest(dtype)) if reduce == "max" else (np.minimum, highest(dtype))
            x = scatter(patches.astype(dtype), win, pick, start)
            weight = coverage(win, np.ones(win.kernel), scatter)
        else:
            wide = np.dtype(np.float32) if dtype == np.float16 else dtype
            weights = np.ones(win.kernel) if window is None else full_window(window)
            # Weights and counts are real, also where the data are complex; sums of integers stay integers.
            real = np.zeros((), wide).real.dtype
            by_position = weights.astype(real).reshape(win.kernel + (1,) * win.rank)
            x = scatter((patches.astype(wide) * by_position).astype(wide), win, np.add, 0)
            weight = coverage(win, weights.astype(real), scatter)
            if reduce == "mean" or window is not None:
                x = x / np.where(weight == 0, 1, weight)
        x = np.where(weight == 0, np.asarray(uncovered).astype(x.dtype), x)
        return x.astype(dtype)


def coverage(win: Windows, weights: Array, scatter: Scatter = scatter_sliding) -> Array:
    """How often windows cover each pixel, every tap counted with its weight: shape (1, 1, spatial...).

    >>> coverage(windows((5,), 3), np.ones(3, int))
    array([[[1, 2, 3, 2, 1]]])
    """
    everywhere = np.broadcast_to(
        weights.reshape((1, 1, *win.kernel) + (1,) * win.rank), (1, 1, *win.kernel, *win.output)
    )
    return scatter(everywhere, win, np.add, 0)


def full_window(window: Any) -> Array:
    """The weights of every tap: an array of the kernel's shape, or the outer product of one vector per axis.

    >>> full_window(([1, 2], [1, 3]))
    array([[1, 3],
           [2, 6]])
    """
    if isinstance(window, np.ndarray):
        return window
    weights = np.ones((), int)
    for vector in window:
        weights = np.multiply.outer(weights, np.asarray(vector))
    return weights


def lowest(dtype: np.dtype[Any]) -> Any:
    """The value that every other one is at least as great as."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def highest(dtype: np.dtype[Any]) -> Any:
    """The value that every other one is at most as great as."""
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max
