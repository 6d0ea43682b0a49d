"""Planted defects: a right case, what is done to its gradients, and what the checker must say about it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from tests.gradcheck import layers
from tests.gradcheck.layers import CONV_AXES, Case, normal

from windrow.gradcheck import check


class Defect(NamedTuple):
    name: str
    case: Case
    argument: str
    kinds: tuple[str, ...]  # patterns that name it rightly
    says: str = ""  # must be part of the pattern's text


def spoil(case: Case, position: int, change: Callable[[Any], Any]) -> Case:
    """The case with one of its gradients changed."""

    def backward(dy, *rest):
        gradients = case.backward(dy, *rest)
        if not isinstance(gradients, tuple):
            return change(gradients)
        return tuple(change(g) if k == position else g for k, g in enumerate(gradients))

    return case._replace(backward=backward)


def conv_case(rng, dtype, stride, padding, image, *, channels=None, kernel=None):
    k, c, n = channels or rng.integers(2, 4, 3)
    kernel = kernel or rng.integers(2, 4, 2)
    inputs = (
        normal(rng, dtype, n, c, *image),
        normal(rng, dtype, k, c, *kernel),
        normal(rng, dtype, k),
    )
    return Case("conv", *layers.make_conv(stride, padding), inputs, CONV_AXES)


def dense_case(rng, dtype, n, i, o):
    inputs = (normal(rng, dtype, n, i), normal(rng, dtype, i, o), normal(rng, dtype, o))
    return Case(
        "dense", layers.dense_forward, layers.dense_backward, inputs, {"x": "n i", "w": "i o", "b": "o"}
    )


def place(case, argument, flat, shape):
    index = np.unravel_index(flat, shape)
    names = case.axes.get(argument, "").split() or [""] * len(index)
    inside = ", ".join(f"{name}={i}" if name else str(i) for name, i in zip(names, index))
    return f"d{argument}[{inside}]"


# One entry among 1e5


def large_case(rng, dtype):
    which = rng.integers(5)
    if which == 0:
        case, position, argument = dense_case(rng, dtype, 7, 400, 250), 1, "w"
    elif which == 1:
        case, position, argument = (
            conv_case(rng, dtype, 2, 1, (160, 160), channels=(2, 4, 1), kernel=(3, 3)),
            0,
            "x",
        )
    elif which == 2:
        x = normal(rng, dtype, 100, 1000)
        x[rng.random(x.shape) < 0.1] = 0
        case, position, argument = (
            Case("relu", layers.relu_forward, layers.relu_backward, (x,), {"x": "n d"}),
            0,
            "x",
        )
    elif which == 3:
        x = normal(rng, dtype, 100000)
        case, position, argument = Case("tanh", np.tanh, layers.tanh_backward, (x,)), 0, "x"
    else:
        x = np.round(normal(rng, dtype, 2, 5, 100, 100) * 4) / 4
        case = Case("max_pool", *layers.make_pool(2, 2, False), (x,), {"x": "n c h w"})
        position, argument = 0, "x"
    return case, position, argument


def entry(rng, dtype):
    case, position, argument = large_case(rng, dtype)
    size = case.inputs[position].size
    flat, sign, times = int(rng.integers(size)), rng.choice([-1, 1]), rng.uniform(1, 3)
    # At a corner or a tie another value may be right as well.
    if case.name == "relu":
        flat = int(rng.choice(np.flatnonzero(case.inputs[0])))
    elif case.name == "max_pool":
        ties = layers.make_pool(2, 2, True)[1](np.ones((2, 5, 50, 50), dtype), *case.inputs)
        flat = int(rng.choice(np.flatnonzero(ties == 0)))

    def change(g):
        wrong = g.copy()
        wrong.reshape(-1)[flat] += g.dtype.type(sign * times * np.sqrt(np.mean(g.astype(float) ** 2)))
        return wrong

    where = place(case, argument, flat, case.inputs[position].shape)
    return Defect("entry", spoil(case, position, change), argument, ("entry",), f"only {where} is wrong")


# The mistakes of a convolution


def flipped(rng, dtype):
    case = conv_case(rng, dtype, int(rng.integers(1, 3)), 1, rng.integers(4, 8, 2))
    if rng.random() < 0.5:
        changed = spoil(case, 1, lambda g: g[:, :, ::-1, ::-1])
        return Defect("flipped dw", changed, "w", ("flipped",), "kh and kw")

    def backward(dy, x, w, b):
        right = case.backward(dy, x, w, b)
        return case.backward(dy, x, w[:, :, ::-1, ::-1], b)[0], *right[1:]

    return Defect(
        "flipped kernel", case._replace(backward=backward), "x", ("flipped",), "w flipped along kh and kw"
    )


def phase(rng, dtype):
    stride = int(rng.integers(2, 4))
    # Every pixel is under a window, so that every phase counts.
    image = 3 + stride * (rng.integers(2, 5, 2) if rng.random() < 0.7 else np.array([31, 30]))
    case = conv_case(rng, dtype, stride, 0, image, kernel=(3, 3))
    start = tuple(int(v) for v in rng.integers(0, min(stride, 3), 2))

    def change(g):
        wrong = g.copy()
        wrong[:, :, start[0] :: stride, start[1] :: stride] = 0
        return wrong

    return Defect("phase", spoil(case, 0, change), "x", ("phase",), f"of stride {stride}")


def border(rng, dtype):
    size = rng.integers(4, 9, 2) if rng.random() < 0.7 else (64, 80)
    case = conv_case(rng, dtype, 1, 1, size, kernel=(3, 3))
    which = rng.integers(3)

    def change(g):
        wrong = g.copy()
        if which == 0:
            wrong[:, :, -1, :] = 0
        elif which == 1:
            wrong[..., 0] = wrong[..., 1]
        else:
            wrong[:, :, [0, -1], :] /= 2
            wrong[:, :, 1:-1, [0, -1]] /= 2
        return wrong

    return Defect("border", spoil(case, 0, change), "x", ("border",))


def shifted(rng, dtype):
    case = conv_case(rng, dtype, 1, 1, rng.integers(5, 9, 2), kernel=(3, 3))
    by, axis = int(rng.choice([-1, 1])), int(rng.integers(2, 4))

    def change(g):
        wrong = np.roll(g, by, axis)
        np.moveaxis(wrong, axis, 0)[0 if by > 0 else -1] = 0
        return wrong

    return Defect("shifted", spoil(case, 0, change), "x", ("shifted",), "hw"[axis - 2])


def channel(rng, dtype):
    case = conv_case(rng, dtype, 1, 1, rng.integers(4, 7, 2), channels=(3, 4, 2), kernel=(3, 3))
    c = int(rng.integers(1, 3))

    def change(g):
        wrong = g.copy()
        wrong[:, c] *= g.dtype.type(1.5)
        return wrong

    return Defect("channel", spoil(case, 0, change), "x", ("index",), f"only c={c} is wrong: 1.5 times")


# Factors, signs, transposes, sums


def small_case(rng, dtype):
    makers = (
        lambda: dense_case(rng, dtype, *rng.integers(2, 9, 3)),
        lambda: conv_case(rng, dtype, int(rng.integers(1, 3)), 1, rng.integers(4, 8, 2)),
        lambda: Case("tanh", np.tanh, layers.tanh_backward, (normal(rng, dtype, 5, 6),)),
        lambda: Case(
            "cross_entropy",
            layers.cross_entropy_forward,
            layers.cross_entropy_backward,
            (normal(rng, dtype, 6, 5), rng.integers(0, 5, 6)),
        ),
        lambda: Case(
            "batch_norm",
            layers.batch_norm_forward,
            layers.batch_norm_backward,
            (normal(rng, dtype, 8, 3), normal(rng, dtype, 3), normal(rng, dtype, 3)),
            {"x": "n d", "gamma": "d", "beta": "d"},
            True,
        ),
        lambda: Case("relu", layers.relu_forward, layers.relu_backward, (normal(rng, dtype, 9, 7),)),
        lambda: Case("max_pool", *layers.make_pool(2, 2, False), (np.round(normal(rng, dtype, 2, 2, 8, 8)),)),
        lambda: layers.network(rng, dtype),
    )
    case = makers[rng.integers(len(makers))]()
    names = {"tanh": ["x"], "cross_entropy": ["scores"], "batch_norm": ["x", "gamma", "beta"]}
    names |= {"relu": ["x"], "max_pool": ["x"], "network": ["x", "w1", "b1", "w2"]}
    found = names.get(case.name, ["x", "w", "b"])
    position = int(rng.integers(len(found)))
    return case, position, found[position]


def factor(rng, dtype):
    case, position, argument = small_case(rng, dtype)
    by = dtype(1) + dtype(1e-3 if dtype is np.float64 else 1e-2)
    return Defect(
        "factor", spoil(case, position, lambda g: g * by), argument, ("factor",), f"factor {by:.3g}"[:11]
    )


def sign(rng, dtype):
    case, position, argument = small_case(rng, dtype)
    return Defect("sign", spoil(case, position, lambda g: -g), argument, ("sign",))


def transposed(rng, dtype):
    if rng.random() < 0.5:
        i = int(rng.integers(2, 9))
        o = i if rng.random() < 0.6 else int(rng.integers(2, 9))
        case = dense_case(rng, dtype, 5, i, o)
        return Defect("transposed", spoil(case, 1, np.transpose), "w", ("transposed",))
    case = conv_case(rng, dtype, 1, 1, (5, 6), channels=(3, 3, 2), kernel=(3, 2))
    return Defect("transposed", spoil(case, 1, lambda g: g.swapaxes(0, 1)), "w", ("transposed",), "k and c")


def batch(rng, dtype):
    if rng.random() < 0.5:
        case = dense_case(rng, dtype, *rng.integers(2, 7, 3))
        axes = ()
    else:
        case = conv_case(rng, dtype, 1, 1, rng.integers(4, 7, 2))
        axes = (2, 3)
    first = rng.random() < 0.5

    def backward(dy, x, w, b):
        dx, dw, _ = case.backward(dy, x, w, b)
        each = dy.sum(axis=axes) if axes else dy
        return dx, dw, each[0] if first else each

    return Defect("batch", case._replace(backward=backward), "b", ("batch",), "batch")


KINDS = (entry, flipped, phase, border, shifted, channel, factor, sign, transposed, batch)


def defect(seed: int) -> Defect:
    """The defect of a seed: every kind in turn, float64 and float32 alternating."""
    rng = np.random.default_rng(10_000 + seed)
    dtype = (np.float64, np.float32)[seed // len(KINDS) % 2]
    return KINDS[seed % len(KINDS)](rng, dtype)


def diagnosis(seed: int) -> str:
    """Check the defect of a seed; empty if it is caught and named, else what came instead."""
    planted = defect(seed)
    case = planted.case
    report = check(case.forward, case.backward, case.inputs, axes=case.axes, cached=case.cached, seed=seed)
    blamed = {row.argument for row in report.failures}
    said = [pattern for pattern in report.patterns if pattern.argument == planted.argument]
    named = any(pattern.kind in planted.kinds and planted.says in pattern.text for pattern in said)
    if blamed == {planted.argument} and named:
        return ""
    expected = f"{planted.name} of d{planted.argument} ({' or '.join(planted.kinds)}: {planted.says!r})"
    return f"seed {seed}: expected {expected}, got {[p.text for p in said]}\n{report}"
