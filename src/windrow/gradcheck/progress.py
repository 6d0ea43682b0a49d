"""A progress bar for long checks: rich's where it is installed, a line of text where it is not."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = bool | Callable[[int, int], object]


@contextmanager
def reporter(progress: Progress, total: int, what: str) -> Iterator[Callable[[int], object]]:
    """Give a function to call with the number of steps done; `progress` is False, True or a callable."""
    if callable(progress):
        yield lambda done: progress(done, total)
    elif not progress:
        yield lambda done: None
    else:
        with _bar(total, what) as advance:
            yield advance


@contextmanager
def _bar(total: int, what: str) -> Iterator[Callable[[int], object]]:
    try:
        from rich.progress import Progress as Bar  # noqa: PLC0415 - an extra, loaded only when asked for
    except ImportError:
        yield lambda done: print(f"\r{what}: {done}/{total}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        return
    with Bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
