"""Gradient checking for any pair of NumPy functions, forward and backward.

It needs nothing but NumPy and knows nothing of the rest of the package.
"""

from .differences import numerical_vjp
from .relative import relative_error

__all__ = ["numerical_vjp", "relative_error"]
