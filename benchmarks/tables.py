"""Tables: for the terminal (with rich where it is installed) and as Markdown."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from . import patches, summary, timing
from .peers import OURS
from .summary import PREPARED, Group, Row

MISSING = "-"
WANTED_GAIN = 1.8  # by two threads, of a large layer


def figure(value: float | None, digits: int = 2) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def giga(value: float | None) -> str:
    return MISSING if value is None else f"{value / 1e9:.3g}" if value < 1e11 else f"{value / 1e9:.0f}"


def seconds(value: float | None) -> str:
    if value is None:
        return MISSING
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


class Table:
    """Columns and rows of text; the first `left` columns are aligned left, the others right."""

    def __init__(self, title: str, columns: Sequence[str], left: int = 1) -> None:
        self.title, self.columns, self.left = title, list(columns), left
        self.rows: list[list[str]] = []

    def add(self, *values: str) -> None:
        if len(values) != len(self.columns):
            raise ValueError(f"table: expected {len(self.columns)} values, got {len(values)}")
        self.rows.append(list(values))

    def markdown(self) -> str:
        marks = [":---" if i < self.left else "---:" for i in range(len(self.columns))]
        lines = [self.columns, marks, *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def plain(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        text = [self.title] if self.title else []
        for line in lines:
            parts = [
                v.ljust(w) if i < self.left else v.rjust(w) for i, (v, w) in enumerate(zip(line, widths))
            ]
            text.append("  ".join(parts).rstrip())
        return "\n".join(text)

    def show(self) -> None:
        try:
            from rich import box  # noqa: PLC0415  (optional)
            from rich.console import Console  # noqa: PLC0415
            from rich.table import Table as Rich  # noqa: PLC0415
        except ImportError:
            print(self.plain(), end="\n\n")
            return
        table = Rich(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for i, name in enumerate(self.columns):
            table.add_column(name, justify="left" if i < self.left else "right", no_wrap=True)
        for line in self.rows:
            table.add_row(*line)
        # As wide as its text: a narrower terminal or a pipe shall not lose the ends of figures.
        natural = max(map(len, self.plain().splitlines())) + 3 * len(self.columns)
        Console(width=max(natural, Console().width)).print(table, markup=False)


def cells(found: Sequence[Row], title: str = "Cells, lost ones first") -> Table:
    """Every cell: speeds in GFLOP/s."""
    speeds = ["nchw", "nhwc", "prepared", "best peer", "GFLOP/s"]
    ratios = ["ratio", "+-", "nchw alone", "prepared", "again", "of limit"]
    table = Table(title, ["layer", "n", "dtype", "pass", *speeds, *ratios])
    for r in found:
        mark = " LOST" if r.lost else ""
        table.add(
            r.layer + mark,
            str(r.n),
            r.dtype,
            r.which,
            giga(r.first),
            giga(r.last),
            giga(r.prepared),
            r.peer or MISSING,
            giga(r.best),
            figure(r.ratio),
            figure(r.ratio_spread),
            figure(r.ratio_first),
            figure(r.ratio_prepared),
            figure(r.again),
            figure(r.share),
        )
    return table


def means(found: Sequence[Group], heads: Sequence[str], title: str) -> Table:
    """Geometric means of groups; `heads` name the parts of a group's name."""
    columns = [*heads, "cells", "ratio", "without tiny", "nchw alone", "prepared", "of limit", "lost"]
    table = Table(title, columns, left=len(heads))
    for g in found:
        table.add(
            *map(summary.shown, g.name),
            str(g.cells),
            figure(g.ratio),
            figure(g.ratio_large),
            figure(g.ratio_first),
            figure(g.ratio_prepared),
            figure(g.share),
            str(g.lost),
        )
    return table


def complaints(found: Sequence[Row]) -> list[str]:
    """What was refused or failed, as lines."""
    return [
        f"{r.layer} n={r.n} {r.dtype} {r.which}: {name}: {text}"
        for r in found
        for name, text in r.complaints.items()
    ]


def patch_cells(document: dict[str, Any]) -> Table:
    """Every patch case: GB/s of columns; the score is the bound's time over ours."""
    table = Table(
        "Patches (GB/s of columns), lowest score first",
        ["case", "dtype", "operation", "layout", "limit", "ours", "score", "best peer", "peer", "ratio"],
        left=4,
    )
    lines = []
    for cell in document["cells"]:
        size = max(cell["bytes_read"], cell["bytes_written"])
        medians = {name: entry["median"] for name, entry in cell["candidates"].items()}
        rivals = {name: value for name, value in medians.items() if name != OURS}
        peer = min(rivals, key=rivals.__getitem__, default=None)
        bound = patches.bound_seconds(cell)
        ours = medians.get(OURS)
        score = patches.score(cell)
        speeds = [size / t if t else None for t in (bound, ours)]
        lines.append((score if score is not None else 9.0, [
            cell["layer"].partition("/")[2], cell["dtype"], cell["operation"], cell["layout"],
            giga(speeds[0]), giga(speeds[1]), figure(score), peer or MISSING,
            giga(size / rivals[peer]) if peer else MISSING, figure(cell["ratio"]),
        ]))  # fmt: skip
    for _, line in sorted(lines, key=lambda pair: pair[0]):
        table.add(*line)
    return table


def pool_cells(document: dict[str, Any]) -> Table:
    """Every pooling; the score is the memory's time over ours."""
    columns = ["case", "dtype", "operation", "format", "ours", "score", "best peer", "peer", "ratio"]
    table = Table("Pooling", columns, left=4)
    for cell in document["cells"]:
        medians = {name: entry["median"] for name, entry in cell["candidates"].items()}
        rivals = {name: value for name, value in medians.items() if name != OURS}
        peer = min(rivals, key=rivals.__getitem__, default=None)
        table.add(
            cell["layer"].partition("/")[2], cell["dtype"], cell["operation"], cell["layout"],
            seconds(medians.get(OURS)), figure(cell["score"]), peer or MISSING,
            seconds(rivals[peer]) if peer else MISSING, figure(cell["ratio"]),
        )  # fmt: skip
    return table


def patch_means(document: dict[str, Any]) -> Table:
    """Geometric means of scores and ratios, by operation and layout, without the cases under 64 KiB."""
    table = Table(
        "Patches: geometric means",
        ["operation", "layout", "cells", "score", "least", "ratio to best peer"],
        left=2,
    )
    parts: dict[tuple[str, str], list[tuple[float | None, float | None]]] = {}
    for cell in document["cells"]:
        if cell["tiny"]:
            continue
        for layout in (cell["layout"], "all"):
            parts.setdefault((cell["operation"], layout), []).append((patches.score(cell), cell["ratio"]))
    for (operation, layout), values in sorted(parts.items(), reverse=True):
        scores = [s for s, _ in values if s is not None]
        ratios = [r for _, r in values if r is not None]
        table.add(
            operation,
            layout,
            str(len(values)),
            figure(timing.geometric_mean(scores)),
            figure(min(scores, default=None)),
            figure(timing.geometric_mean(ratios)),
        )
    return table


def machine(document: dict[str, Any]) -> str:
    """One line on where and with what a result was made."""
    about, settings = document["machine"], document["settings"]
    names = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    where = f"{about['cpu']} ({about['family']}), {settings.get('threads', 1)} thread(s)"
    others = [cell["others"] for cell in document["cells"] if "others" in cell]
    parts = [f"{where}, {document['created'][:10]}, commit {document['commit']}", names]
    calm = [cell["calm"] for cell in document["cells"] if "calm" in cell]
    if calm:
        parts.append(f"FMA peak {median(calm):.0%} of the best one, {min(calm):.0%} at least")
    if others:
        parts.append(f"other processes took {median(others):.0%} of its cores (median over the cells)")
    return "; ".join(parts)


def overhead(document: dict[str, Any], title: str = "Tiny calls (microseconds)") -> Table:
    """Each library's best candidate for every tiny call."""
    best = [_by_library(cell["candidates"]) for cell in document["cells"]]
    names = list(dict.fromkeys(name for medians in best for name in medians))
    table = Table(title, ["call", "layout", "dtype", *names], left=3)
    for cell, medians in zip(document["cells"], best):
        values = (medians.get(name) for name in names)
        times = (MISSING if value is None else f"{value * 1e6:.2f}" for value in values)
        table.add(cell["call"], cell["layout"], cell["dtype"], *times)
    return table


def networks(document: dict[str, Any], title: str = "Whole networks") -> Table:
    """Every candidate's time for every network, and the ratio of the best peer to our better format."""
    names = list(dict.fromkeys(name for cell in document["cells"] for name in cell["candidates"]))
    table = Table(title, ["network", "work", "batch", "dtype", *names, "GFLOP/s", "ratio", "spread"], left=2)
    for cell in document["cells"]:
        entries = cell["candidates"]
        ours = [entry for name, entry in entries.items() if name.split()[0] == OURS]
        best = min(ours, key=lambda entry: entry["median"], default=None)
        table.add(
            cell["network"],
            cell["work"],
            str(cell["n"]),
            cell["dtype"],
            *(seconds(entries[name]["median"] if name in entries else None) for name in names),
            giga(None if best is None else cell["flops"] / best["median"]),
            figure(cell["ratio"]),
            figure(None if best is None else best["spread"]),
        )
    return table


# The core's words, in those of a reader.
_WAYS = {
    "window_product": "panels",
    "filter_product": "filter lanes",
    "strip_product": "strips",
    "winograd_2x2": "tiles 2x2",
    "winograd_4x4": "tiles 4x4",
    "winograd_gradient": "tiles 4x4",
    "phase_product": "phases together",
    "phase_strips": "phases in strips",
    "channel_product": "channel lanes",
    "turned_channels": "channel lanes",
    "runs, x in place": "runs in place",
    "filters, x in place": "filters in place",
}


def behind(found: Sequence[Any], title: str = "Cells behind, most lost first") -> Table:
    """Of each memory format the ways by their factors over the time taken; bold: the choice."""
    heads = ["layer", "pass", "race", "peer", "time", "C order", "channels-last", "prepared"]
    table = Table(title, [*heads, "FMA + bytes", "binds"], left=7)
    for r in found:
        table.add(
            r.layer + (f" n={r.n}" if r.n > 1 else ""),
            f"{r.which} f{r.dtype[-2:]}",
            figure(r.ratio),
            f"{r.peer} {figure(r.peer_factor)}",
            seconds(r.seconds),
            *(_ways(ways) for ways in r.formats.values()),
            figure(r.prepared),
            MISSING if r.shares is None else " + ".join(f"{100 * part:.0f}" for part in r.shares) + " %",
            r.binds or MISSING,
        )
    return table


def _ways(found: Sequence[Any]) -> str:
    names = (_WAYS.get(way.name, way.name) for way in found)
    marked = (f"**{name}**" if way.chosen else name for name, way in zip(names, found))
    return ", ".join(f"{name} {figure(way.factor)}" for name, way in zip(marked, found)) or MISSING


def bounds(found: Sequence[Any], title: str = "What binds, in cells") -> Table:
    """How many cells of each pass and dtype each word has."""
    words = sorted({r.binds or MISSING for r in found})
    table = Table(title, ["pass", "cells", *words])
    for name in sorted({f"{r.which} f{r.dtype[-2:]}" for r in found}):
        own = [r.binds or MISSING for r in found if f"{r.which} f{r.dtype[-2:]}" == name]
        table.add(name, str(len(own)), *(str(own.count(word)) for word in words))
    return table


def regrets(found: Sequence[Any]) -> Table:
    """Ways that are faster than the choice in a memory format, and their share of its time."""
    table = Table(
        "Faster than the choice, twice", ["layer", "pass", "format", "choice", "faster", "share"], left=5
    )
    lines = [(regret, r) for r in found for regret in r.regrets]
    for regret, r in sorted(lines, key=lambda line: line[0].share):
        names = (_WAYS.get(way, way) for way in (regret.chosen, regret.way))
        table.add(r.layer, f"{r.which} f{r.dtype[-2:]}", regret.memory, *names, figure(regret.share))
    return table


def adapters(document: dict[str, Any], title: str = "Adapters") -> Table:
    """windrow's time and that of the library whose functions it stands in for."""
    table = Table(title, ["call", "dtype", "windrow", "library", "its time", "ratio"], left=2)
    for cell in document["cells"]:
        theirs = next((name for name in cell["candidates"] if name != OURS), "-")
        times = [cell["candidates"].get(name, {}).get("median") for name in (OURS, theirs)]
        table.add(
            cell["call"], cell["dtype"], seconds(times[0]), theirs, seconds(times[1]), figure(cell["ratio"])
        )
    return table


def _by_library(candidates: dict[str, Any]) -> dict[str, float]:
    best: dict[str, float] = {}
    for name, entry in candidates.items():
        library = (
            PREPARED if entry.get("prepared") and name.startswith(OURS) else name.split()[0].partition(".")[0]
        )
        best[library] = min(entry["median"], best.get(library, entry["median"]))
    return best


def calibration() -> Table:
    heads = ["target", "dtype", "constants", "cells", "error", "regret", "worst", "where"]
    return Table("The core's choice: predicted against measured", heads, left=3)


def add_calibration(table: Table, target: str, dtype: str, which: str, found: Any) -> None:
    table.add(
        target, dtype, which, str(found.cells), f"{found.error:.0%}", figure(found.regret, 3),
        figure(found.worst), found.where,
    )  # fmt: skip


def scaling_cells(found: Sequence[Any], title: str = "Gain by threads, least first") -> Table:
    heads = ["one thread", "all", "gain", "bare multiply-adds"]
    table = Table(title, ["layer", "dtype", "pass", "large", *heads], left=4)
    for r in found:
        table.add(
            r.layer, r.dtype, r.which, "yes" if r.large else "no", seconds(r.one), seconds(r.all),
            figure(r.gain), figure(r.peak),
        )  # fmt: skip
    return table


def scaling(found: Sequence[Any], title: str = "Gain by threads") -> Table:
    """By dtype and pass: large layers, and the others, of which none should lose."""
    wanted = f"at {WANTED_GAIN} or more"
    heads = ["large", "mean", "least", wanted, "others", "mean", "least", "slower", "bare multiply-adds"]
    table = Table(title, ["dtype", "pass", *heads], left=2)
    for dtype, which in sorted({(r.dtype, r.which) for r in found}):
        own = [r for r in found if (r.dtype, r.which) == (dtype, which)]
        large, others = ([r.gain for r in own if r.large == kind] for kind in (True, False))
        table.add(
            dtype, which,
            str(len(large)), figure(timing.geometric_mean(large)), figure(min(large, default=None)),
            str(sum(gain >= WANTED_GAIN for gain in large)),
            str(len(others)), figure(timing.geometric_mean(others)), figure(min(others, default=None)),
            str(sum(gain < 1 for gain in others)),
            figure(timing.geometric_mean(r.peak for r in own if r.peak)),
        )  # fmt: skip
    return table
