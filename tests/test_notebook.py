"""Known answers: every result that the original notebook printed, at the precision printed.

The notebook is a convolution layer built from im2col and col2im and checked with numerical gradients. Its
columns are ``(c k) (l n)``: row = (channel, window row, window column), column = (output row, output column,
image).
"""

from types import SimpleNamespace

import numpy as np
import pytest

import windrow
from windrow import layers, reference

PRINTED = 0.5e-8  # half a unit of the last digit that NumPy printed


def reference_layer_forward(x, w, b, stride, padding):
    return reference.conv(x, w, b.ravel(), stride=stride, padding=padding), (x, w, b, stride, padding)


def reference_layer_backward(dout, cache):
    x, w, b, stride, padding = cache
    geometry = {"stride": stride, "padding": padding}
    dx = reference.conv_grad_input(dout, w, x.shape, **geometry)
    dw = reference.conv_grad_weight(dout, x, w.shape, **geometry)
    return dx, dw, reference.conv_grad_bias(dout).reshape(b.shape)


def reference_form(form):
    return SimpleNamespace(
        im2col=lambda *args, **keywords: reference.im2col(*args, form=form, **keywords),
        col2im=lambda *args, **keywords: reference.col2im(*args, form=form, **keywords),
    )


IMPLEMENTATIONS = {f"reference, {form}": reference_form(form) for form in ("loops", "indices", "sliding")}
IMPLEMENTATIONS["compiled"] = windrow

LAYERS = {
    "reference": SimpleNamespace(
        conv_forward=reference_layer_forward, conv_backward=reference_layer_backward
    ),
    "compiled": layers,
}


@pytest.fixture(params=LAYERS)
def layer(request):
    return LAYERS[request.param]


@pytest.fixture(params=IMPLEMENTATIONS)
def impl(request):
    return IMPLEMENTATIONS[request.param]


def relative_error(a, b):
    """The notebook's rel_error."""
    return np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b)))


def numerical_gradient(f, x, df, h=1e-5):
    """The notebook's centred differences, one entry at a time."""
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += h
        below[index] -= h
        grad[index] = np.sum((f(above) - f(below)) * df) / (2 * h)
    return grad


def test_cell_2_columns_and_back(impl):
    x = np.arange(16).reshape(1, 1, 4, 4)
    cols = impl.im2col(x, 2, stride=2)
    np.testing.assert_array_equal(cols, [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]])
    back = impl.col2im(cols, x.shape, 2, stride=2)
    assert back.dtype == x.dtype
    np.testing.assert_array_equal(back, x)


CORRECT_OUT = """
-0.08759809 -0.10987781  -0.18387192 -0.2109216
 0.21027089  0.21661097   0.22847626  0.23004637
 0.50813986  0.54309974   0.64082444  0.67101435
-0.98053589 -1.03143541  -1.19128892 -1.24695841
 0.69108355  0.66880383   0.59480972  0.56776003
 2.36270298  2.36904306   2.38090835  2.38247847
"""


def test_cell_4_forward(layer):
    x = np.linspace(-0.1, 0.5, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    w = np.linspace(-0.2, 0.3, num=3 * 3 * 4 * 4).reshape(3, 3, 4, 4)
    b = np.linspace(-0.1, 0.2, num=3).reshape(3, 1)
    out, _ = layer.conv_forward(x, w, b, stride=2, padding=1)
    correct_out = np.array(CORRECT_OUT.split(), float).reshape(2, 3, 2, 2)
    np.testing.assert_allclose(out, correct_out, rtol=0, atol=PRINTED * (1 + 1e-6))
    # The error it printed is that of the digits above, and no other: it has its own eleven digits.
    assert abs(relative_error(out, correct_out) - 2.21214765759e-08) < 1e-14


def test_cell_5_gradients(layer):
    random = np.random.RandomState(231)
    x, w = random.randn(4, 3, 5, 5), random.randn(2, 3, 3, 3)
    b, dout = random.randn(2, 1), random.randn(4, 2, 5, 5)

    def forward(x, w, b):
        return layer.conv_forward(x, w, b, stride=1, padding=1)[0]

    dx, dw, db = layer.conv_backward(dout, layer.conv_forward(x, w, b, stride=1, padding=1)[1])
    assert db.shape == b.shape
    # It printed 1.6e-8, 1.8e-10 and 2.6e-11: rounding of the differences, so varying with the order of sums.
    assert relative_error(dx, numerical_gradient(lambda x: forward(x, w, b), x, dout)) < 1e-7
    assert relative_error(dw, numerical_gradient(lambda w: forward(x, w, b), w, dout)) < 5e-9
    assert relative_error(db, numerical_gradient(lambda b: forward(x, w, b), b, dout)) < 1e-9


def test_cells_7_and_8_columns_of_two_images(impl):
    img = np.arange(36).reshape(2, 2, 3, 3)
    np.testing.assert_array_equal(impl.im2col(img, 3), np.stack([np.arange(18), np.arange(18, 36)], axis=1))


CELL_12 = """
 1.22298233 1.48723814 -0.6953817    -0.76623039 -0.03463104 0.1237851    -0.47704517 0.03203731 -0.67566443
 2.88187162  0.54230072  0.71058656  -1.95394435  0.59465664  0.8706314    -1.61928191  0.15475624 -0.65885797
 1.08514262 -0.23300164 -0.52626964   2.45727427  0.19714757 -0.95348796  -0.08733693  0.29826634  0.02558497
-0.70464431  0.31079506 -0.09970045  -0.48568803  0.66944594 -0.74343034   0.38222283 -0.27093515 -0.21413126
"""

CELL_13 = """
 1.22298233  1.08514262   1.48723814 -0.23300164  -0.6953817  -0.52626964  -0.76623039  2.45727427
-0.03463104  0.19714757   0.1237851  -0.95348796  -0.47704517 -0.08733693   0.03203731  0.29826634
-0.67566443  0.02558497   2.88187162 -0.70464431   0.54230072  0.31079506   0.71058656 -0.09970045
-1.95394435 -0.48568803   0.59465664  0.66944594   0.8706314  -0.74343034  -1.61928191  0.38222283
 0.15475624 -0.27093515  -0.65885797 -0.21413126
"""


def test_cells_13_to_15_compiled_columns(impl):
    img = np.array(CELL_12.split(), float).reshape(2, 2, 3, 3)
    printed = np.array(CELL_13.split(), float).reshape(18, 2)
    cols = impl.im2col(img, (3, 3), padding=(0, 0), stride=(1, 1))
    np.testing.assert_array_equal(cols, printed)
    assert relative_error(cols, printed) == 0.0


CELL_18 = """
-1.96221022  0.91386133 -1.65955002   0.38563384 -2.56546445 -0.67339656  -0.81926848 -1.33138613  0.17501128
-0.45030696  1.14573192  3.21103599   1.47017498 -0.89784141  0.44642588  -0.70165903 -0.57639828  1.26679362
"""

CELL_19 = """
-1.96221022  0.91386133  0.38563384 -2.56546445
 0.91386133 -1.65955002 -2.56546445 -0.67339656
 0.38563384 -2.56546445 -0.81926848 -1.33138613
-2.56546445 -0.67339656 -1.33138613  0.17501128
-0.45030696  1.14573192  1.47017498 -0.89784141
 1.14573192  3.21103599 -0.89784141  0.44642588
 1.47017498 -0.89784141 -0.70165903 -0.57639828
-0.89784141  0.44642588 -0.57639828  1.26679362
"""

CELL_22 = """
-1.96221022  1.82772265 -1.65955002  0.77126769 -10.26185781 -1.34679311 -0.81926848 -2.66277226 0.17501128
-0.45030696  2.29146384 3.21103599  2.94034997 -3.59136562 0.89285175 -0.70165903 -1.15279656 1.26679362
"""


def test_cells_19_to_22_columns_added_back(impl):
    img = np.array(CELL_18.split(), float).reshape(1, 2, 3, 3)
    cols = np.array(CELL_19.split(), float).reshape(8, 4)
    np.testing.assert_array_equal(impl.im2col(img, 2), cols)
    image = impl.col2im(cols, img.shape, 2)
    # A pixel is the sum of up to 4 printed numbers; the printed sum is of the unprinted ones.
    count = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    printed = np.array(CELL_22.split(), float).reshape(img.shape)
    assert (np.abs(image - printed) <= (count + 1) * PRINTED * (1 + 1e-6)).all()
    others = [other.col2im(cols, img.shape, 2) for other in IMPLEMENTATIONS.values()]
    assert all(relative_error(image, other) < 4 * np.finfo(float).eps for other in others)
