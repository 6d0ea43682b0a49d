"""How far rounding moves a gradient, measured by asking backward for the same thing in several ways."""

import numpy as np

from .accept import Array
from .differences import typical_size
from .pair import Pair, real

# Probes of each kind; three of each underestimate the noise by 8 with probability below 1e-5.
PROBES = 3


def split_probes(
    pair: Pair, dy: Array, gradients: list[Array], generator: np.random.Generator
) -> list[list[Array]]:
    """``g(dy) - g(dy1) - g(dy2)`` with dy = dy1 + dy2, per argument: zero but for rounding."""
    found: list[list[Array]] = [[] for _ in gradients]
    for _ in range(PROBES):
        first = real_rounded(pair, dy * generator.uniform(-1, 2, dy.shape))
        second = real_rounded(pair, dy - first)
        halves = zip(pair.gradients(first), pair.gradients(second))
        for residuals, whole, (one, two) in zip(found, gradients, halves):
            with np.errstate(invalid="ignore"):
                residuals.append(whole - one - two)
    return found


def natural_sizes(pair: Pair, dy: Array) -> list[float]:
    """The size of dy times y over x per argument: a gradient may be a small difference of such terms.

    Once with the sizes of x and y, once with how much they vary, which is what counts far from zero.
    """
    y = real(pair.output(pair.run_forward(pair.fresh()))).reshape(-1).astype(dy.dtype)
    if not y.size:
        return [0.0 for _ in pair.arguments]
    weight, size, varies = _rms(dy), _rms(y), float(np.std(y))
    found = []
    for argument in pair.arguments:
        x = argument.value.astype(dy.dtype)
        spread = float(np.std(x)) if x.size else 0.0
        found.append(weight * max(size / typical_size(x), varies / spread if spread else 0.0))
    return found


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def nudge_probes(
    pair: Pair, dy: Array, gradients: list[Array], generator: np.random.Generator
) -> list[list[Array]]:
    """``g(x~) - g(x)`` with every input moved by one unit in the last place, per argument.

    The move is a function of an entry's value, so that equal entries stay equal and zeros stay zero: the
    ties of a maximum and the corner of a ReLU are not crossed. Where a near tie is crossed all the same the
    change is far above rounding and says nothing about it: such entries are left out.
    """
    root = float(np.sqrt(np.finfo(pair.y_dtype).eps))
    sizes = natural_sizes(pair, dy)
    found: list[list[Array]] = [[] for _ in gradients]
    for _ in range(PROBES):
        seed = int(generator.integers(1 << 30))
        moved = {a.position: nudged(a.value, seed) for a in pair.arguments}
        for residuals, size, base, other in zip(found, sizes, gradients, pair.gradients(dy, moved)):
            with np.errstate(invalid="ignore"):
                change = other - base
                most = root * max(float(np.max(np.abs(base), initial=0.0)), 8 * size)
                residuals.append(np.where(np.abs(change) <= most, change, 0.0))
    return found


def real_rounded(pair: Pair, dy: Array) -> Array:
    """`dy` as the dtype of forward's result can hold it."""
    narrow = np.zeros(0, pair.y_dtype).real.dtype
    return dy.astype(narrow).astype(dy.dtype)


def nudged(value: Array, seed: int) -> Array:
    """Each entry moved to one of its two neighbours, which one being a hash of its value."""
    with np.errstate(invalid="ignore", over="ignore"):
        mantissa = (np.frexp(value.astype(np.float64))[0] * 2.0**53).astype(np.int64).view(np.uint64)
        hashed = (mantissa ^ np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
        up = (hashed >> np.uint64(60)) & np.uint64(1) == 1
        target = np.where(up, np.inf, -np.inf).astype(value.dtype)
        return np.where(value == 0, value, np.nextafter(value, target))
