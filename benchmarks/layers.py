"""Layers as data: the CSV files of shapes/, and what follows from a shape (sizes, FLOPs, bytes)."""

import csv
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

SHAPES = Path(__file__).parent / "shapes"
PATCH_FILE = "patches"
PASSES = ("y", "dx", "dw")

# A layer under this many FLOPs takes under 20 us at 100 GFLOP/s: what is timed is the call, not the work.
# Geometric means are given with and without these.
TINY_FLOPS = 2_000_000

_COMMON = ("name", "n", "c", "k", "stride", "pad", "dilation", "groups")
_FORMS = {"2-D": ("h", "w", "kh", "kw"), "N-D": ("size", "kernel")}


class Layer(NamedTuple):
    """One layer or patch case: sizes per spatial axis, padding the same before and after."""

    source: str
    name: str
    n: int
    c: int
    size: tuple[int, ...]
    k: int | None
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def rank(self) -> int:
        return len(self.size)

    @property
    def out_size(self) -> tuple[int, ...]:
        axes = zip(self.size, self.kernel, self.stride, self.pad, self.dilation)
        return tuple((s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in axes)

    @property
    def filters(self) -> int:
        """The filters of a layer; patch cases have none."""
        if self.k is None:
            raise ValueError(f"{self.source}/{self.name} is a patch case: it has no filters")
        return self.k

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.n, self.c, *self.size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.filters, self.c // self.groups, *self.kernel)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.n, self.filters, *self.out_size)

    @property
    def columns_shape(self) -> tuple[int, int, int]:
        """The column array in the order "n (c k) l"."""
        return (self.n, self.c * prod(self.kernel), prod(self.out_size))

    @property
    def flops(self) -> int:
        """FLOPs of the direct sum; the forward pass and both gradients have the same number."""
        taps = self.c // self.groups * prod(self.kernel)
        return 2 * self.n * self.filters * prod(self.out_size) * taps

    @property
    def tiny(self) -> bool:
        return self.flops < TINY_FLOPS

    def traffic(self, which: str) -> tuple[int, int]:
        """Elements that a pass must read and write at least: (read, written)."""
        x, w, y = prod(self.x_shape), prod(self.w_shape), prod(self.y_shape)
        return {"y": (x + w, y), "dx": (y + w, x), "dw": (x + y, w)}[which]

    def with_batch(self, batch: int | None) -> "Layer":
        """The layer at another batch; a layer whose file gives it a batch of its own keeps that."""
        return self if batch is None or self.n != 1 else self._replace(n=batch)


def _per_axis(text: str, rank: int, what: str) -> tuple[int, ...]:
    values = tuple(int(part) for part in text.split("x"))
    if len(values) == 1:
        values *= rank
    if len(values) != rank:
        raise ValueError(f"{what}: expected 1 or {rank} values joined by x, got {text!r}")
    return values


def parse(lines: Iterable[str], source: str) -> list[Layer]:
    """The layers of one CSV text, in either of the two forms that shapes/README.md describes."""
    rows = csv.DictReader(lines)
    columns = set(rows.fieldnames or ())
    form = next((f for f, own in _FORMS.items() if columns == {*_COMMON, *own}), None)
    if form is None:
        raise ValueError(f"{source}: expected the columns of the 2-D or the N-D form, got {sorted(columns)}")
    return [_layer(row, form, source) for row in rows]


def _layer(row: dict[str, str], form: str, source: str) -> Layer:
    if form == "2-D":
        row["size"], row["kernel"] = f"{row['h']}x{row['w']}", f"{row['kh']}x{row['kw']}"
    where = f"{source}/{row['name']}"
    size = tuple(int(part) for part in row["size"].split("x"))
    axes = {
        key: _per_axis(row[key], len(size), f"{where}: {key}")
        for key in ("kernel", "stride", "pad", "dilation")
    }
    n, c, groups = int(row["n"]), int(row["c"]), int(row["groups"])
    k = int(row["k"]) if row["k"] else None
    layer = Layer(source, row["name"], n, c, size, k, groups=groups, **axes)
    if c % groups or (k is not None and k % groups):
        raise ValueError(f"{where}: groups={groups} must divide c={c} and k={k}")
    if min(layer.out_size) < 1:
        raise ValueError(f"{where}: the window does not fit the padded image")
    return layer


def load(sources: Sequence[str] = (), only: Sequence[str] = ()) -> list[Layer]:
    """Layers from files of shapes/ by name (default: all but the patch cases), or from paths of CSV files.

    `only` keeps the layers whose "file/name" contains one of its texts.
    """
    names = sources or sorted(p.stem for p in SHAPES.glob("*.csv") if p.stem != PATCH_FILE)
    layers: list[Layer] = []
    for name in names:
        path = Path(name) if name.endswith(".csv") else SHAPES / f"{name}.csv"
        if not path.exists():
            known = ", ".join(sorted(p.stem for p in SHAPES.glob("*.csv")))
            raise ValueError(f"layers: no file {path} (there are: {known})")
        with path.open(newline="") as file:
            layers += parse(file, path.stem)
    return [x for x in layers if not only or any(text in f"{x.source}/{x.name}" for text in only)]


def batches(layers: Sequence[Layer], values: Sequence[int]) -> list[Layer]:
    """Each layer at each batch, without the doubles that layers with a batch of their own would give."""
    return list(dict.fromkeys(layer.with_batch(b) for layer in layers for b in values or (None,)))
