"""Lanes along the filters, for channels-last results and small images: the bits of the other drivers."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given

import windrow as wr
from tests.choice import only
from tests.examples import per_target
from tests.problems import channels_last, problems, scrambled

ROOM = 2**40  # any limit at all keeps a call away from the driver of small problems

dtypes = st.sampled_from([np.float32, np.float64])
THREE_BY_THREE = ((2, 20, 9, 11), (40, 20, 3, 3), {"padding": 1})
# Shapes whose 256 or more terms are several chunks, and whose filters leave vectors and panels half empty.
LAYERS = [
    THREE_BY_THREE,
    ((3, 130, 7, 7), (50, 130, 1, 1), {}),
    ((2, 50, 7, 7), (300, 50, 1, 1), {}),
    ((2, 1, 9, 9), (40, 1, 1, 1), {}),
    ((2, 24, 13, 13), (33, 24, 3, 3), {"stride": 2, "padding": 1}),
    ((1, 64, 15, 15), (16, 64, 1, 1), {"stride": 2}),
    ((2, 3, 21, 20), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 64, 10, 10), (96, 32, 3, 3), {"groups": 2, "dilation": 2}),
    ((1, 16, 600), (17, 16, 3), {"padding": ((2, 0),)}),
    ((1, 12, 4, 5, 6), (20, 12, 3, 3, 2), {"padding": 1}),
    # Tiles that go on over the ends of rows and images.
    ((19, 20, 4, 4), (40, 20, 3, 3), {"padding": 1}),
    ((70, 33, 2, 3), (17, 33, 2, 2), {"padding": 1}),
    ((21, 24, 5, 5), (48, 12, 3, 3), {"groups": 2}),
    # Panels of two widths, in one piece and in several.
    ((1, 140, 6, 6), (112, 140, 1, 1), {}),
    ((2, 60, 9, 8), (197, 60, 3, 3), {"padding": 1}),
]


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def kernel(operation, x_shape, w_shape, dtype, **options):
    options.setdefault("memory_format", "channels_last")
    return wr.explain(operation, x_shape, w_shape, dtype=dtype, max_workspace=ROOM, **options)["kernel"]


def operands(x_shape, w_shape, options, dtype, rng):
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
    b = rng.standard_normal(w_shape[0]).astype(dtype)
    dy = rng.standard_normal(wr.conv(x, w, **options).shape).astype(dtype)
    return x, w, b, dy


def check_bits(x, w, b, dy, options, rng):
    """Every mixture of formats of the operands, into a channels-last result."""
    start = rng.standard_normal(x.shape).astype(x.dtype)
    with only("window_product"):
        y = wr.conv(x, w, b, **options)
        dx = wr.conv_grad_input(dy, w, x.shape, **options)
        added = wr.conv_grad_input(dy, w, x.shape, out=start.copy(), accumulate=True, **options)
    for change in (channels_last, lambda a: a, lambda a: scrambled(rng, a)):
        out_y, out_dx = channels_last(np.full_like(y, np.nan)), channels_last(np.full_like(dx, np.nan))
        out_added = channels_last(start.copy())
        with only("filter_product"):
            wr.conv(change(x), change(w), np.repeat(b, 2)[::2], out=out_y, **options)
            wr.conv_grad_input(change(dy), change(w), x.shape, out=out_dx, **options)
            wr.conv_grad_input(change(dy), change(w), x.shape, out=out_added, accumulate=True, **options)
        np.testing.assert_array_equal(bits(out_y), bits(y))
        np.testing.assert_array_equal(bits(out_dx), bits(dx))
        np.testing.assert_array_equal(bits(out_added), bits(added))


@per_target(80)
@given(problem=problems(max_channels=40), dtype=dtypes, seed=st.integers(0, 2**32 - 1))
def test_has_the_bits_of_channels_first(target, problem, dtype, seed):
    rng = np.random.default_rng(seed)
    with only("filter_product"):
        event(kernel("conv", problem.x_shape, problem.w_shape, dtype, **problem.options))
    check_bits(*operands(*problem, dtype, rng), problem.options, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), LAYERS)
def test_has_the_bits_of_channels_first_on_layers(target, x_shape, w_shape, options, dtype):
    rng = np.random.default_rng(3)
    with only("filter_product"):
        assert kernel("conv", x_shape, w_shape, dtype, **options) == "filter_product"
    check_bits(*operands(x_shape, w_shape, options, dtype, rng), options, rng)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), LAYERS[:3])
def test_same_bits_for_threads_and_batch(target, x_shape, w_shape, options, dtype):
    x_shape = (7, x_shape[1], 40, 41)  # several pieces of work
    x, w, b, dy = operands(x_shape, w_shape, options, dtype, np.random.default_rng(4))
    x, dy = channels_last(x), channels_last(dy)
    for threads in (2, 5):
        plan = wr.explain(
            "conv", x.shape, w.shape, dtype=dtype, memory_format="channels_last", threads=threads, **options
        )
        assert plan["pieces"] > 1
    with wr.num_threads(1):
        y = wr.conv(x, w, b, **options)
        dx = wr.conv_grad_input(dy, w, x.shape, **options)
    for threads in (2, 5):
        with wr.num_threads(threads):
            np.testing.assert_array_equal(bits(wr.conv(x, w, b, **options)), bits(y))
            np.testing.assert_array_equal(bits(wr.conv_grad_input(dy, w, x.shape, **options)), bits(dx))
    np.testing.assert_array_equal(bits(wr.conv(x[3:4], w, b, **options)), bits(y[3:4]))
    alone = wr.conv_grad_input(dy[3:4], w, x[3:4].shape, **options)
    np.testing.assert_array_equal(bits(alone), bits(dx[3:4]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_non_finite_values_stay_where_they_belong(target, dtype):
    """A filter's lane, a pixel's row and a padded position are nobody else's."""
    x_shape, w_shape, options = THREE_BY_THREE
    x, w, b, _ = operands(x_shape, w_shape, options, dtype, np.random.default_rng(5))
    x[0, 3, 4, 5], w[7, 0, 0, 0] = np.nan, np.inf
    y = wr.conv(channels_last(x), w, b, max_workspace=ROOM, **options)
    finite = np.ones(y.shape, bool)
    finite[0, :, 3:6, 4:7] = False
    finite[:, 7] = False  # Inf times something, or times the 0 of the padding
    np.testing.assert_array_equal(np.isfinite(y), finite)
    np.testing.assert_array_equal(
        np.isnan(y[1, 7]), np.pad(np.zeros((8, 10), bool), ((1, 0), (1, 0)), constant_values=True)
    )


# Borders that many windows lie across: rows, columns and corners; several pieces; an axis besides.
BORDERED = [
    ((7, 7), (3, 3), {"padding": ((1, 1), (1, 1))}),
    ((14, 9), (3, 3), {"padding": ((1, 1), (1, 1)), "stride": 2}),
    ((40, 33), (3, 3), {"padding": ((1, 1), (1, 1))}),
    ((33, 20), (3, 3), {"padding": ((12, 12), (12, 3)), "dilation": (12, 1)}),
    ((9, 8), (5, 4), {"padding": ((4, 1), (0, 3))}),
    ((20, 21), (7, 7), {"padding": ((3, 3), (3, 3))}),
    ((2, 3), (3, 3), {"padding": ((1, 1), (1, 1))}),  # no pixel sees all taps
    ((12, 1), (3, 3), {"padding": ((9, 2), (1, 1))}),  # pixels that see no tap at all
    ((300,), (5,), {"padding": ((2, 30),)}),
    ((3, 8, 9), (3, 3, 3), {"padding": ((1, 1), (1, 1), (1, 1))}),
]


def worth_boxes(filters, size, kernel_size):
    """So many channels that leaving out taps is worth it, and that the terms are several passes."""
    taps = np.prod(kernel_size)
    return int(max(1100 / taps, 6e6 / (2 * filters * np.prod(size) * taps)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(("size", "kernel_size", "options"), BORDERED)
def test_taps_on_zeros_are_left_out_without_a_change_of_bits(
    target, dtype, images, size, kernel_size, options
):
    """The same bits as on the image with its zeros around it, where nothing can be left out."""
    rng = np.random.default_rng(11)
    channels = worth_boxes(35, size, kernel_size)
    x = rng.standard_normal((images, 2 * channels, *size)).astype(dtype)
    w = rng.standard_normal((70, channels, *kernel_size)).astype(dtype)
    b = rng.standard_normal(70).astype(dtype)
    wide = np.pad(x, ((0, 0), (0, 0), *options["padding"]))
    options = options | {"groups": 2}
    beyond = options | {"padding": 0}
    with only("filter_product"):
        y = wr.conv(wide, w, b, **beyond)
        layer = wr.prepare_conv(w, b, activation="relu", **options)
        for change in (np.copy, channels_last):
            for threads in (1, 3):
                with wr.num_threads(threads):
                    out = change(np.full_like(y, np.nan, order="C"))
                    wr.conv(change(x), w, b, out=out, **options)
                    np.testing.assert_array_equal(bits(out), bits(y))
                    np.testing.assert_array_equal(layer(change(x)), np.maximum(y, 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("size", "kernel_size", "options"), BORDERED)
def test_a_weight_that_is_not_finite_is_not_left_out(target, dtype, size, kernel_size, options):
    """Whichever tap it is of: a zero times Inf counts, whatever limits the results have."""
    rng = np.random.default_rng(12)
    channels = worth_boxes(36, size, kernel_size)
    x = channels_last(rng.standard_normal((2, channels, *size)).astype(dtype))
    w = rng.standard_normal((36, channels, *kernel_size)).astype(dtype)
    wide = np.pad(x, ((0, 0), (0, 0), *options["padding"]))
    beyond = options | {"padding": 0}
    for tap in np.ndindex(*kernel_size):
        spoilt = w.copy()
        spoilt[rng.integers(36), rng.integers(channels), *tap] = rng.choice([np.inf, -np.inf, np.nan])
        with only("filter_product"):
            y = wr.conv(wide, spoilt, **beyond)
            clipped = wr.prepare_conv(spoilt, activation="relu", **options)(x)
            np.testing.assert_array_equal(wr.conv(x, spoilt, **options), y)
            np.testing.assert_array_equal(clipped, np.maximum(y, 0))


SMALL_IMAGES = [
    ((2, 300, 7, 7), (50, 300, 1, 1), {}),
    ((3, 20, 7, 7), (70, 20, 3, 3), {"padding": 1}),
    ((2, 48, 14, 14), (64, 48, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 64, 14, 14), (64, 64, 1, 1), {"stride": 2}),
    ((2, 96, 40), (128, 48, 5), {"groups": 2, "stride": 3}),
    ((1, 48, 3, 4, 9), (50, 48, 1, 2, 2), {}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), SMALL_IMAGES)
def test_small_images_have_the_bits_of_channels_last(target, x_shape, w_shape, options, dtype):
    """Sums that are turned over, into results of any strides; more than one piece of work."""
    x_shape = (5 * x_shape[0], *x_shape[1:])
    rng = np.random.default_rng(7)
    x, w, b, dy = operands(x_shape, w_shape, options, dtype, rng)
    with only("filter_product"):
        first = {"memory_format": "channels_first", **options}
        assert kernel("conv", x_shape, w_shape, dtype, **first) == "filter_product"
    with only("window_product"):
        y = wr.conv(channels_last(x), w, b, **options)
        dx = wr.conv_grad_input(channels_last(dy), w, x_shape, **options)
    check_bits(x, w, b, dy, options, rng)
    for change in (np.copy, lambda a: scrambled(rng, a)):
        out_y, out_dx = (
            change(np.full_like(y, np.nan, order="C")),
            change(np.full_like(dx, np.nan, order="C")),
        )
        for threads in (1, 3):
            with only("filter_product"), wr.num_threads(threads):
                wr.conv(change(x), w, b, out=out_y, **options)
                wr.conv_grad_input(change(dy), w, x_shape, out=out_dx, **options)
            np.testing.assert_array_equal(bits(out_y), bits(y))
            np.testing.assert_array_equal(bits(out_dx), bits(dx))


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "format", "expected"),
    [
        ((1, 64, 56, 56), (64, 64, 3, 3), "channels_last", True),
        ((1, 64, 56, 56), (64, 64, 3, 3), "channels_first", True),
        ((1, 64, 56, 56), (64, 1, 3, 3), "channels_last", False),
        ((1, 64, 56, 56), (3, 64, 3, 3), "channels_last", False),
    ],
)
def test_where_filters_fill_lanes(x_shape, w_shape, format, expected):
    options = {"groups": x_shape[1] // w_shape[1], "padding": 1, "memory_format": format}
    plan = wr.explain("conv", x_shape, w_shape, **options)
    assert ("filter_product" in plan["candidates"]) is expected
    with only("filter_product"):
        assert (kernel("conv", x_shape, w_shape, np.float32, **options) == "filter_product") is expected


@pytest.mark.parametrize("operation", ["conv", "conv_grad_input"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "padding"),
    [
        ((8, 64, 224, 224), (32, 64, 3, 3), 1),
        ((1, 512, 14, 14), (512, 512, 3, 3), 1),
        ((1, 4096, 300), (64, 4096, 31), 15),
        ((1, 64, 40, 40, 40), (64, 64, 5, 5, 5), 2),
    ],
)
def test_workspace_is_bounded(operation, x_shape, w_shape, padding):
    with only("filter_product"):
        plan = wr.explain(
            operation, x_shape, w_shape, padding=padding, memory_format="channels_last", threads=1
        )
    assert plan["kernel"] == "filter_product"
    assert plan["workspace_bytes"] <= 8 << 20


def test_less_workspace_than_it_wants_is_another_driver():
    x_shape, w_shape, options = THREE_BY_THREE
    x, w, b, _ = operands(x_shape, w_shape, options, np.float32, np.random.default_rng(6))
    options = options | {"max_workspace": 40_000}
    plan = wr.explain("conv", x_shape, w_shape, memory_format="channels_last", threads=1, **options)
    assert plan["kernel"] != "filter_product"
    with wr.num_threads(1):
        np.testing.assert_array_equal(
            bits(wr.conv(channels_last(x), w, b, **options)), bits(wr.conv(x, w, b, padding=1))
        )
