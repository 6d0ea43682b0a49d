"""How a time is taken: adaptive repetition, rounds in rotating order, medians and their spread."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, inf, log
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

# In a round with one thread the process should own its core; a sample during which it got less was preempted.
OWNED = 0.97
RETAKES = 3
RETAKE_SECONDS = 0.1  # no longer than this for the retakes of one sample
WARM_SECONDS = 0.02  # a call longer than this is its own warm-up
# Shorter ones are repeated for so long: a processor that waited for memory before needs up to 2 ms to raise
# its clock again, and caches that others used more than a call to fill.
WARM_UP = 3e-3
LOOK = 1e-3  # between two looks at what other threads do


class Method(NamedTuple):
    """How long and how often to measure."""

    rounds: int = 7
    sample: float = 2e-3  # seconds that one sample should last at least
    budget: float = 10.0  # seconds for one cell, all candidates together; rounds drop to `least` to keep it
    least: int = 3
    pause: float = 0.0  # seconds to wait at most, between candidates, for workers that spin
    slow: float = 5.0  # a candidate this many times slower than the fastest is timed in `least` rounds only
    alone: bool = True  # one thread: samples that were preempted are taken again


class Sample(NamedTuple):
    seconds: float  # per call
    owned: float  # CPU time over wall time: below 1 with one thread, others took the core


class Times(NamedTuple):
    """The samples of one candidate, in the order of the rounds (None where it sat out)."""

    samples: list[float | None]
    inner: int
    disturbed: int

    @property
    def values(self) -> list[float]:
        return [s for s in self.samples if s is not None]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        return spread(self.values)


def spread(values: Sequence[float]) -> float:
    """The distance between the quartiles, over the median."""
    if len(values) < 2:
        return 0.0
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def paired(numerators: Sequence[float | None], denominators: Sequence[float | None]) -> float | None:
    """The median over the rounds of what was measured in one round over what was measured in the same.

    A machine that is slow for some rounds slows both sides of them, and moves two medians of their own.
    """
    ratios = [a / b for a, b in zip(numerators, denominators) if a is not None and b is not None]
    return median(ratios) if ratios else None


def geometric_mean(values: Iterable[float]) -> float | None:
    logs = [log(v) for v in values]
    return exp(sum(logs) / len(logs)) if logs else None


def take(call: Callable[[], Any], inner: int) -> Sample:
    """One sample: `inner` calls, after the caller's warm-up."""
    loop = range(inner)
    cpu, start = time.process_time(), time.perf_counter()
    for _ in loop:
        call()
    wall = time.perf_counter() - start
    cpu = time.process_time() - cpu
    return Sample(wall / inner, cpu / wall if wall else 1.0)


def warm_up(call: Callable[[], Any]) -> None:
    start = time.perf_counter()
    while True:
        call()
        if time.perf_counter() - start >= WARM_UP:
            return


def wait_for_workers(most: float) -> None:
    """Sleep until the threads of the candidate before have stopped spinning for more work.

    OpenBLAS's do so for 125 ms, others for up to 5: whoever came next would have a core less. CPU time does
    not tell, since a thread that yields its core all the time is charged for little of it.
    """
    end = time.perf_counter() + most
    while time.perf_counter() < end:
        time.sleep(LOOK)
        if others_sleep():
            return


def others_sleep() -> bool:
    """Whether no other thread of the process wants to run; never where the system does not tell."""
    me = str(threading.get_native_id())
    try:
        stats = [task / "stat" for task in Path("/proc/self/task").iterdir() if task.name != me]
        # The state follows the name, which stands in parentheses and may have some itself.
        return all(stat.read_text().rpartition(")")[2].split()[0] != "R" for stat in stats)
    except OSError:
        return False


def settled(call: Callable[[], Any], inner: int, method: Method) -> tuple[Sample, int]:
    """A sample that was not preempted, or the CPU time of the cleanest; and how many were disturbed."""
    taken = take(call, inner)
    if not method.alone:
        return taken, 0
    allowed = min(RETAKES, int(RETAKE_SECONDS / (taken.seconds * inner)))
    disturbed = int(taken.owned < OWNED)
    for _ in range(allowed):
        if taken.owned >= OWNED:
            break
        again = take(call, inner)
        disturbed += again.owned < OWNED
        taken = max(taken, again, key=lambda s: s.owned)
    if taken.owned < OWNED:
        taken = Sample(taken.seconds * taken.owned, 1.0)
    return taken, disturbed


def calibrate(call: Callable[[], Any], sample: float) -> tuple[float, int]:
    """Rough seconds per call, and the calls that fill one sample. The caller has made a first call."""
    inner = 1
    while True:
        seconds = take(call, inner).seconds
        if seconds * inner >= sample / 2 or inner >= 1 << 20:
            return seconds, max(1, round(sample / max(seconds, 1e-9) + 0.5))
        inner = max(2 * inner, min(1 << 20, round(sample / max(seconds, 1e-9))))


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """The order of one round: forwards and backwards in turn, starting one further every two rounds."""
    shift = turn // 2 % len(names) if names else 0
    order = [*names[shift:], *names[:shift]]
    return order[::-1] if turn % 2 else order


def interleave(
    candidates: Mapping[str, Callable[[], Any]],
    method: Method,
    each_round: Callable[[], None] | None = None,
    beside: str = "",
) -> dict[str, Times]:
    """Times of all candidates, taken in rounds; each was called before (compilation, caches).

    `each_round` (the limits) runs once a round: right after the sample of the candidate `beside`, so that
    what slows the machine for longer than a sample slows both; without such a candidate at the end of it.
    """
    rough, inner = {}, {}
    for name, call in candidates.items():
        rough[name], inner[name] = calibrate(call, method.sample)
        wait_for_workers(method.pause)
    best = min(rough.values(), default=inf)
    slow = {name for name in rough if rough[name] > method.slow * best}
    # One round is a warm-up and a sample of each; the slow ones do not count in full, they sit out most.
    cost = sum(
        inner[name] * rough[name] + (max(rough[name], WARM_UP) if rough[name] < WARM_SECONDS else 0.0)
        for name in rough
        if name not in slow
    )
    rounds = max(method.least, min(method.rounds, int(method.budget / max(cost, 1e-9))))
    samples: dict[str, list[float | None]] = {name: [] for name in candidates}
    disturbed = dict.fromkeys(candidates, 0)
    for turn in range(rounds):
        for name in rotated(list(candidates), turn):
            if name in slow and name != beside and turn >= method.least:
                samples[name].append(None)
                continue
            wait_for_workers(method.pause)
            if rough[name] < WARM_SECONDS:
                warm_up(candidates[name])
            taken, retakes = settled(candidates[name], inner[name], method)
            samples[name].append(taken.seconds)
            disturbed[name] += retakes
            if name == beside and each_round is not None:
                each_round()
        if beside not in candidates and each_round is not None:
            each_round()
    return {name: Times(samples[name], inner[name], disturbed[name]) for name in candidates}
