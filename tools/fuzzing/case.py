"""What cases of any operation share: a geometry, values, memory layouts, and the judgement of a call."""

import math
import os
import random
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import windrow as wr
from windrow import _core

SANITIZED = "ASAN_OPTIONS" in os.environ or "TSAN_OPTIONS" in os.environ  # they note every byte reserved
LARGEST = 400_000  # elements or multiply-adds that the reference does in short time


class Odd:
    """An object that NumPy can convert."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array if dtype is None else self.array.astype(dtype)


class Interface:
    """An object that tells NumPy where its memory is."""

    def __init__(self, array: Any) -> None:
        self.array = array  # keeps the memory
        self.__array_interface__ = array.__array_interface__


class Subclass(np.ndarray):
    """A subclass of the user's."""


def mapped(array: Any) -> Any:
    """The same values in a file."""
    with tempfile.TemporaryFile() as file:
        copy = np.memmap(file, array.dtype, "w+", shape=array.shape)
    copy[...] = array
    return copy


def far_apart(array: Any) -> Any:
    """The same values, images over 2**31 bytes apart; the memory between is reserved, never touched."""
    strides = [array.itemsize] * array.ndim
    for axis in range(array.ndim - 2, 0, -1):
        strides[axis] = strides[axis + 1] * array.shape[axis + 1]
    strides[0] = 2**31 + 24
    try:
        room = np.zeros(strides[0] * (array.shape[0] - 1) + array.nbytes, np.uint8)
    except MemoryError:
        return array
    view = np.lib.stride_tricks.as_strided(room[: array.itemsize].view(array.dtype), array.shape, strides)
    view[...] = array
    return view


def wide(windows: Any) -> int:
    """How many pixels the reference pads an image to."""
    sides = zip(windows.size, windows.padding, strict=True)
    return math.prod(max(1, size + before + after) for size, (before, after) in sides)


class Case:
    """One call, drawn from its seed."""

    operations: tuple[str, ...]
    names: frozenset[str]  # that an error of ours may begin with

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        pick = self.random
        self.operation = pick.choice(self.operations)
        self.wild = pick.random() < 0.3  # arguments that need not make sense
        rank = pick.choice([1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 5, 6, 7, 8])
        longest = {1: 60, 2: 14, 3: 7, 4: 4, 7: 2, 8: 2}.get(rank, 3)
        groups = pick.choice([1, 1, 1, 2, 3, 5])
        self.kernel = [pick.choice([1, 1, 2, 3, 3, 5, 7][: 4 if rank > 2 else 7]) for _ in range(rank)]
        self.dilation = [pick.choice([1, 1, 1, 2, 3, 9]) for _ in range(rank)]
        self.stride = [pick.choice([1, 1, 2, 3, 5, 11, 1000]) for _ in range(rank)]
        self.padding = [(pick.choice([0, 0, 1, 2, 7]), pick.choice([0, 0, 1, 3, 6])) for _ in range(rank)]
        self.size = []
        for k, d, (before, after) in zip(self.kernel, self.dilation, self.padding, strict=True):
            least = max(0, d * (k - 1) + 1 - before - after)
            self.size.append(pick.randint(least, max(least, longest)))
        self.n = pick.choice([0, 1, 1, 1, 2, 3])
        self.channels = groups * pick.choice([0, 1, 1, 2, 3, 4, 17])
        self.filters = groups * pick.choice([0, 1, 1, 2, 3, 9])
        self.groups = groups
        self.dtype = np.dtype(pick.choice([np.float32, np.float64]))
        if self.wild:
            self._disturb()

    def _disturb(self) -> None:
        pick = self.random
        for _ in range(pick.choice([1, 1, 2])):
            axis = pick.randrange(len(self.size))
            what = pick.choice(["size", "kernel", "stride", "dilation", "groups", "channels", "filters"])
            value = pick.choice([0, 1, 2, 3, 50, 2**31, 2**40, 2**62])
            if what in ("size", "kernel"):
                getattr(self, what)[axis] = min(value, 50)
            elif what in ("stride", "dilation"):
                getattr(self, what)[axis] = value
            else:
                setattr(self, what, min(value, 50))
        if pick.random() < 0.2:
            self.padding[0] = (pick.choice([0, 2**20, 2**62]), pick.choice([0, 30, 2**63 - 1]))

    # Arguments

    def values(self, shape: tuple[int, ...]) -> Any:
        kind = self.random.random()
        if kind < 0.5:
            values = self.rng.standard_normal(shape)
        elif kind < 0.8:
            values = self.rng.integers(-3, 4, shape)
        else:
            values = self.rng.standard_normal(shape) * 10.0 ** self.rng.integers(-6, 7, shape)
        return values.astype(self.dtype)

    def dress(self, array: Any) -> Any:
        """The same values in some memory layout, type or container that may come from a user."""
        kind = self.random.randrange(17)
        if kind == 0 and array.ndim:
            axes = list(range(array.ndim))
            self.random.shuffle(axes)
            return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))
        if kind == 1 and array.ndim:
            return np.ascontiguousarray(array[::-1, ..., ::-1] if array.ndim > 1 else array[::-1])[
                (slice(None, None, -1),) + (Ellipsis, slice(None, None, -1)) * (array.ndim > 1)
            ]
        if kind == 2:
            wide = np.resize(array, [2 * size for size in array.shape])
            view = wide[tuple(slice(self.random.randint(0, 1), None, 2) for _ in array.shape)]
            view[...] = array
            return view
        if kind == 3:
            return array.astype(array.dtype.newbyteorder(">"))
        if kind == 4 and not array.dtype.hasobject:
            room = np.empty(array.nbytes + 1, np.uint8)
            view = room[1:].view(array.dtype).reshape(array.shape)
            view[...] = array
            return view
        if kind == 5:
            array = array.copy()
            array.flags.writeable = False
            return array
        if kind == 6:
            return array.view(Subclass)
        if kind == 7:
            return Odd(array)
        if kind == 8 and self.dtype == np.float64 and 0 < array.size < 2000:
            return array.tolist()
        if kind == 9 and array.size:
            return np.broadcast_to(array.flat[0], array.shape)  # every element at one address
        if kind == 10 and array.ndim > 2:
            return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)
        if kind == 11 and array.ndim > 1 and array.shape[-1] and array.shape[-2]:
            # Rows that overlap: each begins one element after the one before.
            row = np.resize(array, array.shape[-1] + array.shape[-2])
            flat = np.lib.stride_tricks.sliding_window_view(row, array.shape[-1])[: array.shape[-2]]
            return np.broadcast_to(flat, array.shape)
        if kind == 12 and array.size and not array.dtype.hasobject:
            return mapped(array)
        if kind == 13 and array.dtype.kind in "biufc":
            return Interface(array)
        if kind == 14 and array.dtype.kind in "biuf" and array.size:
            return memoryview(array)
        if kind == 15 and array.size and 1 < array.shape[0] <= 3 and not (SANITIZED or array.dtype.hasobject):
            return far_apart(array)
        return array

    def sequence(self, values: list[Any]) -> Any:
        """One of the ways to write a value per axis."""
        kind = self.random.randrange(5)
        if kind == 0 and len(set(values)) == 1 and isinstance(values[0], int):
            return values[0]
        if kind == 1:
            return list(values)
        if kind == 2 and max(np.ravel(np.array(values, object))) < 2**62:
            return np.array(values)
        return tuple(values)

    def windows(self) -> dict[str, Any]:
        """The window arguments, in one of their forms."""
        options = {
            "stride": self.sequence(self.stride),
            "padding": self.sequence(self.padding),
            "dilation": self.sequence(self.dilation),
        }
        if self.random.random() < 0.15:
            options["padding"] = self.random.choice(["same", "same_lower", "valid"])
        return options

    def plain(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options as the reference takes them."""
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in options.items()}

    def spoil(self, options: dict[str, Any]) -> None:
        """Put nonsense into one option."""
        name = self.random.choice(list(options))
        options[name] = self.random.choice(
            [None, -1, 0, 1.5, "x", (), (1, 1, 1), [[1, 2]], True, {}, np.ones(2), 2**70, object()]
        )

    def out(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array to write to, of some layout."""
        gap = self.random.choice([1, 1, 2])
        wide = np.ones([gap * size for size in shape], dtype)
        view = wide[tuple(slice(None, None, gap * self.random.choice([1, -1])) for _ in shape)]
        return np.ones(shape[::-1], dtype).T if self.random.random() < 0.3 else view

    # The trial

    def attempt(self, call: Callable[[], Any], inputs: dict[str, Any], out: Any, sensible: bool) -> Any:
        """The result of a call; or, as text, that we refused it, once that is known to be right."""
        before = {name: np.array(np.asarray(value)) for name, value in inputs.items()}
        start = np.array(out)
        _core.set_target(self.random.choice(_core.targets_available()))
        result: Any = None
        with wr.num_threads(self.random.choice([1, 2, 3])):
            try:
                result = call()
            except (ValueError, TypeError, MemoryError) as error:
                text = str(error)
                if text.split(":", maxsplit=1)[0] not in self.names:
                    self.fail(f"an error that is not ours: {type(error).__name__}: {text}")
                if out is not None and start.tobytes() != np.array(out).tobytes():
                    self.fail(f"out was written to before {text}")
                if sensible and not text.startswith("max_workspace:"):
                    self.fail(f"refused what makes sense: {text}")
                result = "refused by us"
        for name, value in inputs.items():
            after = np.array(np.asarray(value))
            if after.tobytes() != before[name].tobytes() and not after.dtype.hasobject:
                self.fail(f"{name} was written to")
        if out is not None and not isinstance(result, str) and result is not out:
            self.fail("out= is not what came back")
        return result

    def same_again(self, again: Any, result: Any) -> None:
        """Hold a second result to the bits of the first one, of which those of NaN may differ."""
        again = np.array(again)
        if again.dtype.kind in "fc":
            again[np.isnan(again)] = result[np.isnan(result)] = np.nan
        if again.tobytes() != np.array(result).tobytes():
            self.fail("other bits with out=")

    def fail(self, what: str) -> None:
        sys.exit(
            f"seed {self.seed}: {self.operation} on {_core.target()}: {what}\n"
            f"{vars(self)}\nrepeat with: python tools/fuzz.py --seed {self.seed} --calls 1"
        )
