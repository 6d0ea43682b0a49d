"""Borders that the core sees where it reads an image: by every driver, against NumPy's padded image."""

import pickle
import tracemalloc
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given

import windrow as wr
from tests.choice import CANDIDATES, only
from tests.errors import raises
from tests.examples import per_target
from tests.pooling_problems import bits, dtypes, images, layouts, seeds
from tests.problems import Problem, channels_last, problems
from tests.test_borders import border_options, extended, modes, pads_of
from tests.test_convolution import assert_same_kind
from tests.test_winograd import layers
from windrow import reference

FILL = -1.7  # which neither dtype holds
formats = st.sampled_from([np.ascontiguousarray, channels_last])


@st.composite
def depthwise(draw):
    """One filter or two for each of many channels: lanes lie along pixels, or along channels."""
    x_shape, w_shape, options = draw(problems())
    channels, filters = draw(st.sampled_from([1, 3, 16, 37])), draw(st.sampled_from([1, 1, 2]))
    return Problem(
        (x_shape[0], channels, *x_shape[2:]), (channels * filters, 1, *w_shape[2:]),
        {**options, "groups": channels},
    )  # fmt: skip


@st.composite
def tiled(draw):
    return Problem(*draw(layers()))


def padded(x, problem, mode):
    """The image with its border, and the options of the plain operation on it."""
    pads = conv_pads(problem)
    return extended(x, pads, mode, FILL), {**problem.options, "padding": 0}


def conv_pads(problem):
    names = ("stride", "padding", "dilation", "groups")
    return pads_of(problem._replace(options={name: problem.options[name] for name in names}))


def numbers(shapes, dtype, seed):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


@pytest.mark.parametrize("name", CANDIDATES)
@per_target(40)
@given(data=st.data(), dtype=dtypes, seed=seeds, mode=modes, fmt=formats)
def test_every_driver_has_the_bits_of_the_padded_image(target, name, data, dtype, seed, mode, fmt):
    problem = data.draw(tiled() if name.startswith("winograd") else problems(max_channels=40))
    x, w, b = numbers((problem.x_shape, problem.w_shape, problem.w_shape[:1]), dtype, seed)
    wide, plain = padded(x, problem, mode)
    with only(name):
        event(wr.explain("conv", wide.shape, w.shape, dtype=dtype, **plain)["kernel"])
        expected = wr.conv(fmt(wide), w, b, **plain)
        for threads in (1, 2):
            with wr.num_threads(threads):
                y = wr.conv(fmt(x), w, b, **problem.options, **border_options(mode, FILL))
            np.testing.assert_array_equal(bits(y), bits(expected))


@per_target(40)
@given(problem=st.one_of(problems(), depthwise()), dtype=dtypes, seed=seeds, mode=modes)
def test_what_auto_takes_has_the_bits_of_the_padded_image(target, problem, dtype, seed, mode):
    """Small products, depthwise ones and gradients among them; the second call is one that is known."""
    x, w, dy = numbers((problem.x_shape, problem.w_shape, conv_y_shape(problem)), dtype, seed)
    wide, plain = padded(x, problem, mode)
    y, dw = wr.conv(wide, w, **plain), wr.conv_grad_weight(dy, wide, w.shape, **plain)
    options = {**problem.options, **border_options(mode, FILL)}
    changes = (np.asarray, np.asarray, *layouts(np.random.default_rng(seed)))
    for threads, change in zip((1, 2, 1, 2, 2), changes, strict=True):
        with wr.num_threads(threads):
            np.testing.assert_array_equal(bits(wr.conv(change(x), w, **options)), bits(y))
            gradient = wr.conv_grad_weight(change(dy), change(x), w.shape, **options)
        np.testing.assert_array_equal(bits(gradient), bits(dw))
        out = change(np.full_like(w, np.nan))
        assert wr.conv_grad_weight(dy, change(x), w.shape, **options, out=out) is out
        np.testing.assert_array_equal(bits(out), bits(dw))


def conv_y_shape(problem):
    names = ("stride", "padding", "dilation", "groups")
    return problem._replace(options={name: problem.options[name] for name in names}).y_shape


@per_target(40)
@given(problem=st.one_of(problems(), depthwise()), dtype=dtypes, seed=seeds, mode=modes, fmt=formats)
def test_agrees_with_the_reference(target, problem, dtype, seed, mode, fmt):
    """On small integers, whose sums are exact; with a bound on the workspace too."""
    shapes = (problem.x_shape, problem.w_shape, conv_y_shape(problem))
    x, w, dy = (images(shape, dtype, seed + i) for i, shape in enumerate(shapes))
    b = images(w.shape[:1], dtype, seed + 3)
    wide = reference.extend(x, conv_pads(problem), mode, 3)
    plain = {**problem.options, "padding": 0}
    y, dw = reference.conv(wide, w, b, **plain), reference.conv_grad_weight(dy, wide, w.shape, **plain)
    options = {**problem.options, **border_options(mode, 3)}
    for more in ({}, {"max_workspace": 1 << 22}):
        np.testing.assert_array_equal(wr.conv(fmt(x), w, b, **options, **more), y)
        total = np.ones_like(dw)
        wr.conv_grad_weight(fmt(dy), fmt(x), w.shape, **options, **more, out=total, accumulate=True)
        np.testing.assert_array_equal(total, dw + 1)


@per_target(20)
@given(problem=tiled(), dtype=dtypes, seed=seeds, mode=modes, share=st.sampled_from([0.001, 0.05, 1]))
def test_non_finite_values_in_tiles(target, problem, dtype, seed, mode, share):
    x, w, b = numbers((problem.x_shape, problem.w_shape, problem.w_shape[:1]), dtype, seed)
    rng = np.random.default_rng(seed)
    for value in (np.nan, np.inf, -np.inf):
        x[rng.random(x.shape) < share / 3] = value
    wide, plain = padded(x, problem, mode)
    y = wr.conv(x, w, b, **problem.options, **border_options(mode, FILL), algorithm="winograd")
    assert_same_kind(y, reference.conv(wide, w, b, **plain))


@per_target(40)
@given(
    problem=st.one_of(problems(max_channels=40), depthwise(), tiled()), dtype=dtypes, seed=seeds, fmt=formats,
    fill=st.sampled_from([np.nan, np.inf, -np.inf]),
)  # fmt: skip
def test_a_fill_that_is_not_finite(target, problem, dtype, seed, fmt, fill):
    """It reaches what sees it, and nothing else, in y as in dw."""
    x, w, dy = numbers((problem.x_shape, problem.w_shape, conv_y_shape(problem)), dtype, seed)
    wide, plain = extended(x, conv_pads(problem), "constant", fill), {**problem.options, "padding": 0}
    with np.errstate(invalid="ignore"):
        y, dw = reference.conv(wide, w, **plain), reference.conv_grad_weight(dy, wide, w.shape, **plain)
    assert_same_kind(wr.conv(fmt(x), w, **problem.options, fill=fill), y)
    assert_same_kind(wr.conv_grad_weight(fmt(dy), fmt(x), w.shape, **problem.options, fill=fill), dw)


@per_target(40)
@given(problem=tiled(), dtype=dtypes, seed=seeds, mode=modes)
def test_prepared_tiles(target, problem, dtype, seed, mode):
    """The transformed weights are kept; a layer that has come back from a pickle makes them again."""
    x, w = numbers((problem.x_shape, problem.w_shape), dtype, seed)
    wide, plain = padded(x, problem, mode)
    expected = wr.prepare_conv(w, **plain, algorithm="winograd")(wide)
    layer = wr.prepare_conv(w, **problem.options, **border_options(mode, FILL), algorithm="winograd")
    for one in (layer, layer, pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(bits(one(x)), bits(expected))


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap", "constant"])
@pytest.mark.parametrize("fmt", [np.ascontiguousarray, channels_last])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((2, 3, 5, 4), (4, 3, 30, 40), {"padding": ((40, 17), (19, 44))}),  # taps in chunks
        ((1, 40, 1), (24, 40, 3), {"padding": 9}),  # a single pixel
        ((1, 64, 28, 28), (64, 64, 3, 3), {"padding": 1}),
        ((2, 32, 6, 5, 7), (16, 16, 3, 2, 3), {"padding": ((2, 9), (0, 1), (3, 4)), "groups": 2}),
        ((1, 16, 2100), (16, 1, 7), {"padding": ((700, 5),), "stride": 3, "groups": 16}),
        ((1, 48, 56, 56), (48, 1, 3, 3), {"padding": 1, "groups": 48}),
    ],
)
def test_layers(target, mode, fmt, x_shape, w_shape, options):
    """Windows and pads that small problems do not have; the pads are many times the image."""
    problem = Problem(x_shape, w_shape, {"stride": 1, "dilation": 1, "groups": 1, **options})
    rank = len(x_shape) - 2
    each = {name: (problem.options[name],) * rank for name in ("stride", "dilation")}
    padding = problem.options["padding"]
    each["padding"] = padding if isinstance(padding, tuple) else ((padding, padding),) * rank
    problem = problem._replace(options={**problem.options, **each})
    x, w = numbers((x_shape, w_shape), np.float32, 7)
    wide, plain = padded(x, problem, mode)
    dy = numbers((conv_y_shape(problem),), np.float32, 8)[0]
    y = wr.conv(fmt(x), w, **problem.options, **border_options(mode, FILL))
    np.testing.assert_array_equal(bits(y), bits(wr.conv(wide, w, **plain)))
    dw = wr.conv_grad_weight(fmt(dy), fmt(x), w_shape, **problem.options, **border_options(mode, FILL))
    np.testing.assert_array_equal(bits(dw), bits(wr.conv_grad_weight(dy, wide, w_shape, **plain)))


@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_nothing_is_padded(mode):
    x, w = np.ones((8, 8, 64, 64), np.float32), np.ones((8, 8, 3, 3), np.float32)
    options = {"padding": 1, **border_options(mode, 3)}
    y, dw = np.empty_like(x), np.empty_like(w)
    for call in (
        partial(wr.conv, x, w, **options, out=y),
        partial(wr.conv_grad_weight, y, x, w.shape, **options, out=dw),
        partial(wr.prepare_conv(w, **options), x, y),
    ):
        call()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4096


def test_a_problem_that_is_known_is_checked_again():
    """Where all arguments but one are those of a call before."""
    x, w = np.arange(24.0).reshape(1, 1, 4, 6), np.ones((1, 1, 3, 3))
    y = wr.conv(x, w, padding=1, padding_mode="edge")
    dw = wr.conv_grad_weight(y, x, w.shape, padding=1, padding_mode="edge")
    for call in (partial(wr.conv, x, w), partial(wr.conv_grad_weight, y, x, w.shape)):
        for fill in (2, False, 0.0):
            text = f"fill: expected 0 where padding_mode is 'edge', got {fill}"
            raises(ValueError, text, partial(call, padding=1, padding_mode="edge", fill=fill))
    with pytest.raises(ValueError, match=r"^fill: expected a value that float32 can hold, got 1e\+300$"):
        wr.conv(x.astype(np.float32), w.astype(np.float32), padding=1, fill=1e300)
    assert np.isfinite(wr.conv(x, w, padding=1, fill=1e300)).all()
    with pytest.raises(ValueError, match=r"^fill: expected a value that float32 can hold, got 1e\+300$"):
        wr.conv(x.astype(np.float32), w.astype(np.float32), padding=1, fill=1e300)
    zeros = wr.conv(x, w, padding=1)
    np.testing.assert_array_equal(zeros, reference.conv(x, w, padding=1))
    np.testing.assert_array_equal(wr.conv(x, w, padding=1, padding_mode="edge"), y)
    np.testing.assert_array_equal(
        wr.conv(x, w, padding=1, fill=2), wr.conv(extended(x, ((1, 1), (1, 1)), "constant", 2), w)
    )
    np.testing.assert_array_equal(wr.conv_grad_weight(y, x, w.shape, padding=1, padding_mode="edge"), dw)
    dx = wr.conv_grad_input(y, w, x.shape, padding=1)
    np.testing.assert_array_equal(dx, reference.conv_grad_input(y, w, x.shape, padding=1))
    folded = wr.conv_grad_input(y, w, x.shape, padding=1, padding_mode="edge")
    assert np.vdot(folded, x) == np.vdot(y, y)
