"""The three forms of patch extraction agree with each other and with what the definition implies."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import problems

from windrow import reference
from windrow.reference.patches import GATHER, SCATTER

FORMS = sorted(GATHER)
LAYOUTS = ["n (c k) l", "(c k) (l n)", "(n l) (c k)", "n l (k c)", "l0 k0 (n c) l1 k1", "n l c kh kw"]


@settings(max_examples=150, derandomize=True, deadline=None)
@given(problem=problems(), dtype=st.sampled_from(["?", "i1", ">f4", "f8", "c16", "M8[s]", "V3"]))
def test_forms_of_unfold_agree(problem, dtype):
    data = problem.rng().integers(0, 256, (*problem.x_shape, 16), dtype=np.uint8)
    x = data[..., : np.dtype(dtype).itemsize].copy().view(dtype)[..., 0]
    if dtype in "? f8 c16 >f4":
        x = (data[..., 0] % 7).astype(dtype)
    results = [reference.unfold(x, problem.kernel, form=form, **problem.geometry) for form in FORMS]
    assert all(result.dtype == x.dtype for result in results)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    problem=problems(),
    dtype=st.sampled_from(["i1", "f2", ">f4", "f8", "c16"]),
    reduce=st.sampled_from(["sum", "mean", "max", "min"]),
)
def test_forms_of_fold_agree(problem, dtype, reduce):
    if (dtype == "i1" and reduce == "mean") or (dtype == "c16" and reduce in ("max", "min")):
        return
    win = reference.windows(problem.size, problem.kernel, **problem.geometry)
    shape = (problem.batch, problem.channels * math.prod(win.kernel), math.prod(win.output))
    cols = problem.rng().integers(-99, 99, shape).astype(dtype)  # sums of integers are exact in any order
    results = [
        reference.fold(
            cols, problem.size, problem.kernel, reduce=reduce, uncovered=-1, form=form, **problem.geometry
        )
        for form in sorted(SCATTER)
    ]
    assert all(result.dtype == cols.dtype.newbyteorder("=") for result in results)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@settings(max_examples=100, derandomize=True, deadline=None)
@given(problem=problems())
def test_fold_is_the_adjoint_of_unfold(problem):
    rng = problem.rng()
    x = rng.integers(-9, 9, problem.x_shape)
    cols = reference.unfold(x, problem.kernel, form="sliding", **problem.geometry)
    other = rng.integers(-9, 9, cols.shape)
    folded = reference.fold(other, problem.size, problem.kernel, form="sliding", **problem.geometry)
    assert np.vdot(cols, other) == np.vdot(x, folded)


def test_padding_is_filled_and_dropped():
    x = np.array([[[1, 2]]])
    cols = reference.unfold(x, 2, padding=((1, 0),), fill=7)
    np.testing.assert_array_equal(cols, [[[7, 1], [1, 2]]])
    np.testing.assert_array_equal(reference.fold(cols, (2,), 2, padding=((1, 0),)), [[[2, 2]]])


def test_padding_of_one_axis_only():
    """The notebook cut an empty image out where one axis had padding and the other none."""
    x = np.arange(12).reshape(1, 1, 3, 4)
    cols = reference.unfold(x, (3, 1), padding=(1, 0))
    assert reference.fold(cols, (3, 4), (3, 1), padding=(1, 0)).shape == x.shape


def test_unfold_keeps_byte_order_and_fold_returns_native():
    x = np.arange(4, dtype=">i4").reshape(1, 1, 4)
    cols = reference.unfold(x, 2)
    assert cols.dtype == ">i4"
    assert reference.fold(cols, (4,), 2).dtype == "=i4"


def test_float16_is_summed_in_float32():
    # In float16, 2048 + 1 is 2048: one by one the ones would be lost.
    cols = np.array([[[0, 0, 2048], [0, 1, 0], [1, 0, 0]]], "f2")
    assert reference.fold(cols, (5,), 3)[0, 0, 2] == 2050


def test_integers_wrap():
    cols = np.full((1, 2, 3), 100, "i1")
    np.testing.assert_array_equal(reference.fold(cols, (4,), 2), np.array([[[100, -56, -56, 100]]], "i1"))


@pytest.mark.parametrize("form", FORMS)
def test_nan_wins_max_and_min(form):
    cols = np.array([[[1.0, np.nan], [3.0, 4.0]]])
    for reduce, expected in (("max", [1.0, np.nan, 4.0]), ("min", [1.0, np.nan, 4.0])):
        np.testing.assert_array_equal(reference.fold(cols, (3,), 2, reduce=reduce, form=form), [[expected]])


@settings(max_examples=60, derandomize=True, deadline=None)
@given(problem=problems())
def test_mean_inverts_unfold_on_integer_valued_data(problem):
    x = problem.rng().integers(-9, 9, problem.x_shape).astype(float)
    cols = reference.unfold(x, problem.kernel, form="sliding", **problem.geometry)
    back = reference.col2im(
        cols, x.shape, problem.kernel, layout="n (c k) l", reduce="mean", uncovered=np.nan, **problem.geometry
    )
    ones = reference.unfold(
        np.ones((1, 1, *problem.size)), problem.kernel, form="sliding", **problem.geometry
    )
    covered = reference.fold(ones, problem.size, problem.kernel, **problem.geometry) > 0
    np.testing.assert_array_equal(back, np.where(covered, x, np.nan))


def test_windowed_fold_is_the_weighted_mean():
    cols = np.array([[[1.0, 10.0], [2.0, 20.0]]])
    expected = [[[1.0, (3 * 2.0 + 10.0) / 4, 20.0]]]
    np.testing.assert_array_equal(reference.fold(cols, (3,), 2, window=np.array([1.0, 3.0])), expected)
    np.testing.assert_array_equal(reference.fold(cols, (3,), 2, window=([1.0, 3.0],)), expected)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(problem=problems(max_rank=2), data=st.data())
def test_every_layout_places_every_name(problem, data):
    """Entries are all different: one at a random place must be found where the layout says."""
    win = reference.windows(problem.size, problem.kernel, **problem.geometry)
    names = ["n", "c", *(f"k{a}" for a in range(win.rank)), *(f"l{a}" for a in range(win.rank))]
    sizes = dict(zip(names, (2, 3, *win.kernel, *win.output), strict=True))
    plain = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    order = data.draw(st.permutations(names))
    cuts = [True, *(data.draw(st.booleans()) for _ in order[1:])]
    groups = []
    for name, cut in zip(order, cuts, strict=True):
        if cut:
            groups.append([])
        groups[-1].append(name)
    layout = " ".join(f"({' '.join(g)})" if len(g) > 1 else g[0] for g in groups)
    arranged = reference.arrange(plain, layout)
    at = {name: data.draw(st.integers(0, size - 1)) for name, size in sizes.items()}
    index = tuple(int(np.ravel_multi_index([at[n] for n in g], [sizes[n] for n in g])) for g in groups)
    assert arranged[index] == plain[tuple(at[name] for name in names)]
    np.testing.assert_array_equal(reference.restore(arranged, layout, sizes), plain)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_col2im_reads_every_layout(layout):
    x = np.arange(2 * 3 * 5 * 4).reshape(2, 3, 5, 4)
    cols = reference.im2col(x, 2, stride=2, padding=1, layout=layout)
    back = reference.col2im(cols, x.shape, 2, stride=2, padding=1, layout=layout)
    np.testing.assert_array_equal(back, x)  # stride 2, window 2: every pixel is covered once


def test_layouts_of_the_notebook_and_of_pytorch():
    x = np.arange(2 * 2 * 3 * 3).reshape(2, 2, 3, 3)
    theirs = reference.unfold(x, 2)
    matrix = reference.im2col(x, 2)
    for n, position in itertools.product(range(2), range(4)):
        np.testing.assert_array_equal(matrix[:, position * 2 + n], theirs[n, :, position])


@pytest.mark.parametrize(
    ("padding", "expected"),
    [("valid", (3,)), ("same", (5,)), ("same_lower", (5,)), (2, (7,)), (((2, 0),), (5,))],
)
def test_padding_forms(padding, expected):
    assert reference.windows((5,), 3, padding=padding).output == expected


@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize("kernel", [1, 2, 5])
def test_same_gives_ceil_of_size_over_stride(stride, kernel):
    for size in range(1, 9):
        assert reference.windows((size,), kernel, stride, "same").output == (-(-size // stride),)
