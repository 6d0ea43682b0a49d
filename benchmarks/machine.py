"""The machine of a run: limiting it to some threads, describing it. Imports nothing that has threads."""

import ctypes
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "WINDROW_NUM_THREADS")
_RECORDED = ("OMP_", "OPENBLAS_", "MKL_", "ONEDNN_", "DNNL_", "KMP_", "XLA_", "WINDROW_", "MALLOC_", "GLIBC_")
_FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512vl",
    "avx512_bf16",
    "avx512_vnni",
    "amx_tile",
    "asimd",
)
_PACKAGES = ("numpy", "windrow", "torch", "onnx", "onnxruntime", "jax", "jaxlib", "openvino")

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def limit_threads(threads: int, cpus: list[int] | None = None) -> list[int]:
    """Pins this process to `threads` cores and tells the libraries, which must not be imported yet.

    Pools that have no option of their own follow the affinity. Gives the cores, the last ones by default
    (interrupts tend to go to the first).
    """
    if "numpy" in sys.modules:
        raise RuntimeError("threads must be limited before NumPy is imported")
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if available and threads > len(available):
        raise SystemExit(f"threads: this process may use {len(available)} cores, got {threads}")
    chosen = cpus or available[-threads:]
    if len(chosen) < min(threads, len(available)):
        raise SystemExit(f"cpus: expected {threads} cores or more, got {chosen}")
    if available:
        os.sched_setaffinity(0, chosen)
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    return chosen


def keep_pages() -> bool:
    """Has malloc keep the memory it was given: a fresh result costs a peer no page faults after the first.

    Peers without `out=` would else pay the kernel for every result above 32 MiB, up to five times the time of
    a first layer. windrow writes into existing buffers, so this only helps the others. glibc only.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(
        mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_TOP_PAD, 2**26)
    )


def describe() -> dict[str, Any]:
    """What a reader of a result needs to know of the machine."""
    info = _cpuinfo()
    return {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "family": " ".join(info.get(key, "?") for key in ("vendor_id", "cpu family", "model", "stepping")),
        "flags": [flag for flag in _FLAGS if flag in info.get("flags", info.get("Features", "")).split()],
        "cores": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "caches": _caches(),
        "memory_gib": round(_memory("MemTotal") / 2**30, 1),
        "huge_pages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_RECORDED)},
    }


def versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class Busy:
    """How busy others keep this process's cores while it measures."""

    def __init__(self) -> None:
        self._start = self._read()

    @staticmethod
    def _read() -> tuple[float, float, float]:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        busy = 0
        for line in (_read("/proc/stat") or "").splitlines():
            name, *ticks = line.split()
            if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cores:
                user, nice, system, _, _, irq, soft, steal = map(int, ticks[:8])
                busy += user + nice + system + irq + soft + steal
        hertz = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        return busy / hertz, time.process_time(), time.perf_counter() * max(1, len(cores))

    def others(self) -> float:
        """The share of the cores' time since the start that went to other processes (0 to 1)."""
        busy, own, total = (now - then for now, then in zip(self._read(), self._start))
        return round(min(1.0, max(0.0, (busy - own) / total)), 2) if total > 0 else 0.0


def load() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def available_memory() -> int:
    """Bytes that can be had without swapping; 0 where the system does not say."""
    return _memory("MemAvailable")


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _cpuinfo() -> dict[str, str]:
    first = (_read("/proc/cpuinfo") or "").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _memory(key: str) -> int:
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _caches() -> dict[str, str]:
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(str(folder / name)) for name in ("level", "type", "size"))
        if level and kind and size and kind != "Instruction":
            found[f"L{level}"] = size
    return found
