"""windrow on Dask arrays: convolution, its gradients and patches of what is larger than memory or a machine.

>>> import dask.array as da
>>> import numpy as np
>>> import windrow as wr
>>> from windrow.dask import conv
>>> x = np.random.default_rng(0).standard_normal((2, 3, 20, 20))
>>> w = np.ones((4, 3, 3, 3))
>>> y = conv(da.from_array(x, chunks=(1, 3, 7, 20)), w, stride=2, padding=1)
>>> y.chunks
((1, 1), (4,), (4, 3, 3), (10,))
>>> np.array_equal(y.compute(), wr.conv(x, w, stride=2, padding=1, algorithm="direct"))
True

A block of a result is computed from just the part of the input that its windows see, zeros where that lies
outside, so that halo and phase of the stride are exact at every seam. Chunks of images and spatial axes
change no bit of y, dx, unfold and fold. Where chunks cut an axis that is summed over (input channels for y;
filters for dx; images and positions for dw), their partial sums are added in a tree of fixed order. With
groups, axes of channels are brought into one chunk first; so are weights.

Needs Dask (``pip install 'windrow[dask]'``).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise, product
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from . import convolution, unfolding
from .arguments import shape_argument
from .arrays import Array
from .geometry import Windows, check_shape, conv_geometry, fold_windows, patch_geometry

__all__ = ["conv", "conv_backward", "conv_grad_input", "conv_grad_weight", "fold", "unfold"]

Range = tuple[int, int]
Chunks = tuple[int, ...]

_TREE = 8  # partial sums that are added in one task


def conv(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    algorithm: str = "direct",
) -> Any:
    """`windrow.conv` of a Dask array x.

    y is chunked along images and space as x is: an output l belongs to the chunk that l * stride lies in.
    """
    x, w = _dask("x", x), _whole("w", w)
    geometry = conv_geometry(x.shape, w.shape, stride, padding, dilation, groups)
    if geometry.groups > 1:
        x = x.rechunk({1: -1})
    win = geometry.windows
    cuts = [_output_ranges(win, axis, chunks) for axis, chunks in enumerate(x.chunks[2:])]
    sees = [[_seen(win, axis, cut) for cut in ranges] for axis, ranges in enumerate(cuts)]
    options = {"stride": stride, "dilation": dilation, "groups": groups, "algorithm": algorithm}
    channels = _ranges(x.chunks[1])
    graph = _Graph("conv", x, w, geometry, options)
    for c, some in enumerate(channels):
        for n, images in enumerate(_ranges(x.chunks[0])):
            for at, space in _grid(sees):
                graph.add(
                    (c, n, 0, *at), partial(_conv, some, options), [(x, (images, some, *space)), (w, None)]
                )
    y_chunks = (x.chunks[0], (geometry.k,), *(_sizes(ranges) for ranges in cuts))
    y = graph.total(len(channels), y_chunks, np.result_type(x.dtype, w.dtype))
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
    algorithm: str = "direct",
) -> Any:
    """`windrow.conv_grad_input` of a Dask array dy; dx is cut where dy is, at l * stride."""
    dy, w = _dask("dy", dy), _whole("w", w)
    shape = shape_argument("x_shape", x_shape)
    geometry = conv_geometry(shape, w.shape, stride, padding, dilation, groups, x_name="x_shape")
    check_shape("dy", dy.shape, geometry.y_shape)
    if geometry.groups > 1:
        dy = dy.rechunk({1: -1})
    win = geometry.windows
    cuts = [_input_ranges(win, axis, chunks) for axis, chunks in enumerate(dy.chunks[2:])]
    reach = [[_reaching(win, axis, cut) for cut in ranges] for axis, ranges in enumerate(cuts)]
    options = {"stride": stride, "dilation": dilation, "groups": groups, "algorithm": algorithm}
    filters = _ranges(dy.chunks[1])
    graph = _Graph("conv_grad_input", dy, w, geometry, options)
    for f, some in enumerate(filters):
        for n, images in enumerate(_ranges(dy.chunks[0])):
            for at, space in _grid(reach):
                inside = [ranges[i] for ranges, i in zip(cuts, at)]
                pads = tuple(
                    _pads_around(win, axis, have, seen)
                    for axis, (have, seen) in enumerate(zip(inside, space))
                )
                sizes = (geometry.c, *_sizes(inside))
                function = partial(_conv_grad_input, some, sizes, {**options, "padding": pads})
                graph.add((f, n, 0, *at), function, [(dy, (images, some, *space)), (w, None)])
    x_chunks = (dy.chunks[0], (geometry.c,), *(_sizes(ranges) for ranges in cuts))
    return graph.total(len(filters), x_chunks, np.result_type(dy.dtype, w.dtype))


def conv_grad_weight(
    dy: Any,
    x: Any,
    w_shape: Sequence[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    algorithm: str = "direct",
) -> Any:
    """`windrow.conv_grad_weight` of Dask arrays: partial sums per block of dy, added in a fixed order."""
    dy, x = _dask("dy", dy), _dask("x", x)
    shape = shape_argument("w_shape", w_shape)
    geometry = conv_geometry(x.shape, shape, stride, padding, dilation, groups, w_name="w_shape")
    check_shape("dy", dy.shape, geometry.y_shape)
    if geometry.groups > 1:
        dy, x = dy.rechunk({1: -1}), x.rechunk({1: -1})
    win = geometry.windows
    ranges = [_ranges(chunks) for chunks in dy.chunks[2:]]
    options = {"stride": stride, "dilation": dilation, "groups": groups, "algorithm": algorithm}
    graph = _Graph("conv_grad_weight", dy, x, geometry, options)
    function = partial(_conv_grad_weight, win.kernel_size, options)
    blocks = list(product(_ranges(dy.chunks[0]), *ranges))
    for i, (images, *space) in enumerate(blocks):
        seen = [_seen(win, axis, cut) for axis, cut in enumerate(space)]
        for (f, filters), (c, channels) in product(
            enumerate(_ranges(dy.chunks[1])), enumerate(_ranges(x.chunks[1]))
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
    algorithm: str = "direct",
) -> convolution.ConvGradients:
    """`windrow.conv_backward` of Dask arrays dy and x: lazy (dx, dw, db)."""
    options = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "algorithm": algorithm,
    }  # fmt: skip
    dy, x, w = _dask("dy", dy), _dask("x", x), _whole("w", w)
    dx = conv_grad_input(dy, w, x.shape, **options)
    dw = conv_grad_weight(dy, x, w.shape, **options)
    return convolution.ConvGradients(dx, dw, dy.sum(axis=(0, *range(2, dy.ndim)), split_every=_TREE))


def unfold(
    x: Any, kernel_size: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, fill: Any = 0
) -> Any:
    """`windrow.unfold` of a Dask array to (N, C, kernel..., positions...), chunked as x is.

    Axes of windows and of positions stay apart: chunks of positions that share an axis would have gaps.
    """
    x = _dask("x", x)
    geometry = patch_geometry(x.shape, kernel_size, stride, padding, dilation)
    win = geometry.windows
    cuts = [_output_ranges(win, axis, chunks) for axis, chunks in enumerate(x.chunks[2:])]
    sees = [[_seen(win, axis, cut) for cut in ranges] for axis, ranges in enumerate(cuts)]
    graph = _Graph("unfold", x, geometry, fill)
    function = partial(_unfold, win.kernel_size, {"stride": stride, "dilation": dilation})
    for (n, images), (c, channels) in product(
        enumerate(_ranges(x.chunks[0])), enumerate(_ranges(x.chunks[1]))
    ):
        for at, space in _grid(sees):
            index = (n, c, *(0 for _ in at), *at)
            graph.add(index, function, [(x, (images, channels, *space))], fill=fill)
    kernel = tuple((k,) for k in win.kernel_size)
    return graph.array((*x.chunks[:2], *kernel, *(_sizes(ranges) for ranges in cuts)), x.dtype)


def fold(
    cols: Any,
    output_size: Sequence[int],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    reduce: str = "sum",
) -> Any:
    """`windrow.fold` of Dask columns (N, C, kernel..., positions...) by "sum" or "mean"."""
    cols = _dask("cols", cols)
    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce: expected 'sum' or 'mean', got {reduce!r}")
    win = fold_windows(output_size, kernel_size, stride, padding, dilation)
    check_shape("cols", cols.shape, (*cols.shape[:2], *win.kernel_size, *win.output_size))
    cols = cols.rechunk(dict.fromkeys(range(2, 2 + win.rank), -1))
    cuts = [_input_ranges(win, axis, chunks) for axis, chunks in enumerate(cols.chunks[2 + win.rank :])]
    graph = _Graph("fold", cols, win, reduce)
    options = {"stride": win.stride, "dilation": win.dilation}
    for (n, images), (c, channels) in product(
        enumerate(_ranges(cols.chunks[0])), enumerate(_ranges(cols.chunks[1]))
    ):
        for at, inside in _grid(cuts):
            # Windows that begin in the image or before it; the others would bring zeros of no sign.
            reach = [_reaching(win, axis, cut) for axis, cut in enumerate(inside)]
            there = [
                (min(max(low, 0), count), min(max(high, 0), count))
                for (low, high), count in zip(reach, win.output_size)
            ]
            starts = [
                low * step - before for (low, _), step, (before, _) in zip(there, win.stride, win.padding)
            ]
            taken = [(i - start, j - start) for (i, j), start in zip(inside, starts)]
            counts = (
                [_coverage(win, axis, cut) for axis, cut in enumerate(inside)] if reduce == "mean" else None
            )
            function = partial(_fold, win.kernel_size, options, taken, counts)
            kernel = tuple((0, k) for k in win.kernel_size)
            graph.add((n, c, *at), function, [(cols, (images, channels, *kernel, *there))])
    return graph.array((*cols.chunks[:2], *(_sizes(ranges) for ranges in cuts)), cols.dtype)


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
        covered = np.ones((), cols.dtype)
        for count in counts:
            covered = covered[..., None] * count
        result /= np.maximum(covered, 1)
    return result


# Ranges of positions along one axis


def _seen(win: Windows, axis: int, outputs: Range) -> Range:
    """Source positions that the windows of some outputs see; they may lie outside the image."""
    first, last = outputs
    stride, before = win.stride[axis], win.padding[axis][0]
    return first * stride - before, (last - 1) * stride - before + _width(win, axis)


def _width(win: Windows, axis: int) -> int:
    return win.dilation[axis] * (win.kernel_size[axis] - 1) + 1


def _reaching(win: Windows, axis: int, inputs: Range) -> Range:
    """Outputs whose windows may see some inputs, from one at or before the first to one past the last."""
    stride, before = win.stride[axis], win.padding[axis][0]
    width = _width(win, axis)
    first, last = inputs[0] + before, inputs[1] - 1 + before
    low = min(-((width - 1 - first) // stride), first // stride)
    high = max(last // stride, -((width - 1 - last) // stride))
    return low, high + 1


def _pads_around(win: Windows, axis: int, inputs: Range, outputs: Range) -> Range:
    """The padding with which some inputs have exactly these outputs."""
    low, high = _seen(win, axis, outputs)
    return inputs[0] - low, high - inputs[1]


def _coverage(win: Windows, axis: int, inputs: Range) -> Array:
    """How many windows cover each of some inputs."""
    ones = np.ones((1, 1, win.size[axis]))
    sizes: dict[str, Any] = {
        "stride": win.stride[axis], "dilation": win.dilation[axis], "padding": (win.padding[axis],),
    }  # fmt: skip
    kernel = win.kernel_size[axis]
    counts = unfolding.fold(unfolding.unfold(ones, kernel, **sizes), (win.size[axis],), kernel, **sizes)
    return counts[0, 0, slice(*inputs)]


def _ranges(chunks: Iterable[int]) -> list[Range]:
    ends = np.cumsum([0, *chunks]).tolist()
    return list(pairwise(ends))


def _sizes(ranges: Iterable[Range]) -> Chunks:
    return tuple(high - low for low, high in ranges)


def _between(ends: Iterable[int], total: int) -> list[Range]:
    """Ranges from 0 to total with seams at `ends`, none of them empty (unless the axis is)."""
    seams = sorted({0, total, *(min(end, total) for end in ends)})
    return list(pairwise(seams)) or [(0, 0)]


def _output_ranges(win: Windows, axis: int, chunks: Chunks) -> list[Range]:
    """Outputs by the chunk that l * stride lies in."""
    stride = win.stride[axis]
    return _between((-(-end // stride) for _, end in _ranges(chunks)[:-1]), win.output_size[axis])


def _input_ranges(win: Windows, axis: int, chunks: Chunks) -> list[Range]:
    """Inputs by the chunk of outputs whose l * stride comes at or before them."""
    return _between((end * win.stride[axis] for _, end in _ranges(chunks)[:-1]), win.size[axis])


def _grid(axes: Sequence[Sequence[Range]]) -> Iterable[tuple[Chunks, tuple[Range, ...]]]:
    """Every combination of one range per axis, with its place."""
    for combination in product(*(list(enumerate(ranges)) for ranges in axes)):
        yield tuple(i for i, _ in combination), tuple(cut for _, cut in combination)


# The graph


def _dask(name: str, value: Any) -> Any:
    if not isinstance(value, da.Array):
        raise TypeError(f"{name}: expected a dask.array.Array, got {type(value).__name__}")
    if any(np.isnan(size) for size in value.shape):
        raise ValueError(
            f"{name}: expected known chunk sizes, got {value.shape}; call compute_chunk_sizes() first"
        )
    return value


def _whole(name: str, value: Any) -> Any:
    """Weights, in one chunk: a NumPy array, or a Dask array."""
    return (value if isinstance(value, da.Array) else da.asarray(np.asarray(value))).rechunk(-1)


class _Graph:
    """Tasks of one result, each made of rectangular parts of some Dask arrays."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.sources = [argument for argument in arguments if isinstance(argument, da.Array)]
        self.name = f"windrow-{name}-{tokenize(*arguments)}"
        self.tasks: dict[tuple[Any, ...], Any] = {}

    def add(
        self,
        index: Chunks,
        function: Callable[..., Array],
        parts: Sequence[tuple[Any, tuple[Range, ...] | None]],
        fill: Any = 0,
    ) -> None:
        """Compute block `index` as function(part, ...); a part is a range per axis, or None for all of it."""
        keys, makers = [], []
        for source, region in parts:
            cut = region or tuple((0, size) for size in source.shape)
            part_keys, places = _overlaps(source, cut)
            makers.append((len(part_keys), partial(_assemble, _sizes(cut), source.dtype, fill, places)))
            keys += part_keys
        self.tasks[(self.name, *index)] = (partial(_run, function, makers), keys)

    def array(self, chunks: tuple[Chunks, ...], dtype: Any) -> Any:
        """The Dask array of these blocks."""
        graph = HighLevelGraph.from_collections(self.name, self.tasks, dependencies=self.sources)
        return da.Array(graph, self.name, chunks, dtype=dtype)

    def total(self, parts: int, chunks: tuple[Chunks, ...], dtype: Any) -> Any:
        """Sum over the first axis of the blocks, which numbers partial sums."""
        partials = self.array(((1,) * parts, *chunks), dtype)
        return partials[0] if parts == 1 else partials.sum(axis=0, split_every=_TREE, dtype=dtype)


def _overlaps(source: Any, region: tuple[Range, ...]) -> tuple[list[Any], list[Any]]:
    """The chunks that a region overlaps: their keys, and for each which part goes where."""
    along = []
    for chunks, (low, high) in zip(source.chunks, region):
        found = []
        for i, (start, stop) in enumerate(_ranges(chunks)):
            first, last = max(start, low), min(stop, high)
            if first < last:
                found.append((i, slice(first - start, last - start), slice(first - low, last - low)))
        along.append(found)
    keys, places = [], []
    for combination in product(*along):
        keys.append((source.name, *(i for i, _, _ in combination)))
        places.append((tuple(part for _, part, _ in combination), tuple(to for _, _, to in combination)))
    return keys, places


def _assemble(shape: Chunks, dtype: Any, fill: Any, places: list[Any], chunks: list[Array]) -> Array:
    if len(places) == 1:
        part = chunks[0][places[0][0]]
        if part.shape == shape:
            return part
    whole = np.full(shape, fill, dtype)
    for (source, target), chunk in zip(places, chunks):
        whole[target] = chunk[source]
    return whole


def _run(function: Callable[..., Array], makers: list[Any], chunks: list[Array]) -> Array:
    parts = []
    for count, maker in makers:
        parts.append(maker(chunks[:count]))
        chunks = chunks[count:]
    return function(*parts)
