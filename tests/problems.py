"""Generated convolution problems, and the arrays for them, in every memory layout that NumPy has."""

from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np

from windrow.geometry import conv_geometry


class Problem(NamedTuple):
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    options: dict[str, Any]

    @property
    def y_shape(self) -> tuple[int, ...]:
        return conv_geometry(self.x_shape, self.w_shape, *self.options.values()).y_shape


@st.composite
def problems(draw: st.DrawFn, *, max_rank: int = 3, max_channels: int = 20) -> Problem:
    """Shapes whose windows fit, with groups, unequal padding and strides longer than the window."""
    rank = draw(st.integers(1, max_rank))
    longest = {1: 70, 2: 20, 3: 7}.get(rank, 4)
    size, kernel, stride, dilation, padding = [], [], [], [], []
    for _ in range(rank):
        k, d = draw(st.integers(1, 5 if rank < 3 else 3)), draw(st.integers(1, 3))
        span = d * (k - 1) + 1
        s = draw(st.integers(1, longest))
        before, after = draw(st.integers(0, span + 1)), draw(st.integers(0, span + 1))
        short = max(0, span - s - before - after)
        size.append(s)
        kernel.append(k)
        dilation.append(d)
        padding.append((before, after + short))
        stride.append(draw(st.integers(1, 4)))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    per_group = draw(st.integers(0 if draw(st.integers(0, 19)) == 0 else 1, max(1, max_channels // groups)))
    filters = groups * draw(st.integers(1, max(1, max_channels // groups)))
    n = draw(st.sampled_from([0, 1, 1, 2, 3]))
    return Problem(
        (n, per_group * groups, *size),
        (filters, per_group, *kernel),
        {
            "stride": tuple(stride),
            "padding": tuple(padding),
            "dilation": tuple(dilation),
            "groups": groups,
        },
    )


def scrambled(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """The same values behind other strides: a permuted memory order, gaps and reversed axes."""
    order = rng.permutation(array.ndim)
    gaps = rng.integers(1, 3, array.ndim)
    wide = np.full([array.shape[axis] * gaps[axis] for axis in order], np.nan, array.dtype)
    view = wide.transpose(np.argsort(order))
    view = view[tuple(slice(None, None, gap) for gap in gaps)]
    view = view[tuple(slice(None, None, rng.choice([-1, 1])) for _ in range(array.ndim))]
    view[...] = array
    return view


def channels_last(array: np.ndarray) -> np.ndarray:
    """The same array with the channel axis innermost in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
