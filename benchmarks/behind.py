"""The cells in which races left windrow behind: every other way of computing each, beside the limits.

For each cell all ways in both memory formats are timed in one interleaved run: what the core's choice takes,
what else it has, and for y the same with weights prepared. The time of the one taken is set beside those that
its multiply-adds and its bytes need at the least.
"""

import gc
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from windrow.plan import MEMORY_FORMATS

from . import limits, race, summary, timing
from .forced import CANDIDATES, WEIGHT_CANDIDATES, Pass, core_of
from .layers import Layer
from .peers import OURS, Candidate, Peer
from .peers.base import identity
from .problem import Problem, make

FORMATS = dict(zip(MEMORY_FORMATS, ("C order", "channels-last")))
# Another way counts as faster where it takes less than this share of the time of the one taken, and again in
# AGAIN_ROUNDS times the rounds.
REGRET = 0.95
# Multiply-adds of tiles of 2 x 2 and 4 x 4 results under 3 x 3 windows, of those of the direct sum.
TILES = {"winograd_2x2": 16 / 36, "winograd_4x4": 36 / 144}
# Shares of the time taken.
FMA_BINDS, BYTES_BIND, BOTH_BIND = 0.75, 0.6, 0.75


class Cell(NamedTuple):
    """One cell that a race lost."""

    layer: Layer
    dtype: str
    which: str
    ratio: float  # to the best peer, in the race
    peer: str
    peer_seconds: float


def cells(documents: Sequence[dict[str, Any]]) -> list[Cell]:
    """Those behind, worst first; of a cell that was raced more than once the last document counts."""
    found: dict[tuple[str, int, str, str], Cell | None] = {}
    for document in documents:
        for cell in document["cells"]:
            row = summary.row(cell)
            lost = None
            if row.lost and row.ratio is not None and row.peer is not None:
                seconds = cell["candidates"][row.peer]["median"]
                lost = Cell(_layer(cell["shape"]), row.dtype, row.which, row.ratio, row.peer, seconds)
            found[row.layer, row.n, row.dtype, row.which] = lost
    return sorted((cell for cell in found.values() if cell), key=lambda cell: cell.ratio)


def _layer(shape: dict[str, Any]) -> Layer:
    return Layer(**{key: tuple(v) if isinstance(v, list) else v for key, v in shape.items()})


def way_of(plan: dict[str, Any]) -> str:
    """The way that a plan takes: its driver, of weight gradients what lies in the lanes."""
    return str(plan["in_lanes"] or plan["kernel"])


class Ways(Peer):
    """The ways of one pass, each as a candidate; that taken by choice is named as ours is in a race."""

    name = OURS

    def __init__(self) -> None:
        self.taken: dict[str, str] = {}  # the candidate of each format by choice -> its way

    def conv(self, problem: Problem, which: str) -> list[Candidate]:
        core, found = core_of(problem.layer), []
        self.taken = {}
        one_format = problem.layer.c == problem.layer.filters == 1
        for memory in MEMORY_FORMATS[: 1 if one_format else 2]:
            forced, suffix = Pass(core, problem, which, memory), _suffix(memory)
            taken = way_of(forced.plan(0))
            self.taken[OURS + suffix] = taken
            numbers = {taken: 0}
            for number in (*CANDIDATES.values(), *WEIGHT_CANDIDATES.values()):
                numbers.setdefault(way_of(forced.plan(number)), number)
            for way, number in numbers.items():
                name = (OURS if number == 0 else way) + suffix
                found.append(Candidate(name, forced.call(number), identity, "existing"))
            if which == "y":
                call = forced.call(0, kept=True)
                found.append(Candidate(f"{summary.PREPARED}{suffix}", call, identity, "existing", True))
        return found


def _suffix(memory: str) -> str:
    return " channels-last" if memory == "channels_last" else ""


def run(
    found: Sequence[Cell], method: timing.Method, measured: limits.Limits | None
) -> Iterator[dict[str, Any]]:
    """Each cell as it ends; where another way is faster than the one taken, measured a second time."""
    ways = Ways()
    for cell in found:
        problem = make(cell.layer, cell.dtype)
        result = race.cell(problem, cell.which, {OURS: ways}, method, measured)
        result |= {
            "taken": ways.taken, "ratio": cell.ratio, "peer": cell.peer, "peer_seconds": cell.peer_seconds
        }  # fmt: skip
        if regret(result) is not None:
            longer = method._replace(
                rounds=race.AGAIN_ROUNDS * method.rounds, budget=race.AGAIN_ROUNDS * method.budget
            )
            again = race.cell(problem, cell.which, {OURS: ways}, longer, measured)
            result["again"] = {**again, "taken": ways.taken}
        yield result
        gc.collect()


def taken(result: dict[str, Any]) -> str:
    """The candidate that counts in a race: by choice, in the better format."""
    return min(result["taken"], key=lambda name: result["candidates"][name]["median"])


def factors(result: dict[str, Any]) -> dict[str, float]:
    """The time of every candidate over that of the one taken, round by round."""
    base = result["candidates"][taken(result)]["samples"]
    paired = {name: timing.paired(c["samples"], base) for name, c in result["candidates"].items()}
    return {name: factor for name, factor in paired.items() if factor is not None}


def regret(result: dict[str, Any]) -> tuple[str, float] | None:
    """A way that is clearly faster than the one taken, and its factor; in both runs where there are two."""
    found = factors(result)
    others = {n: f for n, f in found.items() if n not in result["taken"] and not _is_prepared(n)}
    best = min(others, key=others.__getitem__, default=None)
    if best is None or others[best] >= REGRET:
        return None
    if "again" in result:
        factor = factors(result["again"]).get(best, 1.0)
        return (best, max(factor, others[best])) if factor < REGRET else None
    return best, others[best]


def _is_prepared(name: str) -> bool:
    return name.startswith(summary.PREPARED)


class Shares(NamedTuple):
    """The least time of a cell's multiply-adds and of its bytes, over the time taken."""

    fma: float
    moved: float


def shares(result: dict[str, Any]) -> Shares | None:
    """By the limits measured in the same rounds; a tile's multiply-adds are its own."""
    found = result["limits"]
    if not found or not all(found.values()):
        return None
    name = taken(result)
    seconds = result["candidates"][name]["median"]
    flops = result["flops"] * TILES.get(result["taken"][name], 1.0)
    moved = result["bytes_read"] / found["read"] + result["bytes_written"] / found["fill"]
    return Shares(flops / found["fma"] / seconds, moved / seconds)


def binds(found: Shares | None, tiny: bool = False) -> str:
    """What keeps a cell from being faster, by its shares."""
    if found is None:
        return ""
    if found.fma >= FMA_BINDS:
        return "FMA"
    if found.moved >= BYTES_BIND:
        return "bytes"
    if found.fma + found.moved >= BOTH_BIND:
        return "FMA + bytes"
    return "latency" if tiny else "overhead"


class Row(NamedTuple):
    """One cell of the table."""

    layer: str
    n: int
    dtype: str
    which: str
    ratio: float
    peer: str
    peer_factor: float  # the peer's time in the race over ours here
    seconds: float
    formats: dict[str, list[tuple[str, float, bool]]]  # of each memory format the ways, fastest first, their
    # factors, and whether they are the choice there
    prepared: float | None
    shares: Shares | None
    binds: str
    regret: tuple[str, float] | None


def row(result: dict[str, Any]) -> Row:
    name, found = taken(result), factors(result)
    seconds = result["candidates"][name]["median"]
    formats: dict[str, list[tuple[str, float, bool]]] = {text: [] for text in FORMATS.values()}
    for candidate, factor in sorted(found.items(), key=lambda item: item[1]):
        if _is_prepared(candidate):
            continue
        chosen = candidate in result["taken"]
        memory = FORMATS["channels_last" if candidate.endswith(_suffix("channels_last")) else "channels_first"]
        way = result["taken"][candidate] if chosen else candidate.removesuffix(_suffix("channels_last"))
        formats[memory].append((way, factor, chosen))
    measured = shares(result)
    return Row(
        layer=result["layer"],
        n=result["n"],
        dtype=result["dtype"],
        which=result["pass"],
        ratio=result["ratio"],
        peer=result["peer"],
        peer_factor=result["peer_seconds"] / seconds,
        seconds=seconds,
        formats=formats,
        prepared=min((f for n, f in found.items() if _is_prepared(n)), default=None),
        shares=measured,
        binds=binds(measured, result["tiny"]),
        regret=regret(result),
    )


def rows(results: Sequence[dict[str, Any]]) -> list[Row]:
    """The most lost first."""
    return sorted(map(row, results), key=lambda r: r.ratio)
