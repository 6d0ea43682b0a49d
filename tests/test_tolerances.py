"""The bounds hold for sums rounded step by step, and are not so wide that they hold for wrong ones."""

import numpy as np
import pytest

from tests import tolerances
from windrow import reference


def conv_in_float32(x, w, chunk):
    """A 1x1 convolution with every product and sum rounded to float32, in sums of ``chunk`` products."""
    y = np.zeros((x.shape[0], w.shape[0], x.shape[2]), np.float32)
    for first in range(0, x.shape[1], chunk):
        part = np.zeros_like(y)
        for c in range(first, min(first + chunk, x.shape[1])):
            part += x[:, c : c + 1] * w[None, :, c]
        y += part
    return y


@pytest.mark.parametrize("chunk", [1, 16, 1000])
def test_conv_error_bound_is_safe_and_sharp(chunk):
    rng = np.random.default_rng(0)
    x, w = rng.random((2, 300, 5), np.float32), rng.random((4, 300, 1), np.float32)
    error = np.abs(conv_in_float32(x, w, chunk) - reference.conv(x, w, dtype=np.float64))
    bound = tolerances.conv_error_bound(x, w, chunk=chunk)
    assert (error <= bound).all()
    # One term left out of 300 is far outside.
    missing = np.abs(
        reference.conv(x[:, 1:], w[:, 1:], dtype=np.float64) - reference.conv(x, w, dtype=np.float64)
    )
    assert np.median(missing / bound) > 10


def test_number_of_roundings():
    assert tolerances.dot_error_factor(chunk=16, terms=300) == 16 + 19
    assert tolerances.dot_error_factor(chunk=1000, terms=300) == 300 + 1
