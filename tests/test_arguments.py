"""Sizes, strides and padding as users write them, right and wrong."""

import numpy as np
import pytest

from tests.errors import raises
from windrow._core import exact
from windrow.arguments import shape_argument
from windrow.geometry import conv_geometry, patch_geometry

X = (2, 3, 8, 9)
MAX = 2**63 - 1


def patches(x_shape=X, kernel_size=3, stride=1, padding=0, dilation=1):
    return patch_geometry(x_shape, kernel_size, stride, padding, dilation)


@pytest.mark.parametrize(
    "value", [2, (2, 2), [2, 2], np.int16(2), np.array(2), np.array([2, 2]), range(2, 3)]
)
def test_ways_to_write_a_size(value):
    shape = (1, 1, 8) if isinstance(value, range) else (1, 1, 8, 8)
    assert set(patches(shape, 3, value).windows.stride) == {2}
    assert set(patches(shape, value).windows.kernel_size) == {2}
    assert set(patches(shape, 3, 1, 0, value).windows.dilation) == {2}


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (1, ((1, 1), (1, 1))),
        (np.int32(1), ((1, 1), (1, 1))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        (((1, 2), (0, 3)), ((1, 2), (0, 3))),
        ([[1, 2], (0, 3)], ((1, 2), (0, 3))),
        (np.array([[1, 2], [0, 3]]), ((1, 2), (0, 3))),
        ("valid", ((0, 0), (0, 0))),
        ("same", ((1, 2), (1, 1))),
        ("same_lower", ((2, 1), (1, 1))),
    ],
)
def test_ways_to_write_padding(padding, expected):
    assert patches(kernel_size=(4, 3), padding=padding).windows.padding == expected


def test_per_axis_padding_in_2d_is_pairs_in_1d():
    assert patches((1, 1, 8), 3, 1, ((1, 2),)).windows.padding == ((1, 2),)
    assert patches((1, 1, 8, 8), 3, 1, (1, 2)).windows.padding == ((1, 1), (2, 2))


def test_types_are_judged_although_an_equal_key_is_cached():
    patches(X, 3, 1, 1, 1)
    for position, name in ((1, "kernel_size"), (2, "stride"), (3, "padding"), (4, "dilation")):
        for wrong in (True, 1.0, np.float64(1), np.bool_(True)):
            arguments = [X, 1, 1, 1, 1]
            arguments[position] = wrong
            with pytest.raises(TypeError, match=rf"^{name}: expected an int"):
                patch_geometry(*arguments)


# Errors, word for word

SIZES = [
    (TypeError, "{}: expected an int or one int per spatial axis, got bool: True", True),
    (TypeError, "{}: expected an int or one int per spatial axis, got float: 1.0", 1.0),
    (TypeError, "{}: expected an int or one int per spatial axis, got NoneType: None", None),
    (TypeError, "{}: expected an int or one int per spatial axis, got str: '12'", "12"),
    (TypeError, "{}: expected an int or one int per spatial axis, got set: {{1, 2}}", {1, 2}),
    (TypeError, "{}: expected an int or one int per spatial axis, got dict: {{1: 1, 2: 2}}", {1: 1, 2: 2}),
    (TypeError, "{}: expected an int or one int per spatial axis, got float 2.0 in (1, 2.0)", (1, 2.0)),
    (TypeError, "{}: expected an int or one int per spatial axis, got bool True in [1, True]", [1, True]),
    (
        TypeError,
        "{}: expected an int or one int per spatial axis, got tuple (1, 2) in ((1, 2), 1)",
        ((1, 2), 1),
    ),
    (ValueError, "{}: expected at least 1, got 0", 0),
    (ValueError, "{}: expected at least 1, got 0: (1, 0)", (1, 0)),
    (ValueError, "{}: expected at least 1, got -2: (-2, 1)", (-2, 1)),
    (ValueError, "{}: expected ints that fit int64, got one of 64 bits", 2**63),
    (ValueError, "{}: expected ints that fit int64, got one of 40001 bits", (1, 2**40000)),
]


@pytest.mark.parametrize(("kind", "text", "value"), SIZES, ids=[str(n) for n in range(len(SIZES))])
@pytest.mark.parametrize("name", ["kernel_size", "stride", "dilation"])
def test_errors_of_sizes(name, kind, text, value):
    raises(kind, text.format(name), patches, **{name: value})


@pytest.mark.parametrize("name", ["stride", "dilation"])
def test_errors_of_a_wrong_number_of_sizes(name):
    raises(
        ValueError,
        f"{name}: expected 2 values for a 2-D window, got 3: (1, 1, 1)",
        patches,
        **{name: (1, 1, 1)},
    )
    raises(ValueError, f"{name}: expected 2 values for a 2-D window, got 1: (1,)", patches, **{name: (1,)})
    raises(ValueError, f"{name}: expected 2 values for a 2-D window, got 0: ()", patches, **{name: ()})
    raises(
        ValueError,
        f"{name}: expected 1 value for a 1-D window, got 2: (1, 1)",
        patches,
        (1, 1, 8),
        **{name: (1, 1)},
    )
    raises(
        ValueError,
        f"{name}: expected one entry per axis, got 1000 entries: range(0, 1000)",
        patches,
        **{name: range(1000)},
    )


PADDINGS = [
    (TypeError, "an int, ints or (before, after) pairs per spatial axis, or a mode, got bool: True", True),
    (TypeError, "an int, ints or (before, after) pairs per spatial axis, or a mode, got float: 0.5", 0.5),
    (
        TypeError,
        "an int, ints or (before, after) pairs per spatial axis, or a mode, got NoneType: None",
        None,
    ),
    (
        TypeError,
        "an int, ints or (before, after) pairs per spatial axis, or a mode, got str 'same' in ('same', 1)",
        ("same", 1),
    ),
    (
        TypeError,
        "an int, ints or (before, after) pairs per spatial axis, or a mode, got float 1.0 in ((0, 1.0),)",
        ((0, 1.0),),
    ),
    (ValueError, "'valid', 'same' or 'same_lower', got 'full'", "full"),
    (ValueError, "'valid', 'same' or 'same_lower', got 'SAME'", "SAME"),
    (ValueError, "at least 0, got -1; to crop, slice the array", -1),
    (ValueError, "at least 0, got -1: (0, -1); to crop, slice the array", (0, -1)),
    (ValueError, "at least 0, got -3: ((0, 1), (-3, 0)); to crop, slice the array", ((0, 1), (-3, 0))),
    (ValueError, "2 values for a 2-D window, got 3: (1, 1, 1)", (1, 1, 1)),
    (
        ValueError,
        "2 values for a 2-D window, got 4: (1, 2, 3, 4); "
        "for unequal sides write one pair per axis: ((before, after), (before, after))",
        (1, 2, 3, 4),
    ),
    (ValueError, "only ints or only (before, after) pairs, got both: (1, (1, 2))", (1, (1, 2))),
    (ValueError, "(before, after) pairs, got 3 values (1, 2, 3) in ((1, 2, 3), (1, 2))", ((1, 2, 3), (1, 2))),
    (ValueError, "(before, after) pairs, got 1 value [1] in [[1], [2]]", [[1], [2]]),
    (ValueError, "2 pairs for a 2-D window, got 1: ((1, 2),)", ((1, 2),)),
    (ValueError, "ints that fit int64, got one of 65 bits", 2**64),
    (ValueError, "one entry per axis, got 1000 entries: range(0, 1000)", range(1000)),
]


@pytest.mark.parametrize(("kind", "text", "value"), PADDINGS, ids=[str(n) for n in range(len(PADDINGS))])
def test_errors_of_padding(kind, text, value):
    raises(kind, f"padding: expected {text}", patches, padding=value)
    raises(kind, f"padding: expected {text}", conv_geometry, X, (5, 3, 3, 3), 1, value, 1, 1)


def test_a_pair_in_1d_is_suggested_as_a_pair():
    raises(
        ValueError,
        "padding: expected 1 value for a 1-D window, got 2: (1, 2); for unequal sides write ((1, 2),)",
        patches,
        (1, 1, 8),
        padding=(1, 2),
    )


def test_shapes_from_the_user():
    assert shape_argument("x_shape", [np.int64(1), 2, 0]) == (1, 2, 0)
    assert shape_argument("x_shape", ()) == ()
    raises(TypeError, "x_shape: expected a sequence of ints, got int: 3", shape_argument, "x_shape", 3)
    raises(
        TypeError, "x_shape: expected a sequence of ints, got str: '123'", shape_argument, "x_shape", "123"
    )
    raises(
        TypeError,
        "x_shape: expected a sequence of ints, got float 2.0 in (1, 2.0)",
        shape_argument,
        "x_shape",
        (1, 2.0),
    )
    raises(
        ValueError,
        "w_shape: expected sizes of at least 0, got -1: (1, -1)",
        shape_argument,
        "w_shape",
        (1, -1),
    )
    raises(
        ValueError,
        f"x_shape: expected an array of at most {MAX} elements, got {2**64}: ({2**32}, {2**32})",
        shape_argument,
        "x_shape",
        (2**32, 2**32),
    )


def test_texts_stay_short_and_never_fail():
    class Rude:
        def __repr__(self):
            raise RuntimeError

    raises(
        TypeError,
        "stride: expected an int or one int per spatial axis, got Rude: <no repr: RuntimeError>",
        patches,
        stride=Rude(),
    )
    with pytest.raises(TypeError) as caught:
        patches(stride=np.zeros((100, 100, 4)))
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_exact():
    assert exact()
    assert exact(1, (1, 2), "same", ((1, 2), (0, 0)), ())
    for value in (True, 1.0, None, [1], (1, True), (1.0, 1), ((1, True), (0, 0)), (np.int64(1),), ([1, 2],)):
        assert not exact(value)
        assert not exact(1, value)
