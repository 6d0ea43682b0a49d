"""The race of the convolution: each layer and pass, candidates interleaved, beside the measured limits."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from . import limits, peers, results, timing
from .layers import Layer
from .machine import Busy, available_memory
from .peers import OURS, Absent, Candidate, Peer
from .problem import Check, Problem, make

AGAIN_ROUNDS = 3  # a lost cell is raced again with this many times the rounds
LOST = 0.97
# A neighbour on the other half of a core takes some of its FMA peak, and half of its caches. A cell whose
# median peak is less than this share of the best one of the run is raced again: tries in all.
CALM, CALM_TRIES = 0.9, 2
# A candidate whose first call takes this many times the fastest one's, and longer than this, is not raced.
HOPELESS = 10.0
HOPELESS_SECONDS = 0.1


class Course(NamedTuple):
    """What is raced."""

    layers: Sequence[Layer]
    dtypes: Sequence[str]
    passes: Sequence[str]
    method: timing.Method
    again: bool = True
    algorithm: str = "auto"  # ours


class Meter:
    """The limits, sampled once per round on the buffers of the cell."""

    def __init__(self, measured: limits.Limits, dtype: str, written: np.ndarray, read: np.ndarray) -> None:
        self._sources: dict[str, Callable[[], float]] = {
            "fma": partial(measured.fma_peak, dtype),
            "fill": partial(measured.fill_rate, written),
            "read": partial(measured.read_rate, read),
        }
        self._samples: dict[str, list[float]] = {name: [] for name in self._sources}

    def __call__(self) -> None:
        for name, source in self._sources.items():
            self._samples[name].append(source())

    def result(self) -> dict[str, float]:
        # A limit is the best that was reached: whatever disturbed a sample made it less.
        return {name: results.number(max(samples)) for name, samples in self._samples.items()}

    def samples(self) -> dict[str, list[float]]:
        """One of each limit per round."""
        return {name: [results.number(s) for s in samples] for name, samples in self._samples.items()}


def measured_limits(threads: int) -> tuple[limits.Limits | None, str | None]:
    """The limits, or why they are missing."""
    try:
        return limits.Limits(threads), None
    except limits.Missing as error:
        return None, str(error)


def gather(
    offers: Iterator[tuple[str, Callable[[], list[Candidate]]]],
) -> tuple[list[Candidate], dict[str, str]]:
    """The candidates of all peers, and for each peer without any why."""
    found: list[Candidate] = []
    absent: dict[str, str] = {}
    for name, offer in offers:
        try:
            found += offer()
        except Absent as error:
            absent[name] = str(error)
        except Exception as error:  # a peer's failure is a result too, shown in its place
            absent[name] = (
                f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
    return found, absent


def calmest(attempt: Callable[[], dict[str, Any]], measured: limits.Limits | None) -> dict[str, Any]:
    """A cell that nobody disturbed, or the least disturbed of several: judged by the FMA peak alone."""
    tries: list[dict[str, Any]] = []
    while len(tries) < CALM_TRIES:
        result = attempt()
        samples = result["limit_samples"]
        if measured is None or not samples or not samples["fma"]:
            return result
        result["calm"] = round(median(samples["fma"]) / measured.best_peak[result["dtype"]], 3)
        tries.append(result)
        if result["calm"] >= CALM:
            break
    return max(tries, key=lambda t: t["calm"])


def time_cell(
    found: Sequence[Candidate],
    complaint: Callable[[np.ndarray], str | None],
    absent: dict[str, str],
    method: timing.Method,
    meter: Meter | None,
) -> dict[str, Any]:
    """Checks each candidate's result, then times those that are right."""
    right: dict[str, Candidate] = {}
    first: dict[str, float] = {}
    for candidate in found:
        start = time.perf_counter()
        try:
            got = candidate.call()
            first[candidate.name] = time.perf_counter() - start
            wrong = complaint(candidate.value(got))
        except Exception as error:
            wrong = f"failed: {type(error).__name__}: {str(error)[:200]}"
        if wrong is None:
            right[candidate.name] = candidate
        else:
            absent[candidate.name] = wrong
    best = min((first[name] for name in right), default=0.0)
    for name in [name for name in right if first[name] > max(HOPELESS * best, HOPELESS_SECONDS)]:
        del right[name]
        absent[name] = f"left out: its first call took {first[name]:.2g} s, the fastest {best:.2g} s"
    busy = Busy()
    taken = timing.interleave({name: c.call for name, c in right.items()}, method, meter, beside=OURS)
    return {
        "others": busy.others(),
        "limits": meter.result() if meter else None,
        "limit_samples": meter.samples() if meter else None,
        "candidates": {
            name: {**results.times(taken[name]), "out": c.out, **({"prepared": True} if c.prepared else {})}
            for name, c in right.items()
        },
        "absent": absent,
    }


def cell(
    problem: Problem,
    which: str,
    rivals: dict[str, Peer],
    method: timing.Method,
    measured: limits.Limits | None,
) -> dict[str, Any]:
    layer = problem.layer
    offers = ((name, partial(peer.conv, problem, which)) for name, peer in rivals.items())
    found, absent = gather(offers)
    meter = None
    if measured is not None:
        source = problem.x if which != "dx" else problem.dy
        meter = Meter(measured, problem.dtype, problem.empty(which), source)
    check = Check(problem, which)
    itemsize = np.dtype(problem.dtype).itemsize
    read, written = layer.traffic(which)
    return {
        "layer": f"{layer.source}/{layer.name}",
        "shape": layer._asdict(),
        "n": layer.n,
        "dtype": problem.dtype,
        "pass": which,
        "flops": layer.flops,
        "bytes_read": read * itemsize,
        "bytes_written": written * itemsize,
        "tiny": layer.tiny,
        **time_cell(found, lambda got: check.complaint(got, problem.dtype), absent, method, meter),
    }


def ratio(result: dict[str, Any]) -> float | None:
    """The best peer's time over ours (better format, weights not prepared); None where one is missing."""
    ours, rivals = split(result["candidates"])
    if not ours or not rivals:
        return None
    return min(rivals.values()) / min(ours.values())


def split(candidates: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Medians: ours (without prepared weights) and the peers'."""
    ours, rivals = {}, {}
    for name, entry in candidates.items():
        if name.split()[0] != OURS:
            rivals[name] = entry["median"]
        elif not entry.get("prepared"):
            ours[name] = entry["median"]
    return ours, rivals


def run(course: Course, rivals: dict[str, Peer], measured: limits.Limits | None) -> Iterator[dict[str, Any]]:
    """All cells of the course, each as it ends; what was left out has the key "skipped"."""
    for layer in course.layers:
        for dtype in course.dtypes:
            needed = 6 * max(prod(s) for s in (layer.x_shape, layer.w_shape, layer.y_shape))
            if 0 < available_memory() < needed * np.dtype(dtype).itemsize:
                skipped = "too little free memory"
                yield {"layer": f"{layer.source}/{layer.name}", "dtype": dtype, "skipped": skipped}
                continue
            problem = make(layer, dtype, algorithm=course.algorithm)
            for which in course.passes:
                attempt = partial(cell, problem, which, rivals, course.method, measured)
                result = calmest(attempt, measured)
                value = ratio(result)
                if course.again and value is not None and value < LOST:
                    longer = course.method._replace(
                        rounds=AGAIN_ROUNDS * course.method.rounds, budget=AGAIN_ROUNDS * course.method.budget
                    )
                    result["again"] = cell(problem, which, rivals, longer, measured)
                yield result
                gc.collect()


def load_peers(names: Sequence[str], threads: int) -> tuple[dict[str, Peer], dict[str, str]]:
    return peers.load(tuple(names), threads)
