"""The check: every test in order of cost, and a report."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .accept import Array, numeric
from .entries import measure_entries
from .meter import SLACK, Claim, Measurement, Meter
from .noise import natural_sizes, nudge_probes, real_rounded, split_probes
from .pair import Argument, Call, Pair, real
from .patterns import Pattern, diagnose
from .progress import Progress, reporter
from .report import Checked, Report, Row
from .shapes import repair
from .shrink import shrink_sizes
from .suspect import Suspect
from .taylor import taylor_rate

# Of an array of at most FEW entries all are measured; of a larger one SAMPLE, fewer if a call is long.
FEW, SAMPLE, LEAST, WORK = 64, 32, 4, 1 << 22
# An entry of a gradient may have been rounded by this many eps of terms of the size of dy * y / x.
CANCELLED = 4.0
# The chance that an error as large as a report's `sensitivity` is missed.
MISS = 1e-6


def check(
    forward: Call,
    backward: Call,
    inputs: Any,
    *,
    wrt: Iterable[int | str] | None = None,
    dy: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    axes: Mapping[str, str] | None = None,
    cached: bool = False,
    directions: int = 8,
    entries: int | Literal["auto", "all"] = "auto",
    check_dtypes: bool = True,
    sizes: Mapping[str, int] | None = None,
    shrink: bool = False,
    title: str | None = None,
    seed: int = 0,
    progress: Progress = False,
) -> Report:
    """Check a backward function against its forward.

    With ``y = forward(*inputs)`` the gradients ``backward(dy, *inputs)`` must satisfy
    ``<gradient, v> = d/dt <dy, forward(input + t v)>`` at t = 0 for every direction v. The tests, cheapest
    first: shapes and dtypes; same bits twice; inputs not written; linear in dy; slopes along random
    directions and along the gradient's signs; the rate of the Taylor remainder; single entries. A failure
    is then located: the worst entries, and the usual cause if it has one.

    >>> import numpy as np
    >>> from windrow.gradcheck import check
    >>> x, w = np.linspace(-1, 1, 12).reshape(3, 4), np.linspace(0, 1, 8).reshape(4, 2)
    >>> report = check(lambda x, w: x @ w, lambda dy, x, w: (dy @ w.T, x.T @ dy), (x, w))
    >>> bool(report)
    True
    >>> report = check(lambda x, w: x @ w, lambda dy, x, w: (dy @ w.T, -x.T @ dy), (x, w))
    >>> [pattern.text for pattern in report.patterns]
    ['dw has the wrong sign']

    Parameters
    ----------
    forward : callable, ``forward(*inputs) -> y``
        Any function of NumPy arrays; it gets fresh copies of the inputs.
    backward : callable, ``backward(dy, *inputs) -> gradients``
        One gradient per input (None for those that have none) or per `wrt`, or a dict by name. For one
        input an array or a 1-tuple.
    inputs : sequence of arrays, or a callable that makes them from `sizes`
        float and complex arrays are differentiated; anything else is passed on.
    wrt : names or positions of the inputs to check, default every float or complex one
    dy : array of the shape of y, default random signs times a number between 0.5 and 1.5
    names : names of the inputs, default forward's parameter names
    axes : dict from a name to its axis names, ``{"x": "n c h w"}``, for the places in the report
    cached : bool
        ``forward(*inputs) -> (y, cache)`` and ``backward(dy, cache)``, as CS231n's layers are.
    directions : int
        Random directions; see `Checked.sensitivity` for what they can miss.
    entries : "auto", "all" or a count
        Entries measured one by one when nothing is wrong; "auto" takes all of a small array and a sample
        of a large one.
    check_dtypes : bool
        Whether a gradient of another dtype than its input's is a failure.
    sizes, shrink : dict from a name to a length, bool
        With a callable `inputs`, ``inputs(**sizes)`` gives the arrays, or a `Problem` with functions of its
        own; `shrink` looks for a small failing case if the check fails.
    seed : int
        Everything random follows from it.
    progress : bool or callable(done, total)

    Returns
    -------
    Report
        True if every test holds; prints a table.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is said above. What forward and backward raise goes through.

    Source: docs/gradcheck.md derives the bounds.
    """
    if directions < 1:
        raise ValueError(f"directions: expected at least 1, got {directions}")
    if entries not in ("auto", "all") and (not isinstance(entries, int) or entries < 0):
        raise ValueError(f"entries: expected 'auto', 'all' or a count, got {entries!r}")
    options = _Options(directions, entries, check_dtypes, title, seed, progress)

    def run(forward: Call, backward: Call, arrays: Any) -> Report:
        together = isinstance(arrays, np.ndarray) or not isinstance(arrays, Sequence)
        pair = Pair(
            forward,
            backward,
            (arrays,) if together else arrays,
            wrt=wrt,
            names=names,
            axes=axes,
            cached=cached,
        )
        return _Check(pair, dy, options).run()

    if not callable(inputs):
        if sizes is not None or shrink:
            raise TypeError("inputs: expected a callable that makes them from sizes, got arrays")
        return run(forward, backward, inputs)
    return shrink_sizes(run, forward, backward, inputs, dict(sizes or {}), shrink=shrink)


class _Options(NamedTuple):
    directions: int
    entries: int | str
    check_dtypes: bool
    title: str | None
    seed: int
    progress: Progress


class _Check:
    def __init__(self, pair: Pair, dy: ArrayLike | None, options: _Options) -> None:
        self.pair, self.given_dy, self.options = pair, dy, options
        self.generator = np.random.default_rng(options.seed)
        self.rows: list[Row] = []
        self.arguments: list[Checked] = []
        self.patterns: list[Pattern] = []

    def run(self) -> Report:
        y = self.pair.first_output()
        if self._finite("forward", real(y), "y") and self._same_twice(y):
            self._backward(y)
        name = getattr(self.pair.call_forward, "__name__", "forward").strip("<>")
        title = self.options.title or f"gradients of {name}"
        return Report(title, self.options.seed, tuple(self.rows), tuple(self.arguments), tuple(self.patterns))

    def _row(self, argument: str, test: str, holds: bool, note: str = "") -> bool:
        self.rows.append(
            Row(argument, test, None, None, "holds" if holds else "fails", "" if holds else note)
        )
        return holds

    def _finite(self, argument: str, values: Array, label: str) -> bool:
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            place = ", ".join(str(i) for i in bad[0].tolist())
            return self._row(argument, "finite", False, f"{label}[{place}] is {values[tuple(bad[0])]}")
        return True

    # The tests of behaviour

    def _same_twice(self, y: Array) -> bool:
        arguments = self.pair.fresh()
        again = self.pair.output(self.pair.run_forward(arguments))
        same = again.shape == y.shape and again.dtype == y.dtype and again.tobytes() == y.tobytes()
        self._row("forward", "same bits twice", same, "random? fix its seed inside forward")
        self._unwritten("forward", arguments)
        return same

    def _unwritten(self, function: str, arguments: list[Any]) -> None:
        written = [
            name
            for name, before, after in zip(self.pair.names, self.pair.inputs, arguments)
            if isinstance(before, np.ndarray) and before.tobytes() != after.tobytes()
        ]
        self._row(function, "inputs not written", not written, f"{', '.join(written)} changed")

    def _weights(self, y: Array) -> Array:
        """The real view of dy: the caller's, or one in which every output counts."""
        flat = real(y).reshape(-1)
        if self.given_dy is None:
            signs = self.generator.choice([-1.0, 1.0], flat.size)
            dy = signs * self.generator.uniform(0.5, 1.5, flat.size)
        else:
            given = numeric("dy", self.given_dy)
            if given.shape != y.shape:
                raise ValueError(f"dy: expected the shape of y, {y.shape}, got {given.shape}")
            dy = real(given.astype(y.dtype)).reshape(-1)
        return real_rounded(self.pair, dy.astype(np.result_type(flat, np.float64)))

    def _backward(self, y: Array) -> None:
        dy = self._weights(y)
        arguments, weights = self.pair.fresh(), self.pair.weights(dy)
        kept = weights.copy()
        raw = self.pair.run_backward(weights, arguments)
        raw = [None if part is None else np.array(part) for part in raw]
        self._unwritten("backward", arguments)
        self._row("backward", "dy not written", kept.tobytes() == weights.tobytes(), "dy changed")
        again = self.pair.run_backward(self.pair.weights(dy), self.pair.fresh())
        same = all(
            (one is None) == (two is None) and (one is None or one.tobytes() == np.asarray(two).tobytes())
            for one, two in zip(raw, again)
        )
        if not self._row("backward", "same bits twice", same, "random? fix its seed inside backward"):
            return
        sound = [self._form(argument, part) for argument, part in zip(self.pair.arguments, raw)]
        gradients = self.pair.gradients(dy)
        splits = split_probes(self.pair, dy, gradients, self.generator)
        nudges = nudge_probes(self.pair, dy, gradients, self.generator)
        sizes = natural_sizes(self.pair, dy)
        claims = []
        for argument, fits, part, g, split, nudge, size in zip(
            self.pair.arguments, sound, raw, gradients, splits, nudges, sizes
        ):
            eps = float(np.finfo(argument.dtype if part is None else _narrower(part, argument)).eps)
            linear = fits and self._linear(argument, g, split, math.sqrt(eps) * max(size, largest(g)))
            claims.append(Claim(dy, g, eps, (*(split if linear else ()), *nudge), CANCELLED * eps * size))
        total = sum(self.options.directions + 2 + len(self._chosen(a, None)) for a in self.pair.arguments)
        with reporter(self.options.progress, total, "gradient check") as done:
            self.done, self.count = done, 0
            for argument, claim, fits, part in zip(self.pair.arguments, claims, sound, raw):
                if fits:
                    self._argument(argument, claim)
                elif part is not None and part.shape != self.pair.inputs[argument.position].shape:
                    self._repaired(argument, claim, part)

    def _linear(self, argument: Argument, g: Array, split: list[Array], bound: float) -> bool:
        """Is backward linear in dy? What a split leaves must be rounding."""
        if not g.size:
            return True
        worst = max(largest(r) for r in split)
        note = "" if worst <= bound else "backward(a + b) is not backward(a) + backward(b)"
        self.rows.append(Row(argument.name, "linear in dy", worst, bound, "fails" if note else "holds", note))
        return not note

    def _form(self, argument: Argument, part: Array | None) -> bool:
        """Shape, dtype and finite values of one gradient."""
        expected = self.pair.inputs[argument.position]
        if part is None:
            return self._row(argument.name, "shape", False, "no gradient: backward gives None")
        if part.dtype.kind not in "fc":
            return self._row(argument.name, "dtype", False, f"{part.dtype}, expected {argument.dtype}")
        if part.shape != expected.shape:
            return self._row(argument.name, "shape", False, f"{part.shape}, expected {expected.shape}")
        if real(part).shape != argument.value.shape:
            return self._row(argument.name, "dtype", False, f"{part.dtype}, expected {argument.dtype}")
        if self.options.check_dtypes:
            same = part.dtype.newbyteorder("=") == argument.dtype
            note = f"{part.dtype}, expected {argument.dtype}"
            self._row(argument.name, "shape and dtype", same, note)
        return self._finite(argument.name, real(part), f"d{argument.name}")

    # The tests of values

    def _argument(self, argument: Argument, claim: Claim) -> None:
        if not claim.gradient.size:
            return
        meter = Meter(self.pair, argument, claim, self.generator)
        directions = [meter.gaussian() for _ in range(self.options.directions)]
        # The noise is pooled over all directions before the first verdict.
        for v in directions[:3] if not meter.affine else ():
            meter.compare(v)
        name = argument.name
        found = [self._advance(meter.compare(v)) for v in directions]
        self._measured(name, "random directions", found)
        signs = np.where(claim.gradient < 0, -meter.scale, meter.scale)
        along = self._advance(meter.compare(signs))
        self._measured(name, "along its signs", [along])
        taylor = taylor_rate(meter, directions[0])
        self._advance(None)
        rate = "" if taylor.rate is None else f"rate {taylor.rate:.2f}"
        self.rows.append(Row(name, "Taylor remainder", None, None, taylor.verdict, rate))
        start = self.count
        chosen = self._chosen(argument, claim)
        measured = measure_entries(meter, chosen, lambda k: self._advance(None, start + k))
        failed = [row for row in self.rows if row.argument == name and row.verdict == "fails"]
        if any(row.test in VALUE_TESTS for row in failed) or not all(e.holds for e in measured):
            suspect = Suspect(meter, measured)
            measured = list(suspect.entries.values())
            self.patterns += diagnose(suspect)
        self._entries(name, measured, argument.value.size)
        sharpest = max(m.bound * float(np.linalg.norm(v)) for m, v in zip(found, directions)) / meter.scale
        self.arguments.append(
            Checked(
                name,
                argument.value.shape,
                str(argument.dtype),
                meter.affine,
                str(meter.dtype),
                claim.gradient.reshape(argument.value.shape),
                tuple(sorted(measured)),
                taylor,
                2 * (1 if meter.affine else SLACK) * sharpest / _quantile(self.options.directions),
            )
        )

    def _advance(self, result: Any, count: int | None = None) -> Any:
        self.count = self.count + 1 if count is None else count
        self.done(self.count)
        return result

    def _measured(self, name: str, test: str, found: list[Measurement]) -> None:
        worst = max(found, key=lambda m: (not m.holds, abs(m.error) / m.bound if m.bound else 0.0))
        kinks = max(m.kinks for m in found)
        note = f"{kinks} outputs at a kink" if kinks else ""
        verdict = "holds" if worst.holds else "fails"
        self.rows.append(Row(name, test, abs(worst.error), worst.bound, verdict, note))

    def _entries(self, name: str, measured: list[Any], size: int) -> None:
        if not measured:
            return
        worst = max(measured, key=lambda e: (not e.holds, abs(e.error) / e.bound if e.bound else 0.0))
        wrong = sum(not e.holds for e in measured)
        test = f"{'all' if len(measured) == size else len(measured)} of {size} entries"
        note = f"{wrong} wrong" if wrong else ""
        self.rows.append(Row(name, test, abs(worst.error), worst.bound, "fails" if wrong else "holds", note))

    def _chosen(self, argument: Argument, claim: Claim | None) -> list[int]:
        """Entries to measure: the ends, the largest, and drawn ones."""
        size = argument.value.size
        if self.options.entries == "all":
            return list(range(size))
        if self.options.entries == "auto":
            few = FEW if size <= FEW else SAMPLE
            work = size + math.prod(self.pair.y_shape)
            count = min(size, max(LEAST, min(few, WORK // max(1, work))))
        else:
            count = min(size, int(self.options.entries))
        if count in (0, size):
            return list(range(count))
        if claim is None:
            return [0] * count
        special = [int(np.argmax(np.abs(claim.gradient))), 0, size - 1][:count]
        drawn = self.generator.choice(size, count, replace=False).tolist()
        return list(dict.fromkeys((*special, *drawn)))[:count]

    def _repaired(self, argument: Argument, claim: Claim, part: Array) -> None:
        """A gradient of the wrong shape: is it right once summed, transposed or reshaped?"""
        for kind, text, fixed in repair(part, self.pair.inputs[argument.position].shape):
            gradient = real(fixed).reshape(-1).astype(claim.gradient.dtype)
            roundings = (np.full(gradient.shape, np.sqrt(part.size) * claim.eps * np.max(np.abs(part))),)
            meter = Meter(
                self.pair, argument, claim._replace(gradient=gradient, roundings=roundings), self.generator
            )
            if all(meter.compare(meter.gaussian()).holds for _ in range(4)):
                self.patterns.append(Pattern(kind, argument.name, f"d{argument.name} {text}"))
                return


VALUE_TESTS = ("random directions", "along its signs", "Taylor remainder")


def largest(values: Array) -> float:
    """The largest magnitude; 0 of no values."""
    return float(np.max(np.abs(values), initial=0.0))


def _narrower(part: Array, argument: Argument) -> np.dtype[Any]:
    """The coarser of the dtypes of a gradient and its input."""
    if part.dtype.kind not in "fc":
        return argument.dtype
    return max(part.dtype, argument.dtype, key=lambda dtype: float(np.finfo(dtype).eps))


def _quantile(directions: int) -> float:
    """q with P(|normal| < q) ** directions = MISS."""
    once = MISS ** (1 / directions)
    return NormalDist().inv_cdf((1 + once) / 2)
