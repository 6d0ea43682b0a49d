"""Draw the pictures of docs/gradcheck.md: those of its own code blocks, and the error against the step.

python tools/gradcheck_pictures.py [--output docs/images]
"""

import argparse
import doctest
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]


def reports_of_the_page() -> list[Any]:
    """Every report that the page's blocks bind to `report`, in order."""
    page = (ROOT / "docs" / "gradcheck.md").read_text()
    names: dict[str, Any] = {}
    found: list[Any] = []
    for example in doctest.DocTestParser().get_examples(page):
        exec(compile(example.source, "docs/gradcheck.md", "single"), names)
        if "report" in names and (not found or names["report"] is not found[-1]):
            found.append(names["report"])
    return found


def slope_error(dtype: type, step: float, function: Any, slope: Any) -> float:
    """Relative error of a central difference of sum(function) along a random direction."""
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((2, 1000)).astype(dtype)
    h = dtype(step)
    upper, lower = x + h * v, x - h * v
    change = np.sum(function(upper).astype(float) - function(lower))
    moved = upper.astype(float) - lower
    claimed = np.sum(slope(x.astype(float)) * moved)
    return abs(float(change - claimed)) / float(np.linalg.norm(moved)) if np.any(moved) else math.nan


def draw_steps(path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    steps = 2.0 ** np.arange(-40, 2)
    matrix = np.random.default_rng(1).standard_normal((1000, 1000)) / np.sqrt(1000)
    column = matrix.sum(axis=0)
    curves = (
        ("tanh, float64", np.float64, np.tanh, lambda x: 1 - np.tanh(x) ** 2, "C0"),
        ("tanh, float32", np.float32, np.tanh, lambda x: 1 - np.tanh(x) ** 2, "C1"),
        ("a matrix, float32", np.float32, lambda x: matrix.astype(x.dtype) @ x, lambda x: column, "C2"),
    )
    for label, dtype, function, slope, colour in curves:
        errors = [max(slope_error(dtype, step, function, slope), 1e-17) for step in steps]
        axes.loglog(steps, errors, "-", color=colour, label=label)
        own = 1.0 if label.startswith("a matrix") else float(np.finfo(dtype).eps) ** (1 / 3)
        at = int(np.argmin(np.abs(steps - own)))
        axes.loglog(steps[at], errors[at], "o", color=colour, markersize=9)
    axes.axvline(1e-5, color="0.6", linestyle=":")
    axes.annotate("the fixed step 1e-5", (1e-5, 1e-15), (1.4e-5, 1e-15), color="0.4", fontsize=9)
    axes.set_xlabel("step, relative to the input")
    axes.set_ylabel("error of the measured slope")
    axes.set_title(
        "Rounding to the left, truncation to the right; dots: the steps that are taken", fontsize=10
    )
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    output = parser.parse_args().output
    wrong, right, *_ = reports_of_the_page()
    wrong.picture(output / "gradcheck_wrong.png")
    right.picture(output / "gradcheck_right.png", argument="x")
    draw_steps(output / "gradcheck_steps.png")


if __name__ == "__main__":
    main()
