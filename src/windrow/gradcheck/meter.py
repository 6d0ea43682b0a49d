"""Measures how far a claimed gradient is from the truth along a direction, with a bound on the measurement.

docs/gradcheck.md derives every constant here.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .accept import Array
from .differences import typical_size
from .pair import Argument, Pair

# A bound is this many standard deviations of the measured rounding noise.
DEVIATIONS = 8.0
# The second difference of an affine function is rounding: at most this many eps of the largest output.
AFFINE_EPS = 64.0
# Points of the stencil, in units of its spacing; three nested central differences and a difference table.
STENCIL = np.arange(-4, 5)
# Spacings tried, relative to the one that balances truncation and rounding of a smooth function.
LADDER = (1.0, 2.0**-4, 2.0**-8, 2.0**4, 2.0**8)
# An output whose slope changes by more than this part of the cube root of eps within a stencil is bent.
BENT = 1 / 8
# Where to look for the precision that a function works in, and the coarsest believed: 16 eps of float32.
GRAIN_STEP, COARSEST = 2.0**-7, 1 << 33
# A verdict may rest on a bound up to this many times the best one.
SLACK = 16.0


class Claim(NamedTuple):
    """A gradient that backward gave for the weights `dy`, with what is known of its rounding."""

    dy: Array
    gradient: Array
    eps: float
    roundings: tuple[Array, ...]
    floor: float  # rounding of one entry at least

    def along(self, v: Array) -> tuple[float, float]:
        """The slope <g, v> that is claimed and a bound on its rounding."""
        terms = self.gradient * v
        pooled = max((float(np.sqrt(np.mean(r**2))) for r in self.roundings if r.size), default=0.0)
        pooled = max(pooled, self.floor)
        spread = np.sqrt(sum((r**2 for r in self.roundings), np.zeros_like(v))) + pooled
        common = max((abs(float(np.sum(r * v))) for r in self.roundings), default=0.0)
        slope = float(np.sum(terms))
        # Measured; some eps of each entry on its own; some eps of a factor that all entries share.
        bound = DEVIATIONS * (max(_norm(spread * v), common) + self.eps * (_norm(terms) + abs(slope)))
        return slope, bound + summation(terms)


class Measurement(NamedTuple):
    """One comparison along a direction v; `error` and `bound` are per unit of |v|."""

    error: float
    bound: float
    claimed: float
    measured: float
    step: float
    kinks: int  # outputs whose slope jumps at this point
    bent: int  # outputs that are not smooth somewhere in the stencil

    @property
    def holds(self) -> bool:
        """Whether the error is within the bound (a NaN is not)."""
        return abs(self.error) <= self.bound


class _Reading(NamedTuple):
    """A slope of <dy, F> with its bound, not yet compared."""

    slope: float
    bound: float
    step: float
    kinks: int
    moved: Array  # v as the rounded inputs moved
    bent: Array | None  # outputs that are not smooth within the stencil


class Meter:
    """Measures one argument of a pair."""

    def __init__(
        self,
        pair: Pair,
        argument: Argument,
        claim: Claim,
        generator: np.random.Generator,
        fixed: Mapping[int, Array] | None = None,
    ) -> None:
        """Prepare; `fixed` puts other values in the place of other inputs."""
        self.pair, self.argument, self.claim = pair, argument, claim
        self.generator = generator
        self.fixed = dict(fixed or {})
        self.base = argument.value.reshape(-1)
        self.scale = typical_size(self.base)
        self._prepare(wide=False)
        self.affine = self._recognise()
        if not self.affine:
            self._prepare(wide=pair.widens)

    def _prepare(self, wide: bool) -> None:
        """Measure in the caller's dtype, or in float64."""
        self.wide = wide
        self.center = self.pair.evaluate(self.fixed, wide)
        self.dtype = np.result_type(self.base, np.float64) if wide else self.base.dtype
        self.eps = float(np.finfo(self.dtype).eps)
        if not wide:
            self.eps = max(self.eps, float(np.finfo(self.pair.y_dtype).eps))
        self.variance = np.zeros_like(self.center)  # of each output's rounding, measured
        self.samples = 0
        self.eps = max(self.eps, self._grain())

    def _grain(self) -> float:
        """The eps of the precision that F really works in, as far as its values show it.

        A function that computes in float32 and returns float64 leaves the last bits zero; its steps are
        stairs for a spacing that suits float64. More bits than that at zero are no precision, but a function
        of few values.
        """
        bits = np.int64(0)
        for _ in range(2 if self.base.size else 0):
            v = self.gaussian()
            for t in (-GRAIN_STEP, GRAIN_STEP):
                try:
                    y = self.at(v, t)[0].astype(np.float64)
                except (ArithmeticError, ValueError, Warning):  # out of F's domain
                    continue
                changed = y[np.isfinite(y) & (y != self.center)]
                mantissas = (np.frexp(changed)[0] * 2.0**53).astype(np.int64)
                bits |= np.bitwise_or.reduce(np.abs(mantissas), initial=0)
        lowest = int(bits & -bits)
        return lowest * 2.0**-52 if 0 < lowest <= COARSEST else 0.0

    # Evaluation

    def at(self, v: Array, t: float) -> tuple[Array, Array]:
        """F(x + t v) and the movement of x as it was really taken."""
        with np.errstate(all="ignore"):
            moved = (self.base.astype(self.claim.gradient.dtype) + t * v).astype(self.dtype)
            shape = self.argument.value.shape
            replaced = {**self.fixed, self.argument.position: moved.reshape(shape)}
            y = self.pair.evaluate(replaced, self.wide)
            return y, moved.astype(self.claim.gradient.dtype) - self.base

    def gaussian(self) -> Array:
        """A normally distributed direction of the operand's own size."""
        return self.generator.standard_normal(self.base.size) * self.scale

    def _recognise(self) -> bool:
        """Is F affine in this argument? Then a step of its own size has no truncation error."""
        for _ in range(2 if self.base.size and self.center.size else 0):
            v = self.gaussian()
            try:
                lower, upper, far = self.at(v, -1.0)[0], self.at(v, 1.0)[0], self.at(v, 2.0)[0]
            except (ArithmeticError, ValueError, Warning):  # a step this large may leave F's domain
                return False
            with np.errstate(all="ignore"):
                near = upper - 2 * self.center + lower
                beyond = far - 2 * upper + self.center
                if not (self._is_rounding(near, upper, lower) and self._is_rounding(beyond, far, upper)):
                    return False
            self._learn(near**2 / 6)
            self._learn(beyond**2 / 6)
        return True

    def _is_rounding(self, difference: Array, *outputs: Array) -> bool:
        size = max(float(np.max(np.abs(y), initial=0.0)) for y in (*outputs, self.center))
        return bool(np.all(np.abs(difference) <= AFFINE_EPS * self.eps * size))

    def _learn(self, variance: Array) -> None:
        self.samples += 1
        self.variance += (variance - self.variance) / self.samples

    def deviation(self, dy: Array) -> float:
        """Standard deviation of the rounding of <dy, F>: as measured, half an eps of each output at least.

        Outputs that did not change count too: their change may be below their rounding.
        """
        floor = (self.eps / 2 * self.center) ** 2
        return math.sqrt(float(np.sum(dy**2 * np.maximum(self.variance, floor))))

    # Slopes

    def compare(self, v: Array, claim: Claim | None = None) -> Measurement:
        """Compare the claimed slope along v with the measured one."""
        given = claim or self.claim
        if self.affine:
            found = self._affine_slope(v, given.dy)
            if found is not None:
                return self._judge(found, given)
            # A kink that the recognition did not meet: F is not affine after all.
            self.affine = False
            self._prepare(wide=self.pair.widens)
        return self._ladder(v, given)

    def _judge(self, reading: _Reading, claim: Claim) -> Measurement:
        size = _norm(reading.moved)
        if not size > 0:
            return Measurement(0.0, 0.0, 0.0, 0.0, reading.step, 0, 0)
        claimed, rounding = claim.along(reading.moved)
        return Measurement(
            (claimed - reading.slope) / size,
            (reading.bound + rounding) / size,
            claimed / size,
            reading.slope / size,
            reading.step,
            reading.kinks,
            0 if reading.bent is None else int(np.count_nonzero(reading.bent)),
        )

    def _affine_slope(self, v: Array, dy: Array) -> _Reading | None:
        upper, forth = self.at(v, 1.0)
        lower, back = self.at(v, -1.0)
        change, second = upper - lower, upper - 2 * self.center + lower
        if not self._is_rounding(second, upper, lower):
            return None
        terms = dy * change / 2
        noise = self.deviation(dy) / math.sqrt(2)
        bound = DEVIATIONS * noise + abs(float(np.sum(dy * second))) + summation(terms)
        return _Reading(float(np.sum(terms)), bound, 1.0, 0, (forth - back) / 2, None)

    def _ladder(self, v: Array, claim: Claim) -> Measurement:
        """Try spacings until one gives a sharp bound; judge by the sharpest."""
        rms = _norm(claim.gradient) / math.sqrt(max(1, claim.gradient.size))
        sharp = 1e-5 * rms * _norm(v)
        found: list[tuple[Measurement, _Reading]] = []
        for factor in LADDER:
            reading = self._stencil(v, claim.dy, factor * self.eps ** (1 / 3))
            judged = self._judge(reading, claim)
            if not math.isfinite(judged.bound) or not math.isfinite(judged.error):
                continue
            found.append((judged, reading))
            # Good enough, or so far off that no spacing with a similar bound can change it.
            if reading.bound <= (sharp if judged.holds else 100 * sharp) and (
                judged.holds or abs(judged.error) > SLACK * judged.bound
            ):
                break
        if not found:
            return Measurement(math.nan, 0.0, math.nan, math.nan, 0.0, 0, 0)
        found.sort(key=lambda pair: pair[1].bound)
        best, reading = found[0]
        if reading.bent is not None and best.holds and reading.bound > 1e3 * sharp:
            smooth = self._without_kinks(v, claim, reading)
            if smooth is not None and smooth.bound < best.bound:
                return smooth._replace(kinks=best.kinks, bent=best.bent)
        for judged, _ in found:
            if judged.holds and judged.bound <= SLACK * best.bound:
                return judged
        return best

    def _without_kinks(self, v: Array, claim: Claim, reading: _Reading) -> Measurement | None:
        """The same comparison for the outputs that are smooth here: dy is zero at the others."""
        dy = claim.dy if reading.bent is None else np.where(reading.bent, 0.0, claim.dy)
        if not np.any(dy):
            return None
        gradient = self.pair.gradients(dy)[self.pair.arguments.index(self.argument)]
        if gradient.shape != claim.gradient.shape:
            return None
        smooth = self._stencil(v, dy, reading.step)
        return self._judge(smooth, claim._replace(dy=dy, gradient=gradient))

    def _stencil(self, v: Array, dy: Array, spacing: float) -> _Reading:
        """Nine points: three nested central differences, bends (second differences), a difference table."""
        values, moves = zip(*(self.at(v, t * spacing) for t in STENCIL if t))
        some = self._changed(values)
        center, weights = self.center[some], dy[some]
        points = np.stack([*(y[some] for y in values[:4]), center, *(y[some] for y in values[4:])])
        with np.errstate(all="ignore"):
            widths = (1, 2, 4)
            central = np.stack([(points[4 + k] - points[4 - k]) / (2 * k * spacing) for k in widths])
            bend = [(points[4 + k] - 2 * center + points[4 - k]) / (k * spacing) for k in widths]
            # Of a smooth output the bend doubles with the width; what does not is a jump of the slope.
            jump = np.abs(2 * bend[0] - bend[1])
            wander = np.ptp(central, axis=0)
            steepest = np.max(np.abs(np.diff(points, axis=0)), axis=0) / spacing
            least = BENT * self.eps ** (1 / 3) * steepest
            bent = np.maximum(np.maximum(jump, np.abs(2 * bend[1] - bend[2])), wander) > least
            kinks = (jump > least) & (np.abs(bend[2]) >= np.abs(bend[0]) / 2)
            if isinstance(some, slice):
                variance = table_variance(points)
                self._learn(np.where(bent | ~np.isfinite(variance), self.variance, variance))

            # The slope of a bent output is somewhere between its one-sided slopes, which are bend apart.
            # Jumps too small to be told from rounding add up like it.
            widening = float(np.sum((np.abs(weights) * (wander + np.abs(bend[0]) / 2))[bent]))
            widening += 4 * _norm((weights * jump)[~bent])
            smooth = np.where(bent, 0.0, weights)
            truncation = float(np.ptp(np.sum(smooth * central, axis=1)))
            terms = weights * central[0]
            noise = self.deviation(dy) / (math.sqrt(2) * spacing)
            bound = DEVIATIONS * noise + truncation + widening + summation(terms)
        where = None
        if np.any(bent):
            where = np.zeros(dy.size, bool)
            where[some] = bent
        return _Reading(
            float(np.sum(terms)),
            bound,
            spacing,
            int(np.count_nonzero(kinks)),
            (moves[4] - moves[3]) / (2 * spacing),
            where,
        )

    def _changed(self, values: tuple[Array, ...]) -> Array | slice:
        """The outputs that differ from the centre anywhere: all of them as a slice, or a few by number."""
        differs = np.zeros(self.center.size, bool)
        for y in values:
            differs |= y != self.center
        some = np.flatnonzero(differs)
        return some if some.size < differs.size // 2 else slice(None)


def table_variance(points: Array) -> Array:
    """Variance of the rounding in equally spaced values, from high differences, where smooth parts vanish.

    Source: J. J. More and S. M. Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011):
    the k-th difference of independent errors of variance s^2 has variance s^2 (2k)! / (k!)^2.
    """
    estimates = []
    differences = np.diff(points, 4, axis=0)
    for order in (5, 6, 7):
        differences = np.diff(differences, axis=0)
        estimates.append(np.mean(differences**2, axis=0) / math.comb(2 * order, order))
    return np.asarray(np.mean(estimates, axis=0))


def summation(terms: Array) -> float:
    """Bound on the rounding of a pairwise sum of these terms."""
    if not terms.size:
        return 0.0
    eps = float(np.finfo(terms.dtype).eps)
    return (8 + math.log2(terms.size)) * eps * float(np.sum(np.abs(terms)))


def _norm(v: Array) -> float:
    return math.sqrt(float(np.sum(v**2)))
