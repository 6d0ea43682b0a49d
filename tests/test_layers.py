"""The layer with a cache. Known values are in test_notebook.py; here are shapes, options and errors."""

import numpy as np
import pytest

import windrow as wr
from tests.errors import raises
from windrow import layers, reference


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    return rng.integers(-4, 5, (2, 3, 6, 5)).astype(float), rng.integers(-4, 5, (4, 3, 3, 2)).astype(float)


@pytest.mark.parametrize("bias_shape", [(4,), (4, 1)])
@pytest.mark.parametrize("geometry", [{}, {"stride": 2}, {"stride": (1, 2), "padding": ((0, 1), (2, 0))}])
def test_layer_is_the_reference_with_padding_1(problem, bias_shape, geometry):
    x, w = problem
    b = np.arange(4.0).reshape(bias_shape)
    full = {"stride": 1, "padding": 1, **geometry}
    out, cache = layers.conv_forward(x, w, b, **geometry)
    np.testing.assert_array_equal(out, reference.conv(x, w, b.ravel(), **full))
    dout = np.random.default_rng(1).integers(-4, 5, out.shape).astype(float)
    dx, dw, db = layers.conv_backward(dout, cache)
    np.testing.assert_array_equal(dx, reference.conv_grad_input(dout, w, x.shape, **full))
    np.testing.assert_array_equal(dw, reference.conv_grad_weight(dout, x, w.shape, **full))
    np.testing.assert_array_equal(db, reference.conv_grad_bias(dout).reshape(bias_shape))


def test_layer_without_bias(problem):
    x, w = problem
    out, cache = layers.conv_forward(x, w, None)
    assert layers.conv_backward(np.ones_like(out), cache)[2] is None


def test_lists_are_arrays():
    out, cache = layers.conv_forward([[[1.0, 2.0, 3.0]]], [[[1.0, 1.0]]], [0.5], padding=0)
    np.testing.assert_array_equal(out, [[[3.5, 5.5]]])
    dx, _, db = layers.conv_backward([[[1.0, 2.0]]], cache)
    np.testing.assert_array_equal(dx, [[[1.0, 3.0, 2.0]]])
    np.testing.assert_array_equal(db, [3.0])


def test_cache_holds_no_copies(problem):
    x, w = problem
    cache = layers.conv_forward(x, w, None)[1]
    assert cache.x is x
    assert cache.w is w


def test_strict_refuses_a_remainder(problem):
    x, w = problem
    assert layers.conv_forward(x, w, None, stride=2, padding=(1, 1))[0].shape == (2, 4, 3, 3)
    with pytest.raises(ValueError) as error:
        layers.conv_forward(x, w, None, stride=2, padding=(1, 1), strict=True)
    assert str(error.value) == (
        "stride: expected windows that end at the edge of the padded x, "
        "got a remainder of 1 on spatial axis 0: "
        "(size 6 + padding 1 + 1 - window 3) / stride 2"
    )
    layers.conv_forward(x, w, None, stride=(1, 1), padding=1, strict=True)


@pytest.mark.parametrize(
    ("b", "error", "text"),
    [
        (np.zeros(3), ValueError, "b: expected shape (4,) or (4, 1), got (3,)"),
        (np.zeros((1, 4)), ValueError, "b: expected shape (4,) or (4, 1), got (1, 4)"),
        (0.0, ValueError, "b: expected shape (4,) or (4, 1), got ()"),
        (["a"] * 4, TypeError, "b: expected a numeric array, got dtype <U1 (from list)"),
    ],
)
def test_wrong_bias(problem, b, error, text):
    with pytest.raises(error) as raised:
        layers.conv_forward(*problem, b)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("dout", "error", "text"),
    [
        (np.zeros((2, 4, 6, 5)), ValueError, "dout: expected shape (2, 4, 6, 6), got (2, 4, 6, 5)"),
        (
            np.zeros((2, 4, 6, 6), "f4"),
            TypeError,
            "dout: expected float64, the dtype of x, got float32; "
            "cast with dout.astype(np.float64) or x.astype(np.float32)",
        ),
    ],
)
def test_wrong_dout(problem, dout, error, text):
    cache = layers.conv_forward(*problem, None)[1]
    with pytest.raises(error) as raised:
        layers.conv_backward(dout, cache)
    assert str(raised.value) == text


def test_max_pool_layer_with_the_parameters_of_the_course():
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 6))
    param = {"pool_height": 3, "pool_width": 2, "stride": 2}
    out, cache = layers.max_pool_forward(x, param)
    expected, indices = reference.max_pool_with_indices(x, (3, 2), stride=2)
    np.testing.assert_array_equal(out, expected)
    dout = np.random.default_rng(1).standard_normal(out.shape)
    dx = layers.max_pool_backward(dout, cache)
    np.testing.assert_array_equal(dx, reference.max_pool_backward(dout, indices, x.shape))


def test_avg_pool_layer():
    x = np.random.default_rng(0).integers(-4, 5, (2, 3, 9)).astype(float)
    param = {"kernel_size": 3, "pad": 1, "count_include_pad": False}
    out, cache = layers.avg_pool_forward(x, param)
    np.testing.assert_array_equal(out, wr.avg_pool(x, 3, padding=1, count_include_pad=False))
    dx = layers.avg_pool_backward(out, cache)
    expected = wr.avg_pool_backward(out, x.shape, 3, padding=1, count_include_pad=False)
    np.testing.assert_array_equal(dx, expected)


def test_lp_pool_layer():
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 6))
    param = {"pool_height": 3, "pool_width": 2, "stride": 2, "p": 3}
    out, cache = layers.lp_pool_forward(x, param)
    np.testing.assert_array_equal(out, wr.lp_pool(x, (3, 2), 3, stride=2))
    dx = layers.lp_pool_backward(out, cache)
    np.testing.assert_array_equal(dx, wr.lp_pool_backward(out, x, (3, 2), 3, stride=2))


def test_global_pool_layers():
    x = np.random.default_rng(0).integers(-4, 5, (2, 3, 4, 8)).astype(float)
    out, cache = layers.global_avg_pool_forward(x)
    np.testing.assert_array_equal(out, x.mean(axis=(2, 3), keepdims=True))
    np.testing.assert_array_equal(layers.global_avg_pool_backward(out * 32, cache), out + 0 * x)
    out, places = layers.global_max_pool_forward(x)
    np.testing.assert_array_equal(out, x.max(axis=(2, 3), keepdims=True))
    expected = reference.max_pool_backward(out, places.indices, x.shape)
    np.testing.assert_array_equal(layers.global_max_pool_backward(out, places), expected)


def test_transposed_layer():
    rng = np.random.default_rng(0)
    x, w, b = (rng.integers(-4, 5, shape).astype(float) for shape in [(2, 4, 5, 3), (4, 2, 3, 3), (4,)])
    param = {"stride": 2, "pad": 1, "output_padding": 1, "groups": 2}
    out, cache = layers.conv_transpose_forward(x, w, b, param)
    options = {"stride": 2, "padding": 1, "groups": 2}
    np.testing.assert_array_equal(out, wr.conv_transpose(x, w, b, output_padding=1, **options))
    gradients = layers.conv_transpose_backward(out, cache)
    expected = wr.conv_transpose_backward(out, x, w, **options)
    for got, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    out, cache = layers.conv_transpose_forward(x, w, None, param)
    assert layers.conv_transpose_backward(out, cache)[2] is None


def test_wrong_parameter_dictionaries():
    x = np.ones((1, 1, 4, 4))
    raises(TypeError, "pool_param: expected a dict, got int: 2", layers.max_pool_forward, x, 2)
    raises(
        ValueError,
        "pool_param: expected 'pool_height' and 'pool_width', or else 'kernel_size', got ['pool_height']",
        layers.max_pool_forward,
        x,
        {"pool_height": 2},
    )
    raises(
        ValueError,
        "pool_param: expected some of 'pool_height', 'pool_width', 'kernel_size', 'stride', 'pad', "
        "'dilation', 'ceil_mode', 'padding_mode', 'fill', got 'strides'",
        layers.max_pool_forward,
        x,
        {"kernel_size": 2, "strides": 2},
    )
    cache = layers.max_pool_forward(x, {"kernel_size": 2})[1]
    raises(
        ValueError,
        "dout: expected shape (1, 1, 2, 2), got (1, 1, 2, 3)",
        layers.max_pool_backward,
        np.ones((1, 1, 2, 3)),
        cache,
    )
