"""How many milliseconds `import windrow` adds to `import numpy`: the median over pairs of fresh processes.

The two programs of a pair run one after the other, in alternating order, so that whatever else the machine
does hits both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

PROGRAMS = {"numpy": "import numpy", "windrow": "import numpy, windrow"}
PROMISE = 15  # ms


def milliseconds(source: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", source], env=environment, check=True)
    return 1000 * (time.perf_counter() - start)


def measure(pairs: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for source in PROGRAMS.values():  # files into the system's cache, bytecode compiled
        milliseconds(source)
    for pair in range(pairs):
        for name in sorted(PROGRAMS, reverse=pair % 2 == 1):
            times[name].append(milliseconds(PROGRAMS[name]))
    added = [both - one for both, one in zip(times["windrow"], times["numpy"], strict=True)]
    return {
        "pairs": pairs,
        "numpy_ms": statistics.median(times["numpy"]),
        "windrow_ms": statistics.median(times["windrow"]),
        "median_added_ms": statistics.median(added),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.pairs)
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"import windrow adds {result['median_added_ms']:.1f} ms to import numpy "
        f"({result['numpy_ms']:.0f} ms; promised: under {PROMISE}), median of {options.pairs} pairs"
    )


if __name__ == "__main__":
    main()
