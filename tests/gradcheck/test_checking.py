"""What `check` sees beyond wrong values, what it refuses, and how it says so."""

import functools

import numpy as np
import pytest
from tests.gradcheck import layers

from windrow.gradcheck import GradientError, Problem, assert_gradients, check
from windrow.gradcheck.meter import Claim, Meter
from windrow.gradcheck.pair import Pair

RNG = np.random.default_rng(7)
X, W = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 2))


def matmul(x, w):
    return x @ w


def matmul_backward(dy, x, w):
    return dy @ w.T, x.T @ dy


def failing(report):
    return {(row.argument, row.test): row.note for row in report.failures}


# Ways to give a pair


def test_every_way_to_return_gradients():
    for backward in (
        matmul_backward,
        lambda dy, x, w: list(matmul_backward(dy, x, w)),
        lambda dy, x, w: dict(zip("xw", matmul_backward(dy, x, w))),
    ):
        assert check(matmul, backward, (X, W))
    for wrt in ("w", ["w"], 1, [1]):
        for backward in (
            lambda dy, x, w: x.T @ dy,
            lambda dy, x, w: (x.T @ dy,),
            lambda dy, x, w: (None, x.T @ dy),
            lambda dy, x, w: {"w": x.T @ dy},
        ):
            report = check(matmul, backward, (X, W), wrt=wrt)
            assert report
            assert [argument.name for argument in report.arguments] == ["w"]


def test_one_input_need_not_be_in_a_sequence():
    assert check(np.sin, lambda dy, x: dy * np.cos(x), X)
    assert check(np.sin, lambda dy, x: (dy * np.cos(x),), [X])
    assert check(np.sin, lambda dy, x: dy * np.cos(x), 0.5)


def test_other_inputs_are_passed_on():
    def forward(x, labels, options, nothing):
        assert labels.dtype == np.int64
        assert options == {"scale": 2.0}
        assert nothing is None
        return x[labels] * options["scale"]

    def backward(dy, x, labels, options, nothing):
        dx = np.zeros_like(x)
        np.add.at(dx, labels, dy * options["scale"])
        return dx

    assert check(forward, backward, (X, np.array([0, 2, 0]), {"scale": 2.0}, None))


def test_caches():
    case = layers.batch_norm(np.random.default_rng(1), np.float64)
    assert check(case.forward, case.backward, case.inputs, cached=True)


def test_memory_formats_reach_the_pair():
    x = np.asfortranarray(X)

    def forward(x):
        assert x.flags.f_contiguous
        return x * 2

    assert check(forward, lambda dy, x: dy * 2, x)


def test_the_callers_arrays_are_never_written():
    x, w, dy = X.copy(), W.copy(), np.ones((3, 2))
    for array in (x, w, dy):
        array.flags.writeable = False
    assert check(matmul, matmul_backward, (x, w), dy=dy)


def test_a_given_dy_is_used():
    seen = []

    def backward(dy, x, w):
        seen.append(dy.copy())
        return matmul_backward(dy, x, w)

    dy = RNG.standard_normal((3, 2))
    assert check(matmul, backward, (X, W), dy=dy)
    np.testing.assert_array_equal(seen[0], dy)


def test_the_seed_decides_everything():
    one, two, other = (check(matmul, matmul_backward, (X, W), seed=seed) for seed in (3, 3, 4))
    assert one.to_json() == two.to_json() != other.to_json()


def test_progress_is_told():
    seen = []
    check(matmul, matmul_backward, (X, W), progress=lambda done, total: seen.append((done, total)))
    done, totals = zip(*seen)
    assert set(totals) == {totals[0]}
    assert list(done) == sorted(done)
    assert done[-1] == totals[0]


# Behaviour that is not a matter of values


def test_random_functions_are_reported():
    rng = np.random.default_rng(0)
    report = check(lambda x: x * rng.random(x.shape), lambda dy, x: dy, X)
    assert failing(report) == {("forward", "same bits twice"): "random? fix its seed inside forward"}
    report = check(lambda x: x * 2, lambda dy, x: dy * rng.random(x.shape), X)
    assert failing(report) == {("backward", "same bits twice"): "random? fix its seed inside backward"}


def test_written_inputs_are_reported():
    def forward(x, w):
        x *= 1.5
        return x @ w / 1.5

    report = check(forward, matmul_backward, (X, W))
    assert failing(report) == {("forward", "inputs not written"): "x changed"}

    def backward(dy, x, w):
        gradients = matmul_backward(dy, x, w)
        dy[...] = 0
        w[...] = 0
        return gradients

    report = check(matmul, backward, (X, W))
    assert failing(report) == {
        ("backward", "inputs not written"): "w changed",
        ("backward", "dy not written"): "dy changed",
    }


@pytest.mark.parametrize(
    ("change", "test", "note"),
    [
        (lambda dw: None, "shape", "no gradient: backward gives None"),
        (lambda dw: dw[:3], "shape", "(3, 2), expected (4, 2)"),
        (lambda dw: dw.astype(np.int64), "dtype", "int64, expected float64"),
        (lambda dw: dw.astype(np.float32), "shape and dtype", "float32, expected float64"),
        (lambda dw: dw + 0j, "dtype", "complex128, expected float64"),
        (lambda dw: np.where(dw == dw[1, 0], np.nan, dw), "finite", "dw[1, 0] is nan"),
        (lambda dw: dw * np.inf, "finite", "dw[0, 0] is "),
    ],
)
def test_unsound_gradients_are_reported(change, test, note):
    def backward(dy, x, w):
        dx, dw = matmul_backward(dy, x, w)
        return dx, change(dw)

    found = failing(check(matmul, backward, (X, W)))
    assert set(found) == {("w", test)}
    assert found["w", test].startswith(note)


def test_dtypes_are_checked_unless_told_not_to():
    x = X.astype(np.float32)
    report = check(lambda x: x * 2, lambda dy, x: dy.astype(np.float64) * 2, x)
    assert failing(report) == {("x", "shape and dtype"): "float64, expected float32"}
    assert check(lambda x: x * 2, lambda dy, x: dy.astype(np.float64) * 2, x, check_dtypes=False)


def test_a_forward_without_finite_values_cannot_be_checked():
    report = check(np.sqrt, lambda dy, x: dy, np.array([1.0, np.inf]))
    assert failing(report) == {("forward", "finite"): "y[1] is inf"}
    assert report.arguments == ()


def test_a_backward_that_is_not_linear_in_dy_is_reported():
    report = check(lambda x: x * 2, lambda dy, x: np.abs(dy) * 2, X)
    assert "backward(a + b) is not backward(a) + backward(b)" in failing(report).values()
    report = check(lambda x: x * 2, lambda dy, x: dy * 2 + 1e-3, X)
    assert ("x", "linear in dy") in failing(report)


# Kinks


@pytest.mark.parametrize(
    ("at_zero", "holds"), [(0.0, True), (0.5, True), (1.0, True), (1.5, False), (-0.1, False)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_at_a_kink_a_gradient_lies_between_the_two_sides(at_zero, holds, dtype):
    x = np.array([-1.0, 0.0, 2.0, 0.5], dtype)

    def backward(dy, x):
        return dy * np.where(x == 0, dtype(at_zero), (x > 0).astype(dtype))

    report = check(layers.relu_forward, backward, x)
    assert bool(report) is holds
    assert report.arguments[0].kinks == 1
    if not holds:
        assert [entry.flat for entry in report.arguments[0].worst] == [1]
        assert [pattern.text for pattern in report.patterns] == ["only dx[1] is wrong"]


def test_kinks_are_counted_and_told():
    x = np.array([[1.0, 1.0], [2.0, 3.0], [4.0, 4.0]])

    def backward(dy, x):
        dx = np.zeros_like(x)
        dx[np.arange(3), x.argmax(axis=1)] = dy
        return dx

    report = check(lambda x: x.max(axis=1), backward, x)
    assert report.arguments[0].kinks == 4
    assert "at a kink (right between the one-sided derivatives): dx: 4 of 6 entries" in str(report)


def test_a_wrong_entry_among_ties_is_found():
    """Half the windows tie, so that slopes along directions say little with all outputs counted."""
    x = np.repeat(np.arange(50.0), 4).reshape(1, 1, 10, 20)
    forward, backward = layers.make_pool(2, 2, False)

    def wrong(dy, x):
        dx = backward(dy, x)
        dx[0, 0, 3, 5] += 1
        return dx

    assert check(forward, backward, x)
    report = check(forward, wrong, x, axes={"x": "n c h w"})
    assert [pattern.text for pattern in report.patterns] == ["only dx[n=0, c=0, h=3, w=5] is wrong"]


def test_jumps_too_small_to_see_are_allowed_for(monkeypatch):
    """A tie whose two sides move almost alike: the jump is above rounding, but no bend that one can tell."""
    monkeypatch.setattr("windrow.gradcheck.meter.LADDER", (1.0,))

    def backward(dy, x):
        return dy * np.array([1.0, 0.0])

    pair = Pair(np.max, backward, [np.ones(2)], wrt=None, names=None, axes=None, cached=False)
    pair.first_output()
    claim = Claim(np.ones(1), np.array([1.0, 0.0]), np.finfo(float).eps, (), 0.0)
    meter = Meter(pair, pair.arguments[0], claim, np.random.default_rng(0))
    for _ in range(20):  # directions of other jumps, which teach it nothing of this one
        meter.compare(meter.gaussian())
    found = meter.compare(np.array([1.0, 1.0 + 1e-7]))
    assert abs(found.error) > 1e-8
    assert found.bent == 0
    assert found.holds


def test_a_near_tie_does_not_hide_an_error():
    """One unit in the last place crosses it: a change of the gradient that is no rounding."""
    x = np.random.default_rng(0).standard_normal((100, 2))
    x[:20, 1] = np.nextafter(x[:20, 0], np.inf)

    def backward(dy, x):
        return dy[:, None] * (x == x.max(axis=1, keepdims=True))

    assert check(lambda x: x.max(axis=1), backward, x)
    report = check(lambda x: x.max(axis=1), lambda dy, x: 1.001 * backward(dy, x), x)
    assert [pattern.text for pattern in report.patterns] == ["dx is wrong by the constant factor 1.001"]


# Precision


@pytest.mark.parametrize("x", np.arange(6.0, 18.0, 0.5).astype(np.float32))
def test_gradients_that_are_small_differences_may_be_rounded_as_their_terms_are(x):
    """y * (1 - y) of a sigmoid near 1 keeps few digits, and is not wrong for that."""
    assert check(layers.sigmoid_forward, layers.sigmoid_backward, np.atleast_1d(x))


def test_rounding_that_only_shows_between_parts_of_dy():
    """Bits of g are lost beside 1e4 dy; the inputs' last place does not move them, another dy does."""
    assert check(lambda x: 2 * x, lambda dy, x: (1e4 * dy + 2 * dy) - 1e4 * dy, X)


def test_a_gradient_that_is_all_rounding_is_not_blamed():
    """Of two samples, normalised, only signs are left: their gradient cancels to nothing."""
    x = np.float32([[1.5, -0.25], [2.75, 3.0]])
    inputs = (x, np.float32([1.5, 0.5]), np.float32([0.1, 0.2]))
    report = check(layers.batch_norm_forward, layers.batch_norm_backward, inputs, cached=True)
    assert report, report


def test_entries_of_all_sizes_are_moved_by_their_own_size():
    x = np.array([1.0, -2.0, 0.5, 1e8])
    moves = []

    def forward(v):
        moves.append(abs(v[3] - x[3]))
        return v**2

    def backward(dy, v):
        return 2 * dy * v * np.array([1, 1, 1, 1.001])

    report = check(forward, backward, x)
    assert [pattern.text for pattern in report.patterns] == ["only dv[3] is wrong"]
    assert max(moves) >= np.finfo(float).eps ** (1 / 3) * x[3]


def refusing_float64(function):
    @functools.wraps(function)
    def narrow(*arrays):
        if any(array.dtype == np.float64 for array in arrays):
            raise TypeError("float32 only")
        return function(*arrays)

    return narrow


def test_float32_is_differentiated_in_float64_where_forward_takes_it():
    x = X.astype(np.float32)
    report = check(np.tanh, layers.tanh_backward, x)
    assert report
    assert report.arguments[0].differentiated_in == "float64"
    narrow = check(refusing_float64(np.tanh), layers.tanh_backward, x)
    assert narrow
    assert narrow.arguments[0].differentiated_in == "float32"
    assert report.arguments[0].sensitivity < narrow.arguments[0].sensitivity


@pytest.mark.parametrize("wrap", [refusing_float64, lambda function: function])
def test_two_percent_in_float32_are_not_drowned(wrap):
    x, w = X.astype(np.float32), W.astype(np.float32)
    report = check(wrap(matmul), lambda dy, x, w: (dy @ w.T * np.float32(1.02), x.T @ dy), (x, w))
    assert [pattern.text for pattern in report.patterns] == ["dx is wrong by the constant factor 1.02"]
    assert all(argument.affine for argument in report.arguments)


def test_functions_that_work_in_less_precision_than_they_return():
    def forward(x):
        return np.tanh(x.astype(np.float32)).astype(np.float64)

    assert check(forward, layers.tanh_backward, X)
    assert not check(forward, lambda dy, x: 1.01 * layers.tanh_backward(dy, x), X)


def test_an_error_beyond_the_sensitivity_is_caught():
    """Errors in every direction, of just the size that the report says it would see, many times."""
    x = np.random.default_rng(0).standard_normal(500)
    caught = 0
    for seed in range(10):
        right = check(np.tanh, layers.tanh_backward, x, entries=0, seed=seed)
        e = np.random.default_rng(seed).standard_normal(500)
        e *= right.arguments[0].sensitivity / np.linalg.norm(e)

        def backward(dy, x, e=e):
            return layers.tanh_backward(dy, x) + e * dy

        report = check(np.tanh, backward, x, entries=0, seed=seed)
        caught += ("x", "random directions") in failing(report)
    assert caught == 10


# Shrinking


def test_shrinking_finds_a_small_failing_case():
    def problem(n, i, o):
        rng = np.random.default_rng(0)
        return rng.standard_normal((n, i)), rng.standard_normal((i, o))

    def backward(dy, x, w):
        dx, dw = matmul_backward(dy, x, w)
        if w.shape[0] >= 3:
            dx[..., 2] = 0
        return dx, dw

    report = check(matmul, backward, problem, sizes={"n": 5, "i": 8, "o": 6}, shrink=True)
    assert not report
    assert report.sizes == {"n": 1, "i": 3, "o": 1}
    assert str(report).endswith("smallest failing case: n=1, i=3, o=1")
    assert not check(matmul, backward, problem, sizes={"n": 5, "i": 8, "o": 6}).sizes
    assert check(matmul, matmul_backward, problem, sizes={"n": 5, "i": 8, "o": 6}, shrink=True)


def test_shrinking_passes_over_sizes_that_are_no_problem():
    def problem(size, kernel, stride):
        rng = np.random.default_rng(0)
        forward, backward = layers.make_conv(stride, 0)
        arrays = tuple(rng.standard_normal(s) for s in ((1, 1, size, size), (1, 1, kernel, kernel), (1,)))

        def wrong(dy, x, w, b):
            dx, dw, db = backward(dy, x, w, b)
            if stride > 1:
                dx[:, :, 1::2] = 0
            return dx, dw, db

        return Problem(arrays, forward, wrong)

    sizes = {"size": 9, "kernel": 3, "stride": 2}
    report = check(None, None, problem, sizes=sizes, shrink=True)
    assert report.sizes == {"size": 2, "kernel": 2, "stride": 2}


# Assertions


def test_assert_gradients_gives_the_report_or_raises_it():
    assert assert_gradients(matmul, matmul_backward, (X, W))
    with pytest.raises(GradientError) as caught:
        assert_gradients(matmul, lambda dy, x, w: (dy @ w.T, -x.T @ dy), (X, W), title="product")
    text = str(caught.value)
    assert text.startswith("\nproduct: FAILS\n")
    assert "\n\nwhat it looks like\n  dw has the wrong sign\n" in text
    assert isinstance(caught.value, AssertionError)
