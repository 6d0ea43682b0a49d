"""The compiled convolution against PyTorch, where it is installed, within the bounds of both."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import windrow as wr
from tests import tolerances
from tests.problems import problems
from windrow import _core

torch = pytest.importorskip("torch")
CHUNK = _core._testing.CHUNK


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems(), dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 2**32 - 1))
def test_agrees_with_torch(problem, dtype, seed):
    if 0 in problem.x_shape or 0 in problem.w_shape:
        return  # torch refuses some empty problems that have an answer
    rng = np.random.default_rng(seed)
    options = problem.options
    # torch has one padding per axis for both sides: pad the image itself.
    x = rng.standard_normal(problem.x_shape).astype(dtype)
    w = rng.standard_normal(problem.w_shape).astype(dtype)
    b = rng.standard_normal(problem.w_shape[0]).astype(dtype)
    dy = rng.standard_normal(problem.y_shape).astype(dtype)
    leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, w, b)]
    rank = x.ndim - 2
    sides = [side for pair in reversed(options["padding"]) for side in pair]
    convolve = getattr(torch.nn.functional, f"conv{rank}d")
    padded = torch.nn.functional.pad(leaves[0], sides)
    y = convolve(padded, leaves[1], leaves[2], options["stride"], 0, options["dilation"], options["groups"])
    y.backward(torch.from_numpy(dy))

    # Each is within its bound of the exact result; torch's sums are no worse than one after another.
    def assert_close(mine, theirs, bound):
        assert np.all(np.abs(mine - theirs.detach().numpy()) <= bound(CHUNK) + bound(1))

    assert_close(
        wr.conv(x, w, b, **options), y, lambda c: tolerances.conv_error_bound(x, w, b, chunk=c, **options)
    )
    dx, dw, db = wr.conv_backward(dy, x, w, **options)
    assert_close(
        dx,
        leaves[0].grad,
        lambda c: tolerances.conv_grad_input_error_bound(dy, w, x.shape, chunk=c, **options),
    )
    pixels = dy.shape[0] * int(np.prod(dy.shape[2:]))
    size = wr.conv_grad_weight(np.abs(dy), np.abs(x), w.shape, **options).astype(np.float64)
    np.testing.assert_array_less(
        np.abs(dw - leaves[1].grad.numpy()), 2 * (pixels + 2) * np.finfo(dtype).eps * size + 1e-300
    )
    total = np.abs(dy).sum(axis=(0, *range(2, dy.ndim)), dtype=np.float64)
    np.testing.assert_array_less(
        np.abs(db - leaves[2].grad.numpy()), 2 * (pixels + 2) * np.finfo(dtype).eps * total + 1e-300
    )
