"""`windrow.cs231n` against the course's definitions, written out as loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow import cs231n, gradcheck


@st.composite
def problems(draw):
    n, c, hh, ww = (draw(st.integers(1, 3)) for _ in range(4))
    stride, pad = draw(st.integers(1, 2)), draw(st.integers(0, 2))
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    h, w = (rows - 1) * stride + hh - 2 * pad, (columns - 1) * stride + ww - 2 * pad
    if h < 1 or w < 1:
        rows, columns = rows + 2 * pad, columns + 2 * pad
        h, w = (rows - 1) * stride + hh - 2 * pad, (columns - 1) * stride + ww - 2 * pad
    return n, c, h, w, hh, ww, pad, stride, rows, columns


@settings(max_examples=60)
@given(problem=problems(), dtype=st.sampled_from([np.float32, np.float64]))
def test_the_compiled_module(problem, dtype):
    n, c, h, w, hh, ww, pad, stride, rows, columns = problem
    x = np.arange(n * c * h * w, dtype=dtype).reshape(n, c, h, w)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    expected = np.zeros((c * hh * ww, rows * columns * n), dtype)
    folded = np.zeros_like(padded)
    for ci, i, j in np.ndindex(c, hh, ww):
        for y, xx, ni in np.ndindex(rows, columns, n):
            row, column = (ci * hh + i) * ww + j, (y * columns + xx) * n + ni
            expected[row, column] = padded[ni, ci, stride * y + i, stride * xx + j]
            folded[ni, ci, stride * y + i, stride * xx + j] += expected[row, column]
    folded = folded[:, :, pad : pad + h, pad : pad + w]
    cols = cs231n.im2col_cython(x, hh, ww, pad, stride)
    np.testing.assert_array_equal(cols, expected, strict=True)
    back = cs231n.col2im_cython(cols, n, c, h, w, hh, ww, pad, stride)
    np.testing.assert_array_equal(back, folded, strict=True)
    six = cols.reshape(c, hh, ww, rows, columns, n).transpose(0, 1, 2, 5, 3, 4)
    again = cs231n.col2im_6d_cython(six, n, c, h, w, hh, ww, pad, stride)
    np.testing.assert_array_equal(again, folded, strict=True)


def test_the_fast_layers():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 3, 8, 8)), rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    conv_param, pool_param = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = cs231n.conv_forward_fast(x, w, b, conv_param)
    assert out.shape == (2, 4, 8, 8)
    pooled, pool_cache = cs231n.max_pool_forward_fast(out, pool_param)
    np.testing.assert_array_equal(pooled, out.reshape(2, 4, 4, 2, 4, 2).max(axis=(3, 5)))
    gradcheck.assert_gradients(
        lambda x, w, b: cs231n.conv_forward_fast(x, w, b, conv_param)[0],
        lambda dout, x, w, b: cs231n.conv_backward_fast(dout, cache),
        (x, w, b),
    )
    dout = rng.standard_normal(pooled.shape)
    dx = cs231n.max_pool_backward_fast(dout, pool_cache)
    at_maximum = out.reshape(2, 4, 4, 2, 4, 2) == pooled[:, :, :, None, :, None]
    assert not np.any(dx.reshape(at_maximum.shape)[~at_maximum])
    np.testing.assert_allclose(dx.reshape(2, 4, 4, 2, 4, 2).sum(axis=(3, 5)), dout, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda x: cs231n.conv_forward_fast(x, np.ones((1, 1, 3, 3)), np.zeros(1), {"stride": 1}),
            "conv_param: expected a dictionary with 'stride', 'pad', got ['stride']",
        ),
        (
            lambda x: cs231n.max_pool_forward_fast(x, None),
            "pool_param: expected a dictionary with 'pool_height', 'pool_width', 'stride', got None",
        ),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError) as error:
        call(np.ones((1, 1, 5, 5)))
    assert str(error.value) == text
