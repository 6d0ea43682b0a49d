"""A gradient that failed: where it is wrong, asked of groups of entries or of every entry."""

from collections.abc import Callable

import numpy as np

from .accept import Array
from .entries import Entry, measure_entries
from .meter import Meter

# All entries are measured where that takes at most this many numbers read and written.
WHOLE = 1 << 25
# Otherwise this many drawn entries stand for the values, and groups are asked by directions.
DRAWN = 48
# Blocks kept at each halving of the search for the worst entries.
BEAM = 4


class Suspect:
    """Answers questions about the error of one argument's gradient."""

    def __init__(
        self, meter: Meter, known: list[Entry], done: Callable[[int], object] = lambda count: None
    ) -> None:
        """Measure what it takes, beside the entries that are `known`."""
        self.meter = meter
        self.shape = meter.argument.value.shape
        self.got = meter.claim.gradient.reshape(self.shape)
        size = meter.base.size
        self.entries = {entry.flat: entry for entry in known}
        self.whole = size * (size + meter.center.size) * (2 if meter.affine else 8) <= WHOLE
        if self.whole:
            self._measure(range(size), done)
        else:
            self._measure(self._worst(), done)
            self._measure(meter.generator.choice(size, min(DRAWN, size), replace=False).tolist(), done)

    def _measure(self, flats: range | list[int], done: Callable[[int], object]) -> None:
        new = [i for i in flats if i not in self.entries]
        self.entries.update((entry.flat, entry) for entry in measure_entries(self.meter, new, done))

    @property
    def failed(self) -> list[Entry]:
        """The entries known to be wrong, worst first."""
        wrong = [entry for entry in self.entries.values() if not entry.holds]
        return sorted(wrong, key=lambda entry: -abs(np.nan_to_num(entry.error, nan=np.inf)))

    def values(self) -> tuple[Array, Array, Array]:
        """Positions, true values and bounds of all measured entries that are not kinks."""
        plain = [entry for entry in self.entries.values() if not entry.kinks]
        numbers = np.array([(e.flat, e.expected, e.bound) for e in plain], np.float64).reshape(-1, 3)
        return numbers[:, 0].astype(np.intp), numbers[:, 1], numbers[:, 2]

    def wrong(self, mask: Array) -> bool:
        """Is any entry under the mask wrong?"""
        if self.whole:
            flat = np.flatnonzero(mask)
            return any(not self.entries[int(i)].holds for i in flat)
        return any(self._effect(mask.reshape(-1)) > 0 for _ in range(2))

    def _effect(self, mask: Array) -> float:
        """How far the slope along random signs on the mask is off; 0 where it holds."""
        signs = self.meter.generator.choice([-1.0, 1.0], mask.size)
        v = np.where(mask, signs * self.meter.scale, 0.0)
        m = self.meter.compare(v)
        return 0.0 if m.holds else float(np.nan_to_num(abs(m.error), nan=np.inf) * np.linalg.norm(v))

    def _worst(self) -> list[int]:
        """Halve the array, keeping the blocks that are furthest off, until single entries are left."""
        blocks = [(0, self.meter.base.size)]
        while any(stop - start > 1 for start, stop in blocks):
            scored = []
            for start, stop in blocks:
                middle = (start + stop + 1) // 2
                for half in {(start, middle), (middle, stop)}:
                    mask = np.zeros(self.meter.base.size, bool)
                    mask[slice(*half)] = True
                    effect = self._effect(mask) if half[0] < half[1] else 0.0
                    if effect > 0:
                        scored.append((effect, half))
            scored.sort(reverse=True)
            if not scored:
                break
            blocks = [half for _, half in scored[:BEAM]]
        return [start for start, stop in blocks if stop - start == 1]
