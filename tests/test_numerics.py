"""The numerics plans of docs/numerics.md, emulated to the bit, and the bounds that follow from them."""

from math import ceil, prod
from pathlib import Path

import numpy as np
import pytest

import windrow as wr
from tests import emulation
from tests.problems import channels_last
from windrow import _core

CHUNK = _core._testing.CHUNK
PAGE = (Path(__file__).resolve().parent.parent / "docs" / "numerics.md").read_text()


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32 if array.itemsize == 4 else np.uint64)


def assert_same_bits(result, expected):
    np.testing.assert_array_equal(bits(result), bits(expected))


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def windows_of(x, kernel, stride=1):
    """x (C, H, W) as (H', W', C, R, S): no padding."""
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))
    return view[:, ::stride, ::stride].transpose(1, 2, 0, 3, 4)


def test_forward_adds_channel_by_channel_and_tap_by_tap(target):
    rng = np.random.default_rng(1)
    x, w, b = draw(rng, 2, 20, 6, 9), draw(rng, 5, 20, 3, 3), draw(rng, 5)
    y = wr.conv(x, w, b)
    for image, result in zip(x, y, strict=True):
        columns = windows_of(image, (3, 3)).reshape(4 * 7, 20 * 9).T
        expected = emulation.product(target, w.reshape(5, -1), columns, None, b)
        assert_same_bits(result.reshape(5, -1), expected)


@pytest.mark.parametrize(("stride", "before"), [(1, 1), (2, 1), (3, 0)])
def test_input_gradient_adds_filter_by_filter_and_tap_by_tap(target, stride, before):
    """In one dimension, entry by entry: the taps that reach it, from the last, and zeros where dy ends."""
    rng = np.random.default_rng(2)
    filters, channels, kernel, size = 60, 3, 5, 17
    w = draw(rng, filters, channels, kernel)
    out = (size + 2 * before - kernel) // stride + 1
    dy = draw(rng, 1, filters, out)
    dx = wr.conv_grad_input(dy, w, (1, channels, size), stride=stride, padding=before)
    for i in range(size):
        taps = [t for t in reversed(range(kernel)) if (i + before - t) % stride == 0]
        positions = [(i + before - t) // stride for t in taps]
        seen = np.zeros((filters, len(taps)), np.float32)
        for j, position in enumerate(positions):
            if 0 <= position < out:
                seen[:, j] = dy[0, :, position]
        factors = w[:, :, taps].transpose(1, 0, 2).reshape(channels, -1)
        assert_same_bits(dx[0, :, i], emulation.product(target, factors, seen.reshape(-1, 1))[:, 0])


def test_axes_of_one_element_change_nothing(target):
    rng = np.random.default_rng(8)
    x, w, b = draw(rng, 2, 20, 50), draw(rng, 5, 20, 7), draw(rng, 5)
    y = wr.conv(x, w, b, stride=2, padding=3)
    dx = wr.conv_grad_input(y, w, x.shape, stride=2, padding=3)
    for at in (2, 3):
        x2, w2, y2 = (np.expand_dims(a, at) for a in (x, w, y))
        options = {"stride": (2, 1) if at == 3 else (1, 2), "padding": (3, 0) if at == 3 else (0, 3)}
        assert_same_bits(wr.conv(x2, w2, b, **options), y2)
        assert_same_bits(wr.conv_grad_input(y2, w2, x2.shape, **options), np.expand_dims(dx, at))


def summed_by_boxes(target, dy, x, kernel, box_rows, together, slots):
    """dw (K, C, R, S) of dy (N, K, H, W) for stride 1: boxes of whole rows, some together, in slots."""
    filters, width = dy.shape[1], dy.shape[3]
    boxes = []
    for image_dy, image_x in zip(dy, x, strict=True):
        columns = windows_of(image_x, kernel)
        for top in range(0, dy.shape[2], box_rows):
            rows = slice(top, top + box_rows)
            pixels = image_dy[:, rows].shape[1] * width
            boxes.append((image_dy[:, rows].reshape(filters, pixels), columns[rows].reshape(pixels, -1)))
    units = [
        (np.concatenate([a for a, _ in some], axis=1), np.concatenate([b for _, b in some]))
        for some in (boxes[first : first + together] for first in range(0, len(boxes), together))
    ]
    total = None
    for slot in range(slots):
        part = None
        for a, b in units[len(units) * slot // slots : len(units) * (slot + 1) // slots]:
            part = emulation.product(target, a, b, part)
        total = part if total is None else total + part
    return total.reshape(filters, x.shape[1], *kernel)


@pytest.mark.parametrize("filters", [3, 32, 41])  # lanes are taps and channels; filters, in place or not
# 16 channels: whole vectors, which are summed in dw itself; 80: more than filters, so that those are lanes.
@pytest.mark.parametrize(("kernel", "channels"), [((2, 2), 2), ((1, 1), 16), ((1, 1), 80)])
@pytest.mark.parametrize(
    ("images", "height", "width", "box_rows", "together", "slots"),
    [
        (3, 5, 7, 5, 3, 1),  # all images are one unit of one chunk
        (20, 5, 7, 5, 7, 1),  # at most 7 images of 35 pixels, then the other 6
        (14, 8, 11, 8, 2, 2),  # 7 units of two images, in two slots
        (4, 14, 14, 14, 1, 1),  # an image is a unit of two chunks
        (1, 28, 28, 7, 1, 1),  # four boxes of equal height, two chunks each
        (5, 28, 28, 7, 1, 7),  # 20 boxes; 3,920 pixels give 7 slots of at least 512
    ],
)
def test_weight_gradient_adds_boxes_of_pixels(
    target, kernel, channels, filters, images, height, width, box_rows, together, slots
):
    rng = np.random.default_rng(3)
    x = draw(rng, images, channels, height + kernel[0] - 1, width + kernel[1] - 1)
    dy = draw(rng, images, filters, height, width)
    w_shape = (filters, channels, *kernel)
    expected = summed_by_boxes(target, dy, x, kernel, box_rows, together, slots)
    for change in (np.ascontiguousarray, channels_last):
        assert_same_bits(wr.conv_grad_weight(change(dy), change(x), w_shape), expected)

    unit = box_rows * width * together
    units = ceil(images / together) * ceil(height / box_rows)
    roundings = min(unit, CHUNK) + ceil(units / slots) * ceil(unit / CHUNK) + slots - 1
    assert wr.explain("conv_grad_weight", x.shape, w_shape)["roundings"] == roundings


@pytest.mark.parametrize(
    ("kernel", "channels", "slots"),
    [
        ((1, 1), 320, 4),  # two blocks of at most 256 channels; 8 pieces are wanted
        ((1, 1), 240, 7),  # one of them; 3,920 pixels give no 8 slots of at least 512
        ((2, 1), 130, 4),  # two of at most 128
        ((3, 1), 130, 3),  # three of at most 64
    ],
)
def test_channels_of_a_piece_decide_the_slots(target, kernel, channels, slots):
    rng = np.random.default_rng(4)
    x, dy = draw(rng, 5, channels, 27 + kernel[0], 28), draw(rng, 5, 130, 28, 28)
    some = [0, 25, 26, 51, 52, 64, 65, 78, 104, 129]  # filters, beside the cuts too
    expected = summed_by_boxes(target, dy[:, some], x, kernel, 7, 1, slots)
    with wr.num_threads(1):
        dw = wr.conv_grad_weight(dy, x, (130, channels, *kernel))
    assert_same_bits(dw[some], expected)
    for threads in (2, 5):  # by which rows are cut, and no sum
        with wr.num_threads(threads):
            assert_same_bits(wr.conv_grad_weight(dy, x, (130, channels, *kernel)), dw)


@pytest.mark.parametrize(
    ("height", "width", "heights", "widths"),
    [
        (5, 7, [5], [7]),
        (30, 100, [15, 15], [100]),  # at most 20 rows of 100 pixels
        (3, 1030, [3], [512, 512, 6]),
    ],
)
def test_weight_gradient_of_single_channels_adds_lanes(target, height, width, heights, widths):
    rng = np.random.default_rng(6)
    lanes = _core._testing.tile(target, False)[2]
    x, dy = draw(rng, 2, 2, height + 1, width + 2), draw(rng, 2, 2, height, width)
    dw = wr.conv_grad_weight(dy, x, (2, 1, 2, 3), groups=2)
    rows = np.split(np.arange(height), np.cumsum(heights)[:-1])
    columns = np.split(np.arange(width), np.cumsum(widths)[:-1])
    for f, r, s in np.ndindex(2, 2, 3):
        total = np.float32(0)
        for image in range(2):
            seen = x[image, f, r : r + height, s : s + width]
            for block in ((i, j) for i in rows for j in columns):
                sums = np.zeros(lanes, np.float32)
                for i in block[0]:
                    for j in range(block[1][0], block[1][-1] + 1, lanes):
                        some = slice(j, min(j + lanes, block[1][-1] + 1))
                        a, b = dy[image, f, i, some], seen[i, some]
                        part = sums[: a.size]
                        fused = target not in emulation.UNFUSED
                        sums[: a.size] = emulation.fma(a, b, part) if fused else a * b + part
                while sums.size > 1:
                    half = sums.size // 2
                    sums = sums[:half] + sums[half:]
                total += sums[0]
        assert_same_bits(dw[f, 0, r, s], total)
    most = heights[0] * ceil(widths[0] / lanes) + int(np.log2(lanes)) + 2 * len(heights) * len(widths)
    plan = wr.explain("conv_grad_weight", x.shape, dw.shape, groups=2)
    assert (plan["kernel"], plan["roundings"]) == ("depthwise_gradient", most)
    if 2 * height * width > 256:  # pixels of a unit of the other plan
        alone = wr.conv_grad_weight(dy[:, 1:], x[:, 1:], (1, 1, 2, 3))
        assert_same_bits(alone[0], dw[1])


@pytest.mark.parametrize("kernel", [3, 31])
@pytest.mark.parametrize("channels", [16, 43])
def test_weight_gradient_of_single_channels_has_one_plan_for_both_formats(target, kernel, channels):
    """Also of a window whose sums of a line of channels are larger than those of a filter may be."""
    x, dy = draw(np.random.default_rng(kernel), 2, 2, channels, 20, 21)
    last = [channels_last(a) for a in (dy, x)]
    shape = (channels, 1, kernel, kernel)
    for threads in (1, 2):
        with wr.num_threads(threads):
            first, second = (
                wr.conv_grad_weight(*a, shape, padding=kernel // 2, groups=channels) for a in ((dy, x), last)
            )
        assert_same_bits(first, second)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(1,), (5, 7), (16 * CHUNK,), (3, 16 * CHUNK + 5)])
def test_bias_gradient_adds_16_sums(dtype, size):
    rng = np.random.default_rng(4)
    dy = rng.standard_normal((3, 2, *size)).astype(dtype)
    block = 16 * CHUNK
    expected = np.zeros(2, dtype)
    for image in dy.reshape(3, 2, -1):
        total = np.zeros(2, dtype)
        for first in range(0, prod(size), block):
            sums = np.zeros((2, 16), dtype)
            for p, values in enumerate(image[:, first : first + block].T):
                sums[:, p % 16] += values
            for width in (8, 4, 2, 1):
                sums = sums[:, :width] + sums[:, width : 2 * width]
            total += sums[:, 0]
        expected += total
    assert_same_bits(wr.conv_grad_bias(dy), expected)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fold_adds_in_the_order_of_the_positions(target, dtype, stride, dilation):
    """The same bits on every target; float16 is rounded once, from float32."""
    rng = np.random.default_rng(5)
    size, kernel = 23, 5
    out = (size - dilation * (kernel - 1) - 1) // stride + 1
    cols = rng.standard_normal((1, kernel, out)).astype(dtype)
    weights = rng.random(kernel).astype(dtype)
    wide = np.float32 if dtype == np.float16 else dtype
    total, weighted, summed, count = (np.zeros(size, wide) for _ in range(4))
    for l in range(out):
        for k in range(kernel):
            i = l * stride + k * dilation
            total[i] += cols[0, k, l]
            weighted[i] += wide(weights[k]) * wide(cols[0, k, l])
            summed[i] += weights[k]
            count[i] += 1
    options = {"stride": stride, "dilation": dilation}
    folded = [
        (wr.fold(cols, (size,), kernel, **options), total),
        (wr.fold(cols, (size,), kernel, reduce="mean", uncovered=np.nan, **options), total / count),
        (wr.fold(cols, (size,), kernel, window=weights, uncovered=np.nan, **options), weighted / summed),
    ]
    for result, expected in folded:
        np.testing.assert_array_equal(result[0, 0], expected.astype(dtype))


def test_roundings_of_y_and_dx():
    def roundings(operation, x_shape, w_shape, **options):
        return wr.explain(operation, x_shape, w_shape, **options)["roundings"]

    assert roundings("conv", (1, 64, 8, 8), (32, 64, 3, 3)) == CHUNK + ceil(64 * 9 / CHUNK)
    assert roundings("conv", (1, 4, 8, 8), (32, 4, 3, 3)) == 36 + 1
    # Stride 2: an input pixel sees at most 2 x 2 of the 3 x 3 taps.
    assert roundings("conv_grad_input", (1, 8, 9, 9), (40, 8, 3, 3), stride=2) == CHUNK + ceil(160 / CHUNK)
    # Dilation 2 and stride 2: all taps or none.
    options = {"stride": 2, "dilation": 2}
    assert roundings("conv_grad_input", (1, 8, 9, 9), (4, 8, 3, 3), **options) == 36 + 1


def test_underflow_and_signed_zeros(target):
    """Subnormal numbers are kept, and a sum of zeros alone is +0 whatever their signs."""
    tiny = np.full((1, 1, 40), np.finfo(np.float32).smallest_subnormal)
    one = np.ones((1, 1, 1), np.float32)
    assert_same_bits(wr.conv(tiny, one), tiny)
    assert_same_bits(wr.conv(tiny * 0, -one), np.zeros_like(tiny))
