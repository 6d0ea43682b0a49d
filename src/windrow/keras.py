"""Convolution and pooling for Keras's NumPy backend, which borrows them from JAX: here, without JAX.

>>> import windrow.keras
>>> windrow.keras.enable()  # before the first `import keras`
>>> import keras
>>> layer = keras.layers.Conv2D(8, 3, padding="same")
>>> layer(keras.ops.ones((2, 32, 32, 3))).shape
(2, 32, 32, 8)

Two modules of that backend import JAX at their top. So `enable` imports Keras itself, and holds out empty
modules in JAX's place while those two load; before and after, ``import jax`` finds what is installed, if
anything. Then it puts the functions of this module in the place of Keras's, for every layer and every
``keras.ops`` function that uses them: separable convolutions too, which Keras makes of a depthwise one and
one of a single pixel.

float16 and bfloat16 are computed in float32 and rounded once; other types than those and float32, float64
are refused by name. Needs Keras 3.12 or later (``pip install 'windrow[keras]'``).
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import numpy as np

from . import convolution, pooling, transposed
from .arguments import show
from .arrays import Array

__all__ = ["average_pool", "conv", "conv_transpose", "depthwise_conv", "enable", "max_pool"]


def enable() -> None:
    """Import Keras with its NumPy backend, without JAX, and make its convolutions and pools windrow's.

    Where KERAS_BACKEND is not set it is set to "numpy". If Keras has been imported before, JAX was there; its
    functions are replaced all the same.

    Raises
    ------
    RuntimeError
        If Keras was imported, or is to be imported, with another backend.
    """
    if "keras" not in sys.modules:
        _check_backend(os.environ.setdefault("KERAS_BACKEND", "numpy"))
        finder = _Borrowers()
        sys.meta_path.insert(0, finder)
        try:
            import keras  # noqa: F401, PLC0415
        finally:
            sys.meta_path.remove(finder)
    from keras.src import backend  # noqa: PLC0415

    _check_backend(backend.backend())
    for function in (average_pool, conv, conv_transpose, depthwise_conv, max_pool):
        setattr(backend.nn, function.__name__, function)


def _check_backend(name: str) -> None:
    if name != "numpy":
        raise RuntimeError(
            f"KERAS_BACKEND: expected 'numpy', whose convolutions windrow replaces, got {name!r}"
        )


class _Borrowers(MetaPathFinder):
    """Finds the modules that import from JAX for Keras's NumPy backend, and stands in for it while they load.

    No longer than that: others, which use JAX where it is, must not find it.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in ("keras.src.backend.numpy.math", "keras.src.backend.numpy.nn"):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with _jax_stood_in_for():
                    load(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def _jax_stood_in_for() -> Iterator[None]:
    """What those modules import of JAX: names that are not used, and two Fourier transforms."""
    jax, lax = _Absent("jax"), _Absent("jax.lax")
    jax.lax = lax
    package, math = ModuleType("keras.src.backend.jax"), ModuleType("keras.src.backend.jax.math")
    math.fft, math.fft2 = _fft, _fft2  # type: ignore[attr-defined]
    modules = {module.__name__: module for module in (jax, lax, package, math)}
    ours = [name for name, module in modules.items() if sys.modules.setdefault(name, module) is module]
    try:
        yield
    finally:
        for name in ours:
            del sys.modules[name]


class _Absent(ModuleType):
    lax: ModuleType

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self.__name__}.{name}: Keras uses JAX here, for which windrow has nothing")


def _fft(x: tuple[Array, Array]) -> tuple[Array, Array]:
    return _parts(np.fft.fft(_complex(x)), x)


def _fft2(x: tuple[Array, Array]) -> tuple[Array, Array]:
    return _parts(np.fft.fft2(_complex(x)), x)


def _complex(x: tuple[Array, Array]) -> Array:
    real, imaginary = (np.asarray(part) for part in x)
    return real + 1j * imaginary


def _parts(values: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
    dtype = np.asarray(x[0]).dtype
    return values.real.astype(dtype), values.imag.astype(dtype)


# What stands in the place of Keras's functions, whose signatures these are


def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """`keras.ops.conv`; a kernel with fewer channels than the inputs makes groups."""
    last = _is_last(data_format)
    x, w = _images("inputs", inputs, last), _array("kernel", kernel)
    if w.shape[-2] < 1 or x.shape[1] % w.shape[-2]:
        raise ValueError(
            f"kernel: expected a divisor of the inputs' {x.shape[1]} channels, got {w.shape[-2]}: {w.shape}"
        )
    return _convolved(x, w, x.shape[1] // w.shape[-2], last, inputs, strides, padding, dilation_rate)


def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """`keras.ops.depthwise_conv`: every channel with filters of its own."""
    last = _is_last(data_format)
    x, w = _images("inputs", inputs, last), _array("kernel", kernel)
    if w.shape[-2] != x.shape[1]:
        raise ValueError(
            f"kernel: expected {x.shape[1]} channels, as the inputs have, got {w.shape[-2]}: {w.shape}"
        )
    w = w.reshape(*w.shape[:-2], 1, w.shape[-2] * w.shape[-1])
    return _convolved(x, w, x.shape[1], last, inputs, strides, padding, dilation_rate)


def _convolved(
    x: Array,
    w: Array,
    groups: int,
    last: bool,
    inputs: Any,
    strides: Any,
    padding: Any,
    dilation_rate: Any,
) -> Array:
    y = convolution.conv(
        x,
        np.moveaxis(w, (-1, -2), (0, 1)),
        stride=_counts(strides),
        padding=_padding(padding),
        dilation=_counts(dilation_rate),
        groups=groups,
    )
    return _result(y, inputs, last)


def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Array:
    """`keras.ops.conv_transpose`, whose kernel is (spatial..., filters, channels)."""
    from keras.src.backend.common import backend_utils  # noqa: PLC0415

    last = _is_last(data_format)
    x, w = _images("inputs", inputs, last), _array("kernel", kernel)
    strides, dilation = _counts(strides), _counts(dilation_rate)
    # How far Keras lets the result reach beyond the inputs, of the width - 1 that each window has to give.
    reaches = backend_utils.compute_conv_transpose_padding_args_for_jax(
        x.shape, w.shape, strides, padding, output_padding, dilation
    )
    dilations = (dilation,) * (x.ndim - 2) if isinstance(dilation, int) else dilation
    spans = [gap * (taps - 1) for gap, taps in zip(dilations, w.shape)]
    y = transposed.conv_transpose(
        x,
        np.moveaxis(w, (-1, -2), (0, 1)),
        stride=strides,
        padding=tuple((span - low, max(span - high, 0)) for span, (low, high) in zip(spans, reaches)),
        output_padding=tuple(max(high - span, 0) for span, (_, high) in zip(spans, reaches)),
        dilation=dilation,
    )
    return _result(y, inputs, last)


def max_pool(
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: Any = "valid",
    data_format: str | None = None,
) -> Array:
    """`keras.ops.max_pool`."""
    last = _is_last(data_format)
    y = pooling.max_pool(
        _images("inputs", inputs, last),
        _counts(pool_size),
        stride=None if strides is None else _counts(strides),
        padding=_padding(padding),
    )
    return _result(y, inputs, last)


def average_pool(
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: Any = "valid",
    data_format: str | None = None,
) -> Array:
    """`keras.ops.average_pool`: of the pixels inside the image only."""
    last = _is_last(data_format)
    y = pooling.avg_pool(
        _images("inputs", inputs, last),
        _counts(pool_size),
        stride=None if strides is None else _counts(strides),
        padding=_padding(padding),
        count_include_pad=False,
    )
    return _result(y, inputs, last)


def _is_last(data_format: str | None) -> bool:
    from keras.src import backend  # noqa: PLC0415

    return bool(backend.standardize_data_format(data_format) == "channels_last")


def _counts(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) else value


def _padding(value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in ("valid", "same"):
        raise ValueError(f"padding: expected 'valid' or 'same', got {show(value)}")
    return value.lower()


def _array(name: str, value: Any) -> Array:
    """A tensor or variable of Keras as an array in the type that is computed in."""
    from keras.src.backend.numpy.core import convert_to_tensor  # noqa: PLC0415

    array: Array = np.asarray(convert_to_tensor(value))
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.name not in ("float16", "bfloat16"):
        raise TypeError(f"{name}: expected float16, bfloat16, float32 or float64, got {array.dtype}")
    return array.astype(np.float32)


def _images(name: str, value: Any, last: bool) -> Array:
    """Channels first: a view, in the memory format that it came in."""
    array = _array(name, value)
    return np.moveaxis(array, -1, 1) if last else array


def _result(y: Array, inputs: Any, last: bool) -> Array:
    """In Keras's order of axes and the type of the inputs."""
    return (np.moveaxis(y, 1, -1) if last else y).astype(inputs.dtype, copy=False)
