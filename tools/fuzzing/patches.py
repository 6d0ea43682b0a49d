"""Arbitrary calls of unfold, im2col, fold and col2im, on values whose sums are exact."""

import math
from typing import Any

import numpy as np

import windrow as wr
from windrow import reference

from . import border
from .border import Border
from .case import LARGEST, Case, wide

DTYPES = (
    *("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"),
    *("m8[s]", "M8[us]", "V5", "O", "S3", "U2", "g", "G"),
    [("a", "i1"), ("b", "f8")],
)


class PatchesCase(Case):
    """Any dtype, any layout."""

    operations = ("unfold", "im2col", "fold", "col2im")
    names = frozenset(
        [
            "x",
            "cols",
            "out",
            "kernel_size",
            "output_size",
            "x_shape",
            "stride",
            "padding",
            "dilation",
            "layout",
            "padding_mode",
            "fill",
            "reduce",
            "window",
            "uncovered",
        ]
    )

    def run(self) -> str:
        """Do the call and judge it."""
        pick = self.random
        self.dtype = np.dtype(pick.choice(DTYPES))
        options = {"kernel_size": self.sequence(self.kernel), **self.windows()}
        options["layout"] = self.layout()
        if self.wild and pick.random() < 0.3:
            self.spoil(options)
        geometry = self.geometry(options)
        unfolds = self.operation in ("unfold", "im2col")
        x_shape = (self.n, self.channels, *self.size)
        edge = border.draw(pick, x_shape, geometry and geometry.windows, options, wild=self.wild)
        if edge and not (unfolds and self.dtype.kind in "iufc"):
            options.pop("fill", None)  # what is folded has none, and not every dtype has a 3
            edge = edge._replace(fill=0)
        if edge and options["padding_mode"] == "constant" and "fill" not in options:
            edge = None  # nothing but zeros
            del options["padding_mode"]
        if max(math.prod(max(1, v) for v in shape) for shape in self.amounts(geometry)) > LARGEST:
            return "too large for the reference"
        if unfolds or geometry is None:
            plain = self.elements(x_shape)
        else:
            numbers = self.elements(x_shape)
            windows = {name: options[name] for name in options if name != "padding_mode"}
            columns = reference.unfold(numbers, form="sliding", **self.plain(windows))
            plain = self.elements(columns.shape)
        data = self.dress(plain)
        given = np.array(np.asarray(data))
        arguments = [data]
        extra: dict[str, Any] = {}
        if self.operation == "fold":
            arguments.append(tuple(self.size))
        elif self.operation == "col2im":
            arguments.append(x_shape)
        if not unfolds:
            extra["reduce"] = pick.choice(["sum", "sum", "mean", "max", "min"])
            if pick.random() < 0.2:
                extra["uncovered"] = pick.choice([0, 1, 7])
        function = getattr(wr, self.operation)
        # Columns may not say what N and C are, and many dtypes have no sum.
        sensible = unfolds and geometry is not None and self.dtype.kind not in "OSU"
        sensible = sensible and (edge is None or edge.sensible)
        result = self.attempt(lambda: function(*arguments, **options, **extra), {"x": data}, None, sensible)
        if isinstance(result, str):
            return result
        if geometry is None or wide(geometry.windows) > LARGEST:
            return "taken, too wide for the reference"
        if edge:
            exact = self.expected_bordered(given, arguments[1:], self.plain(options), extra, edge)
        else:
            exact = self.expected(given, arguments[1:], self.plain(options), extra)
        if result.dtype != exact.dtype or result.shape != exact.shape:
            self.fail(f"{result.dtype} {result.shape} instead of {exact.dtype} {exact.shape}")
        if result.tobytes() != exact.tobytes() and not np.array_equal(result, exact):
            self.fail("other values than the reference")
        out = self.out(exact.shape, exact.dtype)
        extra["out"] = out
        again = self.attempt(lambda: function(*arguments, **options, **extra), {"x": data}, out, True)
        if np.array(again).tobytes() != np.array(result).tobytes():
            self.fail("other bits with out=")
        return "agrees"

    def expected(self, given: Any, sizes: list[Any], options: dict[str, Any], extra: dict[str, Any]) -> Any:
        """What the reference makes of it; the means of complex numbers part by part."""
        function = getattr(reference, self.operation)
        kernel = options.pop("kernel_size")
        if self.dtype.kind == "c" and sizes:
            real = function(given.real, *sizes, kernel, form="sliding", **options, **extra)
            imag = function(
                given.imag, *sizes, kernel, form="sliding", **options, **{**extra, "uncovered": 0}
            )
            return (real + 1j * imag).astype(self.dtype)
        return function(given, *sizes, kernel, form="sliding", **options, **extra)

    def expected_bordered(
        self, given: Any, sizes: list[Any], options: dict[str, Any], extra: dict[str, Any], edge: Border
    ) -> Any:
        """The same without padding, on images with their border; sums go back to the pixels it repeats."""
        function = getattr(reference, self.operation)
        kernel, layout = options["kernel_size"], options["layout"]
        plain = {"stride": options["stride"], "dilation": options["dilation"], "layout": layout}
        if not sizes:
            return function(edge.extend(given), kernel, form="sliding", **plain)
        padded = edge.padded((self.n, self.channels, *self.size))
        padded = padded[2:] if self.operation == "fold" else padded

        def total(cols: Any) -> Any:
            return edge.adjoint(function(cols, padded, kernel, form="sliding", **plain))

        counts = total(np.ones(given.shape))
        parts = [given.real, given.imag] if given.dtype.kind == "c" else [given]
        values = []
        for part, uncovered in zip(parts, (extra.get("uncovered", 0), 0), strict=False):
            wide = np.dtype(np.float32) if part.dtype == np.float16 else part.dtype.newbyteorder("=")
            value = total(part.astype(wide))
            if extra["reduce"] == "mean":
                value = value / np.maximum(counts, 1).astype(wide)
            values.append(np.where(counts == 0, np.asarray(uncovered).astype(wide), value))
        result = values[0] + 1j * values[1] if len(values) > 1 else values[0]
        return result.astype(given.dtype.newbyteorder("="))

    def geometry(self, options: dict[str, Any]) -> Any:
        """The geometry of the call, or None where the arguments make no sense."""
        windows = {name: options[name] for name in ("kernel_size", "stride", "padding", "dilation")}
        try:
            wr.layout.parse_layout(options["layout"], len(self.size))
            return wr.geometry.patch_geometry((self.n, self.channels, *self.size), **windows)
        except (TypeError, ValueError):
            return None

    def amounts(self, geometry: Any) -> list[tuple[int, ...]]:
        shapes = [(self.n, self.channels, *self.size)]
        if geometry:
            shapes.append(
                (self.n, self.channels, *geometry.windows.kernel_size, *geometry.windows.output_size)
            )
            shapes.append((self.n, self.channels, wide(geometry.windows)))
        return shapes

    def elements(self, shape: tuple[int, ...]) -> Any:
        """Small whole numbers of the dtype: their sums are exact, their elements differ."""
        numbers = self.rng.integers(-9, 10, shape)
        if self.dtype.kind == "V":
            return (
                self.rng.integers(0, 256, (*shape, self.dtype.itemsize), np.uint8)
                .view(self.dtype)
                .reshape(shape)
            )
        if self.dtype.kind == "c":
            return (numbers + 1j * self.rng.integers(-9, 10, shape)).astype(self.dtype)
        return numbers.astype(self.dtype)

    def layout(self) -> str:
        """Any permutation and grouping, sometimes of the axes one by one."""
        pick = self.random
        rank = len(self.size)
        names = ["n", "c"]
        for axis in "kl":
            names += [axis] if pick.random() < 0.7 else [f"{axis}{i}" for i in range(rank)]
        pick.shuffle(names)
        if self.wild and pick.random() < 0.1:
            names.append(pick.choice(["n", "q", "(", "k k", ""]))
        words = []
        while names:
            count = pick.choice([1, 1, 1, 2, 3])
            group, names = names[:count], names[count:]
            words.append(f"({' '.join(group)})" if len(group) > 1 else group[0])
        return " ".join(words)
