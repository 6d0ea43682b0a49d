"""Convolution of Dask arrays, and its gradients."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import dask.array as da
import numpy as np

from .. import convolution
from ..arguments import shape_argument
from ..arrays import Array
from ..geometry import check_shape, conv_geometry
from .borders import border_seen, extended, folded_back
from .graph import TREE, Graph, dask_array, whole
from .ranges import (
    Chunks,
    Range,
    grid,
    input_ranges,
    output_ranges,
    pads_around,
    ranges_of,
    reaching,
    seen_by,
    sizes_of,
)


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
    algorithm: str = "direct",
) -> Any:
    """`windrow.conv` of a Dask array x.

    y is chunked along images and space as x is: an output l belongs to the chunk that l * stride lies in.
    """
    x, w = dask_array("x", x), whole("w", w)
    geometry = conv_geometry(x.shape, w.shape, stride, padding, dilation, groups)
    border = border_seen(geometry.windows, padding_mode, fill, x.dtype)
    if border is not None:
        x = extended(x, border)
        geometry = conv_geometry(x.shape, w.shape, stride, 0, dilation, groups)
    if geometry.groups > 1:
        x = x.rechunk({1: -1})
    win = geometry.windows
    cuts = [output_ranges(win, axis, chunks) for axis, chunks in enumerate(x.chunks[2:])]
    sees = [[seen_by(win, axis, cut) for cut in ranges] for axis, ranges in enumerate(cuts)]
    options = {"stride": stride, "dilation": dilation, "groups": groups, "algorithm": algorithm}
    graph = Graph("conv", x, w, geometry, options)
    y = _summed(graph, x, w, geometry.k, cuts, sees, lambda some, *_: partial(_conv, some, options))
    return y if b is None else y + da.asarray(b).reshape(-1, *(1 for _ in cuts))


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
    algorithm: str = "direct",
) -> Any:
    """`windrow.conv_grad_input` of a Dask array dy; dx is cut where dy is, at l * stride."""
    dy, w = dask_array("dy", dy), whole("w", w)
    shape = shape_argument("x_shape", x_shape)
    geometry = conv_geometry(shape, w.shape, stride, padding, dilation, groups, x_name="x_shape")
    check_shape("dy", dy.shape, geometry.y_shape)
    border = border_seen(geometry.windows, padding_mode, fill, dy.dtype)
    if border is not None:
        bare: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
        size = (*shape[:2], *border.padded)
        return folded_back(conv_grad_input(dy, w, size, **bare, algorithm=algorithm), border)
    if geometry.groups > 1:
        dy = dy.rechunk({1: -1})
    win = geometry.windows
    cuts = [input_ranges(win, axis, chunks) for axis, chunks in enumerate(dy.chunks[2:])]
    reach = [[reaching(win, axis, cut) for cut in ranges] for axis, ranges in enumerate(cuts)]
    options = {"stride": stride, "dilation": dilation, "groups": groups, "algorithm": algorithm}

    def task(filters: Range, inputs: Sequence[Range], outputs: Sequence[Range]) -> Callable[..., Array]:
        pads = tuple(
            pads_around(win, axis, have, seen) for axis, (have, seen) in enumerate(zip(inputs, outputs))
        )
        sizes = (geometry.c, *sizes_of(inputs))
        return partial(_conv_grad_input, filters, sizes, {**options, "padding": pads})

    graph = Graph("conv_grad_input", dy, w, geometry, options)
    return _summed(graph, dy, w, geometry.c, cuts, reach, task)


def _summed(
    graph: Graph,
    source: Any,
    w: Any,
    rows: int,
    cuts: Sequence[Sequence[Range]],
    regions: Sequence[Sequence[Range]],
    task: Callable[[Range, Sequence[Range], Sequence[Range]], Callable[..., Array]],
) -> Any:
    """The result that is cut at `cuts`, each block from a region of the source, summed over channels' chunks.

    `task` makes the function of a block, for some channels of the source, from where the block lies and what
    it is made of.
    """
    channels = ranges_of(source.chunks[1])
    images = ranges_of(source.chunks[0])
    for (c, some), (n, batch) in product(enumerate(channels), enumerate(images)):
        for at, region in grid(regions):
            block = [ranges[i] for ranges, i in zip(cuts, at)]
            parts = [(source, (batch, some, *region)), (w, None)]
            graph.add((c, n, 0, *at), task(some, block, region), parts)
    chunks = (source.chunks[0], (rows,), *(sizes_of(ranges) for ranges in cuts))
    return graph.total(len(channels), chunks, np.result_type(source.dtype, w.dtype))


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
    algorithm: str = "direct",
) -> Any:
    """`windrow.conv_grad_weight` of Dask arrays: partial sums per block of dy, added in a fixed order."""
    dy, x = dask_array("dy", dy), dask_array("x", x)
    shape = shape_argument("w_shape", w_shape)
    geometry = conv_geometry(x.shape, shape, stride, padding, dilation, groups, w_name="w_shape")
    check_shape("dy", dy.shape, geometry.y_shape)
    border = border_seen(geometry.windows, padding_mode, fill, x.dtype)
    if border is not None:
        x = extended(x, border)
        geometry = conv_geometry(x.shape, shape, stride, 0, dilation, groups, w_name="w_shape")
    if geometry.groups > 1:
        dy, x = dy.rechunk({1: -1}), x.rechunk({1: -1})
    win = geometry.windows
    ranges = [ranges_of(chunks) for chunks in dy.chunks[2:]]
    options = {"stride": stride, "dilation": dilation, "groups": groups, "algorithm": algorithm}
    graph = Graph("conv_grad_weight", dy, x, geometry, options)
    function = partial(_conv_grad_weight, win.kernel_size, options)
    blocks = list(product(ranges_of(dy.chunks[0]), *ranges))
    for i, (images, *space) in enumerate(blocks):
        seen = [seen_by(win, axis, cut) for axis, cut in enumerate(space)]
        for (f, filters), (c, channels) in product(
            enumerate(ranges_of(dy.chunks[1])), enumerate(ranges_of(x.chunks[1]))
        ):
            sources = [(dy, (images, filters, *space)), (x, (images, channels, *seen))]
            graph.add((i, f, c, *(0 for _ in space)), function, sources)
    rows = (dy.chunks[1], x.chunks[1]) if geometry.groups == 1 else ((shape[0],), (shape[1],))
    w_chunks = (*rows, *((k,) for k in win.kernel_size))
    return graph.total(len(blocks), w_chunks, np.result_type(dy.dtype, x.dtype))


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
    algorithm: str = "direct",
) -> convolution.ConvGradients:
    """`windrow.conv_backward` of Dask arrays dy and x: lazy (dx, dw, db)."""
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        "padding_mode": padding_mode, "fill": fill, "algorithm": algorithm,
    }  # fmt: skip
    dy, x, w = dask_array("dy", dy), dask_array("x", x), whole("w", w)
    dx = conv_grad_input(dy, w, x.shape, **options)
    dw = conv_grad_weight(dy, x, w.shape, **options)
    return convolution.ConvGradients(dx, dw, dy.sum(axis=(0, *range(2, dy.ndim)), split_every=TREE))


# What a task does, given its parts of the sources


def _conv(channels: Range, options: dict[str, Any], x: Array, w: Array) -> Array:
    own = w if options["groups"] != 1 else w[:, slice(*channels)]
    return convolution.conv(x, own, **options)[None]


def _conv_grad_input(
    filters: Range, sizes: tuple[int, ...], options: dict[str, Any], dy: Array, w: Array
) -> Array:
    own = w if options["groups"] != 1 else w[slice(*filters)]
    return convolution.conv_grad_input(dy, own, (dy.shape[0], *sizes), **options)[None]


def _conv_grad_weight(kernel: Chunks, options: dict[str, Any], dy: Array, x: Array) -> Array:
    shape = (dy.shape[1], x.shape[1] // options["groups"], *kernel)
    return convolution.conv_grad_weight(dy, x, shape, **options)[None]
