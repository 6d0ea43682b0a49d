"""The arithmetic of windows: how many there are and where each one lies.

Everything else in this package follows from one line. Along one axis, tap ``k`` of the window at output
position ``l`` looks at the pixel

    i = l * stride + k * dilation - before

where ``before`` is the padding in front of the image. A pixel with ``0 <= i < size`` is inside the image; any
other lies in the padding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Windows(NamedTuple):
    """The windows of one problem: one entry per spatial axis in every field."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    output: tuple[int, ...]

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.size)

    def pixel(self, tap: Sequence[int], position: Sequence[int]) -> tuple[int, ...]:
        """Which pixel tap ``tap`` of the window at ``position`` looks at; it may lie outside the image.

        >>> windows((5,), 3, stride=2, padding=1).pixel((0,), (0,))
        (-1,)
        """
        return tuple(
            l * s + k * d - before
            for l, s, k, d, (before, _) in zip(
                position, self.stride, tap, self.dilation, self.pads, strict=True
            )
        )

    def inside(self, pixel: Sequence[int]) -> bool:
        """Whether a pixel lies in the image rather than in its padding."""
        return all(0 <= i < size for i, size in zip(pixel, self.size, strict=True))


def windows(
    size: Sequence[int], kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> Windows:
    """Lay windows over an image.

    ``output = floor((size + pads - dilation * (kernel - 1) - 1) / stride) + 1``

    >>> windows((5, 7), (3, 2), stride=2, padding=(1, 0)).output
    (3, 3)
    """
    size = tuple(size)
    kernel, strides, dilations = (per_axis(value, len(size)) for value in (kernel_size, stride, dilation))
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    pads = pad_pairs(padding, size, extent, strides)
    output = tuple(
        (i + before + after - e) // s + 1
        for i, (before, after), e, s in zip(size, pads, extent, strides, strict=True)
    )
    return Windows(size, kernel, strides, dilations, pads, output)


def per_axis(value: Any, rank: int) -> tuple[int, ...]:
    """Repeat one integer for every axis; a sequence already has one per axis.

    >>> per_axis(3, 2), per_axis((3, 5), 2)
    ((3, 3), (3, 5))
    """
    return tuple(int(v) for v in value) if isinstance(value, Sequence) else (int(value),) * rank


def pad_pairs(
    padding: Any, size: tuple[int, ...], extent: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """The (before, after) padding of every axis.

    "same" keeps ``ceil(size / stride)`` positions; where its total is odd, the odd one goes after ("same") or
    before ("same_lower").

    >>> pad_pairs("same", (6,), (4,), (1,)), pad_pairs("same_lower", (6,), (4,), (1,))
    (((1, 2),), ((2, 1),))
    >>> pad_pairs(((0, 2), (1, 1)), (6, 6), (3, 3), (1, 1))
    ((0, 2), (1, 1))
    """
    if padding == "valid":
        padding = 0
    if padding in ("same", "same_lower"):
        totals = [max((-(-i // s) - 1) * s + e - i, 0) for i, e, s in zip(size, extent, stride, strict=True)]
        if padding == "same":
            return tuple((total // 2, total - total // 2) for total in totals)
        return tuple((total - total // 2, total // 2) for total in totals)
    if not isinstance(padding, Sequence):
        padding = (padding,) * len(size)
    return tuple((int(p[0]), int(p[1])) if isinstance(p, Sequence) else (int(p), int(p)) for p in padding)
