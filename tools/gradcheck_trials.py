"""The gradient checker's trials: right layers that must not be blamed, defects that must be caught and named.

    python tools/gradcheck_trials.py [--right 2000] [--defects 500]

Exit code 1 if a right layer is blamed, or a defect is missed or misnamed; what was said is printed.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.gradcheck.defects import diagnosis
from tests.gradcheck.layers import blame
from tests.gradcheck.operations import blame_operation


def trial(what: str, judge: Callable[[int], str], count: int) -> int:
    """Judge the cases of `count` seeds; how many went wrong."""
    start, wrong = time.perf_counter(), 0
    for seed in range(count):
        said = judge(seed)
        if said:
            wrong += 1
            print(said, flush=True)
    print(f"{what}: {count} cases, {wrong} wrong, {time.perf_counter() - start:.0f} s", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--right", type=int, default=2000, help="right NumPy layers (%(default)s)")
    parser.add_argument("--operations", type=int, default=500, help="windrow's operations (%(default)s)")
    parser.add_argument("--defects", type=int, default=500, help="planted defects (%(default)s)")
    arguments = parser.parse_args()
    wrong = trial("right layers", blame, arguments.right)
    wrong += trial("windrow's operations", blame_operation, arguments.operations)
    wrong += trial("planted defects", diagnosis, arguments.defects)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
