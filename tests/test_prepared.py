"""prepare_conv: the bits of conv, weights of its own, limits on the result."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import windrow as wr
from tests import tolerances
from tests.choice import only
from tests.errors import raises
from tests.examples import per_target
from tests.problems import channels_last, problems, scrambled
from windrow import _core, reference
from windrow.arrays import is_channels_last

CHUNK = _core._testing.CHUNK
activations = st.sampled_from([None, "relu", ("clip", -0.5, 1.5), ("clip", 0, 6)])


def limited(y, activation):
    """The rule in its plainest form."""
    if activation is None:
        return y
    low, high = (0, np.inf) if activation == "relu" else activation[1:]
    y = np.where(y < low, y.dtype.type(low), y)
    return np.where(y > high, y.dtype.type(high), y)


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


@per_target(60)
@given(
    problem=problems(),
    dtype=st.sampled_from([np.float32, np.float64]),
    activation=activations,
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_the_reference(target, problem, dtype, activation, seed):
    rng = np.random.default_rng(seed)
    x, w, b = (
        rng.standard_normal(shape).astype(dtype)
        for shape in (problem.x_shape, problem.w_shape, problem.w_shape[:1])
    )
    layer = wr.prepare_conv(w, b, activation=activation, **problem.options)
    exact = reference.conv(x, w, b, **problem.options)
    bound = tolerances.conv_error_bound(x, w, b, chunk=CHUNK, **problem.options)
    y = layer(x)
    # Limits bring numbers no farther apart.
    assert np.all(np.abs(y - limited(exact, activation)) <= bound)
    with wr.num_threads(3):
        for change in (lambda a: a, channels_last, lambda a: scrambled(rng, a)):
            np.testing.assert_array_equal(bits(layer(change(x))), bits(y))
            out = change(np.full(y.shape, np.nan, dtype))
            assert layer(change(x), out=out) is out
            np.testing.assert_array_equal(bits(out), bits(y))
    for i in range(len(x)):
        np.testing.assert_array_equal(bits(layer(x[i : i + 1])), bits(y[i : i + 1]))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("form", [np.ascontiguousarray, channels_last])
@pytest.mark.parametrize("activation", [None, "relu", ("clip", -1, 1)])
def test_larger_layers(target, threads, form, activation):
    rng = np.random.default_rng(11)
    x = form(rng.standard_normal((2, 24, 40, 41)).astype(np.float32))
    w, b = rng.standard_normal((50, 24, 3, 3)).astype(np.float32), rng.standard_normal(50).astype(np.float32)
    layer = wr.prepare_conv(w, b, padding=1, activation=activation)
    with wr.num_threads(threads):
        y = layer(x)
        with only(layer.explain(x.shape)["kernel"]):  # without kept weights the choice may be another one
            np.testing.assert_array_equal(y, limited(wr.conv(x, w, b, padding=1), activation))
    assert is_channels_last(y) == is_channels_last(x)
    # A result with gaps.
    out = np.zeros((2, 50, 40, 82), np.float32)[..., ::2]
    np.testing.assert_array_equal(layer(x, out=out), y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("activation", "low", "high"), [("relu", 0, np.inf), (("clip", -2, 3), -2, 3)])
def test_what_limits_do(target, dtype, activation, low, high):
    """NaN stays NaN, -0 stays -0 at a limit of 0, infinities become finite limits."""
    values = np.array([np.nan, -np.inf, -5, -0.0, 0.0, 1, 7, np.inf], dtype)
    layer = wr.prepare_conv(np.ones((1, 1, 1), dtype), np.full(1, -0.0, dtype), activation=activation)
    y = layer(values.reshape(1, 1, -1)).ravel()
    assert np.isnan(y[0])
    assert y.tolist()[1:] == [low, low, 0, 0, 1, min(7, high), high]
    big = np.tile(values, 4096).reshape(1, 1, -1)
    np.testing.assert_array_equal(layer(big).ravel(), np.tile(y, 4096))


def test_later_changes_of_the_weights_have_no_effect():
    w, b = np.ones((2, 1, 2)), np.zeros(2)
    x = np.arange(6.0).reshape(1, 1, 6)
    layer = wr.prepare_conv(w, b)
    before = layer(x)
    w[...], b[...] = np.nan, np.nan
    np.testing.assert_array_equal(layer(x), before)
    np.testing.assert_array_equal(layer(x[..., :4]), before[..., :3])
    assert layer.w.flags.writeable is False
    assert layer.b.flags.writeable is False
    stride = [2]
    strided = wr.prepare_conv(np.ones((2, 1, 2)), stride=stride)
    stride[0] = 1
    assert strided(x).shape == (1, 2, 3)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_pickles_weights_and_arguments(how):
    rng = np.random.default_rng(3)
    w, b = rng.standard_normal((4, 2, 3, 3)), rng.standard_normal(4)
    layer = wr.prepare_conv(
        w, b, stride=2, padding=((1, 0), (2, 1)), dilation=(1, 2), groups=2, algorithm="direct",
        activation=("clip", 0, 6),
    )  # fmt: skip
    x = rng.standard_normal((2, 4, 9, 10))
    y = layer(x)
    again = how(layer)
    assert repr(again) == repr(layer)
    np.testing.assert_array_equal(bits(again(x)), bits(y))
    np.testing.assert_array_equal(again.w, w)


def test_a_pickle_holds_the_raw_weights_once():
    layer = wr.prepare_conv(np.ones((64, 64, 3, 3), np.float32), padding=1)
    layer(np.ones((1, 64, 8, 8), np.float32))
    assert len(pickle.dumps(layer)) < layer.w.nbytes + 2000


def test_calls_from_many_threads():
    rng = np.random.default_rng(4)
    layer = wr.prepare_conv(rng.standard_normal((8, 3, 3, 3)), activation="relu")
    images = [rng.standard_normal((2, 3, 5 + i % 25, 30)) for i in range(40)]  # more shapes than it keeps
    expected = [layer(x) for x in images]
    fresh = pickle.loads(pickle.dumps(layer))
    start = threading.Barrier(16)

    def work(seed):
        order = np.random.default_rng(seed).permutation(len(images))
        start.wait()
        return all(np.array_equal(fresh(images[i]), expected[i]) for i in order)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_odd_images():
    w = np.ones((1, 1, 2))
    layer = wr.prepare_conv(w)
    x = np.arange(5.0).reshape(1, 1, 5)
    y = layer(x)
    for _ in range(2):
        np.testing.assert_array_equal(layer(x.tolist()), y)
        np.testing.assert_array_equal(layer(x.astype(">f8")), y)
        np.testing.assert_array_equal(layer(x[..., ::-1])[..., ::-1], y)
        assert layer(np.ones((0, 1, 5))).shape == (0, 1, 4)
    raw = np.zeros(33, np.uint8)[1:].view(np.float64).reshape(1, 1, 4)  # unaligned
    np.testing.assert_array_equal(layer(x, out=raw), y)
    assert wr.prepare_conv(np.ones((0, 1, 2)))(x).shape == (1, 0, 4)


def test_says_what_it_is():
    layer = wr.prepare_conv(
        np.ones((4, 2, 3, 3), np.float32), np.ones(4, np.float32), stride=2, padding=(1, 2), groups=2,
        activation=("clip", 0, 6),
    )  # fmt: skip
    assert repr(layer) == (
        "<PreparedConv: w (4, 2, 3, 3) of float32, b, stride=2, padding=((1, 1), (2, 2)), groups=2, "
        "activation=('clip', 0.0, 6.0)>"
    )
    assert repr(wr.prepare_conv(np.ones((4, 2, 3)))) == "<PreparedConv: w (4, 2, 3) of float64>"
    plan = layer.explain((1, 4, 32, 32), threads=1)
    assert plan["kernel"] == wr.explain(
        "conv", (1, 4, 32, 32), (4, 2, 3, 3), stride=2, padding=(1, 2), groups=2, threads=1
    )["kernel"]  # fmt: skip


W, X = np.ones((2, 1, 3)), np.ones((1, 1, 5))
EXPECTED = "activation: expected None, 'relu' or ('clip', low, high)"


@pytest.mark.parametrize(
    ("kind", "text", "arguments", "options"),
    [
        (
            ValueError,
            "w: expected at least 3 axes (K, C / groups and a kernel axis), got 2: (1, 3)",
            (W[0],),
            {},
        ),
        (ValueError, "b: expected shape (2,), got (3,)", (W, np.ones(3)), {}),
        (
            TypeError,
            "b: expected float64, the dtype of w, got float32; "
            "cast with b.astype(np.float64) or w.astype(np.float32)",
            (W, np.ones(2, np.float32)),
            {},
        ),
        (ValueError, "stride: expected at least 1, got 0", (W,), {"stride": 0}),
        (ValueError, "groups: expected a divisor of the 2 filters of w, got 3", (W,), {"groups": 3}),
        (
            ValueError,
            "algorithm: expected " + " or ".join(map(repr, wr.convolution.ALGORITHMS)) + ", got 'fast'",
            (W,),
            {"algorithm": "fast"},
        ),
        (ValueError, f"{EXPECTED}, got 'tanh'", (W,), {"activation": "tanh"}),
        (ValueError, f"{EXPECTED}, got ('clip', 1)", (W,), {"activation": ("clip", 1)}),
        (
            TypeError,
            f"{EXPECTED} with numbers, got ('clip', True, 2)",
            (W,),
            {"activation": ("clip", True, 2)},
        ),
        (TypeError, f"{EXPECTED} with numbers, got ('clip', '0', 2)", (W,), {"activation": ("clip", "0", 2)}),
        (
            ValueError,
            "activation: expected low <= high, got ('clip', 2, 1)",
            (W,),
            {"activation": ("clip", 2, 1)},
        ),
        (
            ValueError,
            "activation: expected low <= high, got ('clip', nan, 1)",
            (W,),
            {"activation": ("clip", np.nan, 1)},
        ),
    ],
)
def test_refuses_arguments(kind, text, arguments, options):
    raises(kind, text, wr.prepare_conv, *arguments, **options)


def test_refuses_images():
    layer = wr.prepare_conv(W)
    for _ in range(2):
        layer(X)
        raises(
            TypeError,
            "w: expected float32, the dtype of x, got float64; "
            "cast with w.astype(np.float32) or x.astype(np.float64)",
            layer, X.astype(np.float32),
        )  # fmt: skip
        raises(ValueError, "out: expected shape (1, 2, 3), got (1, 2, 4)", layer, X, np.ones((1, 2, 4)))
        both = np.ones((1, 2, 5))
        raises(
            ValueError,
            "out: expected memory of its own, got memory that x uses too",
            layer, both[:, :1], both[:, :, 1:4],
        )  # fmt: skip
        frozen = np.ones((1, 2, 3))
        frozen.flags.writeable = False
        raises(ValueError, "out: expected a writeable array, got a read-only one", layer, X, frozen)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transformed_weights_are_kept(dtype):
    """Winograd's layers, from several threads, for any batch; direct where w is not finite."""
    rng = np.random.default_rng(12)
    w = rng.standard_normal((64, 64, 3, 3)).astype(dtype)
    x = rng.standard_normal((3, 64, 40, 40)).astype(dtype)
    layer = wr.prepare_conv(w, padding=1)
    assert layer.explain(x.shape)["algorithm"] == "winograd"
    y = layer(x)
    np.testing.assert_array_equal(y, wr.conv(x, w, padding=1, algorithm="winograd"))
    fresh = wr.prepare_conv(w, padding=1)
    with ThreadPoolExecutor(4) as pool:
        for i, alone in enumerate(pool.map(fresh, [x[i : i + 1] for i in (0, 1, 2)])):
            np.testing.assert_array_equal(alone, y[i : i + 1])
    w[5, 6, 1, 1] = np.nan
    poisoned = wr.prepare_conv(w, padding=1)
    for _ in range(2):
        np.testing.assert_array_equal(poisoned(x), wr.conv(x, w, padding=1, algorithm="direct"))
