"""From a failing case to a small failing case."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from .pair import Call
from .report import Report

# Checks spent on shrinking at most.
TRIALS = 200


class Problem(NamedTuple):
    """What a generator may return instead of inputs: inputs with functions of their own (a stride, say)."""

    inputs: Any
    forward: Call | None = None
    backward: Call | None = None


def shrink_sizes(
    run: Callable[[Call, Call, Any], Report],
    forward: Call,
    backward: Call,
    generate: Callable[..., Any],
    sizes: dict[str, int],
    *,
    shrink: bool,
) -> Report:
    """Check the case of the given sizes; if it fails, the smallest failing one that greedy search finds."""

    def attempt(sizes: dict[str, int]) -> Report:
        made = generate(**sizes)
        if isinstance(made, Problem):
            return run(made.forward or forward, made.backward or backward, made.inputs)
        return run(forward, backward, made)

    report = attempt(sizes)
    if report or not shrink:
        return report

    tried = 0

    def fails(candidate: dict[str, int]) -> Report | None:
        nonlocal tried
        tried += 1
        try:
            result = attempt(candidate)
        except Exception:  # these sizes are no problem at all: a window that does not fit, say
            return None
        return None if result else result

    smaller = True
    while smaller and tried < TRIALS:
        smaller = False
        for name, size in sizes.items():
            # The smallest first, then halves of the way back, then one less.
            for candidate in _candidates(size):
                found = fails({**sizes, name: candidate}) if tried < TRIALS else None
                if found is not None:
                    sizes, report, smaller = {**sizes, name: candidate}, found, True
                    break
    return replace(report, sizes=sizes)


def _candidates(size: int) -> list[int]:
    lengths, low = [], 1
    while low < size:
        lengths.append(low)
        low += max(1, (size - low) // 2)
    return lengths
