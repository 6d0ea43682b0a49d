"""Acceptance of arrays: what comes in, what may be written to, and how results are allocated.

Inputs are taken as they are: any strides, alignment, byte order or flags. Nothing here copies or casts an
ndarray, except `native`, whose copy is documented.
"""

import operator
import sys
from collections.abc import Mapping
from math import prod
from typing import Any, TypeAlias

import numpy as np

from .arguments import MAX_SIZE, Shape, show

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

OVERLAP_WORK = 100_000  # steps of an exact search for shared memory; some 50 ms, real arrays need a few

_FLOATS = (np.float32, np.float64)
_SUMMABLE = (np.float16, np.float32, np.float64, np.complex64, np.complex128)
_REDUCTIONS = ("sum", "mean", "max", "min")


# Inputs


def as_operand(name: str, value: Any) -> Array:
    """The plain array of an input; not copied if it is an ndarray of any kind."""
    array = value if type(value) is np.ndarray else _plain(name, value)
    dtype = array.dtype
    if dtype.kind in "SU" or dtype.hasobject or not dtype.itemsize:
        from_type = "" if isinstance(value, np.ndarray) else f" (from {type(value).__name__})"
        raise TypeError(f"{name}: expected a numeric array, got dtype {dtype}{from_type}")
    return array


def _plain(name: str, value: Any) -> Array:
    if isinstance(value, np.matrix):
        raise TypeError(f"{name}: expected an array, got np.matrix; pass np.asarray({name})")
    masked = sys.modules.get("numpy.ma")  # not imported by NumPy itself; then no masked array exists
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError(
            f"{name}: expected a plain array, got a masked array; "
            f"pass {name}.filled(value), or {name}.data to ignore the mask"
        )
    if isinstance(value, (list, tuple)):
        try:
            return np.asarray(value)
        except ValueError:
            raise ValueError(f"{name}: expected sequences of equal lengths, got {show(value)}") from None
    return np.asarray(value)


def common_float(operands: Mapping[str, Array | None]) -> np.dtype[Any]:
    """The one dtype of a convolution's operands, float32 or float64, in native byte order.

    Operands that are None are left out.
    """
    first = ""
    dtype: np.dtype[Any] | None = None
    for name, array in operands.items():
        if array is None:
            continue
        if array.dtype.type not in _FLOATS:
            _refuse_dtype(name, array.dtype, operands)
        if dtype is None:
            first, dtype = name, array.dtype
        elif array.dtype.type is not dtype.type:
            mine, other = array.dtype.type.__name__, dtype.type.__name__
            raise TypeError(
                f"{name}: expected {other}, the dtype of {first}, got {mine}; "
                f"cast with {name}.astype(np.{other}) or {first}.astype(np.{mine})"
            )
    assert dtype is not None
    return dtype.newbyteorder("=")


def converts(*operands: Array) -> bool:
    """Whether conv and its gradients take these dtypes by way of another (`converted.py`)."""
    # Floats first: NumPy imports modules for a name, which fails while the interpreter ends.
    return not any(a.dtype.type in _FLOATS for a in operands) and all(
        a.dtype.name in ("float16", "bfloat16", "complex64", "complex128") for a in operands
    )


def _refuse_dtype(name: str, dtype: np.dtype[Any], operands: Mapping[str, Array | None]) -> None:
    text = f"{name}: expected float32 or float64, got {dtype}"
    if dtype.kind == "c":
        text += f"; take {name}.real and {name}.imag one after the other"
    elif dtype.kind in "biuf":
        others = [
            array.dtype for array in operands.values() if array is not None and array.dtype.type in _FLOATS
        ]
        # The dtype that the other operands have already, or else the one that holds the values.
        fit = others[0] if others else np.result_type(dtype, np.float32)
        target = fit.type.__name__ if fit.type in _FLOATS else "float64"
        text += f"; cast with {name}.astype(np.{target})"
    raise TypeError(text)


def check_fold_dtype(name: str, array: Array, reduce: str) -> None:
    """Refuse the dtypes that have no sum, no mean or no order, by the reduction of fold."""
    if reduce not in _REDUCTIONS:
        raise ValueError(f"reduce: expected 'sum', 'mean', 'max' or 'min', got {show(reduce)}")
    dtype = array.dtype
    integer = dtype.kind in "iu"
    if not integer and dtype.type not in _SUMMABLE:
        raise TypeError(f"{name}: expected ints, floats up to 64 bits or complex up to 128, got {dtype}")
    if reduce == "mean" and integer:
        raise TypeError(
            f"{name}: expected floats or complex for reduce='mean', got {dtype}; "
            f"cast with {name}.astype(np.float64)"
        )
    if reduce in ("max", "min") and dtype.kind == "c":
        raise TypeError(f"{name}: expected ints or floats for reduce={reduce!r}, got {dtype}")


def is_native(array: Array) -> bool:
    """Whether arithmetic can read the array in place: native order, aligned, strides of whole elements."""
    flags = array.flags
    if not (array.dtype.isnative and flags.aligned):
        return False
    itemsize = array.itemsize
    return flags.c_contiguous or all(
        stride % itemsize == 0 or size < 2 for size, stride in zip(array.shape, array.strides)
    )


def native(array: Array) -> Array:
    """The array itself, or a copy if `is_native` is false for it. This is the only copy of an input."""
    if is_native(array):
        return array
    return array.astype(array.dtype.newbyteorder("="), order="K", copy=True)


def fill_value(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """One element of `dtype` from a scalar that it can hold; 0 is the zero of every dtype."""
    result = np.zeros((), dtype)
    if type(value) is int and value == 0:
        return result
    try:
        fits = _assign(result, value)
    except (TypeError, ValueError, OverflowError):
        got = f"{type(value).__name__}: {show(value)}"
        raise TypeError(f"{name}: expected a value of dtype {dtype}, got {got}") from None
    if not fits:
        raise ValueError(f"{name}: expected a value that {dtype} can hold, got {show(value)}")
    return result


def _assign(result: Array, value: Any) -> bool:
    """Write a scalar into a 0-d array; False if its value does not fit, TypeError if its kind does not."""
    kind = result.dtype.kind
    if kind in "biu":
        number = operator.index(bool(value) if isinstance(value, np.bool_) else value)
        low, high = (0, 1) if kind == "b" else (np.iinfo(result.dtype).min, np.iinfo(result.dtype).max)
        if low <= number <= high:
            result[()] = number
            return True
        return False
    if kind == "V":
        result[()] = value
        return True
    # An int beyond 64 bits would become an object; float rounds it as any other.
    given = np.asarray(float(value) if isinstance(value, int) and kind in "fc" else value)
    if given.ndim or given.dtype.kind not in {"f": "biuf", "c": "biufc"}.get(kind, kind + "U"):
        raise TypeError
    with np.errstate(over="ignore"):
        result[()] = given
    if kind in "fc":
        return bool(np.isfinite(result)) or not np.isfinite(given)
    return given.dtype.kind == "U" or bool(np.isnat(given)) or bool(result == given)


# Results


def check_out(out: Any, shape: Shape, dtype: np.dtype[Any], inputs: Mapping[str, Array | None]) -> Array:
    """The plain array to write to, once `out` is known to take a result and to disturb no input."""
    if type(out) is np.ndarray:
        array = out
    elif isinstance(out, np.ndarray):
        array = np.asarray(_plain("out", out))
    else:
        raise TypeError(f"out: expected a NumPy array, got {type(out).__name__}")
    if array.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {array.shape}")
    if array.dtype != dtype:
        raise TypeError(f"out: expected dtype {dtype}, got {array.dtype}")
    if not array.flags.writeable:
        raise ValueError("out: expected a writeable array, got a read-only one")
    overlaps = _overlaps_itself(array)
    if overlaps is None:
        raise ValueError(
            f"out: expected strides whose elements can be shown not to overlap, got {array.strides} "
            f"for shape {array.shape}"
        )
    if overlaps:
        raise ValueError(
            f"out: expected elements that do not overlap, got strides {array.strides} for shape {array.shape}"
        )
    for name, operand in inputs.items():
        if operand is None or not np.may_share_memory(array, operand):
            continue
        try:
            work: Any = OVERLAP_WORK  # NumPy's stub knows only the two special values
            shares = np.shares_memory(array, operand, max_work=work)
        except np.exceptions.TooHardError:
            raise ValueError(
                f"out: expected memory that can be shown not to be shared with {name}, got strides "
                f"{array.strides} against {operand.strides}"
            ) from None
        if shares:
            raise ValueError(f"out: expected memory of its own, got memory that {name} uses too")
    return array


def _overlaps_itself(array: Array) -> bool | None:
    """Whether two elements share a byte; None if a bounded search does not tell.

    Two elements overlap if their index difference d, not all zero, has |sum(d[i] * stride[i])| < itemsize.
    With the axes in order of stride, an axis whose stride exceeds all that the smaller ones can reach allows
    d = 0 only, which settles every ordinary array without a search.
    """
    if array.flags.c_contiguous:  # as every empty array is
        return False
    axes = sorted(
        (abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True) if size > 1
    )
    reaches = []  # bytes from the first byte of an element to the last byte of the farthest, axes so far
    reach = array.itemsize - 1
    disjoint = True
    for stride, size in axes:
        disjoint = disjoint and stride > reach
        reaches.append(reach)
        reach += stride * (size - 1)
    if disjoint:
        return False
    if axes[0][0] < array.itemsize:
        return True
    # Depth first from the largest stride: at each axis only those d from which the rest can come back to 0.
    work = 0
    stack = [(len(axes) - 1, 0, False)]
    while stack:
        axis, offset, moved = stack.pop()
        if axis < 0:
            if moved:
                return True
            continue
        stride, size = axes[axis]
        reach = reaches[axis]
        low = max(-((offset + reach) // stride), 1 - size)
        high = min((reach - offset) // stride, size - 1)
        if not moved:
            low = max(low, 0)  # d and -d are one pair of elements
        work += high - low + 1
        if work > OVERLAP_WORK:
            return None
        stack.extend((axis - 1, offset + d * stride, moved or d != 0) for d in range(low, high + 1))
    return False


def check_nbytes(name: str, shape: Shape, dtype: np.dtype[Any]) -> int:
    """The bytes of an array, refused if int64 cannot count them; NumPy too leaves out axes of length 0."""
    nbytes = prod(size or 1 for size in shape) * dtype.itemsize
    if nbytes > MAX_SIZE:
        raise ValueError(
            f"{name}: expected at most {MAX_SIZE} bytes, got {nbytes} for shape {shape} of {dtype}"
        )
    return 0 if 0 in shape else nbytes


def empty(name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """A new C-ordered array; an error with the bytes in its text where it cannot be had."""
    nbytes = check_nbytes(name, shape, dtype)
    try:
        return np.empty(shape, dtype)
    except MemoryError:
        raise MemoryError(f"{name}: cannot allocate {nbytes} bytes for shape {shape} of {dtype}") from None


def is_channels_last(array: Array) -> bool:
    """Whether an array (N, C, spatial...) lies in memory as N, spatial..., C.

    So it does if C > 1, the spatial size is > 1, C's stride is one element and the strides decrease in that
    order. Axes of length 1 have no say, since their strides mean nothing.
    """
    shape, strides = array.shape, array.strides
    if len(shape) < 3 or shape[1] < 2 or strides[1] != array.itemsize or prod(shape[2:]) < 2:
        return False
    least = strides[1]
    for axis in (*range(len(shape) - 1, 1, -1), 0):
        if shape[axis] > 1:
            if strides[axis] <= least:
                return False
            least = strides[axis]
    return True


def empty_images(name: str, shape: Shape, dtype: np.dtype[Any], *, channels_last: bool) -> Array:
    """A new array (N, C, spatial...) in C order, or with C innermost in memory."""
    if not channels_last:
        return empty(name, shape, dtype)
    n, c, *spatial = shape
    array = empty(name, (n, *spatial, c), dtype)
    return array.transpose(0, len(shape) - 1, *range(1, len(shape) - 1))
