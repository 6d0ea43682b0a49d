"""onnxruntime: the forward pass in float32, as a session of one Conv node with its weights as a constant."""

from functools import partial

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from ..problem import Problem
from .base import Absent, Candidate, Peer

# Old enough for every onnxruntime of the last years; Conv has not changed since opset 11.
_OPSET, _IR_VERSION = 13, 8


class OnnxRuntime(Peer):
    name = "onnxruntime"

    def __init__(self, threads: int) -> None:
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = 3
        self.version = ort.__version__
        self.settings = {"intra_op_num_threads": threads, "provider": "CPUExecutionProvider"}

    def conv(self, problem: Problem, which: str) -> list[Candidate]:
        layer = problem.layer
        if which != "y":
            raise Absent("onnxruntime has the forward pass only")
        if problem.dtype != "float32":
            raise Absent("onnxruntime's Conv takes float32 only on the CPU")
        node = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            kernel_shape=layer.kernel,
            strides=layer.stride,
            pads=layer.pad * 2,
            dilations=layer.dilation,
            group=layer.groups,
        )
        graph = helper.make_graph(
            [node],
            "conv",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, layer.x_shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, layer.y_shape)],
            [numpy_helper.from_array(problem.w, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = _IR_VERSION
        session = ort.InferenceSession(
            model.SerializeToString(), self._options, providers=["CPUExecutionProvider"]
        )
        x = ort.OrtValue.ortvalue_from_numpy(problem.x)
        y = ort.OrtValue.ortvalue_from_shape_and_type(layer.y_shape, np.float32)
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_output("y", y)

        def value(_: None) -> np.ndarray:
            return y.numpy()

        return [
            Candidate("onnxruntime", partial(session.run_with_iobinding, binding), value, "existing", True)
        ]


def load(threads: int) -> Peer:
    return OnnxRuntime(threads)
