"""Generated pooling problems, and the images for them."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, settings

from tests.examples import number
from tests.problems import channels_last, scrambled
from windrow import reference

many = settings(max_examples=number(80), suppress_health_check=[HealthCheck.too_slow])
dtypes = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)


@st.composite
def problems(draw, *, max_rank=3, kernels=(1, 2, 3, 4)):
    """A shape, a kernel and options whose windows fit, some of them all padding."""
    rank = draw(st.integers(1, max_rank))
    longest = {1: 70, 2: 24, 3: 7}.get(rank, 4)
    size, kernel, stride, dilation, padding = [], [], [], [], []
    for _ in range(rank):
        k, d = draw(st.sampled_from(kernels)), draw(st.integers(1, 3))
        span = d * (k - 1) + 1
        s = draw(st.integers(1, longest))
        before, after = draw(st.integers(0, span)), draw(st.integers(0, span))
        size.append(s)
        kernel.append(k)
        dilation.append(d)
        padding.append((before, after + max(0, span - s - before - after)))
        stride.append(draw(st.integers(1, 4)))
    n, c = draw(st.sampled_from([0, 1, 1, 2, 3])), draw(st.sampled_from([0, 1, 2, 3, 5, 16, 19]))
    options = {
        "stride": draw(st.sampled_from([tuple(stride), None])),
        "padding": draw(st.sampled_from([tuple(padding), tuple(padding), "same", "same_lower"])),
        "dilation": tuple(dilation),
        "ceil_mode": draw(st.booleans()),
    }
    return (n, c, *size), tuple(kernel), options


def images(shape, dtype, seed, *, special=False):
    """Small integers, so that there are ties and sums are exact; or NaN, Inf and -0 among them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-4, 5, shape).astype(dtype)
    if special:
        for value in (np.nan, np.inf, -np.inf, -0.0):
            x[rng.random(shape) < 0.1] = value
    return x


def spaced(array):
    """The same values, every other element of twice as long an axis."""
    view = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]
    view[...] = array
    return view


def layouts(rng):
    """The same values behind other strides."""
    return (lambda a: scrambled(rng, a), channels_last, spaced)


def bits(array):
    """Bits of numbers; every NaN is one."""
    array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    return np.ascontiguousarray(array).view(np.uint32 if array.itemsize == 4 else np.uint64)


def fitting(problem):
    x_shape, kernel, options = problem
    return min(reference.pool_windows(x_shape[2:], kernel, **options).output) > 0
