"""Gradients of the wrong shape: what a usual mistake would have had to be undone."""

import itertools
from collections.abc import Iterator

import numpy as np

from .accept import Array


def repair(part: Array, shape: tuple[int, ...]) -> Iterator[tuple[str, str, Array]]:
    """Every (kind, text, gradient) of the expected shape that undoing one mistake gives."""
    if part.ndim <= 5:
        for order in itertools.permutations(range(part.ndim)):
            turned = part.transpose(order)
            if turned.shape == shape:
                text = f"is transposed: its shape is {part.shape}, {shape} is expected"
                yield "transposed", text, turned
    for count in range(1, part.ndim + 1):
        for axes in itertools.combinations(range(part.ndim), count):
            total = np.sum(part, axis=axes)
            if total.size == np.prod(shape, dtype=np.int64) and part.size != total.size:
                named = " and ".join(str(axis) for axis in axes)
                what = "the batch (axis 0)" if axes == (0,) else f"axis {named}"
                text = f"is not summed over {what}: its shape is {part.shape}, {shape} is expected"
                yield "batch", text, total.reshape(shape)
    if part.size == np.prod(shape, dtype=np.int64):
        text = f"has the right numbers in the shape {part.shape}, {shape} is expected"
        yield "shape", text, part.reshape(shape)
