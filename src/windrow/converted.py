"""Convolution of numbers that the core has no sums for: float16 and bfloat16, complex numbers, integers.

Each is brought into float32 or float64 a few images at a time, convolved by the plain operation, and brought
back, so that no converted batch is held.

- float16 and bfloat16: sums in float32, every result rounded once.
- complex: real and imaginary parts are channels and filters of their own. A complex convolution is then one
  real convolution of twice as many, whose gradients come out as those by the conjugate, which is PyTorch's.
- integers: sums in float64 (or float32), which are exact while a bound on them stays below 2**53 (2**24);
  numbers too large for that are cut into halves of their bits.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import convolution
from .arguments import Shape, show
from .arrays import Array, as_operand, check_out, empty, empty_images, is_channels_last
from .geometry import check_shape, conv_geometry

_BLOCK_BYTES = 4 << 20  # of converted images held at a time; of one image where that is larger
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32")


def conv(x: Any, w: Any, b: Any, options: dict[str, Any], out: Array | None) -> Array:
    """`windrow.conv` of float16, bfloat16 or complex numbers."""
    dtype = common({"x": x, "w": w, "b": b})
    geometry = _geometry(x.shape, w.shape, options)
    if b is not None:
        check_shape("b", b.shape, (geometry.k,))
    if out is not None:
        y = check_out(out, geometry.y_shape, dtype, {"x": x, "w": w, "b": b})
    else:
        y = empty_images("y", geometry.y_shape, dtype, channels_last=is_channels_last(x))
    groups = geometry.groups
    filters, bias = _filters(w, groups), None if b is None else _planes(b[None], groups)[0]
    for part in _blocks(x):
        sums = convolution.conv(_planes(x[part], groups), filters, bias, **options)
        y[part] = _numbers(sums, groups, dtype)
    return y if out is None else out


def conv_grad_input(
    dy: Any, w: Any, x_shape: Shape, options: dict[str, Any], out: Array | None, accumulate: bool, last: bool
) -> Array:
    """`windrow.conv_grad_input` of the same."""
    dtype = common({"dy": dy, "w": w})
    geometry = _geometry(x_shape, w.shape, options, x_name="x_shape")
    check_shape("dy", dy.shape, geometry.y_shape)
    target = convolution._checked_accumulator(out, accumulate, x_shape, dtype, {"dy": dy, "w": w})
    dx = empty_images("dx", x_shape, dtype, channels_last=last) if target is None else target
    groups = geometry.groups
    filters = _filters(w, groups)
    for part in _blocks(dy):
        shape = (part.stop - part.start, x_shape[1] * _parts(dtype), *x_shape[2:])
        sums = convolution.conv_grad_input(_planes(dy[part], groups), filters, shape, **options)
        _put(dx[part], _numbers(sums, groups, dtype), accumulate)
    return dx if out is None else out


def conv_grad_weight(
    dy: Any, x: Any, w_shape: Shape, options: dict[str, Any], out: Array | None, accumulate: bool
) -> Array:
    """`windrow.conv_grad_weight` of the same."""
    dtype = common({"dy": dy, "x": x})
    geometry = _geometry(x.shape, w_shape, options, w_name="w_shape")
    check_shape("dy", dy.shape, geometry.y_shape)
    target = convolution._checked_accumulator(out, accumulate, w_shape, dtype, {"dy": dy, "x": x})
    dw = empty("dw", w_shape, dtype) if target is None else target
    parts, groups = _parts(dtype), geometry.groups
    shape = (w_shape[0] * parts, w_shape[1] * parts, *w_shape[2:])
    sums = np.zeros(shape, _real(dtype))
    for part in _blocks(x):
        planes = _planes(dy[part], groups), _planes(x[part], groups)
        convolution.conv_grad_weight(*planes, shape, **options, out=sums, accumulate=part.start > 0)
    if parts == 2:
        real, imaginary = _of_filters(sums, groups)
        both = np.empty(w_shape, dtype)
        both.real = (real[:, :, 0] + imaginary[:, :, 1]).reshape(w_shape)
        both.imag = (imaginary[:, :, 0] - real[:, :, 1]).reshape(w_shape)
        sums = both
    _put(dw, sums, accumulate)
    return dw if out is None else out


def conv_backward(dy: Any, x: Any, w: Any, options: dict[str, Any], needs: Any) -> convolution.ConvGradients:
    """`windrow.conv_backward` of the same."""
    wanted = convolution._checked_needs(needs)
    dtype = common({"dy": dy, "x": x, "w": w})
    check_shape("dy", dy.shape, _geometry(x.shape, w.shape, options).y_shape)
    dx = dw = db = None
    if "x" in wanted:
        dx = conv_grad_input(dy, w, x.shape, options, None, False, is_channels_last(x))
    if "w" in wanted:
        dw = conv_grad_weight(dy, x, w.shape, options, None, False)
    if "b" in wanted:
        db = conv_grad_bias(dy, dtype)
    return convolution.ConvGradients(dx, dw, db)


def conv_grad_bias(dy: Array, dtype: np.dtype[Any]) -> Array:
    """`windrow.conv_grad_bias` of the same."""
    db = np.zeros(dy.shape[1] * _parts(dtype), _real(dtype))
    for part in _blocks(dy):
        convolution.conv_grad_bias(_planes(dy[part], 1), out=db, accumulate=True)
    numbers: Array = _numbers(db[None], 1, dtype)[0]
    return numbers


def conv_integers(
    x: Any, w: Any, b: Any, options: dict[str, Any], accumulator: Any, out: Array | None
) -> Array:
    """`windrow.conv` of integers, exact in an accumulator of 32 or 64 bits, or an OverflowError."""
    x, w = as_operand("x", x), as_operand("w", w)
    b = None if b is None else as_operand("b", b)
    dtype = checked_integers(x, w, b, accumulator)
    geometry = _geometry(x.shape, w.shape, options)
    if b is not None:
        check_shape("b", b.shape, (geometry.k,))
    target = None
    if out is not None:
        target = check_out(out, geometry.y_shape, dtype, {"x": x, "w": w, "b": b})
    most = np.iinfo(dtype).max
    offset = 0 if b is None else _largest(b)
    bound = _largest(x) * _row_sum(w) + offset
    if bound >= 2**63:
        raise OverflowError(f"accumulator: expected sums that 64 bits hold, got a bound of {bound} for them")
    y = empty_images("y", geometry.y_shape, dtype, channels_last=is_channels_last(x))
    for part in _blocks(x):
        sums = _exact(x[part].astype(np.int64), w.astype(np.int64), {**options, "algorithm": "direct"})
        if b is not None:
            sums += b.astype(np.int64).reshape(-1, *(1,) * (sums.ndim - 2))
        if bound > most and _largest(sums) > most and (sums.max() > most or sums.min() < -most - 1):
            raise OverflowError(
                f"accumulator: expected sums that {dtype} holds, got {sums.min()} to {sums.max()}; "
                "take accumulator=np.int64"
            )
        y[part] = sums
    if target is None or out is None:
        return y
    target[...] = y
    return out


def checked_integers(x: Array, w: Array, b: Array | None, accumulator: Any) -> np.dtype[Any]:
    """The accumulator's dtype, once the operands are known to be integers for it."""
    try:
        dtype: np.dtype[Any] = np.dtype(accumulator)
    except TypeError:
        dtype = np.dtype(object)
    if dtype not in (np.int32, np.int64):
        raise TypeError(f"accumulator: expected int32 or int64, got {show(accumulator)}")
    for name, operand in {"x": x, "w": w}.items():
        if operand.dtype.name not in _INTEGERS:
            raise TypeError(
                f"{name}: expected integers of 8, 16 or 32 bits with accumulator=, got {operand.dtype}"
            )
    if b is not None and b.dtype != dtype and b.dtype.name not in _INTEGERS:
        raise TypeError(f"b: expected integers that {dtype} holds, got {b.dtype}")
    return dtype


def _exact(x: Array, w: Array, options: dict[str, Any]) -> Array:
    """The sums of integers in int64: by floats that hold them, or in halves of the larger operand's bits."""
    bound = _largest(x) * _row_sum(w)
    for kind, limit in ((np.float32, 2**24), (np.float64, 2**53)):
        if bound <= limit:
            return convolution.conv(x.astype(kind), w.astype(kind), **options).astype(np.int64)
    wide_x = _largest(x) >= _largest(w)
    larger = x if wide_x else w
    bits = _largest(larger).bit_length() // 2
    high = larger >> bits
    low = larger - (high << bits)
    if wide_x:
        return (_exact(high, w, options) << bits) + _exact(low, w, options)
    return (_exact(x, high, options) << bits) + _exact(x, low, options)


def _largest(array: Array) -> int:
    """The greatest magnitude, as an int that cannot overflow."""
    return max(-int(array.min()), int(array.max())) if array.size else 0


def _row_sum(w: Array) -> int:
    """The greatest sum of the magnitudes of a filter."""
    magnitudes = np.abs(w.astype(np.int64)).reshape(len(w), -1) if w.size else np.zeros((1, 1), np.int64)
    return int(magnitudes.sum(axis=1).max())


# Numbers to reals and back


def common(operands: dict[str, Any]) -> np.dtype[Any]:
    """The one dtype of these operands; those that are None have no say."""
    dtype: np.dtype[Any] = next(iter(operands.values())).dtype.newbyteorder("=")
    first = next(iter(operands))
    for name, operand in operands.items():
        if operand is not None and operand.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"{name}: expected {dtype}, the dtype of {first}, got {operand.dtype}")
    return dtype


def _geometry(x_shape: Shape, w_shape: Shape, options: dict[str, Any], **names: str) -> Any:
    geometry = conv_geometry(
        x_shape,
        w_shape,
        options["stride"],
        options["padding"],
        options["dilation"],
        options["groups"],
        **names,
    )
    convolution._checked_options(options["algorithm"], options["max_workspace"], geometry)
    return geometry


def _parts(dtype: np.dtype[Any]) -> int:
    return 2 if dtype.kind == "c" else 1


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.complex128 else np.float32)


def _blocks(images: Array) -> Iterator[slice]:
    """A few images at a time, at least one block: the cut depends on the shape of an image alone."""
    step = max(1, _BLOCK_BYTES // max(1, images[:1].size * 8))
    for first in range(0, max(1, len(images)), step):
        yield slice(first, min(len(images), first + step))


def _planes(array: Array, groups: int) -> Array:
    """Channels as reals: for complex numbers, the real parts of a group before its imaginary parts."""
    if array.dtype.kind != "c":
        return array.astype(np.float32)
    n, c, *spatial = array.shape
    planes = np.empty((n, groups, 2, c // groups, *spatial), _real(array.dtype.newbyteorder("=")))
    grouped = array.reshape(n, groups, c // groups, *spatial)
    planes[:, :, 0], planes[:, :, 1] = grouped.real, grouped.imag
    return planes.reshape(n, 2 * c, *spatial)


def _numbers(planes: Array, groups: int, dtype: np.dtype[Any]) -> Array:
    """And back, rounded once."""
    if dtype.kind != "c":
        with np.errstate(over="ignore"):
            return planes.astype(dtype)
    n, c, *spatial = planes.shape
    parts = planes.reshape(n, groups, 2, c // 2 // groups, *spatial)
    array = np.empty((n, c // 2, *spatial), dtype)
    array.real, array.imag = (parts[:, :, i].reshape(array.shape) for i in range(2))
    return array


def _filters(w: Array, groups: int) -> Array:
    """Filters for `_planes`: (wr, -wi) gives the real parts of a group, (wi, wr) the imaginary ones."""
    if w.dtype.kind != "c":
        return w.astype(np.float32)
    k, c, *kernel = w.shape
    filters = np.empty((2 * k, 2 * c, *kernel), _real(w.dtype.newbyteorder("=")))
    real, imaginary = _of_filters(filters, groups)
    grouped = w.reshape(groups, k // groups, c, *kernel)
    real[:, :, 0], real[:, :, 1] = grouped.real, -grouped.imag
    imaginary[:, :, 0], imaginary[:, :, 1] = grouped.imag, grouped.real
    return filters


def _of_filters(filters: Array, groups: int) -> tuple[Array, Array]:
    """Views (group, filter, channel part, channel, kernel...) of the filters for real and imaginary parts."""
    k, c, *kernel = filters.shape
    parts = filters.reshape(groups, 2, k // 2 // groups, 2, c // 2, *kernel)
    return parts[:, 0], parts[:, 1]


def _put(target: Array, value: Array, accumulate: bool) -> None:
    with np.errstate(all="ignore"):
        if accumulate:
            target += value
        else:
            target[...] = value
