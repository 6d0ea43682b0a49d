"""Convolution and its adjoint as a SciPy linear operator, for its iterative solvers.

>>> import numpy as np
>>> from scipy.sparse.linalg import lsqr
>>> from windrow.scipy import linear_operator
>>> w = np.array([[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]])[None, None]
>>> blur = linear_operator(w, (1, 1, 8, 8), padding="same")
>>> blur.shape
(64, 64)
>>> sharp = np.random.default_rng(0).standard_normal(64)
>>> np.allclose(lsqr(blur, blur @ sharp, atol=1e-12, btol=1e-12)[0], sharp)
True

Needs SciPy (``pip install 'windrow[scipy]'``).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from .arguments import shape_argument
from .arrays import Array, as_operand, common_float
from .convolution import conv, conv_grad_input
from .geometry import conv_geometry

__all__ = ["ConvOperator", "linear_operator"]


def linear_operator(
    w: Any,
    x_shape: Sequence[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    algorithm: str = "auto",
    max_workspace: int | None = None,
) -> "ConvOperator":
    """``x -> conv(x, w)`` as a linear operator on flattened arrays; its adjoint is `conv_grad_input`.

    Parameters
    ----------
    w : array (K, C / groups, kernel...), float32 or float64
    x_shape : (N, C, spatial...)
        Shape of what the operator's vectors are flattened from.
    stride, padding, dilation, groups, algorithm, max_workspace
        As `windrow.conv` takes them.

    Returns
    -------
    ConvOperator
        A `scipy.sparse.linalg.LinearOperator` of shape (size of y, size of x), which also knows
        ``x_shape`` and ``y_shape``. A vector of a wider dtype is convolved in that dtype, a complex one
        by its two parts.

    Raises
    ------
    TypeError, ValueError
        As `windrow.conv`.
    """
    return ConvOperator(
        w, x_shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        algorithm=algorithm, max_workspace=max_workspace,
    )  # fmt: skip


class ConvOperator(LinearOperator):
    """A convolution as a linear operator; made by `linear_operator`."""

    def __init__(self, w: Any, x_shape: Sequence[int], **options: Any) -> None:
        """See `linear_operator`."""
        self._w = as_operand("w", w).copy()
        common_float({"w": self._w})
        self._options = options
        shape = shape_argument("x_shape", x_shape)
        geometry = conv_geometry(
            shape, self._w.shape, options["stride"], options["padding"], options["dilation"],
            options["groups"], x_name="x_shape",
        )  # fmt: skip
        self.x_shape, self.y_shape = shape, geometry.y_shape
        size = int(np.prod(self.y_shape)), int(np.prod(self.x_shape))
        super().__init__(dtype=self._w.dtype, shape=size)

    def _matvec(self, v: Array) -> Array:
        return self._matmat(v.reshape(-1, 1)).reshape(-1)

    def _rmatvec(self, v: Array) -> Array:
        return self._rmatmat(v.reshape(-1, 1)).reshape(-1)

    def _matmat(self, vectors: Array) -> Array:
        return self._columns(vectors, self.x_shape, lambda x, w: conv(x, w, **self._options))

    def _rmatmat(self, vectors: Array) -> Array:
        def adjoint(dy: Array, w: Array) -> Array:
            return conv_grad_input(dy, w, (dy.shape[0], *self.x_shape[1:]), **self._options)

        return self._columns(vectors, self.y_shape, adjoint)

    def _columns(self, vectors: Array, shape: tuple[int, ...], apply: Any) -> Array:
        """Apply to every column, all of them as one batch."""
        vectors = np.asarray(vectors)
        if np.iscomplexobj(vectors):
            real = self._columns(vectors.real, shape, apply)
            return real + 1j * self._columns(vectors.imag, shape, apply)
        dtype = np.result_type(vectors.dtype, self._w.dtype)
        columns = vectors.shape[1]
        batch = np.ascontiguousarray(vectors.T, dtype).reshape(columns * shape[0], *shape[1:])
        result = apply(batch, self._w.astype(dtype, copy=False))
        return result.reshape(columns, result.size // max(1, columns)).T
