"""Passes by one way of computing them, whatever the core's choice would be."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from windrow import _core
from windrow.convolution import prepared
from windrow.geometry import conv_geometry

from .layers import Layer
from .problem import Problem, channels_last

# The numbers of algorithms that stand for one way each; 0 for the choice.
CANDIDATES: dict[str, int] = _core.candidates()
WEIGHT_CANDIDATES: dict[str, int] = _core.weight_candidates()
OPERATIONS = {"y": "conv", "dx": "conv_grad_input", "dw": "conv_grad_weight"}


def core_of(layer: Layer) -> Any:
    """The core's problem of a layer."""
    padding = tuple((p, p) for p in layer.pad)
    return prepared(
        conv_geometry(layer.x_shape, layer.w_shape, layer.stride, padding, layer.dilation, layer.groups)
    )


class Pass:
    """One pass of a problem on arrays in one memory format, into an existing buffer."""

    def __init__(self, core: Any, problem: Problem, which: str, memory: str) -> None:
        self._core, self._problem, self._which = core, problem, which
        self._last = memory == "channels_last"
        arrange = channels_last if self._last else np.ascontiguousarray
        self._x = arrange(problem.x) if which != "dx" else None
        self._dy = arrange(problem.dy) if which != "y" else None
        self._out = problem.empty(which, channels_last=self._last and which != "dw")

    def plan(self, number: int, kept: bool = False, limit: int = 0) -> dict[str, Any]:
        """What the core would do, on one thread."""
        is_double = self._problem.dtype == "float64"
        plan: dict[str, Any] = self._core.plan(
            OPERATIONS[self._which], is_double, self._last, 1, limit, number, kept
        )
        return plan

    def call(self, number: int, kept: bool = False, limit: int = 0) -> Callable[[], Any]:
        """The pass by the number of an algorithm. `kept`: y with weights prepared; `limit`: max_workspace."""
        core, w, out = self._core, self._problem.w, self._out
        if kept:
            return partial(_core.Prepared(w, None, False, 0.0, 0.0, number).checked, core, self._x, out)
        calls = {
            "y": partial(core.forward, self._x, w, None, out, limit, number),
            "dx": partial(core.grad_input, self._dy, w, out, False, None, limit, number),
            "dw": partial(core.grad_weight, self._dy, self._x, out, False, limit, number),
        }
        return calls[self._which]
