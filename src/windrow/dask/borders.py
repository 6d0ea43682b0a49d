"""Borders of pixels around Dask arrays, and their adjoint."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise, product
from typing import Any

import dask.array as da
import numpy as np

from ..arrays import Array
from ..borders import Border, border_of, is_plain
from ..geometry import Windows
from .graph import Graph
from .ranges import Range, ranges_of


def border_seen(windows: Windows, padding_mode: Any, fill: Any, dtype: np.dtype[Any]) -> Border | None:
    """The border of pixels, if padding is not just zeros and a window sees any of it."""
    if is_plain(padding_mode, fill):
        return None
    border = border_of(windows, padding_mode, fill, dtype)
    return border if windows.positions else None


def extended(x: Any, border: Border) -> Any:
    """Images with their border; what lies in it belongs to the first and the last chunk of its axis."""
    for axis, (table, (before, after)) in enumerate(zip(border.tables, border.padding), start=2):
        size = len(table) - before - after
        parts = [_strip(x, axis, table[:before], border), x, _strip(x, axis, table[before + size :], border)]
        own = list(x.chunks[axis])
        x = da.concatenate([part for part in parts if part.shape[axis]], axis=axis)
        own[0] += before
        own[-1] += after
        x = x.rechunk({axis: tuple(own)})
    return x


def _strip(x: Any, axis: int, table: Array, border: Border) -> Any:
    if border.mode == "constant":
        shape = (*x.shape[:axis], len(table), *x.shape[axis + 1 :])
        chunks = (*x.chunks[:axis], (len(table),), *x.chunks[axis + 1 :])
        return da.full(shape, border.fill, dtype=x.dtype, chunks=chunks)
    return da.take(x, table, axis=axis)


def folded_back(dx: Any, border: Border) -> Any:
    """The adjoint: what lies in the border is added to the pixels that it repeats.

    Axis by axis from the last to the first, places in ascending order, as in one piece, to the bit.
    """
    for i in reversed(range(len(border.size))):
        dx = _folded_along(dx, 2 + i, border.tables[i], border.padding[i], border.mode)
    return dx


def _folded_along(dx: Any, axis: int, table: Array, pads: Range, mode: str) -> Any:
    before, after = pads
    inside = (before, len(table) - after)
    if inside == (0, len(table)):
        return dx
    # Seams where those of dx are, in pixels of the image.
    seams = {min(max(end, inside[0]), inside[1]) - before for end in accumulate(dx.chunks[axis])}
    ends = sorted(seams | {0, inside[1] - before})
    cuts = list(pairwise(ends))
    chunks = list(dx.chunks)
    chunks[axis] = tuple(high - low for low, high in cuts)
    graph = Graph("folded_back", dx, axis, pads, mode)
    grids = [list(enumerate(cuts if a == axis else ranges_of(c))) for a, c in enumerate(dx.chunks)]
    for combination in product(*grids):
        index, region = (tuple(part) for part in zip(*combination))
        own = [
            (low + before, high + before) if a == axis else (low, high)
            for a, (low, high) in enumerate(region)
        ]
        sides = [_replaced(region, axis, side) for side in ((0, before), (inside[1], len(table)))]
        places = None if mode == "constant" else table - region[axis][0]
        function = partial(_add_border, axis, places, before)
        graph.add(index, function, [(dx, part) for part in (tuple(own), *sides)])
    return graph.array(tuple(chunks), dx.dtype)


def _replaced(region: Sequence[Range], axis: int, by: Range) -> tuple[Range, ...]:
    return (*region[:axis], by, *region[axis + 1 :])


def _add_border(axis: int, table: Array | None, before: int, own: Array, first: Array, last: Array) -> Array:
    """A block of pixels with what places before and after the image, at `table` in the block, add to it."""
    if table is None:
        return own
    total = np.array(own)
    lead: tuple[Any, ...] = (slice(None),) * axis
    places = [(table[i], first[(*lead, i)]) for i in range(before)]
    after = last.shape[axis]
    places += [(table[len(table) - after + i], last[(*lead, i)]) for i in range(after)]
    with np.errstate(all="ignore"):
        for place, values in places:
            if 0 <= place < total.shape[axis]:
                total[(*lead, place)] += values
    return total
