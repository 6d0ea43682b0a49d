"""Generated problems: small geometries of any rank, with every parameter that they can have."""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st


class Problem(NamedTuple):
    """A convolution or patch problem; ``geometry`` holds the keywords that unfold and conv share."""

    batch: int
    channels: int
    filters: int
    groups: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    geometry: dict[str, Any]
    seed: int

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.filters, self.channels // self.groups, *self.kernel)

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


@st.composite
def problems(draw: Any, max_rank: int = 3, max_batch: int = 2, max_group_size: int = 3) -> Problem:
    """Problems whose window fits the padded image, though not always the image."""
    rank = draw(st.integers(1, max_rank))
    groups = draw(st.integers(1, 3))
    per_axis = st.integers(1, 3)
    kernel, stride, dilation, size, pads = [], [], [], [], []
    for _ in range(rank):
        kernel.append(draw(per_axis))
        stride.append(draw(per_axis))
        dilation.append(draw(per_axis))
        pads.append((draw(st.integers(0, 3)), draw(st.integers(0, 3))))
        extent = dilation[-1] * (kernel[-1] - 1) + 1
        smallest = max(1, extent - sum(pads[-1]))
        size.append(draw(st.integers(smallest, smallest + {1: 8, 2: 5}.get(rank, 3))))
    empty = draw(st.sampled_from([None] * 9 + ["batch", "channels", "filters"]))
    count = st.sampled_from([2, 1, 3][:max_group_size])
    return Problem(
        batch=0 if empty == "batch" else draw(st.integers(1, max_batch)),
        channels=0 if empty == "channels" else groups * draw(count),
        filters=0 if empty == "filters" else groups * draw(count),
        groups=groups,
        size=tuple(size),
        kernel=tuple(kernel),
        geometry={"stride": tuple(stride), "padding": tuple(pads), "dilation": tuple(dilation)},
        seed=draw(st.integers(0, 2**32 - 1)),
    )
