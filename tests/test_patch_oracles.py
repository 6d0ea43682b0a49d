"""unfold and fold against what others give: PyTorch, scikit-learn, NumPy's windows, einops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import windrow as wr
from tests.tolerances import fold_error_bound

FLOATS = [np.float32, np.float64]


@st.composite
def planes(draw):
    """Images and windows as PyTorch takes them: 2-D, the same padding on both sides."""
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(2))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(2))
    dilation = tuple(draw(st.integers(1, 3)) for _ in range(2))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(2))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    size = tuple(max(1, span - 2 * p) + draw(st.integers(0, 24)) for span, p in zip(spans, padding))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 9)), *size)
    return shape, kernel, {"stride": stride, "dilation": dilation, "padding": padding}


@settings(max_examples=60)
@given(case=planes(), dtype=st.sampled_from(FLOATS), seed=st.integers(0, 2**32 - 1))
def test_torch(case, dtype, seed):
    torch = pytest.importorskip("torch")
    shape, kernel, options = case
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    theirs = torch.nn.functional.unfold(torch.from_numpy(x), kernel, **options)
    cols = wr.unfold(x, kernel, **options)
    np.testing.assert_array_equal(cols, theirs.numpy())
    back = torch.nn.functional.fold(theirs, shape[2:], kernel, **options).numpy()
    mine = wr.fold(cols, shape[2:], kernel, **options)
    bound = fold_error_bound(cols, shape[2:], kernel, **options)
    assert np.all(np.abs(mine.astype(np.float64) - back) <= 2 * bound)


@pytest.mark.parametrize("shape", [(9, 12), (17, 8, 3)])
@pytest.mark.parametrize("patch", [(3, 3), (4, 2)])
def test_scikit_learn(shape, patch):
    image_module = pytest.importorskip("sklearn.feature_extraction.image")
    image = np.random.default_rng(1).standard_normal(shape)
    theirs = image_module.extract_patches_2d(image, patch)
    x = (image if image.ndim == 3 else image[..., None]).transpose(2, 0, 1)[None]
    mine = wr.unfold(x, patch, layout="(n l) kh kw c")
    np.testing.assert_array_equal(mine.reshape(theirs.shape), theirs)
    again = image_module.reconstruct_from_patches_2d(theirs, shape)
    blended = wr.col2im(mine, x.shape, patch, layout="(n l) kh kw c", reduce="mean")
    # Each is an average of equal numbers: sums of up to 12 terms, and one division.
    rounding = (np.prod(patch) + 1) * np.finfo(float).eps * np.abs(image)
    assert np.all(np.abs(blended[0].transpose(1, 2, 0).reshape(shape) - again) <= 2 * rounding)


@settings(max_examples=60)
@given(data=st.data())
def test_sliding_window_view(data):
    rank = data.draw(st.integers(1, 4))
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    size = tuple(k + data.draw(st.integers(0, 12 // rank)) for k in kernel)
    stride = tuple(data.draw(st.integers(1, 3)) for _ in range(rank))
    shape = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), *size)
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=tuple(range(2, 2 + rank)))
    view = view[:, :, *(slice(None, None, step) for step in stride)]  # n c l... k...
    layout = " ".join(["n c", *(f"l{i}" for i in range(rank)), *(f"k{i}" for i in range(rank))])
    np.testing.assert_array_equal(wr.unfold(x, kernel, stride=stride, layout=layout), view)
    # Every pixel gets its own value once per window over it.
    total = np.zeros_like(x)
    for tap in np.ndindex(*kernel):
        place = [slice(t, t + s * (v - 1) + 1, s) for t, s, v in zip(tap, stride, view.shape[2 : 2 + rank])]
        total[:, :, *place] += view[(..., *tap)]
    np.testing.assert_array_equal(wr.col2im(view, shape, kernel, stride=stride, layout=layout), total)


@settings(max_examples=60)
@given(data=st.data())
def test_einops_reads_the_same_layouts(data):
    """einops' grammar is the same for the axes of a 2-D window."""
    einops = pytest.importorskip("einops")
    names = data.draw(st.permutations(["n", "c", "kh", "kw", "lh", "lw"]))
    cuts = sorted(data.draw(st.sets(st.integers(1, 5), max_size=5)))
    groups = [names[low:high] for low, high in zip([0, *cuts], [*cuts, 6])]
    layout = " ".join(f"({' '.join(group)})" if len(group) > 1 else group[0] for group in groups)
    x = np.random.default_rng(2).standard_normal((2, 3, 5, 6))
    plain = wr.unfold(x, (2, 3), layout="n c kh kw lh lw")
    expected = einops.rearrange(plain, f"n c kh kw lh lw -> {layout}")
    np.testing.assert_array_equal(wr.unfold(x, (2, 3), layout=layout), expected)
    np.testing.assert_array_equal(
        wr.col2im(expected, x.shape, (2, 3), layout=layout),
        wr.col2im(plain, x.shape, (2, 3), layout="n c kh kw lh lw"),
    )
