"""A convolution whose weights are kept: `prepare_conv`."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from . import _core
from .arguments import show
from .arrays import (
    Array,
    as_operand,
    check_out,
    common_float,
    fill_value,
    native,
)
from .borders import border_of, check_mode, is_plain, with_border
from .convolution import ALGORITHMS, _into, checked_algorithm, prepared
from .geometry import check_shape, conv_geometry, conv_options
from .plan import Plan, plan_of

DEFAULTS = {
    "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "constant", "fill": 0,
    "algorithm": "auto",
}  # fmt: skip

Activation: TypeAlias = str | tuple[str, float, float] | None


class PreparedConv:
    """A convolution with its own copy of the weights; made by `prepare_conv`.

    ``layer(x, out=None)`` is ``activation(conv(x, w, b))``. Safe to call from any number of threads.
    """

    __slots__ = ("_core", "_fast", "_options", "activation", "b", "w")

    w: Array
    b: Array | None
    activation: Activation

    def __init__(self, w: Array, b: Array | None, options: dict[str, Any], activation: Activation) -> None:
        self.w, self.b = _frozen(w), None if b is None else _frozen(b)
        limits = _limits(activation, self.w.dtype)
        self.activation = activation
        self._options = options
        number = ALGORITHMS.index(options["algorithm"])
        self._core = _core.Prepared(self.w, self.b, limits is not None, *(limits or (0.0, 0.0)), number)
        self._fast = self._core.fast

    def __call__(self, x: Any, out: Array | None = None) -> Array:
        """Return the layer's result on x, in the memory format of x, or written to `out`.

        Parameters
        ----------
        x : array (N, C, spatial...), dtype of w
        out : array (N, K, output...), optional
            Written and returned; any strides, no memory shared with x.
        """
        y = self._fast(x, out)
        return self._checked(x, out) if y is None else y

    def _checked(self, x: Any, out: Array | None) -> Array:
        x = as_operand("x", x)
        dtype = common_float({"x": x, "w": self.w})
        options = self._options
        geometry = conv_geometry(
            x.shape,
            self.w.shape,
            options["stride"],
            options["padding"],
            options["dilation"],
            options["groups"],
        )
        target = None if out is None else check_out(out, geometry.y_shape, dtype, {"x": x})
        edge = border_of(geometry.windows, options["padding_mode"], options["fill"], dtype)
        problem = prepared(with_border(geometry, edge))
        x = native(x)
        return _into(out, target, lambda to: self._core.checked(problem, x, to))

    def explain(self, x_shape: Sequence[int], **options: Any) -> Plan:
        """Tell what a call on images of this shape does; `options` are memory_format= and threads=."""
        return plan_of(
            "conv", x_shape, self.w.shape, dtype=self.w.dtype, is_prepared=True, **self._options, **options
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.w, self.b, self._options, self.activation)

    def __repr__(self) -> str:
        words = [f"w {self.w.shape} of {self.w.dtype}"]
        words += ["b"] if self.b is not None else []
        for name, value in self._options.items():
            short = _shortest(value)
            if short != DEFAULTS[name]:
                words.append(f"{name}={short!r}")
        words += [f"activation={self.activation!r}"] if self.activation is not None else []
        return f"<PreparedConv: {', '.join(words)}>"


def prepare_conv(
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: str = "constant",
    fill: Any = 0,
    algorithm: str = "auto",
    activation: Any = None,
) -> PreparedConv:
    """Keep a convolution's weights, to apply it to many images.

    ``layer = prepare_conv(w, b, ...)`` copies w and b and checks all arguments once; then ``layer(x)`` is
    ``conv(x, w, b, ...)``, brought into the limits of `activation`. The layer takes images of any size, is
    safe to call from any number of threads, and can be pickled: that keeps w, b and the arguments. From the
    first call on it keeps the weights in the form in which they are read: packed into panels where lanes
    are filters (the memory of w again), transformed where Winograd's tiles serve it (1.8 or 4 times that);
    since the transform costs nothing then, more layers take tiles than with `conv`, with other last bits.

    Parameters
    ----------
    w, b, stride, padding, dilation, groups, padding_mode, fill, algorithm
        As `conv` takes them.
    activation : None, "relu" or ("clip", low, high)
        Applied last to every entry: values below `low` (0 for "relu") become `low`, those above `high` become
        `high`. NaN stays NaN, and -0 stays -0 under "relu".

    Examples
    --------
    >>> import numpy as np
    >>> import windrow as wr
    >>> layer = wr.prepare_conv(np.array([[[1.0, -1.0]]]), activation="relu")
    >>> layer(np.array([[[1.0, 3.0, 2.0, 2.0, 5.0]]]))
    array([[[0., 1., 0., 0.]]])
    >>> layer
    <PreparedConv: w (1, 1, 2) of float64, activation='relu'>
    """
    w = as_operand("w", w)
    b = None if b is None else as_operand("b", b)
    dtype = common_float({"w": w, "b": b})
    if not is_plain(padding_mode, fill):
        check_mode(padding_mode, fill)
        fill_value("fill", fill, dtype)
    canonical, count = conv_options(w.shape, stride, padding, dilation, groups)
    if b is not None:
        check_shape("b", b.shape, (w.shape[0],))
    checked_algorithm(algorithm, w.shape[2:], canonical.stride)
    options = {
        "stride": canonical.stride,
        "padding": canonical.padding,
        "dilation": canonical.dilation,
        "groups": count,
        "padding_mode": padding_mode,
        "fill": fill,
        "algorithm": algorithm,
    }
    return PreparedConv(w, b, options, _activation(activation))


def _restored(w: Array, b: Array | None, options: dict[str, Any], activation: Activation) -> PreparedConv:
    return prepare_conv(w, b, **options, activation=activation)


def _frozen(array: Array) -> Array:
    """A C-ordered copy that nobody writes."""
    copy = np.array(native(array), order="C", copy=True)
    copy.flags.writeable = False
    return copy


def _activation(value: Any) -> Activation:
    """The activation in canonical form."""
    if value is None or (isinstance(value, str) and value == "relu"):
        return value
    expected = "None, 'relu' or ('clip', low, high)"
    if not isinstance(value, (tuple, list)) or len(value) != 3 or value[0] != "clip":
        raise ValueError(f"activation: expected {expected}, got {show(value)}")
    for limit in value[1:]:
        if isinstance(limit, (bool, np.bool_)) or not isinstance(limit, (Real, np.floating, np.integer)):
            raise TypeError(f"activation: expected {expected} with numbers, got {show(value)}")
    low, high = float(value[1]), float(value[2])
    if not low <= high:
        raise ValueError(f"activation: expected low <= high, got {show(value)}")
    return ("clip", low, high)


def _limits(activation: Activation, dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """The limits, rounded to the dtype."""
    if activation is None:
        return None
    low, high = (0.0, math.inf) if isinstance(activation, str) else activation[1:]
    with np.errstate(over="ignore"):
        return float(dtype.type(low)), float(dtype.type(high))


def _shortest(value: Any) -> Any:
    """A value per axis as the one value that all axes share, where they do."""
    while isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    return value
