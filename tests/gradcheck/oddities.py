"""Right functions that are awkward to differentiate: ill-scaled, cancelling, kinked, in less precision."""

import functools

import numpy as np
from tests.gradcheck.layers import Case, cross_entropy_backward, cross_entropy_forward, normal, relu_forward


def softmax(scores):
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v):
    return softmax(q @ k.T / np.sqrt(q.shape[1]).astype(q.dtype)) @ v


def attention_backward(dy, q, k, v):
    root = np.sqrt(q.shape[1]).astype(q.dtype)
    p = softmax(q @ k.T / root)
    dp = dy @ v.T
    ds = p * (dp - (dp * p).sum(-1, keepdims=True))
    return ds @ k / root, ds.T @ q / root, p.T @ dy


def layer_norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + x.dtype.type(1e-5))


def layer_norm_backward(dy, x):
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + x.dtype.type(1e-5))
    hat = centred * inverse
    return inverse * (dy - dy.mean(-1, keepdims=True) - hat * (dy * hat).mean(-1, keepdims=True))


def inverse_backward(dy, a):
    inverse = np.linalg.inv(a).T
    return -(inverse @ dy @ inverse)


def solve_backward(dy, a, b):
    db = np.linalg.solve(a.T, dy)
    return -np.outer(db, np.linalg.solve(a, b)), db


def sort_backward(dy, x):
    dx = np.empty_like(x)
    dx[np.argsort(x, kind="stable")] = dy
    return dx


def float32_only(function):
    @functools.wraps(function)
    def narrow(*arrays):
        if any(np.asarray(array).dtype == np.float64 for array in arrays):
            raise TypeError("float32 only")
        return function(*arrays)

    return narrow


def oddities(seed, dtype):
    """Every one of them, on the data of a seed."""
    rng = np.random.default_rng(seed)
    n = functools.partial(normal, rng, dtype)
    matrix = n(5, 5) + 5 * np.eye(5, dtype=dtype)
    mask = (rng.random((5, 6)) < 0.5).astype(dtype) * 2
    big = dtype(1e20)
    unit = np.result_type(dtype, np.complex64).type(1j)

    def tanh_backward(dy, x):
        return dy * (1 - np.tanh(x) ** 2)

    return [
        Case("inverse", np.linalg.inv, inverse_backward, (matrix,)),
        Case("solve", np.linalg.solve, solve_backward, (matrix, n(5))),
        Case("log_det", lambda a: np.linalg.slogdet(a)[1], lambda dy, a: dy * np.linalg.inv(a).T, (matrix,)),
        Case("cumsum", np.cumsum, lambda dy, x: np.cumsum(dy[::-1])[::-1], (n(50),)),
        Case("sort", np.sort, sort_backward, (n(40),)),
        Case("prod", np.prod, lambda dy, x: dy * np.prod(x) / x, (n(6),)),
        Case("exp", np.exp, lambda dy, x: dy * np.exp(x), (10 * n(30),)),
        Case("reciprocal", lambda x: 1 / x, lambda dy, x: -dy / x**2, (n(30),)),
        Case("sqrt", np.sqrt, lambda dy, x: dy / (2 * np.sqrt(x)), (n(30) ** 2 + dtype(1e-6),)),
        Case("log", np.log, lambda dy, x: dy / x, (np.exp(3 * n(30)),)),
        Case("square of wild sizes", np.square, lambda dy, x: 2 * dy * x, (np.exp(5 * n(30)),)),
        Case("cube at zero", lambda x: x**3, lambda dy, x: 3 * dy * x * x, (np.zeros(4, dtype),)),
        Case("attention", attention, attention_backward, (n(4, 3), n(5, 3), n(5, 2))),
        Case("layer norm", layer_norm, layer_norm_backward, (n(4, 8),)),
        Case("layer norm far from zero", layer_norm, layer_norm_backward, (n(4, 8) + dtype(1000),)),
        Case(
            "huge offset",
            lambda x, b: x * x + b,
            lambda dy, x, b: (2 * dy * x, dy),
            (n(8), n(8) + dtype(1e6)),
        ),
        Case(
            "L1 loss at kinks", lambda x: np.abs(x).sum(), lambda dy, x: dy * np.sign(x), (np.round(n(20)),)
        ),
        Case("hinge", lambda x: np.maximum(0, 1 - x).sum(), lambda dy, x: -dy * (x < 1), (np.round(n(20)),)),
        Case("inner float32", lambda x: np.tanh(x.astype(np.float32)).astype(dtype), tanh_backward, (n(30),)),
        Case(
            "inner float32, summed",
            lambda x: np.tanh(x.astype(np.float32)).astype(dtype).sum(),
            tanh_backward,
            (n(30),),
        ),
        Case("dropout", lambda x: x * mask, lambda dy, x: dy * mask, (n(5, 6),)),
        Case("constant", lambda x: np.ones(3, dtype), lambda dy, x: np.zeros_like(x), (n(4),)),
        Case(
            "tiny",
            lambda x: x * x * big,
            lambda dy, x: 2 * dy * x * big,
            (n(6) * dtype(1e-15),),
        ),
        Case("fast", lambda x: np.sin(100 * x), lambda dy, x: 100 * dy * np.cos(100 * x), (n(10),)),
        Case("largest", np.max, lambda dy, x: dy * (x == x.max()), (n(10),)),
        Case("no entries", lambda x: x * 2, lambda dy, x: dy * 2, (np.zeros((0, 3), dtype),)),
        Case("no outputs", lambda x: x[:0] * 2, lambda dy, x: np.zeros_like(x), (n(3),)),
        Case("power", lambda z: (z * z.conj()).real, lambda dy, z: 2 * dy * z, (n(5) + unit * n(5),)),
        Case("complex square", np.square, lambda dy, z: dy * 2 * z.conj(), (n(5) + unit * n(5),)),
        Case("half precision", np.tanh, tanh_backward, (n(30).astype(np.float16),)),
        Case("float32 only", float32_only(np.tanh), tanh_backward, (n(50).astype(np.float32),)),
        Case(
            "ReLU in float32 only",
            float32_only(relu_forward),
            lambda dy, x: dy * (x > 0),
            (n(500).astype(np.float32),),
        ),
        Case(
            "confident", cross_entropy_forward, cross_entropy_backward, (60 * n(6, 5), rng.integers(0, 5, 6))
        ),
    ]
