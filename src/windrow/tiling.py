"""Patch round trips for images of any size: cut an image into tiles, work on them, blend them back."""

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np

from .arguments import Shape, axis_ints, int_argument, shape_argument, show, window_options
from .arrays import Array, as_operand, check_fold_dtype, check_out, empty, fill_value
from .geometry import check_shape, patch_geometry
from .unfolding import fold, total_dtype, unfold, window_weights

_REMAINDERS = ("pad", "shift", "drop")
_MAP_BYTES = 16 << 20  # of the patches that one step of `map` holds when it chooses the batch itself


def patches(
    shape: Any, kernel_size: Any, *, stride: Any = None, dilation: Any = 1, remainder: str = "pad"
) -> "Patches":
    """Lay patches over images of a shape, with nothing left over at the far sides.

    Parameters
    ----------
    shape : (N, C, spatial...)
        Shape of the images.
    kernel_size : int or one int per spatial axis
        Size of a patch.
    stride : int or one int per spatial axis, optional
        Step from patch to patch; the patch size by default, so that patches do not overlap.
    dilation : int or one int per spatial axis
    remainder : {"pad", "shift", "drop"}
        What becomes of pixels at the far side that whole steps leave over: "pad" covers them by a patch that
        reaches beyond the image, "shift" by a last patch moved back until it ends at the image's edge, "drop"
        leaves them out.

    Returns
    -------
    Patches
        With ``unfold``, ``fold``, ``map``, ``count`` and ``positions``.

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> x = np.arange(35.0).reshape(1, 1, 5, 7)
    >>> tiles = wr.patches(x.shape, 3, stride=2, remainder="shift")
    >>> tiles.count, tiles.positions[-1]
    (6, (2, 4))
    >>> p = tiles.unfold(x)
    >>> p.shape
    (1, 6, 1, 3, 3)
    >>> np.array_equal(tiles.fold(p, reduce="mean"), x)
    True
    """
    return Patches(shape, kernel_size, stride=stride, dilation=dilation, remainder=remainder)


class Patches:
    """Where the patches of an image lie; made by `windrow.patches`."""

    def __init__(
        self, shape: Any, kernel_size: Any, *, stride: Any = None, dilation: Any = 1, remainder: str = "pad"
    ) -> None:
        """See `windrow.patches`."""
        if not isinstance(remainder, str) or remainder not in _REMAINDERS:
            raise ValueError(f"remainder: expected 'pad', 'shift' or 'drop', got {show(remainder)}")
        x_shape = shape_argument("shape", shape)
        step = kernel_size if stride is None else stride
        padding: Any = 0
        if remainder == "pad" and len(x_shape) > 2:
            # An image smaller than a patch has one all the same.
            kernel = axis_ints("kernel_size", kernel_size)
            options = window_options(kernel, step, 0, dilation, len(x_shape) - 2)
            spans = [gap * (k - 1) + 1 for k, gap in zip(options.kernel_size, options.dilation)]
            padding = tuple((0, max(0, span - size)) for span, size in zip(spans, x_shape[2:]))
        # The windows that fit: this is also what checks every argument.
        geometry = patch_geometry(x_shape, kernel_size, step, padding, dilation, x_name="shape")
        self._windows = geometry.windows
        self.x_shape = x_shape
        self.remainder = remainder
        starts = []
        for size, kernel, pace, gap, _, count in zip(*self._windows, strict=True):
            span = gap * (kernel - 1) + 1
            first = [i * pace for i in range(count)]
            if remainder == "shift" and first[-1] + span < size:
                first.append(size - span)  # ends where the image does
            if remainder == "pad" and first[-1] + span < size and count * pace < size:
                first.append(count * pace)  # reaches beyond the image
            starts.append(tuple(first))
        self._starts = tuple(starts)

    @property
    def kernel_size(self) -> Shape:
        """Size of a patch."""
        return self._windows.kernel_size

    @property
    def grid(self) -> Shape:
        """How many patches there are along each spatial axis."""
        return tuple(len(first) for first in self._starts)

    @property
    def count(self) -> int:
        """How many patches an image has."""
        return prod(self.grid)

    @property
    def positions(self) -> list[Shape]:
        """The first pixel of every patch, in the order of the patches."""
        return [tuple(first[i] for first, i in zip(self._starts, at)) for at in np.ndindex(self.grid)]

    @property
    def shape(self) -> Shape:
        """Shape of what `unfold` gives: (N, count, C, kernel...)."""
        n, c = self.x_shape[:2]
        return (n, self.count, c, *self.kernel_size)

    def __repr__(self) -> str:
        """The call that makes the same object."""
        windows = self._windows
        return (
            f"patches({self.x_shape}, {windows.kernel_size}, stride={windows.stride}, "
            f"dilation={windows.dilation}, remainder={self.remainder!r})"
        )

    def unfold(self, x: Any, *, fill: Any = 0, out: Array | None = None) -> Array:
        """The patches of images: an array (N, count, C, kernel...) of x's dtype.

        `fill` is the value of what patches cover beyond the image. `out`, C-ordered, is written and returned.
        """
        x = as_operand("x", x)
        check_shape("x", x.shape, self.x_shape)
        if out is None:
            result = empty("patches", self.shape, x.dtype)
        else:
            result = check_out(out, self.shape, x.dtype, {"x": x})
            if not result.flags.c_contiguous:
                raise ValueError(f"out: expected a C-ordered array, got strides {result.strides}")
        grid = result.reshape(self.shape[0], *self.grid, *self.shape[2:])
        for block in self._blocks(self.count):
            self._cut(x, block, fill, grid[:, *(slice(low, high) for low, high in block)])
        return result if out is None else out

    def fold(
        self, p: Any, *, reduce: str = "sum", window: Any = None, uncovered: Any = 0, out: Array | None = None
    ) -> Array:
        """Patches (N, count, C, kernel...) put back into images, reduced where they overlap.

        `reduce`, `window` and `uncovered` are those of `windrow.fold`; what lies beyond the image is left
        out. The number of channels may be another than that of the images.
        """
        p = as_operand("p", p)
        expected = self.shape
        if p.ndim == len(expected):
            expected = (*expected[:2], p.shape[2], *expected[3:])
        check_shape("p", p.shape, expected)
        n, c = p.shape[0], p.shape[2]
        blend = _Blend(self, n, c, p.dtype, reduce, window, uncovered)
        if out is not None:
            check_out(out, (n, c, *self.x_shape[2:]), blend.dtype, {"p": p})
        grid = p.reshape(n, *self.grid, *p.shape[2:])
        for block in self._blocks(self.count):
            blend.add(slice(0, n), block, grid[:, *(slice(low, high) for low, high in block)])
        return blend.result(out)

    def map(
        self,
        f: Callable[[Array], Any],
        x: Any,
        *,
        batch: int | None = None,
        fill: Any = 0,
        reduce: str = "mean",
        window: Any = None,
        uncovered: Any = 0,
    ) -> Array:
        """Blend ``f(patches)`` back into images, one batch of patches after another.

        Parameters
        ----------
        f : function
            Of an array (batch, C, kernel...); returns one of the same shape, or with other channels.
        x : array (N, C, spatial...)
        batch : int, optional
            How many patches f sees at most; what makes 16 MiB by default. Beside x and the result (in the
            type that sums are held in), this bounds the memory in use.
        fill, reduce, window, uncovered
            As in `unfold` and `fold`.

        Examples
        --------
        >>> import numpy as np
        >>> import windrow as wr
        >>> x = np.arange(12.0).reshape(1, 1, 3, 4)
        >>> wr.patches(x.shape, 2, stride=1).map(lambda p: 2 * p, x, batch=2)
        array([[[[ 0.,  2.,  4.,  6.],
                 [ 8., 10., 12., 14.],
                 [16., 18., 20., 22.]]]])
        """
        x = as_operand("x", x)
        check_shape("x", x.shape, self.x_shape)
        n, c = x.shape[:2]
        if batch is None:
            batch = max(1, _MAP_BYTES // max(1, x.itemsize * c * prod(self.kernel_size)))
        batch = int_argument("batch", batch, 1)
        blend: _Blend | None = None
        images = max(1, batch // self.count)
        for first in range(0, n, images):
            some = slice(first, min(n, first + images))
            for block in self._blocks(batch):
                sizes = [high - low for low, high in block]
                part = np.empty((some.stop - first, *sizes, c, *self.kernel_size), x.dtype)
                self._cut(x[some], block, fill, part)
                part = part.reshape(-1, c, *self.kernel_size)
                made = as_operand("f", f(part))
                channels = made.shape[1] if made.ndim == part.ndim else c
                check_shape("f", made.shape, (len(part), channels, *self.kernel_size))
                if blend is None:
                    blend = _Blend(self, n, channels, made.dtype, reduce, window, uncovered)
                blend.add(some, block, made.reshape(-1, *sizes, channels, *self.kernel_size))
        if blend is None:  # no images
            blend = _Blend(self, n, c, x.dtype, reduce, window, uncovered)
        return blend.result(None)

    def _blocks(self, most: int) -> Iterator[tuple[tuple[int, int], ...]]:
        """Ranges of the grid, of at most so many patches, in which patches are evenly spaced."""
        longest = []
        for length in reversed(self.grid):
            longest.append(max(1, min(length, most)))
            most //= longest[-1]
        per_axis = []
        for first, pace, step in zip(self._starts, self._windows.stride, reversed(longest), strict=True):
            even = len(first) if first[-1] == (len(first) - 1) * pace else len(first) - 1
            cuts = [*range(0, even, step), even]
            if even < len(first):
                cuts.append(len(first))
            per_axis.append(list(pairwise(cuts)))
        return product(*per_axis)

    def _region(self, block: tuple[tuple[int, int], ...]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
        """The pixels that a block covers, and how many pixels beyond the image it reaches."""
        region, beyond = [], []
        windows = self._windows
        for (low, high), first, size, kernel, gap in zip(
            block, self._starts, windows.size, windows.kernel_size, windows.dilation, strict=True
        ):
            end = first[high - 1] + gap * (kernel - 1) + 1
            region.append(slice(first[low], min(end, size)))
            beyond.append(max(0, end - size))
        return tuple(region), tuple(beyond)

    def _options(self, beyond: Shape) -> dict[str, Any]:
        rank = len(beyond)
        places, taps = (" ".join(f"{whole}{axis}" for axis in range(rank)) for whole in "lk")
        return {
            "stride": self._windows.stride,
            "dilation": self._windows.dilation,
            "padding": tuple((0, after) for after in beyond),
            "layout": f"n {places} c {taps}",
        }

    def _cut(self, x: Array, block: tuple[tuple[int, int], ...], fill: Any, out: Array) -> None:
        region, beyond = self._region(block)
        unfold(x[:, :, *region], self.kernel_size, fill=fill, out=out, **self._options(beyond))


class _Blend:
    """Images that patches are added to, block after block, and divided at the end by what came together."""

    def __init__(
        self, tiles: Patches, n: int, c: int, dtype: np.dtype[Any], reduce: str, window: Any, uncovered: Any
    ) -> None:
        windows = tiles._windows
        self.dtype = dtype.newbyteorder("=")
        check_fold_dtype("p", np.empty(0, self.dtype), reduce)
        self._tiles, self._reduce = tiles, reduce
        self._uncovered = fill_value("uncovered", uncovered, self.dtype)
        self._total_dtype = np.dtype(np.float32) if self.dtype == np.float16 else self.dtype
        self._weights: Array | None = None
        if window is not None:
            self._weights = window_weights("p", window, windows, self.dtype, reduce)
        start: Any = 0
        if reduce in ("max", "min"):
            low = -np.inf if self.dtype.kind == "f" else np.iinfo(self.dtype).min
            start = low if reduce == "max" else (np.inf if low == -np.inf else np.iinfo(self.dtype).max)
        self._start = start
        self._totals = empty("x", (n, c, *windows.size), self._total_dtype)
        self._totals[...] = start

    def add(self, images: slice, block: tuple[tuple[int, int], ...], p: Array) -> None:
        """Add the patches (n, grid..., c, kernel...) of a block."""
        p = p.astype(self._total_dtype, copy=False)
        if self._weights is not None:
            p = p * self._weights.astype(total_dtype(self.dtype))
        region, _ = self._tiles._region(block)
        target = self._totals[images, :, *region]
        part = self._fold(p, block, self._reduce if self._reduce in ("max", "min") else "sum")
        if self._reduce == "max":
            np.maximum(target, part, out=target)
        elif self._reduce == "min":
            np.minimum(target, part, out=target)
        else:
            np.add(target, part, out=target)

    def _fold(self, p: Array, block: tuple[tuple[int, int], ...], reduce: str) -> Array:
        region, beyond = self._tiles._region(block)
        size = tuple(side.stop - side.start for side in region)
        options = self._tiles._options(beyond)
        uncovered = self._start if reduce in ("max", "min") else 0
        return fold(p, size, self._tiles.kernel_size, reduce=reduce, uncovered=uncovered, **options)

    def result(self, out: Array | None) -> Array:
        """The images; nothing can be added afterwards."""
        weight = self._coverage()
        totals = self._totals
        if self._reduce == "mean" or self._weights is not None:
            with np.errstate(all="ignore"):
                np.divide(totals, np.where(weight == 0, 1, weight), out=totals)
        np.copyto(totals, self._uncovered.astype(self._total_dtype), where=weight == 0)
        if out is None:
            with np.errstate(over="ignore"):
                return totals.astype(self.dtype, copy=False)
        with np.errstate(over="ignore"):
            out[...] = totals
        return out

    def _coverage(self) -> Array:
        """The weights that come together at each pixel; how many patches do, without a window."""
        tiles = self._tiles
        real = total_dtype(self.dtype)
        if self.dtype.kind in "iu":
            real = np.dtype(np.float64)  # counts only
        weights = np.ones(tiles.kernel_size) if self._weights is None else self._weights
        coverage = np.zeros(tiles._windows.size, real)
        for block in tiles._blocks(tiles.count):
            sizes = [high - low for low, high in block]
            p = np.broadcast_to(weights.astype(real), (1, *sizes, 1, *tiles.kernel_size))
            region, beyond = tiles._region(block)
            size = tuple(side.stop - side.start for side in region)
            coverage[region] += fold(p, size, tiles.kernel_size, **tiles._options(beyond))[0, 0]
        return coverage
