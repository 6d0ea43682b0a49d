"""For the tests of programs that convolve: is a result right, to within what rounding may do?"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import reference
from .arguments import int_argument
from .arrays import Array, as_operand, common_float
from .geometry import check_shape, conv_geometry


def assert_conv_close(
    actual: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    roundings: int | None = None,
    entrywise: bool = True,
) -> None:
    """Raise an AssertionError unless `actual` is the convolution of `x` and `w`, whoever computed it.

    ``|actual - exact| <= roundings * eps * (conv(|x|, |w|) + |b|) + terms * s``, with eps and the smallest
    subnormal s of the dtype. With the default, one rounding for each term and one for the bias, every way to
    add the products one to another passes, fused or not, and almost nothing that is wrong does. The exact sum
    is that of `windrow.reference` in a wider type. Where that is NaN or Inf, `actual` must be the same; where
    the sum of magnitudes overflows the type, a partial sum may too, and what is not finite passes.

    >>> import numpy as np
    >>> import windrow as wr
    >>> from windrow.testing import assert_conv_close
    >>> rng = np.random.default_rng(0)
    >>> x, w = rng.standard_normal((2, 3, 8, 8)), rng.standard_normal((4, 3, 3, 3))
    >>> y = wr.conv(x, w, padding=1)
    >>> assert_conv_close(y, x, w, padding=1)
    >>> assert_conv_close(y * (1 + 1e-12), x, w, padding=1)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    AssertionError: actual: expected every entry within 28 * eps * (conv(|x|, |w|) + |b|) ...

    Parameters
    ----------
    actual, x, w, b : array of float32 or of float64, all the same
        As `conv` returns and takes them.
    stride, padding, dilation, groups
        As `conv` takes them.
    roundings : int, optional
        A stricter bound, such as ``wr.explain("conv", x.shape, w.shape, ...)["roundings"]``, that of `conv`
        itself; or a looser one.
    entrywise : bool
        False holds every entry to the largest sum of magnitudes of the whole result, instead of its own:
        the bound that fast algorithms such as Winograd's or the FFT keep, which mix neighbouring outputs.

    Raises
    ------
    AssertionError
        With the worst entry, and how far off it is.
    TypeError, ValueError
        As `conv` does for arguments that are none of its own; a wrong shape of `actual` is a ValueError.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1; docs/numerics.md.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    arrays = {"actual": as_operand("actual", actual), "x": as_operand("x", x), "w": as_operand("w", w)}
    if b is not None:
        arrays["b"] = as_operand("b", b)
    dtype = common_float(arrays)
    geometry = conv_geometry(arrays["x"].shape, arrays["w"].shape, stride, padding, dilation, groups)
    check_shape("actual", arrays["actual"].shape, geometry.y_shape)
    if b is not None:
        check_shape("b", arrays["b"].shape, (geometry.k,))
    options: dict[str, Any] = {
        "stride": geometry.windows.stride,
        "padding": geometry.windows.padding,
        "dilation": geometry.windows.dilation,
        "groups": geometry.groups,
    }
    terms = geometry.c // geometry.groups * geometry.windows.taps
    count = terms + 1 if roundings is None else int_argument("roundings", roundings, 0)

    wide: Any = np.dtype(np.float64 if dtype == np.float32 else np.longdouble)
    info: Any = np.finfo(dtype)
    operands = [arrays[name].astype(wide) for name in ("x", "w", "b") if name in arrays]
    exact = reference.conv(*operands, dtype=wide, **options)
    with np.errstate(all="ignore"):
        size = reference.conv(*map(np.abs, operands), dtype=wide, **options)
        if not entrywise:
            size = np.full_like(size, np.max(size, initial=0, where=np.isfinite(size)))
        # Where long double is no wider than double, the exact sum has roundings of its own.
        own = terms + 1 if float(np.finfo(wide).eps) >= info.eps else 0
        bound = (count + own) * info.eps * size + terms * info.smallest_subnormal
        error = np.abs(arrays["actual"].astype(wide) - exact)
    given = arrays["actual"]
    finite = np.isfinite(exact)
    # Where the sum of magnitudes overflows the type, so may a partial sum of any order.
    overflows = (size > info.max) & ~np.isfinite(given)
    close = np.where(finite, (error <= bound) | overflows, _same_kind(given, exact))
    if close.all():
        return
    magnitudes = "conv(|x|, |w|) + |b|"
    what = f"({magnitudes})" if entrywise else f"max({magnitudes})"
    worst = np.unravel_index(np.argmax(np.where(close, -1, _badness(error, bound))), close.shape)
    place = tuple(map(int, worst))
    got, expected = given[worst], exact[worst]
    both = finite[worst] and np.isfinite(got)
    how = f"off by {error[worst]:.3g}, allowed {bound[worst]:.3g}" if both else "not of one kind"
    raise AssertionError(
        f"actual: expected every entry within {count} * eps * {what} of the convolution, "
        f"got {np.count_nonzero(~close)} of {close.size} outside; "
        f"the worst at {place}: got {got:.9g}, expected {expected:.9g}, {how}"
    )


def _same_kind(actual: Array, exact: Array) -> Any:
    """Whether entries are NaN together, or infinite with the same sign, where exact sums are not finite."""
    infinite = np.isinf(actual) & (np.signbit(actual) == np.signbit(exact))
    return np.where(np.isnan(exact), np.isnan(actual), infinite)


def _badness(error: Array, bound: Array) -> Any:
    """By how many times an error exceeds its bound; NaN and Inf are worst."""
    with np.errstate(all="ignore"):
        ratio = error / bound
    return np.where(np.isnan(ratio), np.inf, ratio)
