"""Adapters against what they stand in for: ONNX's evaluator on a network, scikit-learn's patches."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import results, timing
from .peers import OURS

BATCH = 8
PHOTO = (427, 640)  # scikit-learn's own
PATCH = (8, 8)


class Case(NamedTuple):
    """The same work by windrow and by the library that the adapter is for; both give the same array."""

    call: str
    library: str
    make: Callable[[], dict[str, Callable[[], np.ndarray]]]  # raises ImportError where the library is missing


def lenet() -> Any:
    """LeNet-5 (LeCun et al. 1998), with maxima and ReLU, as an ONNX model; its weights are -1, 0 and 1."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    rng = np.random.default_rng(0)
    shapes = {
        "w1": (6, 1, 5, 5), "w2": (16, 6, 5, 5), "w3": (120, 16, 5, 5), "w4": (120, 84), "w5": (84, 10),
    }  # fmt: skip
    weights = [
        numpy_helper.from_array(rng.integers(-1, 2, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    node, pool = helper.make_node, {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Conv", ["x", "w1"], ["c1"]),
        node("Relu", ["c1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], **pool),
        node("Conv", ["p1", "w2"], ["c2"]),
        node("Relu", ["c2"], ["r2"]),
        node("MaxPool", ["r2"], ["p2"], **pool),
        node("Conv", ["p2", "w3"], ["c3"]),
        node("Relu", ["c3"], ["r3"]),
        node("Flatten", ["r3"], ["f"]),
        node("Gemm", ["f", "w4"], ["g"]),
        node("Relu", ["g"], ["r4"]),
        node("Gemm", ["r4", "w5"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1, 32, 32]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 10]),
    ]
    graph = helper.make_graph(nodes, "LeNet-5", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def images() -> np.ndarray:
    """Small integers: with such weights every sum is exact in float32, so that results must be equal."""
    return np.random.default_rng(1).integers(0, 4, (BATCH, 1, 32, 32)).astype(np.float32)


def _onnx() -> dict[str, Callable[[], np.ndarray]]:
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    from windrow.onnx import OPERATORS  # noqa: PLC0415

    model, x = lenet(), images()
    ours, theirs = ReferenceEvaluator(model, new_ops=OPERATORS), ReferenceEvaluator(model)
    return {OURS: lambda: ours.run(None, {"x": x})[0], "onnx": lambda: theirs.run(None, {"x": x})[0]}


def _photo(channels: int) -> np.ndarray:
    return np.random.default_rng(0).random((*PHOTO, channels) if channels else PHOTO)


def _extract(channels: int) -> Callable[[], dict[str, Callable[[], np.ndarray]]]:
    def make() -> dict[str, Callable[[], np.ndarray]]:
        from sklearn.feature_extraction import image as theirs  # noqa: PLC0415

        from windrow import sklearn as ours  # noqa: PLC0415

        photo = _photo(channels)
        return {
            OURS: lambda: ours.extract_patches_2d(photo, PATCH),
            "scikit-learn": lambda: theirs.extract_patches_2d(photo, PATCH),
        }

    return make


def _reconstruct(channels: int) -> Callable[[], dict[str, Callable[[], np.ndarray]]]:
    def make() -> dict[str, Callable[[], np.ndarray]]:
        from sklearn.feature_extraction import image as theirs  # noqa: PLC0415

        from windrow import sklearn as ours  # noqa: PLC0415

        # Multiples of 1/256: sums of 64 are exact, and equal patches come back as they were.
        photo = np.round(_photo(channels) * 256) / 256
        patches = theirs.extract_patches_2d(photo, PATCH)
        return {
            OURS: lambda: ours.reconstruct_from_patches_2d(patches, photo.shape),
            "scikit-learn": lambda: theirs.reconstruct_from_patches_2d(patches, photo.shape),
        }

    return make


CASES = [
    Case(f"LeNet-5, batch {BATCH}", "onnx", _onnx),
    Case("extract_patches_2d, grey", "scikit-learn", _extract(0)),
    Case("extract_patches_2d, colour", "scikit-learn", _extract(3)),
    Case("reconstruct_from_patches_2d, grey", "scikit-learn", _reconstruct(0)),
    Case("reconstruct_from_patches_2d, colour", "scikit-learn", _reconstruct(3)),
]


def run(cases: list[Case], method: timing.Method) -> Iterator[dict[str, Any]]:
    """A cell per case; one whose results differ is not timed."""
    for case in cases:
        try:
            calls = case.make()
        except ImportError as error:
            yield {"layer": case.call, "skipped": f"{case.library}: {error}"}
            continue
        first, second = (call() for call in calls.values())
        cell = {"call": case.call, "dtype": str(first.dtype), "candidates": {}, "absent": {}, "ratio": None}
        if np.array_equal(first, second):
            taken = timing.interleave(calls, method)
            cell["candidates"] = {name: results.times(times) for name, times in taken.items()}
            cell["ratio"] = taken[case.library].median / taken[OURS].median
        else:
            cell["absent"] = {OURS: f"wrong: not what {case.library} gives"}
        yield cell
