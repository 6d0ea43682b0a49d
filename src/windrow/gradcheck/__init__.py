"""Gradient checking for any pair of NumPy functions, forward and backward.

It needs nothing but NumPy and knows nothing of the rest of the package.
"""

from .checking import check
from .differences import numerical_vjp
from .relative import relative_error
from .report import GradientError, Report
from .shrink import Problem
from .testing import assert_gradients

__all__ = [
    "GradientError",
    "Problem",
    "Report",
    "assert_gradients",
    "check",
    "numerical_vjp",
    "relative_error",
]
