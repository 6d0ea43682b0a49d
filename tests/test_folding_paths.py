"""Ways of folding that depend on sizes, strides and earlier calls: they give what the plain ways give."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import windrow as wr
from tests.test_unfolding import per_target, raw
from windrow import reference

INSIDE = ["n l (k c)", "(n l) kh kw c", "lh n lw kh (kw c)", "(c k) (l n)", "(n l) (c k)"]


def patches_in(layout, plain, shape, kernel, options):
    """Columns "n (c k) l" in another order: each entry is put where `unfold` puts its number."""
    whole = {
        name: options.get(name, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    }
    win = reference.windows(shape[2:], kernel, whole["stride"], whole["padding"], whole["dilation"])
    n, c = shape[:2]
    k, l = win.kernel, win.output
    split = plain.reshape(n, c, *k, *l)
    axes = {"n": 0, "c": 1, "kh": 2, "kw": 3, "lh": 4, "lw": 5}
    names = layout.replace("(", "").replace(")", "").split()
    names = [part for name in names for part in {"k": ("kh", "kw"), "l": ("lh", "lw")}.get(name, (name,))]
    turned = split.transpose([axes[name] for name in names])
    like = wr.im2col(np.zeros(shape, "i1"), kernel, layout=layout, **options)
    return np.ascontiguousarray(turned).reshape(like.shape)


@st.composite
def problems(draw):
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    options = {
        "stride": draw(st.integers(1, 3)),
        "padding": draw(st.integers(0, 2)),
        "dilation": draw(st.sampled_from([1, 1, 2])),
    }
    span = [options["dilation"] * (k - 1) + 1 for k in kernel]
    size = [draw(st.integers(s, s + 40)) for s in span]
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 9)), *size)
    return shape, kernel, options


@pytest.mark.parametrize("threads", [1, 3])
@per_target
@given(
    problem=problems(),
    layout=st.sampled_from(INSIDE),
    dtype=st.sampled_from(["f4", "f8", "c8", "c16", "i2", "f2"]),
    reduce=st.sampled_from(["sum", "mean", "max"]),
)
def test_few_channels_inside_and_small_images(target, threads, problem, layout, dtype, reduce):
    """Runs over channels, and windows of several images in turn, sum as the columns of PyTorch do."""
    shape, kernel, options = problem
    if (np.dtype(dtype).kind == "c" and reduce == "max") or (
        np.dtype(dtype).kind == "i" and reduce == "mean"
    ):
        reduce = "sum"
    shape = (max(1, min(shape[0], 20_000 // np.prod(shape[1:]))), *shape[1:])
    plain = wr.unfold(np.zeros(shape, dtype), kernel, **options)
    rng = np.random.default_rng(plain.size)
    plain[...] = (100 * rng.standard_normal(plain.shape)).astype(plain.real.dtype)
    plain.flat[::7] = -0.0
    if np.dtype(dtype).kind != "i":
        plain.flat[3::971] = np.nan
    expected = wr.col2im(plain, shape, kernel, layout="n (c k) l", reduce=reduce, **options)
    cols = patches_in(layout, plain, shape, kernel, options)
    with wr.num_threads(threads):
        got = wr.col2im(cols, shape, kernel, layout=layout, reduce=reduce, **options)
    assert raw(got) == raw(expected)


@pytest.mark.parametrize("width", [5, 8, 9, 13, 16, 17, 24, 25, 41])
@pytest.mark.parametrize("taps", [2, 3, 4, 5, 8, 9, 13, 16, 17])
@pytest.mark.parametrize("numbers", [800, 8000])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_windows_side_by_side(target, dtype, numbers, taps, width):
    """A vector of neighbouring windows at a time, what is left of a row, and the end of the columns."""
    channels = 1 + numbers // (2 * taps * width)
    for step, dilation in [(1, 1), (1, 2), (2, 2), (1, 3), (2, 1), (4, 1)]:
        shape = (2, channels, 4, (width - 1) * step + (taps - 1) * dilation + 1 - 2)
        options = {"stride": (1, step), "padding": (0, 1), "dilation": (1, dilation)}
        plain = wr.im2col(np.zeros(shape, dtype), (2, taps), layout="n (c k) l", **options)
        plain[...] = np.random.default_rng(taps).standard_normal(plain.shape)
        plain.flat[::7] = -0.0
        plain.flat[3::971] = np.nan
        cols = patches_in("(n l) (c k)", plain, shape, (2, taps), options)
        expected = wr.col2im(plain, shape, (2, taps), layout="n (c k) l", **options)
        assert raw(wr.col2im(cols, shape, (2, taps), layout="(n l) (c k)", **options)) == raw(expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((5, 3, 31, 31), (3, 3), {"stride": 2, "padding": 1}),
        ((1, 1, 28, 28), (3, 3), {"padding": 1}),
        ((3, 2, 9, 60), (2, 4), {"padding": ((0, 1), (3, 0))}),
        ((2, 1, 12, 33), (5, 5), {"stride": (1, 2), "dilation": (2, 1), "padding": 3}),
        ((4, 2, 7, 17), (3, 2), {"stride": (3, 1)}),
        ((3, 4, 40), (3,), {"padding": 2}),
        ((7, 1, 1, 9), (1, 3), {}),
    ],
)
def test_short_rows_of_windows(target, dtype, shape, kernel, options):
    """Rows are summed straight into the image, the last ones over copies of their windows."""
    plain = wr.im2col(np.zeros(shape, dtype), kernel, layout="n (c k) l", **options)
    plain[...] = np.random.default_rng(5).standard_normal(plain.shape)
    plain.flat[::7] = -0.0
    plain.flat[3::571] = np.nan
    expected = wr.col2im(plain, shape, kernel, layout="n (c k) l", **options)
    n, l = plain.shape[0], plain.shape[-1]
    cols = np.ascontiguousarray(plain.transpose(0, 2, 1)).reshape(n * l, -1)
    memory = np.full((2 * n * l, 2 * cols.shape[1]), np.nan, dtype)
    memory[: n * l, : cols.shape[1]] = cols
    for chosen in (cols, memory[: n * l, : cols.shape[1]]):
        for out in (
            np.empty(shape, dtype),
            np.empty((*shape, 2), dtype)[..., 1],
            np.empty((2, *shape), dtype)[1],
        ):
            wr.col2im(chosen, shape, kernel, layout="(n l) (c k)", out=out, **options)
            assert raw(out) == raw(expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(8, 2, 9, 31), (17, 1, 32, 32), (40, 3, 13, 17)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_images_side_by_side(target, dtype, shape, stride):
    """Sums that lie image by image are turned over into planes, a few lines of each at a time."""
    options = {"stride": stride, "padding": 1}
    plain = wr.im2col(np.zeros(shape, dtype), 3, layout="n (c k) l", **options)
    plain[...] = np.random.default_rng(5).standard_normal(plain.shape)
    cols = patches_in("(c k) (l n)", plain, shape, (3, 3), options)
    expected = wr.col2im(plain, shape, 3, layout="n (c k) l", **options)
    assert raw(wr.col2im(cols, shape, 3, layout="(c k) (l n)", **options)) == raw(expected)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "i4"])
@pytest.mark.parametrize("layout", ["n (c k) l", "(c k) (l n)", "(n l) (c k)"])
def test_single_terms_beyond_the_caches(target, layout, dtype):
    """Sums of one term, +0 + element, written past the caches to any alignment and nowhere else."""
    shape = (3, 3, 496, 640)
    x = np.random.default_rng(4).integers(-9, 9, shape).astype(dtype)
    if np.dtype(dtype).kind != "i":
        x[x == 3] = -0.0
    cols = wr.im2col(x, 16, stride=16, layout=layout)
    sums = raw(x + np.zeros((), dtype))
    memory = np.empty(x.nbytes + 64, "u1")
    for offset, threads in product((0, 1, 4, 17), (1, 2)):
        out = memory[offset : offset + x.nbytes].view(dtype).reshape(shape)
        memory[:] = 77
        with wr.num_threads(threads):
            wr.col2im(cols, shape, 16, stride=16, layout=layout, out=out)
        assert raw(out) == sums
        assert (memory[:offset] == 77).all()
        assert (memory[offset + x.nbytes :] == 77).all()


@pytest.mark.parametrize("layout", ["n (c k) l", "(c k) (l n)", "(n l) (c k)"])
@pytest.mark.parametrize("step", ["stride", "dilation"])
def test_images_beyond_the_caches(target, layout, step):
    """Sums of rows, also of even and odd pixels apart, past the caches to any alignment and nowhere else."""
    shape, kernel, size = (2, 3, 1003, 717), (2, 3), {"stride": 1, "dilation": 1} | {step: 2}
    spans = [size["dilation"] * (k - 1) + 1 for k in kernel]
    out = [(s - span) // size["stride"] + 1 for s, span in zip(shape[2:], spans)]
    plain = np.random.default_rng(6).integers(-9, 9, (2, 3, *kernel, *out)).astype("f4")
    total = np.zeros(shape, "f4")
    for kh, kw in np.ndindex(*kernel):
        rows, columns = (
            slice(k * size["dilation"], k * size["dilation"] + size["stride"] * (o - 1) + 1, size["stride"])
            for k, o in zip((kh, kw), out)
        )
        total[:, :, rows, columns] += plain[:, :, kh, kw]
    assert total.nbytes > 16 << 20
    cols = patches_in(layout, plain, shape, kernel, size)
    memory = np.full(total.nbytes + 64, 77, "u1")
    for offset, threads in [(0, 1), (4, 2), (20, 1)]:
        memory[:] = 77
        result = memory[offset : offset + total.nbytes].view("f4").reshape(shape)
        with wr.num_threads(threads):
            wr.col2im(cols, shape, kernel, layout=layout, out=result, **size)
        np.testing.assert_array_equal(result, total)
        assert (memory[:offset] == 77).all()
        assert (memory[offset + total.nbytes :] == 77).all()


@pytest.mark.parametrize("layout", ["n (c k) l", "(c k) (l n)", "(n l) (c k)"])
@pytest.mark.parametrize("kernel", [3, 8])
def test_a_large_new_result_is_that_of_an_old_array(target, layout, kernel):
    x = np.random.default_rng(5).standard_normal((2, 3, 480, 640)).astype("f4")
    options = {"stride": kernel, "layout": layout} if kernel == 8 else {"layout": layout}
    x = np.concatenate([x] * 5) if kernel == 8 else x  # 36 MB and more of columns
    old = wr.im2col(np.zeros_like(x), kernel, **options)
    assert old.nbytes > 32 << 20
    for threads in (1, 2):
        with wr.num_threads(threads):
            new = wr.im2col(x, kernel, **options)
            wr.im2col(x, kernel, out=old, **options)
        assert raw(new) == raw(old)


def test_kept_reductions_are_those_of_the_first_call():
    rng = np.random.default_rng(6)
    for dtype, reduce in [(d, r) for d in ("f4", "f8", "c16", "i8", "f2") for r in ("mean", "max", "min")]:
        if (dtype == "i8" and reduce == "mean") or (dtype == "c16" and reduce != "mean"):
            continue
        cols = rng.integers(-99, 99, (2, 12, 9)).astype(dtype)
        options = {"stride": 3, "reduce": reduce}
        right = reference.fold(cols, (9, 9), 2, **options)
        for _ in range(3):
            np.testing.assert_array_equal(wr.fold(cols, (9, 9), 2, **options), right)
        swapped = cols.astype(cols.dtype.newbyteorder())
        np.testing.assert_array_equal(wr.fold(swapped, (9, 9), 2, **options), right)
        # Another value for what is not covered, and then 0 again.
        other = wr.fold(cols, (9, 9), 2, uncovered=5, **options)
        np.testing.assert_array_equal(other, reference.fold(cols, (9, 9), 2, uncovered=5, **options))
        assert (other == 5).any()
        np.testing.assert_array_equal(wr.fold(cols, (9, 9), 2, **options), right)
    with pytest.raises(TypeError, match="mean"):
        wr.fold(np.ones((2, 12, 9), int), (9, 9), 2, stride=3, reduce="mean")
    with pytest.raises(ValueError, match="reduce: "):
        wr.fold(np.ones((2, 12, 9)), (9, 9), 2, stride=3, reduce="mea\ud800n")


def test_kept_weights_are_those_of_the_window():
    cols = np.random.default_rng(7).integers(-99, 99, (2, 12, 36)).astype(float)
    for weights in ([[1.0, 2.0], [3.0, 4.0]], [[4.0, 2.0], [3.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]):
        for dtype in ("f8", "f4", "f8"):
            some = cols.astype(dtype)
            right = reference.fold(some, (7, 7), 2, window=np.array(weights))
            for _ in range(2):
                np.testing.assert_array_equal(wr.fold(some, (7, 7), 2, window=np.array(weights)), right)
