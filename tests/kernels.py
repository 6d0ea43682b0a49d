"""What the tests of single kernels share: the targets, sizes at which loops end, memory, and bits."""

import numpy as np
import pytest

from windrow import _core

testing = _core._testing
CHUNK = testing.CHUNK
SEED = 20240


def with_own_kernels(targets):
    return [name for name in targets if testing.compiled_as(name) == name]


TARGETS = with_own_kernels(_core.targets_available())
TERMS = (0, 1, 2, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1, 3 * CHUNK)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
each_target = pytest.mark.parametrize("name", TARGETS)


def lanes_of(name, dtype):
    return testing.tile(name, dtype is np.float64)[2]


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32 if array.itemsize == 4 else np.uint64)


def assert_same_bits(result, expected):
    np.testing.assert_array_equal(bits(result), bits(expected))


def aligned(size, dtype):
    """Memory that starts at a vector's boundary and ends with its last element."""
    room = np.full(size * np.dtype(dtype).itemsize + 64, 0xFF, np.uint8)  # 0xFF...: NaN
    start = -room.ctypes.data % 64
    return room[start : start + size * np.dtype(dtype).itemsize].view(dtype)


def draw(rng, shape, dtype):
    """Values whose products float64 holds exactly; products of float32 need their one rounding."""
    return rng.standard_normal(shape).astype(np.float32).astype(dtype)


def edges(tile, prime):
    return sorted({1, tile - 1, tile, tile + 1, 2 * tile + 1, prime} - {0})
