"""What a peer offers to the race."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..layers import Layer
from ..problem import Problem


class Absent(Exception):
    """A peer cannot do this problem; the text says why and is shown in its place."""


class Candidate(NamedTuple):
    """One way of computing one result."""

    name: str
    call: Callable[[], Any]
    value: Callable[[Any], np.ndarray]  # the result of `call` as a NumPy array, channels first
    out: str  # "existing": writes into a buffer made beforehand; "fresh": makes its result
    prepared: bool = False  # weights are transformed or packed before the timing


class Patches(NamedTuple):
    """One case of the patch race: an image, its columns in an order, and a buffer for folded images.

    There is one array of columns, gigabytes at times: unfold writes it, fold reads it.
    """

    layer: Layer
    dtype: str
    layout: str
    x: np.ndarray
    columns: np.ndarray
    x_out: np.ndarray


class Peer:
    """A library. Methods raise `Absent` for what it does not do."""

    name = ""
    version = ""
    settings: dict[str, Any]

    def conv(self, problem: Problem, which: str) -> list[Candidate]:
        """Candidates for one pass ("y", "dx", "dw") of a layer."""
        raise Absent(f"{self.name} has no convolution")

    def unfold(self, case: Patches) -> list[Candidate]:
        raise Absent(f"{self.name} has no unfold")

    def fold(self, case: Patches) -> list[Candidate]:
        raise Absent(f"{self.name} has no fold")


def identity(array: np.ndarray) -> np.ndarray:
    return array
