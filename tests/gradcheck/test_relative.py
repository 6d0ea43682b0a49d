import re

import numpy as np
import pytest

from windrow.gradcheck import relative_error


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.0], [1.0, -2.0], 1.0),
        ([0.0], [0.0], 0.0),
        ([0.0], [1e-9], 0.1),  # 1e-9 over the floor 1e-8
        (3.0, 1.0, 0.5),
        ([], [], 0.0),
        ([np.inf, 1.0], [np.inf, 1.0], 0.0),
        ([np.inf], [1.0], 1.0),
        ([np.inf], [-np.inf], 1.0),
        ([1e308], [-1e308], 1.0),
        ([1j], [-1j], 1.0),
        ([True], [False], 1.0),
    ],
)
def test_known_values(a, b, expected):
    assert relative_error(a, b) == expected


def test_nan_is_not_hidden():
    assert np.isnan(relative_error([1.0, np.nan], [1.0, 1.0]))
    assert np.isnan(relative_error([1.0, np.nan], [1.0, np.inf]))


def test_unsigned_integers_do_not_wrap_and_half_does_not_overflow():
    assert relative_error(np.uint8([1]), np.uint8([3])) == 0.5
    assert relative_error(np.float16([60000]), np.float16([20000])) == 0.5


def test_the_formula_of_the_notebook():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 4, 5)) * 10.0 ** rng.integers(-12, 3, (3, 4, 5))
    b = a * (1 + 1e-3 * rng.standard_normal(a.shape))
    expected = np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b)))
    assert abs(relative_error(a, b) - expected) <= 8 * np.finfo(float).eps * expected


def test_arrays_are_not_written():
    a = np.arange(4.0)
    a.flags.writeable = False
    assert relative_error(a[::-1], a[::-1]) == 0.0


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "text"),
    [
        (np.zeros((2, 3)), np.zeros(6), {}, ValueError, "b: expected the shape of a, (2, 3), got (6,)"),
        ([1.0], [1.0], {"floor": 0.0}, ValueError, "floor: expected a positive number, got 0.0"),
        (["x"], [1.0], {}, TypeError, "a: expected an array of numbers, got dtype <U1"),
        ([1.0], [None], {}, TypeError, "b: expected an array of numbers, got dtype object"),
        (
            np.ma.masked_array([1.0]),
            [1.0],
            {},
            TypeError,
            "a: expected an array of numbers, got a masked array; fill it first",
        ),
    ],
)
def test_errors(a, b, options, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        relative_error(a, b, **options)
