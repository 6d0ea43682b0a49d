"""Measured errors of the operations that tools/error_tables.py does not have, beside PyTorch's, in its unit.

    python tools/error_operations.py            # prints the tables
    python tools/error_operations.py --write    # puts them into docs/numerics.md, between its markers

Other ranks and memory formats of conv, its bias gradient, transposed convolution, complex numbers, halves,
poolings and fold.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import windrow as wr
from error_tables import PAGE, SEED, figure, import_torch, operand, put
from windrow import reference

MARKERS = "<!-- operation tables: begin -->", "<!-- operation tables: end -->"
KINDS = ("normal", "positive")
Shape = tuple[int, ...]


class Operation(NamedTuple):
    """One row: an operation by windrow, by the reference in long double, and by PyTorch."""

    name: str
    shapes: tuple[Shape, ...]  # of its operands
    windrow: Callable[..., Any]
    exact: Callable[..., Any]
    torch: Callable[..., Any]  # the module, then the operands
    bound: float  # no error may pass it
    last: bool = False  # whether operands are channels-last


def roundings(operation: str, x: Shape, w: Shape, options: dict[str, Any]) -> int:
    """The larger n of the two dtypes: that of depthwise gradients depends on their lanes."""
    return max(
        wr.explain(operation, x, w, dtype=dtype, algorithm="direct", **options)["roundings"]
        for dtype in (np.float32, np.float64)
    )


def layer(name: str, x: Shape, w: Shape, *, last: bool = False, **options: Any) -> Iterator[Operation]:
    """y, dx and dw of a convolution."""
    by_torch = f"conv{len(x) - 2}d"
    dy = wr.conv(np.zeros(x), np.zeros(w), **options).shape
    long = {**options, "dtype": np.longdouble}
    direct = {**options, "algorithm": "direct"}
    yield Operation(
        f"y: {name}",
        (x, w),
        lambda x, w: wr.conv(x, w, **direct),
        lambda x, w: reference.conv(x, w, **long),
        lambda torch, x, w: getattr(torch.nn.functional, by_torch)(x, w, **options),
        roundings("conv", x, w, options),
        last,
    )
    yield Operation(
        f"dx: {name}",
        (dy, w),
        lambda dy, w: wr.conv_grad_input(dy, w, x, **direct),
        lambda dy, w: reference.conv_grad_input(dy, w, x, **long),
        lambda torch, dy, w: getattr(torch.nn.grad, f"{by_torch}_input")(x, w, dy, **options),
        roundings("conv_grad_input", x, w, options),
        last,
    )
    yield Operation(
        f"dw: {name}",
        (dy, x),
        lambda dy, x: wr.conv_grad_weight(dy, x, w, **direct),
        lambda dy, x: reference.conv_grad_weight(dy, x, w, **long),
        lambda torch, dy, x: getattr(torch.nn.grad, f"{by_torch}_weight")(x, w, dy, **options),
        roundings("conv_grad_weight", x, w, options),
        last,
    )


def layers() -> Iterator[Operation]:
    depthwise = (4, 32, 56, 56), (32, 1, 3, 3)
    yield from layer("depthwise 3x3, channels-last", *depthwise, last=True, padding=1, groups=32)
    yield from layer("3x3, channels-last", (2, 64, 14, 14), (64, 64, 3, 3), last=True, padding=1)
    yield from layer("1x1, 256 to 64", (2, 256, 14, 14), (64, 256, 1, 1))
    yield from layer("3x3 /2 in 4 groups", (2, 64, 28, 28), (64, 16, 3, 3), padding=1, stride=2, groups=4)
    yield from layer("16x16 /16, patches", (2, 3, 64, 64), (64, 3, 16, 16), stride=16)
    yield from layer("9, dilation 4, a signal", (2, 32, 512), (32, 32, 9), padding=16, dilation=4)
    yield from layer("3x3x3, a volume", (1, 16, 12, 12, 12), (16, 16, 3, 3, 3), padding=1)


def gradient(torch: Any, function: Callable[[Any], Any], x_shape: Shape, dy: Any) -> Any:
    """PyTorch's gradient of a function that is linear in x."""
    x = torch.zeros(x_shape, dtype=dy.dtype, requires_grad=True)
    return torch.autograd.grad(function(x), x, dy)[0]


def others() -> Iterator[Operation]:
    """What is no convolution of real numbers."""
    dy, pixels = (4, 32, 56, 56), 56 * 56
    yield Operation(
        "db: 56x56, 4 images",
        (dy,),
        wr.conv_grad_bias,
        partial(reference.conv_grad_bias, dtype=np.longdouble),
        lambda torch, dy: dy.sum((0, 2, 3)),
        -(-min(pixels, 2048) // 16) + 4 + -(-pixels // 2048) + dy[0],
    )
    x, w, options = (2, 64, 14, 14), (64, 32, 4, 4), {"stride": 2, "padding": 1}
    yield Operation(
        "conv_transpose: 4x4 /2",
        (x, w),
        lambda x, w: wr.conv_transpose(x, w, algorithm="direct", **options),
        lambda x, w: reference.conv_transpose(x, w, dtype=np.longdouble, **options),
        lambda torch, x, w: torch.nn.functional.conv_transpose2d(x, w, **options),
        roundings("conv_transpose", x, w, options),
    )
    x, options = (2, 16, 56, 56), {"stride": 2, "padding": 1}
    y = wr.avg_pool(np.zeros(x), 3, **options).shape
    yield Operation(
        "avg_pool: 3x3 /2",
        (x,),
        lambda x: wr.avg_pool(x, 3, **options),
        lambda x: reference.avg_pool(x, 3, dtype=np.longdouble, **options),
        lambda torch, x: torch.nn.functional.avg_pool2d(x, 3, **options),
        10,
    )
    yield Operation(
        "avg_pool_backward: 3x3 /2",
        (y,),
        lambda dy: wr.avg_pool_backward(dy, x, 3, **options),
        lambda dy: reference.avg_pool_backward(dy, x, 3, dtype=np.longdouble, **options),
        lambda torch, dy: gradient(torch, lambda x: torch.nn.functional.avg_pool2d(x, 3, **options), x, dy),
        5,
    )
    yield Operation(
        "global_avg_pool: 56x56",
        (x,),
        wr.global_avg_pool,
        partial(reference.global_avg_pool, dtype=np.longdouble),
        lambda torch, x: torch.nn.functional.adaptive_avg_pool2d(x, 1),
        128 + -(-pixels // 128) + 1,
    )
    for p in (2, 3):  # of positive numbers PyTorch has the same norm
        yield Operation(
            f"lp_pool: p = {p}, 3x3 /3, magnitudes",
            (x,),
            lambda x, p=p: wr.lp_pool(np.abs(x), 3, p),
            lambda x, p=p: reference.lp_pool(np.abs(x), 3, p, dtype=np.longdouble),
            lambda torch, x, p=p: torch.nn.functional.lp_pool2d(abs(x), p, 3),
            (p + 9) / p + 4,
        )
    columns = (2, 16 * 9, pixels)
    for reduce in ("sum", "mean"):
        yield Operation(
            f"fold: 3x3, {reduce}",
            (columns,),
            lambda c, r=reduce: wr.fold(c, (56, 56), 3, padding=1, reduce=r),
            lambda c, r=reduce: reference.fold(
                c.astype(np.longdouble), (56, 56), 3, padding=1, reduce=r, form="sliding"
            ),
            partial(folded_by_torch, reduce=reduce),
            10,
        )


def folded_by_torch(torch: Any, columns: Any, reduce: str) -> Any:
    """PyTorch has sums alone: a mean is a sum over what a sum of ones gives."""
    fold = partial(torch.nn.functional.fold, output_size=(56, 56), kernel_size=3, padding=1)
    return fold(columns) if reduce == "sum" else fold(columns) / fold(torch.ones_like(columns))


def converted(kind: str) -> Iterator[Operation]:
    """conv of numbers that are brought into float32 or float64: complex ones, or halves."""
    x, w, options = (2, 32, 14, 14), (32, 32, 3, 3), {"padding": 1}
    n = roundings("conv", x, w, options)
    yield Operation(
        f"y: 3x3, 32 to 32, {kind}",
        (x, w),
        lambda x, w: wr.conv(x, w, algorithm="direct", **options),
        lambda x, w: reference.conv(wide(x), wide(w), **options),
        lambda torch, x, w: torch.nn.functional.conv2d(x, w, **options),
        2 * n if kind == "complex" else 1,
    )


def wide(array: Any) -> Any:
    """In long double, complex or not."""
    return array.astype(np.clongdouble if array.dtype.kind == "c" else np.longdouble)


def drawn(operation: Operation, kind: str, dtype: Any) -> list[Any]:
    """The operands of a row, of a class of data."""
    rng = np.random.default_rng(SEED)
    arrays = []
    for shape in operation.shapes:
        values = operand(rng, kind, shape, 0)
        if np.dtype(dtype).kind == "c":
            values = values + 1j * operand(rng, kind, shape, 0)
        array = values.astype(dtype)
        if operation.last:
            array = np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
        arrays.append(array)
    return arrays


def to_torch(torch: Any, array: Any) -> Any:
    if array.dtype.name == "bfloat16":  # which NumPy itself does not know
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def from_torch(torch: Any, tensor: Any) -> Any:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def errors(operation: Operation, kind: str, dtype: Any, torch: Any) -> dict[str, float | None]:
    """Of windrow and of PyTorch, in eps of the result's type * the largest sum of magnitudes."""
    arrays = drawn(operation, kind, dtype)
    exact = operation.exact(*arrays)
    largest = np.abs(operation.exact(*(np.abs(wide(array)) for array in arrays))).max()
    eps = 2.0**-7 if np.dtype(dtype).name == "bfloat16" else float(np.finfo(dtype).eps)
    results = {"windrow": operation.windrow(*arrays), "PyTorch": None}
    if torch:
        tensors = (to_torch(torch, array) for array in arrays)
        results["PyTorch"] = from_torch(torch, operation.torch(torch, *tensors))

    def error(result: Any) -> float | None:
        if result is None:
            return None
        assert result.shape == exact.shape, operation.name
        return float(np.max(np.abs(wide(result) - exact)) / (eps * largest))

    return {by: error(result) for by, result in results.items()}


def table(operations: list[Operation], dtypes: list[Any], torch: Any) -> Iterator[str]:
    """Rows of operations; columns of dtypes, classes of data, and who computed."""
    heads = [(dtype, kind, by) for dtype in dtypes for kind in KINDS for by in ("windrow", "PyTorch")]
    yield "| |" + "".join(f" {np.dtype(d).name}, {kind}: {by} |" for d, kind, by in heads) + " bound |"
    yield "|---|" + "--:|" * (len(heads) + 1)
    for operation in operations:
        cells = [
            figure(value)
            for dtype in dtypes
            for kind in KINDS
            for value in errors(operation, kind, dtype, torch).values()
        ]
        yield f"| {operation.name} | " + " | ".join(cells) + f" | {operation.bound:.4g} |"


def lines(torch: Any) -> Iterator[str]:
    import ml_dtypes  # noqa: PLC0415 - installed with onnx, as PyTorch is beside the others

    peer = f"PyTorch {torch.__version__}" if torch else "no PyTorch"
    yield f"Target {wr.show_config('dict')['target']}, {peer}."
    yield ""
    yield from table([*layers(), *others()], [np.float32, np.float64], torch)
    yield ""
    yield from table(list(converted("complex")), [np.complex64, np.complex128], torch)
    yield ""
    yield from table(list(converted("halves")), [np.float16, ml_dtypes.bfloat16], torch)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/numerics.md")
    arguments = parser.parse_args()
    if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        print("long double is no wider than double here: nothing to compare float64 with", file=sys.stderr)
        return 1
    text = "\n".join(lines(import_torch()))
    if arguments.write:
        PAGE.write_text(put(PAGE.read_text(), MARKERS, text))
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
