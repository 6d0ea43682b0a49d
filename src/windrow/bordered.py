"""The operations on images whose padding is made of pixels (`padding_mode=`).

`conv` and its gradient for the weights read the border in the core, as they read the image, in the dtypes
that it computes in, and so do the poolings. All others go a few images at a time: each one pads a block of
images (`borders.py`) and calls the plain operation on it without padding, writing the block's part of the
result. A gradient for the images goes the other way: the plain gradient of a padded block, then its border
folded back; a constant border has no share in it, so that there it is the plain gradient itself.
"""

from typing import Any, NamedTuple

import numpy as np

from . import _core, converted, convolution, lp_pooling, pooling, unfolding
from .arguments import Shape
from .arrays import (
    Array,
    as_operand,
    check_fold_dtype,
    check_out,
    common_float,
    converts,
    empty,
    empty_images,
    fill_value,
    is_channels_last,
    native,
)
from .borders import Border, blocks, border_of, fold_back, padded_blocks, pool_border, with_border
from .geometry import (
    ConvGeometry,
    PatchGeometry,
    PoolGeometry,
    Windows,
    check_shape,
    conv_geometry,
)
from .layout import Layout, elementary_axes


class Mode(NamedTuple):
    """What `padding_mode` and `fill` say."""

    padding_mode: Any
    fill: Any

    def border(self, windows: Windows, dtype: np.dtype[Any]) -> Border:
        """The border that these windows see."""
        return border_of(windows, self.padding_mode, self.fill, dtype)


def _without_padding(options: dict[str, Any], windows: Windows) -> dict[str, Any]:
    """The options of the plain operation on images with their border."""
    return {**options, "padding": 0} if windows.positions else options


# Convolution


class _Conv(NamedTuple):
    """A convolution's geometry and border, and its options without padding."""

    geometry: ConvGeometry
    border: Border
    options: dict[str, Any]
    algorithm: int  # as the core takes them
    max_workspace: int

    def in_core(self, dtype: np.dtype[Any], given: dict[str, Any], given_fill: Any) -> _core.Conv | None:
        """The problem for the core, which reads the border itself, where it has this dtype.

        It is remembered by the options given, and by the dtype where they have a fill.
        """
        if dtype not in (np.float32, np.float64):
            return None
        core = convolution.prepared(with_border(self.geometry, self.border))
        _core.remember(
            core, self.border.mode, self.geometry.x_shape, self.geometry.w_shape,
            given["stride"], given["padding"], given["dilation"], given["groups"], given_fill, dtype.num,
        )  # fmt: skip
        return core


def _conv_problem(
    x_shape: Shape,
    w_shape: Shape,
    options: dict[str, Any],
    mode: Mode,
    dtype: np.dtype[Any],
    x_name: str = "x",
    w_name: str = "w",
) -> _Conv:
    stride, padding, dilation, groups = (
        options[name] for name in ("stride", "padding", "dilation", "groups")
    )
    geometry = conv_geometry(
        x_shape, w_shape, stride, padding, dilation, groups, x_name=x_name, w_name=w_name
    )
    core_options = convolution._checked_options(options["algorithm"], options["max_workspace"], geometry)
    edge = mode.border(geometry.windows, dtype)
    return _Conv(geometry, edge, _without_padding(options, geometry.windows), *core_options)


def _dtypes(inputs: dict[str, Array | None]) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """The operands' dtype, and the one that the sums over a border are rounded in."""
    if not converts(*(operand for operand in inputs.values() if operand is not None)):
        dtype = common_float(inputs)
        return dtype, dtype
    dtype = converted.common(inputs)
    return dtype, np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def conv(
    x: Any, w: Any, b: Any, options: dict[str, Any], mode: Mode, out: Array | None, accumulator: Any = None
) -> Array:
    """`windrow.conv` with a border of pixels."""
    x, w = as_operand("x", x), as_operand("w", w)
    b = None if b is None else as_operand("b", b)
    inputs = {"x": x, "w": w, "b": b}
    if accumulator is not None:
        return _conv_integers(x, w, b, options, mode, out, accumulator)
    dtype, _ = _dtypes(inputs)
    problem = _conv_problem(x.shape, w.shape, options, mode, dtype)
    shape = problem.geometry.y_shape
    if b is not None:
        check_shape("b", b.shape, shape[1:2])
    target = None if out is None else check_out(out, shape, dtype, inputs)
    core = problem.in_core(dtype, options, mode.fill)
    if core is not None:
        *_, number, limit = problem
        x, w, b = native(x), native(w), None if b is None else native(b)
        return convolution._into(out, target, lambda to: core.forward(x, w, b, to, limit, number))
    y = target
    if y is None:
        y = empty_images("y", shape, dtype, channels_last=is_channels_last(x))
    for part, padded in padded_blocks(x, problem.border):
        convolution.conv(padded, w, b, **problem.options, out=y[part])
    return y if out is None else out


def _conv_integers(
    x: Array,
    w: Array,
    b: Array | None,
    options: dict[str, Any],
    mode: Mode,
    out: Array | None,
    accumulator: Any,
) -> Array:
    """The same, exact in an accumulator; `out` is written when no sum has overflowed."""
    dtype = converted.checked_integers(x, w, b, accumulator)
    problem = _conv_problem(x.shape, w.shape, options, mode, x.dtype)
    shape = problem.geometry.y_shape
    target = None if out is None else check_out(out, shape, dtype, {"x": x, "w": w, "b": b})
    y = empty_images("y", shape, dtype, channels_last=is_channels_last(x))
    for part, padded in padded_blocks(x, problem.border):
        y[part] = convolution.conv(padded, w, b, **problem.options, accumulator=dtype)
    if target is None or out is None:
        return y
    target[...] = y
    return out


def conv_grad_input(
    dy: Any,
    w: Any,
    x_shape: Shape,
    options: dict[str, Any],
    mode: Mode,
    out: Array | None,
    accumulate: bool,
    channels_last: bool | None = None,
) -> Array:
    """`windrow.conv_grad_input` with a border of pixels."""
    dy, w = as_operand("dy", dy), as_operand("w", w)
    dtype, wide = _dtypes({"dy": dy, "w": w})
    problem = _conv_problem(x_shape, w.shape, options, mode, dtype, x_name="x_shape")
    check_shape("dy", dy.shape, problem.geometry.y_shape)
    target = convolution._checked_accumulator(out, accumulate, x_shape, dtype, {"dy": dy, "w": w})
    if channels_last is None:
        channels_last = is_channels_last(dy)
    if problem.border.mode == "constant":
        if converts(dy, w):
            return converted.conv_grad_input(dy, w, x_shape, options, out, accumulate, channels_last)
        *_, number, limit = problem
        return convolution._grad_input(dy, w, problem.geometry, limit, number, out, accumulate, channels_last)
    dx = empty_images("dx", x_shape, dtype, channels_last=channels_last) if target is None else target
    channels, filters = problem.geometry.c, w.astype(wide, copy=False)
    for part, padded in blocks(problem.border, len(dy), channels, wide, channels_last=channels_last):
        block = dy[part].astype(wide, copy=False)
        convolution.conv_grad_input(block, filters, padded.shape, **problem.options, out=padded)
        _put(dx[part], fold_back(padded, problem.border), accumulate)
    return dx if out is None else out


def conv_grad_weight(
    dy: Any,
    x: Any,
    w_shape: Shape,
    options: dict[str, Any],
    mode: Mode,
    out: Array | None,
    accumulate: bool,
) -> Array:
    """`windrow.conv_grad_weight` with a border of pixels."""
    dy, x = as_operand("dy", dy), as_operand("x", x)
    dtype, wide = _dtypes({"dy": dy, "x": x})
    problem = _conv_problem(x.shape, w_shape, options, mode, dtype, w_name="w_shape")
    check_shape("dy", dy.shape, problem.geometry.y_shape)
    target = convolution._checked_accumulator(out, accumulate, w_shape, dtype, {"dy": dy, "x": x})
    core = problem.in_core(dtype, options, mode.fill)
    if core is not None:
        *_, number, limit = problem
        dy, x = native(dy), native(x)
        return convolution._into(
            out, target, lambda to: core.grad_weight(dy, x, to, accumulate, limit, number)
        )
    # The sum over the blocks of images, in order.
    dw = empty("dw", w_shape, dtype) if target is None else target
    sums = dw if wide == dtype else empty("dw", w_shape, wide)
    for part, padded in padded_blocks(x, problem.border):
        add = part.start > 0 or (bool(accumulate) and sums is dw)
        operands = dy[part].astype(wide, copy=False), padded.astype(wide, copy=False)
        convolution.conv_grad_weight(*operands, w_shape, **problem.options, out=sums, accumulate=add)
    if sums is not dw:
        _put(dw, sums, accumulate)
    return dw if out is None else out


def conv_backward(
    dy: Any, x: Any, w: Any, options: dict[str, Any], mode: Mode, needs: Any
) -> convolution.ConvGradients:
    """`windrow.conv_backward` with a border of pixels."""
    wanted = convolution._checked_needs(needs)
    dy, x, w = as_operand("dy", dy), as_operand("x", x), as_operand("w", w)
    dtype, _ = _dtypes({"dy": dy, "x": x, "w": w})
    problem = _conv_problem(x.shape, w.shape, options, mode, dtype)
    check_shape("dy", dy.shape, problem.geometry.y_shape)
    dx = dw = db = None
    if "x" in wanted:
        dx = conv_grad_input(dy, w, x.shape, options, mode, None, False, is_channels_last(x))
    if "w" in wanted:
        dw = conv_grad_weight(dy, x, w.shape, options, mode, None, False)
    if "b" in wanted:
        db = converted.conv_grad_bias(dy, dtype) if converts(dy) else convolution.conv_grad_bias(dy)
    return convolution.ConvGradients(dx, dw, db)


# Transposed convolution


def _reached(geometry: ConvGeometry) -> tuple[Any, ...]:
    """What the windows see of an image with its border: `output_padding` may leave more than a stride."""
    windows = geometry.windows
    sides = zip(windows.output_size, windows.stride, windows.dilation, windows.kernel_size)
    return (..., *(slice(0, count * stride + dilation * (k - 1)) for count, stride, dilation, k in sides))


def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None,
    geometry: ConvGeometry,
    options: dict[str, Any],
    padding_mode: str,
    out: Array | None,
) -> Array:
    """`windrow.conv_transpose` of checked operands: what padding cuts off is added where it repeats."""
    edge = Mode(padding_mode, 0).border(geometry.windows, x.dtype)
    last = is_channels_last(x)
    y = (
        empty_images("y", geometry.x_shape, x.dtype.newbyteorder("="), channels_last=last)
        if out is None
        else out
    )
    plain = _without_padding(options, geometry.windows)
    for part, padded in blocks(edge, len(x), geometry.c, y.dtype, channels_last=last):
        padded[...] = 0
        if geometry.windows.positions:
            seen = padded[_reached(geometry)]
            convolution.conv_grad_input(x[part], w, seen.shape, **plain, out=seen)
        _put(y[part], fold_back(padded, edge), False)
    if b is not None:
        with np.errstate(all="ignore"):
            y += b.reshape(-1, *(1,) * (y.ndim - 2))
    return y


def _put(target: Array, value: Array, accumulate: Any) -> None:
    with np.errstate(all="ignore"):
        if accumulate:
            target += value
        else:
            target[...] = value


# Pooling


class _Pool(NamedTuple):
    """A pooling's border, its geometry on images with that, and its options without padding."""

    border: Border
    geometry: PoolGeometry
    options: dict[str, Any]


def _pool_problem(
    x_shape: Shape, options: dict[str, Any], mode: Mode, dtype: np.dtype[Any], x_name: str = "x"
) -> _Pool:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    edge, geometry = pool_border(x_shape, tuple(options[name] for name in names), *mode, dtype, x_name)
    return _Pool(edge, geometry, _without_padding(options, geometry.windows))


def avg_pool_backward(
    dy: Any, x_shape: Shape, options: dict[str, Any], mode: Mode, out: Array | None
) -> Array:
    """`windrow.avg_pool_backward` with a border of pixels."""
    dy = as_operand("dy", dy)
    dtype = common_float({"dy": dy})
    problem = _pool_problem(x_shape, options, mode, dtype, x_name="x_shape")
    check_shape("dy", dy.shape, problem.geometry.y_shape)
    if out is None:
        dx = empty_images("dx", x_shape, dtype, channels_last=is_channels_last(dy))
    else:
        dx = check_out(out, x_shape, dtype, {"dy": dy})
    last = is_channels_last(dy)
    for part, padded in blocks(problem.border, len(dy), x_shape[1], dtype, channels_last=last):
        pooling.avg_pool_backward(dy[part], padded.shape, **problem.options, out=padded)
        dx[part] = fold_back(padded, problem.border)
    return dx if out is None else out


def lp_pool_backward(dy: Any, x: Any, options: dict[str, Any], mode: Mode, out: Array | None) -> Array:
    """`windrow.lp_pool_backward` with a border of pixels."""
    dy, x = as_operand("dy", dy), as_operand("x", x)
    dtype = common_float({"dy": dy, "x": x})
    problem = _pool_problem(x.shape, options, mode, dtype)
    check_shape("dy", dy.shape, problem.geometry.y_shape)
    if out is None:
        dx = empty_images("dx", x.shape, dtype, channels_last=is_channels_last(dy))
    else:
        dx = check_out(out, x.shape, dtype, {"dy": dy, "x": x})
    for part, padded in padded_blocks(x, problem.border):
        wide = lp_pooling.lp_pool_backward(dy[part], padded, **problem.options)
        dx[part] = fold_back(wide, problem.border)
    return dx if out is None else out


# Patches


def _apart(cols: Array, layout: Layout, geometry: PatchGeometry) -> tuple[Array, int, str]:
    """A view of columns with one axis for every elementary one, which of them is n, and their layout."""
    rank = geometry.windows.rank
    sizes = dict(
        zip(
            elementary_axes(rank),
            (geometry.n, geometry.c, *geometry.windows.kernel_size, *geometry.windows.output_size),
        )
    )
    names = [name for group in layout.axes for name in group]
    return cols.reshape([sizes[name] for name in names]), names.index("n"), " ".join(names)


def _images(array: Array, axis: int, part: slice) -> Array:
    return array[(slice(None),) * axis + (part,)]


def fold(
    cols: Array,
    geometry: PatchGeometry,
    layout: Layout,
    reduce: str,
    window: Any,
    uncovered: Any,
    out: Array | None,
    mode: Mode,
) -> Array:
    """`windrow.fold` with a border of pixels: the border's sums are folded back, then divided for a mean."""
    check_fold_dtype("cols", cols, reduce)
    if reduce not in ("sum", "mean"):
        raise ValueError(
            f"reduce: expected 'sum' or 'mean' with padding_mode={mode.padding_mode!r}, got {reduce!r}"
        )
    if window is not None:
        raise ValueError(f"window: expected None with padding_mode={mode.padding_mode!r}")
    windows = geometry.windows
    dtype = cols.dtype.newbyteorder("=")
    value = fill_value("uncovered", uncovered, dtype)
    edge = mode.border(windows, dtype)
    if out is not None:
        x = check_out(out, geometry.x_shape, dtype, {"cols": cols})
    else:
        x = empty("x", geometry.x_shape, dtype)
    if not windows.positions:
        x[...] = value
        return x if out is None else out
    bare = windows._replace(size=edge.padded, padding=((0, 0),) * windows.rank)
    counts = unfolding._counts(bare, np.dtype(np.float64))[None, None]
    covered = fold_back(counts, edge)[0, 0]
    wide = np.dtype(np.float32) if dtype == np.float16 else dtype  # which fold itself sums in
    apart, axis, names = _apart(cols, layout, geometry)
    options: dict[str, Any] = {"stride": windows.stride, "dilation": windows.dilation, "layout": names}
    for part, padded in blocks(edge, geometry.n, geometry.c, wide, channels_last=False):
        block = _images(apart, axis, part).astype(wide, copy=False)
        unfolding.col2im(block, padded.shape, windows.kernel_size, **options, out=padded)
        sums = fold_back(padded, edge)
        if reduce == "mean":
            unfolding.divide(sums, np.maximum(covered, 1))
        with np.errstate(over="ignore"):
            x[part] = np.where(covered == 0, value, sums)
    return x if out is None else out
