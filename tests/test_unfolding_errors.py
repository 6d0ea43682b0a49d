"""What unfold and fold refuse, word for word; nothing is written then."""

import numpy as np
import pytest

import windrow as wr
from tests.errors import raises

X = np.zeros((1, 2, 4, 5))
COLS = np.zeros((1, 8, 12))  # of X with a 2x2 window


def test_layouts():
    raises(
        ValueError,
        "layout: missing 'l'\n    n (c k)\n           ^",
        wr.unfold, X, 2, layout="n (c k)",
    )  # fmt: skip
    raises(
        ValueError,
        "layout: 'k' is named twice\n    n (c k) k l\n            ^",
        wr.unfold, X, 2, layout="n (c k) k l",
    )  # fmt: skip
    raises(
        ValueError,
        "layout: n and c cannot be told apart in an axis that holds both: '(n c) k l'; "
        "use col2im, which takes x_shape",
        wr.fold, np.zeros((2, 4, 12)), (4, 5), 2, layout="(n c) k l",
    )  # fmt: skip


def test_shapes():
    raises(
        ValueError,
        "cols: expected shape (8, 12) for layout '(c k) (l n)' (n=1, c=2, k=2x2, l=3x4), got (8, 13)",
        wr.col2im, np.zeros((8, 13)), X.shape, 2,
    )  # fmt: skip
    raises(
        ValueError,
        "cols: expected a multiple of 4 on axis 1 for layout 'n (c k) l', got 7: (1, 7, 12)",
        wr.fold, np.zeros((1, 7, 12)), (4, 5), 2,
    )  # fmt: skip
    raises(
        ValueError,
        "x: expected 4 axes (N, C and 2 spatial) for the 2-D kernel_size (2, 2), got 3: (2, 4, 5); "
        "for one image without N pass x[None]",
        wr.unfold, X[0], (2, 2),
    )  # fmt: skip


@pytest.mark.parametrize(("name", "call"), [
    ("cols", lambda out: wr.unfold(X, 2, out=out)),
    ("x", lambda out: wr.fold(COLS, (4, 5), 2, out=out)),
])  # fmt: skip
def test_out(name, call):
    shape = COLS.shape if name == "cols" else X.shape
    raises(ValueError, f"out: expected shape {shape}, got (2,)", call, np.zeros(2))
    raises(TypeError, "out: expected dtype float64, got float32", call, np.zeros(shape, np.float32))
    raises(TypeError, "out: expected a NumPy array, got list", call, [])
    locked = np.zeros(shape)
    locked.flags.writeable = False
    raises(ValueError, "out: expected a writeable array, got a read-only one", call, locked)


def test_overlap():
    memory = np.arange(200.0)
    x = memory[:40].reshape(1, 2, 4, 5)
    out = memory[39:135].reshape(1, 8, 12)
    text = "out: expected memory of its own, got memory that {} uses too"
    raises(ValueError, text.format("x"), wr.unfold, x, 2, out=out)
    raises(ValueError, text.format("cols"), wr.fold, out, (4, 5), 2, out=x)
    np.testing.assert_array_equal(memory, np.arange(200.0))


def test_dtypes():
    raises(TypeError, "x: expected a numeric array, got dtype object", wr.unfold, X.astype(object), 2)
    raises(TypeError, "x: expected a numeric array, got dtype <U3", wr.unfold, np.full(X.shape, "abc"), 2)
    raises(
        TypeError,
        "cols: expected ints, floats up to 64 bits or complex up to 128, got bool",
        wr.fold, COLS.astype(bool), (4, 5), 2,
    )  # fmt: skip
    raises(
        TypeError,
        "cols: expected ints, floats up to 64 bits or complex up to 128, got datetime64[s]",
        wr.fold, COLS.astype("M8[s]"), (4, 5), 2,
    )  # fmt: skip
    raises(
        TypeError,
        "cols: expected floats or complex for reduce='mean', got int64; cast with cols.astype(np.float64)",
        wr.fold, COLS.astype(int), (4, 5), 2, reduce="mean",
    )  # fmt: skip
    raises(
        TypeError,
        "cols: expected floats or complex with window=, got int64; cast with cols.astype(np.float64)",
        wr.fold, COLS.astype(int), (4, 5), 2, window=np.ones((2, 2)),
    )  # fmt: skip


def test_options():
    raises(
        ValueError,
        "reduce: expected 'sum', 'mean', 'max' or 'min', got 'median'",
        wr.fold, COLS, (4, 5), 2, reduce="median",
    )  # fmt: skip
    raises(
        TypeError,
        "fill: expected a value of dtype float64, got str: 'red'",
        wr.unfold, X, 2, fill="red",
    )  # fmt: skip
    raises(
        ValueError,
        "fill: expected a value that int8 can hold, got 300",
        wr.unfold, X.astype(np.int8), 2, fill=300,
    )  # fmt: skip
    raises(
        ValueError,
        "uncovered: expected a value that int8 can hold, got -129",
        wr.fold, COLS.astype(np.int8), (4, 5), 2, uncovered=-129,
    )  # fmt: skip


def test_windows():
    def blend(window, reduce="sum"):
        return wr.fold(COLS, (4, 5), 2, window=window, reduce=reduce)

    raises(ValueError, "window: expected shape (2, 2), got (2,)", blend, np.ones(2))
    raises(
        ValueError,
        "window: expected one vector per spatial axis of lengths (2, 2), got ((2,), (3,))",
        blend, (np.ones(2), np.ones(3)),
    )  # fmt: skip
    raises(ValueError, "window: expected finite weights, got array([[nan, 1.], [ 1., 1.]])",
           blend, np.array([[np.nan, 1], [1, 1]]))  # fmt: skip
    raises(TypeError, "window: expected real numbers, got dtype complex128", blend, np.ones((2, 2), complex))
    raises(ValueError, "window: expected None for reduce='max', got (1, 1)", blend, (1, 1), "max")


def test_sizes_beyond_memory():
    x = np.zeros((1, 1, 2**22), np.float32)
    raises(
        MemoryError,
        "cols: cannot allocate 17592186044416 bytes for shape (1, 2097152, 2097152) of float32",
        wr.unfold, x[..., :-1], 2**21,
    )  # fmt: skip
    wide = np.broadcast_to(np.uint16(1), (2**30, 2**29, 1))
    raises(
        ValueError,
        "cols: expected at most 9223372036854775807 bytes, got 10376293541461622784 for shape "
        "(1073741824, 536870912, 9) of uint16",
        wr.unfold, wide, 1, padding=4,
    )  # fmt: skip
    small = np.broadcast_to(np.uint8(1), (2**30, 2**30, 1))
    for _ in range(2):  # also once the problem is known
        raises(
            MemoryError,
            "cols: cannot allocate 1152921504606846976 bytes for shape (1073741824, 1073741824, 1) of uint8",
            wr.unfold, small, 1,
        )  # fmt: skip
    raises(
        MemoryError,
        "x: cannot allocate 1125899906842624 bytes for shape (1, 1, 140737488355328) of float64",
        wr.fold, np.zeros((1, 1, 1)), (2**47,), 1, stride=2**47,
    )  # fmt: skip


def test_axes_of_length_zero():
    assert wr.unfold(np.zeros((0, 2, 4, 5)), 2).shape == (0, 8, 12)
    assert wr.unfold(np.zeros((1, 0, 4, 5)), 2).shape == (1, 0, 12)
    assert wr.fold(np.zeros((0, 8, 12)), (4, 5), 2).shape == (0, 2, 4, 5)
    assert wr.col2im(np.zeros((8, 0)), (0, 2, 4, 5), 2).shape == (0, 2, 4, 5)
    np.testing.assert_array_equal(wr.unfold(np.zeros((1, 1, 0)), 1, padding=1, fill=3), [[[3, 3]]])
    assert wr.fold(np.ones((1, 1, 2)), (0,), 1, padding=1).shape == (1, 1, 0)
    with pytest.raises(ValueError, match="use col2im"):
        wr.fold(np.zeros((0, 2)), (0,), 2, padding="same", layout="(n l) (c k)")
