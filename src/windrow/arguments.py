"""Arguments in the user's words to canonical form: exact Python ints, one per spatial axis.

Types are judged here, before any cache: a cache takes 1.0 and True for 1. Ints are whatever `operator.index`
takes, bool excepted.
"""

import operator
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int, ...]
Pairs: TypeAlias = tuple[tuple[int, int], ...]
Mode: TypeAlias = Literal["valid", "same", "same_lower"]

MAX_SIZE = 2**63 - 1  # what an int64 index or byte count can hold
MAX_AXES = 64  # of a NumPy array

_MODES: tuple[Mode, ...] = ("valid", "same", "same_lower")


class Options(NamedTuple):
    """Canonical window arguments, before the size of the image is known."""

    kernel_size: Shape
    stride: Shape
    dilation: Shape
    padding: Pairs | Mode


def shape_argument(name: str, value: Any) -> Shape:
    """A shape that the user passes (`x_shape`, `w_shape`) as a tuple of ints."""
    shape = axis_ints(name, value, expected="a sequence of ints")
    if isinstance(shape, int):
        raise TypeError(f"{name}: expected a sequence of ints, got int: {shape}")
    if min(shape, default=0) < 0:
        raise ValueError(f"{name}: expected sizes of at least 0, got {min(shape)}: {shape}")
    check_count(name, "an array", shape)
    return shape


def output_size_argument(value: Any) -> Shape:
    """The `output_size` of fold as a tuple; its length is the rank, so that an int would say too little."""
    size = axis_ints("output_size", value, expected="a sequence of one int per spatial axis")
    if isinstance(size, int):
        raise TypeError(
            "output_size: expected a sequence of one int per spatial axis, since its length is the rank, "
            f"got int: {size}; write ({size},) for 1-D, ({size}, {size}) for 2-D"
        )
    if not size:
        raise ValueError("output_size: expected at least 1 spatial axis, got 0: ()")
    if min(size) < 0:
        raise ValueError(f"output_size: expected sizes of at least 0, got {min(size)}: {size}")
    return size


def check_count(name: str, what: str, shape: Shape) -> None:
    """Refuse a shape whose elements int64 cannot count.

    Axes of length 0 are left out, as NumPy does: it refuses a shape of (0, 2**62, 2**62) too.
    """
    count = prod(size or 1 for size in shape)
    if count > MAX_SIZE:
        raise ValueError(f"{name}: expected {what} of at most {MAX_SIZE} elements, got {count}: {shape}")


def window_options(kernel: int | Shape, stride: Any, padding: Any, dilation: Any, rank: int) -> Options:
    """The four window arguments of a call, for a window of `rank` axes."""
    return Options(
        _per_axis("kernel_size", kernel, rank),
        _per_axis("stride", axis_ints("stride", stride), rank),
        _per_axis("dilation", axis_ints("dilation", dilation), rank),
        _padding(padding, rank),
    )


def axis_counts(name: str, value: Any, rank: int, minimum: int) -> Shape:
    """An int for every axis, or one per axis, each of at least `minimum`."""
    return _per_axis(name, axis_ints(name, value), rank, minimum)


def show(value: object) -> str:
    """A value's repr for an error text: never long, never an error of its own."""
    try:
        text = repr(value)
    except Exception as error:  # a repr of the user's, or an int of more digits than Python prints
        text = f"<no repr: {type(error).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:97] + "..."


def _is_sequence(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return (
        hasattr(value, "__len__")
        and hasattr(value, "__getitem__")
        and not isinstance(value, (str, bytes))
        and not hasattr(value, "keys")
    )


def _index(value: Any) -> int:
    """The exact int of an integer-like value; TypeError for bool and everything else."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    return operator.index(value)


def _limit(name: str, number: int) -> int:
    if number.bit_length() > 63:
        raise ValueError(f"{name}: expected ints that fit int64, got one of {number.bit_length()} bits")
    return number


def axis_ints(name: str, value: Any, expected: str = "an int or one int per spatial axis") -> int | Shape:
    """An int or a sequence of ints, as exact Python ints."""
    if type(value) is int:
        return _limit(name, value)
    if not _is_sequence(value):
        try:
            return _limit(name, _index(value))
        except TypeError:
            got = f"{type(value).__name__}: {show(value)}"
            raise TypeError(f"{name}: expected {expected}, got {got}") from None
    _refuse_long(name, value)
    return tuple(_entry(name, entry, value, expected) for entry in value)


def _entry(name: str, entry: Any, whole: Any, expected: str) -> int:
    if type(entry) is int:
        return _limit(name, entry)
    try:
        return _limit(name, _index(entry))
    except TypeError:
        got = f"{type(entry).__name__} {show(entry)} in {show(whole)}"
        raise TypeError(f"{name}: expected {expected}, got {got}") from None


def _refuse_long(name: str, value: Any) -> None:
    """Refuse what cannot be one entry per axis, before a loop over, say, an image passed by mistake."""
    if len(value) > 2 * MAX_AXES:
        raise ValueError(f"{name}: expected one entry per axis, got {len(value)} entries: {show(value)}")


def int_argument(name: str, value: Any, minimum: int) -> int:
    """One int of at least `minimum`."""
    number = axis_ints(name, value, expected="an int")
    if isinstance(number, tuple):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}: {show(value)}")
    if number < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {number}")
    return number


def plural(count: int, word: str = "value") -> str:
    """A count with its word: "1 value", "2 values"."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _per_axis(name: str, value: int | Shape, rank: int, minimum: int = 1) -> Shape:
    if isinstance(value, int):
        if value < minimum:
            raise ValueError(f"{name}: expected at least {minimum}, got {value}")
        return (value,) * rank
    if len(value) != rank:
        raise ValueError(f"{name}: expected {plural(rank)} for a {rank}-D window, got {len(value)}: {value}")
    if min(value) < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {min(value)}: {value}")
    return value


def _padding(value: Any, rank: int) -> Pairs | Mode:
    """Padding as (before, after) pairs or as a mode."""
    expected = "an int, ints or (before, after) pairs per spatial axis, or a mode"
    if type(value) is int and 0 <= value <= MAX_SIZE:
        return ((value, value),) * rank
    if isinstance(value, str):
        for mode in _MODES:
            if value == mode:
                return mode
        raise ValueError(f"padding: expected 'valid', 'same' or 'same_lower', got {show(value)}")
    if not _is_sequence(value):
        both = axis_ints("padding", value, expected)
        assert isinstance(both, int)
        _refuse_negative([both], both)
        return ((both, both),) * rank
    _refuse_long("padding", value)
    nested = [_is_sequence(entry) for entry in value]
    if all(nested) and nested:
        return _pairs(value, rank, expected)
    if any(nested):
        raise ValueError(
            f"padding: expected only ints or only (before, after) pairs, got both: {show(value)}"
        )
    sides = tuple(_entry("padding", entry, value, expected) for entry in value)
    if len(sides) != rank:
        text = f"padding: expected {plural(rank)} for a {rank}-D window, got {len(sides)}: {sides}"
        if rank == 1 and len(sides) == 2:
            text += f"; for unequal sides write ({sides},)"
        elif len(sides) == 2 * rank:
            text += f"; for unequal sides write one pair per axis: ({', '.join(['(before, after)'] * rank)})"
        raise ValueError(text)
    _refuse_negative(sides, sides)
    return tuple((side, side) for side in sides)


def _pairs(value: Any, rank: int, expected: str) -> Pairs:
    for entry in value:
        if len(entry) != 2:
            got = f"{plural(len(entry))} {show(entry)} in {show(value)}"
            raise ValueError(f"padding: expected (before, after) pairs, got {got}")
    pairs = tuple(
        (_entry("padding", before, value, expected), _entry("padding", after, value, expected))
        for before, after in value
    )
    if len(pairs) != rank:
        raise ValueError(
            f"padding: expected {plural(rank, 'pair')} for a {rank}-D window, got {len(pairs)}: {pairs}"
        )
    _refuse_negative([side for pair in pairs for side in pair], pairs)
    return pairs


def _refuse_negative(sides: Any, whole: object) -> None:
    if min(sides) < 0:
        where = "" if isinstance(whole, int) else f": {whole}"
        raise ValueError(f"padding: expected at least 0, got {min(sides)}{where}; to crop, slice the array")
