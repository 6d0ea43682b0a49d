"""Nobody reads or writes outside the caller's memory: operands lie against pages that may not be touched.

Masked vector loads are seen neither by AddressSanitizer nor by values; the processor sees them. A fault ends
the process, so each target runs in one of its own.
"""

import sys

import pytest

from tests import programs
from tests.kernels import each_target

PROGRAM = """
import ctypes, mmap, random
import numpy as np
import windrow as wr
from windrow.geometry import conv_geometry

libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
kept = []

def guarded(array, at_end):
    # a copy of the array between two pages without access, against the one or the other
    pages = -(-array.nbytes // PAGE) + 2
    memory = mmap.mmap(-1, pages * PAGE)
    kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    offset = (pages - 1) * PAGE - array.nbytes if at_end else PAGE
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    for page in (0, pages - 1):
        assert libc.mprotect(ctypes.c_void_p(start + page * PAGE), PAGE, 0) == 0
    return copy

def channels_last(shape):
    return (shape[0], *shape[2:], shape[1])

def check(seed):
    pick = random.Random(seed)
    rng = np.random.default_rng(seed)
    rank = pick.choice([1, 2, 2, 2, 3])
    kernel = tuple(pick.choice([1, 2, 3, 3, 5]) for _ in range(rank))
    options = {
        "stride": tuple(pick.choice([1, 1, 2, 3]) for _ in range(rank)),
        "padding": tuple((pick.choice([0, 1, 2]), pick.choice([0, 1, 3])) for _ in range(rank)),
        "dilation": tuple(pick.choice([1, 1, 2]) for _ in range(rank)),
        "groups": pick.choice([1, 1, 2, 3]),
    }
    size = tuple(d * (k - 1) + 1 + pick.choice([0, 1, 5, 16, 33] if rank < 3 else [0, 1, 5])
                 for k, d in zip(kernel, options["dilation"]))
    groups = options["groups"]
    per_group = pick.choice([1, 1, 2, 4, 17])
    x_shape = (pick.choice([1, 2, 3]), groups * per_group, *size)
    w_shape = (groups * pick.choice([1, 2, 9, 16]), per_group, *kernel)
    y_shape = conv_geometry(x_shape, w_shape, *options.values()).y_shape
    dtype = pick.choice([np.float32, np.float64])
    last = pick.random() < 0.3
    plain = {name: rng.integers(-4, 5, shape).astype(dtype)
             for name, shape in [("x", x_shape), ("w", w_shape), ("dy", y_shape), ("b", w_shape[:1])]}
    y = wr.conv(plain["x"], plain["w"], plain["b"], **options)
    gradients = wr.conv_backward(plain["dy"], plain["x"], plain["w"], **options)
    spatial = {name: value for name, value in options.items() if name != "groups"}
    layout = pick.choice(["n (c k) l", "(c k) (l n)", "(n l) (c k)"])
    cols = wr.im2col(plain["x"], kernel, layout=layout, **spatial)
    image = wr.col2im(cols, x_shape, kernel, layout=layout, **spatial)
    for at_end in (True, False):
        def place(array):
            if last and array.ndim > 2:
                return np.moveaxis(guarded(np.ascontiguousarray(np.moveaxis(array, 1, -1)), at_end), -1, 1)
            return guarded(array, at_end)
        x, w, dy, b = (place(plain[name]) for name in ("x", "w", "dy", "b"))
        result = wr.conv(x, w, b, out=place(np.full(y_shape, np.nan, dtype)), **options)
        assert np.array_equal(result, y), seed
        dx = wr.conv_grad_input(dy, w, x_shape, out=place(np.full(x_shape, np.nan, dtype)), **options)
        dw = wr.conv_grad_weight(dy, x, w_shape, out=place(np.full(w_shape, np.nan, dtype)), **options)
        db = wr.conv_grad_bias(dy, out=guarded(np.full(w_shape[:1], np.nan, dtype), at_end))
        assert all(map(np.array_equal, (dx, dw, db), gradients)), seed
        out = guarded(np.full(cols.shape, np.nan, dtype), at_end)
        assert np.array_equal(wr.im2col(x, kernel, layout=layout, out=out, **spatial), cols), seed
        out = place(np.full(x_shape, np.nan, dtype))
        placed = guarded(cols, at_end)
        wr.col2im(placed, x_shape, kernel, layout=layout, out=out, **spatial)
        assert np.array_equal(out, image), seed

wr.set_num_threads(2)
for seed in range(FIRST, FIRST + 120):
    check(seed)
    kept.clear()
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
@each_target
def test_nothing_outside_is_touched(name):
    source = PROGRAM.replace("FIRST", "1000")
    assert programs.output(source, WINDROW_TARGET=name, timeout=300) == "done"


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
@pytest.mark.parametrize("position", ["array.ctypes.data - 8", "array.ctypes.data + array.nbytes"])
def test_the_guards_guard(position):
    source = PROGRAM.replace("FIRST, FIRST + 120", "0")
    at_end = "+" in position
    source += f"array = guarded(np.ones(5), {at_end})\nprint(array.sum(), flush=True)\n"
    source += f"ctypes.string_at({position}, 1)"
    done = programs.run(source)
    assert done.stdout.split() == ["done", "5.0"]
    assert done.returncode < 0, "a read outside must be a fault"
