"""Winograd's tiles against the reference: bounds, the same bits, NaN and Inf, the choice, the workspace."""

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import windrow as wr
from tests import programs, tolerances
from tests.choice import only
from tests.examples import per_target
from tests.problems import channels_last, scrambled
from tests.test_convolution import assert_same_kind, assert_within, bits
from windrow import _core, reference
from windrow.gradcheck import check

dtypes = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)


@st.composite
def layers(draw):
    """(x shape, w shape, options): small ones take 2 x 2 tiles, large ones 4 x 4; some have axes before
    those of tiles."""
    outer = draw(st.sampled_from([0, 0, 0, 1, 1, 2]))
    longest = draw(st.sampled_from([6, 14, 24 if outer else 40]))
    size = [draw(st.integers(1, 5)) for _ in range(outer)] + [draw(st.integers(1, longest)) for _ in range(2)]
    kernel = (*(draw(st.integers(1, 3)) for _ in range(outer)), 3, 3)
    stride = (*(draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(outer)), 1, 1)
    dilation = (
        *(draw(st.integers(1, 2)) for _ in range(outer)),
        *draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 3), (5, 2), (3, 4) if outer else (12, 12)])),
    )
    padding = tuple(
        (
            before,
            draw(st.integers(least := max(0, (k - 1) * d + 1 - s - before), least + (4 if k == 3 else 1))),
        )
        for s, k, d, before in [
            (s, k, d, draw(st.integers(0, d + 3 if k == 3 else 1)))
            for s, k, d in zip(size, kernel, dilation, strict=True)
        ]
    )
    groups = draw(st.sampled_from([1, 1, 2]))
    channels = draw(st.sampled_from([1, 2, 5, 17, 33, 40 if outer else 130]))
    filters = groups * draw(st.integers(1, 20))
    n = draw(st.sampled_from([1, 1, 2, 3]))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (n, groups * channels, *size), (filters, channels, *kernel), options


def operands(layer, dtype, seed):
    x_shape, w_shape, options = layer
    rng = np.random.default_rng(seed)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
    y_shape = (x_shape[0], w_shape[0], *y_size(x_shape[2:], w_shape[2:], options))
    return x, w, b, rng.standard_normal(y_shape).astype(dtype)


def y_size(size, kernel, options):
    given = (options[name] for name in ("stride", "padding", "dilation"))
    return reference.windows(size, kernel, *given).output


def plan(operation, x, w, options, **more):
    facts = wr.explain(operation, x.shape, w.shape, dtype=x.dtype, algorithm="winograd", **options, **more)
    assert facts["algorithm"] == "winograd"
    return {"tile": 2 if facts["kernel"] == "winograd_2x2" else 4, "roundings": facts["roundings"]}


def y_bound(x, w, b, options):
    before = [pair[0] for pair in options["padding"]]
    facts = plan("conv", x, w, options)
    bound = tolerances.winograd_error_bound(
        x,
        w,
        before,
        y_size(x.shape[2:], w.shape[2:], options),
        groups=options["groups"],
        stride=options["stride"],
        dilation=options["dilation"],
        dtype=x.dtype,
        **facts,
    )
    b = b.reshape(-1, *[1] * (w.ndim - 2))
    return bound + facts["roundings"] * np.finfo(x.dtype).eps * np.abs(b)


def dx_bound(dy, w, x, options):
    """dx is the forward pass on dy: filters and channels change places, taps go from last to first. Under a
    longer stride it is the direct sum."""
    if max(options["stride"]) > 1:
        return tolerances.conv_grad_input_error_bound(dy, w, x.shape, chunk=128, **options)
    groups, kernel = options["groups"], w.shape[2:]
    k, c = w.shape[0] // groups, w.shape[1]
    turned = np.flip(w.reshape(groups, k, c, *kernel).swapaxes(1, 2), range(3, w.ndim + 1))
    turned = turned.reshape(-1, k, *kernel)
    dilation = options["dilation"]
    before = [(t - 1) * d - pair[0] for pair, t, d in zip(options["padding"], kernel, dilation, strict=True)]
    facts = plan("conv_grad_input", x, w, options)
    return tolerances.winograd_error_bound(
        dy, turned, before, x.shape[2:], groups=groups, dilation=dilation, dtype=x.dtype, **facts
    )


@pytest.mark.parametrize("threads", [1, 3])
@per_target(40)
@given(layer=layers(), dtype=dtypes, seed=seeds)
def test_agrees_with_the_reference(target, threads, layer, dtype, seed):
    x, w, b, dy = operands(layer, dtype, seed)
    options = layer[2]
    with wr.num_threads(threads):
        y = wr.conv(x, w, b, algorithm="winograd", **options)
        dx = wr.conv_grad_input(dy, w, x.shape, algorithm="winograd", **options)
    assert_within(y, reference.conv(x, w, b, **options), y_bound(x, w, b, options))
    exact = reference.conv_grad_input(dy, w, x.shape, **options)
    assert_within(dx, exact, dx_bound(dy, w, x, options))
    total = np.ones_like(dx)
    wr.conv_grad_input(dy, w, x.shape, algorithm="winograd", out=total, accumulate=True, **options)
    if max(options["stride"]) == 1:  # the direct sum begins with what is there
        np.testing.assert_array_equal(total, dx + dtype(1))
    else:
        assert_within(
            total, exact + 1, dx_bound(dy, w, x, options) + np.finfo(dtype).eps * (1 + np.abs(exact))
        )


def test_both_tiles_are_tested(target):
    for dtype in (np.float32, np.float64):
        for size, tile in [(4, 2), (40, 4)]:
            facts = wr.explain(
                "conv", (1, 17, size, size), (8, 17, 3, 3), dtype=dtype, padding=1, algorithm="winograd"
            )
            assert facts["kernel"] == f"winograd_{tile}x{tile}"
            facts = wr.explain(
                "conv", (1, 17, 3, size, size), (8, 17, 3, 3, 3), dtype=dtype, padding=1, algorithm="winograd"
            )
            assert facts["kernel"] == f"winograd_{tile}x{tile}"


@per_target(40)
@given(layer=layers(), dtype=dtypes, seed=seeds)
def test_same_bits_for_any_threads_layout_and_batch(target, layer, dtype, seed):
    x, w, b, dy = operands(layer, dtype, seed)
    options = {**layer[2], "algorithm": "winograd"}
    rng = np.random.default_rng(seed)
    with wr.num_threads(1):
        y = wr.conv(x, w, b, **options)
        dx = wr.conv_grad_input(dy, w, x.shape, **options)
    for change in (lambda a: scrambled(rng, a), lambda a: channels_last(a) if a.ndim > 2 else a):
        x2, w2, b2, dy2 = (change(a) for a in (x, w, b, dy))
        y_out, dx_out = (scrambled(rng, np.zeros_like(a)) for a in (y, dx))
        with wr.num_threads(3):
            np.testing.assert_array_equal(bits(wr.conv(x2, w2, b2, out=y_out, **options)), bits(y))
            np.testing.assert_array_equal(bits(wr.conv(x2, w2, b2, **options)), bits(y))
            wr.conv_grad_input(dy2, w2, x.shape, out=dx_out, **options)
            np.testing.assert_array_equal(bits(dx_out), bits(dx))
    for i in range(len(x)):
        np.testing.assert_array_equal(bits(wr.conv(x[i : i + 1], w, b, **options)), bits(y[i : i + 1]))
        dxi = wr.conv_grad_input(dy[i : i + 1], w, x[i : i + 1].shape, **options)
        np.testing.assert_array_equal(bits(dxi), bits(dx[i : i + 1]))


@per_target(40)
@given(layer=layers(), dtype=dtypes, seed=seeds, spoil=st.sampled_from(["x", "x", "both", "all of x"]))
def test_non_finite_values_are_those_of_the_direct_sum(target, layer, dtype, seed, spoil):
    """Promise 5, and with accumulate too, where a result must not be added twice."""
    x, w, b, dy = operands(layer, dtype, seed)
    rng = np.random.default_rng(seed)
    for array in (x, dy, w) if spoil == "both" else (x, dy):
        for value in (np.nan, np.inf, -np.inf):
            if rng.random() < 0.7:
                array.flat[rng.integers(array.size)] = value
    if spoil == "all of x":
        x[...] = np.nan
    options = layer[2]
    y = wr.conv(x, w, b, algorithm="winograd", **options)
    dx = wr.conv_grad_input(dy, w, x.shape, algorithm="winograd", **options)
    assert_same_kind(y, reference.conv(x, w, b, **options))
    assert_same_kind(dx, reference.conv_grad_input(dy, w, x.shape, **options))
    total = np.ones_like(dx)
    wr.conv_grad_input(dy, w, x.shape, algorithm="winograd", out=total, accumulate=True, **options)
    assert_same_kind(total, dx)
    finite = np.isfinite(dx)
    bound = dx_bound(*(np.where(np.isfinite(a), a, 0) for a in (dy, w)), x, options)
    slack = bound + np.finfo(dtype).eps * (1 + np.abs(np.where(finite, dx, 0)))
    assert np.all(np.abs(total[finite] - 1 - dx[finite]) <= slack[finite])


@pytest.mark.parametrize("name", ["winograd_2x2", "winograd_4x4"])
@pytest.mark.parametrize("dilation", [(2, 2), (3, 5), (1, 7), (25, 2)])
def test_phases_of_a_dilation_are_images_of_their_own(target, name, dilation):
    """To the bit: tiles of a phase are those of its pixels alone."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((2, 20, *(s + 2 * d for s, d in zip((33, 40), dilation, strict=True))))
    w = rng.standard_normal((21, 20, 3, 3))
    with only(name):
        y = wr.conv(x, w, dilation=dilation)
        for first in np.ndindex(dilation):
            phase = (..., *(slice(f, None, d) for f, d in zip(first, dilation, strict=True)))
            np.testing.assert_array_equal(bits(y[phase]), bits(wr.conv(x[phase].copy(), w)))


@pytest.mark.parametrize("name", ["winograd_2x2", "winograd_4x4"])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [((1, 1), (1, 1), (1, 1)), ((2, 3), (1, 2), (2, 1))]
)
def test_planes_are_images_and_their_taps_are_channels(target, name, kernel, stride, dilation):
    """To the bit: the sum runs over the taps of all axes but the last two, and for each over the channels."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((2, 20, 4, 5, 33, 20))
    w = rng.standard_normal((21, 20, *kernel, 3, 3))
    factors = np.moveaxis(w.reshape(21, 20, -1, 3, 3), 2, 1).reshape(21, -1, 3, 3)
    with only(name):
        y = wr.conv(x, w, stride=(*stride, 1, 1), dilation=(*dilation, 1, 1))
        for place in np.ndindex(y.shape[2:4]):
            taps = np.add(np.multiply(place, stride), np.multiply(list(np.ndindex(kernel)), dilation))
            seen = np.concatenate([x[:, :, i, j] for i, j in taps], axis=1)
            np.testing.assert_array_equal(bits(y[:, :, *place]), bits(wr.conv(seen, factors)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outer", [(), (3,)])
def test_data_full_of_nan_are_left_to_the_direct_sum(target, dtype, outer):
    """Tiles that are not finite skip their products; what comes out is the direct sum's, to the bit."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 20, *outer, 30, 30)).astype(dtype)
    x[:, 3] = np.nan
    w = rng.standard_normal((10, 20, *outer, 3, 3)).astype(dtype)
    np.testing.assert_array_equal(
        wr.conv(x, w, padding=1, algorithm="winograd"), wr.conv(x, w, padding=1, algorithm="direct")
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_overflow_in_the_transforms_is_healed(target, dtype):
    """Values whose transform is not finite, though their sum is."""
    huge = np.finfo(dtype).max / 4
    rng = np.random.default_rng(1)
    x = rng.choice([-huge, huge], (1, 16, 24, 24)).astype(dtype)
    w = np.zeros((3, 16, 3, 3), dtype)
    w[:, 0, 1, 1] = 1
    y = wr.conv(x, w, padding=1, algorithm="winograd")
    np.testing.assert_array_equal(y, np.repeat(x[:, :1], 3, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_overflow_on_the_way_back_is_healed(target, dtype):
    """Pixels ever nearer to the largest number: first their tiles' sums overflow, then the transforms do."""
    rng = np.random.default_rng(3)
    w = np.zeros((13, 16, 3, 3), dtype)
    w[:, 0] = rng.integers(-1, 2, (13, 3, 3))
    x = rng.integers(-4, 5, (1, 16, 24, 24)).astype(dtype)
    options = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    exact, bound = reference.conv(x, w, **options), y_bound(x, w, np.zeros(13, dtype), options)
    assert np.abs(exact).max() < 100
    for exponent in range(2, 12):
        scale = np.ldexp(dtype(1), np.finfo(dtype).maxexp - exponent)
        part = scale / 64  # no partial sum of x * part overflows, of its transforms more and more do
        y = wr.conv(x * part, w, algorithm="winograd", **options)
        assert_within(y / part, exact, bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_overflow_in_the_sum_over_channels_is_healed(target, dtype):
    """Half of the channels take back what the others add: less than the largest number, but not in a tile."""
    rng = np.random.default_rng(5)
    w = np.zeros((7, 32, 3, 3), dtype)
    w[:, :16, 1, 1], w[:, 16:, 1, 1] = 1, -1
    x = np.repeat(rng.choice([-1, 1], (1, 1, 24, 24)).astype(dtype), 32, axis=1)
    options = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    bound = y_bound(x, w, np.zeros(7, dtype), options)
    part = np.ldexp(dtype(1), np.finfo(dtype).maxexp - 5)
    y = wr.conv(x * part, w, algorithm="winograd", **options)
    assert_within(y / part, np.zeros_like(y), bound)


@pytest.mark.parametrize(
    ("w_shape", "options"),
    [
        ((4, 4, 3, 3), {"stride": 2}),
        ((4, 4, 5, 3), {}),
        ((4, 4, 3, 3, 1), {}),
        ((4, 4, 3), {}),
    ],
)
def test_windows_that_have_no_tiles(w_shape, options):
    rank = len(w_shape) - 2
    x = np.zeros((1, 4, *[12] * rank), np.float32)
    text = (
        "algorithm: 'winograd' needs 3 taps with stride 1 along the last two axes, got kernel "
        f"{w_shape[2:]}, stride {(options.get('stride', 1),) * rank}"
    )
    for call in (
        lambda: wr.conv(x, np.zeros(w_shape, np.float32), algorithm="winograd", **options),
        lambda: wr.prepare_conv(np.zeros(w_shape, np.float32), algorithm="winograd", **options),
        lambda: wr.explain("conv", x.shape, w_shape, algorithm="winograd", **options),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == text


@pytest.mark.parametrize("operation", ["conv", "conv_grad_input"])
def test_more_channels_than_fit_the_memory_of_a_thread(target, operation):
    def plan(channels, **options):
        forward = operation == "conv"
        x_shape, w_shape = (
            (1, channels if forward else 1, 9, 9),
            (1, channels, 3, 3) if forward else (channels, 1, 3, 3),
        )
        return wr.explain(operation, x_shape, w_shape, padding=1, **options)

    with pytest.raises(ValueError) as error:
        plan(100_000, algorithm="winograd")
    most = int(re.search(r"at most (\d+) ", str(error.value)).group(1))
    assert 1000 < most < 10_000
    assert plan(most, algorithm="winograd")["algorithm"] == "winograd"
    assert plan(most + 1)["algorithm"] == "direct"
    text = f"algorithm: 'winograd' sums over at most {most} channels of a group here, got {most + 1}"
    with pytest.raises(ValueError) as error:
        plan(most + 1, algorithm="winograd")
    assert str(error.value) == text
    dy, w = np.zeros((1, most + 1, 9, 9), np.float32), np.zeros((most + 1, 1, 3, 3), np.float32)
    out = np.ones((1, 1, 9, 9), np.float32)
    with pytest.raises(ValueError) as error:
        wr.conv_grad_input(dy, w, out.shape, padding=1, algorithm="winograd", out=out)
    assert str(error.value) == text
    assert (out == 1).all()


@pytest.mark.parametrize(
    "shapes", [((1, 64, 56, 56), (64, 64, 3, 3)), ((1, 32, 6, 28, 28), (64, 32, 3, 3, 3))]
)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_workspace(shapes, threads):
    """ "winograd" asks for what one thread needs, however many there are; "auto" does without."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    options = {"padding": 1}
    facts = wr.explain("conv", x.shape, w.shape, algorithm="winograd", threads=1, **options)
    needed = facts["workspace_bytes"]
    text = f"max_workspace: expected at least {needed} bytes for this problem, got {needed - 1}"
    with wr.num_threads(threads):
        with pytest.raises(ValueError) as error:
            wr.conv(x, w, algorithm="winograd", max_workspace=needed - 1, **options)
        assert str(error.value) == text
        y = wr.conv(x, w, algorithm="winograd", **options)
        fits = wr.conv(x, w, algorithm="winograd", max_workspace=needed, **options)
        np.testing.assert_array_equal(bits(fits), bits(y))
        direct = wr.conv(x, w, algorithm="direct", **options)
        np.testing.assert_array_equal(bits(wr.conv(x, w, max_workspace=needed - 1, **options)), bits(direct))
        facts = wr.explain("conv", x.shape, w.shape, max_workspace=needed - 1, **options)
        assert facts["algorithm"] == "direct"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", [(40, 200, 30, 1), (24, 70, 61, 1), (300, 65, 9, 1), (16, 40, 25, 2)])
def test_pieces_for_several_threads(target, dtype, layer):
    """Of some rows and tiles of a block that all transform: the same bits, and no more memory for each."""
    c, k, size, images = layer
    rng = np.random.default_rng(12)
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((images, c, size, size), (k, c, 3, 3)))
    # Tiles that are spoilt by what one thread has transformed.
    x[0, c // 2, 3, -3:] = np.nan
    x[-1, -1, -1, 0] = np.inf
    options = {"padding": 1, "algorithm": "winograd"}

    def facts(threads):
        return wr.explain("conv", x.shape, w.shape, dtype=dtype, threads=threads, **options)

    with wr.num_threads(1):
        y = wr.conv(x, w, **options)
    for threads in (2, 3, 16):
        assert facts(threads)["pieces"] >= facts(1)["pieces"]
        assert facts(threads)["workspace_bytes"] <= threads * facts(1)["workspace_bytes"]
        with wr.num_threads(threads):
            np.testing.assert_array_equal(bits(wr.conv(x, w, **options)), bits(y))
    assert facts(16)["pieces"] > facts(1)["pieces"]


@pytest.mark.parametrize(
    ("c", "k", "size", "dtype"),
    # With AVX-512 nearly equal blocks have fewer tiles here, but the sums of more rows at a time.
    [(422, 96, 55, np.float32), (952, 200, 23, np.float32), (235, 96, 52, np.float64)],
)
def test_a_thread_keeps_to_8_mib(target, c, k, size, dtype):
    facts = wr.explain(
        "conv", (1, c, size, size), (k, c, 3, 3), dtype=dtype, padding=1, threads=1, algorithm="winograd"
    )
    rows, _, lanes = _core._testing.tile(target, dtype is np.float64)[:3]
    itemsize = np.dtype(dtype).itemsize
    points = 36 if facts["kernel"] == "winograd_4x4" else 16
    weights = -(-k // rows) * points * (rows * -(-c // lanes) * lanes * itemsize + 64)  # of all threads
    assert facts["workspace_bytes"] - weights <= 8 << 20


@pytest.mark.parametrize("operation", ["conv", "conv_grad_input"])
def test_the_choice_depends_on_one_image(operation):
    chosen = set()
    for c, size, d in [
        (16, 8, 1),
        (64, 14, 1),
        (64, 56, 1),
        (512, 7, 1),
        (512, 28, 1),
        (8, 112, 1),
        (16, 8, 2),
        (128, 65, 2),
    ]:
        plans = [
            wr.explain(operation, (n, c, size, size), (c, c, 3, 3), padding=d, dilation=d, threads=t)
            for n in (1, 2, 64)
            for t in (1, 3)
        ]
        assert len({(p["algorithm"], p["kernel"].startswith("winograd") and p["kernel"]) for p in plans}) == 1
        chosen.add(plans[0]["algorithm"])
        if c < 16:
            assert plans[0]["algorithm"] == "direct"
    assert chosen == {"direct", "winograd"}


@pytest.mark.parametrize("operation", ["conv", "conv_grad_input"])
@pytest.mark.parametrize(
    ("c", "size", "kernel", "algorithm"),
    [
        (64, (8, 16, 16), (3, 3, 3), "winograd"),
        (64, (8, 28, 28), (1, 3, 3), "winograd"),
        (8, (16, 56, 56), (3, 3, 3), "direct"),
        (256, (2, 4, 4), (3, 3, 3), "direct"),
    ],
)
def test_the_choice_of_volumes_depends_on_one_image(operation, c, size, kernel, algorithm):
    padding = [k // 2 for k in kernel]
    for n in (1, 2, 64):
        for threads in (1, 3):
            for memory_format in ("channels_first", "channels_last"):
                plan = wr.explain(
                    operation, (n, c, *size), (c, c, *kernel), padding=padding, threads=threads,
                    memory_format=memory_format,
                )  # fmt: skip
                assert plan["algorithm"] == algorithm


DATA = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "positive": lambda rng, shape: rng.uniform(0, 1, shape),
    "post-ReLU": lambda rng, shape: np.maximum(rng.standard_normal(shape), 0),
    "constant": lambda rng, shape: np.full(shape, 0.1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize(
    "shape",
    [(64, (56, 56), 1), (128, (28, 28), 1), (256, (28, 28), 1), (128, (33, 33), 2), (64, (3, 16, 20), 1)],
)
def test_what_auto_takes_is_accurate(dtype, kind, shape):
    """DESIGN: at most max(4 eps * max conv(|x|, |w|), 2 x direct's error) on data of each kind."""
    c, size, dilation = shape
    options = {"padding": dilation, "dilation": dilation}
    rng = np.random.default_rng(3)
    x = DATA[kind](rng, (1, c, *size)).astype(dtype)
    w_shape = (8, c, *[3] * len(size))
    w = np.full(w_shape, 0.7) if kind == "constant" else rng.standard_normal(w_shape)
    w = w.astype(dtype)
    exact = reference.conv(x, w, **options)
    worst = {
        name: np.max(np.abs(wr.conv(x, w, algorithm=name, **options) - exact))
        for name in ("winograd", "direct")
    }
    allowed = 4 * np.finfo(dtype).eps * np.max(reference.conv(np.abs(x), np.abs(w), **options))
    assert worst["winograd"] <= max(allowed, 2 * worst["direct"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [6, 24])
def test_gradcheck(dtype, size):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((1, 4, size, size), (3, 4, 3, 3), (3,)))
    options = {"padding": 1, "algorithm": "winograd"}

    def forward(x, w, b):
        return wr.conv(x, w, b, **options)

    def backward(dy, x, w, b):
        return wr.conv_backward(dy, x, w, **options)

    report = check(forward, backward, (x, w, b), axes={"x": "n c h w", "w": "k c kh kw", "b": "k"})
    assert report, report


def test_environment():
    """WINDROW_ALGORITHM is what "auto" means, wherever a problem has that algorithm."""
    call = (
        "import windrow as wr\n"
        "for w in ((4, 4, 3, 3), (4, 4, 1, 1)):\n"
        "    print(wr.explain('conv', (1, 4, 20, 20), w)['algorithm'])"
    )
    assert programs.output(call, WINDROW_ALGORITHM="winograd").split() == ["winograd", "direct"]
    assert programs.output(call, WINDROW_ALGORITHM="direct").split() == ["direct", "direct"]


@pytest.mark.parametrize("outer", [(), (3,)])
def test_prepared(outer):
    rng = np.random.default_rng(0)
    shapes = ((2, 16, *outer, 20, 20), (8, 16, *outer, 3, 3), (8,))
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    layer = wr.prepare_conv(w, b, padding=1, algorithm="winograd", activation="relu")
    plan = layer.explain(x.shape)
    with only(plan["kernel"]):  # tiles of either size: kept weights may make another one the faster
        expected = np.maximum(wr.conv(x, w, b, padding=1), 0)
    np.testing.assert_array_equal(layer(x), expected)
    assert plan["algorithm"] == "winograd"
