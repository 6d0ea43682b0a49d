"""What a check found: a truth value, a table, the worst entries, patterns, JSON and a picture."""

import json
import math
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, NamedTuple

from .accept import Array
from .entries import Entry
from .patterns import Pattern
from .taylor import Taylor


class Row(NamedTuple):
    """One line of the table. `error` and `bound` are in the units of the gradient's entries."""

    argument: str
    test: str
    error: float | None
    bound: float | None
    verdict: str  # "holds", "fails" or "kink"
    note: str = ""


@dataclass(frozen=True)
class Checked:
    """What is known of one argument's gradient."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    affine: bool
    differentiated_in: str
    gradient: Array
    entries: tuple[Entry, ...] = ()
    taylor: Taylor | None = None
    sensitivity: float | None = None  # an error of larger 2-norm passes with probability below 1e-6

    @property
    def kinks(self) -> int:
        """Measured entries at which the function has a kink."""
        return sum(entry.kinks > 0 for entry in self.entries)

    @property
    def worst(self) -> list[Entry]:
        """The wrong entries, worst first; if there is none, the entry nearest its bound."""
        wrong = sorted((e for e in self.entries if not e.holds), key=lambda e: -abs(e.error))
        nearest = sorted(self.entries, key=lambda e: -abs(e.error) / (e.bound or 1.0))
        return wrong or nearest[:1]


class GradientError(AssertionError):
    """A gradient check failed; the text is the report."""


@dataclass(frozen=True)
class Report:
    """The result of `check`. It is true if every test holds; printing it gives the table."""

    title: str
    seed: int
    rows: tuple[Row, ...]
    arguments: tuple[Checked, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)  # of the smallest failing case, after shrinking

    def __bool__(self) -> bool:
        """Whether every test holds."""
        return all(row.verdict != "fails" for row in self.rows)

    @property
    def failures(self) -> list[Row]:
        """The tests that fail."""
        return [row for row in self.rows if row.verdict == "fails"]

    def raise_if_failed(self) -> None:
        """Raise a GradientError (an AssertionError) with the whole report if a test fails."""
        if not self:
            raise GradientError(f"\n{self}")

    def __str__(self) -> str:
        """The table, the worst entries and the patterns."""
        lines = [f"{self.title}: {'holds' if self else 'FAILS'}", "", *self._table()]
        wrong = [(c, e) for c in self.arguments for e in c.worst[:5] if not e.holds]
        if wrong:
            lines += ["", "worst entries"]
            lines += [
                f"  {e.place}  expected {e.expected:.6g}  got {e.got:.6g}  "
                f"error {abs(e.error):.2g}  bound {e.bound:.2g}"
                for _, e in wrong
            ]
        if self.patterns:
            lines += ["", "what it looks like", *(f"  {pattern.text}" for pattern in self.patterns)]
        affine = [c.name for c in self.arguments if c.affine]
        if affine:
            lines += ["", f"affine in {', '.join(affine)}: measured with steps of the inputs' own size"]
        wide = [c.name for c in self.arguments if c.differentiated_in != c.dtype and not c.affine]
        if wide:
            lines += ["", f"differentiated in float64: {', '.join(wide)}"]
        kinks = [f"d{c.name}: {c.kinks} of {len(c.entries)} entries" for c in self.arguments if c.kinks]
        if kinks:
            lines += ["", f"at a kink (right between the one-sided derivatives): {', '.join(kinks)}"]
        if self.sizes:
            sizes = ", ".join(f"{key}={value}" for key, value in self.sizes.items())
            lines += ["", f"smallest failing case: {sizes}"]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        cells = [("argument", "test", "error", "bound", "verdict")]
        for row in self.rows:
            error, bound = ("" if value is None else f"{value:.1e}" for value in (row.error, row.bound))
            verdict = row.verdict.upper() if row.verdict == "fails" else row.verdict
            cells.append((row.argument, row.test, error, bound, f"{verdict}  {row.note}".rstrip()))
        widths = [max(len(line[k]) for line in cells) for k in range(4)]
        return ["  ".join((*(c.ljust(w) for c, w in zip(line, widths)), line[4])).rstrip() for line in cells]

    def as_dict(self) -> dict[str, Any]:
        """Everything but the arrays, in plain types."""
        return {
            "title": self.title,
            "holds": bool(self),
            "seed": self.seed,
            "rows": [row._asdict() for row in self.rows],
            "patterns": [pattern._asdict() for pattern in self.patterns],
            "sizes": dict(self.sizes),
            "arguments": [
                {
                    "name": c.name,
                    "shape": list(c.shape),
                    "dtype": c.dtype,
                    "affine": c.affine,
                    "differentiated_in": c.differentiated_in,
                    "sensitivity": c.sensitivity,
                    "kinks": c.kinks,
                    "entries_measured": len(c.entries),
                    "worst": [entry._asdict() for entry in c.worst[:20]],
                    "taylor": None if c.taylor is None else c.taylor._asdict(),
                }
                for c in self.arguments
            ],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """`as_dict` as JSON; numbers that JSON cannot hold (NaN, infinity) become strings."""
        return json.dumps(_plain(self.as_dict()), indent=indent)

    def picture(self, path: str | PathLike[str] | None = None, argument: str | None = None) -> Any:
        """Draw one argument's error over the array and its Taylor remainders; needs matplotlib.

        The worst argument is drawn unless `argument` names one. Saved to `path` if given; the matplotlib
        figure is returned.
        """
        from .picture import draw  # noqa: PLC0415 - matplotlib is an extra

        return draw(self, path, argument)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
