"""Promise 6: scratch memory of any problem stays within 8 MiB a thread, and 32 MiB of partial sums a call.

`explain` tells it without arrays, so that the problems can be far larger than this machine; other tests see
that calls take no more than `explain` says.
"""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import windrow as wr

MIB = 1 << 20
PER_THREAD, SHARED = 8 * MIB, 32 * MIB


@st.composite
def large_problems(draw):
    rank = draw(st.integers(1, 3))
    longest, widest = {1: (10**6, 5000), 2: (4000, 64), 3: (300, 16)}[rank]
    groups = draw(st.sampled_from([1, 1, 2, 32, 1024]))
    x_shape = [draw(st.sampled_from([1, 4, 300])), groups * draw(st.integers(1, 2048))]
    w_shape = [groups * draw(st.integers(1, 2048)), x_shape[1] // groups]
    options = {"stride": [], "padding": [], "dilation": [], "groups": groups}
    for _ in range(rank):
        kernel, dilation = draw(st.integers(1, widest)), draw(st.integers(1, 40))
        span = dilation * (kernel - 1) + 1
        before = draw(st.integers(0, span))
        x_shape.append(max(1, span - before, draw(st.integers(1, longest))))
        w_shape.append(kernel)
        options["stride"].append(draw(st.integers(1, 8)))
        options["padding"].append((before, 0))
        options["dilation"].append(dilation)
    return tuple(x_shape), tuple(w_shape), options


@pytest.mark.parametrize("operation", ["conv", "conv_grad_input", "conv_grad_weight"])
@settings(max_examples=150)
@given(problem=large_problems(), dtype=st.sampled_from(["float32", "float64"]))
def test_scratch_is_bounded(operation, problem, dtype):
    x_shape, w_shape, options = problem
    plan = wr.explain(operation, x_shape, w_shape, dtype=dtype, **options)
    assert plan["workspace_per_thread"] <= PER_THREAD
    assert plan["workspace_shared"] <= SHARED


def test_many_filters_of_one_channel():
    """Runs of one tap end with a whole vector each: once 26 MiB of sums."""
    plan = wr.explain("conv_grad_weight", (1, 1, 64, 64), (16384, 1, 5, 5), dilation=2)
    assert plan["workspace_per_thread"] <= PER_THREAD
