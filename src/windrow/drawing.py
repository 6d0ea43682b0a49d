"""A picture of a layout: which pixel of a small image goes where in the columns. Needs matplotlib."""

from typing import Any

import numpy as np

from .unfolding import unfold

MOST_CELLS = 4000  # of the columns; more cannot be read


def draw_layout(
    shape: tuple[int, ...],
    kernel_size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "n (c k) l",
) -> Any:
    """Draw where every pixel of images of a small shape goes in the columns of `windrow.unfold`.

    Parameters
    ----------
    shape : (N, C, size) or (N, C, height, width)
    kernel_size, stride, padding, dilation, layout
        As in `windrow.unfold`; all axes of the columns but the last are drawn as one.

    Returns
    -------
    matplotlib.figure.Figure
        With the images on the left and the columns on the right, cells of the same pixel in the same colour;
        gray cells with a dot are padding. ``figure.savefig(path)`` writes it.

    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib")
    >>> figure = draw_layout((1, 1, 4, 4), 2, stride=2)
    >>> [axes.get_title() for axes in figure.axes]
    ['image 0, channel 0', "unfold: (1, 4, 4), layout 'n (c k) l'"]
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  (an extra, and slow to import)

    if len(shape) not in (3, 4):
        raise ValueError(f"shape: expected N, C and 1 or 2 spatial axes to draw, got {len(shape)}: {shape}")
    numbers = np.arange(1, int(np.prod(shape)) + 1).reshape(shape)
    cols = unfold(
        numbers, kernel_size, stride=stride, padding=padding, dilation=dilation, layout=layout, fill=0
    )
    if cols.size > MOST_CELLS:
        raise ValueError(f"shape: expected columns of at most {MOST_CELLS} elements to draw, got {cols.size}")
    matrix = cols.reshape(-1, cols.shape[-1])
    planes = numbers.reshape(-1, *(shape[2:] if len(shape) == 4 else (1, shape[2])))

    cell = 0.3  # inches
    rows, columns = matrix.shape
    height, width = planes.shape[1:]
    stacked = len(planes) * (height + 2)
    figure: Any = Figure(
        figsize=(cell * (width + columns + 5), cell * (max(rows, stacked) + 4)), layout="constrained"
    )
    left, right = figure.subfigures(1, 2, width_ratios=[width + 2, columns + 2])
    for index, (axes, plane) in enumerate(zip(left.subplots(len(planes), 1, squeeze=False).flat, planes)):
        n, c = divmod(index, shape[1])
        _grid(axes, plane, numbers.size, f"image {n}, channel {c}")
    _grid(right.subplots(), matrix, numbers.size, f"unfold: {cols.shape}, layout {layout!r}")
    return figure


def _grid(axes: Any, values: Any, most: int, title: str) -> None:
    """A table of pixel numbers, every pixel in its own colour."""
    from matplotlib import colormaps  # noqa: PLC0415

    palette = colormaps["turbo"](np.linspace(0.08, 0.92, most))
    colours = np.concatenate([[[0.85, 0.85, 0.85, 1.0]], 0.45 * palette + 0.55])[values]
    colours[..., 3] = 1
    axes.imshow(colours, aspect="equal")
    for (i, j), value in np.ndenumerate(values):
        axes.text(j, i, str(value - 1) if value else "·", ha="center", va="center", fontsize=7)
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, labels=[])
    axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, labels=[])
    axes.grid(color="white", linewidth=1)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=8)
