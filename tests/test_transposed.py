"""Transposed convolution and its gradients against the reference, over generated problems."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import windrow as wr
from tests import tolerances
from tests.errors import raises
from tests.examples import per_target
from tests.problems import channels_last, problems, scrambled
from windrow import _core, reference
from windrow.arrays import is_channels_last

CHUNK = _core._testing.CHUNK

dtypes = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)


@st.composite
def transposed(draw, **limits):
    """x, w and y shapes of a transposed convolution, and its options with one of the allowed output sizes."""
    problem = draw(problems(**limits))
    options = dict(problem.options)
    mode = draw(st.sampled_from([None, None, "same", "same_lower", "valid"]))
    if mode is not None:
        options["padding"] = mode
    x_shape = (problem.x_shape[0], problem.w_shape[0], *(min(s, 12) for s in problem.x_shape[2:]))
    window = {key: value for key, value in options.items() if key != "groups"}
    natural = reference.transposed.transposed_windows(x_shape[2:], problem.w_shape[2:], **window)
    if min(natural.size) < 0:
        options["padding"] = ((0, 0),) * natural.rank
        window["padding"] = options["padding"]
        natural = reference.transposed.transposed_windows(x_shape[2:], problem.w_shape[2:], **window)
    more = [0] * natural.rank
    if options["padding"] not in ("same", "same_lower"):
        more = [
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(natural.stride, natural.dilation, strict=True)
        ]
    size = tuple(a + b for a, b in zip(natural.size, more, strict=True))
    y_shape = (x_shape[0], problem.w_shape[1] * options["groups"], *size)
    return x_shape, problem.w_shape, y_shape, options, tuple(more)


def operands(shapes, dtype, seed, *, integers=False):
    rng = np.random.default_rng(seed)

    def draw(shape):
        values = rng.integers(-4, 5, shape) if integers else rng.standard_normal(shape)
        return values.astype(dtype)

    x_shape, w_shape, y_shape = shapes
    return [draw(shape) for shape in (x_shape, w_shape, (y_shape[1],), y_shape)]


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32 if array.itemsize == 4 else np.uint64)


@pytest.mark.parametrize("threads", [1, 3])
@per_target(50)
@given(problem=transposed(), dtype=dtypes, seed=seeds)
def test_agrees_with_the_reference(target, threads, problem, dtype, seed):
    *shapes, options, more = problem
    x, w, b, dy = operands(shapes, dtype, seed)
    with wr.num_threads(threads):
        y = wr.conv_transpose(x, w, b, output_padding=more, **options)
        dx, dw, db = wr.conv_transpose_backward(dy, x, w, **options)
    assert y.shape == dy.shape
    exact = reference.conv_transpose(x, w, b, output_padding=more, **options)
    # An entry has at most as many terms as there are channels and taps; the bias is one more rounding.
    terms = w.shape[0] // options["groups"] * int(np.prod(w.shape[2:]))
    size = reference.conv_transpose(
        np.abs(x), np.abs(w), np.abs(b), output_padding=more, dtype=np.float64, **options
    )
    within(y, exact, (tolerances.dot_error_factor(CHUNK, terms) + 1) * size, terms)
    exact = reference.conv_transpose_grad_input(dy, w, x.shape, **options)
    size = reference.conv_transpose_grad_input(np.abs(dy), np.abs(w), x.shape, dtype=np.float64, **options)
    terms = int(np.prod(w.shape[1:]))
    within(dx, exact, tolerances.dot_error_factor(CHUNK, terms) * size, terms)
    exact = reference.conv_transpose_grad_weight(dy, x, w.shape, **options)
    size = reference.conv_transpose_grad_weight(np.abs(dy), np.abs(x), w.shape, dtype=np.float64, **options)
    terms = x.shape[0] * int(np.prod(x.shape[2:]))
    within(dw, exact, (terms + 1) * size, terms)  # any order of the sum
    exact = reference.conv_grad_bias(dy)
    within(db, exact, tolerances.conv_grad_bias_error_bound(dy, chunk=CHUNK) / np.finfo(dtype).eps, 0)


def within(result, exact, roundings, terms):
    assert result.dtype == exact.dtype
    assert result.shape == exact.shape
    info = np.finfo(result.dtype)
    bound = info.eps * roundings + terms * info.smallest_subnormal
    assert np.all(np.abs(result.astype(np.longdouble) - exact) <= bound)


@per_target(50)
@given(problem=transposed(max_rank=5, max_channels=6), dtype=dtypes, seed=seeds)
def test_adjoint_identities_are_exact_on_integers_at_any_rank(target, problem, dtype, seed):
    *shapes, options, more = problem
    x, w, b, dy = operands(shapes, dtype, seed, integers=True)
    y = wr.conv_transpose(x, w, output_padding=more, **options)
    np.testing.assert_array_equal(y, reference.conv_transpose(x, w, output_padding=more, **options))
    dx, dw, db = (a.astype(np.float64) for a in wr.conv_transpose_backward(dy, x, w, **options))
    inner = np.vdot(dy.astype(np.float64), y)
    assert inner == np.vdot(dx, x) == np.vdot(dw, w)
    y_b = wr.conv_transpose(x, w, b, output_size=dy.shape[2:], **options).astype(np.float64)
    assert np.vdot(dy.astype(np.float64), y_b) == inner + np.vdot(db, b)


@per_target(50)
@given(problem=transposed(), dtype=dtypes, seed=seeds)
def test_same_bits_for_any_threads_layout_batch_and_out(target, problem, dtype, seed):
    *shapes, options, more = problem
    options = {**options, "output_padding": more}
    x, w, b, _ = operands(shapes, dtype, seed)
    with wr.num_threads(1):
        y = wr.conv_transpose(x, w, b, **options)
    rng = np.random.default_rng(seed)
    for change in (lambda a: scrambled(rng, a), lambda a: channels_last(a) if a.ndim > 2 else a):
        out = change(np.zeros_like(y))
        with wr.num_threads(3):
            assert wr.conv_transpose(change(x), change(w), change(b), out=out, **options) is out
        np.testing.assert_array_equal(bits(out), bits(y))
    for i in range(len(x)):
        alone = wr.conv_transpose(x[i : i + 1], w, b, **options)
        np.testing.assert_array_equal(bits(alone), bits(y[i : i + 1]))


@per_target(50)
@given(problem=transposed(), dtype=dtypes, seed=seeds)
def test_non_finite_values_are_those_of_the_direct_sum(target, problem, dtype, seed):
    *shapes, options, more = problem
    x, w, b, dy = operands(shapes, dtype, seed, integers=True)
    rng = np.random.default_rng(seed)
    for array in (x, w, dy):
        for value in (np.nan, np.inf, -np.inf):
            if array.size and rng.random() < 0.7:
                array.flat[rng.integers(array.size)] = value
    np.testing.assert_array_equal(
        wr.conv_transpose(x, w, b, output_padding=more, **options),
        reference.conv_transpose(x, w, b, output_padding=more, **options),
    )
    dx, dw, _ = wr.conv_transpose_backward(dy, x, w, **options)
    np.testing.assert_array_equal(dx, reference.conv_transpose_grad_input(dy, w, x.shape, **options))
    np.testing.assert_array_equal(dw, reference.conv_transpose_grad_weight(dy, x, w.shape, **options))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(problem=transposed(), seed=seeds)
def test_agrees_with_torch_exactly_on_integers(problem, seed):
    torch = pytest.importorskip("torch")
    x_shape, w_shape, y_shape, options, more = problem
    if isinstance(options["padding"], str) or 0 in x_shape or 0 in w_shape or 0 in y_shape:
        return
    x, w, b, dy = operands((x_shape, w_shape, y_shape), np.float64, seed, integers=True)
    # torch cuts the same off both sides: let it cut nothing, and cut the result.
    before, after = zip(*options["padding"], strict=True)
    leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, w, b)]
    run = getattr(torch.nn.functional, f"conv_transpose{x.ndim - 2}d")
    whole = run(*leaves, options["stride"], 0, more, options["groups"], options["dilation"])
    cut = (..., *(slice(f, n - a) for f, a, n in zip(before, after, whole.shape[2:], strict=True)))
    y = whole[cut]
    y.backward(torch.from_numpy(dy))
    np.testing.assert_array_equal(
        wr.conv_transpose(x, w, b, output_padding=more, **options), y.detach().numpy()
    )
    for mine, leaf in zip(wr.conv_transpose_backward(dy, x, w, **options), leaves, strict=True):
        np.testing.assert_array_equal(mine, leaf.grad.numpy())


def test_numerical_gradients():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 4, 3, 5)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(6)
    options = {"stride": (2, 3), "padding": ((1, 0), (0, 1)), "dilation": (1, 2), "groups": 2}

    def forward(x, w, b):
        return wr.conv_transpose(x, w, b, output_padding=(1, 0), **options)

    def backward(dy, x, w, b):
        return wr.conv_transpose_backward(dy, x, w, **options)

    wr.gradcheck.assert_gradients(forward, backward, (x, w, b))


@pytest.mark.parametrize("fmt", [np.ascontiguousarray, channels_last])
def test_memory_format_follows_the_input(fmt):
    last = fmt is channels_last
    x, w = fmt(np.ones((2, 3, 5, 6))), np.ones((3, 4, 2, 2))
    for _ in range(2):  # the second call takes the fast lane
        y = wr.conv_transpose(x, w, stride=2)
        assert is_channels_last(y) is last
    assert is_channels_last(wr.conv_transpose_backward(np.ones(y.shape), x, w, stride=2).dx) is last


def test_needs_chooses_the_gradients():
    x, w = np.ones((1, 2, 3)), np.ones((2, 4, 2))
    gradients = wr.conv_transpose_backward(np.ones((1, 4, 4)), x, w, needs=("w",))
    assert gradients.dx is None
    assert gradients.dw.shape == w.shape
    assert gradients.db is None


X = np.ones((2, 6, 4, 5))
W = np.ones((6, 4, 3, 3))

ERRORS = [
    (
        {"x": np.ones((2, 6, 4))},
        ValueError,
        "x: expected 4 axes (N, C and 2 spatial) for w of shape (6, 4, 3, 3), "
        "got 3: (2, 6, 4); for one image without N pass x[None]",
    ),
    (
        {"x": np.ones((2, 6, 0, 5))},
        ValueError,
        "x: expected spatial sizes of at least 1, got 0: (2, 6, 0, 5)",
    ),
    (
        {"w": np.ones((4, 6, 3, 3))},
        ValueError,
        "w: expected 6 channels in front, those of x, got 4: (4, 6, 3, 3)",
    ),
    (
        {"w": np.ones((6, 4))},
        ValueError,
        "w: expected at least 3 axes (C, K / groups and a kernel axis), got 2: (6, 4)",
    ),
    ({"w": np.ones((6, 4, 0, 3))}, ValueError, "w: expected kernel sizes of at least 1, got 0: (6, 4, 0, 3)"),
    ({"groups": 4}, ValueError, "groups: expected a divisor of the 6 channels of w, got 4"),
    ({"b": np.ones(6)}, ValueError, "b: expected shape (4,), got (6,)"),
    ({"stride": 0}, ValueError, "stride: expected at least 1, got 0"),
    (
        {"padding": 4},
        ValueError,
        "padding: expected at most 6 on both sides of spatial axis 0, "
        "the size of the result without it, got 8",
    ),
    (
        {"output_padding": 1},
        ValueError,
        "output_padding: expected at most 0 on spatial axis 0 (stride 1, dilation 1), got 1",
    ),
    (
        {"output_padding": (1, 2), "stride": 2},
        ValueError,
        "output_padding: expected at most 1 on spatial axis 1 (stride 2, dilation 1), got 2",
    ),
    ({"output_padding": -1}, ValueError, "output_padding: expected at least 0, got -1"),
    ({"output_padding": (1,)}, ValueError, "output_padding: expected 2 values for a 2-D window, got 1: (1,)"),
    (
        {"output_padding": 1.0},
        TypeError,
        "output_padding: expected an int or one int per spatial axis, got float: 1.0",
    ),
    (
        {"output_padding": 1, "stride": 2, "padding": "same"},
        ValueError,
        "output_padding: expected at most 0 on spatial axis 0 "
        "(padding='same', whose results have size * stride positions), got 1",
    ),
    (
        {"output_size": (9, 13), "stride": 2},
        ValueError,
        "output_size: expected 11 to 12 on spatial axis 1 for x of shape (2, 6, 4, 5), got 13",
    ),
    (
        {"output_size": 7},
        ValueError,
        "output_size: expected 6 on spatial axis 0 for x of shape (2, 6, 4, 5), got 7",
    ),
    (
        {"output_size": (9, 12), "output_padding": 1, "stride": 2},
        ValueError,
        "output_padding: expected 0 where output_size is given, got 1",
    ),
    (
        {"stride": 2**50},
        ValueError,
        "stride: expected results of at most 281474976710656 on an axis, "
        "got 3377699720527875 on spatial axis 0",
    ),
    (
        {"w": W.astype("f4")},
        TypeError,
        "w: expected float64, the dtype of x, got float32; "
        "cast with w.astype(np.float64) or x.astype(np.float32)",
    ),
    ({"out": np.ones((2, 4, 6, 6))}, ValueError, "out: expected shape (2, 4, 6, 7), got (2, 4, 6, 6)"),
    (
        {"algorithm": "fft"},
        ValueError,
        f"algorithm: expected {' or '.join(map(repr, wr.convolution.ALGORITHMS))}, got 'fft'",
    ),
    ({"max_workspace": 0}, ValueError, "max_workspace: expected at least 1, got 0"),
]


@pytest.mark.parametrize(("changes", "kind", "text"), ERRORS)
def test_errors(changes, kind, text):
    arguments = {"x": X, "w": W, **changes}
    raises(kind, text, wr.conv_transpose, arguments.pop("x"), arguments.pop("w"), **arguments)


def test_errors_of_the_gradients():
    raises(
        ValueError,
        "dy: expected 6 on spatial axis 0 for x of shape (2, 6, 4, 5), got 7",
        wr.conv_transpose_backward, np.ones((2, 4, 7, 7)), X, W,
    )  # fmt: skip
    raises(
        ValueError,
        "dy: expected shape (2, 4, 6, 7), got (2, 5, 6, 7)",
        wr.conv_transpose_backward, np.ones((2, 5, 6, 7)), X, W,
    )  # fmt: skip
    raises(
        ValueError,
        "dy: expected shape (2, 4, 6, 7), got (4, 6, 7); for one image without N pass dy[None]",
        wr.conv_transpose_backward, np.ones((4, 6, 7)), X, W,
    )  # fmt: skip
    raises(
        ValueError,
        "needs: expected some of 'x', 'w', 'b', got ('y',)",
        wr.conv_transpose_backward, np.ones((2, 4, 6, 7)), X, W, needs=("y",),
    )  # fmt: skip


def test_nothing_is_written_on_an_error():
    out = np.full((2, 4, 6, 7), 5.0)
    with pytest.raises(ValueError):
        wr.conv_transpose(X, W, max_workspace=1, out=out)
    assert np.all(out == 5.0)


def test_the_limit_of_scratch_memory_is_the_calls():
    y = wr.conv_transpose(X, W, stride=2)
    np.testing.assert_array_equal(wr.conv_transpose(X, W, stride=2, max_workspace=200_000), y)


def test_explain_is_the_plan_of_the_input_gradient():
    plan = wr.explain("conv_transpose", (2, 8, 7, 6), (8, 4, 3, 3), stride=2, padding=1).as_dict()
    gradient = wr.explain("conv_grad_input", (2, 4, 13, 11), (8, 4, 3, 3), stride=2, padding=1).as_dict()
    assert (
        plan["y_shape"]
        == wr.conv_transpose(np.ones((2, 8, 7, 6)), np.ones((8, 4, 3, 3)), stride=2, padding=1).shape
    )
    assert (plan["operation"], plan["x_shape"]) == ("conv_transpose", (2, 8, 7, 6))
    assert (plan["x_bytes"], plan["y_bytes"]) == (gradient["y_bytes"], gradient["x_bytes"])
    same = set(plan) - {"operation", "x_shape", "y_shape", "x_bytes", "y_bytes"}
    assert {name: plan[name] for name in same} == {name: gradient[name] for name in same}
    assert str(wr.explain("conv_transpose", (2, 8, 7, 6), (8, 4, 3, 3))).startswith(
        "operation  conv_transpose of x"
    )


@pytest.mark.parametrize("padding", ["same", "same_lower"])
def test_a_padded_result_beyond_all_offsets_is_refused(padding):
    """Under "same" the padding grows with the dilation: offsets in the core overflowed."""
    x, w = np.ones((1, 1, 4)), np.ones((1, 1, 5))
    with pytest.raises(
        ValueError, match=r"^padding: expected padded sizes of at most 281474976710656, got 1844"
    ):
        wr.conv_transpose(x, w, stride=2, padding=padding, dilation=2**62)
