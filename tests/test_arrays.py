"""Acceptance of arrays: what is taken as it is, and what is refused."""

import datetime

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from tests.awkward import read_only, unaligned
from tests.errors import raises
from windrow.arrays import (
    as_operand,
    check_fold_dtype,
    common_float,
    fill_value,
    is_native,
    native,
)

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)


class Subclass(np.ndarray):
    """A subclass of the user's."""


class Convertible:
    """An object that NumPy can convert."""

    def __array__(self, dtype=None, copy=None):
        return np.arange(3, dtype=np.int16)


# Inputs


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3)),
        np.zeros((4, 6))[::-2, ::3],
        np.broadcast_to(np.float32(1), (5, 5)),
        read_only(np.zeros(3)),
        np.zeros(3, ">f8"),
        unaligned((2, 2), "f8"),
        np.zeros((2, 0)),
        np.array(1.0),
        *(np.zeros(2, code) for code in "?bhilqBHILQefdgFDG"),
        *(np.zeros(2, code) for code in ("M8[s]", "m8", "V5", [("a", "i4"), ("b", ">f8", 2)])),
    ],
    ids=str,
)
def test_plain_arrays_are_taken_as_they_are(array):
    assert as_operand("x", array) is array


def test_subclasses_become_plain_without_a_copy(tmp_path):
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(3, 4))
    for array in (
        mapped,
        mapped[1:, ::2],
        np.zeros(3).view(Subclass),
        np.zeros(2, "i4,f4").view(np.recarray),
    ):
        operand = as_operand("x", array)
        assert type(operand) is np.ndarray
        assert np.shares_memory(operand, array)
        assert operand.shape == array.shape
        assert operand.strides == array.strides


def test_other_objects_go_through_asarray():
    assert np.array_equal(as_operand("x", [[1, 2], [3, 4]]), [[1, 2], [3, 4]])
    assert as_operand("x", 1.5).shape == ()
    assert np.array_equal(as_operand("x", Convertible()), [0, 1, 2])
    assert as_operand("x", Convertible()).dtype == np.int16


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_refused_by_name():
    raises(
        TypeError,
        "x: expected a plain array, got a masked array; pass x.filled(value), or x.data to ignore the mask",
        as_operand,
        "x",
        np.ma.array([1.0]),
    )
    raises(
        TypeError,
        "w: expected an array, got np.matrix; pass np.asarray(w)",
        as_operand,
        "w",
        np.matrix([[1.0]]),
    )
    for value, got in [
        (np.array([None]), "object"),
        (None, "object (from NoneType)"),
        ({1}, "object (from set)"),
        ([1, None], "object (from list)"),
        (np.array(["abc"]), "<U3"),
        ("abc", "<U3 (from str)"),
        (np.array([b"abc"]), "|S3"),
        (np.zeros(1, [("a", object)]), "[('a', 'O')]"),
        (np.zeros(1, [("a", "i4"), ("b", [("c", object)])]), "[('a', '<i4'), ('b', [('c', 'O')])]"),
        (np.zeros(1, "V0"), "|V0"),
    ]:
        raises(TypeError, f"x: expected a numeric array, got dtype {got}", as_operand, "x", value)
    raises(
        ValueError,
        "x: expected sequences of equal lengths, got [[1], [2, 3]]",
        as_operand,
        "x",
        [[1], [2, 3]],
    )


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 2 has StringDType")
def test_variable_strings_are_refused():
    text = "x: expected a numeric array, got dtype StringDType()"
    raises(TypeError, text, as_operand, "x", np.array(["a"], np.dtypes.StringDType()))


# Dtypes


def zeros(code):
    return np.zeros(2, code)


def test_the_common_dtype_is_native():
    assert common_float({"x": zeros("f4"), "w": zeros(">f4"), "b": None}) == F4
    assert common_float({"x": zeros(">f8"), "w": zeros("<f8"), "b": zeros("f8")}).isnative
    assert common_float({"dy": zeros(">f8")}) == F8


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        (
            {"x": "f4", "w": "f8"},
            "w: expected float32, the dtype of x, got float64; "
            "cast with w.astype(np.float32) or x.astype(np.float64)",
        ),
        (
            {"x": ">f8", "w": "f8", "b": ">f4"},
            "b: expected float64, the dtype of x, got float32; "
            "cast with b.astype(np.float64) or x.astype(np.float32)",
        ),
        ({"x": "i4", "w": "f4"}, "x: expected float32 or float64, got int32; cast with x.astype(np.float32)"),
        ({"x": "i4", "w": "i4"}, "x: expected float32 or float64, got int32; cast with x.astype(np.float64)"),
        ({"x": "u1", "w": "u1"}, "x: expected float32 or float64, got uint8; cast with x.astype(np.float32)"),
        ({"x": "f4", "w": "?"}, "w: expected float32 or float64, got bool; cast with w.astype(np.float32)"),
        (
            {"x": "f8", "w": "f2"},
            "w: expected float32 or float64, got float16; cast with w.astype(np.float64)",
        ),
        ({"x": "f2"}, "x: expected float32 or float64, got float16; cast with x.astype(np.float32)"),
        (
            {"x": "c8"},
            "x: expected float32 or float64, got complex64; take x.real and x.imag one after the other",
        ),
        ({"x": "M8[s]"}, "x: expected float32 or float64, got datetime64[s]"),
        ({"x": "V3"}, "x: expected float32 or float64, got |V3"),
    ],
)
def test_errors_of_convolution_dtypes(codes, text):
    raises(TypeError, text, common_float, {name: zeros(code) for name, code in codes.items()})


def test_long_doubles_are_cast_to_the_widest():
    name = np.dtype(np.longdouble).name
    if name == "float64":
        pytest.skip("long double is double here")
    text = f"x: expected float32 or float64, got {name}; cast with x.astype(np.float64)"
    raises(TypeError, text, common_float, {"x": zeros("g")})


def test_dtypes_of_fold():
    for code in ("b", "B", "h", "H", "i4", "u4", ">i8", "u8", "f2", "f4", ">f4", "f8", "c8", "c16"):
        check_fold_dtype("cols", zeros(code), "sum")
        if zeros(code).dtype.kind in "fc":
            check_fold_dtype("cols", zeros(code), "mean")
        if zeros(code).dtype.kind != "c":
            check_fold_dtype("cols", zeros(code), "max")
            check_fold_dtype("cols", zeros(code), "min")


@pytest.mark.parametrize(
    ("code", "reduce", "text"),
    [
        *(
            (code, reduce, f"cols: expected ints, floats up to 64 bits or complex up to 128, got {name}")
            for code, name in [
                ("?", "bool"),
                ("M8[D]", "datetime64[D]"),
                ("m8[s]", "timedelta64[s]"),
                ("V2", "|V2"),
            ]
            for reduce in ("sum", "max")
        ),
        (
            "i8",
            "mean",
            "cols: expected floats or complex for reduce='mean', got int64; "
            "cast with cols.astype(np.float64)",
        ),
        ("c8", "max", "cols: expected ints or floats for reduce='max', got complex64"),
        ("c16", "min", "cols: expected ints or floats for reduce='min', got complex128"),
    ],
)
def test_errors_of_fold_dtypes(code, reduce, text):
    raises(TypeError, text, check_fold_dtype, "cols", zeros(code), reduce)


def test_errors_of_reduce():
    text = "reduce: expected 'sum', 'mean', 'max' or 'min', got"
    raises(ValueError, f"{text} 'median'", check_fold_dtype, "cols", zeros("f4"), "median")
    raises(ValueError, f"{text} None", check_fold_dtype, "cols", zeros("f4"), None)


def half_element_strides():
    """Aligned complex numbers whose stride is one and a half elements."""
    return as_strided(np.zeros(12).view(complex), (4,), (24,))


def test_native_copies_only_what_arithmetic_cannot_read():
    for array in (
        np.zeros((3, 4)),
        np.zeros((6, 8))[::-2, ::2].T,
        np.broadcast_to(1.0, (2, 2)),
        np.zeros((0, 2)),
    ):
        assert is_native(array)
        assert native(array) is array
    flipped = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)
    for array in (flipped.astype(">f8"), unaligned((2, 3), "f8"), half_element_strides()):
        assert not is_native(array)
        copy = native(array)
        assert is_native(copy)
        assert not np.shares_memory(copy, array)
        assert np.array_equal(copy, array)
        assert copy.dtype == array.dtype.newbyteorder("=")
    # The memory format survives the copy.
    assert native(flipped.astype(">f8")).strides == flipped.strides


def test_strides_of_axes_of_length_1_mean_nothing():
    assert is_native(as_strided(np.zeros(4, complex), (1, 2), (24, 32)))


# Fill values


@pytest.mark.parametrize(
    ("value", "code", "expected"),
    [
        (0, "f4", 0.0),
        (0, "M8[s]", np.datetime64(0, "s")),
        (0, "V3", np.zeros((), "V3")[()]),
        (0, [("a", "i4")], np.zeros((), [("a", "i4")])[()]),
        (-1, "i1", -1),
        (np.int64(255), "u1", 255),
        (True, "?", True),
        (np.True_, "?", True),
        (1, "?", True),
        (1.5, ">f4", 1.5),
        (np.float16(2), "f8", 2.0),
        (10**30, "f8", 1e30),
        (-np.inf, "f2", -np.inf),
        (1e-30, "f2", 0.0),
        (1j, "c8", 1j),
        ("NaT", "M8[s]", np.datetime64("NaT", "s")),
        (np.datetime64("NaT"), "M8[s]", np.datetime64("NaT", "s")),
        (np.datetime64("2020-01-02"), "M8[s]", np.datetime64("2020-01-02T00:00:00")),
        (np.timedelta64(2, "m"), "m8[s]", np.timedelta64(120, "s")),
        ((1, 2.5), [("a", "i4"), ("b", "f4")], np.array((1, 2.5), [("a", "i4"), ("b", "f4")])[()]),
        (b"ab", "V2", np.array(b"ab", "V2")[()]),
    ],
)
def test_fill_values(value, code, expected):
    result = fill_value("fill", value, np.dtype(code))
    assert result.shape == ()
    assert result.dtype == np.dtype(code)
    assert result.tobytes() == np.array(expected, code).tobytes()


def test_nan_is_a_fill_value_of_floats():
    assert np.isnan(fill_value("fill", np.nan, F4))
    assert np.isnan(fill_value("fill", np.nan, np.dtype(complex)))


@pytest.mark.parametrize(
    ("value", "code", "kind", "text"),
    [
        (300, "u1", ValueError, "a value that uint8 can hold, got 300"),
        (-1, "u8", ValueError, "a value that uint64 can hold, got -1"),
        (2, "?", ValueError, "a value that bool can hold, got 2"),
        (1e300, "f4", ValueError, "a value that float32 can hold, got 1e+300"),
        (1e300 + 1j, "c8", ValueError, "a value that complex64 can hold, got (1e+300+1j)"),
        (1.0, "i4", TypeError, "a value of dtype int32, got float: 1.0"),
        (np.nan, "i4", TypeError, "a value of dtype int32, got float: nan"),
        (1.0, "?", TypeError, "a value of dtype bool, got float: 1.0"),
        (1j, "f8", TypeError, "a value of dtype float64, got complex: 1j"),
        ("1", "f8", TypeError, "a value of dtype float64, got str: '1'"),
        (None, "f8", TypeError, "a value of dtype float64, got NoneType: None"),
        (None, "M8[s]", TypeError, "a value of dtype datetime64[s], got NoneType: None"),
        ([1.0], "f8", TypeError, "a value of dtype float64, got list: [1.0]"),
        (1, "M8[s]", TypeError, "a value of dtype datetime64[s], got int: 1"),
        ("soon", "M8[s]", TypeError, "a value of dtype datetime64[s], got str: 'soon'"),
        (5, "V2", TypeError, "a value of dtype |V2, got int: 5"),
        (
            datetime.date(2020, 1, 1),
            "i4",
            TypeError,
            "a value of dtype int32, got date: datetime.date(2020, 1, 1)",
        ),
    ],
)
def test_errors_of_fill_values(value, code, kind, text):
    raises(kind, f"fill: expected {text}", fill_value, "fill", value, np.dtype(code))


def test_a_date_that_its_unit_cannot_hold():
    value = np.datetime64("2020-01-01T01:00")
    text = f"fill: expected a value that datetime64[D] can hold, got {value!r}"
    raises(ValueError, text, fill_value, "fill", value, np.dtype("M8[D]"))
