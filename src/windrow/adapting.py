"""What more than one adapter needs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arguments import show
from .arrays import Array
from .unfolding import fold, unfold


def coverage(
    size: Sequence[int], kernel_size: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> Array:
    """How many windows cover each pixel of images of this size: (1, 1, size...); 1 where none does."""
    sizes: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    ones = np.ones((1, 1, *size))
    return np.maximum(fold(unfold(ones, kernel_size, **sizes), size, kernel_size, **sizes), 1)


def check_linear(reduce: Any) -> None:
    """Refuse what a differentiable fold cannot be."""
    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce: expected 'sum' or 'mean' (those have a derivative), got {show(reduce)}")
