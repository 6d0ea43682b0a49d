"""Padding made of pixels in prepared and transposed convolutions, and for other dtypes."""

import pickle
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import windrow as wr
from tests.errors import raises
from tests.pooling_problems import bits, dtypes, images, layouts, many, seeds
from tests.problems import problems
from tests.test_borders import border_options, cuts, modes, pads_of
from windrow import borders, reference

directions = st.sampled_from(["reflect", "edge", "wrap"])


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    monkeypatch.setattr(borders, "BLOCK_BYTES", borders.BLOCK_BYTES)


# Prepared


@many
@given(problem=problems(), dtype=dtypes, seed=seeds, mode=modes, cut=cuts)
def test_prepared_has_the_bits_of_conv(problem, dtype, seed, mode, cut):
    borders.BLOCK_BYTES = cut
    rng = np.random.default_rng(seed)
    x, w, b = (
        rng.standard_normal(s).astype(dtype) for s in (problem.x_shape, problem.w_shape, problem.w_shape[:1])
    )
    options = {**problem.options, **border_options(mode, 3), "algorithm": "direct"}
    y = wr.conv(x, w, b, **options)
    layer = wr.prepare_conv(w, b, **options)
    for one in (layer, pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(bits(one(x)), bits(y))
    limited = wr.prepare_conv(w, b, activation="relu", **options)
    for change in layouts(rng):
        out = change(np.zeros_like(y))
        with wr.num_threads(3):
            assert layer(change(x), out) is out
            np.testing.assert_array_equal(limited(change(x)), np.maximum(y, 0))
        np.testing.assert_array_equal(bits(out), bits(y))


def test_prepared_says_what_it_is():
    layer = wr.prepare_conv(np.ones((4, 3, 3, 3)), padding=(1, 2), padding_mode="wrap")
    assert repr(layer) == (
        "<PreparedConv: w (4, 3, 3, 3) of float64, padding=((1, 1), (2, 2)), padding_mode='wrap'>"
    )
    plain = wr.prepare_conv(np.ones((4, 3, 3, 3)), padding=(1, 2))
    assert layer.explain((2, 3, 10, 20), threads=1)["x_shape"] == (2, 3, 10, 20)
    inside = layer.explain((2, 3, 10, 20), threads=1).as_dict()
    assert inside == plain.explain((2, 3, 10, 20), threads=1).as_dict()
    filled = wr.prepare_conv(np.ones((4, 3, 3, 3)), padding=(1, 2), fill=3)
    assert filled.explain((2, 3, 10, 20), threads=1).as_dict() == inside


# Transposed


def margins_of(problem):
    """The problem seen from the other side: shapes of x and y, and w as it is."""
    return problem.y_shape, problem.x_shape


@many
@given(problem=problems(), dtype=dtypes, seed=seeds, mode=directions, cut=cuts)
def test_conv_transpose_is_the_adjoint_of_conv(problem, dtype, seed, mode, cut):
    """On small integers, whose sums are exact; so is every gradient."""
    borders.BLOCK_BYTES = cut
    x_shape, y_shape = margins_of(problem)
    x, w, dy = (images(s, dtype, seed + i) for i, s in enumerate((x_shape, problem.w_shape, y_shape)))
    b = images(y_shape[1:2], dtype, seed + 3)
    pads, plain = pads_of(problem), {**problem.options, "padding": 0}
    padded = (*y_shape[:2], *(size + sum(pair) for size, pair in zip(y_shape[2:], pads, strict=True)))
    wide = reference.conv_grad_input(x, w, padded, **plain)
    y = reference.extend_adjoint(wide, pads, mode) + b.reshape(-1, *(1,) * (x.ndim - 2))
    options = {**problem.options, "padding_mode": mode, "algorithm": "direct"}
    sized = {**options, "output_size": y_shape[2:]}
    np.testing.assert_array_equal(wr.conv_transpose(x, w, b, **sized), y)
    extended = reference.extend(dy, pads, mode)
    gradients = (
        reference.conv(extended, w, **plain),
        reference.conv_grad_weight(x, extended, w.shape, **plain),
        dy.sum(axis=(0, *range(2, dy.ndim))),
    )
    for got, expected in zip(wr.conv_transpose_backward(dy, x, w, **options), gradients, strict=True):
        np.testing.assert_array_equal(got, expected)
    for change in layouts(np.random.default_rng(seed)):
        out = change(np.zeros_like(y))
        with wr.num_threads(3):
            assert wr.conv_transpose(change(x), w, b, **sized, out=out) is out
        np.testing.assert_array_equal(bits(out), bits(wr.conv_transpose(x, w, b, **sized)))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_conv_transpose_with_more_output_padding_than_a_stride(mode):
    """Under a dilation; no window sees the last pixels of the image with its border."""
    x, w = images((2, 3, 5), np.float64, 0), images((3, 2, 3), np.float64, 1)
    options = {"stride": 1, "padding": ((2, 1),), "dilation": 4}
    plain = wr.conv_transpose(x, w, stride=1, dilation=4, output_padding=3)
    y = wr.conv_transpose(x, w, output_padding=3, **options, padding_mode=mode)
    np.testing.assert_array_equal(y, reference.extend_adjoint(plain, ((2, 1),), mode))
    dy = images(y.shape, np.float64, 2)
    gradients = wr.conv_transpose_backward(dy, x, w, **options, padding_mode=mode)
    extended = reference.extend(dy, ((2, 1),), mode)
    expected = wr.conv_transpose_backward(extended, x, w, stride=1, dilation=4)
    for got, want in zip(gradients[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(got, want)


def test_conv_transpose_on_a_ring_turns_with_its_input():
    rng = np.random.default_rng(0)
    x, w = rng.integers(-9, 9, (1, 2, 5)).astype(float), rng.integers(-9, 9, (2, 3, 4)).astype(float)
    call = partial(wr.conv_transpose, w=w, stride=2, padding=((1, 1),), padding_mode="wrap")
    np.testing.assert_array_equal(call(np.roll(x, 1, -1)), np.roll(call(x), 2, -1))


def test_errors_of_conv_transpose():
    expected = "padding_mode: expected 'constant', 'reflect', 'edge' or 'wrap', got"
    x, w = np.ones((1, 2, 5)), np.ones((2, 3, 4))
    raises(ValueError, f"{expected} 'mirror'", partial(wr.conv_transpose, x, w, padding_mode="mirror"))
    dy = np.ones((1, 3, 8))
    call = partial(wr.conv_transpose_backward, dy, x, w, padding_mode=1)
    raises(ValueError, f"{expected} 1", call)
    raises(ValueError, f"{expected} None", partial(wr.prepare_conv, w, padding_mode=None))
    text = "fill: expected 0 where padding_mode is 'edge', got 2"
    raises(ValueError, text, partial(wr.prepare_conv, w, padding_mode="edge", fill=2))


# Other dtypes


@many
@given(problem=problems(), seed=seeds, mode=modes, cut=cuts, kind=st.sampled_from(["int8", "uint8", "int16"]))
def test_integers(problem, seed, mode, cut, kind):
    borders.BLOCK_BYTES = cut
    rng = np.random.default_rng(seed)
    x, w = rng.integers(0, 100, problem.x_shape, kind), rng.integers(-100, 100, problem.w_shape, "int8")
    options = {**problem.options, **border_options(mode, 3), "accumulator": np.int32}
    wide = reference.extend(x, pads_of(problem), mode, 3).astype(object)
    exact = reference.conv(wide, w.astype(object), **{**problem.options, "padding": 0})
    y = wr.conv(x, w, **options)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, exact)
    out = np.asfortranarray(np.zeros_like(y))
    assert wr.conv(x, w, **options, out=out) is out
    np.testing.assert_array_equal(out, y)


def test_integers_that_overflow_write_nothing():
    borders.BLOCK_BYTES = 1
    x, w = np.full((2, 2, 3), 127, np.int16), np.full((1, 2, 3), 2**14, np.int16)
    x[1] = 2**15 - 1
    call = partial(wr.conv, padding=1, padding_mode="wrap", accumulator=np.int32)
    assert call(x[:1], w).max() == 6 * 127 * 2**14
    out = np.full((2, 1, 3), 5, np.int32)
    with pytest.raises(OverflowError, match=r"^accumulator: expected sums that int32 holds, got "):
        call(x, w, out=out)
    assert np.all(out == 5)


@many
@given(problem=problems(), seed=seeds, mode=directions, cut=cuts, which=st.integers(0, 3))
def test_halves_and_complex_numbers(problem, seed, mode, cut, which):
    """Each as in float32 or by its parts, on whole numbers; halves are rounded once."""
    borders.BLOCK_BYTES = cut
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype([np.float16, ml_dtypes.bfloat16, np.complex64, np.complex128][which])
    rng = np.random.default_rng(seed)
    shapes = (problem.x_shape, problem.w_shape, problem.y_shape)
    x, w, dy = (rng.integers(-9, 10, shape).astype(dtype) for shape in shapes)
    if dtype.kind == "c":
        x, w, dy = (a + 1j * rng.integers(-9, 10, a.shape).astype(dtype) for a in (x, w, dy))
    options = {**problem.options, "padding_mode": mode, "algorithm": "direct"}
    work = np.dtype(np.float64 if dtype.kind != "c" else np.complex128)
    a, f, g = (v.astype(work) for v in (x, w, dy))
    pads, plain = pads_of(problem), {**problem.options, "padding": 0}
    wide = reference.extend(a, pads, mode)
    dx = reference.extend_adjoint(reference.conv_grad_input(g, f.conj(), wide.shape, **plain), pads, mode)
    dw = reference.conv_grad_weight(g, wide.conj(), w.shape, **plain)
    y = reference.conv(wide, f, **plain)
    np.testing.assert_array_equal(wr.conv(x, w, **options), y.astype(dtype))
    got = wr.conv_backward(dy, x, w, **options)
    db = g.sum(axis=(0, *range(2, g.ndim)))
    for one, expected in zip(got, (dx, dw, db), strict=True):
        assert one.dtype == dtype
        np.testing.assert_array_equal(one, expected.astype(dtype))
    total = np.ones_like(dw, dtype)
    assert wr.conv_grad_weight(dy, x, w.shape, **options, out=total, accumulate=True) is total
    np.testing.assert_array_equal(total, (dw + 1).astype(dtype))


def test_errors_of_mixed_dtypes():
    x, w = np.ones((1, 1, 5), np.float16), np.ones((1, 1, 2), np.complex64)
    text = "w: expected float16, the dtype of x, got complex64"
    raises(TypeError, text, partial(wr.conv, x, w, padding=1, padding_mode="edge"))
