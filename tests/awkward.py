"""Arrays that are awkward to take in."""

import numpy as np


def unaligned(shape, dtype):
    """An array whose data begin one byte past an aligned address."""
    dtype = np.dtype(dtype)
    room = np.zeros(int(np.prod(shape)) * dtype.itemsize + 64, np.uint8)
    start = -room.ctypes.data % 64 + 1
    array = room[start : start + int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)
    assert not array.flags.aligned
    return array


def read_only(array):
    """The same array without write access."""
    array.flags.writeable = False
    return array
