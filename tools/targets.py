"""Kernels that a build may leave out, because nothing but this machine runs it."""

from pathlib import Path

PROCESSOR = Path("/proc/cpuinfo")


def settings() -> list[str]:
    """CMake's settings for that, without the -D: a third of the time is the kernels for AVX-512."""
    if not PROCESSOR.exists() or "avx512f" in PROCESSOR.read_text():
        return []
    return ["WINDROW_X86_V4=OFF"]
