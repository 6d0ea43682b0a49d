"""What a call costs when there is next to nothing to compute, and what an import costs."""

import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from . import timing
from .layers import PASSES, Layer, load
from .patches import Expected, layout_shape
from .peers import Peer
from .peers.base import Patches
from .problem import Check, make
from .race import gather, ratio, time_cell

PAIRS = 21

# The notebook's tiny col2im (1.84 us in compiled Cython): a 1x2x3x3 image, a 2x2 window.
FOLD_CASE = Layer("tiny", "notebook_col2im", 1, 2, (3, 3), None, (2, 2), (1, 1), (0, 0), (1, 1), 1)
FOLD_LAYOUTS = ("n (c k) l", "(c k) (l n)")


def calls(rivals: dict[str, Peer], dtypes: Sequence[str], method: timing.Method) -> Iterator[dict[str, Any]]:
    """Tiny convolutions (4x3x5x5, two 3x3 filters) and patches, all peers interleaved."""
    (layer,) = load(["small"], ["cs231n_gradcheck"])
    for dtype in dtypes:
        problem = make(layer, dtype)
        for which in PASSES:
            offers = ((name, partial(peer.conv, problem, which)) for name, peer in rivals.items())
            found, absent = gather(offers)
            check = Check(problem, which)
            result = time_cell(found, partial(check.complaint, dtype=dtype), absent, method, None)
            yield _tiny(f"conv {which} 4x3x5x5", "", dtype, result)
        for operation in ("unfold", "fold"):
            for layout in FOLD_LAYOUTS:
                case = _case(dtype, layout)
                offers = ((name, partial(getattr(peer, operation), case)) for name, peer in rivals.items())
                found, absent = gather(offers)
                result = time_cell(found, Expected(case, operation).complaint, absent, method, None)
                yield _tiny(f"{operation} 1x2x3x3", layout, dtype, result)


def _tiny(call: str, layout: str, dtype: str, result: dict[str, Any]) -> dict[str, Any]:
    return {"call": call, "layout": layout, "dtype": dtype, **result, "ratio": ratio(result)}


def _case(dtype: str, layout: str) -> Patches:
    rng = np.random.default_rng(3)
    shape = layout_shape(FOLD_CASE, layout)
    x, columns = (rng.standard_normal(s).astype(dtype) for s in (FOLD_CASE.x_shape, shape))
    return Patches(FOLD_CASE, dtype, layout, x, columns, x.copy())


_TIMED = (
    "import sys, time; s = time.perf_counter(); import {0}; print(time.perf_counter() - s, len(sys.modules))"
)
_NEW = (
    "import sys, numpy; before = set(sys.modules); import {0}; "
    "print(*sorted(m for m in set(sys.modules) - before if m.partition('.')[0] in sys.stdlib_module_names))"
)
_FIRST = (
    "import time, numpy as np; import windrow as wr; x = np.ones((1, 3, 8, 8)); w = np.ones((2, 3, 3, 3)); "
    "s = time.perf_counter(); wr.conv(x, w, padding=1); print(time.perf_counter() - s)"
)


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return done.stdout.strip()


def imports(module: str = "windrow", pairs: int = PAIRS) -> dict[str, Any]:
    """Import time of `module` beyond NumPy's: medians over alternating pairs of new processes."""

    def seconds(name: str) -> float:
        return float(_run(_TIMED.format(name)).split()[0])

    seconds("numpy"), seconds(module)  # the files come into the page cache, and bytecode is written
    base, own = [], []
    for pair in range(pairs):
        for name, times in ((("numpy", base), (module, own)), ((module, own), ("numpy", base)))[pair % 2]:
            times.append(seconds(name))
    added = [b - a for a, b in zip(base, own)]
    return {
        "module": module,
        "numpy": statistics.median(base),
        "with_module": statistics.median(own),
        "added": statistics.median(added),
        "added_spread": max(added) - min(added),
        "new_stdlib_modules": _run(_NEW.format(module)).split(),
        "pairs": pairs,
    }


def first_call() -> float:
    """Seconds of the first convolution of a new process, the median of seven processes."""
    return statistics.median(float(_run(_FIRST)) for _ in range(7))
