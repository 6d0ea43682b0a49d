"""Patches of Dask arrays, and back."""

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from .. import unfolding
from ..arrays import Array, check_fold_dtype, fill_value
from ..borders import Border, fold_back
from ..geometry import Windows, check_shape, fold_windows, patch_geometry
from ..pooling import outer
from .borders import border_seen, extended, folded_back
from .graph import Graph, dask_array
from .ranges import (
    Chunks,
    Range,
    coverage,
    grid,
    input_ranges,
    output_ranges,
    ranges_of,
    reaching,
    seen_by,
    sizes_of,
)


def unfold(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    padding_mode: str = "constant",
    fill: Any = 0,
) -> Any:
    """`windrow.unfold` of a Dask array to (N, C, kernel..., positions...), chunked as x is.

    Axes of windows and of positions stay apart: chunks of positions that share an axis would have gaps.
    """
    x = dask_array("x", x)
    geometry = patch_geometry(x.shape, kernel_size, stride, padding, dilation)
    if padding_mode == "constant":
        fill = fill_value("fill", fill, x.dtype)
    else:
        border = border_seen(geometry.windows, padding_mode, fill, x.dtype)
        if border is not None:
            x = extended(x, border)
            geometry = patch_geometry(x.shape, kernel_size, stride, 0, dilation)
    win = geometry.windows
    cuts = [output_ranges(win, axis, chunks) for axis, chunks in enumerate(x.chunks[2:])]
    sees = [[seen_by(win, axis, cut) for cut in ranges] for axis, ranges in enumerate(cuts)]
    graph = Graph("unfold", x, geometry, fill)
    function = partial(_unfold, win.kernel_size, {"stride": stride, "dilation": dilation})
    for (n, images), (c, channels) in product(
        enumerate(ranges_of(x.chunks[0])), enumerate(ranges_of(x.chunks[1]))
    ):
        for at, space in grid(sees):
            index = (n, c, *(0 for _ in at), *at)
            graph.add(index, function, [(x, (images, channels, *space))], fill=fill)
    kernel = tuple((k,) for k in win.kernel_size)
    return graph.array((*x.chunks[:2], *kernel, *(sizes_of(ranges) for ranges in cuts)), x.dtype)


def fold(
    cols: Any,
    output_size: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    padding_mode: str = "constant",
    reduce: str = "sum",
) -> Any:
    """`windrow.fold` of Dask columns (N, C, kernel..., positions...) by "sum" or "mean"."""
    cols = dask_array("cols", cols)
    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce: expected 'sum' or 'mean', got {reduce!r}")
    check_fold_dtype("cols", cols, reduce)
    win = fold_windows(output_size, kernel_size, stride, padding, dilation)
    check_shape("cols", cols.shape, (*cols.shape[:2], *win.kernel_size, *win.output_size))
    border = border_seen(win, padding_mode, 0, cols.dtype)
    if cols.dtype == np.float16 and (reduce == "mean" or border is not None):
        # Summed in float32 as always, and rounded when all is done.
        options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        single = cols.astype(np.float32)
        wide = fold(single, output_size, kernel_size, **options, padding_mode=padding_mode, reduce=reduce)
        return wide.astype(cols.dtype)
    if border is not None:
        return _fold_bordered(cols, win, border, reduce)
    cols = cols.rechunk(dict.fromkeys(range(2, 2 + win.rank), -1))
    cuts = [input_ranges(win, axis, chunks) for axis, chunks in enumerate(cols.chunks[2 + win.rank :])]
    graph = Graph("fold", cols, win, reduce)
    steps = {"stride": win.stride, "dilation": win.dilation}
    for (n, images), (c, channels) in product(
        enumerate(ranges_of(cols.chunks[0])), enumerate(ranges_of(cols.chunks[1]))
    ):
        for at, inside in grid(cuts):
            # Windows that begin in the image or before it; the others would bring zeros of no sign.
            reach = [reaching(win, axis, cut) for axis, cut in enumerate(inside)]
            there = [
                (min(max(low, 0), count), min(max(high, 0), count))
                for (low, high), count in zip(reach, win.output_size)
            ]
            starts = [
                low * step - before for (low, _), step, (before, _) in zip(there, win.stride, win.padding)
            ]
            taken = [(i - start, j - start) for (i, j), start in zip(inside, starts)]
            counts = (
                [coverage(win, axis, cut) for axis, cut in enumerate(inside)] if reduce == "mean" else None
            )
            function = partial(_fold, win.kernel_size, steps, taken, counts)
            kernel = tuple((0, k) for k in win.kernel_size)
            graph.add((n, c, *at), function, [(cols, (images, channels, *kernel, *there))])
    return graph.array((*cols.chunks[:2], *(sizes_of(ranges) for ranges in cuts)), cols.dtype)


def _fold_bordered(cols: Any, win: Windows, border: Border, reduce: str) -> Any:
    """The border's sums are folded back, then divided for a mean."""
    bare: dict[str, Any] = {"stride": win.stride, "dilation": win.dilation}
    x = folded_back(fold(cols, border.padded, win.kernel_size, **bare), border)
    if reduce == "mean":
        seen = win._replace(size=border.padded, padding=((0, 0),) * win.rank)
        counts = [
            fold_back(coverage(seen, axis, (0, size))[None, None], Border((own,), (pair,), border.mode, 0))
            for axis, (size, own, pair) in enumerate(zip(border.padded, border.size, border.padding))
        ]
        graph = Graph("fold_divided", x, win, border.mode)
        for at, region in grid([ranges_of(chunks) for chunks in x.chunks]):
            some = [count[0, 0, slice(*cut)] for count, cut in zip(counts, region[2:])]
            graph.add(at, partial(_divided, some), [(x, region)])
        x = graph.array(x.chunks, x.dtype)
    return x


# What a task does, given its parts of the sources


def _layout(rank: int) -> str:
    """Columns with every axis apart: those of the window, then those of the positions."""
    return " ".join(["n", "c", *(f"k{i}" for i in range(rank)), *(f"l{i}" for i in range(rank))])


def _unfold(kernel: Chunks, options: dict[str, Any], x: Array) -> Array:
    return unfolding.unfold(x, kernel, layout=_layout(len(kernel)), **options)


def _fold(
    kernel: Chunks, options: dict[str, Any], taken: list[Range], counts: list[Array] | None, cols: Array
) -> Array:
    """Fold all that the windows at hand cover, and take the range that is wanted of it, with zeros around."""
    rank = len(kernel)
    result = np.zeros((*cols.shape[:2], *(high - low for low, high in taken)), cols.dtype)
    if 0 not in cols.shape:
        steps = zip(kernel, options["stride"], options["dilation"], cols.shape[2 + rank :])
        size = [(count - 1) * step + gap * (k - 1) + 1 for k, step, gap, count in steps]
        shape = (*cols.shape[:2], *size)
        whole = unfolding.col2im(cols, shape, kernel, layout=_layout(rank), **options)
        source = tuple(slice(max(low, 0), max(high, 0)) for low, high in taken)
        part = whole[(slice(None), slice(None), *source)]
        first = [max(-low, 0) for low, _ in taken]
        target = tuple(slice(at, at + count) for at, count in zip(first, part.shape[2:]))
        result[(slice(None), slice(None), *target)] = part
    if counts is not None:
        unfolding.divide(result, outer(counts))
    return result


def _divided(counts: list[Array], sums: Array) -> Array:
    result = np.array(sums)
    unfolding.divide(result, outer(counts))
    return result
