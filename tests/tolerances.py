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


def _magnitudes(*arrays: Any) -> list[Any]:
    return [np.abs(a) for a in arrays]


def _bound(size: Any, roundings: int, terms: int, dtype: Any) -> Any:
    info = np.finfo(dtype)
    # A product below the smallest normal number loses up to one subnormal step.
    return roundings * info.eps * size.astype(np.float64) + terms * info.smallest_subnormal
