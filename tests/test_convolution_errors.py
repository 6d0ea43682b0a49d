"""Every error of the convolution functions by its exact text, and that nothing is written then."""

import numpy as np
import pytest

import windrow as wr
from tests.errors import raises

X = np.ones((2, 6, 8, 9))
W = np.ones((4, 6, 3, 3))
B = np.ones(4)
Y = wr.conv(X, W)
MAX = 2**63 - 1


def grad_input(**changes):
    arguments = {"dy": Y, "w": W, "x_shape": X.shape, **changes}
    return wr.conv_grad_input(arguments.pop("dy"), arguments.pop("w"), arguments.pop("x_shape"), **arguments)


def grad_weight(**changes):
    arguments = {"dy": Y, "x": X, "w_shape": W.shape, **changes}
    return wr.conv_grad_weight(arguments.pop("dy"), arguments.pop("x"), arguments.pop("w_shape"), **arguments)


def conv(**changes):
    arguments = {"x": X, "w": W, **changes}
    return wr.conv(arguments.pop("x"), arguments.pop("w"), **arguments)


def backward(**changes):
    arguments = {"dy": Y, "x": X, "w": W, **changes}
    return wr.conv_backward(arguments.pop("dy"), arguments.pop("x"), arguments.pop("w"), **arguments)


# Window arguments are the same in all four functions.

WINDOW_ERRORS = [
    ({"stride": 0}, ValueError, "stride: expected at least 1, got 0"),
    ({"stride": (1, 2, 3)}, ValueError, "stride: expected 2 values for a 2-D window, got 3: (1, 2, 3)"),
    ({"stride": 1.0}, TypeError, "stride: expected an int or one int per spatial axis, got float: 1.0"),
    ({"stride": True}, TypeError, "stride: expected an int or one int per spatial axis, got bool: True"),
    (
        {"stride": (1, None)},
        TypeError,
        "stride: expected an int or one int per spatial axis, got NoneType None in (1, None)",
    ),
    ({"dilation": (1, 0)}, ValueError, "dilation: expected at least 1, got 0: (1, 0)"),
    ({"dilation": -1}, ValueError, "dilation: expected at least 1, got -1"),
    ({"padding": (1, 1, 1)}, ValueError, "padding: expected 2 values for a 2-D window, got 3: (1, 1, 1)"),
    ({"padding": -1}, ValueError, "padding: expected at least 0, got -1; to crop, slice the array"),
    ({"padding": "full"}, ValueError, "padding: expected 'valid', 'same' or 'same_lower', got 'full'"),
    (
        {"padding": (1, (0, 1))},
        ValueError,
        "padding: expected only ints or only (before, after) pairs, got both: (1, (0, 1))",
    ),
    (
        {"padding": 0.5},
        TypeError,
        "padding: expected an int, ints or (before, after) pairs per spatial axis, or a mode, got float: 0.5",
    ),
    ({"groups": 0}, ValueError, "groups: expected at least 1, got 0"),
    ({"groups": (1, 2)}, TypeError, "groups: expected an int, got tuple: (1, 2)"),
    ({"groups": 2.0}, TypeError, "groups: expected an int, got float: 2.0"),
    (
        {"algorithm": "fft"},
        ValueError,
        f"algorithm: expected {' or '.join(map(repr, wr.convolution.ALGORITHMS))}, got 'fft'",
    ),
    (
        {"algorithm": None},
        ValueError,
        f"algorithm: expected {' or '.join(map(repr, wr.convolution.ALGORITHMS))}, got None",
    ),
    ({"max_workspace": 0}, ValueError, "max_workspace: expected at least 1, got 0"),
    ({"max_workspace": 1e6}, TypeError, "max_workspace: expected an int, got float: 1000000.0"),
    (
        {"stride": 2**63},
        ValueError,
        "stride: expected ints that fit int64, got one of 64 bits",
    ),
]


@pytest.mark.parametrize("call", [conv, backward, grad_input, grad_weight])
@pytest.mark.parametrize(("changes", "kind", "text"), WINDOW_ERRORS)
def test_window_arguments(call, changes, kind, text):
    raises(kind, text, call, **changes)


# Shapes

SHAPE_ERRORS = [
    (
        conv,
        {"x": X[0]},
        "x: expected 4 axes (N, C and 2 spatial) for w of shape (4, 6, 3, 3), got 3: (6, 8, 9); "
        "for one image without N pass x[None]",
    ),
    (conv, {"w": W[0, 0]}, "w: expected at least 3 axes (K, C / groups and a kernel axis), got 2: (3, 3)"),
    (conv, {"x": X[:, :5]}, "w: expected 5 channels per filter (5 of x in 1 group), got 6: (4, 6, 3, 3)"),
    (conv, {"groups": 4}, "groups: expected a divisor of the 6 channels of x, got 4"),
    (conv, {"w": W[:, :2], "groups": 3}, "groups: expected a divisor of the 4 filters of w, got 3"),
    (
        conv,
        {"w": np.ones((4, 6, 3, 30))},
        "w: expected a window of at most 9 on spatial axis 1 (size 9 + padding 0 + 0), got 30 "
        "(kernel 30, dilation 1): 21 too large",
    ),
    (conv, {"w": np.ones((4, 6, 0, 3))}, "w: expected kernel sizes of at least 1, got 0: (4, 6, 0, 3)"),
    (conv, {"b": np.ones((4, 1))}, "b: expected shape (4,), got (4, 1)"),
    (conv, {"b": np.ones(5)}, "b: expected shape (4,), got (5,)"),
    (conv, {"b": np.float64(1)}, "b: expected shape (4,), got ()"),
    (
        conv,
        {"padding": MAX},
        f"padding: expected padded sizes of at most {2**48}, got {2 * MAX + 8} on spatial axis 0: "
        f"size 8 + padding {MAX} + {MAX}",
    ),
    (backward, {"dy": Y[:, :, :-1]}, "dy: expected shape (2, 4, 6, 7), got (2, 4, 5, 7)"),
    (
        backward,
        {"dy": Y[0]},
        "dy: expected shape (2, 4, 6, 7), got (4, 6, 7); for one image without N pass dy[None]",
    ),
    (backward, {"needs": "xyz"}, "needs: expected some of 'x', 'w', 'b', got 'xyz'"),
    (backward, {"needs": ("dx",)}, "needs: expected some of 'x', 'w', 'b', got ('dx',)"),
    (backward, {"needs": None}, "needs: expected some of 'x', 'w', 'b', got None"),
    (
        grad_input,
        {"x_shape": (6, 8, 9)},
        "x_shape: expected 4 axes (N, C and 2 spatial) for w of shape (4, 6, 3, 3), got 3: (6, 8, 9); "
        "for one image without N pass (1, *x_shape)",
    ),
    (grad_input, {"x_shape": (2, 6, -8, 9)}, "x_shape: expected sizes of at least 0, got -8: (2, 6, -8, 9)"),
    (grad_input, {"x_shape": (2, 6, 8, 10)}, "dy: expected shape (2, 4, 6, 8), got (2, 4, 6, 7)"),
    (
        grad_input,
        {"x_shape": (2, 6, 2**40, 2**40)},
        f"x_shape: expected an array of at most {MAX} elements, got {12 * 2**80}: {(2, 6, 2**40, 2**40)}",
    ),
    (
        grad_weight,
        {"w_shape": (4, 6, 3)},
        "x: expected 3 axes (N, C and 1 spatial) for w_shape of shape (4, 6, 3), got 4: (2, 6, 8, 9)",
    ),
    (
        grad_weight,
        {"w_shape": (4, 5, 3, 3)},
        "w_shape: expected 6 channels per filter (6 of x in 1 group), got 5: (4, 5, 3, 3)",
    ),
    (grad_weight, {"x": X[:, :, :-1]}, "dy: expected shape (2, 4, 5, 7), got (2, 4, 6, 7)"),
    (
        wr.conv_grad_bias,
        {"dy": Y[0, 0]},
        "dy: expected at least 3 axes (N, K and a spatial axis), got 2: (6, 7)",
    ),
]


@pytest.mark.parametrize(("call", "changes", "text"), SHAPE_ERRORS)
def test_shapes(call, changes, text):
    raises(ValueError, text, call, **changes)


@pytest.mark.parametrize(
    ("call", "name", "value", "text"),
    [
        (grad_input, "x_shape", 9, "x_shape: expected a sequence of ints, got int: 9"),
        (
            grad_input,
            "x_shape",
            (2, 6, 8, 9.0),
            "x_shape: expected a sequence of ints, got float 9.0 in (2, 6, 8, 9.0)",
        ),
        (grad_weight, "w_shape", None, "w_shape: expected a sequence of ints, got NoneType: None"),
    ],
)
def test_types_of_shapes(call, name, value, text):
    raises(TypeError, text, call, **{name: value})


# Sizes


def wide(*shape):
    """An array of any size that needs no memory."""
    return np.broadcast_to(1.0, shape)


@pytest.mark.parametrize(
    ("call", "arguments", "kind", "text"),
    [
        (
            wr.conv,
            (wide(2**31, 6, 3, 3), wide(2**33, 6, 3, 3)),
            ValueError,
            f"x: expected a result of at most {MAX} elements, got {2**64}: {(2**31, 2**33, 1, 1)}",
        ),
        (
            wr.conv,
            (wide(2**31, 6, 3, 3), wide(2**30, 6, 3, 3)),
            ValueError,
            f"y: expected at most {MAX} bytes, got {2**64} for shape {(2**31, 2**30, 1, 1)} of float64",
        ),
        (
            wr.conv_grad_weight,
            (wide(2, 2**30, 1), wide(2, 2**31, 1), (2**30, 2**31, 1)),
            ValueError,
            f"dw: expected at most {MAX} bytes, got {2**64} for shape {(2**30, 2**31, 1)} of float64",
        ),
        (
            wr.conv,
            (wide(2**31, 6, 3, 3), wide(2**12, 6, 3, 3)),
            MemoryError,
            f"y: cannot allocate {2**46} bytes for shape {(2**31, 2**12, 1, 1)} of float64",
        ),
        (
            wr.conv_grad_input,
            (wide(2**31, 6, 1), wide(6, 2**12, 3), (2**31, 2**12, 3)),
            MemoryError,
            f"dx: cannot allocate {3 * 2**46} bytes for shape {(2**31, 2**12, 3)} of float64",
        ),
        (
            wr.conv_grad_weight,
            (wide(2, 2**22, 1), wide(2, 2**22, 3), (2**22, 2**22, 3)),
            MemoryError,
            f"dw: cannot allocate {3 * 2**47} bytes for shape {(2**22, 2**22, 3)} of float64",
        ),
        (
            wr.conv_grad_bias,
            (wide(0, 2**50, 1),),
            MemoryError,
            f"db: cannot allocate {2**53} bytes for shape {(2**50,)} of float64",
        ),
    ],
)
def test_sizes_beyond_memory(call, arguments, kind, text):
    raises(kind, text, call, *arguments)


# Kinds of arrays

MASKED = "x: expected a plain array, got a masked array; pass x.filled(value), or x.data to ignore the mask"


@pytest.mark.parametrize(
    ("x", "kind", "text"),
    [
        (X.astype(object), TypeError, "x: expected a numeric array, got dtype object"),
        (X.astype(str), TypeError, "x: expected a numeric array, got dtype <U32"),
        (X.astype("S3"), TypeError, "x: expected a numeric array, got dtype |S3"),
        (None, TypeError, "x: expected a numeric array, got dtype object (from NoneType)"),
        ({"a": 1}, TypeError, "x: expected a numeric array, got dtype object (from dict)"),
        (np.ma.masked_array(X), TypeError, MASKED),
        ([[1.0, 2.0], [3.0]], ValueError, "x: expected sequences of equal lengths, got [[1.0, 2.0], [3.0]]"),
        (
            X.astype(np.float32),
            TypeError,
            "w: expected float32, the dtype of x, got float64; "
            "cast with w.astype(np.float32) or x.astype(np.float64)",
        ),
        (
            X.astype(np.int32),
            TypeError,
            "x: expected float32 or float64, got int32; cast with x.astype(np.float64)",
        ),
        (
            X.astype(bool),
            TypeError,
            "x: expected float32 or float64, got bool; cast with x.astype(np.float64)",
        ),
        (
            X.astype(np.float16),
            TypeError,
            "x: expected float32 or float64, got float16; cast with x.astype(np.float64)",
        ),
        (
            X.astype(complex),
            TypeError,
            "x: expected float32 or float64, got complex128; take x.real and x.imag one after the other",
        ),
        (X.astype("M8[s]"), TypeError, "x: expected float32 or float64, got datetime64[s]"),
        (
            np.zeros(X.shape, [("a", float)]),
            TypeError,
            "x: expected float32 or float64, got [('a', '<f8')]",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_kinds_of_arrays(x, kind, text):
    raises(kind, text, wr.conv, x, W)
    if kind is TypeError and not text.startswith("w"):
        raises(TypeError, text, wr.conv_backward, Y, x, W)
        raises(TypeError, text, wr.conv_grad_weight, Y, x, W.shape)
        dy = text.replace("x:", "dy:").replace("(x)", "(dy)").replace("x.", "dy.")
        raises(TypeError, dy, wr.conv_grad_input, x, W, X.shape)
        if getattr(x, "dtype", None) in (bool, np.float16):  # alone, they need no more than float32
            dy = dy.replace("astype(np.float64)", "astype(np.float32)")
        raises(TypeError, dy, wr.conv_grad_bias, x)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrices():
    text = "w: expected an array, got np.matrix; pass np.asarray(w)"
    raises(TypeError, text, wr.conv, X, np.asmatrix(W[0, 0]))


# out= and accumulate=


def out_errors():
    shape = Y.shape
    backing = np.zeros((4, 4, 6, 7))
    itself = np.lib.stride_tricks.as_strided(np.zeros(1000), shape, (8, 8, 56, 8))
    yield np.zeros((2, 4, 6, 8)), ValueError, "out: expected shape (2, 4, 6, 7), got (2, 4, 6, 8)"
    yield np.zeros(shape, np.float32), TypeError, "out: expected dtype float64, got float32"
    yield np.zeros(shape, ">f8"), TypeError, "out: expected dtype float64, got >f8"
    yield Y.tolist(), TypeError, "out: expected a NumPy array, got list"
    yield True, TypeError, "out: expected a NumPy array, got bool"
    read_only = np.zeros(shape)
    read_only.flags.writeable = False
    yield read_only, ValueError, "out: expected a writeable array, got a read-only one"
    yield (
        itself,
        ValueError,
        f"out: expected elements that do not overlap, got strides (8, 8, 56, 8) for shape {shape}",
    )
    yield (
        np.broadcast_to(backing[:1], shape),
        ValueError,
        "out: expected a writeable array, got a read-only one",
    )


@pytest.mark.parametrize(("out", "kind", "text"), list(out_errors()))
def test_out(out, kind, text):
    before = np.array(out)
    raises(kind, text, wr.conv, X, W, out=out)
    np.testing.assert_array_equal(out, before)


def test_out_that_shares_memory_with_an_input():
    memory = np.zeros(2000)
    x = memory[: X.size].reshape(X.shape)
    y = memory[X.size - 1 :][: Y.size].reshape(Y.shape)
    text = "out: expected memory of its own, got memory that {} uses too"
    raises(ValueError, text.format("x"), wr.conv, x, W, out=y)
    raises(ValueError, text.format("dy"), wr.conv_grad_input, y, W, X.shape, out=x)
    b = memory[X.size : X.size + 4]
    raises(ValueError, text.format("b"), wr.conv, X, W, b, out=y)
    raises(ValueError, text.format("dy"), wr.conv_grad_bias, y, out=y[0, :, 0, 0])
    assert not memory.any()


def test_accumulate():
    needs_out = "out: expected an array to add to, since accumulate=True, got None"
    raises(ValueError, needs_out, grad_input, accumulate=True)
    raises(ValueError, needs_out, grad_weight, accumulate=True)
    raises(ValueError, needs_out, wr.conv_grad_bias, Y, accumulate=True)
    not_bool = "accumulate: expected a bool, got int: 1"
    raises(TypeError, not_bool, grad_input, accumulate=1, out=np.zeros(X.shape))
    raises(TypeError, not_bool, grad_weight, accumulate=1, out=np.zeros(W.shape))
    raises(TypeError, not_bool, wr.conv_grad_bias, Y, accumulate=1, out=np.zeros(4))


# Workspaces


def test_too_small_a_workspace():
    with wr.num_threads(2):
        for call in (conv, grad_input, grad_weight):
            with pytest.raises(ValueError, match=r"^max_workspace: expected at least ") as caught:
                call(max_workspace=8)
            words = str(caught.value).split()
            needed = int(words[4])
            assert str(caught.value) == (
                f"max_workspace: expected at least {needed} bytes for this problem, got 8"
            )
            call(max_workspace=needed)
            raises(
                ValueError,
                str(caught.value).replace("got 8", f"got {needed - 1}"),
                call,
                max_workspace=needed - 1,
            )


def test_a_later_phase_that_has_too_little_workspace():
    """Of the stride phases of dx, those without a tap need least: none of them is written first."""
    dy, w = np.ones((2, 2, 2, 4)), np.ones((2, 3, 1, 5))
    options = {"stride": (11, 1), "padding": ((0, 3), (0, 0)), "max_workspace": 1}
    out = np.full((2, 3, 11, 8), 7.0)
    with wr.num_threads(2), pytest.raises(ValueError, match=r"^max_workspace: expected at least \d+ bytes"):
        wr.conv_grad_input(dy, w, out.shape, out=out, **options)
    assert (out == 7).all()


def test_strides_that_nothing_reaches():
    """One window: any longer stride is like any other, in every function, without tables of its length."""
    for stride in (9, 2**31, 2**62):
        np.testing.assert_array_equal(wr.conv(X[:, :, :3, :3], W, stride=stride), np.full((2, 4, 1, 1), 54.0))
        dx = wr.conv_grad_input(np.ones((2, 4, 1, 1)), W, (2, 6, 5, 6), stride=stride)
        assert dx.sum() == 2 * 4 * 54
        assert (dx[:, :, :3, :3] == 4).all()
        assert wr.fold(np.ones((1, 3, 1)), (8,), 3, stride=stride).sum() == 3
