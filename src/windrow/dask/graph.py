"""The graph of a result: blocks, each computed from rectangular parts of Dask arrays."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ..arrays import Array
from .ranges import Chunks, Range, ranges_of, sizes_of

TREE = (
    2  # partial sums added in one task: with more, Dask runs blocks in an order that holds ever more chunks
)


def dask_array(name: str, value: Any) -> Any:
    """An argument, which must be a Dask array of known chunks."""
    if not isinstance(value, da.Array):
        raise TypeError(f"{name}: expected a dask.array.Array, got {type(value).__name__}")
    if any(np.isnan(size) for size in value.shape):
        raise ValueError(
            f"{name}: expected known chunk sizes, got {value.shape}; call compute_chunk_sizes() first"
        )
    return value


def whole(name: str, value: Any) -> Any:
    """Weights, in one chunk: a NumPy array, or a Dask array."""
    return (value if isinstance(value, da.Array) else da.asarray(np.asarray(value))).rechunk(-1)


class Graph:
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
            makers.append((len(part_keys), partial(_assemble, sizes_of(cut), source.dtype, fill, places)))
            keys += part_keys
        self.tasks[(self.name, *index)] = (partial(_run, function, makers), keys)

    def array(self, chunks: tuple[Chunks, ...], dtype: Any) -> Any:
        """The Dask array of these blocks."""
        graph = HighLevelGraph.from_collections(self.name, self.tasks, dependencies=self.sources)
        return da.Array(graph, self.name, chunks, dtype=dtype)

    def total(self, parts: int, chunks: tuple[Chunks, ...], dtype: Any) -> Any:
        """Sum over the first axis of the blocks, which numbers partial sums."""
        partials = self.array(((1,) * parts, *chunks), dtype)
        return partials[0] if parts == 1 else partials.sum(axis=0, split_every=TREE, dtype=dtype)


def _overlaps(source: Any, region: tuple[Range, ...]) -> tuple[list[Any], list[Any]]:
    """The chunks that a region overlaps: their keys, and for each which part goes where."""
    along = []
    for chunks, (low, high) in zip(source.chunks, region):
        found = []
        for i, (start, stop) in enumerate(ranges_of(chunks)):
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
