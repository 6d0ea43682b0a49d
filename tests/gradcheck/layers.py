"""Right NumPy layers, forward and backward, with generators of cases: what the checker must never blame."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from windrow.gradcheck import check

Generator = np.random.Generator


class Case(NamedTuple):
    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: tuple[Any, ...]
    axes: Mapping[str, str] = MappingProxyType({})
    cached: bool = False


def normal(rng: Generator, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


# Dense


def dense_forward(x, w, b):
    return x @ w + b


def dense_backward(dy, x, w, b):
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)


def dense(rng, dtype):
    n, i, o = rng.integers(1, 12, 3)
    scale = dtype(10.0 ** rng.integers(-3, 4))
    inputs = (scale * normal(rng, dtype, n, i), normal(rng, dtype, i, o), normal(rng, dtype, o))
    return Case("dense", dense_forward, dense_backward, inputs, {"x": "n i", "w": "i o", "b": "o"})


# ReLU, with a share of the entries exactly at its corner


def relu_forward(x):
    return np.maximum(x, 0)


def relu_backward(dy, x):
    return dy * (x > 0)


def relu_half_backward(dy, x):
    return dy * np.where(x == 0, x.dtype.type(0.5), (x > 0).astype(x.dtype))


def relu(rng, dtype):
    x = normal(rng, dtype, *rng.integers(1, 9, rng.integers(1, 5)))
    x[rng.random(x.shape) < rng.choice([0.0, 0.1, 0.5])] = 0
    backward = relu_backward if rng.random() < 0.5 else relu_half_backward
    return Case("relu", relu_forward, backward, (x,))


# Max pooling, ties to the first or shared


def pool_windows(x, size, stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    return windows[:, :, ::stride, ::stride]


def make_pool(size, stride, share):
    def forward(x):
        return pool_windows(x, size, stride).max(axis=(-2, -1))

    def backward(dy, x):
        windows = pool_windows(x, size, stride)
        top = windows == windows.max(axis=(-2, -1), keepdims=True)
        if not share:
            flat = top.reshape(*top.shape[:4], -1)
            first = flat & (np.cumsum(flat, axis=-1) == 1)
            top = first.reshape(top.shape)
        parts = dy[..., None, None] * top / top.sum(axis=(-2, -1), keepdims=True, dtype=dy.dtype)
        dx = np.zeros_like(x)
        for r in range(size):
            for s in range(size):
                oh, ow = dy.shape[2:]
                dx[:, :, r : r + stride * oh : stride, s : s + stride * ow : stride] += parts[..., r, s]
        return dx

    return forward, backward


def max_pool(rng, dtype):
    size = int(rng.integers(1, 4))
    stride = int(rng.integers(1, 4))
    shape = (*rng.integers(1, 4, 2), *(size + rng.integers(0, 6, 2)))
    x = normal(rng, dtype, *shape)
    if rng.random() < 0.6:
        x = np.round(x * 2) / 2  # many ties
    forward, backward = make_pool(size, stride, bool(rng.random() < 0.3))
    return Case("max_pool", forward, backward, (x,), {"x": "n c h w"})


# Softmax and cross-entropy, a scalar


def cross_entropy_forward(scores, labels):
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return (log_sum - shifted[np.arange(len(labels)), labels]).mean()


def cross_entropy_backward(dy, scores, labels):
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = shifted / shifted.sum(axis=1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return (dy * p / len(labels)).astype(scores.dtype), None


def cross_entropy(rng, dtype):
    n, k = rng.integers(1, 20), rng.integers(2, 12)
    scores = dtype(10.0 ** rng.integers(-2, 2)) * normal(rng, dtype, n, k)
    inputs = (scores, rng.integers(0, k, n))
    return Case("cross_entropy", cross_entropy_forward, cross_entropy_backward, inputs, {"scores": "n k"})


# Batch normalisation, with a cache


def batch_norm_forward(x, gamma, beta):
    mean = x.mean(axis=0)
    centred = x - mean
    inverse = 1 / np.sqrt((centred**2).mean(axis=0) + x.dtype.type(1e-5))
    hat = centred * inverse
    return gamma * hat + beta, (hat, gamma, inverse)


def batch_norm_backward(dy, cache):
    hat, gamma, inverse = cache
    dbeta, dgamma = dy.sum(axis=0), (dy * hat).sum(axis=0)
    dhat = dy * gamma
    dx = inverse * (dhat - dhat.mean(axis=0) - hat * (dhat * hat).mean(axis=0))
    return dx, dgamma, dbeta


def batch_norm(rng, dtype):
    n, d = rng.integers(2, 24), rng.integers(1, 8)
    x = dtype(10.0 ** rng.integers(-2, 3)) * (normal(rng, dtype, n, d) + dtype(rng.integers(0, 20)))
    inputs = (x, normal(rng, dtype, d), normal(rng, dtype, d))
    axes = {"x": "n d", "gamma": "d", "beta": "d"}
    return Case("batch_norm", batch_norm_forward, batch_norm_backward, inputs, axes, True)


# Element by element


def sigmoid_forward(x):
    return 1 / (1 + np.exp(-x))


def sigmoid_backward(dy, x):
    y = sigmoid_forward(x)
    return (dy * y * (1 - y),)


def sigmoid(rng, dtype):
    shape = rng.integers(1, 9, rng.integers(0, 4))
    x = np.asarray(dtype(10.0 ** rng.integers(-4, 2)) * normal(rng, dtype, *shape))
    return Case("sigmoid", sigmoid_forward, sigmoid_backward, (x,))


def tanh_backward(dy, x):
    return dy * (1 - np.tanh(x) ** 2)


def tanh(rng, dtype):
    x = dtype(10.0 ** rng.integers(-6, 2)) * normal(rng, dtype, *rng.integers(1, 9, rng.integers(1, 4)))
    return Case("tanh", np.tanh, tanh_backward, (x,))


# A convolution, one tap at a time


def out_size(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride + 1


def taps(x, w, stride, padding):
    oh, ow = (out_size(x.shape[2 + a], w.shape[2 + a], stride, padding) for a in (0, 1))
    for r in range(w.shape[2]):
        for s in range(w.shape[3]):
            yield r, s, (..., slice(r, r + stride * oh, stride), slice(s, s + stride * ow, stride))


def make_conv(stride, padding):
    sides = ((0, 0), (0, 0), (padding, padding), (padding, padding))

    def forward(x, w, b):
        padded = np.pad(x, sides)
        parts = (
            np.einsum("ncij,kc->nkij", padded[at], w[:, :, r, s]) for r, s, at in taps(x, w, stride, padding)
        )
        return sum(parts) + b[:, None, None]

    def backward(dy, x, w, b):
        padded = np.pad(x, sides)
        dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
        for r, s, at in taps(x, w, stride, padding):
            dpadded[at] += np.einsum("nkij,kc->ncij", dy, w[:, :, r, s])
            dw[:, :, r, s] = np.einsum("nkij,ncij->kc", dy, padded[at])
        h, v = x.shape[2:]
        return dpadded[:, :, padding : padding + h, padding : padding + v], dw, dy.sum(axis=(0, 2, 3))

    return forward, backward


CONV_AXES = {"x": "n c h w", "w": "k c kh kw", "b": "k"}


def conv(rng, dtype):
    n, c, k = rng.integers(1, 4, 3)
    kernel = rng.integers(1, 4, 2)
    stride, padding = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    image = kernel + rng.integers(0, 6, 2)
    scale = dtype(10.0 ** rng.integers(-3, 4))
    x = scale * normal(rng, dtype, n, c, *image)
    if rng.random() < 0.2:
        x = np.round(x)
    inputs = (x, normal(rng, dtype, k, c, *kernel), normal(rng, dtype, k))
    return Case("conv", *make_conv(stride, padding), inputs, CONV_AXES)


# A small network with a loss


def network_forward(x, w1, b1, w2, labels):
    return cross_entropy_forward(relu_forward(dense_forward(x, w1, b1)) @ w2, labels)


def network_backward(dy, x, *rest):
    w1, b1, w2, labels = rest
    hidden = dense_forward(x, w1, b1)
    active = relu_forward(hidden)
    dscores, _ = cross_entropy_backward(dy, active @ w2, labels)
    dx, dw1, db1 = dense_backward(relu_backward(dscores @ w2.T, hidden), x, w1, b1)
    return dx, dw1, db1, active.T @ dscores, None


def network(rng, dtype):
    n, d, h, k = rng.integers(2, 9, 4)
    inputs = (
        normal(rng, dtype, n, d),
        normal(rng, dtype, d, h),
        normal(rng, dtype, h) * dtype(rng.choice([0, 1])),
        normal(rng, dtype, h, k),
        rng.integers(0, k, n),
    )
    return Case("network", network_forward, network_backward, inputs)


# A complex one: the discrete Fourier transform


def fourier_forward(x):
    return np.fft.fft(x, axis=-1).astype(np.result_type(x, np.complex64))


def fourier_backward(dy, x):
    return (np.fft.ifft(dy, axis=-1) * x.shape[-1]).astype(x.dtype)


def fourier(rng, dtype):
    shape = rng.integers(1, 9, 2)
    x = normal(rng, dtype, *shape) + np.result_type(dtype, np.complex64).type(1j) * normal(rng, dtype, *shape)
    return Case("fourier", fourier_forward, fourier_backward, (x,))


LAYERS = (dense, relu, max_pool, cross_entropy, batch_norm, sigmoid, tanh, conv, network, fourier)


def right_case(seed: int) -> Case:
    """The case of a seed: every layer in turn, float64 and float32 alternating."""
    rng = np.random.default_rng(seed)
    dtype = (np.float64, np.float32)[seed // len(LAYERS) % 2]
    return LAYERS[seed % len(LAYERS)](rng, dtype)


def blame(seed: int) -> str:
    """Check the case of a seed; empty if nothing is blamed, else the report."""
    case = right_case(seed)
    report = check(case.forward, case.backward, case.inputs, axes=case.axes, cached=case.cached, seed=seed)
    return "" if report else f"seed {seed}: {case.name}\n{report}"
