"""Small problems have a driver of their own: the bits of the general ones, whatever the strides."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given

import windrow as wr
from tests.errors import raises
from tests.examples import per_target
from tests.problems import channels_last, problems, scrambled
from windrow import _core

ROOM = 2**40  # any limit at all sends a call the general way

dtypes = st.sampled_from([np.float32, np.float64])
TINY = ((4, 3, 5, 5), (2, 3, 3, 3))  # CS231n's check of gradients


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def kernel(operation, x_shape, w_shape, dtype, **options):
    return wr.explain(operation, x_shape, w_shape, dtype=dtype, **options)["kernel"]


@per_target(80)
@given(problem=problems(max_channels=6), dtype=dtypes, seed=st.integers(0, 2**32 - 1))
def test_has_the_bits_of_the_general_drivers(target, problem, dtype, seed):
    options = problem.options
    rng = np.random.default_rng(seed)
    shapes = problem.x_shape, problem.w_shape, (problem.w_shape[0],), problem.y_shape
    x, w, b, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    event(kernel("conv", x.shape, w.shape, dtype, **options))
    event(kernel("conv_grad_input", x.shape, w.shape, dtype, **options))
    event(kernel("conv_grad_weight", x.shape, w.shape, dtype, **options))
    y = wr.conv(x, w, b, max_workspace=ROOM, **options)
    dx = wr.conv_grad_input(dy, w, x.shape, max_workspace=ROOM, **options)
    dw = wr.conv_grad_weight(dy, x, w.shape, max_workspace=ROOM, **options)
    # More layouts than a problem keeps plans for, with and without out=.
    layouts = [
        lambda a: a,
        lambda a: scrambled(rng, a),
        channels_last,
        lambda a: scrambled(rng, a),
        lambda a: a[::-1].copy()[::-1],
        lambda a: a,
    ]
    for change in layouts:
        x2, dy2, w2 = change(x), change(dy), change(w)
        b2 = np.repeat(b, 2)[::2]
        np.testing.assert_array_equal(bits(wr.conv(x2, w2, b2, **options)), bits(y))
        np.testing.assert_array_equal(bits(wr.conv_grad_input(dy2, w2, x.shape, **options)), bits(dx))
        np.testing.assert_array_equal(bits(wr.conv_grad_weight(dy2, x2, w.shape, **options)), bits(dw))
        y_out, dx_out, dw_out = (change(np.full_like(a, np.nan)) for a in (y, dx, dw))
        np.testing.assert_array_equal(bits(wr.conv(x2, w2, b2, out=y_out, **options)), bits(y))
        np.testing.assert_array_equal(
            bits(wr.conv_grad_input(dy2, w2, x.shape, out=dx_out, **options)), bits(dx)
        )
        np.testing.assert_array_equal(
            bits(wr.conv_grad_weight(dy2, x2, w.shape, out=dw_out, **options)), bits(dw)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("operation", ["conv", "conv_grad_input", "conv_grad_weight"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options", "small"),
    [
        (*TINY, {"padding": 1}, True),
        ((1, 4, 9), (4, 2, 4), {"groups": 2, "stride": 2}, True),
        ((1, 1, 4, 4, 4), (2, 1, 2, 2, 2), {"dilation": 2, "padding": 1}, True),
        ((0, 3, 5, 5), (2, 3, 3, 3), {}, False),
        ((4, 0, 5, 5), (2, 0, 3, 3), {}, False),
        ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}, False),
        ((64, 3, 5, 5), (2, 3, 3, 3), {}, False),
        ((1, 1, 300, 300), (1, 1, 300, 300), {}, False),
    ],
)
def test_explain_says_so(dtype, operation, x_shape, w_shape, options, small):
    assert kernel(operation, x_shape, w_shape, dtype, **options).startswith("small_") is small
    assert not kernel(operation, x_shape, w_shape, dtype, max_workspace=ROOM, **options).startswith("small_")


def test_a_small_weight_gradient_is_one_unit_of_the_plan():
    """Beyond a unit's pixels another sum begins: the small driver, which knows one, must leave it alone."""
    rng = np.random.default_rng(8)
    for pixels in range(240, 300):
        x, dy = rng.standard_normal((1, 2, pixels)), rng.standard_normal((1, 3, pixels))
        general = wr.conv_grad_weight(dy, x, (3, 2, 1), max_workspace=ROOM)
        np.testing.assert_array_equal(bits(wr.conv_grad_weight(dy, x, (3, 2, 1))), bits(general))


def test_depthwise_weights_have_a_plan_of_their_own():
    told = kernel("conv_grad_weight", (4, 3, 5, 5), (3, 1, 3, 3), np.float32, padding=1, groups=3)
    assert told == "depthwise_gradient"


def test_phases_without_taps_are_no_small_problem():
    assert kernel("conv_grad_input", (1, 1, 8, 8), (1, 1, 1, 1), np.float32, stride=2) != "small_product"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_non_finite_values_stay_where_they_belong(target, dtype):
    """Lanes run on over the ends of rows and images: nothing may come from there."""
    rng = np.random.default_rng(5)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in TINY)
    x[1, 1, 2, 4], x[2, 0, 0, 0] = np.nan, np.inf
    y = wr.conv(x, w, padding=1)
    expected = np.zeros(y.shape, bool)
    expected[1, :, 1:4, 3:] = True
    expected[2, :, :2, :2] = True
    np.testing.assert_array_equal(~np.isfinite(y), expected)
    np.testing.assert_array_equal(
        ~np.isfinite(wr.conv_grad_input(y, w, x.shape, padding=1))[3], np.zeros(x.shape[1:], bool)
    )
    dw = wr.conv_grad_weight(np.ones((4, 2, 5, 5), dtype), x, w.shape, padding=1)
    np.testing.assert_array_equal(~np.isfinite(dw[:, 2]), np.zeros((2, 3, 3), bool))
    assert np.isnan(dw[:, 1, :, 1:]).all()


def test_accumulate_adds_to_out():
    rng = np.random.default_rng(6)
    x, w = (rng.standard_normal(shape) for shape in TINY)
    dy = rng.standard_normal((4, 2, 5, 5))
    out = rng.standard_normal(x.shape)
    general = wr.conv_grad_input(
        dy, w, x.shape, padding=1, out=out.copy(), accumulate=True, max_workspace=ROOM
    )
    for _ in range(2):
        fast = wr.conv_grad_input(dy, w, x.shape, padding=1, out=out.copy(), accumulate=True)
        np.testing.assert_array_equal(fast, general)


def test_the_fast_lane_refuses_what_the_checks_refuse():
    """A problem that has come before is no reason to look less closely at out=."""
    x, w, y = np.ones((2, 2, 4, 4)), np.ones((2, 2, 1, 1)), np.ones((2, 2, 4, 4))
    wr.conv(x, w)
    assert wr.conv(x, w, out=y) is y
    frozen = y.copy()
    frozen.flags.writeable = False
    raises(ValueError, "out: expected a writeable array, got a read-only one", wr.conv, x, w, out=frozen)
    raises(ValueError, "out: expected memory of its own, got memory that x uses too", wr.conv, x, w, out=x)
    same = np.lib.stride_tricks.as_strided(np.zeros(32), (2, 2, 4, 4), (0, 128, 32, 8))
    raises(
        ValueError,
        "out: expected elements that do not overlap, got strides (0, 128, 32, 8) for shape (2, 2, 4, 4)",
        wr.conv, x, w, out=same,
    )  # fmt: skip
    raises(TypeError, "out: expected dtype float64, got float32", wr.conv, x, w, out=y.astype(np.float32))
    raises(ValueError, "out: expected shape (2, 2, 4, 4), got (1, 2, 4, 4)", wr.conv, x, w, out=y[:1])
    raises(TypeError, "out: expected a NumPy array, got list", wr.conv, x, w, out=[1])
    raises(
        TypeError, "accumulate: expected a bool, got int: 1", wr.conv_grad_input, y, w, x.shape, accumulate=1
    )
    # Interleaved memory that shares no element is a longer look away, and fine.
    both = np.zeros((2, 2, 4, 8))
    inner, outer = both[..., ::2], both[..., 1::2]
    inner[...] = x
    np.testing.assert_array_equal(wr.conv(inner, w, out=outer), wr.conv(x, w))


def test_keys_tell_arguments_apart():
    x, w = np.arange(72.0).reshape(2, 1, 6, 6), np.ones((1, 1, 3, 3))
    calls = [
        {},
        {"padding": 1},
        {"padding": "same"},
        {"padding": "same_lower"},
        {"padding": "valid"},
        {"padding": (1, 0)},
        {"padding": ((1, 0), (0, 0))},
        {"padding": ((0, 1), (0, 0))},
        {"stride": 2},
        {"stride": (1, 2)},
        {"dilation": 2},
        {"dilation": (2, 1)},
    ]
    fresh = [wr.conv(x, w, **options) for options in calls]
    for options, expected in zip(calls, fresh):
        np.testing.assert_array_equal(wr.conv(x, w, **options), expected)
    for value in (True, 1.0, "1"):
        with pytest.raises((TypeError, ValueError), match=r"^padding: expected"):
            wr.conv(x, w, padding=value)


def test_forgets_before_it_grows_without_end():
    w = np.ones((1, 1, 1))
    for size in range(1, 3000):
        x = np.ones((1, 1, size))
        for _ in range(2):
            assert wr.conv(x, w).shape == (1, 1, size)


def test_target_changes_between_calls():
    x, w = np.ones((4, 3, 5, 5)), np.ones((2, 3, 3, 3))
    before = _core.target()
    try:
        results = []
        for name in _core.targets_available() * 2:
            _core.set_target(name)
            results.append(wr.conv(x, w, padding=1))
    finally:
        _core.set_target(before)
    for result in results:
        np.testing.assert_array_equal(result, results[0])
