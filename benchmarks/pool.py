"""The race of pooling: forward and backward in both memory formats, beside the memory's speed."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

import windrow as wr

from . import limits, results, timing
from .machine import Busy
from .patches import score
from .peers import OURS
from .race import Meter

SHAPES = ((1, 64, 56, 56), (1, 64, 112, 112))
FORMATS = ("channels_first", "channels_last")
Call = Callable[[], Any]


class Window(NamedTuple):
    """A pooling of images."""

    name: str
    mean: bool
    kernel: int
    stride: int
    padding: int


WINDOWS = (
    Window("max 2x2 s2", False, 2, 2, 0),
    Window("max 3x3 s2 p1", False, 3, 2, 1),
    Window("avg 2x2 s2", True, 2, 2, 0),
)


def operations(window: Window) -> tuple[str, ...]:
    return ("y", "dx") if window.mean else ("y", "y, indices", "dx")


def in_format(array: np.ndarray, memory_format: str) -> np.ndarray:
    if memory_format == "channels_first":
        return np.ascontiguousarray(array)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def our_calls(window: Window, x: np.ndarray) -> dict[str, Call]:
    """Each operation as a call that returns its results."""
    options: dict[str, Any] = {"stride": window.stride, "padding": window.padding}
    if window.mean:
        y = wr.avg_pool(x, window.kernel, **options)
        return {
            "y": partial(wr.avg_pool, x, window.kernel, **options),
            "dx": partial(wr.avg_pool_backward, y, x.shape, window.kernel, **options),
        }
    y, indices = wr.max_pool_with_indices(x, window.kernel, **options)
    return {
        "y": partial(wr.max_pool, x, window.kernel, **options),
        "y, indices": partial(wr.max_pool_with_indices, x, window.kernel, **options),
        "dx": partial(wr.max_pool_backward, y, indices, x.shape),
    }


def torch_calls(window: Window, x: np.ndarray) -> dict[str, Call]:
    """PyTorch's operators themselves, without its autograd. It has no maximum without indices."""
    import torch  # noqa: PLC0415

    aten = torch.ops.aten
    image = torch.from_numpy(x)
    size, stride, pad = [window.kernel] * 2, [window.stride] * 2, [window.padding] * 2
    if window.mean:
        y = aten.avg_pool2d(image, size, stride, pad)
        backward = partial(aten.avg_pool2d_backward, y, image, size, stride, pad, False, True, None)
        return {"y": partial(aten.avg_pool2d, image, size, stride, pad), "dx": backward}
    y, indices = aten.max_pool2d_with_indices(image, size, stride, pad)
    both = partial(aten.max_pool2d_with_indices, image, size, stride, pad)
    backward = partial(
        aten.max_pool2d_with_indices_backward, y, image, size, stride, pad, [1, 1], False, indices
    )
    return {"y": both, "y, indices": both, "dx": backward}


def first_result(got: Any) -> np.ndarray:
    return np.asarray(got[0] if isinstance(got, tuple) else got)


def cell(
    window: Window,
    shape: tuple[int, ...],
    dtype: str,
    memory_format: str,
    operation: str,
    peers: Sequence[str],
    method: timing.Method,
    measured: limits.Limits | None,
) -> dict[str, Any]:
    """One operation: ours on arrays of this format, PyTorch on arrays of either."""
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x = in_format(values, memory_format)
    candidates = {OURS: our_calls(window, x)[operation]} if OURS in peers else {}
    if "torch" in peers:
        for other in FORMATS:
            candidates[f"torch, {other}"] = torch_calls(window, in_format(values, other))[operation]
    found = {name: first_result(call()) for name, call in candidates.items()}
    near = window.kernel**2 * np.finfo(dtype).eps * 8  # of values below 8
    y = our_calls(window, x)["y"]()
    expected = our_calls(window, x)[operation]()
    absent = {
        # A gradient of either is a sum of at most as many terms as the window has taps.
        name: "wrong: results differ"
        for name, got in found.items()
        if not np.allclose(got, first_result(expected), rtol=0, atol=near)
    }
    for name in absent:
        del candidates[name]
    moved = 8 * y.size if operation == "y, indices" or (operation == "dx" and not window.mean) else 0
    read, written = (y.nbytes + moved, x.nbytes) if operation == "dx" else (x.nbytes, y.nbytes + moved)
    meter = None
    if measured is not None:
        # Buffers of these sizes: the limits want arrays without gaps, in C order.
        buffers = np.full(x.shape, 1.5, dtype), np.full(y.shape, 1.5, dtype)
        meter = Meter(measured, dtype, *(buffers if operation == "dx" else buffers[::-1]))
    busy = Busy()
    taken = timing.interleave(candidates, method, meter, beside=OURS)
    result = {
        "layer": f"pool/{window.name} {shape[1]}x{shape[2]}x{shape[3]}",
        "dtype": dtype,
        "operation": operation,
        "layout": memory_format,
        "bytes_read": read,
        "bytes_written": written,
        "others": busy.others(),
        "limits": meter.result() if meter else None,
        "limit_samples": meter.samples() if meter else None,
        "candidates": {name: results.times(times) for name, times in taken.items()},
        "absent": absent,
    }
    ours = result["candidates"].get(OURS)
    rivals = [entry["median"] for name, entry in result["candidates"].items() if name != OURS]
    result["ratio"] = min(rivals) / ours["median"] if ours and rivals else None
    result["score"] = score(result)
    return result


def run(
    dtypes: Sequence[str],
    only: Sequence[str],
    peers: Sequence[str],
    method: timing.Method,
    measured: limits.Limits | None,
) -> Iterator[dict[str, Any]]:
    """All cells whose name contains one of the texts in `only`, each as it ends."""
    for window, shape, dtype, memory_format in product(WINDOWS, SHAPES, dtypes, FORMATS):
        name = f"pool/{window.name} {shape[1]}x{shape[2]}x{shape[3]}"
        if only and not any(text in name for text in only):
            continue
        for operation in operations(window):
            yield cell(window, shape, dtype, memory_format, operation, peers, method, measured)
