"""What several threads are worth: each layer and pass on one thread and on all, in turns in one run.

Windrow alone takes part, on C-ordered arrays and with caches warm from the call before. Of each number of
threads the least of all samples counts: what disturbs a sample makes it longer, and two cores are twice as
likely to be disturbed as one. Neighbours of a shared machine stay for seconds, so the rounds of a cell are
spread over several sweeps. Beside it stands what bare multiply-adds gain in the same rounds.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import windrow as wr

from . import problem, results, timing
from .layers import Layer
from .limits import Limits
from .peers import windrow_own

# A layer that two threads should serve: enough work for each call, and enough of it for each byte.
LARGE_FLOPS = 1e8
LARGE_FLOPS_PER_BYTE = 20

SWEEP = 3  # rounds of each cell before the next sweep


class Row(NamedTuple):
    """One layer and pass, as the tables show it."""

    layer: str
    dtype: str
    which: str
    large: bool
    one: float  # seconds on one thread, ...
    all: float  # ... and on all
    peak: float | None  # what bare multiply-adds gain by them

    @property
    def gain(self) -> float:
        return self.one / self.all


def measure(
    data: problem.Problem, which: str, threads: int, method: timing.Method, peaks: Sequence[Limits]
) -> dict[str, timing.Times]:
    """Samples of one layer and pass, by the number of threads."""
    call = windrow_own.candidate("windrow", data, which, np.ascontiguousarray, False).call

    def on(count: int) -> None:
        with wr.num_threads(count):
            call()

    candidates = {str(count): partial(on, count) for count in (1, threads)}
    for each in candidates.values():
        each()
    return timing.interleave(candidates, method, lambda: [p.fma_peak(data.dtype) for p in peaks])


def joined(sweeps: Sequence[timing.Times]) -> timing.Times:
    samples = [sample for times in sweeps for sample in times.samples]
    return timing.Times(samples, sweeps[0].inner, sum(times.disturbed for times in sweeps))


def run(
    layers: Sequence[Layer],
    dtypes: Sequence[str],
    passes: Sequence[str],
    threads: int,
    method: timing.Method,
    peaks: Sequence[Limits],
) -> Iterator[dict[str, Any]]:
    """All cells, `SWEEP` rounds of each in every sweep over them."""
    chosen = [(dtype, layer) for dtype in dtypes for layer in layers]
    taken: dict[tuple[str, Layer, str], list[dict[str, timing.Times]]] = {}
    for sweep in range(-(-method.rounds // SWEEP)):
        rounds = min(SWEEP, method.rounds - sweep * SWEEP)
        for dtype, layer in chosen:
            data = problem.make(layer, dtype)
            for which in passes:
                times = measure(data, which, threads, method._replace(rounds=rounds, least=1), peaks)
                taken.setdefault((dtype, layer, which), []).append(times)
    for (dtype, layer, which), sweeps in taken.items():
        candidates = {}
        for name in sweeps[0]:
            times = joined([sweep[name] for sweep in sweeps])
            candidates[name] = results.times(times) | {"least": results.number(min(times.values))}
        moved = sum(layer.traffic("y")) * np.dtype(dtype).itemsize  # all of x, w and y, in every pass
        peak = [p.best_peak[dtype] for p in peaks]
        yield {
            "layer": f"{layer.source}/{layer.name}",
            "n": layer.n,
            "dtype": dtype,
            "pass": which,
            "flops": layer.flops,
            "flops_per_byte": results.number(layer.flops / moved),
            "candidates": candidates,
            "absent": {},
            "ratio": results.number(candidates["1"]["least"] / candidates[str(threads)]["least"]),
            "peak_ratio": results.number(peak[1] / peak[0]) if peak else None,
        }


def rows(document: dict[str, Any]) -> list[Row]:
    """The cells, those that gain least first."""
    threads = str(document["settings"]["threads"])
    found = [
        Row(
            layer=c["layer"],
            dtype=c["dtype"],
            which=c["pass"],
            large=c["flops"] > LARGE_FLOPS and c["flops_per_byte"] > LARGE_FLOPS_PER_BYTE,
            one=c["candidates"]["1"]["least"],
            all=c["candidates"][threads]["least"],
            peak=c["peak_ratio"],
        )
        for c in document["cells"]
    ]
    return sorted(found, key=lambda r: r.gain)
