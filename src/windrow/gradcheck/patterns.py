"""Mistakes that leave a mark: what a wrong gradient looks like when the usual cause made it."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .accept import Array
from .entries import measure_entries
from .meter import Meter
from .suspect import Suspect

# Axes longer than this are not asked index by index.
SLABS = 256
# A value pattern is believed if it explains this many entries that differ from each other.
ENOUGH = 3


class Pattern(NamedTuple):
    """A recognised mark: its kind (one word for programs) and a sentence that names the usual cause."""

    kind: str
    argument: str
    text: str


def diagnose(suspect: Suspect) -> list[Pattern]:
    """Every pattern that a wrong gradient shows: of its values first, then of the places that are wrong."""
    name = suspect.meter.argument.name
    found = itertools.chain(_few_entries(suspect, 1), _value_patterns(suspect), _place_patterns(suspect))
    return [Pattern(kind, name, text) for kind, text in itertools.islice(found, 1)]


# Patterns of the values: the right numbers, in the wrong size or place.


def _value_patterns(suspect: Suspect) -> Iterator[tuple[str, str]]:
    flats, expected, bounds = suspect.values()
    got = suspect.got.reshape(-1)
    name = suspect.meter.argument.name
    if got.size and not np.any(got) and np.any(np.abs(expected) > bounds):
        yield "zero", f"d{name} is zero everywhere: it is not computed, or not returned"
        return
    factor = constant_factor(got[flats], expected, bounds)
    if factor is not None:
        yield _name_factor(name, factor, suspect)
        return
    for kind, text, candidate, inside in _rearranged(suspect):
        if _explains(candidate.reshape(-1)[flats], expected, bounds, inside.reshape(-1)[flats]):
            yield kind, f"d{name} {text}"
            return
    yield from _one_sample(suspect)
    yield from _other_operand(suspect)


def constant_factor(got: Array, expected: Array, bounds: Array) -> float | None:
    """The one number c with got = c * expected within the bounds, or None."""
    clear = np.abs(expected) > 20 * bounds
    if not np.any(clear):
        return None
    ratios = got[clear] / expected[clear]
    factor = float(np.median(ratios))
    if not math.isfinite(factor) or (np.count_nonzero(clear) < ENOUGH and got.size > ENOUGH):
        return None
    spread = (1 + abs(factor)) * (
        bounds + np.median(bounds[clear] / np.abs(expected[clear])) * np.abs(expected)
    )
    same = bool(np.all(np.abs(got - factor * expected) <= spread))
    differs = bool(np.any(np.abs(got - expected) > bounds))
    return factor if same and differs else None


def _name_factor(name: str, factor: float, suspect: Suspect) -> tuple[str, str]:
    if abs(factor + 1) < 1e-3:
        return "sign", f"d{name} has the wrong sign"
    text = f"d{name} is wrong by the constant factor {factor:.6g}"
    for axis, length in enumerate(suspect.meter.pair.y_shape):
        for close, cause in (
            (length, f"the length of axis {axis} of y: summed where forward averages?"),
            (
                1 / length if length else 0,
                f"1 over the length of axis {axis} of y: averaged where forward sums?",
            ),
        ):
            if length > 1 and abs(factor - close) < 1e-3 * abs(close):
                return "factor", f"{text}, {cause}"
    return "factor", text


def _rearranged(suspect: Suspect) -> Iterator[tuple[str, str, Array, Array]]:
    """The gradient with its entries moved back as each mistake would have moved them."""
    got, shape, ndim = suspect.got, suspect.shape, suspect.got.ndim
    everywhere = np.ones(shape, bool)
    if ndim <= 5:
        for order in itertools.permutations(range(ndim)):
            if order != tuple(range(ndim)) and got.transpose(order).shape == shape:
                yield "transposed", _swap_text(order, suspect), got.transpose(order), everywhere
    if ndim > 1:
        yield "transposed", "is in column-major order", got.reshape(-1).reshape(shape, order="F"), everywhere
    axes = [axis for axis in range(ndim) if shape[axis] > 1]
    for count in range(1, min(len(axes), 4) + 1):
        for some in itertools.combinations(axes, count):
            named = _axes_text(some, suspect)
            yield "flipped", f"is flipped along {named}", np.flip(got, some), everywhere
    for axis, by in itertools.product(axes, (1, -1)):
        inside = np.ones(shape, bool)
        np.moveaxis(inside, axis, 0)[-1 if by > 0 else 0] = False
        text = f"is shifted by one along {_axes_text((axis,), suspect)}: an index or a border off by one"
        yield "shifted", text, np.roll(got, -by, axis), inside


def _explains(candidate: Array, expected: Array, bounds: Array, inside: Array) -> bool:
    """Does the candidate match wherever it can, on enough entries that differ from each other?"""
    if np.count_nonzero(inside) < max(ENOUGH, inside.size // 4):
        return bool(inside.all() and inside.size > 1 and np.all(np.abs(candidate - expected) <= 2 * bounds))
    candidate, expected, bounds = candidate[inside], expected[inside], bounds[inside]
    return bool(np.ptp(expected) > 4 * np.max(bounds) and np.all(np.abs(candidate - expected) <= 2 * bounds))


def _one_sample(suspect: Suspect) -> Iterator[tuple[str, str]]:
    """Is it the gradient of one sample of the batch alone?"""
    meter, y_shape = suspect.meter, suspect.meter.pair.y_shape
    if len(y_shape) < 2 or y_shape[0] < 2:
        return
    clear = _telling(suspect)
    if not clear:
        return
    whole = meter.claim
    for sample in (0, y_shape[0] - 1):
        dy = np.zeros((y_shape[0], whole.dy.size // y_shape[0]), whole.dy.dtype)
        dy[sample] = whole.dy.reshape(dy.shape)[sample]
        meter.claim = whole._replace(dy=dy.reshape(-1))
        alone = measure_entries(meter, clear)
        meter.claim = whole
        if all(entry.holds for entry in alone):
            text = f"d{meter.argument.name} counts sample {sample} of the batch only"
            yield "batch", f"{text}: a sum over the batch is missing"
            return


def _other_operand(suspect: Suspect) -> Iterator[tuple[str, str]]:
    """Is it right for another input flipped or transposed?"""
    meter, name = suspect.meter, suspect.meter.argument.name
    clear = _telling(suspect)
    if not clear:
        return
    for other in meter.pair.arguments:
        if other is meter.argument or other.value.ndim < 2:
            continue
        for kind, how, changed in _moved(other.value, other.axes):
            trial = Meter(meter.pair, meter.argument, meter.claim, meter.generator, {other.position: changed})
            if all(entry.holds for entry in measure_entries(trial, clear)):
                yield (
                    kind,
                    f"d{name} is right for {other.name} {how}: {other.name} is {kind} on the way to it",
                )
                return


def _moved(value: Array, labels: tuple[str, ...]) -> Iterator[tuple[str, str, Array]]:
    """An operand as a mistake would read it: its trailing axes flipped, or its axes exchanged."""
    names = labels or tuple(f"axis {axis}" for axis in range(value.ndim))
    for count in range(1, value.ndim):
        axes = tuple(range(value.ndim - count, value.ndim))
        if any(value.shape[axis] > 1 for axis in axes):
            yield (
                "flipped",
                f"flipped along {' and '.join(names[axis] for axis in axes)}",
                np.flip(value, axes),
            )
    for axes in itertools.combinations(range(min(value.ndim, 4)), 2):
        turned = np.swapaxes(value, *axes)
        if turned.shape == value.shape and value.shape[axes[0]] > 1:
            yield "transposed", f"with {names[axes[0]]} and {names[axes[1]]} exchanged", turned


def _telling(suspect: Suspect) -> list[int]:
    """A few measured entries that stand out of their bounds, wrong ones and right ones."""
    plain = [e for e in suspect.entries.values() if not e.kinks and abs(e.expected) > 4 * e.bound]
    found: list[int] = []
    for holds in (False, True):
        some = [e.flat for e in plain if e.holds is holds]
        found += suspect.meter.generator.permutation(some)[:6].tolist()
    return found


# Patterns of the places: wrong here, right there.


def _place_patterns(suspect: Suspect) -> Iterator[tuple[str, str]]:
    places = np.indices(suspect.shape, sparse=True)
    bands = list(_only_index(suspect, places))
    yield from (band for band in bands if " to " not in band[1])
    yield from _only_border(suspect, places)
    yield from bands
    yield from _few_entries(suspect, 4)
    yield from _only_phase(suspect, places)
    if suspect.whole:
        count = f"{len(suspect.failed)} of {len(suspect.entries)} entries"
        yield "entries", f"{count} of d{suspect.meter.argument.name} are wrong, with no usual cause"


def _few_entries(suspect: Suspect, most: int) -> Iterator[tuple[str, str]]:
    """At most `most` entries, of an array that has more than that."""
    failed = suspect.failed
    if not 0 < len(failed) <= most < suspect.got.size:
        return
    if not suspect.whole:
        others = np.ones(suspect.got.size, bool)
        others[[entry.flat for entry in failed]] = False
        if suspect.wrong(others):
            return
    places = ", ".join(entry.place for entry in failed)
    yield "entry", f"only {places} {'is' if len(failed) == 1 else 'are'} wrong{_there(suspect)}"


def _there(suspect: Suspect) -> str:
    """What is there instead, where it is one thing."""
    failed = suspect.failed
    if failed and all(entry.got == 0 for entry in failed):
        return ": zero there"
    numbers = np.array([(e.got, e.expected, e.bound) for e in failed if not e.kinks]).reshape(-1, 3)
    factor = constant_factor(numbers[:, 0], numbers[:, 1], numbers[:, 2]) if len(numbers) > 1 else None
    return f": {factor:.4g} times what it should be" if factor is not None else ""


def _only_index(suspect: Suspect, places: tuple[Array, ...]) -> Iterator[tuple[str, str]]:
    """One index of an axis, or a band of them; one first, and of bands the thinnest."""
    bands = []
    for axis, length in enumerate(suspect.shape):
        if not 2 <= length <= SLABS:
            continue
        slabs = (np.broadcast_to(places[axis] == i, suspect.shape) for i in range(length))
        wrong = [i for i, slab in enumerate(slabs) if suspect.wrong(slab)]
        if wrong and len(wrong) < length and wrong[-1] - wrong[0] == len(wrong) - 1:
            bands.append((len(wrong), axis, wrong[0], wrong[-1]))
    for count, axis, first, last in sorted(bands)[:1]:
        length, label = suspect.shape[axis], _axes_text((axis,), suspect)
        label = label if suspect.meter.argument.axes else f"index of {label}"
        where = f"{label}={first}" if count == 1 else f"{label}={first} to {last}"
        end = "first" if first == 0 else "last" if last == length - 1 else ""
        at_end = f" (the {end}{'' if count == 1 else f' {count}'})" if end else ""
        spatial = axis >= 2 or (len(suspect.shape) == 2 and length > 2)
        border = bool(end) and spatial and length > 2
        cause = ": a border off by one" if border else ""
        text = f"only {where}{at_end} {'is' if count == 1 else 'are'} wrong{_there(suspect) or cause}"
        yield "border" if border else "index", text


def _only_border(suspect: Suspect, places: tuple[Array, ...]) -> Iterator[tuple[str, str]]:
    ndim = len(suspect.shape)
    groups: list[tuple[int, ...]] = [(axis,) for axis in range(ndim)]
    groups += [tuple(range(ndim - count, ndim)) for count in range(2, min(ndim, 4))]
    for axes in groups:
        if any(suspect.shape[axis] < 3 for axis in axes):
            continue
        inner = np.ones(suspect.shape, bool)
        for axis in axes:
            inner = inner & (places[axis] > 0) & (places[axis] < suspect.shape[axis] - 1)
        if not suspect.wrong(inner):
            yield (
                "border",
                f"only the border along {_axes_text(axes, suspect)} is wrong{_there(suspect)}: "
                "padding or the last window is treated wrongly",
            )
            return


def _only_phase(suspect: Suspect, places: tuple[Array, ...]) -> Iterator[tuple[str, str]]:
    ndim = len(suspect.shape)
    groups: list[tuple[int, ...]] = [(axis,) for axis in range(ndim)]
    groups += [tuple(range(ndim - count, ndim)) for count in range(2, min(ndim, 4))]
    for axes, stride in itertools.product(groups, (2, 3, 4)):
        if any(suspect.shape[axis] < 2 * stride for axis in axes):
            continue
        right: list[tuple[int, ...]] = []
        wrong: list[tuple[int, ...]] = []
        for phase in itertools.product(range(stride), repeat=len(axes)):
            mask = np.ones(suspect.shape, bool)
            for axis, start in zip(axes, phase):
                mask = mask & (places[axis] % stride == start)
            (wrong if suspect.wrong(mask) else right).append(phase)
        if right and wrong:
            shown = ", ".join(str(p[0]) if len(p) == 1 else str(p) for p in wrong)
            many = ("phase", "is") if len(wrong) == 1 else ("phases", "are")
            along = _axes_text(axes, suspect)
            text = f"only {many[0]} {shown} of stride {stride} along {along} {many[1]} wrong"
            there = _there(suspect)
            cause = ": a stride phase is forgotten" if there else ": do windows overlap there?"
            yield "phase", f"{text}{there}{cause}"
            return


def _axes_text(axes: tuple[int, ...], suspect: Suspect) -> str:
    labels = suspect.meter.argument.axes
    names = [labels[axis] if labels else f"axis {axis}" for axis in axes]
    return " and ".join(names)


def _swap_text(order: tuple[int, ...], suspect: Suspect) -> str:
    moved = tuple(axis for axis, source in enumerate(order) if axis != source)
    return f"is transposed: {_axes_text(moved, suspect)} are exchanged"
