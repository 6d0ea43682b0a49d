"""What a call would do: algorithm, kernel, blocks, FLOPs, bytes. Nothing is computed or allocated."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arguments import int_argument, shape_argument, show
from .borders import border_of, with_border
from .config import get_num_threads
from .convolution import _checked_options, prepared
from .geometry import conv_geometry, transposed_geometry

OPERATIONS = ("conv", "conv_grad_input", "conv_grad_weight", "conv_transpose")
MEMORY_FORMATS = ("channels_first", "channels_last")


class Plan:
    """What one call would do; print it, or take `as_dict()`."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def as_dict(self) -> dict[str, Any]:
        """Return the facts under fixed names: sizes in elements, memory in bytes."""
        return dict(self._facts)

    def __getitem__(self, name: str) -> Any:
        return self._facts[name]

    def __repr__(self) -> str:
        return f"<Plan of {self['operation']}: {self['algorithm']} on {self['target']}>"

    def __str__(self) -> str:
        f = self._facts
        rows = [
            ("operation", f"{f['operation']} of x {f['x_shape']} and w {f['w_shape']}, y {f['y_shape']}"),
            ("operands", f"{f['dtype']}, {f['memory_format']}"),
            ("algorithm", f"{f['algorithm']}, by {f['kernel']} on {f['target']}"),
            ("tile", f"MR {f['MR']} x NR {f['NR']}"),
            ("blocks", _blocks(f)),
            ("work", f"{f['flops'] / 1e6:.6g} MFLOP, {f['flops_per_byte']:.3g} for each byte of x, w and y"),
            (
                "memory",
                f"x {size_text(f['x_bytes'])}, w {size_text(f['w_bytes'])}, y {size_text(f['y_bytes'])}",
            ),
            (
                "columns",
                f"{size_text(f['columns_bytes'])} would hold the column matrix, which is never built",
            ),
            ("workspace", f"at most {size_text(f['workspace_bytes'])} on {f['threads']} thread(s)"),
            ("pieces", f"{f['pieces']} of work"),
            ("accuracy", _accuracy(f)),
        ]
        if f["candidates"]:
            rows.insert(3, ("candidates", _candidates(f)))
        return "\n".join(f"{name:10} {text}" for name, text in rows)


def explain(
    operation: str,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    dtype: Any = np.float32,
    memory_format: str = "channels_first",
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    ceil_mode: bool = False,
    algorithm: str = "auto",
    max_workspace: int | None = None,
    threads: int | None = None,
) -> Plan:
    """Tell what a call of conv, of one of its gradients, of conv_transpose or of a pooling would do here.

    Parameters
    ----------
    operation : {"conv", "conv_grad_input", "conv_grad_weight", "conv_transpose"}
        Or a pooling: "max_pool", "max_pool_with_indices", "avg_pool", "lp_pool"; or the first, third or
        fourth with "_backward".
    x_shape, w_shape : sequence of int
        (N, C, spatial...) and (K, C / groups, kernel...); for conv_transpose (C, K / groups, kernel...). Its
        plan is that of the input gradient that it is, with no output_padding. For a pooling, w_shape is the
        size of its window, as `max_pool` takes it.
    dtype : float32 or float64
    memory_format : {"channels_first", "channels_last"}
        Of x (for the gradients, of x and dy).
    stride, padding, dilation, groups, algorithm, max_workspace
        As `conv` takes them; for a pooling, the first three and ceil_mode as `max_pool` does.
    threads : int, optional
        How many threads to plan for; `get_num_threads()` of them by default.

    Examples
    --------
    >>> import windrow as wr
    >>> plan = wr.explain("conv", (8, 64, 56, 56), (64, 64, 3, 3), padding=1, threads=1)
    >>> plan["flops"], plan["algorithm"]
    (1849688064, 'winograd')
    >>> plan["columns_bytes"] // plan["workspace_bytes"] > 10
    True
    >>> wr.explain("avg_pool", (8, 64, 56, 56), 2)["kernel"]
    'pool_sum'
    """
    from . import pool_plan  # noqa: PLC0415 - it needs this module

    if operation in pool_plan.OPERATIONS:
        given = {
            "groups": (groups, 1),
            "algorithm": (algorithm, "auto"),
            "max_workspace": (max_workspace, None),
        }
        for name, (value, default) in given.items():
            if value != default:
                raise ValueError(f"{name}: expected {default!r} for {operation}, got {show(value)}")
        return pool_plan.pool_plan(
            operation, x_shape, w_shape,
            dtype=dtype, memory_format=memory_format, stride=stride, padding=padding, dilation=dilation,
            ceil_mode=ceil_mode, threads=threads,
        )  # fmt: skip
    if stride is None:
        stride = 1
    return plan_of(
        operation, x_shape, w_shape,
        dtype=dtype, memory_format=memory_format, stride=stride, padding=padding, dilation=dilation,
        groups=groups, algorithm=algorithm, max_workspace=max_workspace, threads=threads,
    )  # fmt: skip


def plan_of(
    operation: str,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    dtype: Any = np.float32,
    memory_format: str = "channels_first",
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    algorithm: str = "auto",
    max_workspace: int | None = None,
    threads: int | None = None,
    padding_mode: str = "constant",
    fill: Any = 0,
    is_prepared: bool = False,
) -> Plan:
    """What `explain` returns, also for weights that are prepared."""
    if operation not in OPERATIONS:
        expected = ", ".join(map(repr, OPERATIONS[:-1])) + f", {OPERATIONS[-1]!r} or a pooling"
        raise ValueError(f"operation: expected {expected}, got {show(operation)}")
    checked_format(memory_format)
    kind = checked_dtype(dtype)
    count = checked_threads(threads)
    shapes = shape_argument("x_shape", x_shape), shape_argument("w_shape", w_shape)
    transposed = operation == "conv_transpose"
    if transposed:
        geometry = transposed_geometry(*shapes, stride, padding, dilation, groups)
    else:
        geometry = conv_geometry(
            *shapes, stride, padding, dilation, groups, x_name="x_shape", w_name="w_shape"
        )
    geometry = with_border(geometry, border_of(geometry.windows, padding_mode, fill, kind))
    # What is x here: of a transposed convolution, what would be dy.
    x, y = geometry.x_shape, geometry.y_shape
    given, result = (y, x) if transposed else (x, y)
    number, limit = _checked_options(algorithm, max_workspace, geometry)
    core = prepared(geometry).plan(
        "conv_grad_input" if transposed else operation,
        kind == np.float64,
        memory_format == "channels_last",
        count,
        limit,
        number,
        is_prepared,
    )
    del core["work"]  # what the predictions come from is for `benchmarks calibrate`
    size = {
        name: kind.itemsize * int(np.prod(shape, dtype=object))
        for name, shape in [("x", given), ("w", geometry.w_shape), ("y", result)]
    }
    windows = geometry.windows
    facts = {
        "operation": operation,
        "x_shape": given,
        "w_shape": geometry.w_shape,
        "y_shape": result,
        "dtype": kind.name,
        "memory_format": memory_format,
        "padding": windows.padding,
        **core,
        "workspace_bytes": core["workspace_per_thread"] * core["threads"] + core["workspace_shared"],
        "flops": geometry.flops,
        "flops_per_byte": geometry.flops / max(1, sum(size.values())),
        "x_bytes": size["x"],
        "w_bytes": size["w"],
        "y_bytes": size["y"],
        "columns_bytes": kind.itemsize * geometry.n * geometry.c * windows.taps * windows.positions,
    }
    return Plan(facts)


def checked_format(memory_format: Any) -> None:
    """Refuse what is no memory format."""
    if memory_format not in MEMORY_FORMATS:
        raise ValueError(
            f"memory_format: expected {' or '.join(map(repr, MEMORY_FORMATS))}, got {show(memory_format)}"
        )


def checked_threads(threads: int | None) -> int:
    """How many threads to plan for."""
    return get_num_threads() if threads is None else int_argument("threads", threads, 1)


def checked_dtype(value: Any) -> np.dtype[Any]:
    """The dtype, which must be one that is computed in."""
    try:
        kind: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TypeError(f"dtype: expected float32 or float64, got {show(value)}") from None
    if kind not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {kind}")
    return kind


def _blocks(facts: dict[str, Any]) -> str:
    if not facts["KC"]:
        return "strips of x in channels-last form, taps and channels side by side in the lanes"
    return f"KC {facts['KC']} terms, NC {facts['NC']} pixels, MC {facts['MC']} rows"


def _candidates(facts: dict[str, Any]) -> str:
    """Fastest first."""
    times = sorted(facts["candidates"].items(), key=lambda item: item[1])
    listed = ", ".join(f"{name} {1e3 * seconds:.3g}" for name, seconds in times)
    return f"{listed} ms predicted for one image on one thread"


def _accuracy(facts: dict[str, Any]) -> str:
    sums = (
        "magnitudes, those of the transforms included" if facts["algorithm"] == "winograd" else "magnitudes"
    )
    return f"within {facts['roundings']} * eps * the same sum of {sums}"


def size_text(count: int) -> str:
    """Bytes in the unit that suits them."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
