"""What a race's cells say: ratios to the best peer, shares of the limits, geometric means, losses."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .peers import OURS
from .race import LOST, split
from .timing import geometric_mean, spread

CHANNELS_LAST, PREPARED = f"{OURS} channels-last", f"{OURS} prepared"


class Row(NamedTuple):
    """One cell of the convolution race. Speeds: FLOP/s of the direct sum. Ratios above 1: ours is ahead."""

    layer: str
    n: int
    dtype: str
    which: str
    tiny: bool
    flops: int
    first: float | None  # ours, channels first
    last: float | None  # ours, channels last
    prepared: float | None
    peer: str | None
    best: float | None  # the best peer
    ratio: float | None  # our better format, weights not prepared
    ratio_first: float | None
    ratio_prepared: float | None
    ratio_spread: float | None
    again: float | None  # the ratio in the longer re-race of a lost cell
    peak: float | None  # FMA peak, FLOP/s
    share: float | None  # of the time that the binding limit needs (FMA or memory) in the time taken; of the
    # best peer where ours is missing. Above 1 where an algorithm multiplies less than the direct sum.
    complaints: dict[str, str]

    @property
    def lost(self) -> bool:
        return self.ratio is not None and self.ratio < LOST and (self.again is None or self.again < LOST)


def _over(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b is not None else None


def bound_seconds(cell: dict[str, Any]) -> float | None:
    """The least time by the measured limits: FMA of the direct sum or bytes in and out, the longer one."""
    limits = cell["limits"]
    if not limits or not all(limits.values()):
        return None
    moved = cell["bytes_read"] / limits["read"] + cell["bytes_written"] / limits["fill"]
    return max(cell["flops"] / limits["fma"], moved)


def row(cell: dict[str, Any]) -> Row:
    candidates, flops = cell["candidates"], cell["flops"]
    ours, rivals = split(candidates)
    mine = min(ours, key=ours.__getitem__, default=None)
    peer = min(rivals, key=rivals.__getitem__, default=None)

    def seconds(name: str | None) -> float | None:
        return candidates[name]["median"] if name in candidates else None

    def speed(name: str | None) -> float | None:
        return _over(flops, seconds(name))

    paired = None
    if mine and peer:
        pairs = zip(candidates[peer]["samples"], candidates[mine]["samples"])
        paired = spread([p / m for p, m in pairs if p is not None and m is not None])
    return Row(
        layer=cell["layer"],
        n=cell["n"],
        dtype=cell["dtype"],
        which=cell["pass"],
        tiny=cell["tiny"],
        flops=flops,
        first=speed(OURS),
        last=speed(CHANNELS_LAST),
        prepared=speed(PREPARED),
        peer=peer,
        best=speed(peer),
        ratio=_over(seconds(peer), seconds(mine)),
        ratio_first=_over(seconds(peer), seconds(OURS)),
        ratio_prepared=_over(seconds(peer), seconds(PREPARED)),
        ratio_spread=paired,
        again=row(cell["again"]).ratio if "again" in cell else None,
        peak=cell["limits"]["fma"] if cell["limits"] else None,
        share=_over(bound_seconds(cell), seconds(mine or peer)),
        complaints={
            name: text for name, text in cell["absent"].items() if text.startswith(("wrong", "failed"))
        },
    )


def rows(cells: Sequence[dict[str, Any]]) -> list[Row]:
    """Lost cells first, worst on top, then by ratio; cells without a ratio last."""
    found = [row(cell) for cell in cells]
    return sorted(found, key=lambda r: (r.ratio is None, not r.lost, r.ratio or 0.0))


class Group(NamedTuple):
    """Geometric means over the cells of one dtype, pass and (where named) file and batch."""

    name: tuple[str, ...]
    cells: int
    ratio: float | None
    ratio_large: float | None  # without the tiny layers
    ratio_first: float | None
    ratio_prepared: float | None
    share: float | None
    lost: int


def _mean(found: Sequence[Row], key: str) -> float | None:
    return geometric_mean(getattr(r, key) for r in found if getattr(r, key) is not None)


def groups(found: Sequence[Row], key: Callable[[Row], tuple[str, ...]]) -> list[Group]:
    """The rows grouped by `key`, in the order of their names."""
    parts: dict[tuple[str, ...], list[Row]] = {}
    for r in found:
        parts.setdefault(key(r), []).append(r)
    return [
        Group(
            name,
            len(part),
            _mean(part, "ratio"),
            _mean([r for r in part if not r.tiny], "ratio"),
            _mean(part, "ratio_first"),
            _mean(part, "ratio_prepared"),
            _mean(part, "share"),
            sum(r.lost for r in part),
        )
        for name, part in sorted(parts.items())
    ]


def by_pass(r: Row) -> tuple[str, ...]:
    return (r.dtype, _PASS_ORDER[r.which])


def by_file(r: Row) -> tuple[str, ...]:
    return (r.layer.partition("/")[0], r.dtype, _PASS_ORDER[r.which])


# Sorts y, dx, dw in the order of a training step.
_PASS_ORDER = {"y": "1 y", "dx": "2 dx", "dw": "3 dw"}


def shown(name: str) -> str:
    """A group name's part without its sorting number."""
    return name.partition(" ")[2] or name
