"""The weight gradient by Winograd's tiles against the reference: bounds, the plan to the bit, NaN and Inf,
the choice, the workspace."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import windrow as wr
from tests import emulation, tolerances
from tests.examples import per_target
from tests.problems import channels_last, scrambled
from tests.test_convolution import assert_same_kind, assert_within, bits
from tests.test_winograd import DATA, layers, operands
from windrow import _core, reference
from windrow.gradcheck import check

dtypes = st.sampled_from([np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)
TILES = {"algorithm": "winograd"}


def by_tiles(dy, x, w_shape, options, **more):
    return wr.conv_grad_weight(dy, x, w_shape, **options, **TILES, **more)


def bound_of(dy, x, w_shape, options):
    facts = wr.explain("conv_grad_weight", x.shape, w_shape, dtype=x.dtype, **options, **TILES)
    assert facts["kernel"] == "winograd_gradient"
    return tolerances.winograd_grad_weight_error_bound(
        dy,
        x,
        w_shape,
        [pair[0] for pair in options["padding"]],
        roundings=facts["roundings"],
        dtype=x.dtype,
        **{name: options[name] for name in ("groups", "stride", "dilation")},
    )


@pytest.mark.parametrize("threads", [1, 3])
@per_target(40)
@given(layer=layers(), dtype=dtypes, seed=seeds)
def test_agrees_with_the_reference(target, threads, layer, dtype, seed):
    x, w, _, dy = operands(layer, dtype, seed)
    options = layer[2]
    with wr.num_threads(threads):
        dw = by_tiles(dy, x, w.shape, options)
        total = by_tiles(dy, x, w.shape, options, out=np.ones_like(w), accumulate=True)
    assert_within(
        dw, reference.conv_grad_weight(dy, x, w.shape, **options), bound_of(dy, x, w.shape, options)
    )
    np.testing.assert_array_equal(total, dw + dtype(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((2, 17, 70, 61), (9, 17, 3, 3), {"padding": 1}),  # several units of whole rows of tiles, in slots
        ((1, 5, 9, 300), (7, 5, 3, 3), {"padding": ((0, 1), (2, 1))}),  # rows in parts
        ((40, 20, 7, 7), (70, 20, 3, 3), {"padding": 1}),
        ((1, 40, 33, 50), (20, 20, 3, 3), {"padding": ((3, 3), (2, 2)), "dilation": (3, 2), "groups": 2}),
        ((2, 6, 5, 30, 31), (19, 6, 2, 3, 3), {"stride": (2, 1, 1), "padding": 1}),
        ((1, 300, 10, 9), (33, 300, 3, 3), {"padding": 1}),  # blocks of channels and of rows
    ],
)
def test_larger_layers(target, dtype, x_shape, w_shape, options):
    rng = np.random.default_rng(2)
    x = rng.standard_normal(x_shape).astype(dtype)
    dy = rng.standard_normal(wr.conv(x, np.zeros(w_shape, dtype), **options).shape).astype(dtype)
    rank = len(x_shape) - 2
    full = {"stride": (1,) * rank, "dilation": (1,) * rank, "groups": 1, **options}
    if isinstance(options["padding"], int):
        full["padding"] = ((options["padding"],) * 2,) * rank
    dw = by_tiles(dy, x, w_shape, full)
    assert_within(dw, reference.conv_grad_weight(dy, x, w_shape, **full), bound_of(dy, x, w_shape, full))
    out = np.full((w_shape[0], 2 * w_shape[1], *w_shape[2:]), np.nan, dtype)[:, ::2]
    with wr.num_threads(3):
        np.testing.assert_array_equal(
            bits(by_tiles(channels_last(dy), channels_last(x), w_shape, full, out=out)), bits(dw)
        )


@per_target(40)
@given(layer=layers(), dtype=dtypes, seed=seeds)
def test_same_bits_for_any_threads_and_layout(target, layer, dtype, seed):
    x, w, _, dy = operands(layer, dtype, seed)
    rng = np.random.default_rng(seed)
    with wr.num_threads(1):
        dw = by_tiles(dy, x, w.shape, layer[2])
    for change in (lambda a: scrambled(rng, a), lambda a: channels_last(a) if a.ndim > 2 else a):
        x2, dy2 = change(x), change(dy)
        with wr.num_threads(3):
            np.testing.assert_array_equal(bits(by_tiles(dy2, x2, w.shape, layer[2])), bits(dw))
            out = scrambled(rng, np.zeros_like(dw))
            np.testing.assert_array_equal(bits(by_tiles(dy2, x2, w.shape, layer[2], out=out)), bits(dw))


def both_ways(transform, tiles):
    """Down the columns, then along the rows."""
    down = np.stack(transform([tiles[..., i, :] for i in range(tiles.shape[-2])]), -2)
    return np.stack(transform([down[..., i] for i in range(down.shape[-1])]), -1)


@pytest.mark.parametrize("images", [1, 5])
def test_the_plan_to_the_bit(target, images):
    """Tiles of 4 x 4 results: all 49 of an image at once, or 20 rows of 4 in units of 6, 7 and 7."""
    rng = np.random.default_rng(4)
    size = 28 if images == 1 else 13
    x, dy = (rng.standard_normal((images, c, size, size)).astype(np.float32) for c in (2, 3))
    multiply_add = emulation.fma if target not in emulation.UNFUSED else lambda a, b, c: a * b + c

    def fma(a, b, c):
        return multiply_add(np.broadcast_to(a, b.shape), b, np.broadcast_to(c, b.shape))

    half, two, a, b = (np.float32(v) for v in (0.5, 2, np.sqrt(0.5), np.sqrt(2.0)))

    def pixels(d):
        even_a, odd_a = fma(-two, d[2], d[4]), a * fma(-two, d[1], d[3])
        even_b, odd_b = fma(-half, d[2], d[4]), b * fma(-half, d[1], d[3])
        first, last = (fma(np.float32(-2.5), d[i], d[i - 2] + d[i + 2]) for i in (2, 3))
        return [first, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, last]

    def results(y):
        even_a, odd_a = fma(half, y[2], y[0]), a * fma(half, y[3], y[1])
        even_b, odd_b = fma(two, y[2], y[0]), b * fma(two, y[3], y[1])
        return [y[0], even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, y[3]]

    def taps(m):
        scale_a, scale_b, third = np.float32(-2 / 3), np.float32(1 / 6), np.float32(1 / 3)
        sum_a, sum_b, gap_a, gap_b = m[1] + m[2], m[3] + m[4], a * (m[1] - m[2]), b * (m[3] - m[4])
        return [
            fma(scale_a, sum_a, fma(scale_b, sum_b, m[0])),
            fma(scale_a, gap_a, scale_b * gap_b),
            fma(third, sum_b - sum_a, m[5]),
        ]

    whole = -(-size // 4) * 4
    seen = np.pad(x, ((0, 0), (0, 0), (1, whole - size + 1), (1, whole - size + 1)))
    d = both_ways(pixels, np.lib.stride_tricks.sliding_window_view(seen, (6, 6), (2, 3))[:, :, ::4, ::4])
    padded = np.pad(dy, ((0, 0), (0, 0), (0, whole - size), (0, whole - size)))
    r = both_ways(results, padded.reshape(*dy.shape[:2], whole // 4, 4, whole // 4, 4).swapaxes(3, 4))
    # [tile][channel][point], tiles row-major over all images
    d, r = (v.transpose(0, 2, 3, 1, 4, 5).reshape(-1, v.shape[1], 36) for v in (d, r))
    tiles = np.arange(len(d)).reshape(-1, whole // 4)  # by their rows
    units = 1 if len(d) <= 64 else -(-len(tiles) // (32 // (whole // 4)))
    assert units == (1 if images == 1 else 3)
    total = None
    for i in range(units):
        part = np.zeros((3, 2, 36), np.float32)
        unit = tiles[len(tiles) * i // units : len(tiles) * (i + 1) // units].ravel()
        for dt, rt in zip(d[unit], r[unit], strict=True):
            factors, vectors = np.broadcast_arrays(rt[:, None], dt[None])
            part = fma(factors, vectors, part)
        total = part if total is None else total + part
    expected = both_ways(taps, total.reshape(3, 2, 6, 6))
    np.testing.assert_array_equal(
        bits(wr.conv_grad_weight(dy, x, (3, 2, 3, 3), padding=1, **TILES)), bits(expected)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outer_taps_are_problems_of_their_own(target, dtype):
    """To the bit: every tap of the axes before the last two sums over the planes that it sees."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((2, 6, 4, 17, 20)).astype(dtype)
    dy = rng.standard_normal((2, 5, 3, 17, 20)).astype(dtype)
    dw = wr.conv_grad_weight(dy, x, (5, 6, 2, 3, 3), padding=(0, 1, 1), **TILES)
    for tap in range(2):
        planes, results = (np.moveaxis(v, 2, 1) for v in (x[:, :, tap : tap + 3], dy))
        alone = wr.conv_grad_weight(
            results.reshape(6, 5, 17, 20), planes.reshape(6, 6, 17, 20), (5, 6, 3, 3), padding=1, **TILES
        )
        np.testing.assert_array_equal(bits(dw[:, :, tap]), bits(alone))


@per_target(40)
@given(layer=layers(), dtype=dtypes, seed=seeds, spoil=st.sampled_from(["x", "dy", "both", "all of x"]))
def test_non_finite_values_are_those_of_the_direct_sum(target, layer, dtype, seed, spoil):
    """Promise 5, and with accumulate too, where nothing must be added twice."""
    x, w, _, dy = operands(layer, dtype, seed)
    options = layer[2]
    rng = np.random.default_rng(seed)
    for array in {"x": (x,), "dy": (dy,), "both": (x, dy), "all of x": ()}[spoil]:
        for value in (np.nan, np.inf, -np.inf):
            if rng.random() < 0.7:
                array.flat[rng.integers(array.size)] = value
    if spoil == "all of x":
        x[...] = np.nan
    dw = by_tiles(dy, x, w.shape, options)
    assert_same_kind(dw, reference.conv_grad_weight(dy, x, w.shape, **options))
    total = by_tiles(dy, x, w.shape, options, out=np.ones_like(w), accumulate=True)
    assert_same_kind(total, dw)
    finite = np.isfinite(dw)
    np.testing.assert_array_equal(total[finite], dw[finite] + dtype(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, "overflow"])
def test_what_is_not_finite_is_left_to_the_direct_sum(target, dtype, value):
    """To the bit, of data and of sums that only a transform brings beyond the largest number."""
    rng = np.random.default_rng(1)
    x, dy = (rng.integers(-1, 2, (2, 20, 30, 30)).astype(dtype) for _ in range(2))
    if value == "overflow":
        x *= np.finfo(dtype).max / 4
        dy[...] = 0
        dy[1, :, 20, 20] = 1
    else:
        x[1, 3, 29, 29] = value
    options = {"padding": 1}
    direct = wr.conv_grad_weight(dy, x, (20, 20, 3, 3), algorithm="direct", **options)
    assert np.isfinite(direct).all() == (value == "overflow")
    np.testing.assert_array_equal(by_tiles(dy, x, (20, 20, 3, 3), options), direct)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_borders(target, mode):
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, 20, 15, 18)), rng.standard_normal((2, 17, 15, 18))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode)
    np.testing.assert_array_equal(
        bits(by_tiles(dy, x, (17, 20, 3, 3), {"padding": 1}, padding_mode=mode)),
        bits(by_tiles(dy, padded, (17, 20, 3, 3), {})),
    )
    # Under a dilation a border of pixels has no tiles.
    options = {"padding": 2, "dilation": 2, "padding_mode": mode}
    np.testing.assert_array_equal(
        bits(by_tiles(dy, x, (17, 20, 3, 3), options)),
        bits(wr.conv_grad_weight(dy, x, (17, 20, 3, 3), algorithm="direct", **options)),
    )


def test_a_constant_border(target):
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, 20, 15, 18)), rng.standard_normal((2, 17, 15, 18))
    for dilation in (1, 2):
        pad = ((0, 0), (0, 0), (dilation, dilation), (dilation, dilation))
        options = {"dilation": dilation}
        np.testing.assert_array_equal(
            bits(by_tiles(dy, x, (17, 20, 3, 3), options, padding=dilation, fill=2.5)),
            bits(by_tiles(dy, np.pad(x, pad, constant_values=2.5), (17, 20, 3, 3), options)),
        )


@pytest.mark.parametrize("target", _core.targets_available(), indirect=True)
def test_the_choice(target):
    """By the shapes, the batch included, and by nothing else."""
    takes = [(1, 64, 56, 1), (1, 256, 14, 1), (32, 512, 7, 1), (1, 128, 65, 2)]
    takes_not = [(1, 15, 112, 1), (1, 16, 8, 1), (1, 64, 4, 1)]
    # Its direct sum is slow enough there that tiles are worth it even for one small image.
    (takes if target == "portable" else takes_not).append((1, 512, 7, 1))
    taken = {}
    for n, c, size, d in takes + takes_not:
        plans = {
            (plan["algorithm"], plan["kernel"])
            for memory_format in ("channels_first", "channels_last")
            for threads in (1, 3)
            for plan in [
                wr.explain(
                    "conv_grad_weight", (n, c, size, size), (c, c, 3, 3), padding=d, dilation=d,
                    threads=threads, memory_format=memory_format,
                )
            ]
        }  # fmt: skip
        assert len(plans) == 1
        taken[n, c, size, d] = plans.pop()
    tiles = ("winograd", "winograd_gradient")
    assert [key for key, plan in taken.items() if plan == tiles] == takes
    assert {plan for plan in taken.values() if plan != tiles} <= {
        ("direct", "weight_gradient"), ("direct", "small_gradient")
    }  # fmt: skip


def test_both_ways_are_predicted():
    plan = wr.explain("conv_grad_weight", (1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert plan["candidates"].keys() == {"weight_gradient", "winograd_gradient"}
    assert "winograd_gradient" in str(plan)


def test_weights_beyond_the_partial_sums_have_no_tiles():
    plan = wr.explain("conv_grad_weight", (1, 1024, 9, 9), (1024, 1024, 3, 3), padding=1, **TILES)
    assert (plan["algorithm"], plan["kernel"]) == ("direct", "weight_gradient")


@pytest.mark.parametrize(
    "shapes", [((1, 64, 56, 56), (64, 64, 3, 3)), ((1, 32, 6, 28, 28), (64, 32, 3, 3, 3))]
)
@pytest.mark.parametrize("accumulate", [False, True])
def test_workspace(shapes, accumulate):
    """ "winograd" asks for what it needs; "auto" does without."""
    rng = np.random.default_rng(0)
    x_shape, w_shape = shapes
    x = rng.standard_normal(x_shape).astype(np.float32)
    dy = rng.standard_normal((1, w_shape[0], *x_shape[2:])).astype(np.float32)
    options = {"padding": 1}
    facts = wr.explain("conv_grad_weight", x_shape, w_shape, threads=1, **options, **TILES)
    assert facts["workspace_per_thread"] <= 8 << 20
    more = {"out": np.zeros(w_shape, np.float32), "accumulate": True} if accumulate else {}
    needed = facts["workspace_bytes"]
    if accumulate and not facts["workspace_shared"]:
        needed += 4 * int(np.prod(w_shape))  # a slot, since nothing is added before all is known to be finite
    text = f"max_workspace: expected at least {needed} bytes for this problem, got {needed - 1}"
    with pytest.raises(ValueError) as error:
        by_tiles(dy, x, w_shape, options, max_workspace=needed - 1, **more)
    assert str(error.value) == text
    expected = bits(by_tiles(dy, x, w_shape, options))
    for threads in (1, 3):
        with wr.num_threads(threads):
            more = {"out": np.zeros(w_shape, np.float32), "accumulate": True} if accumulate else {}
            fits = by_tiles(dy, x, w_shape, options, max_workspace=needed, **more)
            np.testing.assert_array_equal(bits(fits), expected)
    facts = wr.explain("conv_grad_weight", x_shape, w_shape, max_workspace=needed // 2, **options)
    assert facts["algorithm"] == "direct"
    small = wr.conv_grad_weight(dy, x, w_shape, max_workspace=needed // 2, **options)
    limited = wr.conv_grad_weight(dy, x, w_shape, max_workspace=needed // 2, algorithm="direct", **options)
    np.testing.assert_array_equal(bits(small), bits(limited))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_with_channels_of_their_own(target, dtype):
    """The same bits, and each thread with as many vectors of channels, of which the last is not full."""
    rng = np.random.default_rng(5)
    c, options = 383, {"padding": 1}
    x, dy = (rng.standard_normal((1, some, 28, 28)).astype(dtype) for some in (c, 9))
    with wr.num_threads(1):
        dw = by_tiles(dy, x, (9, c, 3, 3), options)
    for threads in (2, 3, 4):
        facts = wr.explain("conv_grad_weight", x.shape, (9, c, 3, 3), threads=threads, **options, **TILES)
        assert facts["pieces"] % threads == 0
        with wr.num_threads(threads):
            np.testing.assert_array_equal(bits(by_tiles(dy, x, (9, c, 3, 3), options)), bits(dw))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize(
    "shape", [(1, (56, 56), 1), (1, (28, 28), 1), (4, (14, 14), 1), (2, (33, 33), 2), (1, (3, 16, 20), 1)]
)
def test_what_auto_takes_is_accurate(dtype, kind, shape):
    """DESIGN: at most max(4 eps * the largest sum of magnitudes, 2 x direct's error) on data of each kind."""
    n, size, dilation = shape
    options = {"padding": dilation, "dilation": dilation}
    rng = np.random.default_rng(3)
    x = DATA[kind](rng, (n, 20, *size)).astype(dtype)
    dy = (
        0.3 / 0.1 * DATA[kind](rng, (n, 17, *size))
        if kind == "constant"
        else rng.standard_normal((n, 17, *size))
    )
    dy = dy.astype(dtype)
    w_shape = (17, 20, *[3] * len(size))
    exact = reference.conv_grad_weight(dy, x, w_shape, **options)
    worst = {
        name: np.max(np.abs(wr.conv_grad_weight(dy, x, w_shape, algorithm=name, **options) - exact))
        for name in ("winograd", "direct")
    }
    sizes = reference.conv_grad_weight(np.abs(dy), np.abs(x), w_shape, **options)
    assert worst["winograd"] <= max(4 * np.finfo(dtype).eps * np.max(sizes), 2 * worst["direct"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradcheck(dtype):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((2, 4, 9, 10), (3, 4, 3, 3), (3,)))
    options = {"padding": 1, "algorithm": "winograd"}
    report = check(
        lambda x, w, b: wr.conv(x, w, b, **options),
        lambda dy, x, w, b: wr.conv_backward(dy, x, w, **options),
        (x, w, b),
        axes={"x": "n c h w", "w": "k c kh kw", "b": "k"},
    )
    assert report, report
