"""Borders of pixels by definition: what stands beyond the edge of an image, pixel by pixel.

An operation with a border is the operation without padding on the image with its border.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pads = tuple[tuple[int, int], ...]


def repeated(place: int, size: int, mode: str) -> int | None:
    """Which pixel of an axis stands at a place that may lie beyond its ends; None: the fill.

    >>> [repeated(i, 4, "reflect") for i in range(-4, 8)]
    [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    >>> [repeated(i, 4, "wrap") for i in range(-2, 6)]
    [2, 3, 0, 1, 2, 3, 0, 1]
    """
    if 0 <= place < size:
        return place
    if mode == "constant":
        return None
    if mode == "edge":
        return 0 if place < 0 else size - 1
    if mode == "wrap":
        return place % size
    while not 0 <= place < size:  # reflect: mirrored at one end after the other
        place = -place if place < 0 else 2 * (size - 1) - place
        if size == 1:
            return 0
    return place


def extend(x: Array, pads: Pads, mode: str, fill: Any = 0) -> Array:
    """Images (N, C, spatial...) with their borders.

    >>> extend(np.array([[[1, 2, 3]]]), ((2, 1),), "reflect")
    array([[[3, 2, 1, 2, 3, 2]]])
    """
    for axis, (before, after) in enumerate(pads, 2):
        size = x.shape[axis]
        shape = [1 if i == axis else length for i, length in enumerate(x.shape)]
        planes = []
        for place in range(-before, size + after):
            pixel = repeated(place, size, mode)
            planes.append(np.full(shape, fill, x.dtype) if pixel is None else x.take([pixel], axis))
        if planes:  # none along an axis without pixels
            x = np.concatenate(planes, axis)
    return x


def extend_adjoint(padded: Array, pads: Pads, mode: str) -> Array:
    """Everything in the border added to the pixels that it repeats.

    >>> extend_adjoint(np.array([[[1, 10, 100, 1000, 10000]]]), ((1, 1),), "edge")
    array([[[   11,   100, 11000]]])
    """
    for axis, (before, after) in enumerate(pads, 2):
        size = padded.shape[axis] - before - after
        x = np.zeros([size if i == axis else length for i, length in enumerate(padded.shape)], padded.dtype)
        for place in range(-before, size + after):
            pixel = repeated(place, size, mode)
            if pixel is not None:
                at: tuple[Any, ...] = (slice(None),) * axis
                with np.errstate(all="ignore"):
                    x[(*at, pixel)] += padded[(*at, place + before)]
        padded = x
    return padded
