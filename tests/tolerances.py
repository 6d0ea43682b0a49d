"""How far a right result may be from the exact one: every tolerance is a formula in this file."""

from math import gcd
from typing import Any

import numpy as np

from windrow import reference


def dot_error_factor(chunk: int, terms: int) -> int:
    """(chunk + number of chunks): the roundings of a sum of products that is split into partial sums.

    A product goes through at most ``chunk`` roundings inside its partial sum, its own included, and through
    one for each further partial sum; the one that is left is the bias, or what is accumulated to
    (docs/numerics.md; Higham, Accuracy and Stability of Numerical Algorithms, sections 3.1 and 4.2).
    """
    return min(chunk, terms) + -(-terms // chunk)


def conv_error_bound(x: Any, w: Any, b: Any = None, *, chunk: int, dtype: Any = None, **geometry: Any) -> Any:
    """Per entry of y: ``(chunk + number of chunks) * eps * (conv(|x|, |w|) + |b|)``."""
    terms = int(np.prod(w.shape[1:]))
    sizes = None if b is None else np.abs(b)
    size = reference.conv(*_magnitudes(x, w), sizes, **geometry)
    return _bound(size, dot_error_factor(chunk, terms), terms, dtype or np.result_type(x, w))


def conv_grad_input_error_bound(
    dy: Any, w: Any, x_shape: Any, *, chunk: int, groups: int = 1, dtype: Any = None, **geometry: Any
) -> Any:
    """Per entry of dx: the terms are the taps of every filter of the group, at most those of one phase."""
    terms = w.shape[0] // groups
    win = reference.windows(
        x_shape[2:],
        w.shape[2:],
        geometry.get("stride", 1),
        geometry.get("padding", 0),
        geometry.get("dilation", 1),
    )
    for kernel, stride, dilation in zip(win.kernel, win.stride, win.dilation, strict=True):
        terms *= -(-kernel // (stride // gcd(stride, dilation)))
    size = reference.conv_grad_input(*_magnitudes(dy, w), x_shape, groups=groups, **geometry)
    return _bound(size, dot_error_factor(chunk, terms), terms, dtype or np.result_type(dy, w))


def conv_grad_weight_error_bound(
    dy: Any, x: Any, w_shape: Any, *, roundings: int, dtype: Any = None, **geometry: Any
) -> Any:
    """Per entry of dw: every output pixel of every image is a term; `explain` tells the roundings, since they
    depend on how the pixels are cut into boxes."""
    terms = dy.shape[0] * int(np.prod(dy.shape[2:]))
    size = reference.conv_grad_weight(*_magnitudes(dy, x), w_shape, **geometry)
    return _bound(size, roundings, terms, dtype or np.result_type(dy, x))


def conv_grad_bias_error_bound(dy: Any, *, chunk: int, dtype: Any = None) -> Any:
    """Per entry of db: 16 sums, 4 levels of adding them, then blocks and images in turn."""
    pixels = int(np.prod(dy.shape[2:]))
    in_block = -(-min(pixels, 16 * chunk) // 16)
    roundings = in_block + 4 + -(-pixels // (16 * chunk)) + dy.shape[0]
    # A sum of values that are given exactly loses nothing to underflow.
    return _bound(reference.conv_grad_bias(np.abs(dy)), roundings, 0, dtype or dy.dtype)


def fold_error_bound(cols: Any, output_size: Any, kernel_size: Any, **geometry: Any) -> Any:
    """Per pixel: ``taps * eps`` of the summed magnitudes; one rounding to the result's own type included."""
    dtype = np.dtype(cols.dtype)
    terms = int(np.prod(reference.windows(output_size, kernel_size).kernel))
    size = reference.fold(
        np.abs(cols).astype(np.float64), output_size, kernel_size, form="indices", **geometry
    )
    return (terms + 1) * np.finfo(dtype).eps * size


def lp_pool_roundings(kernel: Any, p: float) -> float:
    """Of a norm, in its own size: p in each power, one for each term, all divided by p, and the root."""
    return (p + int(np.prod(kernel))) / p + 4 if p < np.inf else 0


def lp_pool_backward_roundings(kernel: Any, p: float) -> float:
    """Of a gradient, in the size of its magnitudes; of the greatest value only sums of dy are rounded."""
    taps = int(np.prod(kernel))
    return (p - 1) * lp_pool_roundings(kernel, p) + 2 * p + taps + 6 if p < np.inf else taps + 1


def _magnitudes(*arrays: Any) -> list[Any]:
    return [np.abs(a) for a in arrays]


def _bound(size: Any, roundings: int, terms: int, dtype: Any) -> Any:
    info = np.finfo(dtype)
    # A product below the smallest normal number loses up to one subnormal step.
    return roundings * info.eps * size.astype(np.float64) + terms * info.smallest_subnormal


def winograd_matrices(tile: int) -> tuple[Any, Any, Any]:
    """A, G and B of docs/numerics.md."""
    if tile == 2:
        return (
            np.array([[1, 1, 1, 0], [0, 1, -1, 1]], float),
            np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
            np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]], float),
        )
    a, b = np.sqrt(0.5), np.sqrt(2.0)
    points = np.array([0, a, -a, b, -b])
    output = np.array([[*points**i, float(i == 3)] for i in range(4)])
    scale = np.array([1, -1.5, -1.5, 6, 6])
    weights = np.array(
        [[p**k / s for k in range(3)] for p, s in zip(points, scale, strict=True)] + [[0, 0, 1]]
    )
    into = np.array(
        [
            [1, 0, -2.5, 0, 1, 0],
            [0, -2 * a, -2, a, 1, 0],
            [0, 2 * a, -2, -a, 1, 0],
            [0, -b / 2, -0.5, b, 1, 0],
            [0, b / 2, -0.5, -b, 1, 0],
            [0, 1, 0, -2.5, 0, 1],
        ]
    )
    return output, weights, into


def winograd_error_bound(
    x: Any,
    w: Any,
    before: Any,
    out_size: Any,
    *,
    tile: int,
    roundings: int,
    dtype: Any,
    groups: int = 1,
    stride: Any = (1, 1),
    dilation: Any = (1, 1),
) -> Any:
    """Per entry of y: ``roundings * eps`` of the sum that Winograd's tiles make of the magnitudes.

    ``before`` may be negative: where x begins, seen from the first window.
    """
    outer, shape = x.ndim - 4, (x.shape[0], w.shape[0], *out_size)
    if outer > 0:
        x, w = _planes(x, w, before, out_size, groups, stride, dilation)
        before, out_size, dilation = before[outer:], out_size[outer:], dilation[outer:]
    seen = _seen(x, before, out_size, dilation)
    y = np.zeros((x.shape[0], w.shape[0], *out_size))
    for first in np.ndindex(*(min(o, d) for o, d in zip(out_size, dilation, strict=True))):
        phase = (..., *(slice(f, None, d) for f, d in zip(first, dilation, strict=True)))
        y[phase] = _sums_of_tiles(seen[phase], np.abs(w).astype(float), tile, groups)
    if outer > 0:  # images times planes of one
        y = np.moveaxis(y.reshape(shape[0], *shape[2 : 2 + outer], shape[1], *out_size), 1 + outer, 1)
    return roundings * np.finfo(dtype).eps * y


def _seen(x: Any, before: Any, out_size: Any, dilation: Any) -> Any:
    """Magnitudes of what windows of 3 x 3 taps see of x, zeros outside."""
    seen = np.zeros((*x.shape[:2], *(o + 2 * d for o, d in zip(out_size, dilation, strict=True))))
    place, part = [], []
    for axis, first in enumerate(before):
        low = max(0, -first)
        high = max(low, min(x.shape[2 + axis], seen.shape[2 + axis] - first))
        part.append(slice(low, high))
        place.append(slice(low + first, high + first))
    seen[:, :, *place] = np.abs(x[:, :, *part])
    return seen


def _place_seen(
    position: Any, tap: Any, before: Any, size: Any, stride: Any, dilation: Any
) -> list[int] | None:
    """Along the axes before the last two, where a tap of the window at a position reads x; None outside."""
    at = [p * s + t * d - b for p, t, b, s, d in zip(position, tap, before, stride, dilation, strict=False)]
    return at if all(0 <= p < s for p, s in zip(at, size, strict=False)) else None


def _planes(
    x: Any, w: Any, before: Any, out_size: Any, groups: int, stride: Any, dilation: Any
) -> tuple[Any, Any]:
    """The same convolution over two axes: every position of the axes before these is an image of its own, and
    every tap of theirs has channels of its own."""
    n, c, *size = x.shape
    outer = len(size) - 2
    positions = list(np.ndindex(*out_size[:outer]))
    taps = list(np.ndindex(*w.shape[2 : 2 + outer]))
    planes = np.zeros((n, len(positions), groups, len(taps), c // groups, *size[outer:]), x.dtype)
    split = x.reshape(n, groups, c // groups, *size)
    for i, position in enumerate(positions):
        for j, tap in enumerate(taps):
            at = _place_seen(position, tap, before, size, stride, dilation)
            if at is not None:
                planes[:, i, :, j] = split[:, :, :, *at]
    factors = np.moveaxis(w.reshape(w.shape[0], w.shape[1], len(taps), *w.shape[2 + outer :]), 2, 1)
    return (
        planes.reshape(n * len(positions), groups * len(taps) * (c // groups), *size[outer:]),
        factors.reshape(w.shape[0], len(taps) * w.shape[1], *w.shape[2 + outer :]),
    )


def _sums_of_tiles(x: Any, w: Any, tile: int, groups: int) -> Any:
    """What tiles of magnitudes make of all windows without dilation in x."""
    output, weights, into = (np.abs(m) for m in winograd_matrices(tile))
    n, c, *size = x.shape
    tiles = [-(-(s - 2) // tile) for s in size]
    padded = np.zeros((n, c, *(t * tile + 2 for t in tiles)))
    padded[:, :, : size[0], : size[1]] = x
    windows = np.lib.stride_tricks.sliding_window_view(padded, (tile + 2, tile + 2), (2, 3))
    d = into @ windows[:, :, ::tile, ::tile] @ into.T
    u = weights @ w @ weights.T
    sums = np.concatenate(
        [
            np.einsum("kcij,nctuij->nktuij", uk, dk)
            for uk, dk in zip(np.split(u, groups), np.split(d, groups, 1), strict=True)
        ],
        1,
    )
    y = (output @ sums @ output.T).transpose(0, 1, 2, 4, 3, 5)
    return y.reshape(n, w.shape[0], tiles[0] * tile, tiles[1] * tile)[:, :, : size[0] - 2, : size[1] - 2]


def winograd_grad_weight_error_bound(
    dy: Any,
    x: Any,
    w_shape: Any,
    before: Any,
    *,
    roundings: int,
    dtype: Any,
    groups: int = 1,
    stride: Any = (1, 1),
    dilation: Any = (1, 1),
) -> Any:
    """Per entry of dw: ``roundings * eps`` of the sum that tiles of 4 x 4 results make of the magnitudes."""
    outer, dw = x.ndim - 4, np.zeros(w_shape)
    for tap in np.ndindex(*w_shape[2 : 2 + outer]):
        planes = np.zeros((*dy.shape[2 : 2 + outer], *x.shape[:2], *x.shape[2 + outer :]))
        for place in np.ndindex(*dy.shape[2 : 2 + outer]):
            at = _place_seen(place, tap, before, x.shape[2:], stride, dilation)
            if at is not None:
                planes[place] = np.abs(x[:, :, *at])
        results = np.abs(np.moveaxis(dy, range(2, 2 + outer), range(outer)))
        dw[:, :, *tap] = _taps_of_tiles(
            results.reshape(-1, *dy.shape[1:2], *dy.shape[2 + outer :]),
            planes.reshape(-1, *planes.shape[outer + 1 :]),
            before[outer:],
            dilation[outer:],
            groups,
        )
    return roundings * np.finfo(dtype).eps * dw


def _taps_of_tiles(dy: Any, x: Any, before: Any, dilation: Any, groups: int) -> Any:
    """What tiles of magnitudes sum to for the 3 x 3 taps of images of two axes."""
    output, weights, into = (np.abs(m) for m in winograd_matrices(4))
    seen = _seen(x, before, dy.shape[2:], dilation)
    sums: Any = 0
    for first in np.ndindex(*(min(o, d) for o, d in zip(dy.shape[2:], dilation, strict=True))):
        phase = (..., *(slice(f, None, d) for f, d in zip(first, dilation, strict=True)))
        results, pixels = dy[phase], seen[phase]
        over = [-s % 4 for s in results.shape[2:]]
        results = np.pad(results, ((0, 0), (0, 0), *((0, o) for o in over)))
        short = [r + 2 - p for r, p in zip(results.shape[2:], pixels.shape[2:], strict=True)]
        pixels = np.pad(pixels, ((0, 0), (0, 0), *((0, max(0, s)) for s in short)))
        tiles = [s // 4 for s in results.shape[2:]]
        results = results.reshape(*results.shape[:2], tiles[0], 4, tiles[1], 4).swapaxes(3, 4)
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (6, 6), (2, 3))
        d = into @ windows[:, :, ::4, ::4][:, :, : tiles[0], : tiles[1]] @ into.T
        r = output.T @ results @ output
        sums = sums + np.concatenate(
            [
                np.einsum("nktuij,nctuij->kcij", rk, dk)
                for rk, dk in zip(np.split(r, groups, 1), np.split(d, groups, 1), strict=True)
            ]
        )
    return weights.T @ sums @ weights


def reserved(told: int) -> int:
    """What an arena reserves for so many bytes: 256 KiB at least; whole huge pages above half of one."""
    return max(1 << 18, told if told <= 1 << 20 else -(-told // (1 << 21)) * (1 << 21))
