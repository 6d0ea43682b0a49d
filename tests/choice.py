"""One way of computing a product over windows at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from windrow import _core

CANDIDATES = _core.candidates()
WEIGHT_CANDIDATES = _core.weight_candidates()
DIRECT = ("window_product", "filter_product", "strip_product")


@contextmanager
def only(name: str) -> Iterator[None]:
    """Calls that leave the algorithm to windrow take this candidate, where a product has it."""
    _core.set_algorithm({**CANDIDATES, **WEIGHT_CANDIDATES}[name])
    try:
        yield
    finally:
        _core.set_algorithm(0)
