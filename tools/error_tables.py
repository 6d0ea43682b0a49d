"""Measured errors of the convolution and its gradients, beside PyTorch's on the same data.

    python tools/error_tables.py            # prints the tables
    python tools/error_tables.py --write    # puts them into the page, between its markers

Each figure is the largest error of a result, against sums in long double, divided by eps times the largest
entry of the same sum over magnitudes: the largest error in units of the last place that matters. PyTorch is
optional; without it its columns say so.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import windrow as wr
from windrow import reference

PAGE = Path(__file__).resolve().parent.parent / "docs" / "numerics.md"
MARKERS = "<!-- error tables: begin -->", "<!-- error tables: end -->"
WINOGRAD_MARKERS = "<!-- winograd tables: begin -->", "<!-- winograd tables: end -->"
SEED = 2026
PASSES = {"y": "conv", "dx": "conv_grad_input", "dw": "conv_grad_weight"}
MISSING = "missing"


class Layer(NamedTuple):
    name: str
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    options: dict[str, int]


LAYERS = (
    Layer("3x3, 64 to 64, 28x28, 2 images", (2, 64, 28, 28), (64, 64, 3, 3), {"stride": 1, "padding": 1}),
    Layer("3x3, 512 to 32, 7x7, 4 images", (4, 512, 7, 7), (32, 512, 3, 3), {"stride": 1, "padding": 1}),
    Layer("7x7 /2, 3 to 32, 64x64, 4 images", (4, 3, 64, 64), (32, 3, 7, 7), {"stride": 2, "padding": 3}),
    Layer(
        "depthwise 3x3, 32, 56x56, 4 images",
        (4, 32, 56, 56),
        (32, 1, 3, 3),
        {"stride": 1, "padding": 1, "groups": 32},
    ),
)


def operand(rng: np.random.Generator, kind: str, shape: tuple[int, ...], constant: float) -> Any:
    """One of the classes of data."""
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind == "uniform":
        return rng.uniform(-1, 1, shape)
    if kind == "positive":
        return rng.random(shape)
    if kind == "constant":
        return np.full(shape, constant)
    return np.maximum(rng.standard_normal(shape), 0)


def operands(kind: str, layer: Layer, dtype: Any) -> dict[str, Any]:
    """x, w and dy of a class. After a ReLU only x is without negative values."""
    rng = np.random.default_rng(SEED)
    y_shape = wr.conv(np.zeros(layer.x_shape), np.zeros(layer.w_shape), **layer.options).shape
    others = "normal" if kind == "post-ReLU" else kind
    return {
        "x": operand(rng, kind, layer.x_shape, 0.1).astype(dtype),
        "w": operand(rng, others, layer.w_shape, 0.7).astype(dtype),
        "dy": operand(rng, others, y_shape, 0.3).astype(dtype),
    }


KINDS = ("normal", "uniform", "positive", "post-ReLU", "constant")


def three(module: Any, data: dict[str, Any], layer: Layer, **options: Any) -> dict[str, Any]:
    """y, dx and dw by windrow or by its reference."""
    x, w, dy = data["x"], data["w"], data["dy"]
    options = {**layer.options, **options}
    return {
        "y": module.conv(x, w, **options),
        "dx": module.conv_grad_input(dy, w, x.shape, **options),
        "dw": module.conv_grad_weight(dy, x, w.shape, **options),
    }


def three_by_torch(torch: Any, data: dict[str, Any], layer: Layer) -> dict[str, Any]:
    x, w, dy = (torch.from_numpy(data[name]) for name in ("x", "w", "dy"))
    results = {
        "y": torch.nn.functional.conv2d(x, w, **layer.options),
        "dx": torch.nn.grad.conv2d_input(x.shape, w, dy, **layer.options),
        "dw": torch.nn.grad.conv2d_weight(x, w.shape, dy, **layer.options),
    }
    return {name: result.numpy() for name, result in results.items()}


def import_torch() -> Any:
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return None
    return torch


def errors(
    layer: Layer, kind: str, dtype: Any, torch: Any, algorithms: tuple[str, ...] = ("direct",)
) -> dict[str, dict[str, float | None]]:
    """For each pass: the errors of our algorithms and of torch, in eps * the largest sum of magnitudes."""
    data = operands(kind, layer, dtype)
    wide = {name: array.astype(np.float64) for name, array in data.items()}
    exact = three(reference, wide, layer, dtype=np.longdouble)
    size = three(wr, {name: np.abs(array) for name, array in wide.items()}, layer)
    results = {algorithm: three(wr, data, layer, algorithm=algorithm) for algorithm in algorithms}
    if torch:
        results["PyTorch"] = three_by_torch(torch, data, layer)

    def error(by: str, name: str) -> float | None:
        if by not in results:
            return None
        worst = np.max(np.abs(results[by][name] - exact[name]))
        return float(worst / (np.finfo(dtype).eps * size[name].max()))

    return {name: {by: error(by, name) for by in (*algorithms, "PyTorch")} for name in PASSES}


def roundings(layer: Layer, dtype: Any) -> dict[str, int]:
    """The bound of each pass, in the same unit."""
    return {
        name: wr.explain(
            operation, layer.x_shape, layer.w_shape, dtype=dtype, algorithm="direct", **layer.options
        )["roundings"]
        for name, operation in PASSES.items()
    }


def figure(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def lines(torch: Any, layers: tuple[Layer, ...] = LAYERS) -> Iterator[str]:
    config = wr.show_config("dict")
    peer = f"PyTorch {torch.__version__}" if torch else f"PyTorch {MISSING}"
    yield f"windrow {config['version']} (direct, target {config['target']}), {peer}, NumPy {config['numpy']}."
    for dtype in (np.float32, np.float64):
        yield ""
        yield f"**{np.dtype(dtype).name}**"
        yield ""
        yield "| layer | data |" + "".join(f" {name} windrow | {name} PyTorch |" for name in PASSES)
        yield "|---|---|" + "--:|--:|" * len(PASSES)
        for layer in layers:
            for kind in KINDS:
                found = errors(layer, kind, dtype, torch)
                first = layer.name if kind == KINDS[0] else ""
                cells = (figure(value) for name in PASSES for value in found[name].values())
                yield f"| {first} | {kind} | " + " | ".join(cells) + " |"
            bounds = roundings(layer, dtype)
            yield "| | bound n | " + " | ".join(f"{bounds[name]} | " for name in PASSES) + "|"


WINOGRAD_LAYERS = (
    Layer("64 to 64, 28x28, 2 images", (2, 64, 28, 28), (64, 64, 3, 3), {"stride": 1, "padding": 1}),
    Layer("512 to 64, 14x14", (1, 512, 14, 14), (64, 512, 3, 3), {"stride": 1, "padding": 1}),
    Layer("32 to 128, 5x5, 2 images", (2, 32, 5, 5), (128, 32, 3, 3), {"stride": 1, "padding": 1}),
)


def winograd_lines(torch: Any, layers: tuple[Layer, ...] = WINOGRAD_LAYERS) -> Iterator[str]:
    """Each pass by Winograd's tiles, by the direct sum and by PyTorch, in the same unit."""
    algorithms = ("winograd", "direct")
    for dtype in (np.float32, np.float64):
        yield ""
        yield f"**{np.dtype(dtype).name}, by each algorithm (target {wr.show_config('dict')['target']})**"
        yield ""
        yield "| layer | data |" + "".join(
            f" {name} Winograd | {name} direct | {name} PyTorch |" for name in PASSES
        )
        yield "|---|---|" + "--:|" * 3 * len(PASSES)
        for layer in layers:
            facts = wr.explain(
                "conv", layer.x_shape, layer.w_shape, dtype=dtype, algorithm="winograd", **layer.options
            )
            tile = facts["kernel"].removeprefix("winograd_")
            for kind in KINDS:
                found = errors(layer, kind, dtype, torch, algorithms)
                first = f"{layer.name}: {tile}" if kind == KINDS[0] else ""
                cells = (figure(value) for name in PASSES for value in found[name].values())
                yield f"| {first} | {kind} | " + " | ".join(cells) + " |"


def put(page: str, markers: tuple[str, str], text: str) -> str:
    """The page with the text between its markers."""
    begin, end = markers
    page, count = re.subn(
        f"{re.escape(begin)}.*{re.escape(end)}", lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{PAGE}: expected one pair of markers {begin} ... {end}, got {count}")
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/numerics.md")
    arguments = parser.parse_args()
    if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        print(
            "long double is no wider than double here: no exact sums to compare float64 with", file=sys.stderr
        )
        return 1
    torch = import_torch()
    text, winograd = "\n".join(lines(torch)), "\n".join(winograd_lines(torch))
    if not arguments.write:
        print(text, winograd, sep="\n")
        return 0
    PAGE.write_text(put(put(PAGE.read_text(), MARKERS, text), WINOGRAD_MARKERS, winograd))
    return 0


if __name__ == "__main__":
    sys.exit(main())
