"""Ranges of positions along one axis: what windows see, and where chunks cut."""

from collections.abc import Iterable, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np

from .. import unfolding
from ..arrays import Array
from ..geometry import Windows

Range = tuple[int, int]
Chunks = tuple[int, ...]


def seen_by(win: Windows, axis: int, outputs: Range) -> Range:
    """Source positions that the windows of some outputs see; they may lie outside the image."""
    first, last = outputs
    stride, before = win.stride[axis], win.padding[axis][0]
    return first * stride - before, (last - 1) * stride - before + width(win, axis)


def width(win: Windows, axis: int) -> int:
    """From the first tap of a window to its last."""
    return win.dilation[axis] * (win.kernel_size[axis] - 1) + 1


def reaching(win: Windows, axis: int, inputs: Range) -> Range:
    """Outputs whose windows may see some inputs, from one at or before the first to one past the last."""
    stride, before = win.stride[axis], win.padding[axis][0]
    span = width(win, axis)
    first, last = inputs[0] + before, inputs[1] - 1 + before
    low = min(-((span - 1 - first) // stride), first // stride)
    high = max(last // stride, -((span - 1 - last) // stride))
    return low, high + 1


def pads_around(win: Windows, axis: int, inputs: Range, outputs: Range) -> Range:
    """The padding with which some inputs have exactly these outputs."""
    low, high = seen_by(win, axis, outputs)
    return inputs[0] - low, high - inputs[1]


def inside(win: Windows, axis: int, outputs: Range) -> tuple[Range, Range]:
    """The pixels that the windows of some outputs see, and the padding with which those are their windows."""
    low, high = seen_by(win, axis, outputs)
    size = win.size[axis]
    pixels = min(max(low, 0), size), min(max(high, 0), size)
    return pixels, (max(min(high, 0) - low, 0), max(high - max(low, size), 0))


def coverage(win: Windows, axis: int, inputs: Range) -> Array:
    """How many windows cover each of some inputs."""
    ones = np.ones((1, 1, win.size[axis]))
    sizes: dict[str, Any] = {
        "stride": win.stride[axis], "dilation": win.dilation[axis], "padding": (win.padding[axis],),
    }  # fmt: skip
    kernel = win.kernel_size[axis]
    counts = unfolding.fold(unfolding.unfold(ones, kernel, **sizes), (win.size[axis],), kernel, **sizes)
    return counts[0, 0, slice(*inputs)]


def ranges_of(chunks: Iterable[int]) -> list[Range]:
    """Where chunks of these sizes begin and end."""
    ends = np.cumsum([0, *chunks]).tolist()
    return list(pairwise(ends))


def sizes_of(ranges: Iterable[Range]) -> Chunks:
    """How long ranges are."""
    return tuple(high - low for low, high in ranges)


def between(ends: Iterable[int], total: int) -> list[Range]:
    """Ranges from 0 to total with seams at `ends`, none of them empty (unless the axis is)."""
    seams = sorted({0, total, *(min(end, total) for end in ends)})
    return list(pairwise(seams)) or [(0, 0)]


def output_ranges(win: Windows, axis: int, chunks: Chunks) -> list[Range]:
    """Outputs by the chunk that l * stride lies in."""
    stride = win.stride[axis]
    return between((-(-end // stride) for _, end in ranges_of(chunks)[:-1]), win.output_size[axis])


def input_ranges(win: Windows, axis: int, chunks: Chunks) -> list[Range]:
    """Inputs by the chunk of outputs whose l * stride comes at or before them."""
    return between((end * win.stride[axis] for _, end in ranges_of(chunks)[:-1]), win.size[axis])


def grid(axes: Sequence[Sequence[Range]]) -> Iterable[tuple[Chunks, tuple[Range, ...]]]:
    """Every combination of one range per axis, with its place."""
    for combination in product(*(list(enumerate(ranges)) for ranges in axes)):
        yield tuple(i for i, _ in combination), tuple(cut for _, cut in combination)
