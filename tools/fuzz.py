"""Arbitrary calls of conv and its gradients: `make fuzz`, or `python tools/fuzz.py --seconds 60 --seed 7`.

Every call must either agree with windrow.reference within the bound of the numerics plan, or raise one of our
own errors (a ValueError, TypeError or MemoryError whose text begins with an argument's name). What makes
sense must not be refused; on an error, and in inputs, nothing is written. Each case has a seed of its own:
`--seed N --calls 1` repeats case N.
"""

import argparse
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests import tolerances

import windrow as wr
from windrow import _core, reference

CHUNK = _core._testing.CHUNK
ARRAYS = {"x", "w", "b", "dy", "y", "dx", "dw", "db", "out"}
NAMES = ARRAYS | {
    "x_shape",
    "w_shape",
    "stride",
    "padding",
    "dilation",
    "groups",
    "accumulate",
    "max_workspace",
}
LARGEST = 400_000  # multiply-adds that the reference does in Python's time


class Odd:
    """An object that NumPy can convert."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array if dtype is None else self.array.astype(dtype)


class Subclass(np.ndarray):
    """A subclass of the user's."""


def wide(windows: Any) -> int:
    """How many pixels the reference pads an image to."""
    sides = zip(windows.size, windows.padding, strict=True)
    return math.prod(max(1, size + before + after) for size, (before, after) in sides)


class Case:
    """One call, drawn from its seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        pick = self.random
        self.operation = pick.choice(["conv", "conv_grad_input", "conv_grad_weight", "conv_grad_bias"])
        self.wild = pick.random() < 0.3  # arguments that need not make sense
        rank = pick.choice([1, 1, 2, 2, 2, 3, 3, 4, 5, 6])
        longest = {1: 60, 2: 14, 3: 7, 4: 4}.get(rank, 3)
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
        kind = self.random.randrange(13)
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

    def options(self) -> dict[str, Any]:
        options = {
            "stride": self.sequence(self.stride),
            "padding": self.sequence(self.padding),
            "dilation": self.sequence(self.dilation),
            "groups": self.groups,
        }
        if self.random.random() < 0.15:
            options["padding"] = self.random.choice(["same", "same_lower", "valid"])
        if self.wild and self.random.random() < 0.3:
            name = self.random.choice(list(options))
            options[name] = self.random.choice(
                [None, -1, 0, 1.5, "x", (), (1, 1, 1), [[1, 2]], True, {}, np.ones(2), 2**70, object()]
            )
        return options

    # The trial

    def geometry(self, options: dict[str, Any]) -> Any:
        """The geometry of the call, or None where the arguments make no sense."""
        try:
            return wr.geometry.conv_geometry(
                (self.n, self.channels, *self.size),
                (self.filters, self.channels // max(self.groups, 1), *self.kernel),
                *(options[name] for name in ("stride", "padding", "dilation", "groups")),
            )
        except (TypeError, ValueError):
            return None

    def run(self) -> str:
        pick = self.random
        options = self.options()
        x_shape = (self.n, self.channels, *self.size)
        w_shape = (self.filters, self.channels // max(self.groups, 1), *self.kernel)
        geometry = self.geometry(options)
        y_shape = geometry and geometry.y_shape
        dy_shape = y_shape or (self.n, self.filters, *[pick.randint(0, 3) for _ in self.size])
        work = [
            math.prod(max(1, v) for v in sizes) for sizes in ((*dy_shape, *w_shape[1:]), x_shape, w_shape)
        ]
        if max(work) > LARGEST:
            return "too large for the reference"
        shapes = {"x": x_shape, "w": w_shape, "dy": dy_shape, "b": w_shape[:1]}
        plain = {name: self.values(shape) for name, shape in shapes.items()}
        if self.wild and pick.random() < 0.1:
            self.dtype = np.dtype(pick.choice(["f2", "i4", "?", "c16", "O", "U3", "m8[s]", "g"]))
            plain = {name: np.ones(shape, int).astype(self.dtype) for name, shape in shapes.items()}
        dressed = {name: self.dress(array) for name, array in plain.items()}
        plain = {name: np.array(np.asarray(value)) for name, value in dressed.items()}
        arguments: tuple[Any, ...]
        if self.operation == "conv":
            bias = pick.random() < 0.5
            arguments = (dressed["x"], dressed["w"], dressed["b"] if bias else None)
            given = (plain["x"], plain["w"], plain["b"] if bias else None)
            result_shape = dy_shape
        elif self.operation == "conv_grad_input":
            arguments = (dressed["dy"], dressed["w"], pick.choice([tuple, list, np.array])(x_shape))
            given = (plain["dy"], plain["w"], x_shape)
            result_shape = x_shape
        elif self.operation == "conv_grad_weight":
            arguments = (dressed["dy"], dressed["x"], pick.choice([tuple, list, np.array])(w_shape))
            given = (plain["dy"], plain["x"], w_shape)
            result_shape = w_shape
        else:
            options = {}
            arguments = (dressed["dy"],)
            given = (plain["dy"],)
            result_shape = (dy_shape[1],)
        extra: dict[str, Any] = {}
        out = start = None
        if pick.random() < 0.4 and self.dtype.kind == "f":
            out = self.out(result_shape)
            extra["out"] = out
            if self.operation != "conv" and pick.random() < 0.5:
                out[...] = self.rng.integers(-3, 4, result_shape)
                extra["accumulate"] = True
            start = np.array(out)
        if pick.random() < 0.15 and self.operation != "conv_grad_bias":
            extra["max_workspace"] = pick.choice([1, 1000, 100_000, 2**40])
        _core.set_target(pick.choice(_core.targets_available()))
        with wr.num_threads(pick.choice([1, 2, 3])):
            try:
                result = getattr(wr, self.operation)(*arguments, **options, **extra)
            except (ValueError, TypeError, MemoryError) as error:
                return self.refused(error, given, options, extra, out, start, dressed, plain, y_shape)
        self.untouched(dressed, plain)
        if geometry and wide(geometry.windows) > LARGEST:
            return "taken, too wide for the reference"
        self.accepted(result, given, options, extra, start)
        return "agrees"

    def out(self, shape: tuple[int, ...]) -> Any:
        """An array to write to, of some layout."""
        gap = self.random.choice([1, 1, 2])
        wide = np.full([gap * size for size in shape], np.nan, self.dtype)
        view = wide[tuple(slice(None, None, gap * self.random.choice([1, -1])) for _ in shape)]
        if self.random.random() < 0.3:
            view = np.full(shape[::-1], np.nan, self.dtype).T
        return view

    def untouched(self, dressed: dict[str, Any], plain: dict[str, Any]) -> None:
        for name, value in dressed.items():
            if not np.array_equal(np.asarray(value), plain[name], equal_nan=self.dtype.kind in "fc"):
                self.fail(f"{name} was written to")

    def refused(self, error, given, options, extra, out, start, dressed, plain, y_shape) -> str:
        text = str(error)
        if text.split(":", maxsplit=1)[0] not in NAMES:
            self.fail(f"an error that is not ours: {type(error).__name__}: {text}")
        if out is not None and not np.array_equal(out, start, equal_nan=True):
            self.fail(f"out was written to before {text}")
        self.untouched(dressed, plain)
        sensible = y_shape is not None and self.dtype.type in (np.float32, np.float64)
        if sensible and not text.startswith("max_workspace:"):
            self.fail(f"refused what makes sense: {text}")
        return "refused by us"

    def accepted(self, result, given, options, extra, start) -> None:
        options = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in options.items()
        }
        with np.errstate(all="ignore"):
            try:
                exact = getattr(reference, self.operation)(*given, **options)
            except Exception as error:
                self.fail(f"the reference refuses it: {type(error).__name__}: {error}")
            bound = self.bound(given, options, extra)
        if "out" in extra and result is not extra["out"]:
            self.fail("out= is not what came back")
        if result.shape != exact.shape or result.dtype != self.dtype:
            self.fail(f"{result.dtype} {result.shape} instead of {self.dtype} {exact.shape}")
        if extra.get("accumulate"):
            exact = exact + start.astype(exact.dtype)
            bound = bound + np.finfo(self.dtype).eps * np.abs(exact)
        error = np.abs(result.astype(np.longdouble) - exact)
        if not np.all(error <= bound):
            worst = np.max(error / np.maximum(bound, np.finfo(np.float64).tiny))
            self.fail(f"off by {worst} times the bound")

    def bound(self, given: Any, options: dict[str, Any], extra: dict[str, Any]) -> Any:
        if self.operation != "conv_grad_weight":
            return getattr(tolerances, f"{self.operation}_error_bound")(*given, chunk=CHUNK, **options)
        _, x, w_shape = given
        limit = {"max_workspace": extra.get("max_workspace")}
        plan = wr.explain("conv_grad_weight", x.shape, w_shape, dtype=self.dtype, **options, **limit)
        return tolerances.conv_grad_weight_error_bound(*given, roundings=plan["roundings"], **options)

    def fail(self, what: str) -> None:
        x = (self.n, self.channels, *self.size)
        sys.exit(
            f"seed {self.seed}: {self.operation} on {_core.target()}: {what}\n"
            f"x {x}, {self.filters} filters of {self.kernel}, {self.groups} groups, stride {self.stride}, "
            f"padding {self.padding}, dilation {self.dilation}, {self.dtype}\n"
            f"repeat with: python tools/fuzz.py --seed {self.seed} --calls 1"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="stop after this long")
    parser.add_argument("--calls", type=int, default=sys.maxsize, help="stop after this many calls")
    parser.add_argument("--seed", type=int, default=0, help="of the first call; the next ones count up")
    options = parser.parse_args()
    print(f"fuzz: seed {options.seed}", flush=True)
    counts: dict[str, int] = {}
    end = time.monotonic() + options.seconds
    seed = options.seed
    while seed < options.seed + options.calls and time.monotonic() < end:
        verdict = Case(seed).run()
        counts[verdict] = counts.get(verdict, 0) + 1
        seed += 1
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"fuzz: {seed - options.seed} calls: {summary}")


if __name__ == "__main__":
    main()
