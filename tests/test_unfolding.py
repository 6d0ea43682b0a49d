"""unfold, fold, im2col and col2im against the reference: dtypes, layouts, memory orders, targets, threads."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import windrow as wr
from tests.strategies import problems
from tests.test_layout import specs
from tests.tolerances import fold_error_bound
from windrow import borders, reference

per_target = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
EVERY = [
    "?",
    "i1",
    ">i2",
    "u4",
    "i8",
    "f2",
    ">f4",
    "f8",
    "c8",
    ">c16",
    "M8[s]",
    "m8[D]",
    "V3",
    "V16",
    "i4,f8",
]
SUMMABLE = ["i1", "u2", ">i4", "u8", "f2", "f4", ">f8", "c8", "c16"]
DEFAULTS = ["n (c k) l", "(c k) (l n)", "(n l) (c k)", "n l (k c)"]


@st.composite
def cases(draw, max_rank=3):
    problem = draw(problems(max_rank=max_rank))
    rank = len(problem.size)
    spec = draw(st.sampled_from(DEFAULTS) | specs(rank))
    if max_rank < 4 and draw(st.booleans()):
        # Long enough for whole vectors, transposed blocks and several boxes.
        longer = tuple(size + draw(st.integers(0, 60 // rank**2)) for size in problem.size)
        problem = problem._replace(size=longer)
    return problem, spec


def random_bytes(rng, shape, dtype):
    """Elements of random bits: NaN payloads, subnormals and all."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype)[..., 0]


def raw(array):
    """The bytes of an array in C order, so that NaN equals NaN and 0.0 is not -0.0."""
    return np.ascontiguousarray(array).tobytes()


def awkward(rng, array):
    """The same elements behind other strides, or at an odd address."""
    if rng.random() < 0.5:
        return strided(rng, array)
    room = np.zeros(array.nbytes + 1, np.uint8)
    view = room[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def strided(rng, array):
    """The same elements in a permuted memory order, with gaps and reversed axes."""
    order = rng.permutation(array.ndim)
    gaps = rng.integers(1, 3, array.ndim)
    wide = np.zeros([array.shape[axis] * gaps[axis] for axis in order], array.dtype)
    view = wide.transpose(np.argsort(order))
    view = view[tuple(slice(None, None, gap * rng.choice([-1, 1])) for gap in gaps)]
    view[...] = array
    return view


@pytest.mark.parametrize("threads", [1, 2, 5])
@per_target
@given(case=cases(), dtype=st.sampled_from(EVERY), fill=st.booleans(), mode=st.sampled_from(borders.MODES))
def test_unfold_moves_every_element_unchanged(target, threads, case, dtype, fill, mode):
    problem, spec = case
    fill &= mode == "constant"
    options = {"layout": spec, "padding_mode": mode, **problem.geometry}
    rng = problem.rng()
    x = random_bytes(rng, problem.x_shape, dtype)
    # The reference counts elements; the elements themselves are compared as bytes.
    numbers = np.arange(1, x.size + 1, dtype=np.int64).reshape(x.shape)
    pads = reference.windows(problem.size, problem.kernel, **problem.geometry).pads
    wide = reference.extend(numbers, pads, mode, 0)
    places = reference.unfold(
        wide, problem.kernel, layout=spec, form="sliding", **{**problem.geometry, "padding": 0}
    )
    value = np.zeros((), dtype)
    if fill:
        value = (
            random_bytes(rng, (), dtype) if value.dtype.kind in "V" else np.ones((), np.int8).astype(dtype)
        )
    elements = np.concatenate([value.reshape(1), x.reshape(-1)]).astype(x.dtype)
    expected = elements[places]
    with wr.num_threads(threads):
        cols = wr.unfold(x, problem.kernel, fill=value[()] if fill else 0, **options)
        assert cols.dtype == x.dtype
        assert cols.dtype.byteorder == x.dtype.byteorder
        assert cols.flags.c_contiguous
        assert cols.shape == expected.shape
        assert raw(cols) == raw(expected)
        x2, out = awkward(rng, x), awkward(rng, np.zeros(cols.shape, x.dtype))
        result = wr.unfold(x2, problem.kernel, fill=value[()] if fill else 0, out=out, **options)
        assert result is out
        assert raw(out) == raw(expected)


@settings(max_examples=40)
@given(problem=problems(max_rank=5), data=st.data())
def test_any_rank(problem, data):
    spec = data.draw(specs(len(problem.size)))
    x = problem.rng().integers(-9, 9, problem.x_shape)
    cols = reference.unfold(x, problem.kernel, layout=spec, form="sliding", **problem.geometry)
    np.testing.assert_array_equal(wr.unfold(x, problem.kernel, layout=spec, **problem.geometry), cols)
    options = {"layout": spec, **problem.geometry}
    np.testing.assert_array_equal(
        wr.col2im(cols, problem.x_shape, problem.kernel, **options),
        reference.col2im(cols, problem.x_shape, problem.kernel, form="sliding", **options),
    )


def integers(rng, shape, dtype):
    values = rng.integers(-99, 99, shape)
    if np.dtype(dtype).kind == "c":
        return (values + 1j * rng.integers(-99, 99, shape)).astype(dtype)
    return values.astype(dtype)


def reference_col2im(cols, *args, **options):
    """Complex numbers part by part: NumPy's quotient of a complex and a real number rounds twice."""
    if cols.dtype.kind != "c":
        return reference.col2im(cols, *args, form="sliding", **options)
    uncovered = options.pop("uncovered", 0)
    real = reference.col2im(cols.real, *args, form="sliding", uncovered=uncovered, **options)
    imag = reference.col2im(cols.imag, *args, form="sliding", uncovered=0, **options)
    return (real + 1j * imag).astype(cols.dtype.newbyteorder("="))


@pytest.mark.parametrize("threads", [1, 2, 5])
@per_target
@given(case=cases(), dtype=st.sampled_from(SUMMABLE), reduce=st.sampled_from(["sum", "mean", "max", "min"]))
def test_fold_of_integer_values_is_exact(target, threads, case, dtype, reduce):
    problem, spec = case
    kind = np.dtype(dtype).kind
    if (kind in "iu" and reduce == "mean") or (kind == "c" and reduce in ("max", "min")):
        return
    rng = problem.rng()
    win = reference.windows(problem.size, problem.kernel, **problem.geometry)
    cols = integers(rng, (problem.batch, problem.channels, *win.kernel, *win.output), dtype)
    cols = np.ascontiguousarray(reference.layouts.arrange(cols, spec))
    uncovered = rng.integers(0, 3)
    options = {"layout": spec, "reduce": reduce, "uncovered": uncovered, **problem.geometry}
    expected = reference_col2im(cols, problem.x_shape, problem.kernel, **options)
    with wr.num_threads(threads):
        x = wr.col2im(cols, problem.x_shape, problem.kernel, **options)
        assert x.dtype == expected.dtype
        assert x.flags.c_contiguous
        np.testing.assert_array_equal(x, expected)
        out = strided(rng, np.zeros(x.shape, x.dtype))
        assert wr.col2im(awkward(rng, cols), problem.x_shape, problem.kernel, out=out, **options) is out
        assert raw(out) == raw(x)


@per_target
@given(case=cases(), dtype=st.sampled_from(["f2", "f4", "f8"]), other=specs(2))
def test_fold_is_close_and_has_the_same_bits_for_any_order(target, case, dtype, other):
    problem, spec = case
    rng = problem.rng()
    win = reference.windows(problem.size, problem.kernel, **problem.geometry)
    plain = rng.standard_normal((problem.batch, problem.channels, *win.kernel, *win.output)).astype(dtype)
    rank = len(problem.size)
    results = []
    for layout in (spec, *DEFAULTS, *([other] if rank == 2 else [])):
        cols = np.ascontiguousarray(reference.layouts.arrange(plain, layout))
        with wr.num_threads(int(rng.integers(1, 4))):
            results.append(
                wr.col2im(cols, problem.x_shape, problem.kernel, layout=layout, **problem.geometry)
            )
    for result in results[1:]:
        assert raw(result) == raw(results[0])
    if problem.batch and problem.channels:
        cols = np.ascontiguousarray(reference.layouts.arrange(plain, "n (c k) l"))
        args = problem.size, problem.kernel
        exact = reference.fold(cols.astype(np.float64), *args, form="sliding", **problem.geometry)
        bound = fold_error_bound(cols, *args, **problem.geometry)
        assert np.all(np.abs(results[0] - exact) <= bound + np.finfo(dtype).smallest_subnormal)


@settings(max_examples=40)
@given(case=cases(), dtype=st.sampled_from(["f2", "f4", "f8", "c8", "c16"]), separable=st.booleans())
def test_windows_blend(case, dtype, separable):
    problem, spec = case
    rng = problem.rng()
    win = reference.windows(problem.size, problem.kernel, **problem.geometry)
    cols = integers(rng, (problem.batch, problem.channels, *win.kernel, *win.output), dtype)
    cols = np.ascontiguousarray(reference.layouts.arrange(cols, spec))
    window = tuple(rng.integers(0, 4, k) for k in win.kernel) if separable else rng.integers(0, 4, win.kernel)
    options = {"layout": spec, "window": window, "uncovered": 7, **problem.geometry}
    expected = reference_col2im(cols, problem.x_shape, problem.kernel, **options)
    np.testing.assert_array_equal(wr.col2im(cols, problem.x_shape, problem.kernel, **options), expected)
    np.testing.assert_array_equal(
        wr.col2im(cols, problem.x_shape, problem.kernel, reduce="mean", **options), expected
    )


@settings(max_examples=50)
@given(case=cases())
def test_adjoint_identity_is_exact_on_integers(case):
    problem, spec = case
    rng = problem.rng()
    x = rng.integers(-9, 9, problem.x_shape)
    cols = wr.unfold(x, problem.kernel, layout=spec, **problem.geometry)
    other = rng.integers(-9, 9, cols.shape)
    folded = wr.col2im(other, x.shape, problem.kernel, layout=spec, **problem.geometry)
    assert np.vdot(cols, other) == np.vdot(x, folded)


@settings(max_examples=50)
@given(case=cases())
def test_mean_inverts_unfold(case):
    problem, spec = case
    rng = problem.rng()
    options = {"layout": spec, **problem.geometry}
    count = reference.coverage(
        reference.windows(problem.size, problem.kernel, **problem.geometry), np.ones(problem.kernel, int)
    )
    for x in (
        rng.integers(-9, 9, problem.x_shape).astype(np.float32),
        rng.standard_normal(problem.x_shape).astype(np.float32),
    ):
        back = wr.col2im(
            wr.unfold(x, problem.kernel, **options), x.shape, problem.kernel, reduce="mean", **options
        )
        expected = np.where(count, x, 0)
        exact = np.isin(count, (0, 1, 2, 4)) | (x == np.rint(x))
        np.testing.assert_array_equal(np.where(exact, back, 0), np.where(exact, expected, 0))
        assert np.all(np.abs(back - expected) <= count * np.finfo(x.dtype).eps * np.abs(expected))


@settings(max_examples=40)
@given(case=cases())
def test_folding_the_columns_of_ones_counts(case):
    problem, spec = case
    ones = np.ones(problem.x_shape, np.uint16)
    cols = wr.unfold(ones, problem.kernel, layout=spec, **problem.geometry)
    win = reference.windows(problem.size, problem.kernel, **problem.geometry)
    count = reference.coverage(win, np.ones(win.kernel, np.uint16))
    np.testing.assert_array_equal(
        wr.col2im(cols, ones.shape, problem.kernel, layout=spec, **problem.geometry),
        np.broadcast_to(count, ones.shape),
    )


@pytest.mark.parametrize("reduce", ["max", "min"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("layout", DEFAULTS)
def test_nan_wins_max_and_min(target, reduce, dtype, layout):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 9, 40)).astype(dtype)
    cols = wr.unfold(x, 3, layout=layout)
    cols.flat[rng.integers(0, cols.size, 50)] = np.nan
    np.testing.assert_array_equal(
        wr.col2im(cols, x.shape, 3, layout=layout, reduce=reduce),
        reference.col2im(cols, x.shape, 3, layout=layout, reduce=reduce, form="sliding"),
    )


def test_every_half_comes_through():
    """All 65536 halves widen to the same single as NumPy's, and a sum of one term rounds back to itself."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    cols = np.concatenate([halves, np.zeros_like(halves)]).reshape(1, 2, 65536)  # x[i] = h[i] + 0
    x = wr.fold(cols, (65537,), 2)[0, 0, :-1]
    same = np.isnan(halves) & np.isnan(x) | (halves == x)
    assert same.all()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_halves_round_as_numpy_rounds(seed):
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**16, (1, 2, 5000), np.uint16)
    cols = bits.view(np.float16)
    cols = np.where(np.isfinite(cols), cols, np.float16(65504))
    with np.errstate(over="ignore"):
        sums = (cols[0, 0, 1:].astype("f4") + cols[0, 1, :-1].astype("f4")).astype("f2")
    np.testing.assert_array_equal(wr.fold(cols, (5001,), 2)[0, 0, 1:-1], sums)


def test_sums_begin_at_positive_zero():
    cols = np.full((1, 2, 3), -0.0)
    assert not np.signbit(wr.fold(cols, (4,), 2)).any()


def tap_by_tap(x, kernel, *, stride=1, padding=0, dilation=1):
    """Plain patches of many windows with few taps, and their fold: one slice of the padded image per tap."""
    win = reference.windows(x.shape[2:], kernel, stride, padding, dilation)
    padded = reference.zero_pad(x, win.pads)
    patches = np.zeros((*x.shape[:2], *win.kernel, *win.output), x.dtype)
    total = np.zeros_like(padded)
    for tap in np.ndindex(win.kernel):
        starts = [k * d for k, d in zip(tap, win.dilation, strict=True)]
        steps = zip(starts, win.output, win.stride, strict=True)
        place = (..., *(slice(start, start + (n - 1) * s + 1, s) for start, n, s in steps))
        patches[(slice(None), slice(None), *tap)] = padded[place]
        total[place] += padded[place]
    return patches, total[reference.patches.image_slices(win.size, win.pads)]


@pytest.mark.parametrize("threads", [1, 2])
def test_wide_windows_with_few_taps(threads):
    """Windows that span more than can be packed go another way."""
    x = np.arange(7, dtype=np.int16).reshape(1, 1, 7) + 1
    options = {"dilation": 10**7, "padding": 10**7}  # more than fits the packed box of a single position
    with wr.num_threads(threads):
        cols = wr.unfold(x, 2, fill=-5, **options)
        assert cols.shape == (1, 2, 10**7 + 7)
        np.testing.assert_array_equal(cols[0, 0, :-7], -5)
        np.testing.assert_array_equal(cols[0, 0, -7:], x[0, 0])
        np.testing.assert_array_equal(cols[0, 1, :7], x[0, 0])
        np.testing.assert_array_equal(cols[0, 1, 7:], -5)
        np.testing.assert_array_equal(wr.fold(cols, (7,), 2, **options), 2 * x)


@pytest.mark.parametrize("layout", [*DEFAULTS, "n l c k1 k0", "lw k0 (n lh) k1 c"])
@pytest.mark.parametrize("item", ["u1", "f4", "c16", "V5"])
def test_wide_windows_in_two_axes(layout, item):
    x = random_bytes(np.random.default_rng(0), (2, 2, 5, 6), item)
    numbers = np.arange(1, x.size + 1).reshape(x.shape)
    options = {"dilation": (1300, 1700), "padding": ((1299, 2), (3, 1704))}
    places = np.ascontiguousarray(reference.layouts.arrange(tap_by_tap(numbers, 2, **options)[0], layout))
    value = np.zeros(1, item)
    for chosen in (x, np.asfortranarray(x)):
        cols = wr.unfold(chosen, 2, layout=layout, **options)
        assert raw(cols) == raw(np.concatenate([value, x.reshape(-1)])[places])


@pytest.mark.parametrize("layout", DEFAULTS)
def test_windows_with_many_taps(layout):
    """Windows as large as the image: more taps than positions."""
    x = np.random.default_rng(0).integers(-9, 9, (2, 3, 150, 160)).astype(np.float32)
    options = {"stride": 1, "padding": 1, "layout": layout}
    cols = wr.unfold(x, (150, 160), **options)
    np.testing.assert_array_equal(cols, reference.unfold(x, (150, 160), form="sliding", **options))
    np.testing.assert_array_equal(
        wr.col2im(cols, x.shape, (150, 160), **options),
        reference.col2im(cols, x.shape, (150, 160), form="sliding", **options),
    )


@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((3, 5, 90, 100), 3, {"padding": 1}),
        ((1, 1, 200, 300), (8, 7), {}),
        ((4, 3, 160, 160), 16, {"stride": 16}),
        ((2, 20, 65, 65), 3, {"dilation": 3, "padding": 2, "stride": 2}),
        ((40, 3, 31, 31), 3, {"stride": 2, "padding": 1}),
        ((2, 3, 20, 2000), (2, 5), {"stride": (1, 3)}),
    ],
)
def test_several_boxes_and_pieces_on_every_axis(shape, kernel, options):
    x = np.random.default_rng(0).integers(-99, 99, shape).astype(np.float32)
    plain, total = tap_by_tap(x, kernel, **options)
    for layout in [*DEFAULTS, "n l c k1 k0", "lw k0 (n lh) k1 c"]:
        cols = np.ascontiguousarray(reference.layouts.arrange(plain, layout))
        for threads in (1, 3):
            with wr.num_threads(threads):
                np.testing.assert_array_equal(wr.unfold(x, kernel, layout=layout, **options), cols)
                np.testing.assert_array_equal(wr.col2im(cols, shape, kernel, layout=layout, **options), total)


@pytest.mark.parametrize("layout", [*DEFAULTS, "k n c l"])
@pytest.mark.parametrize(("item", "channels"), [("f4", 3), ("c16", 1), ("V3", 4)])
def test_columns_beyond_the_caches(target, layout, item, channels):
    """These are streamed, line by line; `out` begins at an odd address and must not be left by a byte."""
    x = random_bytes(np.random.default_rng(0), (1, channels, 330, 301), item)
    options = {"padding": ((1, 0), (2, 1))}
    plain, _ = tap_by_tap(np.arange(1, x.size + 1, dtype=np.int32).reshape(x.shape), (3, 5), **options)
    places = np.ascontiguousarray(reference.layouts.arrange(plain, layout))
    expected = np.concatenate([np.zeros(1, item), x.reshape(-1)])[places]
    memory = np.full(expected.nbytes + 200, 77, np.uint8)
    for start in (0, 101):
        memory[:] = 77
        out = memory[start : start + expected.nbytes].view(item).reshape(expected.shape)
        wr.unfold(x, (3, 5), layout=layout, out=out, **options)
        assert out.tobytes() == expected.tobytes()
        assert (memory[:start] == 77).all()
        assert (memory[start + expected.nbytes :] == 77).all()


@pytest.mark.parametrize("layout", ["n (c k) l", "(c k) n l", "k l n c"])
@pytest.mark.parametrize("item", ["f4", ">f8", "c8", "i2"])
@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((3, 2, 33), 3, {"stride": 2, "padding": 4, "fill": 7}),
        ((3, 2, 9, 31), 3, {"stride": 2, "padding": 1}),
        ((2, 3, 7, 40), (2, 5), {"stride": (3, 1), "padding": ((0, 2), (9, 30)), "fill": -3}),
        ((2, 3, 12, 129), 3, {"stride": 2, "dilation": (1, 7), "padding": 1}),
        ((2, 2, 6, 20), 3, {"padding": 30}),
    ],
)
def test_short_rows(target, layout, item, shape, kernel, options):
    """Taps that see whole rows of the image, parts of them or none."""
    x = random_bytes(np.random.default_rng(0), shape, item)
    padded = np.append(np.asarray(options.get("fill", 0), item), x).astype(item)
    constant = {name: value for name, value in options.items() if name != "fill"}
    places = np.arange(1, x.size + 1, dtype=np.int32).reshape(shape)
    expected = padded[reference.unfold(places, kernel, layout=layout, **constant)]
    for chosen in (x, np.flip(np.flip(x, 0).copy(), 0), np.flip(np.flip(x, -1).copy(), -1)):
        assert raw(wr.unfold(chosen, kernel, layout=layout, **options)) == raw(expected)


@pytest.mark.parametrize("item", ["f4", "f8"])
@pytest.mark.parametrize("width", [3, 4, 5, 6, 7, 8, 12, 16, 20])
def test_short_runs_beyond_the_caches(item, width):
    """Runs of about a cache line, as many at a time as fill whole lines, beginning at any of their bytes."""
    itemsize = np.dtype(item).itemsize
    height = (17 << 20) // (300 * 2 * 2 * width * itemsize) + 2
    x = random_bytes(np.random.default_rng(0), (1, 2, height, 299 + width), item)
    windows = np.lib.stride_tricks.sliding_window_view(x.view(f"u{itemsize}"), (2, width), axis=(2, 3))
    expected = np.ascontiguousarray(windows.transpose(0, 2, 3, 1, 4, 5)).tobytes()
    memory = np.full(len(expected) + 200, 77, np.uint8)
    for start in (0, 4, 8, 16, 32, 40, 48, 101):
        out = memory[start : start + len(expected)].view(item).reshape(-1, 2 * 2 * width)
        wr.unfold(x, (2, width), layout="(n l) (c k)", out=out)
        assert out.tobytes() == expected
        assert (memory[:start] == 77).all()
        assert (memory[start + len(expected) :] == 77).all()
        memory[:] = 77


@pytest.mark.parametrize("item", ["f4", "f8"])
@pytest.mark.parametrize(
    ("channels", "width", "dilation"), [(48, 3, 1), (40, 5, 1), (32, 7, 1), (33, 3, 1), (48, 3, 2)]
)
def test_many_short_runs_beyond_the_caches(target, item, channels, width, dilation):
    """Some of the runs of all windows of a row go before others, to lines that begin anywhere in a run."""
    itemsize = np.dtype(item).itemsize
    height = (17 << 20) // (60 * channels * 3 * width * itemsize) + 4
    span = dilation * (width - 1) + 1
    x = random_bytes(np.random.default_rng(0), (1, channels, height, 59 + span), item)
    windows = np.lib.stride_tricks.sliding_window_view(x.view(f"u{itemsize}"), (3, span), axis=(2, 3))
    expected = np.ascontiguousarray(windows[..., ::dilation].transpose(0, 2, 3, 1, 4, 5)).tobytes()
    memory = np.empty(len(expected) + 200, np.uint8)
    for start in (0, 4, 16, 40, 60, 101):
        memory[:] = 77
        out = memory[start : start + len(expected)].view(item).reshape(-1, channels * 3 * width)
        wr.unfold(x, (3, width), dilation=(1, dilation), layout="(n l) (c k)", out=out)
        assert out.tobytes() == expected
        assert (memory[:start] == 77).all()
        assert (memory[start + len(expected) :] == 77).all()


@pytest.mark.parametrize("item", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((2, 40, 60, 60), 3, {"padding": 1}),
        ((1, 3, 33, 4000), (3, 4), {}),
        ((1, 16, 64, 50), 5, {"dilation": (1, 2), "padding": ((0, 3), (2, 1))}),
        ((3, 8, 41, 45), (4, 3), {"stride": (2, 3), "dilation": (1, 4), "padding": 2}),
        ((1, 8, 2**15), 9, {"dilation": 5, "padding": 4}),
        ((1, 3, 96, 96), 16, {"stride": 16}),
        ((2, 5, 9, 10, 40), (2, 3, 17), {"padding": 1}),
    ],
)
def test_sums_of_windows_have_the_bits_of_any_other_order(target, shape, kernel, options, item):
    """Columns whose windows are runs are summed in another way than those whose positions are."""
    rng = np.random.default_rng(3)
    plain = wr.unfold(np.zeros(shape, item), kernel, **options)
    plain = random_bytes(rng, plain.shape, item)
    real = plain.view(plain.real.dtype)
    real[...] = rng.standard_normal(real.shape).astype(real.dtype)
    odd = rng.integers(0, plain.size, 40)
    plain.flat[odd] = np.tile(np.array([np.nan, np.inf, -0.0, 1e-320], item), 10)
    expected = raw(wr.col2im(plain, shape, kernel, layout="n (c k) l", **options))
    n, taps, places = plain.shape
    windows = np.ascontiguousarray(plain.transpose(0, 2, 1)).reshape(n * places, taps)
    # A row of gaps after each window, and nothing readable after the last one.
    gaps = np.zeros((n * places, taps + 3), item)
    gaps[:, :taps] = windows
    for threads in (1, 3):
        with wr.num_threads(threads):
            for cols in (windows, gaps[:, :taps], gaps[::-1, :taps][::-1]):
                got = wr.col2im(cols, shape, kernel, layout="(n l) (c k)", **options)
                assert raw(got) == expected


@pytest.mark.parametrize("item", ["i1", "f2", "f4", "f8", "c16", "V3"])
@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((2, 3, 32, 48), 16, {"stride": 16}),
        ((3, 2, 37, 50), (4, 7), {"stride": (5, 7)}),  # pixels between the windows and after them
        ((2, 2, 24, 30), (4, 5), {"dilation": (6, 6), "stride": 1}),  # taps as far apart as there are windows
        ((5, 30, 9, 11), 1, {}),
        ((2, 3, 1500), 3, {"stride": 3}),
        ((40, 3, 4, 6, 4), 2, {"stride": 2}),
    ],
)
def test_windows_that_share_no_pixel(target, shape, kernel, options, item):
    """Moved in one step, in blocks, where the others are packed; sums begin at +0 all the same."""
    rng = np.random.default_rng(5)
    x = random_bytes(rng, shape, item)
    for layout in DEFAULTS:
        expected = reference.im2col(x, kernel, layout=layout, **options)
        for threads in (1, 3):
            with wr.num_threads(threads):
                cols = wr.im2col(x[::-1], kernel, layout=layout, **options)
                assert raw(wr.im2col(x, kernel, layout=layout, **options)) == raw(expected)
        assert raw(cols) == raw(reference.im2col(x[::-1], kernel, layout=layout, **options))
        if item == "V3":
            continue
        for reduce in ("sum", "max") if np.dtype(item).kind != "c" else ("sum",):
            args = (expected, shape, kernel)
            got = wr.col2im(*args, layout=layout, reduce=reduce, **options)
            right = reference.col2im(*args, layout=layout, reduce=reduce, **options)
            np.testing.assert_array_equal(got, right)
            if np.dtype(item).kind == "f":
                numbers = ~np.isnan(right)
                np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(right)[numbers])


@functools.cache
def large_columns(layout):
    """An image of 16.7 MB and its columns, by the specification, which takes seconds for them."""
    x = random_bytes(np.random.default_rng(6), (5, 3, 512, 272), "u8")
    return x, reference.im2col(x, 16, stride=16, layout=layout)


@pytest.mark.parametrize("layout", DEFAULTS)
def test_windows_that_share_no_pixel_beyond_the_caches(target, layout):
    x, cols = large_columns(layout)
    expected = raw(x)
    memory = np.full(x.size + 9, 77, "u8")
    for start in (0, 3):
        out = memory[start : start + x.size].reshape(cols.shape)
        wr.im2col(x, 16, stride=16, layout=layout, out=out)
        assert (out == cols).all()
        image = memory[start : start + x.size].reshape(x.shape)
        assert raw(wr.col2im(cols, x.shape, 16, stride=16, layout=layout, out=image)) == expected
        assert (memory[:start] == 77).all()
        assert (memory[start + x.size :] == 77).all()
        memory[:] = 77


def test_the_fast_lane_gives_what_the_checks_give():
    x = np.random.default_rng(0).integers(0, 9, (2, 3, 6, 7))
    for layout, kernel in itertools.product(DEFAULTS, [2, (2, 3)]):
        cols = [wr.unfold(x, kernel, layout=layout) for _ in range(3)]
        back = [wr.col2im(cols[0], x.shape, kernel, layout=layout) for _ in range(3)]
        for again in (cols[1:], back[1:]):
            for array in again:
                np.testing.assert_array_equal(array, cols[0] if array.shape == cols[0].shape else back[0])
    for _ in range(2):  # with the checks, then on the fast lane
        columns = np.full((2, 12, 30, 2), 99)[..., 0]  # with gaps
        assert wr.unfold(x, 2, out=columns) is columns
        np.testing.assert_array_equal(columns, wr.unfold(x, 2))
        image = np.full((7, 6, 3, 2), 99).transpose(3, 2, 1, 0)
        assert wr.fold(columns, (6, 7), 2, out=image) is image
        np.testing.assert_array_equal(image, reference.fold(columns, (6, 7), 2))
        rows = np.ascontiguousarray(columns.transpose(0, 2, 1)).reshape(60, 12)
        wr.col2im(rows, x.shape, 2, layout="(n l) (c k)", out=image[::-1])
        np.testing.assert_array_equal(image[::-1], reference.fold(columns, (6, 7), 2))
    # Known problems with arguments that are not theirs.
    np.testing.assert_array_equal(
        wr.fold(columns, (6, 7), 2, reduce="max"), reference.fold(columns, (6, 7), 2, reduce="max")
    )
    assert (wr.unfold(x, 2, padding=0, fill=False) == columns).all()
    for out in (columns.astype(float), columns.astype(">i8")):
        with pytest.raises(TypeError, match="out: expected dtype int64"):
            wr.unfold(x, 2, out=out)
    with pytest.raises(TypeError, match="kernel_size: expected an int"):
        wr.unfold(x, 2.0)
    with pytest.raises(ValueError, match="layout: "):
        wr.unfold(x, 2, layout="n (c k) \ud800")
    big = x.astype(">i8")
    assert wr.unfold(big, 2).dtype == ">i8"
    assert wr.fold(wr.unfold(big, 2), (6, 7), 2).dtype == "=i8"
