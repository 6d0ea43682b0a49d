"""What every wheel must pass, in seconds, with nothing but NumPy and pytest beside it.

Imports nothing of the project's tests: `make wheel` and cibuildwheel run this file alone.
"""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import windrow as wr
from windrow import _core, reference, verify

RNG = np.random.default_rng(2026)
# x, w and options whose operands are small whole numbers: direct sums of them are exact.
PROBLEMS = [
    ((2, 3, 9, 8), (4, 3, 3, 3), {"padding": 1}),
    ((1, 4, 11, 13), (6, 2, 3, 2), {"stride": (2, 3), "padding": ((1, 0), (2, 1)), "groups": 2}),
    ((2, 20, 17), (33, 20, 5), {"dilation": 2, "padding": "same"}),
    ((1, 7, 12, 12), (7, 1, 3, 3), {"groups": 7, "padding": 1}),
    ((1, 150, 7, 7), (17, 150, 1, 1), {}),
    ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"stride": 2}),
]


@pytest.fixture(params=_core.targets_available())
def target(request):
    before = _core.target()
    _core.set_target(request.param)
    yield request.param
    _core.set_target(before)


def whole(shape, dtype):
    return RNG.integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), PROBLEMS)
def test_convolution_and_its_gradients(target, x_shape, w_shape, options, dtype):
    x, w, b = whole(x_shape, dtype), whole(w_shape, dtype), whole(w_shape[:1], dtype)
    y = wr.conv(x, w, b, algorithm="direct", **options)
    np.testing.assert_array_equal(y, reference.conv(x, w, b, **options))
    dy = whole(y.shape, dtype)
    dx, dw, db = wr.conv_backward(dy, x, w, algorithm="direct", **options)
    np.testing.assert_array_equal(dx, reference.conv_grad_input(dy, w, x_shape, **options))
    np.testing.assert_array_equal(dw, reference.conv_grad_weight(dy, x, w_shape, **options))
    np.testing.assert_array_equal(db, reference.conv_grad_bias(dy))


@pytest.mark.parametrize("dtype", ["i1", "f4", "f8", "c8"])
@pytest.mark.parametrize("layout", ["n (c k) l", "(c k) (l n)", "(n l) (c k)", "n l (k c)"])
def test_patches(target, layout, dtype):
    x = whole((2, 3, 8, 7), dtype)
    options = {"stride": (2, 1), "padding": 1, "layout": layout}
    columns = wr.unfold(x, (3, 2), **options)
    np.testing.assert_array_equal(columns, reference.unfold(x, (3, 2), **options))
    cols = wr.im2col(x, 3, padding=1)
    np.testing.assert_array_equal(
        wr.col2im(cols, x.shape, 3, padding=1), reference.col2im(cols, x.shape, 3, padding=1)
    )


def test_same_bits_on_several_threads():
    x, w = RNG.standard_normal((8, 16, 40, 40)), RNG.standard_normal((16, 16, 3, 3))
    results = []
    for threads in (1, 2, 5):
        with wr.num_threads(threads):
            y = wr.conv(x, w, padding=1)
            results.append([array.tobytes() for array in (y, *wr.conv_backward(y, x, w, padding=1))])
    assert results[0] == results[1] == results[2]


def test_calls_from_threads():
    x, w = RNG.standard_normal((2, 8, 30, 30)), RNG.standard_normal((8, 8, 3, 3))
    expected = wr.conv(x, w).tobytes()
    same = []
    threads = [threading.Thread(target=lambda: same.append(wr.conv(x, w).tobytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [expected] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_computes():
    x, w = RNG.standard_normal((2, 8, 30, 30)), RNG.standard_normal((8, 8, 3, 3))
    with wr.num_threads(2):
        expected = wr.conv(x, w).tobytes()
        child = os.fork()
        if child == 0:
            os._exit(0 if wr.conv(x, w).tobytes() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_errors_name_the_argument():
    with pytest.raises(ValueError) as caught:
        wr.conv(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), padding=(1, 1, 1))
    assert str(caught.value) == "padding: expected 2 values for a 2-D window, got 3: (1, 1, 1)"


def test_every_comparison_of_windrow_check_holds():
    wrong = [row for row in verify.comparisons() if not row.holds]
    assert wrong == []


def test_the_command_line_starts():
    done = subprocess.run(
        [sys.executable, "-m", "windrow", "info", "--json"], capture_output=True, text=True, check=True
    )
    assert f'"version": "{wr.__version__}"' in done.stdout
