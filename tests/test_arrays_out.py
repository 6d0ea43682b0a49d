"""Outputs: they disturb nothing, results that cannot be had are refused, and the memory format."""

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from tests.awkward import read_only, unaligned
from tests.errors import raises
from windrow import arrays
from windrow.arrays import (
    check_nbytes,
    check_out,
    empty,
    empty_images,
    is_channels_last,
)

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)


# Outputs


def test_outputs_are_taken_with_any_strides(tmp_path):
    for out in (
        np.zeros((2, 3)),
        np.zeros((4, 9))[::-2, ::3],
        np.zeros((3, 2)).T,
        unaligned((2, 3), "f8"),
        np.zeros((2, 3), [("a", "i4"), ("b", "f8")])["b"],
    ):
        assert check_out(out, (2, 3), F8, {"x": np.zeros((2, 3)), "b": None}) is out
    mapped = np.memmap(tmp_path / "out", np.float64, "w+", shape=(2, 3))
    plain = check_out(mapped, (2, 3), F8, {})
    assert type(plain) is np.ndarray
    assert np.shares_memory(plain, mapped)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_errors_of_out():
    def check(out, shape=(2, 3), dtype=F8, **inputs):
        check_out(out, shape, dtype, inputs)

    raises(TypeError, "out: expected a NumPy array, got list", check, [0.0])
    raises(
        TypeError,
        "out: expected a plain array, got a masked array; "
        "pass out.filled(value), or out.data to ignore the mask",
        check,
        np.ma.zeros((2, 3)),
    )
    text = "out: expected an array, got np.matrix; pass np.asarray(out)"
    raises(TypeError, text, check, np.matrix(np.zeros((2, 3))))
    raises(ValueError, "out: expected shape (2, 3), got (3, 2)", check, np.zeros((3, 2)))
    raises(ValueError, "out: expected shape (2, 3), got (1, 2, 3)", check, np.zeros((1, 2, 3)))
    raises(TypeError, "out: expected dtype float64, got float32", check, np.zeros((2, 3), F4))
    raises(TypeError, "out: expected dtype float64, got >f8", check, np.zeros((2, 3), ">f8"))
    raises(TypeError, "out: expected dtype >f8, got float64", check, np.zeros((2, 3)), dtype=np.dtype(">f8"))
    raises(
        ValueError,
        "out: expected a writeable array, got a read-only one",
        check,
        read_only(np.zeros((2, 3))),
    )
    raises(
        ValueError,
        "out: expected elements that do not overlap, got strides (8, 8) for shape (2, 3)",
        check,
        as_strided(np.zeros(9), (2, 3), (8, 8)),
    )
    room = np.zeros(12)
    text = "out: expected memory of its own, got memory that w uses too"
    raises(ValueError, text, check, room[:6].reshape(2, 3), x=np.zeros(3), w=room[5:])
    check(room[:6].reshape(2, 3), w=room[6:])
    # Interleaved, but without a common byte.
    check(room[::2].reshape(2, 3), w=room[1::2])


def test_undecided_outputs_are_refused(monkeypatch):
    monkeypatch.setattr(arrays, "OVERLAP_WORK", 1)
    # Two axes that interleave: 0, 24, 48, ... against 0, 40, 80, ...
    out = as_strided(np.zeros(64), (4, 3), (24, 40))
    raises(
        ValueError,
        "out: expected strides whose elements can be shown not to overlap, got (24, 40) for shape (4, 3)",
        check_out,
        out,
        (4, 3),
        F8,
        {},
    )
    monkeypatch.setattr(arrays, "OVERLAP_WORK", 50)
    room = np.zeros(4000, np.uint8)
    x = as_strided(room, (5, 5, 5), (343, 262, 214))
    out = as_strided(room[1:], (5, 5, 5), (122, 136, 35))
    raises(
        ValueError,
        "out: expected memory that can be shown not to be shared with x, got strides (122, 136, 35) "
        "against (343, 262, 214)",
        check_out,
        out,
        (5, 5, 5),
        np.dtype(np.uint8),
        {"x": x},
    )


@settings(max_examples=500, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(-30, 30)), min_size=1, max_size=4),
    st.sampled_from(["u1", "u2", "f4", "f8"]),
)
def test_self_overlap_is_decided_exactly(axes, code):
    shape, strides = zip(*axes)
    dtype = np.dtype(code)
    room = np.zeros(1000, np.uint8)[500:]
    array = np.ndarray(shape, dtype, room.base.data, offset=500, strides=strides)
    bytes_used = [
        sum(i * stride for i, stride in zip(index, strides)) + byte
        for index in product(*map(range, shape))
        for byte in range(dtype.itemsize)
    ]
    overlaps = len(set(bytes_used)) < len(bytes_used)
    assert arrays._overlaps_itself(array) is overlaps
    if overlaps:
        with pytest.raises(ValueError, match=r"^out: expected elements that do not overlap, got strides"):
            check_out(array, shape, dtype, {})
    else:
        assert check_out(array, shape, dtype, {}) is array


def test_empty_outputs_overlap_nothing():
    out = as_strided(np.zeros(4), (0, 3), (0, 0))
    assert check_out(out, (0, 3), F8, {"x": np.zeros(4)}) is out


# Allocation


def test_allocation():
    array = empty("y", (2, 3), F4)
    assert array.shape == (2, 3)
    assert array.dtype == F4
    assert array.flags.c_contiguous
    assert check_nbytes("y", (2, 3), F4) == 24
    assert check_nbytes("y", (2, 0, 3), F4) == 0


def test_errors_of_allocation(monkeypatch):
    limit = 2**63 - 1
    text = f"y: expected at most {limit} bytes, got {2**64} for shape ({2**61},) of float64"
    raises(ValueError, text, empty, "y", (2**61,), F8)
    text = f"y: expected at most {limit} bytes, got {2**64} for shape (0, {2**61}) of float64"
    raises(ValueError, text, empty, "y", (0, 2**61), F8)
    # No machine has 4 EiB.
    text = f"cols: cannot allocate {2**62} bytes for shape ({2**59}, 1) of float64"
    raises(MemoryError, text, empty, "cols", (2**59, 1), F8)


# Memory format


@pytest.mark.parametrize("spatial", [(5,), (4, 5), (3, 4, 5), (1, 5), (5, 1)])
@pytest.mark.parametrize("n", [1, 2])
def test_channels_last_is_seen(n, spatial):
    shape = (n, 3, *spatial)
    first = empty_images("y", shape, F4, channels_last=False)
    last = empty_images("y", shape, F4, channels_last=True)
    assert first.shape == last.shape == shape
    assert first.flags.c_contiguous
    assert np.moveaxis(last, 1, -1).flags.c_contiguous
    assert is_channels_last(last)
    assert not is_channels_last(first)
    # A crop, a view of every other image and a slice of the channels stay what they are.
    for view in (last[::2], last[:, 1:], last[..., : max(spatial[-1] - 1, 1)]):
        assert is_channels_last(view) is (view.shape[1] > 1 and prod(view.shape[2:]) > 1)


def test_channels_last_needs_channels_pixels_and_order():
    def last(shape):
        return empty_images("y", shape, F8, channels_last=True)

    assert not is_channels_last(last((2, 1, 4, 5)))
    assert not is_channels_last(last((2, 2, 4, 5))[:, :1])
    assert not is_channels_last(last((2, 3, 1, 1)))
    # A window of 2 that slides along one row is channels and pixels of equal strides.
    assert not is_channels_last(as_strided(np.zeros(9), (1, 2, 8), (72, 8, 8)))
    assert not is_channels_last(np.zeros((3, 4)))
    assert not is_channels_last(last((2, 3, 4, 5))[:, ::2])
    assert not is_channels_last(last((2, 3, 4, 5))[:, ::-1])
    assert not is_channels_last(last((2, 3, 4, 5))[:, :, ::-1])
    assert not is_channels_last(last((2, 3, 4, 5)).swapaxes(2, 3))
    assert not is_channels_last(np.broadcast_to(last((1, 3, 4, 5)), (2, 3, 4, 5)))
    assert not is_channels_last(np.moveaxis(np.zeros((4, 2, 5, 3)), (1, 3), (0, 1)))
