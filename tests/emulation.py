"""The numerics plan of the product in NumPy, to the bit: what every kernel of a target must give."""

from fractions import Fraction

import numpy as np

from windrow import _core

CHUNK = _core._testing.CHUNK
UNFUSED = ("portable",)  # targets that round the product before they add it


def fma(a, b, c):
    """a * b + c, rounded once."""
    if a.dtype == np.float32:
        return _fma32(*(array.astype(np.float64) for array in (a, b, c)))
    exact = np.frompyfunc(lambda x, y, z: float(Fraction(x) * Fraction(y) + Fraction(z)), 3, 1)
    return exact(a, b, c).astype(np.float64)


def _fma32(a, b, c):
    """The product of two float32 is exact in float64; their sum with c is rounded to odd there, so that the
    rounding to float32 that follows is as if it were the only one."""
    product = a * b
    total = product + c
    rest = total - product
    error = (product - (total - rest)) + (c - rest)
    even = (total.view(np.int64) & 1) == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, odd, total).astype(np.float32)


def _is_fused(target, *operands):
    """Whether to emulate fused: float64 operands that are no more precise than float32 have exact products,
    so that fused or not is one."""
    exact = all(a.dtype == np.float64 and not np.any(a != a.astype(np.float32)) for a in operands)
    return target not in UNFUSED and not exact


def product(target, a, b, start=None, bias=None, chunk=CHUNK):
    """start + a @ b + bias in the order of the plan: by chunks of k, the bias last."""
    total = sums(target, *np.broadcast_arrays(a[:, :, None], b[None, :, :]), start, chunk)
    return total if bias is None else total + bias[:, None]


def sums(target, a, b, start=None, chunk=CHUNK):
    """start + the sum of a * b over their second axis, in the order of the plan."""
    fused = _is_fused(target, a, b)
    terms = a.shape[1]
    total = start
    for first in range(0, max(terms, 1), chunk):
        part = np.zeros((a.shape[0], a.shape[2]), a.dtype)
        for k in range(first, min(first + chunk, terms)):
            part = fma(a[:, k], b[:, k], part) if fused else a[:, k] * b[:, k] + part
        total = part if total is None else total + part
    return total


def correlate(target, dy, x, sums):
    """sums[k, i % lanes] + dy[r, i] * x[k, r, i], one pixel after another for each of the sums."""
    fused = _is_fused(target, dy, x)
    total = sums.copy()
    lanes = sums.shape[1]
    for r in range(dy.shape[0]):
        for first in range(0, dy.shape[1], lanes):
            a, b = dy[r, first : first + lanes], x[:, r, first : first + lanes]
            some = total[:, : a.size]
            some[...] = fma(np.broadcast_to(a, b.shape), b, some) if fused else a * b + some
    return total
