"""The relative error of two arrays, as the course notebooks print it."""

import numpy as np
from numpy.typing import ArrayLike

from .accept import numeric


def relative_error(a: ArrayLike, b: ArrayLike, *, floor: float = 1e-8) -> float:
    """Largest relative difference of two arrays.

    ``max(|a - b| / max(floor, |a| + |b|))`` over all entries: 0 where they agree, 1 where one of them is
    zero or has the wrong sign, and insensitive to entries far below `floor`.

    >>> from windrow.gradcheck import relative_error
    >>> relative_error([1.0, 2.0], [1.0, 2.0])
    0.0
    >>> relative_error([1.0, 2.0], [1.0, -2.0])
    1.0
    >>> relative_error(100.0, 101.0)  # 1 / 201
    0.004975124378109453

    Parameters
    ----------
    a, b : array of any numeric dtype, the same shape (0-d and empty arrays are fine)
        Compared in float64 at least, so unsigned integers do not wrap and float16 does not overflow.
    floor : positive float
        Sums of magnitudes below this count as this much; 1e-8 is the usual value.

    Returns
    -------
    float
        0.0 for empty arrays; NaN if an entry is NaN; equal infinities agree.

    Raises
    ------
    ValueError
        If the shapes differ or `floor` is not positive.
    TypeError
        If an array is not numeric.

    Source: the ``rel_error`` of Stanford's CS231n assignments.
    """
    left, right = numeric("a", a), numeric("b", b)
    if left.shape != right.shape:
        raise ValueError(f"b: expected the shape of a, {left.shape}, got {right.shape}")
    if not floor > 0:
        raise ValueError(f"floor: expected a positive number, got {floor}")
    if left.size == 0:
        return 0.0
    dtype = np.result_type(left, right, np.float64)
    # Halves, so that the sum of the two largest finite numbers does not overflow.
    left, right = left.astype(dtype) / 2, right.astype(dtype) / 2
    with np.errstate(invalid="ignore"):
        error = np.abs(left - right) / np.maximum(floor / 2, np.abs(left) + np.abs(right))
    # inf - inf is NaN: equal infinities agree, infinity against anything else is wholly wrong.
    infinite = np.isinf(left) | np.isinf(right)
    anyone_nan = np.isnan(left) | np.isnan(right)
    error = np.where(infinite & ~anyone_nan, np.where(left == right, 0.0, 1.0), error)
    return float(np.max(error))
