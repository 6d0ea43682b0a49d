"""The gradient entry by entry, with what its two sides say at a kink."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from .meter import Meter


class Entry(NamedTuple):
    """One entry of a gradient: what was expected there, what backward gave, and how sure that is."""

    flat: int
    place: str
    expected: float
    got: float
    error: float
    bound: float
    kinks: int
    holds: bool


def measure_entries(
    meter: Meter, positions: Iterable[int], done: Callable[[int], object] = lambda count: None
) -> list[Entry]:
    """Differentiate with respect to single entries.

    The bound of a kinked entry includes half the jump of the slope of every output that bends there, so
    that a gradient between the two one-sided derivatives holds and one outside does not.
    """
    found = []
    direction = np.zeros(meter.base.size, meter.claim.gradient.dtype)
    for count, i in enumerate(positions, 1):
        direction[i] = max(abs(float(meter.base[i])), meter.scale)
        m = meter.compare(direction)
        direction[i] = 0.0
        got = float(meter.claim.gradient[i])
        found.append(
            Entry(
                int(i), meter.argument.place(int(i)), got - m.error, got, m.error, m.bound, m.kinks, m.holds
            )
        )
        done(count)
    return found
