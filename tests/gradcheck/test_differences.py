import re

import numpy as np
import pytest

from windrow.gradcheck import numerical_vjp

EPS = {np.float32: np.finfo(np.float32).eps, np.float64: np.finfo(np.float64).eps}


def draw(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def difference_bound(eps, power, terms, size):
    """Truncation and rounding of a difference with the default step, which balances both at eps**power.

    sin and cos have derivatives of at most 1 and arguments of some units; the step is at most twice the
    larger of |x_i| and the median, rounding adds a few eps per term over the step.
    """
    return 8 * terms * size * eps**power


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3, 2)])
@pytest.mark.parametrize(("method", "power"), [("central", 2 / 3), ("richardson", 4 / 5), ("complex", 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_method_on_every_shape(shape, method, power, dtype):
    x, dy = draw(shape, dtype), draw(shape, dtype, 1)
    got = numerical_vjp(np.sin, x, dy, method=method)
    assert got.shape == shape
    assert got.dtype == np.float64
    bound = difference_bound(EPS[dtype], power, 1, np.max(np.abs(dy)) * max(1, np.max(np.abs(x))) ** 4)
    assert np.max(np.abs(got - dy.astype(float) * np.cos(x.astype(float)))) <= bound


def test_scalar_functions_give_gradients():
    x = draw((3, 4))
    got = numerical_vjp(lambda v: float((v**3).sum()), x, 1.0)
    assert np.max(np.abs(got - 3 * x**2)) <= difference_bound(
        EPS[np.float64], 2 / 3, 12, np.max(np.abs(x)) ** 3
    )


def test_linear_functions_give_the_transpose():
    matrix = draw((7, 5))
    dy = draw(7, seed=1)
    got = numerical_vjp(lambda v: matrix @ v, draw(5, seed=2), dy)
    bound = difference_bound(EPS[np.float64], 2 / 3, 35, np.max(np.abs(matrix)))
    assert np.max(np.abs(got - matrix.T @ dy)) <= bound


def test_complex_matrices_give_the_conjugate_transpose():
    matrix = draw((4, 3)) + 1j * draw((4, 3), seed=1)
    dy = draw(4, seed=2) + 1j * draw(4, seed=3)
    x = draw(3, seed=4) + 1j * draw(3, seed=5)
    got = numerical_vjp(lambda v: matrix @ v, x, dy)
    bound = difference_bound(EPS[np.float64], 2 / 3, 24, np.max(np.abs(matrix)) * np.max(np.abs(dy)))
    assert got.dtype == np.complex128
    assert np.max(np.abs(got - matrix.conj().T @ dy)) <= bound


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_the_step_follows_the_scale_of_the_data(scale):
    x = scale * draw(6)
    got = numerical_vjp(lambda v: np.sin(v / scale), x, np.ones(6))
    assert np.max(np.abs(got * scale - np.cos(x / scale))) <= difference_bound(EPS[np.float64], 2 / 3, 1, 16)


def test_a_float32_function_of_float64_data_gets_a_float32_step():
    x = draw(6)
    got = numerical_vjp(lambda v: np.sin(v.astype(np.float32)), x, np.ones(6))
    assert np.max(np.abs(got - np.cos(x))) <= difference_bound(EPS[np.float32], 2 / 3, 1, 16)


@pytest.mark.parametrize(
    "x",
    [
        draw((6, 4))[::2, ::-1],
        draw((4, 3)).T,
        draw((3, 4)).astype(">f8"),
        np.broadcast_to(draw(4), (3, 4)),
        np.frombuffer(b"\0" + draw((3, 4)).tobytes(), np.float64, offset=1).reshape(3, 4),
    ],
    ids=["strided", "transposed", "byteswapped", "broadcast", "misaligned"],
)
def test_any_memory_is_right_and_never_written(x):
    before = np.array(x)
    x.flags.writeable = False
    dy = draw((3, 4), seed=1)
    got = numerical_vjp(np.sin, x, dy)
    np.testing.assert_array_equal(np.array(x), before)
    bound = difference_bound(EPS[np.float64], 2 / 3, 1, 16 * np.max(np.abs(dy)))
    assert np.max(np.abs(got - dy * np.cos(before))) <= bound


def test_functions_may_write_their_argument_or_return_one_buffer():
    x = draw(5)
    buffer = np.empty(5)

    def reuse(v):
        np.multiply(v, v, out=buffer)
        v[:] = np.nan
        return buffer

    got = numerical_vjp(reuse, x, np.ones(5))
    assert np.max(np.abs(got - 2 * x)) <= difference_bound(EPS[np.float64], 2 / 3, 1, 16)


def test_a_function_that_raises_leaves_the_array_alone():
    x = draw(3)
    before = x.copy()
    calls = []

    def fail(v):
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("no")
        return v

    with pytest.raises(RuntimeError, match=r"^no$"):
        numerical_vjp(fail, x, np.ones(3))
    np.testing.assert_array_equal(x, before)


def test_part_of_an_array():
    x = draw((3, 4))
    full = numerical_vjp(np.sin, x, np.ones((3, 4)))
    some = numerical_vjp(np.sin, x, np.ones((3, 4)), indices=[5, (0, 1), (-1, -1)])
    where = np.zeros((3, 4), bool)
    where[1, 1] = where[0, 1] = where[2, 3] = True
    np.testing.assert_array_equal(some, np.where(where, full, np.nan))
    drawn = numerical_vjp(np.sin, x, np.ones((3, 4)), samples=5)
    assert np.count_nonzero(~np.isnan(drawn)) == 5
    np.testing.assert_array_equal(drawn[~np.isnan(drawn)], full[~np.isnan(drawn)])
    assert np.count_nonzero(~np.isnan(numerical_vjp(np.sin, x, np.ones((3, 4)), samples=99))) == 12


def test_empty_arrays():
    assert numerical_vjp(np.sin, np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)


def test_an_explicit_step_is_taken():
    got = numerical_vjp(lambda v: v**3, np.array([1.0]), np.ones(1), step=0.5)
    assert got[0] == 3.25  # ((1.5**3 - 0.5**3) / 1) exactly


def test_progress_is_told():
    seen = []
    numerical_vjp(np.sin, draw(4), np.ones(4), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_bar_is_drawn(capsys):
    numerical_vjp(np.sin, draw(4), np.ones(4), progress=True)
    assert "numerical gradient" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: numerical_vjp(np.sin, np.arange(3), np.ones(3)),
            TypeError,
            "x: expected floating-point numbers, got int64, in which a small step is lost; "
            "cast it first: x.astype(np.float64)",
        ),
        (
            lambda: numerical_vjp(lambda v: v > 0, np.ones(3), np.ones(3)),
            TypeError,
            "f(x): expected floating-point numbers, got bool, in which a small step is lost; "
            "cast it first: f(x).astype(np.float64)",
        ),
        (
            lambda: numerical_vjp(np.sin, np.ones(3), np.ones(2)),
            ValueError,
            "dy: expected the shape of f(x), (3,), got (2,)",
        ),
        (
            lambda: numerical_vjp(np.sin, np.ones(3), np.ones(3), method="forward"),
            ValueError,
            "method: expected one of central, richardson, complex, got 'forward'",
        ),
        (
            lambda: numerical_vjp(np.sin, np.ones(3), np.ones(3), step=0.0),
            ValueError,
            "step: expected a positive number, got 0.0",
        ),
        (
            lambda: numerical_vjp(np.sin, np.ones(3), np.ones(3), indices=[0], samples=1),
            ValueError,
            "indices: expected one of indices and samples, got both",
        ),
        (
            lambda: numerical_vjp(np.sin, np.ones(3), np.ones(3), indices=[3]),
            ValueError,
            "indices: expected positions below the size 3, got 3",
        ),
        (
            lambda: numerical_vjp(np.sin, np.ones((2, 3)), np.ones((2, 3)), indices=[(0, 3)]),
            ValueError,
            "indices: expected places inside the shape (2, 3), got (0, 3)",
        ),
        (
            lambda: numerical_vjp(np.sin, np.ones(3), np.ones(3), samples=-1),
            ValueError,
            "samples: expected a count of at least 0, got -1",
        ),
        (
            lambda: numerical_vjp(np.abs, np.ones(3), np.ones(3), method="complex"),
            TypeError,
            'method: "complex" needs an f that keeps complex numbers, got float64 for a complex128 x; '
            'use "central"',
        ),
        (
            lambda: numerical_vjp(np.sin, np.ones(3, complex), np.ones(3), method="complex"),
            TypeError,
            'method: "complex" needs a real x, got complex128; use "central"',
        ),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        call()
