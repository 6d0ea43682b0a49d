"""OpenVINO: the forward pass in float32, as a compiled model of one convolution with constant weights."""

import sys
from importlib import import_module

import numpy as np

from ..problem import Problem
from .base import Absent, Candidate, Peer

# Its telemetry would fork a process during the race; without that package OpenVINO takes a stub of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
ov = import_module("openvino")
ops = import_module("openvino.opset13")


class OpenVino(Peer):
    name = "openvino"

    def __init__(self, threads: int) -> None:
        self._core = ov.Core()
        self.version = ov.__version__
        # float32 as stated (its own choice on some machines is bfloat16); the race has pinned the process.
        self.settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }

    def conv(self, problem: Problem, which: str) -> list[Candidate]:
        layer = problem.layer
        if which != "y":
            raise Absent("OpenVINO has the forward pass only")
        if problem.dtype != "float32":
            raise Absent("OpenVINO's CPU plug-in computes in float32 at most")
        x = ops.parameter(layer.x_shape, np.float32)
        geometry = (list(layer.stride), list(layer.pad), list(layer.pad), list(layer.dilation))
        if layer.groups == 1:
            y = ops.convolution(x, ops.constant(problem.w), *geometry)
        else:
            grouped = problem.w.reshape(layer.groups, -1, *problem.w.shape[1:])
            y = ops.group_convolution(x, ops.constant(grouped), *geometry)
        model = ov.Model([y], [x], "conv")
        request = self._core.compile_model(model, "CPU", self.settings).create_infer_request()
        out = problem.empty("y")
        request.set_input_tensor(ov.Tensor(problem.x, shared_memory=True))
        request.set_output_tensor(ov.Tensor(out, shared_memory=True))
        return [Candidate("openvino", request.infer, lambda _: out, "existing", True)]


def load(threads: int) -> Peer:
    return OpenVino(threads)
