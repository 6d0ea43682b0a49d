"""Pools of Dask arrays, and their way back."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any

import numpy as np

from .. import bordered, lp_pooling, pooling
from ..arguments import Shape, shape_argument
from ..arrays import Array
from ..borders import Border
from ..geometry import PoolGeometry, Windows, check_shape, pool_geometry
from .borders import extended, folded_back
from .graph import Graph, dask_array
from .ranges import (
    Chunks,
    Range,
    between,
    grid,
    input_ranges,
    inside,
    output_ranges,
    ranges_of,
    reaching,
    sizes_of,
)

Options = tuple[Any, ...]  # kernel_size, stride, padding, dilation, ceil_mode
Task = Callable[..., Array]


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
) -> Any:
    """`windrow.max_pool` of a Dask array, chunked as x is."""
    x = dask_array("x", x)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, border = _geometry(x.shape, options, padding_mode, fill, x.dtype)
    x = _with(x, border)
    return _pooled("max_pool", x, geometry, lambda *_: _max_pool, x.dtype)


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
) -> pooling.MaxPooled:
    """`windrow.max_pool_with_indices` of a Dask array: numbers of pixels in the whole image."""
    x = dask_array("x", x)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, border = _geometry(x.shape, options, padding_mode, fill, x.dtype)
    x = _with(x, border)
    size = geometry.windows.size

    def task(_: Sequence[Range], pixels: Sequence[Range]) -> Task:
        return partial(_max_indices, size, border, pixels)

    return pooling.MaxPooled(
        _pooled("max_pool", x, geometry, lambda *_: _max_pool, x.dtype),
        _pooled("max_pool_indices", x, geometry, task, np.dtype(np.int64), border),
    )


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
) -> Any:
    """`windrow.avg_pool` of a Dask array, chunked as x is."""
    x = dask_array("x", x)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, border = _geometry(x.shape, options, padding_mode, fill, x.dtype)
    x = _with(x, border)
    counts = pooling.tap_counts(geometry.windows, count_include_pad)

    def task(outputs: Sequence[Range], _: Sequence[Range]) -> Task:
        return partial(_avg_pool, *_divisors(counts, outputs))

    return _pooled("avg_pool", x, geometry, task, x.dtype, count_include_pad)


def lp_pool(
    x: Any,
    kernel_size: Any,
    p: float = 2,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    padding_mode: str | None = None,
    fill: Any = 0,
) -> Any:
    """`windrow.lp_pool` of a Dask array, chunked as x is."""
    x = dask_array("x", x)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, border = _geometry(x.shape, options, padding_mode, fill, x.dtype)
    x = _with(x, border)
    return _pooled("lp_pool", x, geometry, lambda *_: partial(_lp_pool, p), x.dtype, p)


def lp_pool_backward(
    dy: Any,
    x: Any,
    kernel_size: Any,
    p: float = 2,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    padding_mode: str | None = None,
    fill: Any = 0,
) -> Any:
    """`windrow.lp_pool_backward` of Dask arrays dy and x; dx is cut where dy is, at l * stride."""
    dy, x = dask_array("dy", dy), dask_array("x", x)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, border = _geometry(x.shape, options, padding_mode, fill, x.dtype)
    task = partial(_lp_pool_backward, p)
    dx = _spread("lp_pool_backward", dy, geometry, lambda *_: task, p, seen=_with(x, border))
    return dx if border is None else folded_back(dx, border)


def max_pool_backward(
    dy: Any,
    indices: Any,
    x_shape: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    padding_mode: str | None = None,
    fill: Any = 0,
) -> Any:
    """`windrow.max_pool_backward` of Dask arrays dy and indices; dx is cut where dy is, at l * stride.

    The window, which that function does not ask for, says which blocks an index can lead to.
    """
    dy, indices = dask_array("dy", dy), dask_array("indices", indices)
    shape = shape_argument("x_shape", x_shape)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, border = _geometry(shape, options, padding_mode, fill, dy.dtype, "x_shape")
    check_shape("dy", dy.shape, geometry.y_shape)
    check_shape("indices", indices.shape, geometry.y_shape)
    win, size = geometry.windows, shape[2:]
    cuts = [
        between((end * step for _, end in ranges_of(chunks)[:-1]), length)
        for chunks, step, length in zip(dy.chunks[2:], win.stride, size)
    ]
    graph = Graph("max_pool_backward", dy, indices, geometry, border)
    batches, channels = ranges_of(dy.chunks[0]), ranges_of(dy.chunks[1])
    for (n, images), (c, some) in product(enumerate(batches), enumerate(channels)):
        for at, own in grid(cuts):
            outputs = [_leading_to(win, axis, border, cut) for axis, cut in enumerate(own)]
            function = partial(_max_pool_backward, size, own, tuple(len(ranges) for ranges in outputs))
            parts = [(a, (images, some, *part)) for part in product(*outputs) for a in (dy, indices)]
            graph.add((n, c, *at), function, parts)
    return graph.array((*dy.chunks[:2], *(sizes_of(ranges) for ranges in cuts)), dy.dtype)


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
) -> Any:
    """`windrow.avg_pool_backward` of a Dask array dy; dx is cut where dy is, at l * stride."""
    dy = dask_array("dy", dy)
    shape = shape_argument("x_shape", x_shape)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    geometry, border = _geometry(shape, options, padding_mode, fill, dy.dtype, "x_shape")
    counts = pooling.tap_counts(geometry.windows, count_include_pad)

    def task(outputs: Sequence[Range], _: Sequence[Range]) -> Task:
        return partial(_avg_pool_backward, *_divisors(counts, outputs))

    dx = _spread("avg_pool_backward", dy, geometry, task, count_include_pad)
    return dx if border is None else folded_back(dx, border)


def _geometry(
    x_shape: Shape,
    options: Options,
    padding_mode: Any,
    fill: Any,
    dtype: np.dtype[Any],
    x_name: str = "x",
) -> tuple[PoolGeometry, Border | None]:
    """A pooling's geometry, without padding on images with their border where padding is made of pixels."""
    if padding_mode is None and type(fill) is int and fill == 0:
        return pool_geometry(x_shape, *options, x_name=x_name), None
    mode = bordered.Mode(padding_mode, fill)
    problem = bordered._pool_problem(x_shape, _named(options), mode, dtype, x_name)
    return problem.geometry, problem.border if problem.geometry.windows.positions else None


def _with(x: Any, border: Border | None) -> Any:
    return x if border is None else extended(x, border)


def _leading_to(win: Windows, axis: int, border: Border | None, own: Range) -> list[Range]:
    """Ranges of outputs, apart and in order, whose windows see some pixels or a place that repeats them."""
    places = [own]
    if border is not None:
        at = np.flatnonzero((border.tables[axis] >= own[0]) & (border.tables[axis] < own[1]))
        runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
        places = [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]
    count, found = win.output_size[axis], [(0, 0)]
    for run in places:
        low, high = (min(max(end, 0), count) for end in reaching(win, axis, run))
        if low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return [run for run in found if run[0] < run[1]] or [(0, 0)]


def _divisors(counts: Sequence[Array], outputs: Sequence[Range]) -> tuple[float, list[Array] | None]:
    """What a block divides by, as the whole would: one number, or 1 and the counts along every axis.

    That decides whether a gradient is divided before it is summed, and so its bits.
    """
    if all(count.size and np.all(count == count[0]) for count in counts):
        return float(max(prod(int(count[0]) for count in counts), 1)), None
    return 1.0, [count[slice(*some)] for count, some in zip(counts, outputs)]


def _pooled(
    name: str,
    x: Any,
    geometry: PoolGeometry,
    task: Callable[[Sequence[Range], Sequence[Range]], Task],
    dtype: np.dtype[Any],
    *more: Any,
) -> Any:
    """The result whose blocks are task(outputs, pixels)(options of the block, part of x).

    `more` is what the result depends on besides x and the geometry.
    """
    win = geometry.windows
    cuts = [output_ranges(win, axis, chunks) for axis, chunks in enumerate(x.chunks[2:])]
    graph = Graph(name, x, geometry, *more)
    batches, channels = ranges_of(x.chunks[0]), ranges_of(x.chunks[1])
    for (n, images), (c, some) in product(enumerate(batches), enumerate(channels)):
        for at, outputs in grid(cuts):
            pixels, options = _block(win, outputs)
            graph.add((n, c, *at), partial(task(outputs, pixels), options), [(x, (images, some, *pixels))])
    return graph.array((*x.chunks[:2], *(sizes_of(ranges) for ranges in cuts)), dtype)


def _spread(
    name: str,
    dy: Any,
    geometry: PoolGeometry,
    task: Callable[[Sequence[Range], Sequence[Range]], Task],
    *more: Any,
    seen: Any = None,
) -> Any:
    """Blocks of dx, cut from what all windows that reach them give to the pixels that those see.

    Of dy a block takes these windows, of `seen` the pixels.
    """
    check_shape("dy", dy.shape, geometry.y_shape)
    win = geometry.windows
    cuts = [input_ranges(win, axis, chunks) for axis, chunks in enumerate(dy.chunks[2:])]
    graph = Graph(name, dy, *([] if seen is None else [seen]), geometry, *more)
    batches, channels = ranges_of(dy.chunks[0]), ranges_of(dy.chunks[1])
    for (n, images), (c, some) in product(enumerate(batches), enumerate(channels)):
        for at, inputs in grid(cuts):
            reach = (reaching(win, axis, cut) for axis, cut in enumerate(inputs))
            outputs = tuple(
                (min(max(low, 0), count), min(max(high, 0), count))
                for (low, high), count in zip(reach, win.output_size)
            )
            pixels, options = _block(win, outputs)
            function = partial(_cut_from, task(outputs, pixels), inputs, pixels, options)
            parts = [(dy, (images, some, *outputs))]
            if seen is not None:
                parts.append((seen, (images, some, *pixels)))
            graph.add((n, c, *at), function, parts)
    return graph.array((*dy.chunks[:2], *(sizes_of(ranges) for ranges in cuts)), dy.dtype)


def _block(win: Windows, outputs: Sequence[Range]) -> tuple[tuple[Range, ...], Options]:
    """The pixels under the windows of some outputs, and the options of a call for just those."""
    found = [inside(win, axis, some) for axis, some in enumerate(outputs)]
    pads = tuple(pads for _, pads in found)
    return tuple(pixels for pixels, _ in found), (win.kernel_size, win.stride, pads, win.dilation, False)


# What a task does, given its parts of the sources


def _named(options: Options) -> dict[str, Any]:
    return dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), options))


def _max_pool(options: Options, x: Array) -> Array:
    return pooling.max_pool(x, **_named(options))


def _lp_pool(p: float, options: Options, x: Array) -> Array:
    return lp_pooling.lp_pool(x, p=p, **_named(options))


def _max_indices(
    size: Chunks, border: Border | None, pixels: Sequence[Range], options: Options, x: Array
) -> Array:
    indices = pooling.max_pool_with_indices(x, **_named(options)).indices
    indices = moved(indices, x.shape[2:], size, [low for low, _ in pixels])
    if border is None:
        return indices
    return _renumbered(indices, border.padded, border.size, [table.take for table in border.tables])


def _avg_pool(divisor: float, counts: list[Array] | None, options: Options, x: Array) -> Array:
    sums = pooling.sum_pool(x, options, divisor)
    return sums if counts is None else sums / pooling.outer(counts).astype(sums.dtype)


def _lp_pool_backward(p: float, _: Chunks, options: Options, dy: Array, x: Array) -> Array:
    return lp_pooling.lp_pool_backward(dy, x, p=p, **_named(options))


def _max_pool_backward(size: Chunks, own: Sequence[Range], counts: Chunks, *parts: Array) -> Array:
    """A block of dx from dy and indices of the windows that may lead to it: pairs of parts, row-major."""
    dy, indices = (_joined(parts[which::2], counts) for which in (0, 1))
    return put_inside(dy, indices, size, own)


def _joined(parts: Sequence[Array], counts: Chunks) -> Array:
    """One array of parts in row-major order, so many of them along each spatial axis."""
    for axis, count in reversed(list(enumerate(counts, start=2))):
        parts = [np.concatenate(parts[i : i + count], axis) for i in range(0, len(parts), count)]
    return parts[0]


def put_inside(dy: Array, indices: Array, size: Chunks, own: Sequence[Range]) -> Array:
    """A block of dx: those dy whose index, a row-major number in the image, leads to a pixel of the block."""
    pooling._refuse_indices(indices, (*dy.shape[:2], *size))
    shape = (*dy.shape[:2], *sizes_of(own))
    return pooling.max_pool_backward(dy, moved(indices, size, shape[2:], [-low for low, _ in own]), shape)


def _avg_pool_backward(
    divisor: float, counts: list[Array] | None, shape: Chunks, options: Options, dy: Array
) -> Array:
    shares = dy if counts is None else dy / pooling.outer(counts).astype(dy.dtype)
    return pooling.sum_pool_backward(shares, shape, options, divisor)


def moved(indices: Array, size: Chunks, to_size: Chunks, by: Sequence[int]) -> Array:
    """Row-major numbers of pixels in another image, whose origin lies elsewhere; -1 where that has none."""
    return _renumbered(indices, size, to_size, [partial(np.add, step) for step in by])


def _renumbered(
    indices: Array, size: Chunks, to_size: Chunks, along: Sequence[Callable[[Array], Array]]
) -> Array:
    """Numbers in another image, given where places go along each axis; -1 for none, and for those outside."""
    none = indices < 0
    if none.all():
        return indices
    places = [
        to(place) for to, place in zip(along, np.unravel_index(np.where(none, 0, indices), size), strict=True)
    ]
    for place, length in zip(places, to_size):
        none |= (place < 0) | (place >= length)
    return np.where(none, -1, np.ravel_multi_index(places, to_size, mode="clip"))


def _cut_from(
    function: Callable[..., Array],
    inputs: Sequence[Range],
    pixels: Sequence[Range],
    options: Options,
    *sources: Array,
) -> Array:
    """The part of dx that is wanted, zero where no window reaches."""
    dy = sources[0]
    dx = np.zeros((*dy.shape[:2], *sizes_of(inputs)), dy.dtype)
    common = [(max(a, b), min(c, d)) for (a, c), (b, d) in zip(inputs, pixels)]
    if dy.size and all(low < high for low, high in common):
        region = function((*dy.shape[:2], *sizes_of(pixels)), options, *sources)
        target, source = (
            tuple(slice(low - start, high - start) for (low, high), (start, _) in zip(common, ranges))
            for ranges in (inputs, pixels)
        )
        dx[(slice(None), slice(None), *target)] = region[(slice(None), slice(None), *source)]
    return dx
