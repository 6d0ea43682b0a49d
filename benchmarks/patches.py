"""The race of the patches: unfold and fold of every case, dtype and layout, beside the memory's speed."""

import gc
from collections.abc import Iterator, Sequence
from functools import partial
from math import prod
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from . import limits, timing
from .layers import PATCH_FILE, Layer, load
from .machine import available_memory
from .peers import OURS, Peer
from .peers.base import Patches
from .peers.numpy_views import padded, split_columns, tap_slices
from .race import Meter, calmest, gather, ratio, time_cell

LAYOUTS = ("n (c k) l", "(c k) (l n)", "(n l) (c k)")
OPERATIONS = ("unfold", "fold")
TINY_BYTES = 64 << 10  # columns below this are a matter of call overhead; the means leave them out
LARGE_BYTES = 6 << 30  # columns above this are raced in float32 only
# Free memory that a race takes, in columns: ours alone, the images included; with the peers, of whose fresh
# columns and permuted copies malloc keeps the memory.
OURS_TIMES, PEERS_TIMES = 2, 6


class Course(NamedTuple):
    cases: Sequence[Layer]
    dtypes: Sequence[str]
    layouts: Sequence[str]
    operations: Sequence[str]
    method: timing.Method


def cases(only: Sequence[str] = ()) -> list[Layer]:
    return load([PATCH_FILE], only)


def column_bytes(layer: Layer, dtype: str) -> int:
    return prod(layer.columns_shape) * np.dtype(dtype).itemsize


def layout_shape(layer: Layer, layout: str) -> tuple[int, ...]:
    n, ck, l = layer.columns_shape
    shapes = {"n (c k) l": (n, ck, l), "(c k) (l n)": (ck, l * n), "(n l) (c k)": (n * l, ck)}
    return shapes[layout]


def bounds(cell: dict[str, Any]) -> list[float]:
    """T = bytes written / fill rate + bytes read / read rate on the cell's buffers, for each round."""
    samples = cell["limit_samples"]
    if not samples:
        return []
    return [
        cell["bytes_written"] / fill + cell["bytes_read"] / read
        for fill, read in zip(samples["fill"], samples["read"])
    ]


def bound_seconds(cell: dict[str, Any]) -> float | None:
    return median(bounds(cell)) if bounds(cell) else None


def score(cell: dict[str, Any]) -> float | None:
    """T over our time, the median over the rounds."""
    ours = cell["candidates"].get(OURS)
    return timing.paired(bounds(cell), ours["samples"]) if ours else None


def _fill(out: np.ndarray) -> None:
    """Normal values, repeated block by block: a random number per entry of gigabytes would take minutes."""
    flat = out.reshape(-1)
    block = np.random.default_rng(2).standard_normal(1 << 16).astype(out.dtype)
    for start in range(0, flat.size, block.size):
        flat[start : start + block.size] = block[: flat.size - start]


def filled(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    out = np.empty(shape, dtype)
    _fill(out)
    return out


class Expected:
    """Samples of the right answer: some taps of the columns, or the sums at one image and channel."""

    def __init__(self, case: Patches, operation: str) -> None:
        self._case, self._operation, self._layer = case, operation, case.layer

    def complaint(self, got: np.ndarray) -> str | None:
        layer, case = self._layer, self._case
        n, c = layer.n - 1, layer.c - 1
        single = layer._replace(n=1, c=1)
        if self._operation == "unfold":
            image = padded(case.x[n : n + 1, c : c + 1], single)
            columns = split_columns(got, case)[n, c]
            for tap in (tuple(0 for _ in layer.kernel), tuple(k - 1 for k in layer.kernel)):
                if not np.array_equal(columns[tap], image[0, 0][tap_slices(layer, tap)]):
                    return f"wrong: tap {tap} differs"
            return None
        columns = split_columns(case.columns, case)[n, c].astype(np.float64)
        size = tuple(s + 2 * p for s, p in zip(layer.size, layer.pad))
        total, absolute = np.zeros(size), np.zeros(size)
        for tap in np.ndindex(*layer.kernel):
            total[tap_slices(layer, tap)] += columns[tap]
            absolute[tap_slices(layer, tap)] += np.abs(columns[tap])
        inside = tuple(slice(p, p + s) for p, s in zip(layer.pad, layer.size))
        tolerance = prod(layer.kernel) * np.finfo(case.dtype).eps * absolute[inside]
        right = np.abs(got[n, c] - total[inside]) <= tolerance
        return None if right.all() else "wrong: sums differ"


def cell(
    case: Patches,
    operation: str,
    rivals: dict[str, Peer],
    method: timing.Method,
    measured: limits.Limits | None,
    left_out: dict[str, str],
) -> dict[str, Any]:
    _fill(case.columns)  # an unfold's own and the fill rate's values were there
    chosen = ((name, peer) for name, peer in rivals.items() if name not in left_out)
    offers = ((name, partial(getattr(peer, operation), case)) for name, peer in chosen)
    found, absent = gather(offers)
    absent |= left_out
    columns, image = column_bytes(case.layer, case.dtype), case.x.nbytes
    written, read = (columns, image) if operation == "unfold" else (image, columns)
    meter = None
    if measured is not None:
        target, source = (case.columns, case.x) if operation == "unfold" else (case.x_out, case.columns)
        meter = Meter(measured, case.dtype, target, source)
    result = {
        "layer": f"{case.layer.source}/{case.layer.name}",
        "shape": case.layer._asdict(),
        "dtype": case.dtype,
        "operation": operation,
        "layout": case.layout,
        "bytes_read": read,
        "bytes_written": written,
        "tiny": columns < TINY_BYTES,
        **time_cell(found, Expected(case, operation).complaint, absent, method, meter),
    }
    result["ratio"] = ratio(result)
    return result


def run(course: Course, rivals: dict[str, Peer], measured: limits.Limits | None) -> Iterator[dict[str, Any]]:
    """All cells of the course, each as it ends; what was left out has the key "skipped"."""
    for layer in course.cases:
        for dtype in course.dtypes:
            size = column_bytes(layer, dtype)
            reason = "columns over 6 GiB are raced in float32 only" if size > LARGE_BYTES else None
            reason = reason or _too_little(OURS_TIMES * size)
            if reason:
                yield {"layer": f"{layer.source}/{layer.name}", "dtype": dtype, "skipped": reason}
                continue
            reason = _too_little(PEERS_TIMES * size)
            left_out = {name: reason for name in rivals if name != OURS} if reason else {}
            x, x_out = filled(layer.x_shape, dtype), filled(layer.x_shape, dtype)
            flat = np.empty(size // x.itemsize, dtype)
            for layout in course.layouts:
                case = Patches(layer, dtype, layout, x, flat.reshape(layout_shape(layer, layout)), x_out)
                for operation in course.operations:
                    attempt = partial(cell, case, operation, rivals, course.method, measured, left_out)
                    yield calmest(attempt, measured)
                    gc.collect()


def _too_little(needed: int) -> str | None:
    """Why a race of so many bytes is left out, if it is."""
    free = available_memory()
    if 0 < free < needed:
        return f"needs {needed / 2**30:.1f} GiB of free memory, there are {free / 2**30:.1f}"
    return None
