"""Arbitrary calls of the public operations: `make fuzz`, or `python tools/fuzz.py --seconds 60 --seed 7`.

Every call must either agree with windrow.reference (within the bound of the numerics plan, where sums round),
or raise one of our own errors: a ValueError, TypeError or MemoryError that begins with an argument. What
makes sense must not be refused; on an error, and in inputs, nothing is written. Each case has a seed of
its own: `--seed N --calls 1` repeats case N.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for tests.tolerances

from fuzzing.convolution import ConvolutionCase
from fuzzing.patches import PatchesCase
from fuzzing.places import PlacesCase
from fuzzing.pooling import PoolingCase
from fuzzing.transposed import TransposedCase

CASES = (
    ConvolutionCase,
    ConvolutionCase,
    PatchesCase,
    ConvolutionCase,
    PoolingCase,
    PatchesCase,
    TransposedCase,
    PlacesCase,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="stop after this long")
    parser.add_argument("--calls", type=int, default=sys.maxsize, help="stop after this many calls")
    parser.add_argument("--seed", type=int, default=0, help="of the first call; the next ones count up")
    options = parser.parse_args()
    print(f"fuzz: seed {options.seed}", flush=True)
    counts: dict[str, int] = {}
    end = time.monotonic() + options.seconds
    seed = options.seed
    while seed < options.seed + options.calls and time.monotonic() < end:
        verdict = CASES[seed % len(CASES)](seed).run()
        counts[verdict] = counts.get(verdict, 0) + 1
        seed += 1
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"fuzz: {seed - options.seed} calls: {summary}")


if __name__ == "__main__":
    main()
