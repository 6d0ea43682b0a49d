"""How far a right result may be from the exact one: every tolerance is a formula in this file."""

from typing import Any

import numpy as np

from windrow import reference


def dot_error_factor(chunk: int, terms: int) -> int:
    """(chunk + number of chunks): the roundings of a sum of products that is split into partial sums.

    Each product passes through at most ``chunk`` roundings inside its partial sum, and each partial sum
    through one per chunk (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2).
    """
    return min(chunk, terms) + -(-terms // chunk)


def conv_error_bound(x: Any, w: Any, b: Any = None, *, chunk: int, dtype: Any = None, **geometry: Any) -> Any:
    """Per entry of y: ``(chunk + number of chunks) * eps * conv(|x|, |w|)``, one more eps for the bias."""
    terms = int(np.prod(w.shape[1:]))
    sizes = None if b is None else np.abs(b)
    size = reference.conv(*_magnitudes(x, w), sizes, **geometry)
    return _bound(size, chunk, terms + (b is not None), dtype or np.result_type(x, w))


def conv_grad_input_error_bound(
    dy: Any, w: Any, x_shape: Any, *, chunk: int, groups: int = 1, dtype: Any = None, **geometry: Any
) -> Any:
    """Per entry of dx: at most every tap of every filter of the group is a term."""
    terms = w.shape[0] // groups * int(np.prod(w.shape[2:]))
    size = reference.conv_grad_input(*_magnitudes(dy, w), x_shape, groups=groups, **geometry)
    return _bound(size, chunk, terms, dtype or np.result_type(dy, w))


def conv_grad_weight_error_bound(
    dy: Any, x: Any, w_shape: Any, *, chunk: int, dtype: Any = None, **geometry: Any
) -> Any:
    """Per entry of dw: every output pixel of every image is a term."""
    terms = dy.shape[0] * int(np.prod(dy.shape[2:]))
    size = reference.conv_grad_weight(*_magnitudes(dy, x), w_shape, **geometry)
    return _bound(size, chunk, terms, dtype or np.result_type(dy, x))


def conv_grad_bias_error_bound(dy: Any, *, chunk: int, dtype: Any = None) -> Any:
    """Per entry of db: a plain sum of dy over images and positions."""
    terms = dy.shape[0] * int(np.prod(dy.shape[2:]))
    return _bound(reference.conv_grad_bias(np.abs(dy)), chunk, terms, dtype or dy.dtype)


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


def _bound(size: Any, chunk: int, terms: int, dtype: Any) -> Any:
    info = np.finfo(dtype)
    # Results below the smallest normal number lose up to one subnormal step each.
    relative = dot_error_factor(chunk, max(terms, 1)) * info.eps
    return relative * size.astype(np.float64) + terms * info.smallest_subnormal
