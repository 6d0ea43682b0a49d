"""One cell's data: random normal arrays of a layer, and the check that a candidate's result is right."""

from math import prod
from typing import NamedTuple

import numpy as np

from .layers import Layer

SAMPLED = 24  # entries of a result that are computed again from the definition


class Problem(NamedTuple):
    """The operands of one layer as C-ordered NumPy arrays, channels first."""

    layer: Layer
    dtype: str
    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray
    algorithm: str = "auto"  # that windrow is asked for

    def result_shape(self, which: str) -> tuple[int, ...]:
        return {"y": self.dy, "dx": self.x, "dw": self.w}[which].shape

    def empty(self, which: str, channels_last: bool = False) -> np.ndarray:
        """A buffer for a result, its pages touched so that no candidate pays for the first touch."""
        shape = self.result_shape(which)
        out = np.empty((shape[0], *shape[2:], shape[1]) if channels_last else shape, self.dtype)
        out.fill(np.nan)
        return np.moveaxis(out, -1, 1) if channels_last else out


def make(layer: Layer, dtype: str, seed: int = 0, algorithm: str = "auto") -> Problem:
    """Random normal data; never zeros, which memory and multipliers may treat better."""
    rng = np.random.default_rng([seed, layer.flops % 2**32])

    def normal(shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal(prod(shape), np.dtype(dtype)).reshape(shape)

    return Problem(
        layer, dtype, normal(layer.x_shape), normal(layer.w_shape), normal(layer.y_shape), algorithm
    )


def channels_last(array: np.ndarray) -> np.ndarray:
    """A copy in the channels-last memory format, with the same shape."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


class Check:
    """Compares results with entries computed by definition in float64: first, last and random ones.

    Tolerance: 16 * eps * sum|a||b| of the terms, which any order of summation and Winograd keep on normal
    data by a wide margin, while bfloat16 or a wrong term does not.
    """

    def __init__(self, problem: Problem, which: str, seed: int = 1) -> None:
        self._shape = problem.result_shape(which)
        size = prod(self._shape)
        rng = np.random.default_rng(seed)
        chosen = np.unique(np.concatenate(([0, size - 1], rng.integers(0, size, SAMPLED))))
        self._where = np.unravel_index(chosen, self._shape)
        terms = [_TERMS[which](problem, tuple(map(int, index))) for index in zip(*self._where)]
        self._expected = np.array([products.sum() for products in terms])
        sums = np.array([np.abs(products).sum() for products in terms])
        self.tolerance = 16 * np.finfo(problem.dtype).eps * np.maximum(sums, sums.mean())

    def complaint(self, got: np.ndarray, dtype: str) -> str | None:
        """None where the result is right, else what is wrong with it."""
        if got.shape != self._shape or got.dtype != dtype:
            return f"gives {got.shape} {got.dtype}, expected {self._shape} {dtype}"
        error = np.abs(got[self._where].astype(np.float64) - self._expected) / self.tolerance
        if not (error <= 1).all():
            return f"wrong: off by {np.nanmax(error):.3g} times the tolerance"
        return None


def _window(layer: Layer, at: tuple[int, ...]) -> list[np.ndarray]:
    """Per axis the coordinates (outside ones included) that the window at an output position covers."""
    axes = zip(at, layer.kernel, layer.stride, layer.pad, layer.dilation)
    return [o * t - p + d * np.arange(k) for o, k, t, p, d in axes]


def _terms_y(problem: Problem, index: tuple[int, ...]) -> np.ndarray:
    """The products whose sum is y[n, k, o...]: zero-extended windows of x times one filter."""
    layer, (n, k, *at) = problem.layer, index
    first = k // (layer.filters // layer.groups) * (layer.c // layer.groups)
    image = problem.x[n, first : first + layer.c // layer.groups].astype(np.float64)
    weights = problem.w[k].astype(np.float64)
    for axis, places in enumerate(_window(layer, tuple(at)), 1):
        inside = (places >= 0) & (places < layer.size[axis - 1])
        image = np.take(image, places[inside], axis)
        weights = np.compress(inside, weights, axis)
    return (image * weights).ravel()


def _terms_dx(problem: Problem, index: tuple[int, ...]) -> np.ndarray:
    """The products whose sum is dx[n, c, i...]: every dy whose window covers the pixel, times its weight."""
    layer, (n, c, *at) = problem.layer, index
    per_group, filters = layer.c // layer.groups, layer.filters // layer.groups
    first = c // per_group * filters
    dy = problem.dy[n, first : first + filters].astype(np.float64)
    weights = problem.w[first : first + filters, c % per_group].astype(np.float64)
    axes = zip(at, layer.kernel, layer.stride, layer.pad, layer.dilation, layer.out_size)
    for axis, (i, k, t, p, d, out) in enumerate(axes, 1):
        taps = np.arange(k)
        outputs, rest = np.divmod(i + p - d * taps, t)
        valid = (rest == 0) & (outputs >= 0) & (outputs < out)
        dy = np.take(dy, outputs[valid], axis)
        weights = np.take(weights, taps[valid], axis)
    return (dy * weights).ravel()


def _terms_dw(problem: Problem, index: tuple[int, ...]) -> np.ndarray:
    """The products whose sum is dw[k, c, tap...]: dy of one filter times the pixels that the tap meets."""
    layer, (k, c, *tap) = problem.layer, index
    channel = k // (layer.filters // layer.groups) * (layer.c // layer.groups) + c
    image = problem.x[:, channel].astype(np.float64)
    dy = problem.dy[:, k].astype(np.float64)
    axes = zip(tap, layer.stride, layer.pad, layer.dilation, layer.out_size, layer.size)
    for axis, (r, t, p, d, out, size) in enumerate(axes, 1):
        places = np.arange(out) * t - p + d * r
        inside = (places >= 0) & (places < size)
        image = np.take(image, places[inside], axis)
        dy = np.compress(inside, dy, axis)
    return (image * dy).ravel()


_TERMS = {"y": _terms_y, "dx": _terms_dx, "dw": _terms_dw}
