"""The Taylor-rate test: what is left after the gradient's prediction falls as the step squared."""

import math
from typing import NamedTuple

import numpy as np

from .accept import Array
from .meter import DEVIATIONS, Meter

# Steps in units of the operand's size, and the least rate that still counts as second order.
STEPS = tuple(4.0**-k for k in range(1, 9))
RATE = 1.5


class Taylor(NamedTuple):
    """Remainders ``|<dy, F(x + hv) - F(x)> - h <g, v>|`` at falling steps h, and the rate at which they fall.

    `rate` is None where fewer than two remainders are above rounding.
    """

    steps: tuple[float, ...]
    remainders: tuple[float, ...]
    rounding: tuple[float, ...]  # what rounding may leave at each step
    rate: float | None
    verdict: str  # "holds", "fails", or "kink" where a kink lies within the smallest step


def taylor_rate(meter: Meter, v: Array) -> Taylor:
    """Measure the rate along v; 2 for a right gradient of a smooth function, 1 for a wrong one."""
    exact = meter.compare(v)
    size = float(np.linalg.norm(v))
    steps, remainders, rounding = [], [], []
    for h in STEPS:
        y, moved = meter.at(v, h)
        change = y - meter.center
        with np.errstate(all="ignore"):
            predicted = float(np.sum(meter.claim.gradient * moved))
            remainder = abs(float(np.sum(meter.claim.dy * change)) - predicted)
        if not math.isfinite(remainder):
            continue
        steps.append(h)
        remainders.append(remainder)
        noise = DEVIATIONS * math.sqrt(2) * meter.deviation(meter.claim.dy)
        rounding.append(noise + h * exact.bound * size)
        if remainder <= rounding[-1]:
            break
    clear = [k for k in range(len(steps)) if remainders[k] > rounding[k]]
    rate = None
    if len(clear) > 1:
        k, last = clear[-2:]
        rate = math.log(remainders[k] / remainders[last]) / math.log(steps[k] / steps[last])
    verdict = "holds"
    if exact.bent:
        verdict = "kink"
    elif not exact.holds and (rate is None or rate < RATE):
        verdict = "fails"
    return Taylor(tuple(steps), tuple(remainders), tuple(rounding), rate, verdict)
