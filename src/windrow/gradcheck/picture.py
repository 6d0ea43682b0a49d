"""A picture of a report: where the error is, and how the Taylor remainder falls."""

import math
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from .accept import Array

if TYPE_CHECKING:
    from .report import Checked, Report

# Errors are drawn from their bound to this many powers of ten above it.
DECADES = 12.0
CIRCLED = 20


def draw(report: "Report", path: str | PathLike[str] | None, argument: str | None) -> Any:
    """Draw one argument of a report, the first with a wrong entry unless it is named."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, loaded only when asked for
    except ImportError:
        raise ImportError("picture: expected matplotlib to be installed (pip install matplotlib)") from None
    checked = _chosen(report, argument)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    places, remainders = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_places(figure, places, checked)
    _draw_remainders(remainders, checked)
    verdict = "all tests hold" if report else "fails"
    figure.suptitle(f"{report.title}: {verdict}")
    if path is not None:
        figure.savefig(path, dpi=110)
    return figure


def _chosen(report: "Report", argument: str | None) -> "Checked":
    if not report.arguments:
        raise ValueError("picture: expected a report of measured gradients, got one that stopped before")
    for checked in report.arguments:
        if checked.name == argument or (argument is None and any(not e.holds for e in checked.entries)):
            return checked
    if argument is None:
        return report.arguments[0]
    known = ", ".join(checked.name for checked in report.arguments)
    raise ValueError(f"argument: expected one of {known}, got {argument!r}")


def _draw_places(figure: Any, axes: Any, checked: "Checked") -> None:
    """log10 of error over bound, the array's last two axes as tiles side by side."""
    values = np.full(math.prod(checked.shape), np.nan)
    for entry in checked.entries:
        ratio = abs(entry.error) / entry.bound if entry.bound else math.inf * abs(entry.error)
        values[entry.flat] = np.clip(np.log10(ratio), 0, DECADES) if ratio > 1 else 0.0
    tiled, where = mosaic(values.reshape(checked.shape))
    axes.set_facecolor("0.85")
    image = axes.imshow(tiled, cmap="inferno_r", vmin=0, vmax=DECADES, interpolation="nearest", aspect="auto")
    figure.colorbar(image, ax=axes, label="powers of ten above the bound")
    wrong = [entry.flat for entry in checked.entries if not entry.holds]
    if 0 < len(wrong) <= CIRCLED:
        rows, columns = np.array([where(flat) for flat in wrong]).T
        axes.plot(columns, rows, "o", markersize=14, markerfacecolor="none", markeredgecolor="tab:red")
    shape = " x ".join(str(length) for length in checked.shape) or "scalar"
    untested = "" if len(checked.entries) == values.size else ", grey: not measured"
    axes.set_title(f"d{checked.name} ({shape}): {len(wrong)} wrong entries{untested}", fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def mosaic(values: Array) -> tuple[Array, Any]:
    """An array of any rank as one picture: tiles of the last two axes, first axis downwards, others across.

    Also gives a function from a flat position to its (row, column) in the picture.
    """
    shape = (1,) * (4 - values.ndim) + values.shape if values.ndim < 4 else values.shape
    down, across, height, width = shape[0], math.prod(shape[1:-2]), shape[-2], shape[-1]
    gap = 1 if down * across > 1 else 0
    picture = np.full((down * (height + gap) - gap, across * (width + gap) - gap), np.nan)
    tiles = values.reshape(down, across, height, width)
    for i, j in np.ndindex(down, across):
        top, left = i * (height + gap), j * (width + gap)
        picture[top : top + height, left : left + width] = tiles[i, j]

    def where(flat: int) -> tuple[int, int]:
        i, j, row, column = np.unravel_index(flat, (down, across, height, width))
        return int(i * (height + gap) + row), int(j * (width + gap) + column)

    return picture, where


def _draw_remainders(axes: Any, checked: "Checked") -> None:
    taylor = checked.taylor
    axes.set_title("Taylor remainder along a random direction", fontsize=10)
    axes.set_xlabel("step h")
    if taylor is None or not any(r > 0 for r in taylor.remainders):
        axes.text(0.5, 0.5, "zero at every step", ha="center", transform=axes.transAxes)
        return
    steps, remainders = np.array(taylor.steps), np.array(taylor.remainders)
    rate = "" if taylor.rate is None else f", rate {taylor.rate:.2f}"
    axes.loglog(steps, remainders, "o-", label=f"remainder{rate}")
    axes.loglog(steps, taylor.rounding, "--", color="0.5", label="rounding")
    for power, style in ((1, ":"), (2, "-.")):
        line = remainders[0] * (steps / steps[0]) ** power
        axes.loglog(steps, line, style, color="0.7", label=f"h^{power}: {('wrong', 'right')[power - 1]}")
    axes.legend(fontsize=8)
