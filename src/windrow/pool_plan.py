"""What a pooling would do: kernel, lanes, pieces, bytes. Nothing is computed or allocated."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arguments import shape_argument
from .plan import Plan, checked_dtype, checked_format, checked_threads, size_text
from .pooling import _prepared

# In the order of the core's PoolPass, and operations that do the same.
_PASSES = {
    "max_pool": 0, "max_pool_with_indices": 1, "max_pool_backward": 2, "avg_pool": 3, "avg_pool_backward": 4,
    "lp_pool": 5, "lp_pool_backward": 4,
}  # fmt: skip
OPERATIONS = tuple(_PASSES)

_KERNELS = {
    "lines": "vectors of the baseline instruction set",
    "scatter": "one value at a time",
}


class PoolPlan(Plan):
    """What one pooling would do; print it, or take `as_dict()`."""

    def __repr__(self) -> str:
        return f"<Plan of {self['operation']}: {self['kernel']} on {self['target']}>"

    def __str__(self) -> str:
        f = self._facts
        by = _KERNELS.get(f["kernel"], f"kernel of {f['target']}")
        lanes = f"{f['lanes']} along {f['along']}" if f["lanes"] else "none"
        x, y = f"x {f['x_shape']}", f"y {f['y_shape']}"
        rows = [
            ("operation", f"{f['operation']} of windows {f['kernel_size']}, {x}, {y}"),
            ("operands", f"{f['dtype']}, {f['memory_format']}"),
            ("kernel", f"{f['kernel']}: {by}"),
            ("lanes", lanes),
            ("windows", f"{100 * f['share']:.3g} % see all the same taps inside the image"),
            ("memory", f"x {size_text(f['x_bytes'])}, y {size_text(f['y_bytes'])}"),
            ("pieces", f"{f['pieces']} of work on {f['threads']} thread(s)"),
        ]
        return "\n".join(f"{name:10} {text}" for name, text in rows)


def pool_plan(
    operation: str,
    x_shape: Sequence[int],
    kernel_size: Any,
    *,
    dtype: Any,
    memory_format: str,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    threads: int | None,
) -> PoolPlan:
    """What `explain` returns for a pooling."""
    checked_format(memory_format)
    kind = checked_dtype(dtype)
    count = checked_threads(threads)
    shape = shape_argument("x_shape", x_shape)
    geometry, core, _ = _prepared(shape, (kernel_size, stride, padding, dilation, ceil_mode), "x_shape")
    last = memory_format == "channels_last"
    facts = core.plan(_PASSES[operation], kind == np.float64, last)
    windows = geometry.windows
    axes = ("images", "channels", *(f"spatial axis {i}" for i in range(windows.rank)))
    x_bytes, y_bytes = (
        kind.itemsize * int(np.prod(sizes, dtype=object)) for sizes in (geometry.x_shape, geometry.y_shape)
    )
    return PoolPlan(
        {
            "operation": operation,
            "x_shape": geometry.x_shape,
            "y_shape": geometry.y_shape,
            "kernel_size": windows.kernel_size,
            "dtype": kind.name,
            "memory_format": memory_format,
            "padding": windows.padding,
            **facts,
            "along": axes[facts["along"]],
            "threads": max(1, min(count, facts["pieces"])),
            "x_bytes": x_bytes,
            "y_bytes": y_bytes,
        }
    )
