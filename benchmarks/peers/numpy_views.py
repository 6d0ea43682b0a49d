"""NumPy alone: `sliding_window_view` and `tensordot`, and for the patches a view and a copy."""

from functools import partial
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..layers import Layer
from ..problem import Problem
from .base import Absent, Candidate, Patches, Peer, identity

COLUMNS_LIMIT = 1 << 30  # bytes of columns that tensordot would build; beyond them the cell is left out

# Where (n, c, k, l) go, as (n, c, k..., l...) axes; per layout.
_ORDERS = {"n (c k) l": "nckl", "(c k) (l n)": "ckln", "(n l) (c k)": "nlck"}


def padded(x: np.ndarray, layer: Layer) -> np.ndarray:
    return np.pad(x, [(0, 0), (0, 0), *((p, p) for p in layer.pad)]) if any(layer.pad) else x


def windows(xp: np.ndarray, layer: Layer) -> np.ndarray:
    """A view (n, c, l..., k...) of the padded image."""
    spans = tuple(d * (k - 1) + 1 for k, d in zip(layer.kernel, layer.dilation))
    axes = tuple(range(2, 2 + layer.rank))
    steps = [slice(None)] * 2 + [slice(None, None, t) for t in layer.stride]
    steps += [slice(None, None, d) for d in layer.dilation]
    return sliding_window_view(xp, spans, axes)[tuple(steps)]


def tap_slices(layer: Layer, tap: tuple[int, ...]) -> tuple[slice, ...]:
    """The pixels of the padded image that one tap meets."""
    axes = zip(tap, layer.stride, layer.dilation, layer.out_size)
    return tuple(slice(r * d, r * d + (out - 1) * t + 1, t) for r, t, d, out in axes)


def crop(xp: np.ndarray, layer: Layer) -> np.ndarray:
    return xp[(..., *(slice(p, p + s) for p, s in zip(layer.pad, layer.size)))]


def conv(x: np.ndarray, w: np.ndarray, layer: Layer) -> np.ndarray:
    rank, view = layer.rank, windows(padded(x, layer), layer)
    taps = list(range(2 + rank, 2 + 2 * rank))
    inner = list(range(1, 2 + rank))

    def one(part: np.ndarray, filters: np.ndarray) -> np.ndarray:
        return np.moveaxis(np.tensordot(part, filters, ([1, *taps], inner)), -1, 1)

    return _grouped(one, layer.groups, view, w, axis_b=0, join=1)


def grad_input(dy: np.ndarray, w: np.ndarray, layer: Layer) -> np.ndarray:
    def one(part: np.ndarray, filters: np.ndarray) -> np.ndarray:
        columns = np.tensordot(filters, part, ([0], [1]))  # c, k..., n, l...
        return _scatter(np.moveaxis(columns, 1 + layer.rank, 0), layer)

    return _grouped(one, layer.groups, dy, w, axis_b=0, join=1)


def grad_weight(dy: np.ndarray, x: np.ndarray, layer: Layer) -> np.ndarray:
    positions = [0, *range(2, 2 + layer.rank)]
    view = windows(padded(x, layer), layer)

    def one(part: np.ndarray, seen: np.ndarray) -> np.ndarray:
        return np.tensordot(part, seen, (positions, positions))

    return _grouped(one, layer.groups, dy, view, axis_b=1, join=0)


def _grouped(one: Any, groups: int, a: np.ndarray, b: np.ndarray, *, axis_b: int, join: int) -> np.ndarray:
    """One product per group; `a` is split along its channels, `b` along `axis_b`."""
    if groups == 1:
        return one(a, b)
    parts = zip(np.split(a, groups, 1), np.split(b, groups, axis_b))
    return np.concatenate([one(p, q) for p, q in parts], join)


def _scatter(columns: np.ndarray, layer: Layer) -> np.ndarray:
    """Columns (n, c, k..., l...) added up into images: one strided sum per tap."""
    size = tuple(s + 2 * p for s, p in zip(layer.size, layer.pad))
    xp = np.zeros((*columns.shape[:2], *size), columns.dtype)
    for tap in product(*map(range, layer.kernel)):
        xp[(..., *tap_slices(layer, tap))] += columns[(slice(None), slice(None), *tap)]
    return crop(xp, layer)


class NumPy(Peer):
    name = "numpy"

    def __init__(self, threads: int) -> None:
        self.version = np.__version__
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        self.settings = {
            "threads": f"{threads}, by the environment",
            "blas": f"{blas['name']} {blas['version']}",
        }

    def conv(self, problem: Problem, which: str) -> list[Candidate]:
        layer = problem.layer
        size = prod(layer.columns_shape) * problem.x.itemsize
        if size > COLUMNS_LIMIT:
            raise Absent(f"columns of {size / 2**30:.1f} GiB")
        calls = {
            "y": partial(conv, problem.x, problem.w, layer),
            "dx": partial(grad_input, problem.dy, problem.w, layer),
            "dw": partial(grad_weight, problem.dy, problem.x, layer),
        }
        return [Candidate("numpy", calls[which], identity, "fresh")]

    def unfold(self, case: Patches) -> list[Candidate]:
        layer = case.layer
        # The whole index space (n, c, k..., l...) of the columns as a view of the buffer.
        target = split_columns(case.columns, case)
        rank = layer.rank
        axes = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))

        def call() -> np.ndarray:
            target[...] = windows(padded(case.x, layer), layer).transpose(axes)
            return case.columns

        return [Candidate("numpy view + copy", call, identity, "existing")]

    def fold(self, case: Patches) -> list[Candidate]:
        columns = split_columns(case.columns, case)
        return [Candidate("numpy sum per tap", partial(_scatter, columns, case.layer), identity, "fresh")]


def split_columns(columns: np.ndarray, case: Patches) -> np.ndarray:
    """The column array in its layout as a view with the axes n, c, k..., l...."""
    layer, order = case.layer, _ORDERS[case.layout]
    sizes = {"n": (layer.n,), "c": (layer.c,), "k": layer.kernel, "l": layer.out_size}
    whole = columns.reshape([s for name in order for s in sizes[name]])
    starts, at = {}, 0
    for name in order:
        starts[name] = range(at, at + len(sizes[name]))
        at += len(sizes[name])
    return whole.transpose([axis for name in "nckl" for axis in starts[name]])


def load(threads: int) -> Peer:
    return NumPy(threads)
