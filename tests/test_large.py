"""Arrays of more than 2**31 elements: hardly touched, or, where memory allows, used from end to end."""

from pathlib import Path

import numpy as np
import pytest

import windrow as wr
from windrow import reference

FAR = 2**31 + 2**21  # elements; 32-bit offsets end at 2**31


@pytest.fixture(scope="module")
def far():
    """Zeros that the system maps when they are written."""
    try:
        return np.zeros(FAR, np.float32)
    except MemoryError:
        pytest.skip("the system does not reserve 8 GiB")


def planted(far, shape, positions):
    """An array over all of that memory, with values at some positions."""
    view = far[: int(np.prod(shape))].reshape(shape)
    for value, position in enumerate(positions, 1):
        view[position] = value
    return view


W = np.array([[[1.0, 10.0, 100.0]]], np.float32)


@pytest.mark.parametrize("per_image", [True, False])
def test_windows_far_apart(target, far, per_image):
    """Two windows more than 2**31 elements apart, along an axis or in two images."""
    size = 2**30 + 7
    if per_image:
        shape, stride, places = (2, 1, size), size, [(0, 0, 1), (1, 0, 2), (1, 0, size - 1)]
    else:
        shape, stride, places = (1, 1, 2 * size), 2 * size - 3, [(0, 0, 1), (0, 0, 2), (0, 0, 2 * size - 1)]
    x = planted(far, shape, places)
    try:
        y = wr.conv(x, W, stride=stride)
        dw = wr.conv_grad_weight(np.ones_like(y), x, W.shape, stride=stride)
    finally:
        for place in places:
            x[place] = 0
    expected = [[[10.0]], [[200.0]]] if per_image else [[[210.0, 300.0]]]
    np.testing.assert_array_equal(y, np.array(expected, np.float32))
    np.testing.assert_array_equal(dw, [[[0.0, 1.0, 2.0]]] if per_image else [[[0.0, 1.0, 5.0]]])


def test_taps_and_channels_far_apart(target, far):
    size = 2**30 + 5
    places = [(0, 0, 0), (0, 1, 1), (0, 1, size - 1)]
    x = planted(far, (1, 2, size), places)
    w = np.array([[[1.0, 10.0], [100.0, 1000.0]]], np.float32)
    try:
        y = wr.conv(x, w, dilation=size - 2)
        dw = wr.conv_grad_weight(np.ones_like(y), x, w.shape, dilation=size - 2)
    finally:
        for place in places:
            x[place] = 0
    np.testing.assert_array_equal(y, [[[1.0, 3200.0]]])
    np.testing.assert_array_equal(dw, [[[1.0, 0.0], [2.0, 3.0]]])


def test_rows_far_apart(target, far):
    """Rows and columns whose strides in memory are larger than 2**31 elements."""
    x = np.lib.stride_tricks.as_strided(far, (1, 1, 2, 5), (0, 0, 4 * (FAR - 100), 4))
    values = np.arange(10, dtype=np.float32).reshape(1, 1, 2, 5)
    x[...] = values
    w = np.ones((2, 1, 2, 3), np.float32)
    try:
        y = wr.conv(x, w, padding=1)
        dw = wr.conv_grad_weight(y, x, w.shape, padding=1)
        far_y = np.lib.stride_tricks.as_strided(far[10:], y.shape, (0, 4 * 8, 4 * (2**30), 4))
        assert wr.conv(x, w, padding=1, out=far_y) is far_y
        np.testing.assert_array_equal(far_y, y)
        far_y[...] = 0
    finally:
        x[...] = 0
    np.testing.assert_array_equal(y, reference.conv(values, w, padding=1))
    np.testing.assert_array_equal(dw, reference.conv_grad_weight(y, values, w.shape, padding=1))


def available():
    """Bytes of memory that are free for us, as far as the system says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))


needs_memory = pytest.mark.skipif(available() < 10 * 2**30, reason="needs 10 GiB of free memory")


@needs_memory
def test_more_than_2_31_bytes_of_columns():
    """2.2e9 bytes of int8 columns, every one of them."""
    size = 1_100_000_003
    x = np.resize(np.arange(251, dtype=np.uint8).view(np.int8), (1, 1, size))  # a prime period
    columns = wr.unfold(x, 2, padding=((0, 1),))
    assert columns.size == 2 * size > 2**31
    first, second = columns.reshape(2, size)
    assert np.array_equal(first, x[0, 0])
    assert np.array_equal(second[:-1], x[0, 0, 1:])
    assert second[-1] == 0
    del x
    back = wr.fold(columns, (size,), 2, padding=((0, 1),))[0, 0]
    # Every pixel lies in two windows, the first in one; int8 wraps.
    expected = first.copy()
    expected[1:] += second[:-1]
    assert np.array_equal(back, expected)


@needs_memory
def test_a_convolution_along_more_than_2_31_elements(far):
    """Every element of x is read, in windows of five with steps of sixteen."""
    places = [(0, 0, 0), (0, 0, 2**31), (0, 0, 2**31 + 1), (0, 0, FAR - 1)]
    x = planted(far, (1, 1, FAR), places)
    w = np.array([[[1.0, 10.0, 100.0, 1000.0, 10000.0]]], np.float32)
    try:
        y = wr.conv(x, w, stride=16, padding=((0, 15),))
        dw = wr.conv_grad_weight(y, x, w.shape, stride=16, padding=((0, 15),))
    finally:
        for place in places:
            x[place] = 0
    assert y.shape == (1, 1, (FAR + 15 - 5) // 16 + 1)
    assert (FAR - 1) % 16 == 15  # the last element lies in no window
    found = np.flatnonzero(y)
    assert found.tolist() == [0, 2**31 // 16]
    assert y[0, 0, found].tolist() == [1.0, 2.0 + 30.0]
    np.testing.assert_array_equal(dw, [[[1.0 + 2.0 * 32.0, 3.0 * 32.0, 0.0, 0.0, 0.0]]])


@needs_memory
def test_an_input_gradient_of_more_than_2_31_elements():
    """Every element of dx is written, most of them by phases that no window sees."""
    shape, w = (1, 1, FAR), np.array([[[1.0, 10.0, 100.0, 1000.0, 10000.0]]], np.float32)
    options = {"stride": 16, "padding": ((0, 15),)}
    dy = np.zeros((1, 1, (FAR + 15 - 5) // 16 + 1), np.float32)
    windows = [0, 2**31 // 16 - 1, 2**31 // 16, dy.size - 2]  # the last one sees padding alone
    dy[0, 0, windows] = [1.0, 2.0, 3.0, 4.0]
    dx = wr.conv_grad_input(dy, w, shape, **options)[0, 0]
    assert dx.size == FAR
    assert np.count_nonzero(dx) == 5 * len(windows)
    for window, value in zip(windows, (1.0, 2.0, 3.0, 4.0)):
        np.testing.assert_array_equal(dx[16 * window :][:5], value * w[0, 0])
