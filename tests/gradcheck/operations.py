"""Windrow's operations on generated geometries: what the checker must not blame either."""

import numpy as np

from windrow.gradcheck.operations import DTYPES, OPERATIONS, Geometry, check_operation


def generated_geometry(seed: int) -> Geometry:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    groups = int(rng.choice([1, 1, 2, 3]))
    n, k, c = (int(v) for v in rng.integers(1, 4, 3))
    kernel, stride, dilation = (rng.integers(1, 4, rank).tolist() for _ in range(3))
    span = [d * (size - 1) + 1 for size, d in zip(kernel, dilation)]
    padding = [tuple(rng.integers(0, 3, 2).tolist()) for _ in range(rank)]
    image = [max(1, s + int(rng.integers(0, 5)) - sum(p)) for s, p in zip(span, padding)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Geometry((n, c * groups, *image), (k * groups, c, *kernel), options)


def blame_operation(seed: int) -> str:
    """Check one operation on a generated geometry; empty if nothing is blamed, else the report."""
    names = list(OPERATIONS)
    name, dtype = names[seed % len(names)], DTYPES[seed // len(names) % 2]
    report = check_operation(name, generated_geometry(seed), dtype, seed)
    return "" if report else f"seed {seed}\n{report}"
