"""The pair under test: a forward and a backward, seen as real functions of real arrays.

A complex array is seen as a real one with a last axis of two, so that everything behind this module knows
only real numbers; the pair itself is called with what its caller gave: same dtypes, fresh arrays.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .accept import Array, differentiable, numeric

Call = Callable[..., Any]


class Argument(NamedTuple):
    """One input that is differentiated."""

    position: int
    name: str
    axes: tuple[str, ...]
    value: Array  # real view, in the caller's dtype
    dtype: np.dtype[Any]  # as the caller gave it

    def place(self, flat: int) -> str:
        """The entry at a flat position, by axis names where there are any: ``dx[n=0, c=2]``."""
        index = np.unravel_index(flat, self.value.shape)
        names = self.axes or ("",) * len(index)
        inside = ", ".join(f"{name}={int(i)}" if name else str(int(i)) for name, i in zip(names, index))
        return f"d{self.name}[{inside}]"


class Pair:
    """Forward and backward with their inputs; every call gets fresh arrays and is checked for its kind."""

    def __init__(
        self,
        forward: Call,
        backward: Call,
        inputs: Sequence[Any],
        *,
        wrt: Iterable[int | str] | None,
        names: Sequence[str] | None,
        axes: Mapping[str, str] | None,
        cached: bool,
    ) -> None:
        """Take what `check` was given."""
        self.call_forward, self.call_backward, self.cached = forward, backward, cached
        self.inputs = [_input(value) for value in inputs]
        self.names = _names(forward, len(self.inputs), names)
        self.arguments = [self._argument(k, axes or {}) for k in self._positions(wrt)]

    # The shape of the problem

    def _positions(self, wrt: Iterable[int | str] | None) -> list[int]:
        if wrt is None:
            found = [k for k, value in enumerate(self.inputs) if _is_float(value)]
            if not found:
                raise TypeError(
                    "inputs: expected at least one array of floating-point numbers, got "
                    + (", ".join(_kind(value) for value in self.inputs) or "no inputs")
                )
            return found
        positions = []
        for key in (wrt,) if isinstance(wrt, int | str) else wrt:
            if isinstance(key, str) and key not in self.names:
                raise ValueError(f"wrt: expected names among {', '.join(self.names)}, got {key!r}")
            k = self.names.index(key) if isinstance(key, str) else key
            if not 0 <= k < len(self.inputs):
                raise ValueError(f"wrt: expected positions below {len(self.inputs)}, got {k}")
            differentiable(self.names[k], self.inputs[k])
            positions.append(k)
        return positions

    def _argument(self, k: int, axes: Mapping[str, str]) -> Argument:
        name, value = self.names[k], self.inputs[k]
        labels = tuple(axes[name].split()) if name in axes else ()
        if labels and len(labels) != value.ndim:
            raise ValueError(
                f"axes: expected {value.ndim} names for {name} of shape {value.shape}, got {axes[name]!r}"
            )
        if labels and value.dtype.kind == "c":
            labels = (*labels, "part")
        return Argument(k, name, labels, real(value), value.dtype)

    # Calls

    def fresh(self, replaced: Mapping[int, Array] | None = None, wide: bool = False) -> list[Any]:
        """Copies of the inputs in their memory order, some `replaced` by the real views given."""
        copies = []
        for k, value in enumerate(self.inputs):
            if not isinstance(value, np.ndarray):
                copies.append(value)
                continue
            copy = np.empty_like(value, dtype=_widened(value.dtype) if wide and _is_float(value) else None)
            given = (replaced or {}).get(k)
            if given is None:
                copy[...] = value
            elif copy.dtype.kind == "c":
                copy.real[...], copy.imag[...] = given[..., 0], given[..., 1]
            else:
                copy[...] = given
            copies.append(copy)
        return copies

    def run_forward(self, arguments: list[Any]) -> Any:
        """What forward returns for these arguments."""
        return self.call_forward(*arguments)

    def output(self, result: Any) -> Array:
        """The array in what forward returned."""
        if self.cached:
            if not (isinstance(result, tuple) and len(result) == 2):
                raise TypeError(f"forward: expected (out, cache) with cached=True, got {_kind(result)}")
            result = result[0]
        elif isinstance(result, tuple | list):
            hint = "; a layer that returns (out, cache) needs cached=True" if len(result) == 2 else ""
            raise TypeError(f"forward: expected one array, got {_kind(result)}{hint}")
        return differentiable("y", result)

    def evaluate(self, replaced: Mapping[int, Array] | None = None, wide: bool = False) -> Array:
        """F as a flat real array of its own, in float64 at least; `wide` calls forward in float64."""
        y = real(self.output(self.run_forward(self.fresh(replaced, wide)))).reshape(-1)
        return np.array(y, dtype=np.result_type(y, np.float64))

    def run_backward(self, dy: Array, arguments: list[Any]) -> list[Any]:
        """What backward returns for each argument that is differentiated, as it came."""
        passed = [self.run_forward(arguments)[1]] if self.cached else arguments
        return self._split(self.call_backward(dy if dy.ndim else dy[()], *passed))

    def gradients(self, dy: Array, replaced: Mapping[int, Array] | None = None) -> list[Array]:
        """The gradients as flat real arrays in float64 at least; `dy` is a real view of the weights."""
        weights = self.weights(dy)
        parts = self.run_backward(weights, self.fresh(replaced))
        flat = [np.zeros(0) if part is None else real(np.asarray(part)).reshape(-1) for part in parts]
        return [part.astype(np.result_type(part, np.float64)) for part in flat]

    def weights(self, dy: Array) -> Array:
        """A fresh dy in the shape and dtype of forward's result, from its flat real view."""
        if self.y_dtype.kind != "c":
            return dy.astype(self.y_dtype).reshape(self.y_shape)
        parts = dy.reshape(*self.y_shape, 2)
        return np.asarray(parts[..., 0] + 1j * parts[..., 1]).astype(self.y_dtype)

    def first_output(self) -> Array:
        """Forward's result in the caller's dtypes; later calls rely on its shape and dtype."""
        y = self.output(self.run_forward(self.fresh()))
        self.y_dtype, self.y_shape = y.dtype.newbyteorder("="), y.shape
        return np.array(y)

    def _split(self, result: Any) -> list[Any]:
        wanted = [argument.position for argument in self.arguments]
        if isinstance(result, Mapping):
            return [result.get(argument.name) for argument in self.arguments]
        if not isinstance(result, tuple | list):
            if len(wanted) != 1:
                raise TypeError(f"backward: expected {len(wanted)} gradients, got {_kind(result)}")
            return [result]
        if len(result) == len(self.inputs):
            return [result[k] for k in wanted]
        if len(result) == len(wanted):
            return list(result)
        raise TypeError(f"backward: expected {len(wanted)} gradients, got {_kind(result)}")

    @cached_property
    def widens(self) -> bool:
        """Does forward take float64 for narrower inputs, and give the same values to rounding?"""
        if all(_widened(a.dtype) == a.dtype for a in self.arguments):
            return False
        try:
            narrow = self.output(self.run_forward(self.fresh()))
            got = self.output(self.run_forward(self.fresh(wide=True)))
        except Exception:  # it refuses float64, whatever its way to say so
            return False
        size = np.max(np.abs(narrow), initial=0.0)
        close = np.abs(got - narrow) <= np.sqrt(np.finfo(narrow.dtype).eps) * size
        return got.dtype == _widened(narrow.dtype) and bool(np.all(close))


def real(array: Array) -> Array:
    """A complex array as a real one with a last axis of two; a real one as it is."""
    if array.dtype.kind != "c":
        return array
    return np.stack([array.real, array.imag], axis=-1)


def _widened(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(dtype, np.float64)


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fc"


def _input(value: Any) -> Any:
    """Arrays and numbers become arrays of our own; anything else (None, a string, options) stays."""
    if isinstance(value, np.ndarray | float | complex | np.generic | list):
        array = np.array(numeric("inputs", value), order="K", subok=False)
        array = array.astype(array.dtype.newbyteorder("="))
        array.flags.writeable = False
        return array
    return value


def _names(forward: Call, count: int, names: Sequence[str] | None) -> list[str]:
    if names is not None:
        given = list(names)
        if len(given) != count:
            raise ValueError(f"names: expected {count} names, one per input, got {given}")
        return given
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [p.name for p in parameters if p.kind in plain]
    return [found[k] if k < len(found) else f"input{k}" for k in range(count)]


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return type(value).__name__
