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
TILES = {"winograd_2x2": 16 / 36, "winograd_4x4": 36 / 144, "winograd_gradient": 36 / 144}
HALF_SCRATCH = "half the scratch"  # the choice under a limit: smaller blocks, or a way that needs less
# Shares of the time taken.
FMA_BINDS, BYTES_BIND, BOTH_BIND = 0.7, 0.5, 0.75


# The page of a result, as docs/behind.md, before its tables.
PAGE = """# Cells behind{where}

Every cell (layer, pass, dtype) in which the [race](../benchmarks/README.md) has windrow behind, with every
other way of computing it that there is, forced and timed in one run with the one taken, and what binds.
Made by `python -m benchmarks behind`, and by `python -m benchmarks report` of its result; nothing is copied
by hand. [Performance](performance.md#what-stays-behind) has what was tried in the code itself, by kinds of
layers.

- *race* is the best peer's time over that of windrow in the race, the least on top; beside the peer stands
  its time in the race over windrow's *time* here, the least of the rounds for both; above the ratio where
  this hour was the calmer one.
- Of each memory format the ways, the fastest first, with the median over the rounds of their time over that
  of the way taken (1.12 is 12 % slower). Bold is what the core chooses in that format; what is taken is the
  faster of the two. *prepared* is the choice with weights prepared, in its better format.
- Ways of y and dx: *panels* of pixels, *strips* (a 1x1 window reads C-ordered arrays in place), *filter
  lanes*, *channel lanes* (depthwise), *tiles* of Winograd's, also where the cost model refuses them, and
  for strided dx all *phases* at once instead of one after another. Of dw by what lies in the lanes: *runs*
  of neighbouring taps and channels, all taps of a pixel copied *side by side*, *filters*, or *pixels*
  (depthwise); *in place* reads x where it is. *Half the scratch* is the choice under a `max_workspace` that
  leaves half of the scratch memory: smaller blocks, or a way that needs less.
  [Architecture](architecture.md) explains them.
- *FMA + bytes*: the time of the multiply-adds at the FMA peak (of tiles their own, else of the direct sum)
  and that of reading the operands and writing the result once, at the rates measured on these very buffers
  in the same rounds, in percent of the time taken. What keeps a cell from the larger of the two, and from
  their sum, is what they lack to 100.
- *binds*: FMA from 70 % on, else bytes from 50 %, both from 75 % together; else overhead (copies, ends of
  rows, calls for small tiles), which in layers under 2 MFLOP is latency."""


def page(threads: int, batches: Sequence[int]) -> str:
    """The page's head: where the cells are behind besides one image on one thread, and how to read it."""
    where = " in batches" if min(batches) > 1 else ""
    return PAGE.format(where=where + (f" on {threads} threads" if threads > 1 else ""))


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
                seconds = least(cell["candidates"][row.peer])
                lost = Cell(_layer(cell["shape"]), row.dtype, row.which, row.ratio, row.peer, seconds)
            found[row.layer, row.n, row.dtype, row.which] = lost
    return sorted((cell for cell in found.values() if cell), key=lambda cell: cell.ratio)


def _layer(shape: dict[str, Any]) -> Layer:
    return Layer(**{key: tuple(v) if isinstance(v, list) else v for key, v in shape.items()})


def least(candidate: dict[str, Any]) -> float:
    """Of its samples: what disturbs one only makes it longer, and limits are the best that was reached."""
    return min(sample for sample in candidate["samples"] if sample is not None)


def way_of(plan: dict[str, Any]) -> str:
    """The way that a plan takes: its driver, of direct weight gradients what lies in the lanes."""
    return str((plan["algorithm"] == "direct" and plan["in_lanes"]) or plan["kernel"])


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
            limit = half_scratch(forced, which)
            if limit is not None:
                call = forced.call(0, limit=limit)
                found.append(Candidate(HALF_SCRATCH + suffix, call, identity, "existing"))
            if which == "y":
                call = forced.call(0, kept=True)
                found.append(Candidate(f"{summary.PREPARED}{suffix}", call, identity, "existing", True))
        return found


def half_scratch(forced: Pass, which: str) -> int | None:
    """The limit under which a pass has half of the scratch memory that it takes, if it can do with that."""
    plan = forced.plan(0)
    half = plan["workspace_per_thread"] // 2
    # Sums over pixels are cut for a share of the limit: kShares of core/api/plans.hpp.
    limit = 8 * half if which == "dw" else plan["workspace_shared"] + half
    try:
        return limit if half and forced.plan(0, limit=limit) else None
    except ValueError:
        return None


def _suffix(memory: str) -> str:
    return " channels-last" if memory == "channels_last" else ""


def run(
    found: Sequence[Cell], method: timing.Method, measured: limits.Limits | None
) -> Iterator[dict[str, Any]]:
    """Each cell as it ends; where another way is faster than the choice, measured a second time, longer."""
    ways = Ways()
    for cell in found:
        problem = make(cell.layer, cell.dtype)
        result = race.cell(problem, cell.which, {OURS: ways}, method, measured)
        result |= {
            "taken": ways.taken, "ratio": cell.ratio, "peer": cell.peer, "peer_seconds": cell.peer_seconds
        }  # fmt: skip
        del result["shape"], result["limit_samples"]
        if regrets(result):
            longer = method._replace(
                rounds=race.AGAIN_ROUNDS * method.rounds, budget=race.AGAIN_ROUNDS * method.budget
            )
            again = race.cell(problem, cell.which, {OURS: ways}, longer, measured)
            kept = ("flops", "bytes_read", "bytes_written", "limits", "candidates")
            result["again"] = {**{key: again[key] for key in kept}, "taken": ways.taken}
        yield result
        gc.collect()


def taken(result: dict[str, Any]) -> str:
    """The candidate that counts in a race: by choice, in the better format."""
    timed = [name for name in result["taken"] if name in result["candidates"]]
    return min(timed, key=lambda name: result["candidates"][name]["median"])


def factors(result: dict[str, Any]) -> dict[str, float]:
    """The time of every candidate over that of the one taken, round by round."""
    base = result["candidates"][taken(result)]["samples"]
    paired = {name: timing.paired(c["samples"], base) for name, c in result["candidates"].items()}
    return {name: factor for name, factor in paired.items() if factor is not None}


class Way(NamedTuple):
    """A way in one memory format."""

    name: str
    factor: float
    chosen: bool  # by the core, in this format


def formats(result: dict[str, Any]) -> dict[str, list[Way]]:
    """The ways in each memory format, the fastest first; without prepared weights."""
    found: dict[str, list[Way]] = {text: [] for text in FORMATS.values()}
    last = _suffix("channels_last")
    for name, factor in sorted(factors(result).items(), key=lambda item: item[1]):
        if not _is_prepared(name):
            chosen = name in result["taken"]
            way = result["taken"][name] if chosen else name.removesuffix(last)
            found[FORMATS["channels_last" if name.endswith(last) else "channels_first"]].append(
                Way(way, factor, chosen)
            )
    return found


class Regret(NamedTuple):
    """A way that is clearly faster than the choice in its memory format, and its share of that one's time."""

    memory: str
    way: str
    chosen: str
    share: float


def regrets(result: dict[str, Any]) -> list[Regret]:
    """Of each memory format, in both runs where there are two; the longer one names the way."""
    found = []
    for memory, ways in formats(result).items():
        chosen = next((way for way in ways if way.chosen), None)
        if chosen is not None and ways[0].factor < REGRET * chosen.factor:
            found.append(Regret(memory, ways[0].name, chosen.name, ways[0].factor / chosen.factor))
    if "again" not in result:
        return found
    first = {regret.memory for regret in found}
    return [regret for regret in regrets(result["again"]) if regret.memory in first]


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
    seconds = least(result["candidates"][name])
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
    formats: dict[str, list[Way]]
    prepared: float | None
    shares: Shares | None
    binds: str
    regrets: list[Regret]


def row(result: dict[str, Any]) -> Row:
    longest = result.get("again", result)
    found, seconds = factors(longest), least(longest["candidates"][taken(longest)])
    measured = shares(longest)
    return Row(
        layer=result["layer"],
        n=result["n"],
        dtype=result["dtype"],
        which=result["pass"],
        ratio=result["ratio"],
        peer=result["peer"],
        peer_factor=result["peer_seconds"] / seconds,
        seconds=seconds,
        formats=formats(longest),
        prepared=min((f for n, f in found.items() if _is_prepared(n)), default=None),
        shares=measured,
        binds=binds(measured, result["tiny"]),
        regrets=regrets(result),
    )


def rows(results: Sequence[dict[str, Any]]) -> list[Row]:
    """The most lost first."""
    return sorted(map(row, results), key=lambda r: r.ratio)
