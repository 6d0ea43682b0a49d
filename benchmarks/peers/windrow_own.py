"""windrow: both memory formats, results written into existing buffers, and with prepared weights."""

from functools import partial
from typing import Any

import numpy as np

import windrow as wr

from ..layers import Layer
from ..problem import Problem, channels_last
from .base import Candidate, Patches, Peer, identity


class Windrow(Peer):
    name = "windrow"

    def __init__(self, threads: int) -> None:
        wr.set_num_threads(threads)
        self.version = wr.__version__
        self.settings = {"threads": wr.get_num_threads(), "config": wr.show_config(mode="dict")}

    def conv(self, problem: Problem, which: str) -> list[Candidate]:
        found = [candidate("windrow", problem, which, np.ascontiguousarray, False)]
        if problem.layer.c > 1 or problem.layer.filters > 1:
            found.append(candidate("windrow channels-last", problem, which, channels_last, True))
        if which == "y":
            layer = wr.prepare_conv(problem.w, **_geometry(problem))
            out = problem.empty("y")
            call = partial(layer, problem.x, out=out)
            found.append(Candidate("windrow prepared", call, identity, "existing", True))
        return found

    def unfold(self, case: Patches) -> list[Candidate]:
        call = partial(
            wr.unfold,
            case.x,
            case.layer.kernel,
            **_window(case.layer),
            layout=case.layout,
            out=case.columns,
        )
        return [Candidate("windrow", call, identity, "existing")]

    def fold(self, case: Patches) -> list[Candidate]:
        # The layouts that group n with l need the full shape: col2im has it.
        call = partial(
            wr.col2im,
            case.columns,
            case.layer.x_shape,
            case.layer.kernel,
            **_window(case.layer),
            layout=case.layout,
            out=case.x_out,
        )
        return [Candidate("windrow", call, identity, "existing")]


def _window(layer: Layer) -> dict[str, Any]:
    return {"stride": layer.stride, "padding": layer.pad, "dilation": layer.dilation}


def _geometry(problem: Problem) -> dict[str, Any]:
    return {**_window(problem.layer), "groups": problem.layer.groups, "algorithm": problem.algorithm}


def candidate(name: str, problem: Problem, which: str, arrange: Any, last: bool) -> Candidate:
    """One pass on arrays that `arrange` gives, into an existing buffer."""
    geometry = _geometry(problem)
    out = problem.empty(which, channels_last=last and which != "dw")
    x, dy = arrange(problem.x), arrange(problem.dy)
    calls = {
        "y": partial(wr.conv, x, problem.w, **geometry, out=out),
        "dx": partial(wr.conv_grad_input, dy, problem.w, problem.x.shape, **geometry, out=out),
        "dw": partial(wr.conv_grad_weight, dy, x, problem.w.shape, **geometry, out=out),
    }
    return Candidate(name, calls[which], identity, "existing")


def load(threads: int) -> Peer:
    return Windrow(threads)
