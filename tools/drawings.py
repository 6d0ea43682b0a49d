"""Draw the pictures of docs/how_it_works.md, with numbers that windrow computes.

python tools/drawings.py [--output docs/images]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

import windrow as wr

ROOT = Path(__file__).parents[1]
INK, GRID = "#333333", "#aaaaaa"
FIRST, SECOND, THIRD = "#f2b46d", "#86b6dd", "#b5d99c"


def figure(width: float, height: float, extent: tuple[float, float]) -> tuple[Figure, Axes]:
    """One drawing whose units are cells, y downwards."""
    canvas = Figure(figsize=(width, height), dpi=160)
    axes = canvas.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, extent[0])
    axes.set_ylim(extent[1], 0)
    axes.set_aspect("equal")
    axes.axis("off")
    return canvas, axes


def matrix(
    axes: Axes, left: float, top: float, values: np.ndarray, colours: Any = None, title: str = ""
) -> None:
    """A grid of numbers; `colours` gives (row, column) -> colour."""
    rows, columns = values.shape
    for i in range(rows):
        for j in range(columns):
            face = (colours or {}).get((i, j), "white")
            axes.add_patch(
                Rectangle((left + j, top + i), 1, 1, facecolor=face, edgecolor=GRID, linewidth=0.8)
            )
            text = f"{values[i, j]:g}" if values.dtype.kind in "fiu" else str(values[i, j])
            axes.text(left + j + 0.5, top + i + 0.52, text, ha="center", va="center", fontsize=8, color=INK)
    axes.add_patch(Rectangle((left, top), columns, rows, fill=False, edgecolor=INK, linewidth=1.2))
    if title:
        axes.text(left + columns / 2, top - 0.35, title, ha="center", va="bottom", fontsize=9, color=INK)


def block(
    axes: Axes, left: float, top: float, width: float, height: float, colour: str, text: str = ""
) -> None:
    axes.add_patch(Rectangle((left, top), width, height, facecolor=colour, edgecolor=INK, linewidth=1))
    axes.text(left + width / 2, top + height / 2, text, ha="center", va="center", fontsize=8, color=INK)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0) -> None:
    style = f"arc3,rad={bend}"
    axes.add_patch(
        FancyArrowPatch(start, end, connectionstyle=style, arrowstyle="-|>", mutation_scale=11, color=INK)
    )


def im2col() -> Figure:
    """An image, its columns, and the product that is the convolution."""
    image = np.arange(16.0).reshape(1, 1, 4, 4)
    filters = np.array([[[[1.0, 0.0], [0.0, 1.0]]], [[[1.0, -1.0], [1.0, -1.0]]]])
    columns = wr.im2col(image, 2)
    y = wr.conv(image, filters)
    canvas, axes = figure(8.6, 4.2, (25, 12.4))
    windows = {1: FIRST, 5: SECOND}  # positions (0, 1) and (1, 2)
    in_image: dict[tuple[int, int], str] = {}
    for position, colour in windows.items():
        row, column = divmod(position, 3)
        for i, j in np.ndindex(2, 2):
            key = (row + i, column + j)
            in_image[key] = THIRD if key in in_image else colour
    in_columns = {(i, position): colour for position, colour in windows.items() for i in range(4)}
    matrix(axes, 0.8, 2, image[0, 0], in_image, "image x")
    matrix(axes, 15, 2, columns, in_columns, "columns: one window each, nine positions")
    matrix(axes, 8.6, 8, filters.reshape(2, 4), None, "filters w, a row each")
    in_y = {(i, position): colour for position, colour in windows.items() for i in range(2)}
    matrix(axes, 15, 8, y.reshape(2, 9), in_y, "y = w times columns")
    arrow(axes, (5, 3.6), (14.8, 3.6))
    axes.text(9.9, 3.3, "im2col", ha="center", fontsize=9, color=INK)
    arrow(axes, (12.8, 9), (14.8, 9))
    arrow(axes, (19.5, 6.1), (19.5, 7.1))
    note = "The pixel where the two marked windows overlap stands in the matrix twice."
    axes.text(0.8, 11.6, note, fontsize=8.5, color=INK)
    return canvas


def product() -> Figure:
    """The blocked product, whose packing step is im2col."""
    canvas, axes = figure(8.6, 4.4, (29.5, 15))
    axes.text(3, 0.9, "image x, in memory", ha="center", fontsize=9, color=INK)
    block(axes, 0.5, 1.4, 5, 5, "white")
    for top, left, colour in ((1.9, 1.0, SECOND), (1.9, 1.6, SECOND), (1.9, 2.2, SECOND)):
        axes.add_patch(Rectangle((left, top), 1.6, 1.6, facecolor=colour, alpha=0.5, edgecolor=INK))
    arrow(axes, (5.8, 3), (12.6, 3))
    axes.text(9.2, 2.6, "gather windows", ha="center", fontsize=9, color=INK)
    axes.text(
        9.2, 3.9, "one panel at a time,\ninto the first-level cache", ha="center", va="center", fontsize=8
    )
    axes.text(21, 0.9, "columns that never exist as a whole", ha="center", fontsize=9, color=INK)
    axes.add_patch(Rectangle((13, 1.4), 16, 5, fill=False, edgecolor=GRID, linestyle="--"))
    block(axes, 13, 1.4, 2.6, 5, SECOND, "panel\n16 wide")
    axes.text(3, 7.9, "filters w, read in place", ha="center", fontsize=9, color=INK)
    block(axes, 0.5, 8.4, 5, 6, "white")
    block(axes, 0.5, 8.4, 5, 1.5, FIRST, "6 rows")
    axes.text(21, 7.9, "result y", ha="center", fontsize=9, color=INK)
    axes.add_patch(Rectangle((13, 8.4), 16, 6, fill=False, edgecolor=INK))
    block(axes, 13, 8.4, 2.6, 1.5, THIRD, "tile")
    arrow(axes, (5.8, 9.1), (12.8, 9.1))
    arrow(axes, (14.3, 6.6), (14.3, 8.2))
    words = "6 x 16 sums live in 12 registers\nwhile terms go by: for each\n2 loads, 6 broadcasts, 12 FMAs"
    axes.text(9.2, 11, words, ha="center", va="center", fontsize=8, color=INK)
    return canvas


def winograd() -> Figure:
    """F(2 x 2, 3 x 3): what a tile costs directly and by Winograd's transforms."""
    image = np.arange(16.0).reshape(4, 4) % 7
    taps = np.array([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0], [1.0, 0.0, 1.0]])
    a = np.array([[1, 1, 1, 0], [0, 1, -1, 1]])
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    b = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]])
    pixels, weights = b @ image @ b.T, g @ taps @ g.T
    points = pixels * weights
    tile = a @ points @ a.T
    if not np.array_equal(tile, wr.conv(image[None, None], taps[None, None], algorithm="direct")[0, 0]):
        raise AssertionError("the drawn tile is not the convolution")
    canvas, axes = figure(8.6, 3.9, (28.6, 13.6))
    matrix(axes, 0.6, 1.6, image, None, "4 x 4 pixels d")
    matrix(axes, 1.1, 9, taps, None, "3 x 3 taps w")
    matrix(axes, 9, 1.6, pixels, dict.fromkeys(np.ndindex(4, 4), SECOND), "B d Bᵀ: additions")
    matrix(axes, 9, 9, weights, dict.fromkeys(np.ndindex(4, 4), FIRST), "G w Gᵀ: once per layer")
    matrix(axes, 17.4, 5.2, points, dict.fromkeys(np.ndindex(4, 4), THIRD), "16 products")
    matrix(axes, 26, 6.2, tile, None, "2 x 2 of y")
    arrow(axes, (4.8, 3.6), (8.8, 3.6))
    arrow(axes, (4.3, 10.6), (8.8, 10.6))
    arrow(axes, (13.2, 4), (17.2, 6.2))
    arrow(axes, (13.2, 10.6), (17.2, 8.2))
    arrow(axes, (21.6, 7.2), (25.8, 7.2))
    axes.text(23.7, 6.8, "A · Aᵀ", ha="center", fontsize=9, color=INK)
    words = "By definition these four results\ntake 4 x 9 = 36 products."
    axes.text(23.6, 11.3, words, ha="center", va="center", fontsize=8.5, color=INK)
    return canvas


PICTURES = {"how_im2col.png": im2col, "how_product.png": product, "how_winograd.png": winograd}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    folder = parser.parse_args().output
    for name, draw in PICTURES.items():
        draw().savefig(folder / name)
        print(folder / name)


if __name__ == "__main__":
    main()
