"""Arbitrary calls of conv and its gradients."""

import math
from typing import Any

import numpy as np
from tests import tolerances

import windrow as wr
from windrow import _core, reference

from . import border
from .border import Border
from .case import LARGEST, Case, wide

CHUNK = _core._testing.CHUNK
FLOATS = (np.float32, np.float64)


class ConvolutionCase(Case):
    """conv or one of its gradients on float32 or float64, now and then on something else."""

    operations = ("conv", "conv_grad_input", "conv_grad_weight", "conv_grad_bias")
    names = frozenset(
        [
            "x",
            "w",
            "b",
            "dy",
            "y",
            "dx",
            "dw",
            "db",
            "out",
            "x_shape",
            "w_shape",
            "stride",
            "padding",
            "dilation",
            "groups",
            "padding_mode",
            "fill",
            "max_workspace",
            "accumulator",
        ]
    )

    def run(self) -> str:
        """Do the call and judge it."""
        pick = self.random
        options = {**self.windows(), "groups": self.groups}
        if self.wild and pick.random() < 0.3:
            self.spoil(options)
        x_shape = (self.n, self.channels, *self.size)
        w_shape = (self.filters, self.channels // max(self.groups, 1), *self.kernel)
        geometry = self.geometry(x_shape, w_shape, options)
        y_shape = geometry.y_shape if geometry else (*x_shape[:1], *w_shape[:1], *(2 for _ in self.size))
        edge = None
        if self.operation != "conv_grad_bias":
            edge = border.draw(pick, x_shape, geometry and geometry.windows, options, wild=self.wild)
        amounts = (*y_shape, *w_shape[1:]), x_shape, w_shape, (border.amount(edge, x_shape),)
        if max(math.prod(max(1, size) for size in sizes) for sizes in amounts) > LARGEST:
            return "too large for the reference"
        shapes = {"x": x_shape, "w": w_shape, "dy": y_shape, "b": w_shape[:1]}
        plain = {name: self.values(shape) for name, shape in shapes.items()}
        if self.wild and pick.random() < 0.1:
            self.dtype = np.dtype(pick.choice(["f2", "i4", "?", "c16", "O", "U3", "m8[s]", "g"]))
            plain = {name: np.ones(shape, int).astype(self.dtype) for name, shape in shapes.items()}
        taken = {
            "conv": ("x", "w", "b") if pick.random() < 0.5 else ("x", "w"),
            "conv_grad_input": ("dy", "w"),
            "conv_grad_weight": ("dy", "x"),
            "conv_grad_bias": ("dy",),
        }[self.operation]
        inputs = {name: self.dress(plain[name]) for name in taken}
        given = [np.array(np.asarray(value)) for value in inputs.values()]
        arguments = list(inputs.values())
        result_shape = y_shape
        if self.operation in ("conv_grad_input", "conv_grad_weight"):
            result_shape = x_shape if self.operation == "conv_grad_input" else w_shape
            arguments.append(pick.choice([tuple, list, np.array])(result_shape))
            given.append(result_shape)
        elif self.operation == "conv_grad_bias":
            options, result_shape = {}, y_shape[1:2]
        extra, start = self.extra(result_shape)
        function = getattr(wr, self.operation)
        result = self.attempt(
            lambda: function(*arguments, **options, **extra),
            inputs,
            extra.get("out"),
            geometry is not None and self.dtype.type in FLOATS and (edge is None or edge.sensible),
        )
        if isinstance(result, str):
            return result
        asked = options
        if edge:
            given, options = self.bordered(given, options, edge)
        images = self.n * max(self.channels, self.filters)
        if geometry and wide(geometry.windows) * max(1, images) > 20 * LARGEST:
            return "taken, too wide for the reference"
        if self.dtype.type in FLOATS:
            self.compare(result, given, options, extra, start, edge)
            if self.operation == "conv" and pick.random() < 0.3:
                self.compare_prepared(result, arguments, asked)
        else:
            self.compare_converted(result, given, options, edge)
        return "agrees"

    def bordered(self, given: list[Any], options: dict[str, Any], edge: Border) -> tuple[Any, Any]:
        """The same problem without padding, on images with their border."""
        given = list(given)
        if self.operation == "conv_grad_input":
            given[2] = edge.padded(given[2])
        else:
            at = 0 if self.operation == "conv" else 1
            given[at] = edge.extend(given[at])
        plain = {name: options[name] for name in ("stride", "dilation", "groups")}
        return given, {**plain, "padding": 0}

    def geometry(self, x_shape: Any, w_shape: Any, options: dict[str, Any]) -> Any:
        """The geometry of the call, or None where the arguments make no sense."""
        try:
            return wr.geometry.conv_geometry(
                x_shape, w_shape, *(options[name] for name in ("stride", "padding", "dilation", "groups"))
            )
        except (TypeError, ValueError):
            return None

    def extra(self, shape: tuple[int, ...]) -> tuple[dict[str, Any], Any]:
        """The other arguments, and what out= holds before the call."""
        pick = self.random
        extra: dict[str, Any] = {}
        start = None
        if pick.random() < 0.4 and self.dtype.type in FLOATS:
            extra["out"] = self.out(shape, self.dtype)
            if self.operation != "conv" and pick.random() < 0.5:
                extra["out"][...] = self.rng.integers(-3, 4, shape)
                extra["accumulate"] = True
            start = np.array(extra["out"])
        if pick.random() < 0.15 and self.operation != "conv_grad_bias":
            extra["max_workspace"] = pick.choice([1, 1000, 100_000, 2**40])
        return extra, start

    def compare(
        self,
        result: Any,
        given: Any,
        options: dict[str, Any],
        extra: dict[str, Any],
        start: Any,
        edge: Border | None,
    ) -> None:
        """Hold the result against the reference."""
        options = self.plain(options)
        with np.errstate(all="ignore"):
            try:
                exact = getattr(reference, self.operation)(*given, **options)
            except Exception as error:
                self.fail(f"the reference refuses it: {type(error).__name__}: {error}")
            bound = self.bound(given, options, extra)
            if edge and self.operation == "conv_grad_input":
                bound = edge.adjoint_bound(exact, bound, self.dtype)
                exact = edge.adjoint(exact)
        if result.shape != exact.shape or result.dtype != self.dtype:
            self.fail(f"{result.dtype} {result.shape} instead of {self.dtype} {exact.shape}")
        if extra.get("accumulate"):
            exact = exact + start.astype(exact.dtype)
            bound = bound + np.finfo(self.dtype).eps * np.abs(exact)
        error = np.abs(result.astype(np.longdouble) - exact)
        if not np.all(error <= bound):
            worst = np.max(error / np.maximum(bound, np.finfo(np.float64).tiny))
            self.fail(f"off by {worst} times the bound")

    def compare_prepared(self, result: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        """The same convolution with its weights kept makes the same bits."""
        x, *weights = arguments
        again = wr.prepare_conv(*weights, **options)(x)
        if again.tobytes() != result.tobytes():
            self.fail("other bits with prepared weights")

    def compare_converted(
        self, result: Any, given: Any, options: dict[str, Any], edge: Border | None
    ) -> None:
        """Sums of ones in another dtype: whole numbers, rounded once."""
        wide = [v.real.astype(np.float64) if isinstance(v, np.ndarray) else v for v in given]
        with np.errstate(over="ignore"):
            exact = getattr(reference, self.operation)(*wide, **self.plain(options))
            if edge and self.operation == "conv_grad_input":
                exact = edge.adjoint(exact)
            exact = exact.astype(self.dtype)
        if result.dtype != self.dtype or not np.array_equal(result, exact):
            self.fail(f"other values than the reference, in {result.dtype}")

    def bound(self, given: Any, options: dict[str, Any], extra: dict[str, Any]) -> Any:
        if self.operation != "conv_grad_weight":
            return getattr(tolerances, f"{self.operation}_error_bound")(*given, chunk=CHUNK, **options)
        _, x, w_shape = given
        limit = {"max_workspace": extra.get("max_workspace")}
        plan = wr.explain("conv_grad_weight", x.shape, w_shape, dtype=self.dtype, **options, **limit)
        return tolerances.conv_grad_weight_error_bound(*given, roundings=plan["roundings"], **options)
