"""What the checker takes for an array, and what it refuses by name."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[Any]]


def numeric(name: str, value: ArrayLike) -> Array:
    """`value` as an array of numbers (not copied where it is one), or a TypeError that names it."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array of numbers, got a masked array; fill it first")
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name}: expected an array of numbers, got dtype {array.dtype}")
    return array


def differentiable(name: str, value: ArrayLike) -> Array:
    """`value` as an array of floating-point or complex numbers, or a TypeError that names it."""
    array = numeric(name, value)
    if array.dtype.kind not in "fc":
        raise TypeError(
            f"{name}: expected floating-point numbers, got {array.dtype}, in which a small step is lost; "
            f"cast it first: {name}.astype(np.float64)"
        )
    return array


def native(array: Array) -> Array:
    """A fresh C-ordered copy in native byte order: what a function under test may scribble on."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True, subok=False)
