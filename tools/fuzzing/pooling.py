"""Arbitrary calls of pooling, on small whole numbers, whose sums are exact."""

import math
from typing import Any

import numpy as np

import windrow as wr
from windrow import reference

from .case import LARGEST, Case, wide


class PoolingCase(Case):
    """max_pool with and without indices, avg_pool and its gradient."""

    operations = ("max_pool", "max_pool_with_indices", "avg_pool", "avg_pool_backward")
    names = frozenset(
        [
            "x",
            "dy",
            "out",
            "x_shape",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "ceil_mode",
            "count_include_pad",
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
        if self.wild and pick.random() < 0.3:
            self.spoil(options)
        x_shape = (self.n, self.channels, *self.size)
        geometry = self.geometry(x_shape, options)
        taps = (*geometry.y_shape, *geometry.windows.kernel_size) if geometry else ()
        backward = self.operation == "avg_pool_backward"
        shape = geometry.y_shape if backward and geometry else x_shape
        if max(math.prod(max(1, size) for size in sizes) for sizes in (x_shape, taps)) > LARGEST:
            return "too large for the reference"
        plain = self.rng.integers(-9, 10, shape).astype(self.dtype)
        if self.wild and pick.random() < 0.1:
            plain = plain.astype(np.dtype(pick.choice(["f2", "i4", "?", "c16", "O"])))
        elif pick.random() < 0.2 and plain.size and not backward:
            plain.flat[pick.randrange(plain.size)] = pick.choice([np.nan, np.inf, -np.inf])
        data = self.dress(plain)
        given = np.array(np.asarray(data))
        arguments = [data, x_shape] if backward else [data]
        function = getattr(wr, self.operation)
        sensible = geometry is not None and plain.dtype == self.dtype
        inputs = {"dy" if backward else "x": data}
        result = self.attempt(lambda: function(*arguments, **options), inputs, None, sensible)
        if isinstance(result, str):
            return result
        if geometry is None or wide(geometry.windows) > LARGEST:
            return "taken, too wide for the reference"
        self.compare(result, given, x_shape, self.plain(options))
        if self.operation != "max_pool_with_indices":
            out = self.out(result.shape, result.dtype)
            again = self.attempt(lambda: function(*arguments, **options, out=out), inputs, out, True)
            if np.array(again).tobytes() != np.array(result).tobytes():
                self.fail("other bits with out=")
        return "agrees"

    def compare(self, result: Any, given: Any, x_shape: Any, options: dict[str, Any]) -> None:
        """Hold the result against the reference: all is exact but the shares of a mean, added up."""
        with np.errstate(all="ignore"):
            if self.operation == "avg_pool_backward":
                exact = reference.avg_pool_backward(given, x_shape, **options, dtype=np.longdouble)
                size = reference.avg_pool_backward(np.abs(given), x_shape, **options, dtype=np.longdouble)
                bound = (math.prod(self.kernel) + 1) * np.finfo(self.dtype).eps * size
                if result.shape != exact.shape or not np.all(np.abs(result - exact) <= bound):
                    self.fail("other values than the reference")
                return
            if self.operation == "avg_pool":
                expected: tuple[Any, ...] = (reference.avg_pool(given, **options),)
            else:
                expected = reference.max_pool_with_indices(given, **options)
        results = result if self.operation == "max_pool_with_indices" else (result,)
        for mine, theirs in zip(results, expected, strict=False):
            if not np.array_equal(mine, theirs, equal_nan=True):
                self.fail("other values than the reference")

    def geometry(self, x_shape: Any, options: dict[str, Any]) -> Any:
        """The geometry of the call, or None where the arguments make no sense."""
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        if type(options.get("count_include_pad", True)) is not bool:
            return None
        try:
            return wr.geometry.pool_geometry(x_shape, *(options[name] for name in names))
        except (TypeError, ValueError):
            return None
