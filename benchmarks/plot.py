"""The picture of a race: every layer's speed, the FMA peak (or the memory's limit) as its top line."""

from pathlib import Path
from statistics import median
from typing import Any

from . import patches, summary
from .peers import OURS
from .summary import Row

_OURS, _LIMIT = "#c4391d", "#222222"
_PEERS = {
    "torch": "#3b6fb6",
    "onnxruntime": "#3f9b6c",
    "jax": "#8a63b0",
    "openvino": "#c29a2e",
    "numpy": "#8c8c8c",
}


def conv(document: dict[str, Any], path: Path) -> None:
    """One panel per pass and dtype: layers in the order of their files, GFLOP/s of the direct sum."""
    import matplotlib  # noqa: PLC0415  (optional)

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    found = [summary.row(cell) for cell in document["cells"]]
    panels = list(dict.fromkeys((r.which, r.dtype) for r in found))
    passes = list(dict.fromkeys(which for which, _ in panels))
    dtypes = list(dict.fromkeys(dtype for _, dtype in panels))
    layers = list(dict.fromkeys((r.layer, r.n) for r in found))
    size = (max(6.0, 0.16 * len(layers) * len(dtypes)), 2.6 * len(passes) + 1.6)
    figure, axes = plt.subplots(
        len(passes), len(dtypes), figsize=size, squeeze=False, sharex=True, layout="constrained"
    )
    for (which, dtype), axis in ((p, axes[passes.index(p[0])][dtypes.index(p[1])]) for p in panels):
        _panel(axis, [r for r in found if (r.which, r.dtype) == (which, dtype)], layers)
        axis.set_title(f"{which}  {dtype}", fontsize=9, loc="left")
        axis.set_ylabel("GFLOP/s")
    for axis in axes[-1]:
        labels = [f"{layer.partition('/')[2]}" + (f" n={n}" if n > 1 else "") for layer, n in layers]
        axis.set_xticks(range(len(layers)), labels, rotation=90, fontsize=5)
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels())))
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper left", ncols=max(2, int(size[0] / 2)), fontsize=8
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(axis: Any, found: list[Row], layers: list[tuple[str, int]]) -> None:
    places = {key: i for i, key in enumerate(layers)}

    def points(rows: list[Row], values: list[float | None], **style: Any) -> None:
        pairs = [(places[(r.layer, r.n)], v / 1e9) for r, v in zip(rows, values) if v is not None]
        if pairs:
            axis.scatter(*zip(*pairs), **style)

    for name, colour in _PEERS.items():
        own = [r for r in found if r.peer and r.peer.split()[0] == name]
        points(own, [r.best for r in own], s=14, color=colour, label=f"best peer: {name}")
    points(found, [r.first for r in found], s=14, color=_OURS, marker="^", label="windrow")
    points(
        found,
        [r.last for r in found],
        s=14,
        edgecolors=_OURS,
        facecolors="none",
        marker="v",
        label="windrow channels-last",
    )
    points(found, [r.prepared for r in found], s=14, color=_OURS, marker="_", label="windrow prepared")
    peaks = [r.peak for r in found if r.peak]
    if peaks:
        axis.axhline(median(peaks) / 1e9, color=_LIMIT, lw=1, label="FMA peak, measured")
    axis.set_ylim(bottom=0)
    axis.grid(axis="y", alpha=0.3)


def patch(document: dict[str, Any], path: Path) -> None:
    """One panel per operation: GB/s of columns, the bound by the measured fill and read rates on top."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(
        len(patches.OPERATIONS), 1, figsize=(11, 7), squeeze=False, layout="constrained"
    )
    for operation, axis in zip(patches.OPERATIONS, axes[:, 0]):
        found = [cell for cell in document["cells"] if cell["operation"] == operation]
        labels = [f"{c['layer'].partition('/')[2]} {c['layout']} f{c['dtype'][-2:]}" for c in found]
        sizes = [max(c["bytes_read"], c["bytes_written"]) / 1e9 for c in found]
        bounds = [patches.bound_seconds(c) for c in found]
        limits = [(i, s / b) for i, (s, b) in enumerate(zip(sizes, bounds)) if b]
        if limits:
            axis.step(*zip(*limits), where="mid", color=_LIMIT, lw=1, label="memory's limit, measured")
        series: dict[str, list[tuple[int, float]]] = {}
        for i, (c, s) in enumerate(zip(found, sizes)):
            for name, entry in c["candidates"].items():
                series.setdefault(name.split()[0].partition(".")[0], []).append((i, s / entry["median"]))
        for name, pairs in series.items():
            colour = _OURS if name == OURS else _PEERS.get(name)
            axis.scatter(*zip(*pairs), s=14, color=colour, label=name)
        axis.set_title(operation, fontsize=9, loc="left")
        axis.set_ylabel("GB/s of columns")
        axis.set_yscale("log")
        axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=5)
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
