"""Threads, workspaces, and what this build can do on this machine."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, overload

import numpy as np

from . import _core
from .arguments import int_argument, show

_MOST_THREADS = 2**31 - 1


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, for the whole process.

    Results have the same bits for any number. The default is the number of cores that the process may use
    (its affinity and its cgroup's quota), or what the environment variable WINDROW_NUM_THREADS says.

    >>> import windrow as wr
    >>> before = wr.get_num_threads()
    >>> wr.set_num_threads(1)
    >>> wr.get_num_threads()
    1
    >>> wr.set_num_threads(before)
    """
    _core.set_num_threads(_thread_count("n", n))


def get_num_threads() -> int:
    """Return how many threads a call from this thread may use."""
    return _core.get_num_threads()


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set how many threads calls from this thread may use, within a `with` block.

    >>> import windrow as wr
    >>> with wr.num_threads(1):
    ...     wr.get_num_threads()
    1
    """
    before = _core.exchange_thread_override(_thread_count("n", n))
    try:
        yield
    finally:
        _core.exchange_thread_override(before)


def release_workspaces() -> None:
    """Give the scratch memory that threads keep between calls back to the system."""
    _core.release_workspaces()


@overload
def show_config(mode: Literal["dict"]) -> dict[str, Any]: ...
@overload
def show_config(mode: None = None) -> None: ...
def show_config(mode: Literal["dict"] | None = None) -> dict[str, Any] | None:
    """Print what this build of windrow is and what it uses here, or return it with ``mode="dict"``.

    >>> import windrow as wr
    >>> config = wr.show_config("dict")
    >>> config["target"] in config["targets"]
    True
    """
    if mode not in (None, "dict"):
        raise ValueError(f"mode: expected None or 'dict', got {show(mode)}")
    available = _core.targets_available()
    config: dict[str, Any] = {
        "version": _core.__version__,
        "compiler": _core.compiler,
        "target": _core.target(),
        "targets": {name: name in available for name in _core.targets_built()},
        "cores": _core.usable_cores(),
        "threads": get_num_threads(),
        "workspace_bytes": _core.workspace_bytes(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if mode == "dict":
        return config
    for name, value in config.items():
        if name == "targets":
            value = ", ".join(t if runs else f"{t} (not on this machine)" for t, runs in value.items())  # noqa: PLW2901
        print(f"{name:16} {value}")
    return None


def _thread_count(name: str, value: Any) -> int:
    return min(int_argument(name, value, 1), _MOST_THREADS)


def _read_environment() -> None:
    """Apply WINDROW_NUM_THREADS and WINDROW_TARGET, once, at import."""
    threads = os.environ.get("WINDROW_NUM_THREADS")
    if threads is not None:
        if not threads.strip().isdecimal() or int(threads) < 1:
            raise ValueError(f"WINDROW_NUM_THREADS: expected an int of at least 1, got {show(threads)}")
        _core.set_num_threads(min(int(threads), _MOST_THREADS))
    try:
        _core.set_target(os.environ.get("WINDROW_TARGET", ""))
    except ValueError as error:
        raise ValueError(f"WINDROW_TARGET: {error}") from None


_read_environment()
