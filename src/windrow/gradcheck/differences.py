"""Numerical vector-Jacobian products, entry by entry."""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from .accept import Array, differentiable, native, numeric
from .progress import Progress, reporter

Function = Callable[[Any], ArrayLike]
METHODS = ("central", "richardson", "complex")


def numerical_vjp(
    f: Function,
    x: ArrayLike,
    dy: ArrayLike,
    *,
    step: float | None = None,
    method: str = "central",
    indices: Iterable[int | Sequence[int]] | None = None,
    samples: int | None = None,
    seed: int = 0,
    progress: Progress = False,
) -> Array:
    """Gradient of ``sum(dy * f(x))`` with respect to `x` by differences, one entry at a time.

    ``"central"``: ``sum(dy * (f(x + h e_i) - f(x - h e_i))) / 2h``, error of order h^2;
    ``"richardson"``: ``(4 D(h) - D(2h)) / 3`` of two central differences D, error of order h^4;
    ``"complex"``: ``Im sum(dy * f(x + i h e_i)) / h``, exact to rounding for an `f` of analytic steps that
    keeps complex numbers (no ``abs``, ``max`` or comparison on the way).

    >>> import numpy as np
    >>> from windrow.gradcheck import numerical_vjp, relative_error
    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> g = numerical_vjp(np.sin, x, np.ones((2, 2)))
    >>> bool(relative_error(g, np.cos(x)) < 1e-9)
    True
    >>> g = numerical_vjp(np.sin, x, np.ones((2, 2)), method="complex")
    >>> bool(relative_error(g, np.cos(x)) < 1e-15)
    True
    >>> numerical_vjp(lambda v: (v**2).sum(), x, 1.0, indices=[(0, 1)]).round(6)
    array([[nan,  4.],
           [nan, nan]])

    Parameters
    ----------
    f : callable, array -> array
        Called with fresh C-ordered copies of `x`: it may keep, return or overwrite its argument.
    x : floating-point or complex array, any shape, strides and byte order; never written
    dy : array of the shape of ``f(x)``
        The weights of the outputs; 1.0 for a scalar `f`.
    step : positive float, optional
        The step h for every entry. Default, per entry: ``eps**p * max(|x_i|, typical |x|)`` rounded to a
        power of two, with eps of the coarser of the dtypes of `x` and ``f(x)`` and p = 1/3 (central), 1/5
        (richardson), 2 (complex), which balances truncation against rounding.
    method : "central", "richardson" or "complex"
    indices : iterable of flat positions or of index tuples, optional
        Differentiate these entries only.
    samples : int, optional
        Differentiate this many entries, drawn without repetition with `seed`.
    progress : bool or callable(done, total)
        True shows a bar.

    Returns
    -------
    array
        The shape of `x`, float64 (longdouble or complex if `x` is); NaN where no derivative was asked for.
        For a complex `x` the real and imaginary parts hold the derivatives with respect to those parts of
        ``Re sum(conj(dy) * f(x))``, so that a matrix gives its conjugate transpose.

    Raises
    ------
    TypeError
        If `x` or ``f(x)`` is of an integer dtype, or `f` drops the imaginary part under "complex".
    ValueError
        If `dy` has not the shape of ``f(x)``, or another argument is out of its range.

    Source: W. Squire and G. Trapp, "Using complex variables to estimate derivatives of real functions",
    SIAM Review 40 (1998); L. F. Richardson (1911) for the extrapolation.
    """
    base = differentiable("x", x)
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if step is not None and not 0 < step < np.inf:
        raise ValueError(f"step: expected a positive number, got {step!r}")
    if method == "complex" and base.dtype.kind == "c":
        raise TypeError(f'method: "complex" needs a real x, got {base.dtype}; use "central"')
    chosen = _chosen(base.shape, indices, samples, seed)

    y = differentiable("f(x)", f(native(base)))
    weights = numeric("dy", dy)
    if weights.shape != y.shape:
        raise ValueError(f"dy: expected the shape of f(x), {y.shape}, got {weights.shape}")
    weights = np.conj(weights.astype(np.result_type(weights, np.float64)))

    values = native(base).reshape(-1)
    steps = _steps(values, step, method, max(np.finfo(values.dtype).eps, np.finfo(y.dtype).eps))
    wide = np.result_type(base.dtype, np.float64)
    result = np.full(values.shape, np.nan, wide)
    derivative = _complex_step if method == "complex" else _central
    with reporter(progress, len(chosen), "numerical gradient") as done:
        for count, i in enumerate(chosen, 1):
            evaluate = _Evaluator(f, values, base.shape, i, weights)
            result[i] = _along_parts(derivative, evaluate, steps[i], method, base.dtype.kind == "c")
            done(count)
    return result.reshape(base.shape)


class _Evaluator:
    """f with entry `i` of x replaced, on a fresh copy every time."""

    def __init__(self, f: Function, values: Array, shape: tuple[int, ...], i: int, weights: Array) -> None:
        self.f, self.values, self.shape, self.i, self.weights = f, values, shape, i, weights

    @property
    def entry(self) -> Any:
        return self.values[self.i]

    def __call__(self, entry: Any, dtype: Any = None) -> Array:
        x = self.values.astype(dtype or self.values.dtype)
        x[self.i] = entry
        # A copy, because f may return the same buffer again.
        return np.array(self.f(x.reshape(self.shape)))

    def weigh(self, y: Array) -> Any:
        return np.sum(self.weights * y)


def _along_parts(derivative: Any, evaluate: _Evaluator, h: Any, method: str, is_complex: bool) -> Any:
    if not is_complex:
        return derivative(evaluate, h, 1.0, method)
    return derivative(evaluate, h, 1.0, method) + 1j * derivative(evaluate, h, 1.0j, method)


def _central(evaluate: _Evaluator, h: Any, direction: complex, method: str) -> Any:
    def difference(width: Any) -> Any:
        scalar = evaluate.values.dtype.type
        plus = scalar(evaluate.entry + scalar(width * direction))
        minus = scalar(evaluate.entry - scalar(width * direction))
        # The step that was really taken, in a type in which it is exact.
        taken = abs(np.result_type(scalar, np.float64).type(plus) - minus)
        wide = np.result_type(evaluate.weights, np.float64)
        change = evaluate(plus).astype(wide) - evaluate(minus)
        return np.real(evaluate.weigh(change)) / taken

    if method == "central":
        return difference(h)
    return (4 * difference(h) - difference(2 * h)) / 3


def _complex_step(evaluate: _Evaluator, h: Any, direction: complex, method: str) -> Any:
    dtype = np.result_type(evaluate.values.dtype, np.complex64)
    y = evaluate(evaluate.entry + 1j * float(h), dtype)
    if y.dtype.kind != "c":
        raise TypeError(
            f'method: "complex" needs an f that keeps complex numbers, got {y.dtype} for a {dtype} x; '
            'use "central"'
        )
    return np.imag(np.sum(evaluate.weights * y.astype(np.result_type(y, np.complex128)))) / float(h)


def _steps(values: Array, step: float | None, method: str, eps: Any) -> Array:
    if step is not None:
        return np.full(values.shape, step)
    power = {"central": 1 / 3, "richardson": 1 / 5, "complex": 2}[method]
    magnitude = np.abs(values).astype(np.float64)
    relative = float(eps) ** power
    return cast(Array, np.exp2(np.round(np.log2(relative * np.maximum(magnitude, typical_size(values))))))


def typical_size(values: Array) -> float:
    """The median magnitude of the nonzero finite entries; 1.0 if there are none."""
    magnitude = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.median(magnitude)) if magnitude.size else 1.0


def _chosen(shape: tuple[int, ...], indices: Any, samples: int | None, seed: int) -> list[int]:
    size = int(np.prod(shape, dtype=np.int64))
    if indices is not None and samples is not None:
        raise ValueError("indices: expected one of indices and samples, got both")
    if indices is not None:
        return [_flat(index, shape, size) for index in indices]
    if samples is None:
        return list(range(size))
    count = operator.index(samples)
    if count < 0:
        raise ValueError(f"samples: expected a count of at least 0, got {count}")
    drawn = np.random.default_rng(seed).choice(size, min(count, size), replace=False)
    return sorted(int(i) for i in drawn)


def _flat(index: Any, shape: tuple[int, ...], size: int) -> int:
    if not isinstance(index, Sequence | np.ndarray):
        flat = operator.index(index)
        if not -size <= flat < size:
            raise ValueError(f"indices: expected positions below the size {size}, got {flat}")
        return flat % size
    place = tuple(operator.index(i) for i in index)
    if len(place) != len(shape) or any(not -n <= i < n for i, n in zip(place, shape)):
        raise ValueError(f"indices: expected places inside the shape {shape}, got {place}")
    flat = 0
    for i, n in zip(place, shape):
        flat = flat * n + i % n
    return flat
