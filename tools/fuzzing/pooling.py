"""Arbitrary calls of pooling, on small whole numbers, whose sums are exact, or norms of them."""

import math
from typing import Any

import numpy as np
from tests import tolerances

import windrow as wr
from windrow import reference

from . import border
from .border import Border
from .case import LARGEST, Case, wide

BACKWARD = ("avg_pool_backward", "lp_pool_backward")


class PoolingCase(Case):
    """max_pool with and without indices, avg_pool, lp_pool and the gradients of these two."""

    operations = ("max_pool", "max_pool_with_indices", "avg_pool", "lp_pool", *BACKWARD)
    names = frozenset(
        [
            "x",
            "dy",
            "out",
            "x_shape",
            "kernel_size",
            "p",
            "stride",
            "padding",
            "dilation",
            "ceil_mode",
            "count_include_pad",
            "padding_mode",
            "fill",
        ]
    )

    def run(self) -> str:
        """Do the call and judge it."""
        pick = self.random
        options = {
            "kernel_size": self.sequence(self.kernel),
            **self.windows(),
            "ceil_mode": pick.random() < 0.4,
        }
        if self.operation.startswith("avg"):
            options["count_include_pad"] = pick.random() < 0.5
        if self.operation.startswith("lp"):
            options["p"] = pick.choice([1, 2, 2, 3, 1.5, np.inf])
        if self.wild and pick.random() < 0.3:
            self.spoil(options)
        x_shape = (self.n, self.channels, *self.size)
        geometry = self.geometry(x_shape, options)
        edge = border.draw(pick, x_shape, geometry and geometry.windows, options, wild=self.wild)
        if edge and geometry and wide(geometry.windows) <= LARGEST:
            # The last window of ceil_mode may begin in the border.
            geometry = self.geometry(edge.padded(x_shape), {**options, "padding": 0})
        taps = (*geometry.y_shape, *geometry.windows.kernel_size) if geometry else ()
        amounts = x_shape, taps, (border.amount(edge, x_shape),)
        if max(math.prod(max(1, size) for size in sizes) for sizes in amounts) > LARGEST:
            return "too large for the reference"
        plain = {"x": self.rng.integers(-9, 10, x_shape).astype(self.dtype)}
        if self.operation in BACKWARD:
            plain["dy"] = self.rng.integers(-9, 10, geometry.y_shape if geometry else x_shape).astype(
                self.dtype
            )
        if self.wild and pick.random() < 0.1:
            other = np.dtype(pick.choice(["f2", "i4", "?", "c16", "O"]))
            plain = {name: value.astype(other) for name, value in plain.items()}
        elif pick.random() < 0.2 and plain["x"].size and self.operation.startswith(("max", "avg")):
            plain["x"].flat[pick.randrange(plain["x"].size)] = pick.choice([np.nan, np.inf, -np.inf])
        taken = {"avg_pool_backward": ("dy",), "lp_pool_backward": ("dy", "x")}.get(self.operation, ("x",))
        inputs = {name: self.dress(plain[name]) for name in taken}
        given = [np.array(np.asarray(value)) for value in inputs.values()]
        arguments = list(inputs.values())
        if self.operation == "avg_pool_backward":
            arguments.append(x_shape)
            given.append(x_shape)
        function = getattr(wr, self.operation)
        sensible = geometry is not None and plain["x"].dtype == self.dtype and (not edge or edge.sensible)
        result = self.attempt(lambda: function(*arguments, **options), inputs, None, sensible)
        if isinstance(result, str):
            return result
        if geometry is None or wide(geometry.windows) > LARGEST:
            return "taken, too wide for the reference"
        self.compare(result, given, self.plain(options), edge)
        if self.operation != "max_pool_with_indices":
            out = self.out(result.shape, result.dtype)
            again = self.attempt(lambda: function(*arguments, **options, out=out), inputs, out, True)
            self.same_again(again, result)
        return "agrees"

    def compare(self, result: Any, given: list[Any], options: dict[str, Any], edge: Border | None) -> None:
        """Hold the result against the reference."""
        if edge:
            options = {**options, "padding": 0}
            del options["padding_mode"]
            options.pop("fill", None)
            given[-1] = edge.padded(given[-1]) if isinstance(given[-1], tuple) else edge.extend(given[-1])
        with np.errstate(all="ignore"):
            if self.operation.startswith("max"):
                self.compare_maxima(result, given[0], options, edge)
                return
            function = getattr(reference, self.operation)
            if self.operation == "avg_pool":  # rounded once
                if not np.array_equal(result, function(*given, **options), equal_nan=True):
                    self.fail("other values than the reference")
                return
            exact = function(*given, **options, dtype=np.longdouble)
            bound = self.bound(function, given, options)
            if edge and self.operation in BACKWARD:
                bound = edge.adjoint_bound(exact, bound, self.dtype)
                exact = edge.adjoint(exact)
            same = (result == exact) | (np.isnan(result) & np.isnan(exact))  # both may have overflowed
            if result.shape != exact.shape or not np.all(same | (np.abs(result - exact) <= bound)):
                self.fail("other values than the reference")

    def compare_maxima(self, result: Any, x: Any, options: dict[str, Any], edge: Border | None) -> None:
        expected, places = reference.max_pool_with_indices(x, **options)
        if edge:  # a place is that of the pixel repeated
            size = (1, 1, *self.size)
            numbers = np.arange(math.prod(self.size)).reshape(size)
            origins = reference.extend(numbers, edge.padding, edge.mode, -1).reshape(-1)
            places = np.append(origins, -1)[places]
        results = result if self.operation == "max_pool_with_indices" else (result,)
        for mine, theirs in zip(results, (expected, places), strict=False):
            if not np.array_equal(mine, theirs, equal_nan=True):
                self.fail("other values than the reference")

    def bound(self, function: Any, given: list[Any], options: dict[str, Any]) -> Any:
        """Of norms, and of the shares that are added up in a gradient."""
        sizes = [np.abs(value) if isinstance(value, np.ndarray) else value for value in given]
        size = function(*sizes, **options, dtype=np.longdouble)
        roundings: float = math.prod(self.kernel) + 1
        if self.operation == "lp_pool":
            roundings = tolerances.lp_pool_roundings(self.kernel, options["p"])
        elif self.operation == "lp_pool_backward":
            roundings = tolerances.lp_pool_backward_roundings(self.kernel, options["p"])
        return roundings * np.finfo(self.dtype).eps * size

    def geometry(self, x_shape: Any, options: dict[str, Any]) -> Any:
        """The geometry of the call, or None where the arguments make no sense."""
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        if type(options.get("count_include_pad", True)) is not bool:
            return None
        p = options.get("p", 2)
        if type(p) not in (int, float) or not p >= 1:
            return None
        try:
            return wr.geometry.pool_geometry(x_shape, *(options[name] for name in names))
        except (TypeError, ValueError):
            return None
