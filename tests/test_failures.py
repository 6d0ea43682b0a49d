"""Scratch memory that the system refuses, at every point of every operation: nothing lost, all usable after.

tests/core/failures.cpp does the same without Python to every allocation of the core, not only to arenas'.
"""

import gc
import sys

import numpy as np
import pytest

import windrow as wr
from windrow import _core

MIB = 2**20
RNG = np.random.default_rng(11)


def operands(dtype, groups=1):
    x = RNG.integers(-3, 4, (3, 12, 60, 61)).astype(dtype)
    w = RNG.integers(-3, 4, (36, 12 // groups, 3, 3)).astype(dtype)
    return x, w


def operations():
    """Name, arrays, and a call on them and on out=."""
    x, w = operands(np.float32)
    dy = wr.conv(x, w, padding=1)
    yield "conv", (x, w), lambda out: wr.conv(x, w, padding=1, out=out)
    yield "conv_grad_input", (dy, w), lambda out: wr.conv_grad_input(dy, w, x.shape, padding=1, out=out)
    yield "conv_grad_weight", (dy, x), lambda out: wr.conv_grad_weight(dy, x, w.shape, padding=1, out=out)
    d, v = operands(np.float64, groups=12)
    dd = wr.conv(d, v, groups=12)
    yield "depthwise conv", (d, v), lambda out: wr.conv(d, v, groups=12, out=out)
    yield "depthwise dw", (dd, d), lambda out: wr.conv_grad_weight(dd, d, v.shape, groups=12, out=out)
    yield "unfold", (x,), lambda out: wr.unfold(x, 3, layout="(n l) (c k)", out=out)
    cols = wr.unfold(x, 3)
    yield "fold", (cols,), lambda out: wr.fold(cols, (60, 61), 3, out=out)


CASES = list(operations())


@pytest.fixture(autouse=True)
def nothing_refused_afterwards():
    yield
    _core._testing.refuse_scratch(-1)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize(("arrays", "call"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_refusal_is_a_memory_error_and_nothing_is_lost(arrays, call, threads):
    with wr.num_threads(threads):
        expected = call(None)
        out = np.empty_like(expected)
        references = [sys.getrefcount(array) for array in (*arrays, out)]
        refusals = 0
        for after in range(1000):
            wr.release_workspaces()
            _core._testing.refuse_scratch(after)
            try:
                result = call(out if after % 2 else None)
            except MemoryError as error:
                text = str(error)
                assert text.startswith("max_workspace: cannot allocate ")
                assert text.endswith(" bytes of scratch memory")
                assert int(text.split()[3]) >= 64
                del error
                refusals += 1
            else:
                np.testing.assert_array_equal(result, expected)
                break
        _core._testing.refuse_scratch(-1)
        assert refusals >= 1, "this operation takes scratch memory"
        assert after < 999
        result = None
        gc.collect()
        assert [sys.getrefcount(array) for array in (*arrays, out)] == references
        wr.release_workspaces()
        assert _core.workspace_bytes() == 0
        np.testing.assert_array_equal(call(out), expected)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_refused_calls_leave_no_result_behind():
    """A fresh result of 13 MiB is given back when the scratch memory for it is refused."""
    x, w = RNG.standard_normal((8, 4, 120, 120)), RNG.standard_normal((16, 4, 3, 3))

    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    def refused():
        wr.release_workspaces()
        _core._testing.refuse_scratch(0)
        with pytest.raises(MemoryError):
            wr.conv(x, w)

    for _ in range(3):
        refused()
    before = resident()
    for _ in range(20):
        refused()
    assert resident() - before < 13 * MIB


def test_one_threads_refusal_is_not_anothers():
    """The caller whose allocation was refused gets the error; calls at the same time go on."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    x, w = operands(np.float32)
    expected = wr.conv(x, w)
    wr.release_workspaces()
    _core._testing.refuse_scratch(1)

    def call(_):
        try:
            return bool(np.array_equal(wr.conv(x, w), expected))
        except MemoryError:
            return None

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(8)))
    assert results.count(None) <= 1
    assert False not in results
