"""windrow among the libraries whose threads threadpoolctl shows and limits, once this module is imported.

>>> import windrow as wr
>>> import windrow.threadpoolctl
>>> from threadpoolctl import threadpool_limits
>>> before = wr.get_num_threads()
>>> with threadpool_limits(limits=1, user_api="windrow"):
...     wr.get_num_threads()
1
>>> wr.get_num_threads() == before
True

A limit is one of the process, as `set_num_threads` sets it; a `num_threads` block goes before it. Needs
threadpoolctl (``pip install 'windrow[threadpoolctl]'``).
"""

import os
from typing import Any

from threadpoolctl import LibController, register

from . import _core
from .config import get_num_threads, set_num_threads

__all__ = ["WindrowController"]


class WindrowController(LibController):
    """What threadpoolctl asks about windrow, and how it sets it."""

    user_api = "windrow"
    internal_api = "windrow"
    filename_prefixes = (os.path.basename(_core.__file__).lower(),)

    def __new__(cls, *, filepath: str, **_: Any) -> Any:
        """None for the extension of another package that has the same file name."""
        return super().__new__(cls) if os.path.samefile(filepath, _core.__file__) else None

    def get_num_threads(self) -> int:
        """The number of threads of a call."""
        return get_num_threads()

    def set_num_threads(self, num_threads: int) -> None:
        """Set it for the process."""
        set_num_threads(num_threads)

    def get_version(self) -> str:
        """windrow's."""
        return _core.__version__


register(WindrowController)
