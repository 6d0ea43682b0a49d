"""A convolution and its gradients of a volume larger than the memory that the process may take.

    python -m benchmarks.larger --gigabytes 20 --budget 1

A volume is written to Zarr in blocks and read again for ``y`` and ``dx``, which go to Zarr too, and ``dw``.
The process prints what it took, and fails if its peak of resident memory exceeded the budget.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np

from windrow import dask as wd

from . import machine

CHANNELS = 4
BLOCK = (32, 128, 128)  # voxels of a chunk: 8 MiB with its channels, in float32
GIB = 2**30


def peak() -> int:
    """The most resident memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def volume_shape(size: float) -> tuple[int, ...]:
    """A volume of about so many bytes of float32: whole blocks, the first axis as long as it takes."""
    height, width = 4 * BLOCK[1], 4 * BLOCK[2]
    depth = max(1, round(size / (4 * CHANNELS * height * width * BLOCK[0]))) * BLOCK[0]
    return 1, CHANNELS, depth, height, width


def run(folder: Path, size: float, workers: int) -> dict[str, Any]:
    """Seconds of every step, the peak of memory after it, and the bytes of one volume."""
    shape, chunks = volume_shape(size), (1, CHANNELS, *BLOCK)
    rng = np.random.default_rng(0)
    w = rng.standard_normal((CHANNELS, CHANNELS, 3, 3, 3)).astype(np.float32)
    steps: dict[str, Any] = {}

    def step(name: str, work: Any) -> Any:
        start = time.perf_counter()
        result = work()
        steps[name] = {"seconds": round(time.perf_counter() - start, 2), "peak": peak()}
        return result

    def store(array: Any, name: str) -> None:
        array.to_zarr(str(folder / name))

    with dask.config.set(scheduler="threads", num_workers=workers):
        random = da.random.default_rng(0).standard_normal(shape, dtype=np.float32, chunks=chunks)
        step("write x", lambda: store(random, "x.zarr"))
        x = da.from_zarr(str(folder / "x.zarr"))
        step("y", lambda: store(wd.conv(x, w, padding=1), "y.zarr"))
        dy = da.from_zarr(str(folder / "y.zarr"))
        step("dx", lambda: store(wd.conv_grad_input(dy, w, shape, padding=1), "dx.zarr"))
        step("dw", lambda: wd.conv_grad_weight(dy, x, w.shape, padding=1).compute())
    return {"shape": shape, "bytes": int(np.prod(shape)) * 4, "steps": steps}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=20.0, help="of the volume (default 20)")
    parser.add_argument("--budget", type=float, default=1.0, help="GiB of resident memory (default 1)")
    parser.add_argument("--workers", type=int, default=2, help="threads of Dask's scheduler (default 2)")
    parser.add_argument("--folder", type=Path, help="where the volumes go (default: temporary)")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = run(Path(folder), options.gigabytes * 1e9, options.workers)
    settings = {"workers": options.workers, "budget_gib": options.budget}
    found = {"created": machine.now(), "machine": machine.describe(), "settings": settings, **found}
    print(f"volumes of {found['bytes'] / 1e9:.2f} GB each, {found['shape']}")
    for name, entry in found["steps"].items():
        print(f"{name:8} {entry['seconds']:7.1f} s   peak {entry['peak'] / GIB:.2f} GiB")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    if peak() > options.budget * GIB:
        print(f"over the budget of {options.budget:g} GiB")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
