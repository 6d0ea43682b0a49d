"""The limits of the hardware, measured: FMA peak, fill and read rates (limits.c, compiled on first use)."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("limits.c")
FLAGS = ("-O3", "-ffp-contract=fast", "-shared", "-fPIC")
SAMPLE = 2e-3

_PEAKS = {"float32": "fma_peak_f32", "float64": "fma_peak_f64"}


class Missing(Exception):
    """The limits cannot be measured here; the text says why."""


def cache_folder() -> Path:
    """Where compiled things are kept from run to run."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "windrow-benchmarks"


@cache
def library() -> ctypes.CDLL:
    """limits.c as a shared library, kept in the user's cache folder under a name made of its contents."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Missing("no C compiler (cc, gcc, clang or $CC) to build limits.c")
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join((compiler, *FLAGS)).encode()).hexdigest()[:16]
    target = cache_folder() / f"limits-{key}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            built = Path(folder) / "limits.so"
            done = subprocess.run(
                [*compiler.split(), *FLAGS, "-o", str(built), str(SOURCE)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise Missing(f"{compiler} could not build limits.c: {done.stderr.strip().splitlines()[:1]}")
            built.replace(target)
    loaded = ctypes.CDLL(str(target))
    for name in _PEAKS.values():
        getattr(loaded, name).argtypes = [ctypes.c_double]
        getattr(loaded, name).restype = ctypes.c_double
    for name in ("fill_rate", "stream_rate", "read_rate"):
        getattr(loaded, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_double]
        getattr(loaded, name).restype = ctypes.c_double
    return loaded


class Limits:
    """Measures the limits with as many threads as the race has; ctypes gives the GIL back meanwhile."""

    def __init__(self, threads: int) -> None:
        self._library = library()
        self._library.set_clock(int(threads == 1))
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self.best_peak: dict[str, float] = {}  # by dtype, of all that were measured

    def _all(self, parts: list[Callable[[], float]]) -> float:
        if self._pool is None:
            return sum(part() for part in parts)
        return sum(self._pool.map(lambda part: part(), parts))

    def fma_peak(self, dtype: str, seconds: float = SAMPLE) -> float:
        """FLOP/s of all threads together."""
        sample = [partial(getattr(self._library, _PEAKS[dtype]), seconds)] * self._threads
        self._all(sample)  # what waited for memory before left the clock low for a millisecond or two
        peak = self._all(sample)
        self.best_peak[dtype] = max(peak, self.best_peak.get(dtype, 0.0))
        return peak

    def _rate(self, name: str, array: np.ndarray, seconds: float) -> float:
        if not array.flags.forc:
            raise ValueError("limits: expected a contiguous array")
        part = array.nbytes // self._threads // 64 * 64
        address = array.ctypes.data
        function = getattr(self._library, name)
        return self._all([partial(function, address + i * part, part, seconds) for i in range(self._threads)])

    def fill_rate(self, array: np.ndarray, seconds: float = SAMPLE) -> float:
        """Bytes/s written over `array` (its values are lost), by plain or non-temporal stores."""
        return max(self._rate(name, array, seconds) for name in ("fill_rate", "stream_rate"))

    def read_rate(self, array: np.ndarray, seconds: float = SAMPLE) -> float:
        """Bytes/s read from `array`."""
        return self._rate("read_rate", array, seconds)
