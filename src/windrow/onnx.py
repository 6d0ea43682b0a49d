"""windrow's operators for ONNX's reference evaluator, whose own are written to be read and not to be fast.

>>> import numpy as np
>>> from onnx import TensorProto, helper
>>> from onnx.reference import ReferenceEvaluator
>>> from windrow.onnx import OPERATORS
>>> node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")
>>> values = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in "xwy"]
>>> graph = helper.make_graph([node], "one layer", values[:2], values[2:])
>>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
>>> evaluator = ReferenceEvaluator(model, new_ops=OPERATORS)
>>> evaluator.run(None, {"x": np.ones((1, 1, 2, 4)), "w": np.ones((1, 1, 3, 3))})[0]
array([[[[4., 6., 6., 4.],
         [4., 6., 6., 4.]]]])

float16 is computed in float32 and rounded once; integers exactly, as `conv` has them. An attribute that is
not understood is refused by its name. Needs onnx (``pip install 'windrow[onnx]'``).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from . import convolution, global_pooling, lp_pooling, pooling, transposed, unfolding
from .arguments import show
from .arrays import Array

__all__ = [
    "OPERATORS", "AveragePool", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "GlobalAveragePool",
    "GlobalMaxPool", "LpPool", "MaxPool", "MaxUnpool", "QLinearConv",
]  # fmt: skip

_MODES = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}


def _sides(auto_pad: str | None, pads: Sequence[int] | None, rank: int) -> Any:
    """ONNX's padding as windrow's: a word, or (before, after) for each axis."""
    if auto_pad not in (None, "", "NOTSET"):
        if auto_pad not in _MODES:
            raise ValueError(f"auto_pad: expected NOTSET, {', '.join(_MODES)}, got {show(auto_pad)}")
        return _MODES[auto_pad]
    pads = pads or [0] * (2 * rank)
    if len(pads) != 2 * rank:
        raise ValueError(f"pads: expected {2 * rank} values for {rank} spatial axes, got {show(list(pads))}")
    return tuple((int(before), int(after)) for before, after in zip(pads[:rank], pads[rank:]))


def _per_axis(values: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    return tuple(int(value) for value in values) if values else (1,) * rank


def _check_kernel(kernel_shape: Sequence[int] | None, w: Array) -> None:
    if kernel_shape and tuple(kernel_shape) != w.shape[2:]:
        raise ValueError(
            f"kernel_shape: expected {w.shape[2:]}, as W has it, got {show(tuple(kernel_shape))}"
        )


def _options(rank: int, strides: Any, dilations: Any, group: Any) -> dict[str, Any]:
    return {
        "stride": _per_axis(strides, rank),
        "dilation": _per_axis(dilations, rank),
        "groups": 1 if group is None else int(group),
    }


def _computed(*operands: Array | None) -> list[Array | None]:
    """The operands in the type that is computed in: float32 for narrower floats."""
    narrow = all(operand is None or operand.dtype not in (np.float32, np.float64) for operand in operands)
    return [a if a is None or not narrow else a.astype(np.float32) for a in operands]


class Conv(OpRun):
    """ONNX's Conv."""

    def _run(
        self,
        X: Array,
        W: Array,
        B: Array | None = None,
        auto_pad: str | None = None,
        dilations: Any = None,
        group: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        _check_kernel(kernel_shape, W)
        rank = W.ndim - 2
        padding = _sides(auto_pad, pads, rank)
        x, w, b = _computed(X, W, B)
        y = convolution.conv(x, w, b, padding=padding, **_options(rank, strides, dilations, group))
        return (y.astype(X.dtype, copy=False),)


class ConvTranspose(OpRun):
    """ONNX's ConvTranspose; with output_shape the padding is what is left over."""

    def _run(
        self,
        X: Array,
        W: Array,
        B: Array | None = None,
        auto_pad: str | None = None,
        dilations: Any = None,
        group: Any = None,
        kernel_shape: Any = None,
        output_padding: Any = None,
        output_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        _check_kernel(kernel_shape, W)
        rank = W.ndim - 2
        options = _options(rank, strides, dilations, group)
        more = tuple(int(value) for value in output_padding) if output_padding else (0,) * rank
        wanted = output_shape
        if not wanted and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            wanted = [size * step for size, step in zip(X.shape[2:], options["stride"])]
        if wanted:
            wanted = tuple(int(size) for size in wanted)[-rank:]
            geometry = zip(X.shape[2:], W.shape[2:], options["stride"], options["dilation"], wanted, more)
            padding, more = _split_padding(geometry, upper=auto_pad != "SAME_LOWER")
        else:
            padding = _sides(auto_pad, pads, rank)
        x, w, b = _computed(X, W, B)
        y = transposed.conv_transpose(x, w, b, padding=padding, output_padding=more, **options)
        return (y.astype(X.dtype, copy=False),)


def _split_padding(geometry: Any, *, upper: bool) -> tuple[Any, tuple[int, ...]]:
    """Padding that gives the wanted sizes; where even none is too much, the end grows by what is missing."""
    sides, more = [], []
    for size, kernel, step, gap, wanted, extra in geometry:
        total = (size - 1) * step + gap * (kernel - 1) + 1 + extra - wanted
        more.append(extra + max(0, -total))
        total = max(0, total)
        half = total // 2
        sides.append((half, total - half) if upper else (total - half, half))
    return tuple(sides), tuple(more)


class Col2Im(OpRun):
    """ONNX's Col2Im: `fold`."""

    def _run(
        self,
        data: Array,
        image_shape: Array,
        block_shape: Array,
        dilations: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        rank = len(image_shape)
        return (
            unfolding.fold(
                data,
                tuple(int(size) for size in image_shape),
                tuple(int(size) for size in block_shape),
                stride=_per_axis(strides, rank),
                padding=_sides(None, pads, rank),
                dilation=_per_axis(dilations, rank),
            ),
        )


def _centred(values: Array, zero_point: Array | None) -> Array:
    """Integers of 8 bits less their zero point, in 16 bits; of 16 bits in 32."""
    wide = values.astype(np.int16 if values.dtype.itemsize == 1 else np.int32)
    if zero_point is None:
        return wide
    zero = zero_point.astype(wide.dtype)
    if zero.size == 1:
        return wide - zero.reshape(())
    return wide - zero.reshape(-1, *(1 for _ in values.shape[1:]))


def _integer_sums(
    x: Array, w: Array, auto_pad: Any, dilations: Any, group: Any, pads: Any, strides: Any
) -> Array:
    rank = w.ndim - 2
    options = _options(rank, strides, dilations, group)
    return convolution.conv(x, w, padding=_sides(auto_pad, pads, rank), accumulator=np.int64, **options)


class ConvInteger(OpRun):
    """ONNX's ConvInteger: exact, and wrapped to int32 like its sums."""

    def _run(
        self,
        X: Array,
        W: Array,
        x_zero_point: Array | None = None,
        w_zero_point: Array | None = None,
        auto_pad: str | None = None,
        dilations: Any = None,
        group: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        _check_kernel(kernel_shape, W)
        x, w = _centred(X, x_zero_point), _centred(W, w_zero_point)
        return (_integer_sums(x, w, auto_pad, dilations, group, pads, strides).astype(np.int32),)


class QLinearConv(OpRun):
    """ONNX's QLinearConv: exact sums, then one scaling, rounded half to even and saturated."""

    def _run(
        self,
        x: Array,
        x_scale: Array,
        x_zero_point: Array,
        w: Array,
        w_scale: Array,
        w_zero_point: Array,
        y_scale: Array,
        y_zero_point: Array,
        B: Array | None = None,
        auto_pad: str | None = None,
        dilations: Any = None,
        group: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        _check_kernel(kernel_shape, w)
        centred_x, centred_w = _centred(x, x_zero_point), _centred(w, w_zero_point)
        sums = _integer_sums(centred_x, centred_w, auto_pad, dilations, group, pads, strides)
        per_filter = (1, -1, *(1 for _ in w.shape[2:]))
        if B is not None:
            sums = sums + B.astype(np.int64).reshape(per_filter)
        scale = np.asarray(x_scale) * np.asarray(w_scale).reshape(per_filter) / np.asarray(y_scale)
        limits = np.iinfo(y_zero_point.dtype)
        scaled = np.rint(sums * scale) + y_zero_point.astype(np.float64)
        return (np.clip(scaled, limits.min, limits.max).astype(y_zero_point.dtype),)


def _pool_options(
    x: Array, auto_pad: Any, ceil_mode: Any, dilations: Any, pads: Any, strides: Any
) -> dict[str, Any]:
    rank = x.ndim - 2
    return {
        "stride": _per_axis(strides, rank),
        "padding": _sides(auto_pad, pads, rank),
        "dilation": _per_axis(dilations, rank),
        "ceil_mode": bool(ceil_mode),
    }


class MaxPool(OpRun):
    """ONNX's MaxPool, with the indices if the node has a second output."""

    def _run(
        self,
        x: Array,
        auto_pad: str | None = None,
        ceil_mode: Any = None,
        dilations: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        storage_order: Any = None,
        strides: Any = None,
    ) -> tuple[Array, ...]:
        options = _pool_options(x, auto_pad, ceil_mode, dilations, pads, strides)
        [wide] = _computed(x)
        if len(self.onnx_node.output) == 1:
            return (pooling.max_pool(wide, tuple(kernel_shape), **options).astype(x.dtype, copy=False),)
        y, indices = pooling.max_pool_with_indices(wide, tuple(kernel_shape), **options)
        size = x.shape[2:]
        if storage_order:
            indices = np.ravel_multi_index(np.unravel_index(indices, size)[::-1], size[::-1])
        planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1 for _ in size))
        return y.astype(x.dtype, copy=False), indices.astype(np.int64) + planes * int(np.prod(size))


class MaxUnpool(OpRun):
    """ONNX's MaxUnpool; what a larger output_shape adds at the ends is zero."""

    def _run(
        self,
        X: Array,
        indices: Array,
        output_shape: Array | None = None,
        kernel_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        rank = X.ndim - 2
        steps, sides = _per_axis(strides, rank), _sides(None, pads, rank)
        size = tuple(
            (count - 1) * step + kernel - before - after
            for count, step, kernel, (before, after) in zip(X.shape[2:], steps, kernel_shape, sides)
        )
        [wide] = _computed(X)
        y = pooling.max_unpool(wide, indices % int(np.prod(size)), size).astype(X.dtype, copy=False)
        if output_shape is None or tuple(output_shape) == y.shape:
            return (y,)
        whole = np.zeros(tuple(int(length) for length in output_shape), X.dtype)
        whole[tuple(slice(length) for length in y.shape)] = y
        return (whole,)


class AveragePool(OpRun):
    """ONNX's AveragePool."""

    def _run(
        self,
        x: Array,
        auto_pad: str | None = None,
        ceil_mode: Any = None,
        count_include_pad: Any = None,
        dilations: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        options = _pool_options(x, auto_pad, ceil_mode, dilations, pads, strides)
        [wide] = _computed(x)
        y = pooling.avg_pool(wide, tuple(kernel_shape), count_include_pad=bool(count_include_pad), **options)
        return (y.astype(x.dtype, copy=False),)


class LpPool(OpRun):
    """ONNX's LpPool."""

    def _run(
        self,
        x: Array,
        auto_pad: str | None = None,
        ceil_mode: Any = None,
        dilations: Any = None,
        kernel_shape: Any = None,
        p: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Array]:
        options = _pool_options(x, auto_pad, ceil_mode, dilations, pads, strides)
        [wide] = _computed(x)
        y = lp_pooling.lp_pool(wide, tuple(kernel_shape), 2 if p is None else p, **options)
        return (y.astype(x.dtype, copy=False),)


class GlobalAveragePool(OpRun):
    """ONNX's GlobalAveragePool."""

    def _run(self, x: Array) -> tuple[Array]:
        [wide] = _computed(x)
        return (global_pooling.global_avg_pool(wide).astype(x.dtype, copy=False),)


class GlobalMaxPool(OpRun):
    """ONNX's GlobalMaxPool."""

    def _run(self, x: Array) -> tuple[Array]:
        [wide] = _computed(x)
        return (global_pooling.global_max_pool(wide).astype(x.dtype, copy=False),)


OPERATORS = [
    AveragePool, Col2Im, Conv, ConvInteger, ConvTranspose, GlobalAveragePool, GlobalMaxPool, LpPool,
    MaxPool, MaxUnpool, QLinearConv,
]  # fmt: skip
