import time

import numpy as np
import pytest
from tests.gradcheck.operations import blame_operation

from windrow import conv, conv_backward
from windrow.gradcheck import check
from windrow.gradcheck.operations import DTYPES, GRID, OPERATIONS, Geometry, check_operations


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_grid_of_every_operation(name):
    (line,) = check_operations([name])
    assert line.geometries == len(GRID)
    assert len(line.reports) == len(GRID) * len(DTYPES)
    assert line.holds, [str(report) for report in line.reports if not report]
    assert line.error <= line.bound


def test_generated_geometries():
    for seed in range(6 * len(OPERATIONS)):
        assert blame_operation(seed) == ""


def test_a_wrong_operation_is_a_failing_line(monkeypatch):
    make = OPERATIONS["conv"]

    def wrong(geometry, dtype, rng):
        right = make(geometry, dtype, rng)
        return right._replace(backward=lambda dy, *rest: tuple(-g for g in right.backward(dy, *rest)))

    monkeypatch.setitem(OPERATIONS, "conv", wrong)
    (line,) = check_operations(["conv"], [Geometry((2, 2, 5), (3, 2, 3))])
    assert not line.holds
    assert line.error > line.bound


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_layer_takes_seconds(dtype):
    """4x64x56x56: 1.6 million forward calls for the gradient entry by entry, some hundred here."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((4, 64, 56, 56), (64, 64, 3, 3), (64,)))
    calls = []

    def forward(x, w, b):
        calls.append(1)
        return conv(x, w, b, padding=1)

    def backward(dy, x, w, b):
        return conv_backward(dy, x, w, padding=1)

    start = time.perf_counter()
    report = check(forward, backward, (x, w, b), axes={"x": "n c h w", "w": "k c kh kw", "b": "k"})
    assert report, report
    assert len(calls) < 200
    assert time.perf_counter() - start < 60  # seconds, also on a busy machine
    for argument in report.arguments:
        assert argument.affine
        # An error of one entry as large as the gradient's rms is beyond what can be missed.
        assert argument.sensitivity < np.sqrt(np.mean(argument.gradient.astype(float) ** 2))
