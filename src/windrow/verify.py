"""Is this installation right? Known answers, numerical gradients, operations against the reference."""

from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

import windrow as wr

from . import layers, reference
from .arrays import Array
from .gradcheck import Report, numerical_vjp, relative_error
from .gradcheck.operations import check_operations

PRINTED = 0.5e-8  # half a unit of the last of the digits that NumPy prints


class Comparison(NamedTuple):
    """One line of the table: an error, and the bound that it must not exceed."""

    group: str
    what: str
    dtype: str
    error: float
    bound: float
    note: str = ""  # on what is wrong, where that is known

    @property
    def holds(self) -> bool:
        """Whether the error is within its bound; NaN is not."""
        return self.error <= self.bound

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity and no NaN: there they are strings."""
        error = self.error if np.isfinite(self.error) else str(self.error)
        return {**self._asdict(), "error": error, "holds": self.holds}


def comparisons() -> list[Comparison]:
    """Every comparison, in the order of the table."""
    return [*known_answers(), *numerical_gradients(), *gradient_checks(), *against_reference()]


def as_table(rows: Iterable[Comparison]) -> str:
    """One line per comparison, under a heading per group."""
    lines = [f"{'':46} {'dtype':8} {'error':>9} {'bound':>9}"]
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append(group)
        verdict = "ok" if row.holds else "WRONG"
        lines.append(f"  {row.what:44} {row.dtype:8} {row.error:9.2g} {row.bound:9.2g}  {verdict}")
        lines.extend(f"    {line}" for line in row.note.splitlines())
    return "\n".join(lines)


# Known answers: what the notebook printed that this project began with


def known_answers() -> Iterator[Comparison]:
    """Small problems whose results were printed elsewhere."""

    def exactly(what: str, got: Array, expected: Any) -> Comparison:
        same = got.shape == np.shape(expected) and bool(np.all(got == expected))
        return Comparison("known answers", what, str(got.dtype), 0.0 if same else np.inf, 0.0)

    x = np.arange(16).reshape(1, 1, 4, 4)
    cols = wr.im2col(x, 2, stride=2)
    yield exactly("im2col, 1x1x4x4, window 2, stride 2", cols, COLUMNS)
    yield exactly("col2im of it", wr.col2im(cols, x.shape, 2, stride=2), x)

    x = np.arange(36).reshape(2, 2, 3, 3)
    yield exactly("im2col, 2x2x3x3, window 3", wr.im2col(x, 3), np.arange(36).reshape(2, 18).T)

    values = np.linspace(-0.1, 0.5, 96).reshape(2, 3, 4, 4)
    w = np.linspace(-0.2, 0.3, 144).reshape(3, 3, 4, 4)
    b = np.linspace(-0.1, 0.2, 3).reshape(3, 1)
    out, _ = layers.conv_forward(values, w, b, stride=2, padding=1)
    expected = np.array(LAYER_OUTPUT.split(), float).reshape(out.shape)
    bound = float(PRINTED / (2 * np.abs(expected).min()))
    error = relative_error(out, expected)
    yield Comparison(
        "known answers", "conv_forward, 2x3x4x4, stride 2, padding 1", str(out.dtype), error, bound
    )


COLUMNS = [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]

LAYER_OUTPUT = """
-0.08759809 -0.10987781  -0.18387192 -0.2109216
 0.21027089  0.21661097   0.22847626  0.23004637
 0.50813986  0.54309974   0.64082444  0.67101435
-0.98053589 -1.03143541  -1.19128892 -1.24695841
 0.69108355  0.66880383   0.59480972  0.56776003
 2.36270298  2.36904306   2.38090835  2.38247847
"""


# Numerical gradients: the notebook's own data


def numerical_gradients() -> Iterator[Comparison]:
    """The layer's gradients against centred differences, one entry at a time."""
    random = np.random.RandomState(231)
    x, w = random.randn(4, 3, 5, 5), random.randn(2, 3, 3, 3)
    b, dout = random.randn(2, 1), random.randn(4, 2, 5, 5)
    gradients = layers.conv_backward(dout, layers.conv_forward(x, w, b)[1])

    def forward(x: Any, w: Any, b: Any) -> Array:
        return layers.conv_forward(x, w, b)[0]

    # The bounds are those of the differences' own rounding, whatever the order of the sums.
    tests: tuple[tuple[str, Array, Callable[[Any], Array], float], ...] = (
        ("dx", x, lambda v: forward(v, w, b), 1e-7),
        ("dw", w, lambda v: forward(x, v, b), 5e-9),
        ("db", b, lambda v: forward(x, w, v), 1e-9),
    )
    for (name, value, f, bound), gradient in zip(tests, gradients, strict=True):
        assert gradient is not None
        error = relative_error(gradient, numerical_vjp(f, value, dout, step=1e-5))
        what = f"{name} of the layer, x 4x3x5x5, w 2x3x3x3"
        yield Comparison("gradients against differences", what, str(gradient.dtype), error, bound)


def gradient_checks() -> Iterator[Comparison]:
    """Every differentiable operation with its gradient, over the grid of `windrow.gradcheck`."""
    for line in check_operations():
        # A test that measures nothing, such as of a shape, has no error of its own.
        error = line.error if line.holds or line.error > line.bound else np.inf
        wrong = [report for report in line.reports if not report]
        note = "\n".join(f"{report.title}: {cause(report)}" for report in wrong[:3])
        group = f"gradients by windrow.gradcheck, the worst of {line.geometries} geometries"
        yield Comparison(group, f"{line.operation}: {line.test}", line.dtype, error, line.bound, note)


def cause(report: Report) -> str:
    """What a failed report says of the usual cause, or else of its first failed test."""
    if report.patterns:
        return report.patterns[0].text
    row = report.failures[0]
    return f"{row.argument}: {row.test} {row.note}".rstrip()


# Every operation against the reference


class Geometry(NamedTuple):
    """A problem of the grid."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


GEOMETRIES = (
    Geometry((3, 4, 17), (6, 4, 5), stride=2, padding=((3, 1),), dilation=2),
    Geometry((1, 1, 8, 8), (8, 1, 3, 3), padding="same"),
    Geometry((2, 32, 14, 14), (64, 32, 3, 3), padding=1),
    Geometry((2, 48, 7, 9), (40, 48, 1, 1)),
    Geometry((2, 3, 33, 30), (16, 3, 7, 7), stride=2, padding=3),
    Geometry((2, 12, 13, 11), (12, 1, 3, 3), padding=((0, 1), (2, 1)), groups=12),
    Geometry((2, 6, 10, 12), (9, 2, 2, 3), stride=(3, 1), padding=(1, 2), dilation=(1, 2), groups=3),
    Geometry((1, 3, 6, 7, 5), (4, 3, 3, 2, 3), stride=(1, 2, 1), padding=(1, 0, 1)),
)


def against_reference() -> Iterator[Comparison]:
    """Each operation on a grid of geometries, in both dtypes; the line shows the worst of them."""
    group = "operations against the reference, relative to the summed magnitudes"
    dtypes = (np.dtype(np.float32), np.dtype(np.float64))
    for name, check in OPERATIONS.items():
        results = [check(geometry, dtype) for dtype in dtypes for geometry in GEOMETRIES]
        error, bound = max(results, key=nearness_to_bound)
        yield Comparison(group, f"{name}, {len(GEOMETRIES)} geometries", "both", error, bound)


def nearness_to_bound(result: tuple[float, float]) -> float:
    """How much of its bound an error takes up; NaN is beyond any."""
    error, bound = result
    if np.isnan(error):
        return np.inf
    return error / bound if bound else error


def operands(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[Array, Array, Array, dict[str, Any]]:
    """x, w and dy of a problem, and its window."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(geometry.x_shape).astype(dtype)
    w = rng.standard_normal(geometry.w_shape).astype(dtype)
    window = {name: getattr(geometry, name) for name in ("stride", "padding", "dilation")}
    win = reference.windows(x.shape[2:], w.shape[2:], **window)
    dy = rng.standard_normal((x.shape[0], w.shape[0], *win.output)).astype(dtype)
    return x, w, dy, window


def error_of_sum(got: Array, exact: Array, size: Array, terms: int) -> tuple[float, float]:
    """The largest error relative to the summed magnitudes, and its bound in any order: terms * eps."""
    error = np.abs(got - exact) / np.where(size == 0, 1, size)
    return float(error.max()), (terms + 1) * float(np.finfo(got.dtype).eps)


def check_unfold(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Copies are exact."""
    x, w, _, window = operands(geometry, dtype)
    expected = reference.unfold(x, w.shape[2:], form="indices", **window)
    return (0.0 if np.array_equal(wr.unfold(x, w.shape[2:], **window), expected) else np.inf), 0.0


def check_fold(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """A pixel is a sum over at most all taps of the window."""
    x, w, _, window = operands(geometry, dtype)
    cols = reference.unfold(x, w.shape[2:], form="indices", **window)
    wide = cols.astype(np.longdouble)
    size, kernel = x.shape[2:], w.shape[2:]
    exact = reference.fold(wide, size, kernel, form="indices", **window)
    sizes = reference.fold(np.abs(wide), size, kernel, form="indices", **window)
    return error_of_sum(wr.fold(cols, size, kernel, **window), exact, sizes, prod(kernel))


def check_conv(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """An output is a sum over channels and taps."""
    x, w, _, window = operands(geometry, dtype)
    window["groups"] = geometry.groups
    exact = reference.conv(x, w, dtype=np.longdouble, **window)
    sizes = reference.conv(np.abs(x), np.abs(w), dtype=np.longdouble, **window)
    return error_of_sum(wr.conv(x, w, **window), exact, sizes, prod(w.shape[1:]))


def check_conv_grad_input(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """An entry of dx is a sum over the group's filters and taps."""
    x, w, dy, window = operands(geometry, dtype)
    window["groups"] = geometry.groups
    exact = reference.conv_grad_input(dy, w, x.shape, dtype=np.longdouble, **window)
    sizes = reference.conv_grad_input(np.abs(dy), np.abs(w), x.shape, dtype=np.longdouble, **window)
    terms = w.shape[0] // geometry.groups * prod(w.shape[2:])
    return error_of_sum(wr.conv_grad_input(dy, w, x.shape, **window), exact, sizes, terms)


def check_conv_grad_weight(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """An entry of dw is a sum over images and positions."""
    x, w, dy, window = operands(geometry, dtype)
    window["groups"] = geometry.groups
    exact = reference.conv_grad_weight(dy, x, w.shape, dtype=np.longdouble, **window)
    sizes = reference.conv_grad_weight(np.abs(dy), np.abs(x), w.shape, dtype=np.longdouble, **window)
    terms = dy.shape[0] * prod(dy.shape[2:])
    return error_of_sum(wr.conv_grad_weight(dy, x, w.shape, **window), exact, sizes, terms)


def check_conv_transpose(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """An output is a sum over the group's channels and taps; here those of dy and of the filters."""
    x, w, dy, window = operands(geometry, dtype)
    window["groups"] = geometry.groups
    window["output_size"] = x.shape[2:]
    exact = reference.conv_transpose(dy, w, dtype=np.longdouble, **window)
    sizes = reference.conv_transpose(np.abs(dy), np.abs(w), dtype=np.longdouble, **window)
    terms = w.shape[0] // geometry.groups * prod(w.shape[2:])
    return error_of_sum(wr.conv_transpose(dy, w, **window), exact, sizes, terms)


def check_max_pool(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Maxima and where they came from are exact."""
    x, w, _, window = operands(geometry, dtype)
    y, indices = wr.max_pool_with_indices(x, w.shape[2:], **window)
    expected, places = reference.max_pool_with_indices(x, w.shape[2:], **window)
    same = np.array_equal(y, expected) and np.array_equal(indices, places)
    return (0.0 if same else np.inf), 0.0


def check_avg_pool(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """A mean is a sum over the taps of a window, divided once."""
    x, w, _, window = operands(geometry, dtype)
    exact = reference.avg_pool(x, w.shape[2:], dtype=np.longdouble, **window)
    sizes = reference.avg_pool(np.abs(x), w.shape[2:], dtype=np.longdouble, **window)
    return error_of_sum(wr.avg_pool(x, w.shape[2:], **window), exact, sizes, prod(w.shape[2:]))


def check_lp_pool(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """A norm is the root of a sum over the taps of a window, relative to itself."""
    x, w, _, window = operands(geometry, dtype)
    exact = reference.lp_pool(x, w.shape[2:], dtype=np.longdouble, **window)
    return error_of_sum(wr.lp_pool(x, w.shape[2:], **window), exact, exact, prod(w.shape[2:]))


def check_conv_grad_bias(geometry: Geometry, dtype: np.dtype[Any]) -> tuple[float, float]:
    """An entry of db is a sum over images and positions."""
    _, _, dy, _ = operands(geometry, dtype)
    exact = reference.conv_grad_bias(dy, dtype=np.longdouble)
    sizes = reference.conv_grad_bias(np.abs(dy), dtype=np.longdouble)
    return error_of_sum(wr.conv_grad_bias(dy), exact, sizes, dy.shape[0] * prod(dy.shape[2:]))


OPERATIONS: dict[str, Callable[[Geometry, np.dtype[Any]], tuple[float, float]]] = {
    "unfold": check_unfold,
    "fold": check_fold,
    "conv": check_conv,
    "conv_grad_input": check_conv_grad_input,
    "conv_grad_weight": check_conv_grad_weight,
    "conv_grad_bias": check_conv_grad_bias,
    "conv_transpose": check_conv_transpose,
    "max_pool": check_max_pool,
    "avg_pool": check_avg_pool,
    "lp_pool": check_lp_pool,
}
