"""Gradient checks as assertions."""

from typing import Any

from .checking import check
from .pair import Call
from .report import Report


def assert_gradients(forward: Call, backward: Call, inputs: Any, **options: Any) -> Report:
    """Check a pair and raise a `GradientError` (an AssertionError) with the report if it fails.

    ``check(forward, backward, inputs, **options)`` must hold; takes its options.

    >>> import numpy as np
    >>> from windrow.gradcheck import assert_gradients
    >>> x = np.linspace(-2, 2, 9)
    >>> report = assert_gradients(np.tanh, lambda dy, x: dy / np.cosh(x) ** 2, x)
    >>> report.arguments[0].shape
    (9,)
    >>> assert_gradients(np.tanh, lambda dy, x: dy, x)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    GradientError: gradients of tanh: FAILS

    Returns
    -------
    Report

    Raises
    ------
    GradientError
        If a test fails. Whatever `check` raises goes through.

    Source: see `check`.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    report = check(forward, backward, inputs, **options)
    report.raise_if_failed()
    return report
