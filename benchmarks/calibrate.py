"""What the core's choice between its ways of computing a product costs it, and the constants behind it.

Every candidate of every layer (`explain(...)["candidates"]`) is timed. Its time should be the sum over the
work that the core counts for it, each kind times a constant: the constants are fitted (least squares of the
relative errors, and of the differences of those errors between candidates for the same product, none
negative), one row for each target and dtype. What counts in the end is the regret: the time of the candidate
that the choice takes over that of the fastest.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from windrow import _core
from windrow.plan import MEMORY_FORMATS

from . import machine, timing
from .forced import CANDIDATES, Pass, core_of
from .layers import Layer
from .problem import Problem, make

PASSES = ("y", "dx")
# The rows of a target in the core's table.
COSTS = {"portable": "Portable", "neon": "Portable", "x86_v3": "X86V3", "x86_v4": "X86V4", "zen4": "Zen4"}
FEWEST_FLOPS, MOST_FLOPS = 1e6, 3e9  # less is over before a choice matters, more tells nothing new
SAMPLE, SAMPLES = 3e-4, 2  # seconds of one sample, and how many of them in a row
MARGIN = 0.85  # of the core: tiles are taken below this share of the direct sums' least time
DIRECT = ("window_product", "filter_product", "strip_product")
IN_PLACE = ("window_product", "strip_product")  # weights are read where they are
STEPS = 20_000
# Of the fit: the weight of a candidate's own error beside that of its difference to another's, and what is
# another. Held out by layers, 0.3 and 1.6 lose 1.2 and 1.4 % to the fastest (float32, float64), own errors
# alone 1.7 and 2.5 %.
OWN, NEAR = 0.3, 1.6
# Nanoseconds, at least, of what forward passes and input gradients hardly tell apart from the work beside it,
# and by which weight gradients are chosen too.
LEAST = {"call": 20.0, "turn": 1.5, "copy": 0.5}


class Row(NamedTuple):
    """One candidate of one layer."""

    cell: tuple[str, ...]  # target, dtype, layer, pass, format, whether weights are prepared
    name: str
    seconds: float
    work: np.ndarray
    built: float = np.nan  # seconds, by the constants that are built in


def targets() -> list[str]:
    """All that run here."""
    return _core.targets_available()


def cells(
    layers: Sequence[Layer], dtypes: Sequence[str], targets: Sequence[str], sweeps: int
) -> list[dict[str, Any]]:
    """The least times and the work of all candidates of each layer, pass and memory format, on each target.

    Every sweep takes one sample of each. They are minutes apart: a neighbour who takes the memory or half of
    the core for some seconds spoils one of them.
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    before = _core.target()
    try:
        for _ in range(sweeps):
            for layer, dtype in product(layers, dtypes):
                if FEWEST_FLOPS <= layer.flops / layer.n <= MOST_FLOPS:
                    for cell in _layer(layer._replace(n=1), dtype, targets):
                        _keep_least(found, cell)
    finally:
        _core.set_target(before)
    return list(found.values())


def _keep_least(found: dict[tuple[str, ...], dict[str, Any]], cell: dict[str, Any]) -> None:
    known = found.setdefault(key_of(cell), cell)
    for name, each in cell["candidates"].items():
        known["candidates"][name]["seconds"] = min(known["candidates"][name]["seconds"], each["seconds"])


def key_of(cell: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(cell[name]) for name in ("target", "dtype", "layer", "pass", "format", "prepared"))


def _layer(layer: Layer, dtype: str, targets: Sequence[str]) -> Iterator[dict[str, Any]]:
    problem, core = make(layer, dtype), core_of(layer)
    for target, which, memory in product(targets, PASSES, MEMORY_FORMATS):
        _core.set_target(target)
        for kept in (False, True) if which == "y" else (False,):
            cell = _cell(core, problem, which, memory, kept)
            if cell["candidates"]:
                yield {"layer": f"{layer.source}/{layer.name}", "target": target, **cell}


def _cell(core: Any, problem: Problem, which: str, memory: str, kept: bool) -> dict[str, Any]:
    forced = Pass(core, problem, which, memory)
    plan = forced.plan(0, kept)
    candidates = {}
    for name in plan["candidates"]:
        if kept and name in IN_PLACE:
            continue  # nothing could be kept
        call = forced.call(CANDIDATES[name], kept)
        call()
        _, inner = timing.calibrate(call, SAMPLE)
        candidates[name] = {
            "seconds": min(timing.take(call, inner).seconds for _ in range(SAMPLES)),
            "predicted": plan["candidates"][name],
            "work": plan["work"][name],
        }
    return {
        "pass": which,
        "format": memory,
        "prepared": kept,
        "dtype": problem.dtype,
        "candidates": candidates,
    }


def rows(cells: Iterable[dict[str, Any]]) -> list[Row]:
    return [
        Row(key_of(c), name, each["seconds"], np.array(list(each["work"].values())), each["predicted"])
        for c in cells
        for name, each in c["candidates"].items()
    ]


def floors(cells: Sequence[dict[str, Any]]) -> np.ndarray:
    """LEAST in the order of the kinds of work, 0 for the others."""
    kinds = next(each["work"] for cell in cells for each in cell["candidates"].values())
    return np.array([LEAST.get(kind, 0.0) for kind in kinds])


def fit(rows: Sequence[Row], floor: np.ndarray | None = None) -> np.ndarray:
    """Nanoseconds for one of each kind of work, `floor` or more; 0 for what does not occur.

    Coordinate descent on the sum of e^2 with e = predicted / measured - 1, OWN of it, and of (e - f)^2 for
    any two candidates of a cell, within NEAR times the fastest: an error that both have misleads nobody. What
    exceeds a fifth counts less (Huber), so that a disturbed time does not bend all others.
    """
    parts = np.array([1e-9 * row.work / row.seconds for row in rows])
    used = parts.any(0)
    shares = parts[:, used]
    scale = shares.max(0)
    shares = shares / scale
    rivals = np.array([shares[i] - shares[j] for i, j in _rivals(rows)]).reshape(-1, shares.shape[1])
    matrix = np.concatenate([shares, rivals])
    aim = np.repeat((1.0, 0.0), (len(shares), len(rivals)))
    share = np.repeat((OWN, 1.0), (len(shares), len(rivals)))
    weight = share
    low = np.zeros(shares.shape[1]) if floor is None else floor[used] * scale
    cost = low.copy()
    for _ in range(6):
        square = (matrix * weight[:, None]).T @ matrix
        line = matrix.T @ (weight * aim)
        for _ in range(STEPS // 6):
            for i in range(len(cost)):
                step = line[i] - square[i] @ cost
                cost[i] = max(low[i], cost[i] + step / square[i, i])
        error = np.abs(matrix @ cost - aim)
        weight = share * np.minimum(1.0, 0.2 / np.maximum(error, 1e-9))
    result = np.zeros(parts.shape[1])
    result[used] = cost / scale
    return result


def _rivals(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Any two candidates of a cell that are not much slower than its fastest, by their numbers in `rows`."""
    cells: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        cells.setdefault(row.cell, []).append(i)
    for each in cells.values():
        fastest = min(rows[i].seconds for i in each)
        yield from combinations([i for i in each if rows[i].seconds < NEAR * fastest], 2)


def seconds(row: Row, cost: np.ndarray) -> float:
    return float(1e-9 * row.work @ cost)


class Quality(NamedTuple):
    """How good predictions and the choice by them are, over some cells."""

    cells: int
    error: float  # median of |predicted / measured - 1|
    regret: float  # geometric mean of the chosen candidate's time over the fastest one's
    worst: float
    where: str


def choose(predicted: dict[str, float]) -> str:
    """The candidate that the core would take: tiles only where they are clearly faster."""
    direct = {name: t for name, t in predicted.items() if name in DIRECT}
    tiles = {name: t for name, t in predicted.items() if name not in DIRECT}
    best = min(direct, key=lambda name: direct[name]) if direct else ""
    tile = min(tiles, key=lambda name: tiles[name]) if tiles else ""
    if tile and (not best or tiles[tile] < MARGIN * direct[best]):
        return tile
    return best


def quality(rows: Sequence[Row], predicted: dict[tuple[tuple[str, ...], str], float]) -> Quality:
    """Of predictions by (cell, candidate)."""
    errors = [abs(predicted[row.cell, row.name] / row.seconds - 1) for row in rows]
    by_cell: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        by_cell.setdefault(row.cell, {})[row.name] = row.seconds
    regrets = {}
    for cell, times in by_cell.items():
        if len(times) > 1:
            chosen = choose({name: predicted[cell, name] for name in times})
            regrets[cell] = times[chosen] / min(times.values()), chosen, min(times, key=lambda n: times[n])
    worst = max(regrets, key=lambda cell: regrets[cell][0])
    ratio, chosen, fastest = regrets[worst]
    return Quality(
        len(regrets),
        float(np.median(errors)),
        timing.geometric_mean(r for r, *_ in regrets.values()) or 1.0,
        ratio,
        f"{' '.join(worst[2:])}: {chosen} instead of {fastest}",
    )


def name_of(target: str, dtype: str) -> str:
    """The row of a target in the core's table."""
    return f"k{COSTS[target]}{dtype.capitalize()}"


def line_of(name: str, cost: np.ndarray, origin: str) -> str:
    values = ", ".join(f"{value:.3g}" for value in cost)
    return f"// {origin}\nconstexpr Nanoseconds {name}{{{values}}};\n"


def replaced(text: str, name: str, line: str) -> str:
    """The table with one row, and the comment above it, exchanged."""
    pattern = rf"(?m)(^//[^\n]*\n)+^constexpr Nanoseconds {name}\{{[^}}]*\}};\n"
    if not re.search(pattern, text):
        raise ValueError(f"--write: the table has no row {name}")
    return re.sub(pattern, lambda _: line, text)


def origin(target: str, dtype: str, when: str) -> str:
    about = machine.describe()
    return f"{target}, {dtype}: {about['cpu']} ({about['family']}), {when[:10]}."
