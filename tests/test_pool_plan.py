"""explain of poolings: what it tells is what runs."""

from functools import partial

import numpy as np
import pytest

import windrow as wr
from tests.errors import raises
from windrow import cli

BASELINE = 16  # bytes of a vector of the driver's own


def plan(operation, shape=(2, 24, 40, 40), kernel=2, **options):
    return wr.explain(operation, shape, kernel, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_which_kernel_and_along_what(target, dtype):
    lanes = (64 if target == "x86_v4" else 32 if target == "x86_v3" else 16) // np.dtype(dtype).itemsize
    for operation, kernel in [
        ("max_pool", "pool_max"), ("max_pool_with_indices", "pool_max"), ("avg_pool", "pool_sum"),
        ("avg_pool_backward", "pool_sum"), ("max_pool_backward", "pool_spread"),
    ]:  # fmt: skip
        rows = plan(operation, dtype=dtype)
        assert (rows["kernel"], rows["lanes"], rows["along"]) == (kernel, lanes, "spatial axis 1")
        assert (rows["target"], rows["share"]) == (target, 1)
        channels = plan(operation, dtype=dtype, memory_format="channels_last")
        assert (channels["kernel"], channels["lanes"], channels["along"]) == (kernel, lanes, "channels")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_has_no_kernel(dtype):
    baseline = BASELINE // np.dtype(dtype).itemsize
    for others in (
        plan("lp_pool", dtype=dtype),
        plan("max_pool", stride=3, dtype=dtype),
        plan("avg_pool_backward", stride=3, kernel=3, shape=(1, 2, 42, 42), dtype=dtype),
    ):
        assert (others["kernel"], others["lanes"]) == ("lines", baseline)
    single = plan("max_pool", shape=(1, 1, 2, 2), dtype=dtype)
    assert (single["kernel"], single["lanes"], single["pieces"]) == ("lines", 0, 1)
    for shape, options in [((1, 2, 41, 40), {}), ((1, 2, 2, 2), {}), ((1, 2, 40, 40), {"stride": 1})]:
        assert plan("max_pool_backward", shape, dtype=dtype, **options)["kernel"] == "scatter"
    assert plan("max_pool", shape=(0, 3, 4, 4))["pieces"] == 0


def test_share_pieces_and_threads():
    bordered = plan("max_pool", (1, 4, 10, 20), 3, stride=1, padding=1, threads=7)
    assert bordered["share"] == pytest.approx(0.8 * 0.9)
    assert bordered["threads"] == bordered["pieces"] == 1
    assert plan("avg_pool", (64, 64, 56, 56), threads=7)["threads"] == 7
    assert plan("avg_pool", (1, 1, 3, 3), ceil_mode=True)["y_shape"] == (1, 1, 2, 2)
    phases = plan("avg_pool_backward", (1, 4, 10, 20), 3, stride=2, padding=1)
    assert phases["pieces"] == 4


def test_printed(target):
    p = plan("max_pool", (1, 64, 56, 56), 3, stride=2, padding=1, threads=1)
    assert repr(p) == f"<Plan of max_pool: pool_max on {target}>"
    assert str(p).splitlines() == [
        "operation  max_pool of windows (3, 3), x (1, 64, 56, 56), y (1, 64, 28, 28)",
        "operands   float32, channels_first",
        f"kernel     pool_max: kernel of {target}",
        f"lanes      {p['lanes']} along spatial axis 1",
        "windows    93 % see all the same taps inside the image",
        "memory     x 784 KiB, y 196 KiB",
        f"pieces     {p['pieces']} of work on 1 thread(s)",
    ]
    assert "kernel     scatter: one value at a time\nlanes      none" in str(
        plan("max_pool_backward", stride=1)
    )


def test_command_line(capsys):
    command = [
        "explain",
        "max_pool",
        "1x64x56x56",
        "3x3",
        "--stride",
        "2",
        "--padding",
        "1",
        "--threads",
        "1",
    ]
    assert cli.main(command) == 0
    expected = plan("max_pool", (1, 64, 56, 56), (3, 3), stride=2, padding=1, threads=1)
    assert capsys.readouterr().out == f"{expected}\n"


def test_errors():
    text = "memory_format: expected 'channels_first' or 'channels_last', got 'NCHW'"
    raises(ValueError, text, partial(plan, "max_pool", memory_format="NCHW"))
    raises(TypeError, "dtype: expected float32 or float64, got int8", partial(plan, "max_pool", dtype="int8"))
    raises(ValueError, "groups: expected 1 for avg_pool, got 2", partial(plan, "avg_pool", groups=2))
    text = (
        "x_shape: expected 3 axes (N, C and 1 spatial) or more, got 2: (2, 3); "
        "for one image without N pass (1, *x_shape)"
    )
    raises(ValueError, text, partial(plan, "max_pool", (2, 3)))
