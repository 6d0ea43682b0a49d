"""Mixed calls for an hour, or for less: resident memory must stay flat. `make soak`, or

    python tools/soak.py --seconds 60

Every round makes the same calls in another order: all operations, both dtypes, memory formats, errors,
threads that come and go, forked children. What the second quarter of the rounds holds, the last one must hold
too, to within GROWTH. It stops by itself.
"""

import argparse
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

import windrow as wr

GROWTH = 2**20  # bytes; a round makes 260 calls whose results have 12 MiB together
# glibc gives back what is free only in large blocks, and keeps a heap for each of many threads: what is
# resident would tell of its habits. So blocks come from the system, and go back to it.
HEAP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_TOP_PAD_": "65536",
}
STATM = Path("/proc/self/statm")

Call = Callable[[], object]


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def problems() -> Iterator[tuple[tuple[int, ...], tuple[int, ...], dict[str, object]]]:
    """Shapes of x and w, and options: one for every driver of the core."""
    yield (2, 16, 28, 28), (24, 16, 3, 3), {"padding": 1}
    yield (1, 64, 14, 14), (32, 64, 1, 1), {}
    yield (2, 32, 20, 20), (32, 1, 3, 3), {"padding": 1, "groups": 32}
    yield (1, 3, 40, 40), (8, 3, 7, 7), {"padding": 3, "stride": 2}
    yield (2, 12, 90), (18, 6, 5), {"dilation": 3, "groups": 2, "padding": "same"}
    yield (1, 4, 8, 9, 10), (6, 4, 3, 3, 3), {"padding": 1}
    yield (0, 4, 8, 8), (6, 4, 3, 3), {}


def calls(rng: np.random.Generator) -> list[Call]:
    """One round: every operation on every problem, in both dtypes and memory formats."""
    found: list[Call] = []
    for x_shape, w_shape, options in problems():
        for dtype in (np.float32, np.float64):
            x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
            last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
            dy = wr.conv(x, w, **options)
            out = np.empty_like(dy)
            for image in (x, last):
                found += [
                    lambda x=image, w=w, o=options: wr.conv(x, w, **o),
                    lambda x=image, w=w, dy=dy, o=options: wr.conv_backward(dy, x, w, **o),
                ]
            found.append(lambda x=x, w=w, o=options, out=out: wr.conv(x, w, out=out, **o))
            found.append(lambda x=x, w=w, o=options: refused(lambda: wr.conv(x, w, max_workspace=1, **o)))
            found.append(lambda x=x, w=w: refused(lambda: wr.conv(x, w, stride=0)))
        found += others(rng, x_shape, w_shape, options)
        kernel = w_shape[2:]
        for layout in ("n (c k) l", "(c k) (l n)", "(n l) (c k)"):
            for name in ("f4", "i1", "c16"):
                image = rng.integers(-9, 9, x_shape).astype(name)
                found.append(lambda x=image, k=kernel, t=layout: patches(x, k, t))
    return found


def others(
    rng: np.random.Generator, x_shape: tuple[int, ...], w_shape: tuple[int, ...], options: dict[str, object]
) -> list[Call]:
    """Transposed convolution, kept weights, borders, poolings and their ways back; a few Winograd tiles."""
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (x_shape, w_shape))
    kernel, layer = w_shape[2:], wr.prepare_conv(w, **options)
    found: list[Call] = [
        lambda: layer(x),
        lambda: wr.prepare_conv(w, **options)(x),
        lambda: wr.conv(x, w, **{"padding": 1, **options}, padding_mode="edge"),
    ]
    if "groups" not in options and options.get("padding") != "same":
        dy = wr.conv(x, w, **options)
        found.append(lambda: wr.conv_transpose(dy, w, **options))
        found.append(
            lambda: wr.conv_transpose_backward(wr.conv_transpose(dy, w, **options), dy, w, **options)
        )
    if w_shape[2:] == (3, 3) and options == {"padding": 1}:
        found.append(lambda: wr.conv(x, w, padding=1, algorithm="winograd"))
    for pool in (wr.max_pool, wr.avg_pool, wr.lp_pool):
        found.append(lambda pool=pool: pool(x, kernel))
    y, indices = wr.max_pool_with_indices(x, kernel)
    found.append(lambda: wr.max_pool_backward(y, indices, x.shape))
    found.append(lambda: wr.max_unpool(y, indices, x.shape[2:]))
    found.append(lambda: wr.avg_pool_backward(y, x.shape, kernel))
    found.append(lambda: wr.lp_pool_backward(y, x, kernel))
    found.append(lambda: wr.global_avg_pool(x))
    found.append(lambda: refused(lambda: wr.max_unpool(y, indices + x.size, x.shape[2:])))
    return found


def patches(x: np.ndarray, kernel: tuple[int, ...], layout: str) -> object:
    columns = wr.unfold(x, kernel, padding=1, layout=layout)
    if x.size == 0:  # the columns do not tell what x was
        return columns
    return wr.fold(columns, x.shape[2:], kernel, padding=1, layout=layout)


def refused(call: Call) -> None:
    try:
        call()
    except ValueError:
        return


def in_threads(some: list[Call]) -> None:
    """Threads of Python that begin, compute and end."""
    threads = [threading.Thread(target=call) for call in some]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_child(call: Call) -> None:
    child = os.fork()
    if child == 0:
        call()
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("soak: a forked child failed")


def soak(seconds: float, seed: int) -> tuple[int, list[int]]:
    """How many calls were made, and what was resident after each round."""
    order = random.Random(seed)
    some = calls(np.random.default_rng(seed))
    end = time.monotonic() + seconds
    made, sizes = 0, []
    while time.monotonic() < end:
        order.shuffle(some)
        for call in some:
            with wr.num_threads(order.choice([1, 2, 3])):
                call()
        in_threads(some[:4])
        in_child(some[0])
        made += len(some) + 5
        if order.random() < 0.1:
            wr.release_workspaces()
        sizes.append(resident())
    return made, sizes


def verdict(sizes: list[int]) -> tuple[int, int, bool]:
    """What was resident in the second and in the last quarter of the rounds, and whether that is flat."""
    quarter = len(sizes) // 4
    early, late = int(median(sizes[quarter : 2 * quarter])), int(median(sizes[-quarter:]))
    return early, late, late - early <= GROWTH


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this long (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not STATM.exists():
        print(f"soak: needs {STATM}", file=sys.stderr)
        return 1
    if not HEAP.items() <= os.environ.items():  # read when a process begins
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **HEAP})
    made, sizes = soak(options.seconds, options.seed)
    if len(sizes) < 8:
        print(f"soak: {len(sizes)} rounds are too few to tell; give it more time", file=sys.stderr)
        return 1
    early, late, flat = verdict(sizes)
    print(
        f"soak: {made} calls in {len(sizes)} rounds, {options.seconds:g} s: {early / 2**20:.2f} MiB in "
        f"the second quarter, {late / 2**20:.2f} in the last: {'flat' if flat else 'IT GROWS'}"
    )
    return int(not flat)


if __name__ == "__main__":
    sys.exit(main())
