"""Write the figure of docs/numerics.md, errors over the length of the sums: python tools/error_figures.py

The unit is that of the tables (tools/error_tables.py). Without PyTorch its curves are missing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import windrow as wr
from error_tables import Layer, errors, import_torch, roundings

IMAGE = Path(__file__).resolve().parent.parent / "docs" / "images" / "errors.png"
KINDS = {"normal": "-", "positive": "--"}
COLOURS = {"direct": "tab:blue", "winograd": "tab:green", "PyTorch": "tab:orange"}
LABELS = {"direct": "windrow, direct", "winograd": "windrow, Winograd", "PyTorch": "PyTorch"}
OPTIONS = {"stride": 1, "padding": 1}


def layers(name: str) -> Iterator[tuple[int, Layer]]:
    """Layers of 3 x 3 windows, and how many terms a sum of the pass has."""
    if name == "dw":
        for side in (4, 8, 16, 32, 64, 128):
            yield side * side, Layer("", (1, 4, side, side), (4, 4, 3, 3), OPTIONS)
        return
    for count in (4, 16, 32, 64, 128, 256, 512):
        filters, channels = (8, count) if name == "y" else (count, 8)
        yield 9 * count, Layer("", (1, channels, 9, 9), (filters, channels, 3, 3), OPTIONS)


def draw(axes: Any, name: str, dtype: Any, torch: Any) -> None:
    """One pass in one dtype: a curve per algorithm and class of data, and the bound over them."""
    algorithms = ("direct",) if name == "dw" else ("direct", "winograd")
    cases = list(layers(name))
    terms = [count for count, _ in cases]
    for kind, style in KINDS.items():
        found = [errors(layer, kind, dtype, torch, algorithms)[name] for _, layer in cases]
        for by in found[0]:
            if found[0][by] is not None:
                values = [case[by] for case in found]
                axes.plot(terms, values, style, color=COLOURS[by], marker=".", label=f"{LABELS[by]}, {kind}")
    bounds = [roundings(layer, dtype)[name] for _, layer in cases]
    axes.plot(terms, bounds, ":", color="black", label="bound of the direct sum")
    axes.set(xscale="log", yscale="log", ylim=(0.05, 1e3), title=f"{name}, {np.dtype(dtype).name}")
    axes.grid(alpha=0.3)


def main() -> None:
    torch = import_torch()
    figure, grid = plt.subplots(2, 3, figsize=(11, 6.5), sharey=True, layout="constrained")
    for row, dtype in zip(grid, (np.float32, np.float64), strict=True):
        for axes, name in zip(row, ("y", "dx", "dw"), strict=True):
            draw(axes, name, dtype, torch)
    for axes in grid[-1]:
        axes.set_xlabel("terms of a sum")
    figure.supylabel("largest error, in eps * largest sum of magnitudes")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    config = wr.show_config("dict")
    peer = f", PyTorch {torch.__version__}" if torch else ""
    figure.suptitle(f"windrow {config['version']} ({config['target']}){peer}, 3 x 3 windows")
    figure.savefig(IMAGE, dpi=110)


if __name__ == "__main__":
    main()
