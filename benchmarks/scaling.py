"""What several threads are worth: each layer and pass on one thread and on all, in turns in one run.

Windrow alone takes part, on C-ordered arrays and with caches warm from the call before. Of each number of
threads the least of all samples counts: what disturbs a sample makes it longer, and two cores are twice as
likely to be disturbed as one. Beside each layer stands what bare multiply-adds gain in the same rounds.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import windrow as wr

from . import problem, results, timing
from .layers import Layer
from .limits import Limits

# A layer that two threads should serve: enough work for each call, and enough of it for each byte.
LARGE_FLOPS = 1e8
LARGE_FLOPS_PER_BYTE = 20


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


def our_call(data: problem.Problem, which: str) -> Callable[[], Any]:
    layer = data.layer
    options = {
        "stride": layer.stride,
        "padding": tuple((p, p) for p in layer.pad),
        "dilation": layer.dilation,
        "groups": layer.groups,
        "out": data.empty(which),
    }
    return {
        "y": partial(wr.conv, data.x, data.w, **options),
        "dx": partial(wr.conv_grad_input, data.dy, data.w, layer.x_shape, **options),
        "dw": partial(wr.conv_grad_weight, data.dy, data.x, layer.w_shape, **options),
    }[which]


def cell(
    data: problem.Problem, which: str, threads: int, method: timing.Method, peaks: Sequence[Limits]
) -> dict[str, Any]:
    call = our_call(data, which)

    def on(count: int) -> None:
        with wr.num_threads(count):
            call()

    candidates = {str(count): partial(on, count) for count in (1, threads)}
    for each in candidates.values():
        each()
    taken = timing.interleave(candidates, method, lambda: [p.fma_peak(data.dtype) for p in peaks])
    layer = data.layer
    moved = (np.prod(layer.x_shape) + np.prod(layer.w_shape) + np.prod(layer.y_shape)) * data.x.itemsize
    per_byte = layer.flops / float(moved)
    times = {name: results.times(t) | {"least": results.number(min(t.values))} for name, t in taken.items()}
    gain = [p.best_peak[data.dtype] for p in peaks]
    return {
        "layer": f"{layer.source}/{layer.name}",
        "n": layer.n,
        "dtype": data.dtype,
        "pass": which,
        "flops": layer.flops,
        "flops_per_byte": results.number(per_byte),
        "candidates": times,
        "absent": {},
        "ratio": results.number(times["1"]["least"] / times[str(threads)]["least"]),
        "peak_ratio": results.number(gain[1] / gain[0]) if gain else None,
    }


def run(
    layers: Sequence[Layer],
    dtypes: Sequence[str],
    passes: Sequence[str],
    threads: int,
    method: timing.Method,
    peaks: Sequence[Limits],
) -> Iterator[dict[str, Any]]:
    for dtype in dtypes:
        for layer in layers:
            data = problem.make(layer, dtype)
            for which in passes:
                yield cell(data, which, threads, method, peaks)


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
