"""Arbitrary calls of conv_transpose."""

import math
from typing import Any

import numpy as np
from tests import tolerances

import windrow as wr
from windrow import reference

from . import border
from .border import Border
from .case import LARGEST, Case
from .convolution import CHUNK, FLOATS


class TransposedCase(Case):
    """conv_transpose on float32 or float64, now and then on something else."""

    operations = ("conv_transpose",)
    names = frozenset(
        [
            "x",
            "w",
            "b",
            "out",
            "stride",
            "padding",
            "output_padding",
            "output_size",
            "dilation",
            "groups",
            "padding_mode",
            "max_workspace",
        ]
    )

    def run(self) -> str:
        """Do the call and judge it."""
        pick = self.random
        options = {**self.windows(), "groups": self.groups, "output_padding": pick.choice([0, 0, 0, 1, 2])}
        if self.wild and pick.random() < 0.3:
            self.spoil(options)
        x_shape = (self.n, self.channels, *self.size)
        w_shape = (self.channels, self.filters // max(self.groups, 1), *self.kernel)
        geometry = self.geometry(x_shape, w_shape, options)
        terms = (*x_shape, *w_shape[1:])
        pixels = geometry.x_shape if geometry else ()
        edge = border.draw(pick, pixels, geometry and geometry.windows, options, wild=self.wild)
        if edge:
            options.pop("fill", None)  # what comes to the border is dropped, or added to what it repeats
            edge = edge._replace(fill=0, sensible=edge.sensible or options["padding_mode"] == "constant")
        amounts = terms, pixels, w_shape, (border.amount(edge, pixels),)
        if max(math.prod(max(1, size) for size in sizes) for sizes in amounts) > LARGEST:
            return "too large for the reference"
        shapes = {"x": x_shape, "w": w_shape, "b": (w_shape[1] * self.groups,)}
        if self.wild and pick.random() < 0.1:
            self.dtype = np.dtype(pick.choice(["f2", "i4", "?", "c16", "O"]))
            plain = {name: np.ones(shape, int).astype(self.dtype) for name, shape in shapes.items()}
        else:
            plain = {name: self.values(shape) for name, shape in shapes.items()}
        names = ("x", "w", "b") if pick.random() < 0.5 else ("x", "w")
        inputs = {name: self.dress(plain[name]) for name in names}
        given = [np.array(np.asarray(value)) for value in inputs.values()]
        sensible = geometry is not None and self.dtype.type in FLOATS and (edge is None or edge.sensible)
        result = self.attempt(lambda: wr.conv_transpose(*inputs.values(), **options), inputs, None, sensible)
        if isinstance(result, str):
            return result
        # The reference surrounds x with zeros as far as windows and result reach, and spreads all that.
        win = geometry.windows
        sides = zip(win.size, win.kernel_size, win.stride, win.dilation, win.padding, self.size, strict=True)
        reached = math.prod(
            (size + before + d * (k - 1) + position) * stride
            for size, k, stride, d, (before, _), position in sides
        )
        if reached * max(1, self.n * max(self.channels, self.filters)) > LARGEST:
            return "taken, too wide for the reference"
        self.compare(result, given, self.plain(options), geometry.x_shape, edge)
        return "agrees"

    def compare(
        self,
        result: Any,
        given: list[Any],
        options: dict[str, Any],
        shape: tuple[int, ...],
        edge: Border | None,
    ) -> None:
        """Hold the result against the reference, within the bound of a sum of so many terms."""
        function = self.spread_over(shape, options, edge) if edge else self.spread(options)
        with np.errstate(all="ignore"):
            exact = function(*given)
            size = function(*(np.abs(array.astype(np.float64)) for array in given))
        terms = self.channels // max(self.groups, 1) * math.prod(self.kernel)
        places = 0
        if edge:  # of the border, added to one pixel
            places = edge.adjoint(np.ones(edge.padded(shape)))
        info = np.finfo(self.dtype)
        bound = (
            tolerances.dot_error_factor(CHUNK, terms) + 1 + places
        ) * info.eps * size + terms * info.smallest_subnormal
        if result.shape != exact.shape or result.dtype != self.dtype:
            self.fail(f"{result.dtype} {result.shape} instead of {self.dtype} {exact.shape}")
        if not np.all(np.abs(result.astype(np.longdouble) - exact) <= bound):
            self.fail("off by more than the bound")

    def spread(self, options: dict[str, Any]) -> Any:
        """The reference."""
        return lambda *given: reference.conv_transpose(*given, **options, dtype=np.longdouble)

    def spread_over(self, shape: tuple[int, ...], options: dict[str, Any], edge: Border) -> Any:
        """The reference on an image with its border, whose sums then go where it repeats."""
        plain = {name: options[name] for name in ("stride", "dilation", "groups")}

        def function(x: Any, w: Any, b: Any = 0) -> Any:
            padded = reference.conv_grad_input(x, w, edge.padded(shape), **plain, dtype=np.longdouble)
            return edge.adjoint(padded) + np.reshape(b, (-1, *(1,) * (x.ndim - 2)))

        return function

    def geometry(self, x_shape: Any, w_shape: Any, options: dict[str, Any]) -> Any:
        """The geometry of the call, or None where the arguments make no sense."""
        names = ("stride", "padding", "dilation", "groups")
        try:
            return wr.geometry.transposed_geometry(
                x_shape, w_shape, *(options[name] for name in names), output_padding=options["output_padding"]
            )
        except (TypeError, ValueError):
            return None
