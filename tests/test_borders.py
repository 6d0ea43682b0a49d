"""Padding made of pixels: against NumPy's pad, the reference, PyTorch, and the plain operations."""

import tracemalloc
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import windrow as wr
from tests import pooling_problems
from tests.errors import raises
from tests.pooling_problems import bits, dtypes, images, layouts, many, seeds
from tests.problems import channels_last, problems
from windrow import _core, borders, layers, reference
from windrow.arrays import is_channels_last
from windrow.geometry import conv_geometry

modes = st.sampled_from(["reflect", "edge", "wrap", "constant"])
cuts = st.sampled_from([1, 4 << 20])  # bytes of a block: one image, or all of these


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(borders, "BLOCK_BYTES", borders.BLOCK_BYTES)


def extended(x, pads, mode, fill):
    """With NumPy, which knows no mode for an axis that it does not pad."""
    options = {"constant_values": fill} if mode == "constant" else {}
    return np.pad(x, [(0, 0), (0, 0), *pads], mode=mode, **options)


def pads_of(problem):
    return conv_geometry(problem.x_shape, problem.w_shape, *problem.options.values()).windows.padding


def border_options(mode, fill):
    return {"padding_mode": mode, "fill": fill if mode == "constant" else 0}


@given(
    size=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    sides=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=3, max_size=3),
    mode=modes,
)
def test_borders_are_those_of_numpy(size, sides, mode):
    """Also where they are several times as large as the image."""
    x = np.arange(6 * np.prod(size)).reshape(2, 3, *size)
    pads = tuple(sides[: len(size)])
    expected = extended(x, pads, mode, 7)
    np.testing.assert_array_equal(reference.extend(x, pads, mode, 7), expected)
    cols = wr.unfold(x, 1, padding=pads, **border_options(mode, 7))
    np.testing.assert_array_equal(cols.reshape(expected.shape), expected)


@given(
    size=st.integers(1, 6),
    sides=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    mode=modes,
    pace=st.integers(1, 7),
    data=st.data(),
)
def test_the_core_and_the_tables_have_the_borders_of_numpy(size, sides, mode, pace, data):
    expected = np.pad(np.arange(size), sides, mode, **({"constant_values": -1} if mode == "constant" else {}))
    assert borders._table(size, sides, mode).tolist() == expected.tolist()
    # The core has them in runs, as long as they can be: of positions one pace apart.
    first = data.draw(st.integers(0, len(expected) - 1))
    wanted, got, ends = expected[first::pace].tolist(), [], []
    while len(got) < len(wanted):
        at, left = first - sides[0] + len(got) * pace, len(wanted) - len(got)
        count, pixel, step = _core._testing.border_run(borders.MODES.index(mode), at, pace, left, size)
        assert 1 <= count <= left
        got += [pixel + i * step for i in range(count)]
        ends.append(len(got))
    assert got == wanted
    assert len(ends) <= 2 + len(expected) // max(1, size - 1)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap", "constant"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "pads"),
    [
        ((3, 5), (3, 4), (2, 1), (400, 500), ((390, 420), (800, 710))),  # few taps far apart
        ((3, 5), (23, 29), (150, 170), (41, 43), ((400, 600), (900, 500))),  # more taps than windows
        ((2000,), (3,), (1,), (300_000,), ((300_500, 300_500),)),
    ],
)
@pytest.mark.parametrize("layout", ["n (c k) l", "(n l) (c k)"])
def test_unfold_of_windows_too_wide_to_pack(mode, size, kernel, stride, dilation, pads, layout):
    options = {"stride": stride, "dilation": dilation, "layout": layout}
    x = np.arange(6 * np.prod(size)).reshape(2, 3, *size).astype(np.float32)[:1, :, ::-1]
    expected = wr.unfold(extended(x, pads, mode, 7), kernel, **options)
    for threads in (1, 3):
        with wr.num_threads(threads):
            cols = wr.unfold(x, kernel, padding=pads, **options, **border_options(mode, 7))
        np.testing.assert_array_equal(cols, expected)


@many
@given(problem=problems(), dtype=dtypes, seed=seeds, mode=modes, cut=cuts)
def test_conv_and_its_gradients_are_the_reference(problem, dtype, seed, mode, cut):
    """On small integers, whose sums are exact."""
    borders.BLOCK_BYTES = cut
    x, w, dy = (
        images(s, dtype, seed + i) for i, s in enumerate((problem.x_shape, problem.w_shape, problem.y_shape))
    )
    pads = pads_of(problem)
    options = {**problem.options, **border_options(mode, 3), "algorithm": "direct"}
    plain = {**problem.options, "padding": 0}
    wide = reference.extend(x, pads, mode, 3)
    b = images(problem.w_shape[:1], dtype, seed + 3)
    y = wr.conv(x, w, b, **options)
    np.testing.assert_array_equal(y, reference.conv(wide, w, b, **plain))
    dx = reference.extend_adjoint(reference.conv_grad_input(dy, w, wide.shape, **plain), pads, mode)
    dw = reference.conv_grad_weight(dy, wide, w.shape, **plain)
    got = wr.conv_backward(dy, x, w, **options)
    for one, expected in zip(got, (dx, dw, dy.sum(axis=(0, *range(2, dy.ndim)))), strict=True):
        np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(wr.conv_grad_input(dy, w, x.shape, **options), dx)
    np.testing.assert_array_equal(wr.conv_grad_weight(dy, x, w.shape, **options), dw)
    for function, operands, expected in [
        (wr.conv_grad_input, (dy, w, x.shape), dx), (wr.conv_grad_weight, (dy, x, w.shape), dw),
    ]:  # fmt: skip
        total = np.ones_like(expected)
        assert function(*operands, **options, out=total, accumulate=True) is total
        np.testing.assert_array_equal(total, expected + 1)


@many
@given(problem=problems(), dtype=dtypes, seed=seeds, mode=modes)
def test_adjoints(problem, dtype, seed, mode):
    x, w, dy = (
        images(s, dtype, seed + i) for i, s in enumerate((problem.x_shape, problem.w_shape, problem.y_shape))
    )
    options = {**problem.options, **border_options(mode, 0), "algorithm": "direct"}
    dx, dw, _ = wr.conv_backward(dy, x, w, **options)
    product = np.vdot(dy.astype(float), wr.conv(x, w, **options))
    assert product == np.vdot(dx.astype(float), x) == np.vdot(dw.astype(float), w)


@many
@given(problem=problems(), dtype=dtypes, seed=seeds, mode=modes)
def test_the_same_bits_for_any_threads_layout_batch_and_block(problem, dtype, seed, mode):
    rng = np.random.default_rng(seed)
    shapes = (problem.x_shape, problem.w_shape, problem.y_shape)
    x, w, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    options = {**problem.options, **border_options(mode, 3)}
    borders.BLOCK_BYTES = 4 << 20
    with wr.num_threads(1):
        y, dx = wr.conv(x, w, **options), wr.conv_grad_input(dy, w, x.shape, **options)
    expected = wr.conv(extended(x, pads_of(problem), mode, 3), w, **{**problem.options, "padding": 0})
    np.testing.assert_array_equal(bits(y), bits(expected))
    borders.BLOCK_BYTES = 1
    for change in layouts(rng):
        out, dx_out = change(np.zeros_like(y)), change(np.zeros_like(x))
        with wr.num_threads(3):
            np.testing.assert_array_equal(bits(wr.conv(change(x), w, **options)), bits(y))
            assert wr.conv(x, w, **options, out=out) is out
            assert wr.conv_grad_input(change(dy), w, x.shape, **options, out=dx_out) is dx_out
        np.testing.assert_array_equal(bits(out), bits(y))
        np.testing.assert_array_equal(bits(dx_out), bits(dx))


@many
@given(problem=problems(), dtype=dtypes, seed=seeds, mode=modes)
def test_non_finite_values_reach_what_sees_them_through_the_border(problem, dtype, seed, mode):
    x, w = images(problem.x_shape, dtype, seed, special=True), images(problem.w_shape, dtype, seed)
    y = wr.conv(x, w, **problem.options, **border_options(mode, 3))
    wide = reference.extend(x, pads_of(problem), mode, 3)
    np.testing.assert_array_equal(y, reference.conv(wide, w, **{**problem.options, "padding": 0}))


pool_problems = pooling_problems.problems().filter(pooling_problems.fitting)


def pooled(problem, mode):
    """A pooling problem's pads, and its options on the image with its border."""
    x_shape, kernel, options = problem
    pads = reference.pool_windows(x_shape[2:], kernel, **{**options, "ceil_mode": False}).pads
    return pads, {**options, "padding": 0}


def assert_folded(dx, padded, pads, mode):
    """A pixel is a sum of its places, in any order."""
    wide = padded.astype(np.longdouble)
    exact, size = (reference.extend_adjoint(a, pads, mode) for a in (wide, np.abs(wide)))
    places = reference.extend_adjoint(np.ones(padded.shape), pads, mode)
    assert np.all(np.abs(dx - exact) <= places * np.finfo(dx.dtype).eps * size)


@many
@given(problem=pool_problems, dtype=dtypes, seed=seeds, mode=modes, cut=cuts)
def test_pools_and_their_gradients_are_the_reference(problem, dtype, seed, mode, cut):
    borders.BLOCK_BYTES = cut
    x_shape, kernel, given_options = problem
    pads, plain = pooled(problem, mode)
    options = {**given_options, **border_options(mode, 3)}
    x = images(x_shape, dtype, seed)
    wide = reference.extend(x, pads, mode, 3)
    y, indices = wr.max_pool_with_indices(x, kernel, **options)
    expected, places = reference.max_pool_with_indices(wide, kernel, **plain)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(wr.max_pool(x, kernel, **options), expected)
    dy = images(y.shape, dtype, seed + 1)
    dx = reference.extend_adjoint(reference.max_pool_backward(dy, places, wide.shape), pads, mode)
    np.testing.assert_array_equal(wr.max_pool_backward(dy, indices, x_shape), dx)
    np.testing.assert_array_equal(
        wr.avg_pool(x, kernel, **options), reference.avg_pool(wide, kernel, **plain)
    )
    # The gradients of the plain operations are compared with the reference elsewhere: folding them is left.
    out = np.full_like(x, np.nan)
    assert wr.avg_pool_backward(dy, x_shape, kernel, **options, out=out) is out
    folded = wr.avg_pool_backward(dy, wide.shape, kernel, **plain)
    assert_folded(out, folded, pads, mode)
    np.testing.assert_array_equal(
        bits(wr.lp_pool(x, kernel, **options)), bits(wr.lp_pool(wide, kernel, **plain))
    )
    folded = wr.lp_pool_backward(dy, wide, kernel, **plain)
    dx = wr.lp_pool_backward(dy, x, kernel, **options)
    assert_folded(dx, folded, pads, mode)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    problem=pool_problems, dtype=dtypes, seed=seeds, mode=modes,
    fill=st.sampled_from([3, 0.0, -0.0, np.inf, -np.inf, np.nan]),
)  # fmt: skip
def test_pools_have_the_bits_of_those_of_the_padded_image(target, problem, dtype, seed, mode, fill):
    """NaN, Inf and -0 among the pixels, any layout and number of threads."""
    x_shape, kernel, given_options = problem
    pads, plain = pooled(problem, mode)
    x = images(x_shape, dtype, seed, special=True)
    wide = reference.extend(x, pads, mode, fill)
    numbers = np.arange(np.prod(x_shape[2:], dtype=int)).reshape(1, 1, *x_shape[2:])
    origins = reference.extend(numbers, pads, mode, -1).reshape(-1)
    y, places = reference.max_pool_with_indices(wide, kernel, **plain)
    others = [partial(pool, kernel_size=kernel) for pool in (wr.avg_pool, wr.lp_pool)]
    others.append(partial(wr.lp_pool, kernel_size=kernel, p=np.inf))
    expected = [bits(pool(wide, **plain)) for pool in others]
    options = {**given_options, **border_options(mode, fill)}
    for change in (np.ascontiguousarray, *layouts(np.random.default_rng(seed))):
        for threads in (1, 3):
            with wr.num_threads(threads):
                got, indices = wr.max_pool_with_indices(change(x), kernel, **options)
                np.testing.assert_array_equal(bits(got), bits(y))
                np.testing.assert_array_equal(indices, origins[places])
                np.testing.assert_array_equal(bits(wr.max_pool(change(x), kernel, **options)), bits(y))
                for pool, wanted in zip(others, expected, strict=True):
                    np.testing.assert_array_equal(bits(pool(change(x), **options)), wanted)


specs = st.sampled_from(["n (c k) l", "(c k) (l n)", "(n l) (c k)", "n l (k c)"])


@many
@given(problem=pool_problems, seed=seeds, mode=modes, spec=specs, cut=cuts)
def test_unfold_and_its_adjoint(problem, seed, mode, spec, cut):
    borders.BLOCK_BYTES = cut
    x_shape, kernel, options = problem
    options = {name: options[name] for name in ("padding", "dilation")}
    if min(reference.windows(x_shape[2:], kernel, **options).output) < 1:
        return
    pads = reference.windows(x_shape[2:], kernel, **options).pads
    x = images(x_shape, np.int16, seed)
    cols = wr.unfold(x, kernel, **options, layout=spec, **border_options(mode, 3))
    wide = reference.extend(x, pads, mode, 3)
    plain = {"dilation": options["dilation"], "layout": spec}
    np.testing.assert_array_equal(cols, wr.unfold(wide, kernel, **plain))
    if x.size and mode != "constant":
        back = wr.col2im(cols, x_shape, kernel, **options, layout=spec, padding_mode=mode)
        folded = wr.col2im(cols, wide.shape, kernel, **plain)
        np.testing.assert_array_equal(back, reference.extend_adjoint(folded, pads, mode))
        ones = np.ones_like(cols)
        covered = wr.col2im(ones, x_shape, kernel, **options, layout=spec, padding_mode=mode)
        for dtype in (np.float32, np.float64, np.complex64):
            mean = wr.col2im(
                cols.astype(dtype), x_shape, kernel, **options, layout=spec, padding_mode=mode, reduce="mean"
            )
            np.testing.assert_array_equal(mean, np.where(covered, x, 0))


@pytest.mark.parametrize("dtype", [np.float16, "M8[D]", ">f8", bool])
def test_unfold_of_other_dtypes(dtype):
    x = np.arange(12).reshape(1, 1, 3, 4).astype(dtype)
    cols = wr.im2col(x, 2, padding=1, padding_mode="reflect")
    expected = wr.im2col(extended(x, ((1, 1), (1, 1)), "reflect", 0), 2)
    assert cols.dtype == x.dtype
    np.testing.assert_array_equal(cols, expected)


def test_float16_is_summed_in_float32_and_rounded_once():
    whole = np.random.default_rng(0).integers(1, 2048, (8, 5, 9))  # their sums are exact in float32
    cols = whole.astype(np.float16)
    x = wr.fold(cols, (9,), 5, padding=2, padding_mode="edge")
    exact = wr.fold(cols.astype(np.float64), (9,), 5, padding=2, padding_mode="edge")
    np.testing.assert_array_equal(x, exact.astype(np.float16))


def test_pixels_that_no_window_covers():
    x = wr.fold(np.ones((1, 1, 3)), (7,), 1, stride=3, padding=1, padding_mode="edge", uncovered=7)
    np.testing.assert_array_equal(x, [[[1, 7, 1, 7, 7, 1, 7]]])


@pytest.mark.parametrize(
    ("mode", "name"), [("reflect", "reflect"), ("edge", "replicate"), ("wrap", "circular")]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_torch(mode, name, dtype):
    torch = pytest.importorskip("torch")
    x, w, b = (images(s, dtype, i) for i, s in enumerate([(2, 4, 9, 7), (6, 2, 3, 3), (6,)]))
    layer = torch.nn.Conv2d(4, 6, 3, stride=2, padding=2, groups=2, padding_mode=name)
    layer.weight.data, layer.bias.data = torch.from_numpy(w), torch.from_numpy(b)
    leaf = torch.from_numpy(x).requires_grad_()
    y = layer(leaf)
    options = {"stride": 2, "padding": 2, "groups": 2, "padding_mode": mode, "algorithm": "direct"}
    np.testing.assert_array_equal(wr.conv(x, w, b, **options), y.detach().numpy())
    dy = images(tuple(y.shape), dtype, 5)
    y.backward(torch.from_numpy(dy))
    gradients = wr.conv_backward(dy, x, w, **options)
    for got, expected in zip(gradients, (leaf.grad, layer.weight.grad, layer.bias.grad), strict=True):
        np.testing.assert_array_equal(got, expected.numpy())


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_numerical_gradients(mode):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s) for s in [(2, 4, 5, 4), (6, 2, 3, 2), (6,)])
    options = {"stride": (2, 1), "padding": ((1, 6), (2, 0)), "groups": 2, "padding_mode": mode}
    wr.gradcheck.assert_gradients(
        partial(wr.conv, **options), lambda dy, x, w, b: wr.conv_backward(dy, x, w, **options), (x, w, b)
    )
    x = rng.permutation(160).reshape(2, 4, 5, 4) / 10 + 1
    options = {"stride": 2, "padding": 2, "padding_mode": mode}

    def max_backward(dy, x, kernel, **options):
        return wr.max_pool_backward(dy, wr.max_pool_with_indices(x, kernel, **options).indices, x.shape)

    for forward, backward in [
        (wr.max_pool, max_backward),
        (wr.avg_pool, lambda dy, x, k, **o: wr.avg_pool_backward(dy, x.shape, k, **o)),
        (wr.lp_pool, wr.lp_pool_backward),
    ]:  # fmt: skip
        wr.gradcheck.assert_gradients(
            partial(forward, kernel_size=3, **options), lambda dy, x, f=backward: f(dy, x, 3, **options), (x,)
        )


@pytest.mark.parametrize("fmt", [np.ascontiguousarray, channels_last])
def test_memory_format_follows_the_input(fmt):
    x, w = fmt(np.ones((2, 3, 6, 8))), np.ones((4, 3, 3, 3))
    options = {"padding": 1, "padding_mode": "wrap"}
    y = wr.conv(x, w, **options)
    pool, indices = wr.max_pool_with_indices(x, 2, **options)
    results = [y, wr.conv_backward(y, x, w, **options).dx, wr.conv_grad_input(y, w, x.shape, **options)]
    results += [pool, indices, wr.avg_pool(x, 2, **options), wr.lp_pool_backward(pool, x, 2, **options)]
    results += [wr.avg_pool_backward(pool, x.shape, 2, **options)]
    assert [is_channels_last(a) for a in results] == [fmt is channels_last] * len(results)


def test_no_padded_batch_is_held():
    x, w = np.ones((64, 8, 64, 64), np.float32), np.ones((8, 8, 3, 3), np.float32)  # 8 MiB
    options = {"padding": 1, "padding_mode": "reflect"}
    y = np.empty_like(x)
    for call in (
        lambda: wr.conv(x, w, **options, out=y),
        lambda: wr.conv_grad_input(x, w, x.shape, **options, out=y),
        lambda: wr.conv_grad_weight(x, x, w.shape, **options),
        lambda: wr.avg_pool(x, 3, stride=1, **options, out=y),
    ):
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < borders.BLOCK_BYTES * 1.1


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_images_without_pixels_have_no_window_under_same(mode):
    """As without a border, although the windows do not fit into the image."""
    x, w, y = np.ones((2, 3, 0, 5)), np.ones((4, 3, 3, 3)), np.ones((2, 4, 0, 5))
    options = {"padding": "same", **border_options(mode, 3)}
    assert wr.conv(x, w, **options).shape == y.shape
    dx, dw, _ = wr.conv_backward(y, x, w, **options)
    assert dx.shape == x.shape
    assert not dw.any()
    assert wr.unfold(x, 3, **options).shape == (2, 27, 0)
    for pool in (wr.max_pool, wr.avg_pool, wr.lp_pool):
        assert pool(x, 3, stride=1, **options).shape == x.shape
    assert wr.avg_pool_backward(x, x.shape, 3, stride=1, **options).shape == x.shape
    cols = np.ones((2, 27, 0))
    assert wr.fold(cols, (0, 5), 3, padding="same", padding_mode=mode, uncovered=7).shape == x.shape
    assert wr.conv_grad_input(y, w, x.shape, **options).shape == x.shape


def test_layers():
    x, w, b = (images(s, np.float64, i) for i, s in enumerate([(2, 3, 6, 5), (4, 3, 3, 3), (4,)]))
    options = {"padding": 1, "padding_mode": "reflect"}
    out, cache = layers.conv_forward(x, w, b, **options)
    np.testing.assert_array_equal(out, wr.conv(x, w, b, **options))
    expected = wr.conv_backward(out, x, w, **options)
    for got, gradient in zip(layers.conv_backward(out, cache), expected, strict=True):
        np.testing.assert_array_equal(got, gradient)
    param = {"kernel_size": 3, "stride": 2, "pad": 1, "padding_mode": "wrap"}
    for name in ("max", "avg", "lp"):
        out, cache = getattr(layers, f"{name}_pool_forward")(x, param)
        forward = getattr(wr, f"{name}_pool")
        options = {"stride": 2, "padding": 1, "padding_mode": "wrap"}
        np.testing.assert_array_equal(out, forward(x, 3, **options))
        assert getattr(layers, f"{name}_pool_backward")(out, cache).shape == x.shape


X, W = np.ones((2, 3, 6, 7)), np.ones((4, 3, 3, 3))
Y = np.ones((2, 4, 6, 7))
OPERATIONS = [
    partial(wr.conv, X, W),
    partial(wr.conv_backward, Y, X, W),
    partial(wr.conv_grad_input, Y, W, X.shape),
    partial(wr.conv_grad_weight, Y, X, W.shape),
    partial(wr.max_pool, X, 3, stride=1),
    partial(wr.max_pool_with_indices, X, 3, stride=1),
    partial(wr.avg_pool, X, 3, stride=1),
    partial(wr.avg_pool_backward, X, X.shape, 3, stride=1),
    partial(wr.lp_pool, X, 3, stride=1),
    partial(wr.lp_pool_backward, X, X, 3, stride=1),
    partial(wr.unfold, X, 3),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda p: p.func.__name__)
def test_errors(operation):
    call = partial(operation, padding=1)
    expected = "padding_mode: expected 'constant', 'reflect', 'edge' or 'wrap', got"
    raises(ValueError, f"{expected} 'mirror'", partial(call, padding_mode="mirror"))
    raises(ValueError, f"{expected} 1", partial(call, padding_mode=1))
    text = "fill: expected 0 where padding_mode is 'edge', got 2"
    raises(ValueError, text, partial(call, padding_mode="edge", fill=2))
    text = "fill: expected a value of dtype float64, got str: 'a'"
    raises(TypeError, text, partial(call, padding_mode="constant", fill="a"))


def test_errors_of_shapes_and_of_fold():
    raises(
        ValueError,
        "padding: expected 0 on spatial axis 1, which has no pixel to repeat for padding_mode='edge', "
        "got (2, 2)",
        partial(wr.conv, X[..., :0], W, padding=2, padding_mode="edge"),
    )
    raises(ValueError, "out: expected shape (2, 4, 6, 7), got (2, 3, 6, 7)",
           partial(wr.conv, X, W, padding=1, padding_mode="edge", out=X))  # fmt: skip
    cols = wr.unfold(X, 3, padding=1, padding_mode="edge")
    call = partial(wr.fold, cols, (6, 7), 3, padding=1, padding_mode="edge")
    raises(
        ValueError,
        "reduce: expected 'sum' or 'mean' with padding_mode='edge', got 'max'",
        partial(call, reduce="max"),
    )
    raises(
        ValueError, "window: expected None with padding_mode='edge'", partial(call, window=np.ones((3, 3)))
    )
    raises(
        ValueError, "padding_mode: expected 'constant', 'reflect', 'edge' or 'wrap', got None",
        partial(wr.max_pool, X, 3, fill=2),
    )  # fmt: skip
