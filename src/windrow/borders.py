"""Pixels beyond the edge of an image: which ones they repeat, how they are made, how they are folded back.

The core's packers repeat pixels where they read an image (core/base/types.hpp). This module is for all else.
Along every axis a table says which pixel stands at each place of the padded image. Padding copies by the
tables; its adjoint adds what has come to a place beyond the edge to the pixel that was repeated there. Both
are done for a few images at a time, so that no padded batch is ever held.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .arguments import Pairs, Shape, show
from .arrays import Array, empty_images, fill_value, is_channels_last
from .geometry import CACHED, ConvGeometry, PoolGeometry, Windows, pool_geometry

MODES = ("constant", "reflect", "edge", "wrap")
BLOCK_BYTES = 4 << 20  # of padded images held at a time; of one image where that is larger


class Border(NamedTuple):
    """A way to pad images of one size."""

    size: Shape
    padding: Pairs
    mode: str
    fill: Any

    @property
    def padded(self) -> Shape:
        """The size of an image with its border."""
        return tuple(size + sum(pair) for size, pair in zip(self.size, self.padding))

    @property
    def tables(self) -> tuple[Array, ...]:
        """Along every axis, the pixel at each place of the padded image; -1 where there is none."""
        return tuple(_table(size, pair, self.mode) for size, pair in zip(self.size, self.padding))


def is_plain(padding_mode: Any, fill: Any) -> bool:
    """Whether padding is zeros, which every operation has without a border of pixels."""
    return (
        type(padding_mode) is str and padding_mode == "constant" and type(fill) in (int, float) and fill == 0
    )


def repeats_pixels(padding_mode: Any) -> bool:
    """Whether padding is pixels of the image itself, which its gradient comes back to."""
    return type(padding_mode) is str and padding_mode in MODES[1:]


def check_mode(padding_mode: Any, fill: Any) -> None:
    """Refuse a mode that there is not, and a fill that it has no use for."""
    if not isinstance(padding_mode, str) or padding_mode not in MODES:
        expected = ", ".join(map(repr, MODES[:-1])) + f" or {MODES[-1]!r}"
        raise ValueError(f"padding_mode: expected {expected}, got {show(padding_mode)}")
    if padding_mode != "constant" and not (type(fill) is int and fill == 0):
        raise ValueError(f"fill: expected 0 where padding_mode is {padding_mode!r}, got {show(fill)}")


def border(size: Shape, padding: Pairs, padding_mode: str, fill: Any, dtype: np.dtype[Any]) -> Border:
    """The border of images of this size, once it is known to be possible."""
    check_mode(padding_mode, fill)
    value = fill_value("fill", fill, dtype)
    for axis, (length, pair) in enumerate(zip(size, padding)):
        if padding_mode != "constant" and length == 0 and any(pair):
            raise ValueError(
                f"padding: expected 0 on spatial axis {axis}, which has no pixel to repeat for "
                f"padding_mode={padding_mode!r}, got {pair}"
            )
    return Border(size, padding, padding_mode, value)


def border_of(windows: Windows, padding_mode: str, fill: Any, dtype: np.dtype[Any]) -> Border:
    """The border that windows see; of no pixel where there is none that could see it.

    Without a window ("same" on an image without pixels), the plain operation must not lose its padding.
    """
    padding = windows.padding if windows.positions else ((0, 0),) * windows.rank
    return border(windows.size, padding, padding_mode, fill, dtype)


def with_border(geometry: ConvGeometry, border: Border) -> ConvGeometry:
    """A convolution of images with this border, which the core reads as it goes."""
    return geometry._replace(padding_mode=border.mode, fill=float(border.fill))


def pool_border(
    x_shape: Shape, options: tuple[Any, ...], padding_mode: Any, fill: Any, dtype: np.dtype[Any], x_name: str
) -> tuple[Border, PoolGeometry]:
    """The border that a pooling's windows see, and their geometry on images with that.

    The border is pixels: there the last window of ceil_mode may begin.
    """
    kernel_size, stride, padding, dilation, ceil_mode = options
    windows = pool_geometry(x_shape, *options, x_name=x_name).windows
    edge = border_of(windows, padding_mode, fill, dtype)
    if windows.positions:
        padding = 0
    padded = (*x_shape[:2], *edge.padded)
    return edge, pool_geometry(padded, kernel_size, stride, padding, dilation, ceil_mode)


@lru_cache(CACHED)
def _table(size: int, pair: tuple[int, int], mode: str) -> Array:
    before, after = pair
    place = np.arange(-before, size + after)
    if mode == "constant":
        place[(place < 0) | (place >= size)] = -1
    elif mode == "edge":
        place = np.clip(place, 0, size - 1)
    elif mode == "wrap":
        place %= max(1, size)
    else:  # there and back again, without repeating the ends
        place %= max(1, 2 * (size - 1))
        place = np.minimum(place, 2 * (size - 1) - place)
    place.flags.writeable = False
    return place


def blocks(
    border: Border, images: int, channels: int, dtype: np.dtype[Any], *, channels_last: bool
) -> Iterator[tuple[slice, Array]]:
    """A few images at a time, at least one block, with memory for their padded form.

    The cut depends on the shape of an image alone. Each block's memory is the next one's too.
    """
    each = max(1, channels * prod(border.padded) * dtype.itemsize)
    step = min(max(1, BLOCK_BYTES // each), images)
    held = empty_images("padding", (step, channels, *border.padded), dtype, channels_last=channels_last)
    for first in range(0, max(1, images), max(1, step)):
        part = slice(first, min(images, first + step))
        yield part, held[: part.stop - first]


def padded_blocks(x: Array, border: Border) -> Iterator[tuple[slice, Array]]:
    """The images with their borders, a block after another, in one memory."""
    last = is_channels_last(x)
    for part, padded in blocks(border, len(x), x.shape[1], x.dtype, channels_last=last):
        _pad(x[part], border, padded)
        yield part, padded


def _pad(x: Array, border: Border, into: Array) -> None:
    inside = tuple(slice(before, before + size) for size, (before, _) in zip(border.size, border.padding))
    into[(slice(None), slice(None), *inside)] = x
    for axis, table in enumerate(border.tables):
        # The axes before it have their borders already.
        lead: tuple[Any, ...] = (slice(None),) * (2 + axis)
        region = into[(*lead, slice(None), *inside[axis + 1 :])]
        before, end = inside[axis].start, inside[axis].stop
        for side in (slice(0, before), slice(end, None)):
            if not len(table[side]):
                continue
            if border.mode == "constant":
                region[(*lead, side)] = border.fill
            else:
                region[(*lead, side)] = region[(*lead, before + table[side])]


def fold_back(padded: Array, border: Border) -> Array:
    """The adjoint of padding: a view of `padded`, which is changed, of the image's size.

    Along each axis in turn, from the last to the first, places beyond the edge are added to the pixels that
    they repeat, in ascending order.
    """
    inside = tuple(slice(before, before + size) for size, (before, _) in zip(border.size, border.padding))
    with np.errstate(all="ignore"):
        for axis in reversed(range(len(inside))):
            lead: tuple[Any, ...] = (slice(None),) * (2 + axis)
            before, end = inside[axis].start, inside[axis].stop
            table = border.tables[axis]
            if border.mode != "constant":
                for place in (*range(before), *range(end, len(table))):
                    padded[(*lead, before + int(table[place]))] += padded[(*lead, place)]
            padded = padded[(*lead, inside[axis])]
    return padded
