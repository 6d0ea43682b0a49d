"""PyTorch, contiguous and channels-last: each pass alone, by the operators that autograd itself calls."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from ..problem import Problem
from .base import Absent, Candidate, Patches, Peer

_FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
_MASKS = {"dx": [True, False, False], "dw": [False, True, False]}
_LAYOUTS = {"n (c k) l": (0, 1, 2), "(c k) (l n)": (1, 2, 0), "(n l) (c k)": (0, 2, 1)}


class Torch(Peer):
    name = "torch"

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.version = torch.__version__
        self.settings = {
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "mkldnn": torch.backends.mkldnn.is_available(),
            "parallel": [s for s in torch.__config__.parallel_info().splitlines() if "OpenMP" in s][:1],
        }

    def conv(self, problem: Problem, which: str) -> list[Candidate]:
        rank = problem.layer.rank
        if rank not in _FORWARD:
            raise Absent("torch has convolutions of rank 1 to 3")
        formats = {"torch": torch.contiguous_format}
        if rank in _CHANNELS_LAST:
            formats["torch channels-last"] = _CHANNELS_LAST[rank]
        return [self._candidate(name, memory, problem, which) for name, memory in formats.items()]

    def _candidate(self, name: str, memory: Any, problem: Problem, which: str) -> Candidate:
        layer = problem.layer

        def tensor(array: Any) -> Any:
            return torch.from_numpy(array).contiguous(memory_format=memory)

        stride, pad, dilation = list(layer.stride), list(layer.pad), list(layer.dilation)
        if which == "y":
            x, w = tensor(problem.x), tensor(problem.w)
            call = partial(_FORWARD[layer.rank], x, w, None, stride, pad, dilation, layer.groups)
            return Candidate(name, call, lambda y: y.numpy(), "fresh")
        backward = partial(
            torch.ops.aten.convolution_backward.default,
            tensor(problem.dy),
            tensor(problem.x),
            tensor(problem.w),
            None,
            stride,
            pad,
            dilation,
            False,
            [0] * layer.rank,
            layer.groups,
            _MASKS[which],
        )
        place = 0 if which == "dx" else 1
        return Candidate(name, backward, lambda grads: grads[place].numpy(), "fresh")

    def unfold(self, case: Patches) -> list[Candidate]:
        layer, order = case.layer, _LAYOUTS[case.layout]
        if layer.rank != 2:
            raise Absent("torch.unfold is 2-D")
        if case.dtype not in ("float32", "float64"):
            raise Absent("torch.unfold takes floats")
        x = torch.from_numpy(case.x)
        run = partial(F.unfold, x, layer.kernel, layer.dilation, layer.pad, layer.stride)
        if order == (0, 1, 2):
            return [Candidate("torch.unfold", run, lambda c: c.numpy().reshape(case.columns.shape), "fresh")]
        n, ck, l = layer.columns_shape
        moved = tuple((n, ck, l)[axis] for axis in order)
        out = torch.from_numpy(case.columns).view(moved)

        def call() -> Any:
            return out.copy_(run().permute(order))

        value = lambda c: c.numpy().reshape(case.columns.shape)  # noqa: E731
        return [Candidate("torch.unfold + permute", call, value, "existing")]

    def fold(self, case: Patches) -> list[Candidate]:
        layer, order = case.layer, _LAYOUTS[case.layout]
        if layer.rank != 2:
            raise Absent("torch.fold is 2-D")
        n, ck, l = layer.columns_shape
        moved = tuple((n, ck, l)[axis] for axis in order)
        columns = torch.from_numpy(case.columns).view(moved)
        back = tuple(order.index(axis) for axis in range(3))
        size, name = list(layer.size), "torch.fold" if order == (0, 1, 2) else "torch.fold + permute"

        def call() -> Any:
            # fold copies what is not contiguous itself.
            return F.fold(columns.permute(back), size, layer.kernel, layer.dilation, layer.pad, layer.stride)

        return [Candidate(name, call, lambda x: x.numpy(), "fresh")]


def load(threads: int) -> Peer:
    return Torch(threads)
