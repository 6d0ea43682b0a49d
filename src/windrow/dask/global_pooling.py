"""Global pools of Dask arrays: every chunk gives one value for a channel, and these are brought together."""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from .. import global_pooling, pooling
from ..arguments import shape_argument
from ..arrays import Array
from ..geometry import check_shape
from .graph import dask_array
from .pooling import moved, put_inside
from .ranges import Chunks


def global_avg_pool(x: Any) -> Any:
    """`windrow.global_avg_pool` of a Dask array. Chunks that cut the image sum apart, in row-major order."""
    x = dask_array("x", x)
    size = global_pooling.whole("x", x.shape)
    if all(len(chunks) == 1 for chunks in x.chunks[2:]):
        return _of_chunks(x, global_pooling.global_avg_pool)
    return _together(partial(_mean, prod(size)), _of_chunks(x, _sum), dtype=x.dtype)


def global_avg_pool_backward(dy: Any, x_shape: Sequence[int], *, chunks: Any = "auto") -> Any:
    """`windrow.global_avg_pool_backward` of a Dask array dy; `chunks` are those of dx's spatial axes."""
    dy = dask_array("dy", dy)
    shape, chunked = _spatial(dy, x_shape, chunks)
    shares = _mapped(partial(_share, prod(shape[2:])), dy, dtype=dy.dtype, chunks=dy.chunks)
    return da.broadcast_to(shares, shape, chunks=(*dy.chunks[:2], *chunked))


def global_max_pool(x: Any) -> Any:
    """`windrow.global_max_pool` of a Dask array."""
    return global_max_pool_with_indices(x).y


def global_max_pool_with_indices(x: Any) -> pooling.MaxPooled:
    """`windrow.global_max_pool_with_indices` of a Dask array: numbers of pixels in the whole image."""
    x = dask_array("x", x)
    size = global_pooling.whole("x", x.shape)
    values = _of_chunks(x, global_pooling.global_max_pool)
    places = _of_chunks(x, partial(_places, size), np.dtype(np.int64))
    both = enumerate((values, places))
    first = [_together(partial(_first, i), values, places, dtype=part.dtype) for i, part in both]
    return pooling.MaxPooled(*first)


def global_max_pool_backward(dy: Any, indices: Any, x_shape: Sequence[int], *, chunks: Any = "auto") -> Any:
    """`windrow.global_max_pool_backward` of Dask arrays; `chunks` are those of dx's spatial axes."""
    dy, indices = dask_array("dy", dy), dask_array("indices", indices)
    shape, chunked = _spatial(dy, x_shape, chunks)
    check_shape("indices", indices.shape, dy.shape)
    each = (*dy.chunks[:2], *((1,) * len(own) for own in chunked))  # one value for every chunk of dx
    wide = (*shape[:2], *(len(own) for own in chunked))
    both = [da.broadcast_to(a, wide, chunks=each) for a in (dy, indices.rechunk(dy.chunks))]
    function = partial(_put, shape[2:])
    return _mapped(function, *both, dtype=dy.dtype, chunks=(*dy.chunks[:2], *chunked))


def _of_chunks(x: Any, function: Any, dtype: Any = None) -> Any:
    """What a function makes of every chunk, one value for each channel of it."""
    chunks = (*x.chunks[:2], *((1,) * len(own) for own in x.chunks[2:]))
    return _mapped(function, x, dtype=dtype or x.dtype, chunks=chunks)


def _mapped(function: Any, *parts: Any, dtype: Any, chunks: Any) -> Any:
    meta = np.empty((0,) * len(chunks), dtype)  # else Dask would try the function on nothing
    return da.map_blocks(function, *parts, dtype=dtype, chunks=chunks, meta=meta)


def _together(function: Any, *parts: Any, dtype: Any) -> Any:
    """One value for each channel from those of all chunks."""
    spatial = dict.fromkeys(range(2, parts[0].ndim), -1)
    whole = [part.rechunk(spatial) for part in parts]
    chunks = (*parts[0].chunks[:2], *((1,) for _ in spatial))
    return _mapped(function, *whole, dtype=dtype, chunks=chunks)


def _spatial(dy: Any, x_shape: Sequence[int], chunks: Any) -> tuple[Chunks, tuple[Chunks, ...]]:
    shape = shape_argument("x_shape", x_shape)
    size = global_pooling.whole("x_shape", shape)
    check_shape("dy", dy.shape, (*shape[:2], *(1 for _ in size)))
    spatial = chunks if isinstance(chunks, tuple) else (chunks,) * len(size)
    normal = da.core.normalize_chunks((*dy.chunks[:2], *spatial), shape, dtype=dy.dtype)
    return shape, normal[2:]


# What a task does


def _sum(x: Array) -> Array:
    return pooling.sum_pool(x, (x.shape[2:], 1, 0, 1, False), 1.0)


def _mean(count: int, sums: Array) -> Array:
    total = np.zeros(sums.shape[:2], sums.dtype)
    for part in np.moveaxis(sums.reshape(*sums.shape[:2], prod(sums.shape[2:])), -1, 0):
        total = total + part
    return (total / sums.dtype.type(count)).reshape(*sums.shape[:2], *(1 for _ in sums.shape[2:]))


def _share(count: int, dy: Array) -> Array:
    return (dy + dy.dtype.type(0)) / dy.dtype.type(count)  # of -0 too the sum starts at 0


def _places(size: Chunks, x: Array, block_info: Any) -> Array:
    low = [start for start, _ in block_info[0]["array-location"][2:]]
    return moved(global_pooling.global_max_pool_with_indices(x).indices, x.shape[2:], size, low)


def _first(which: int, values: Array, places: Array) -> Array:
    """The greatest value, or its place: of several, and of NaN, the one with the lowest number."""
    flat, numbers = (a.reshape(*a.shape[:2], prod(a.shape[2:])) for a in (values, places))
    best = np.isnan(flat) | (flat == flat.max(axis=-1, keepdims=True))
    best &= np.isnan(flat) | ~np.isnan(flat).any(axis=-1, keepdims=True)
    chosen = np.where(best, numbers, np.iinfo(np.int64).max).argmin(axis=-1)[..., None]
    result = np.take_along_axis((flat, numbers)[which], chosen, axis=-1)
    return result.reshape(*values.shape[:2], *(1 for _ in values.shape[2:]))


def _put(size: Chunks, dy: Array, indices: Array, block_info: Any) -> Array:
    return put_inside(dy, indices, size, block_info[None]["array-location"][2:])
