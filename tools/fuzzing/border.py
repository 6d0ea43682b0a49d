"""Borders of pixels: drawn, and what the reference makes of them.

An operation with a border is the operation without padding on the image with its border; a gradient for the
image goes the other way.
"""

import math
import random
from typing import Any, NamedTuple

import numpy as np

from windrow import reference

MODES = ("constant", "reflect", "edge", "wrap")


class Border(NamedTuple):
    """A padding mode for images of one size."""

    padding: tuple[tuple[int, int], ...]
    mode: str
    fill: int
    sensible: bool  # whether the image has pixels to repeat, and nothing in it is nonsense

    def padded(self, x_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of images with their border."""
        sides = zip(x_shape[2:], self.padding, strict=True)
        return (*x_shape[:2], *(size + before + after for size, (before, after) in sides))

    def extend(self, x: Any) -> Any:
        """The images with their border."""
        return reference.extend(x, self.padding, self.mode, self.fill).astype(x.dtype)  # its byte order

    def adjoint(self, padded: Any) -> Any:
        """What has come to the border added to the pixels that it repeats."""
        return reference.extend_adjoint(padded, self.padding, self.mode)

    def adjoint_bound(self, padded: Any, bound: Any, dtype: np.dtype[Any]) -> Any:
        """How far sums of places that are off by `bound` each may be: each addition rounds once more."""
        places = self.adjoint(np.ones(padded.shape))
        size = self.adjoint(np.abs(padded) + bound)
        return self.adjoint(bound) + places * np.finfo(dtype).eps * size


def draw(
    pick: random.Random, x_shape: tuple[int, ...], windows: Any, options: dict[str, Any], *, wild: bool
) -> Border | None:
    """Now and then, where there are windows, a border, which is put into the options."""
    if windows is None or not windows.positions or pick.random() < 0.75:
        return None
    mode = pick.choice(MODES)
    fill = pick.choice([0, 3]) if mode == "constant" else 0
    options["padding_mode"] = mode
    if fill or pick.random() < 0.5:
        options["fill"] = fill
    repeats = all(size > 0 or not any(pair) for size, pair in zip(x_shape[2:], windows.padding, strict=True))
    sensible = mode == "constant" or repeats
    if wild and pick.random() < 0.2:
        name, value = pick.choice(
            [("padding_mode", "mirror"), ("padding_mode", 1), ("fill", "x"), ("fill", None), ("fill", [1, 2])]
        )
        options[name] = value
        sensible = False
    return Border(windows.padding, mode, fill, sensible)


def amount(border: Border | None, x_shape: tuple[int, ...]) -> int:
    """Elements of the images with their border."""
    return math.prod(max(1, size) for size in border.padded(x_shape)) if border else 0
