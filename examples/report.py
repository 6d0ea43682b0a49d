"""One picture of what two other examples did: a photograph's responses, and how digits were learned."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from digits import Data, Training

INK, MUTED, BLUE, ORANGE, RED = "#222222", "#777777", "#0072b2", "#e69f00", "#c0392b"
DETAIL = np.s_[20:345, 40:400]  # the part of the photograph that is shown: there is something to sharpen


def draw(pictures: dict[str, np.ndarray], data: Data, training: Training, path: str | Path) -> Path:
    """Write the report as a PNG and return its full path."""
    figure = Figure(figsize=(12, 8.6), dpi=110, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[2.75, 3.3, 1.7])
    draw_photo(top, pictures)
    curves, filters = middle.subfigures(1, 2, width_ratios=[1.45, 1])
    draw_curves(curves, training)
    draw_filters(filters, training.parameters["w1"])
    draw_hardest(bottom, data, training)
    figure.savefig(path)
    return Path(path).resolve()


def heading(figure: SubFigure, text: str) -> None:
    figure.suptitle(text, x=0.012, ha="left", fontsize=13, fontweight="bold", color=INK)


def draw_photo(figure: SubFigure, pictures: dict[str, np.ndarray]) -> None:
    heading(figure, "A photograph through image filters")
    for axes, (name, picture) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        axes.imshow(picture[DETAIL], cmap="gray", vmin=0, vmax=1)
        axes.set_title(name, fontsize=11, color=INK)
        axes.set_axis_off()


def draw_curves(figure: SubFigure, training: Training) -> None:
    heading(figure, "Handwritten digits: learning, epoch by epoch")
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(training.loss) + 1)
    plain_axes(left, "mean training loss (log scale)", epochs)
    left.semilogy(epochs, training.loss, color=BLUE, linewidth=2)

    plain_axes(right, "% read wrong (log scale above 1)", epochs)
    curves = {"training": (training.train_accuracy, ORANGE), "held out": (training.test_accuracy, BLUE)}
    for name, (accuracy, colour) in curves.items():
        label = f"{name}: {accuracy[-1]:.1%} right at last"
        right.plot(epochs, 100 * (1 - np.array(accuracy)), color=colour, linewidth=2, label=label)
    right.set_yscale("symlog", linthresh=1)  # linear below 1 %, so that none at all has a place
    right.set_yticks([0, 0.5, 1, 2, 5, 10])
    right.set_ylim(bottom=-0.05)
    right.legend(frameon=False, fontsize=10, loc="upper right")
    right.yaxis.set_major_formatter("{x:g}")


def plain_axes(axes: Axes, title: str, epochs: np.ndarray) -> None:
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel("epoch", color=MUTED)
    axes.set_xlim(0.5, len(epochs) + 0.5)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.tick_params(colors=MUTED)
    axes.spines[["top", "right"]].set_visible(False)


def draw_filters(figure: SubFigure, w: np.ndarray) -> None:
    heading(figure, f"The {len(w)} filters of the first layer")
    axes = figure.subplots()
    columns = 8
    rows = -(-len(w) // columns)
    # A sheet of tiles with a blank line between them; every filter by its own largest weight.
    sheet = np.full((rows * 4 - 1, columns * 4 - 1), np.nan)
    for index, filter_ in enumerate(w[:, 0]):
        row, column = divmod(index, columns)
        sheet[4 * row : 4 * row + 3, 4 * column : 4 * column + 3] = filter_ / np.abs(filter_).max()
    axes.imshow(sheet, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_title("red adds, blue takes away", fontsize=11, color=INK)
    axes.set_axis_off()


def draw_hardest(figure: SubFigure, data: Data, training: Training, count: int = 12) -> None:
    """The pictures to whose right answer the network gave the least probability, misread ones first."""
    probability = training.test_probability
    read = probability.argmax(axis=1)
    of_right = probability[np.arange(len(read)), data.test_digit]
    misread = int((read != data.test_digit).sum())
    hardest = np.lexsort((of_right, read == data.test_digit))[:count]
    heading(
        figure, f"The hardest of the {len(read)} held-out digits: {misread} misread, then the least certain"
    )
    for axes, index in zip(figure.subplots(1, count), hardest, strict=True):
        right, answer = data.test_digit[index], read[index]
        axes.imshow(data.test_x[index, 0], cmap="gray_r", vmin=0, vmax=1)
        if answer != right:
            axes.set_title(f"{right} read as {answer}", fontsize=10.5, color=RED, fontweight="bold")
        else:
            axes.set_title(f"{right}, {of_right[index]:.0%} sure", fontsize=10.5, color=MUTED)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(RED if answer != right else "#cccccc")
