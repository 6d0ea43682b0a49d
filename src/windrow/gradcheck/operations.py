"""Every differentiable operation of windrow with its gradient, checked over a grid of geometries.

This is what ``windrow check`` prints. Nothing else in `windrow.gradcheck` knows windrow.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import layers
from ..bilinear import conv_double_backward, conv_jvp
from ..convolution import conv, conv_backward, conv_grad_bias, conv_grad_input, conv_grad_weight
from ..lp_pooling import lp_pool, lp_pool_backward
from ..pooling import avg_pool, avg_pool_backward, max_pool_backward, max_pool_with_indices
from ..transposed import conv_transpose, conv_transpose_backward
from ..unfolding import col2im, fold, im2col, unfold
from .accept import Array
from .checking import check
from .report import Report


class Geometry(NamedTuple):
    """A convolution's shapes and options."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    options: Mapping[str, Any] = {}


GRID = (
    Geometry((3, 4, 17), (6, 4, 5), {"stride": 2, "padding": ((3, 1),), "dilation": 2}),
    Geometry((2, 3, 8, 8), (4, 3, 3, 3), {"padding": "same"}),
    Geometry((2, 8, 7, 9), (5, 8, 1, 1)),
    Geometry((2, 3, 12, 11), (4, 3, 5, 5), {"stride": 2, "padding": 2}),
    Geometry((2, 6, 9, 7), (6, 1, 3, 3), {"padding": ((0, 1), (2, 1)), "groups": 6}),
    Geometry(
        (2, 6, 10, 12), (9, 2, 2, 3), {"stride": (3, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 3}
    ),
    Geometry((1, 3, 6, 7, 5), (4, 3, 3, 2, 3), {"stride": (1, 2, 1), "padding": (1, 0, 1)}),
)
DTYPES = ("float32", "float64")

SPATIAL = {1: "w", 2: "h w", 3: "d h w"}


class Operation(NamedTuple):
    """A pair for `check`."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: tuple[Array, ...]
    axes: Mapping[str, str]
    cached: bool = False


class Line(NamedTuple):
    """One line of the table: an operation, and its test that came nearest to its bound in any dtype."""

    operation: str
    dtype: str  # "both"
    geometries: int
    test: str
    error: float
    bound: float
    holds: bool
    reports: tuple[Report, ...]


def check_operations(
    names: Iterable[str] | None = None, grid: Iterable[Geometry] = GRID, seed: int = 0
) -> list[Line]:
    """Check every operation (or those named) on every geometry, in float32 and float64.

    >>> from windrow.gradcheck.operations import check_operations
    >>> [(line.operation, line.dtype, line.holds) for line in check_operations(["conv", "fold"])]
    [('conv', 'both', True), ('fold', 'both', True)]
    """
    cases = [(dtype, number, geometry) for dtype in DTYPES for number, geometry in enumerate(grid, seed)]
    lines = []
    for name in OPERATIONS if names is None else names:
        reports = tuple(check_operation(name, geometry, dtype, number) for dtype, number, geometry in cases)
        lines.append(_line(name, reports))
    return lines


def check_operation(name: str, geometry: Geometry, dtype: str, seed: int = 0) -> Report:
    """Check one operation on one geometry."""
    # The data depend on the name by a hash that is the same in every process.
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    pair = OPERATIONS[name](geometry, np.dtype(dtype), rng)
    title = f"{name} {dtype} x {geometry.x_shape} w {geometry.w_shape} {dict(geometry.options)}"
    return check(
        pair.forward,
        pair.backward,
        pair.inputs,
        axes=pair.axes,
        cached=pair.cached,
        entries=8,
        seed=seed,
        title=title,
    )


def _line(name: str, reports: tuple[Report, ...]) -> Line:
    def nearness(row: Any) -> tuple[bool, float]:
        return row.verdict == "fails", row.error / row.bound if row.bound else 0.0

    measured = [row for report in reports for row in report.rows if row.error is not None]
    worst = max(measured, key=nearness)
    return Line(
        name,
        "both",
        len(reports) // len(DTYPES),
        f"d{worst.argument}, {worst.test}",
        worst.error or 0.0,
        worst.bound or 0.0,
        all(reports),
        reports,
    )


# The operations


def _draw(rng: np.random.Generator, dtype: np.dtype[Any], *shapes: tuple[int, ...]) -> tuple[Array, ...]:
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def _axes(geometry: Geometry) -> dict[str, str]:
    spatial = SPATIAL[len(geometry.w_shape) - 2]
    taps = " ".join(f"k{name}" for name in spatial.split())
    x, w, y = f"n c {spatial}", f"k c {taps}", f"n k {spatial}"
    return {"x": x, "w": w, "b": "k", "dy": y, "x_dot": x, "w_dot": w, "b_dot": "k"}


def _operands(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> tuple[Array, ...]:
    """x, w, b and dy."""
    x, w, b = _draw(rng, dtype, geometry.x_shape, geometry.w_shape, geometry.w_shape[:1])
    (dy,) = _draw(rng, dtype, conv(x, w, **geometry.options).shape)
    return x, w, b, dy


def _conv(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    x, w, b, _ = _operands(geometry, dtype, rng)

    def forward(x: Array, w: Array, b: Array) -> Array:
        return conv(x, w, b, **geometry.options)

    def backward(dy: Array, x: Array, w: Array, b: Array) -> Any:
        return conv_backward(dy, x, w, **geometry.options)

    return Operation(forward, backward, (x, w, b), _axes(geometry))


def _conv_grad_input(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    _, w, _, dy = _operands(geometry, dtype, rng)

    def forward(dy: Array, w: Array) -> Array:
        return conv_grad_input(dy, w, geometry.x_shape, **geometry.options)

    def backward(ddx: Array, dy: Array, w: Array) -> Any:
        return conv(ddx, w, **geometry.options), conv_grad_weight(dy, ddx, w.shape, **geometry.options)

    return Operation(forward, backward, (dy, w), _axes(geometry))


def _conv_transpose(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    """Back from the shape of conv's result to that of its input."""
    x_shape, w_shape, options = geometry
    dy_shape = conv(np.zeros(x_shape), np.zeros(w_shape), **options).shape
    x, w, b = _draw(rng, dtype, dy_shape, w_shape, (w_shape[1] * options.get("groups", 1),))

    def forward(x: Array, w: Array, b: Array) -> Array:
        return conv_transpose(x, w, b, output_size=x_shape[2:], **options)

    def backward(dy: Array, x: Array, w: Array, b: Array) -> Any:
        return conv_transpose_backward(dy, x, w, **options)

    axes = SPATIAL[len(x_shape) - 2]
    return Operation(forward, backward, (x, w, b), {"x": f"n c {axes}", "w": f"c k {axes}", "b": "k"})


def _conv_grad_weight(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    x, _, _, dy = _operands(geometry, dtype, rng)

    def forward(dy: Array, x: Array) -> Array:
        return conv_grad_weight(dy, x, geometry.w_shape, **geometry.options)

    def backward(ddw: Array, dy: Array, x: Array) -> Any:
        return conv(x, ddw, **geometry.options), conv_grad_input(dy, ddw, x.shape, **geometry.options)

    return Operation(forward, backward, (dy, x), _axes(geometry))


def _conv_grad_bias(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    *_, dy = _operands(geometry, dtype, rng)

    def backward(ddb: Array, dy: Array) -> Array:
        return np.broadcast_to(ddb.reshape(-1, *(1 for _ in dy.shape[2:])), dy.shape)

    return Operation(conv_grad_bias, backward, (dy,), _axes(geometry))


def _conv_jvp(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    x, w, _, _ = _operands(geometry, dtype, rng)
    x_dot, w_dot, b_dot, _ = _operands(geometry, dtype, rng)

    def forward(x_dot: Array, w_dot: Array, b_dot: Array) -> Array:
        return conv_jvp(x, w, x_dot, w_dot, b_dot, **geometry.options)

    def backward(dy: Array, *_: Array) -> Any:
        return conv_backward(dy, x, w, **geometry.options)

    return Operation(forward, backward, (x_dot, w_dot, b_dot), _axes(geometry))


def _conv_double_backward(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    x, w, _, dy = _operands(geometry, dtype, rng)
    ends = np.cumsum([x.size, w.size])

    def forward(dy: Array, x: Array, w: Array) -> Array:
        gradients = conv_backward(dy, x, w, **geometry.options)
        return np.concatenate([np.reshape(gradient, -1) for gradient in gradients])  # type: ignore[arg-type]

    def backward(ddall: Array, dy: Array, x: Array, w: Array) -> Any:
        ddx, ddw, ddb = np.split(ddall, ends)
        return conv_double_backward(
            dy, x, w, ddx.reshape(x.shape), ddw.reshape(w.shape), ddb, **geometry.options
        )

    return Operation(forward, backward, (dy, x, w), _axes(geometry))


def _layer(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    """The layer with a cache knows stride and padding only, and a bias of shape (F, 1)."""
    stride = geometry.options.get("stride", 1)
    padding = geometry.options.get("padding", 1)
    channels = (geometry.w_shape[0], geometry.x_shape[1], *geometry.w_shape[2:])
    x, w, b = _draw(rng, dtype, geometry.x_shape, channels, (channels[0], 1))

    def forward(x: Array, w: Array, b: Array) -> Any:
        return layers.conv_forward(x, w, b, stride=stride, padding=padding)

    axes = {**_axes(geometry), "b": "k one"}
    return Operation(forward, layers.conv_backward, (x, w, b), axes, cached=True)


def _patch_options(geometry: Geometry) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The window's size, and the options that patches have too."""
    return geometry.w_shape[2:], {key: value for key, value in geometry.options.items() if key != "groups"}


def _unfold(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    kernel, options = _patch_options(geometry)
    (x,) = _draw(rng, dtype, geometry.x_shape)

    def forward(x: Array) -> Array:
        return unfold(x, kernel, **options)

    def backward(dcols: Array, x: Array) -> Array:
        return fold(dcols, x.shape[2:], kernel, **options)

    return Operation(forward, backward, (x,), _axes(geometry))


def _fold(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    kernel, options = _patch_options(geometry)
    size = geometry.x_shape[2:]
    (cols,) = _draw(rng, dtype, unfold(np.zeros(geometry.x_shape), kernel, **options).shape)

    def forward(cols: Array) -> Array:
        return fold(cols, size, kernel, **options)

    def backward(dx: Array, cols: Array) -> Array:
        return unfold(dx, kernel, **options)

    return Operation(forward, backward, (cols,), {"cols": "n ck l"})


def _fold_mean(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    """A mean is a sum divided by how often each pixel is covered."""
    kernel, options = _patch_options(geometry)
    size = geometry.x_shape[2:]
    covered = fold(unfold(np.ones(geometry.x_shape, dtype), kernel, **options), size, kernel, **options)
    (cols,) = _draw(rng, dtype, unfold(covered, kernel, **options).shape)

    def forward(cols: Array) -> Array:
        return fold(cols, size, kernel, reduce="mean", **options)

    def backward(dx: Array, cols: Array) -> Array:
        return unfold(dx / np.maximum(covered, 1), kernel, **options)

    return Operation(forward, backward, (cols,), {"cols": "n ck l"})


def _im2col(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    kernel, options = _patch_options(geometry)
    (x,) = _draw(rng, dtype, geometry.x_shape)

    def forward(x: Array) -> Array:
        return im2col(x, kernel, **options)

    def backward(dcols: Array, x: Array) -> Array:
        return col2im(dcols, x.shape, kernel, **options)

    return Operation(forward, backward, (x,), _axes(geometry))


def _col2im(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    kernel, options = _patch_options(geometry)
    (cols,) = _draw(rng, dtype, im2col(np.zeros(geometry.x_shape), kernel, **options).shape)

    def forward(cols: Array) -> Array:
        return col2im(cols, geometry.x_shape, kernel, **options)

    def backward(dx: Array, cols: Array) -> Array:
        return im2col(dx, kernel, **options)

    return Operation(forward, backward, (cols,), {"cols": "ck ln"})


def _distinct(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    """Numbers no two of which are near each other, and none near 0: norms and maxima have kinks there."""
    size = int(np.prod(geometry.x_shape))
    values = (1 + rng.permutation(size) / size) * rng.choice([-1, 1], size)
    distinct: Array = values.reshape(geometry.x_shape).astype(dtype)
    return distinct


def _max_pool(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    kernel, options = _patch_options(geometry)

    def forward(x: Array) -> Array:
        y, indices = max_pool_with_indices(x, kernel, **options)
        return np.where(indices < 0, 0, y)  # a window without a pixel is -inf, whatever x is

    def backward(dy: Array, x: Array) -> Array:
        return max_pool_backward(dy, max_pool_with_indices(x, kernel, **options).indices, x.shape)

    return Operation(forward, backward, (_distinct(geometry, dtype, rng),), _axes(geometry))


def _avg_pool(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    kernel, options = _patch_options(geometry)
    options["count_include_pad"] = False

    def forward(x: Array) -> Array:
        return avg_pool(x, kernel, **options)

    def backward(dy: Array, x: Array) -> Array:
        return avg_pool_backward(dy, x.shape, kernel, **options)

    return Operation(forward, backward, _draw(rng, dtype, geometry.x_shape), _axes(geometry))


def _lp_pool(geometry: Geometry, dtype: np.dtype[Any], rng: np.random.Generator) -> Operation:
    kernel, options = _patch_options(geometry)

    def forward(x: Array) -> Array:
        return lp_pool(x, kernel, 3, **options)

    def backward(dy: Array, x: Array) -> Array:
        return lp_pool_backward(dy, x, kernel, 3, **options)

    return Operation(forward, backward, (_distinct(geometry, dtype, rng),), _axes(geometry))


OPERATIONS: dict[str, Callable[[Geometry, np.dtype[Any], np.random.Generator], Operation]] = {
    "conv": _conv,
    "conv_grad_input": _conv_grad_input,
    "conv_grad_weight": _conv_grad_weight,
    "conv_grad_bias": _conv_grad_bias,
    "conv_transpose": _conv_transpose,
    "conv_jvp": _conv_jvp,
    "conv_double_backward": _conv_double_backward,
    "layers.conv_forward": _layer,
    "unfold": _unfold,
    "fold": _fold,
    "fold, mean": _fold_mean,
    "im2col": _im2col,
    "col2im": _col2im,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "lp_pool": _lp_pool,
}
