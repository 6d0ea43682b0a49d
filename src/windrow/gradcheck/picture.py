"""A picture of a report: where the error is, and how the Taylor remainder falls."""

import math
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from .accept import Array

if TYPE_CHECKING:
    from .report import Checked, Report

# So few wrong entries are circled.
CIRCLED = 20
# Greys of what is not wrong, and the part of the largest error that is drawn as the faintest.
RIGHT, UNMEASURED, FAINTEST = 0.93, 0.7, 1e-3


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
    """The wrong entries where they are, the array's last two axes as tiles side by side.

    Wrong entries are coloured by their error, right ones are light, those that were not measured are dark. If
    all are right, they are coloured by what part of the bound their error takes up.
    """
    wrong = [entry for entry in checked.entries if not entry.holds]
    rms = float(np.sqrt(np.mean(checked.gradient**2))) or 1.0
    ground = np.full(math.prod(checked.shape), UNMEASURED)
    values = np.full(ground.shape, np.nan)
    for entry in checked.entries:
        ground[entry.flat] = RIGHT
        if not wrong:
            values[entry.flat] = abs(entry.error) / (entry.bound or 1.0)
        elif not entry.holds:
            values[entry.flat] = np.nan_to_num(abs(entry.error) / rms, nan=1.0, posinf=1.0)
    tiled, where = mosaic(values.reshape(checked.shape))
    shape = {"aspect": "equal" if 0.2 < tiled.shape[0] / tiled.shape[1] < 5 else "auto"}
    flat = {"interpolation": "nearest", **shape}
    axes.imshow(mosaic(ground.reshape(checked.shape))[0], cmap="gray", vmin=0, vmax=1, **flat)
    if wrong:
        top = float(np.nanmax(values)) or 1.0
        image = axes.imshow(np.maximum(tiled, top * FAINTEST), cmap="YlOrRd", norm="log", **flat)
        image.set_clim(top * FAINTEST, top)
        label = "error / rms of the gradient"
    else:
        image = axes.imshow(tiled, cmap="Blues", vmin=0, vmax=1, **flat)
        label = "error / bound"
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
    if 0 < len(wrong) <= CIRCLED:
        rows, columns = np.array([where(entry.flat) for entry in wrong]).T
        axes.plot(columns, rows, "o", markersize=14, markerfacecolor="none", markeredgecolor="tab:red")
    lengths = " x ".join(str(length) for length in checked.shape) or "scalar"
    untested = "" if len(checked.entries) == values.size else ", dark: not measured"
    count = f"{len(wrong)} wrong {'entry' if len(wrong) == 1 else 'entries'}"
    axes.set_title(f"d{checked.name} ({lengths}): {count}{untested}", fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


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
    if taylor is None or len(taylor.steps) < 2:
        axes.text(0.5, 0.5, "rounding at every step", ha="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    steps, remainders = np.array(taylor.steps), np.array(taylor.remainders)
    rate = "" if taylor.rate is None else f", rate {taylor.rate:.2f}"
    axes.loglog(steps, remainders, "o-", label=f"remainder{rate}")
    axes.loglog(steps, taylor.rounding, "--", color="0.5", label="rounding")
    for power, style in ((1, ":"), (2, "-.")):
        line = remainders[0] * (steps / steps[0]) ** power
        axes.loglog(steps, line, style, color="0.7", label=f"h^{power}: {('wrong', 'right')[power - 1]}")
    axes.legend(fontsize=8)
