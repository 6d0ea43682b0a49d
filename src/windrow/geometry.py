"""Shapes of a patch or convolution problem: everything that is checked about sizes is checked here.

A call's arguments are first made canonical (`arguments.py`). The canonical arguments are the key of a bounded
cache that holds the finished geometry. All arithmetic is in Python integers, so nothing here can overflow;
what does not fit int64 is refused by name.
"""

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, NoReturn

from .arguments import (
    Mode,
    Options,
    Pairs,
    Shape,
    axis_counts,
    axis_ints,
    check_count,
    int_argument,
    output_size_argument,
    plural,
    show,
    window_options,
)

MAX_PADDED = 2**48  # of an axis: more than a machine addresses, so that no offset in the core overflows
CACHED = 1024  # geometries kept per cache; a network has tens


class Windows(NamedTuple):
    """How windows lie on one image: every tuple has one entry per spatial axis."""

    size: Shape
    kernel_size: Shape
    stride: Shape
    dilation: Shape
    padding: Pairs
    output_size: Shape

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.size)

    @property
    def positions(self) -> int:
        """Number of windows on one image."""
        return prod(self.output_size)

    @property
    def taps(self) -> int:
        """Number of elements in one window of one channel."""
        return prod(self.kernel_size)


class PatchGeometry(NamedTuple):
    """The problem of unfold and fold: images (n, c, *size) against columns of (n, c, taps, positions)."""

    n: int
    c: int
    windows: Windows

    @property
    def x_shape(self) -> Shape:
        """Shape of the images."""
        return (self.n, self.c, *self.windows.size)

    @property
    def elements(self) -> int:
        """Number of elements in the columns."""
        return self.n * self.c * self.windows.taps * self.windows.positions


class PoolGeometry(NamedTuple):
    """The problem of pooling."""

    n: int
    c: int
    windows: Windows

    @property
    def x_shape(self) -> Shape:
        """Shape of the input."""
        return (self.n, self.c, *self.windows.size)

    @property
    def y_shape(self) -> Shape:
        """Shape of the output."""
        return (self.n, self.c, *self.windows.output_size)


class ConvGeometry(NamedTuple):
    """The problem of conv and its gradients."""

    n: int
    c: int
    k: int
    groups: int
    windows: Windows
    padding_mode: str = "constant"  # what the core reads in the padding (`borders.py`)
    fill: float = 0.0  # under "constant"

    @property
    def x_shape(self) -> Shape:
        """Shape of the input."""
        return (self.n, self.c, *self.windows.size)

    @property
    def w_shape(self) -> Shape:
        """Shape of the weights."""
        return (self.k, self.c // self.groups, *self.windows.kernel_size)

    @property
    def y_shape(self) -> Shape:
        """Shape of the output."""
        return (self.n, self.k, *self.windows.output_size)

    @property
    def flops(self) -> int:
        """Floating-point operations of the direct sum, the same for the output and for each gradient."""
        return 2 * self.n * self.k * self.windows.positions * (self.c // self.groups) * self.windows.taps


# What the operators call


def patch_geometry(
    x_shape: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any, *, x_name: str = "x"
) -> PatchGeometry:
    """Geometry of unfold on an array of shape `x_shape`, and of col2im (with `x_name="x_shape"`).

    `x_shape` is a tuple of ints: an array's shape, or what `shape_argument` made of the user's.
    """
    return _patch(x_shape, _kernel_options(x_shape, kernel_size, stride, padding, dilation, x_name), x_name)


def pool_geometry(
    x_shape: Shape,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    *,
    x_name: str = "x",
) -> PoolGeometry:
    """Geometry of pooling; a stride of None is the kernel's size."""
    if type(ceil_mode) is not bool:
        raise TypeError(f"ceil_mode: expected a bool, got {type(ceil_mode).__name__}: {show(ceil_mode)}")
    if stride is None:
        stride = kernel_size
    options = _kernel_options(x_shape, kernel_size, stride, padding, dilation, x_name)
    windows = _windows(x_shape[2:], options, "kernel_size", ceil_mode)
    geometry = PoolGeometry(x_shape[0], x_shape[1], windows)
    check_count("padding", "a result", geometry.y_shape)
    return geometry


def fold_windows(output_size: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> Windows:
    """Windows of fold, whose rank is the length of `output_size`; n and c are read off the columns."""
    size = output_size_argument(output_size)
    kernel = axis_ints("kernel_size", kernel_size)
    options = window_options(kernel, stride, padding, dilation, len(size))
    return _windows(size, options, "kernel_size")


def fold_geometry(n: int, c: int, windows: Windows) -> PatchGeometry:
    """Geometry of fold once n and c are known."""
    geometry = PatchGeometry(n, c, windows)
    check_count("output_size", "an image", geometry.x_shape)
    return geometry


def conv_options(
    w_shape: Shape,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    *,
    w_name: str = "w",
    axes: str = "K, C / groups and a kernel axis",
    rows: str = "filters",
) -> tuple[Options, int]:
    """Canonical options of a convolution, and its groups: all that can be checked before x is known.

    `axes` and `rows` say what the axes of the weights are, and what the first of them counts.
    """
    if len(w_shape) < 3:
        raise ValueError(f"{w_name}: expected at least 3 axes ({axes}), got {len(w_shape)}: {w_shape}")
    kernel = w_shape[2:]
    if 0 in kernel:
        raise ValueError(f"{w_name}: expected kernel sizes of at least 1, got 0: {w_shape}")
    options = window_options(kernel, stride, padding, dilation, len(kernel))
    count = int_argument("groups", groups, 1)
    if w_shape[0] % count:
        raise ValueError(f"groups: expected a divisor of the {w_shape[0]} {rows} of {w_name}, got {count}")
    return options, count


def conv_geometry(
    x_shape: Shape,
    w_shape: Shape,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    *,
    x_name: str = "x",
    w_name: str = "w",
) -> ConvGeometry:
    """Geometry of conv and its gradients.

    `x_shape` and `w_shape` are tuples of ints: an array's shape, or what `shape_argument` made of the user's.
    `x_name` and `w_name` are the names under which errors speak of them.
    """
    options, count = conv_options(w_shape, stride, padding, dilation, groups, w_name=w_name)
    return _conv(x_shape, w_shape, options, count, (x_name, w_name))


def transposed_geometry(
    x_shape: Shape,
    w_shape: Shape,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    *,
    output_padding: Any = 0,
    output_size: Any = None,
    size_name: str = "output_size",
) -> ConvGeometry:
    """Geometry of the convolution whose input gradient is conv_transpose of x with w.

    So x has the geometry's `y_shape`, and the result its `x_shape`. `size_name` is the name under which
    errors speak of the output size.
    """
    options, count = conv_options(
        w_shape, stride, padding, dilation, groups, axes="C, K / groups and a kernel axis", rows="channels"
    )
    rank = len(options.kernel_size)
    extra = axis_counts("output_padding", output_padding, rank, 0)
    wanted = None if output_size is None else axis_counts(size_name, output_size, rank, 0)
    if wanted is not None and any(extra):
        raise ValueError(f"output_padding: expected 0 where output_size is given, got {output_padding}")
    return _transposed(x_shape, w_shape, options, count, extra, wanted, size_name)


def check_shape(name: str, shape: Shape, expected: Shape) -> None:
    """Refuse an array whose shape is not the one that the geometry gives."""
    if shape != expected:
        hint = _missing_axes(name, shape, expected) if len(expected) > 1 else ""
        raise ValueError(f"{name}: expected shape {expected}, got {shape}{hint}")


def check_exact(windows: Windows) -> None:
    """Refuse windows that leave a remainder at the far side (`strict=True` in the layers)."""
    for axis, (size, kernel, stride, dilation, (before, after), _) in enumerate(zip(*windows)):
        span = dilation * (kernel - 1) + 1
        remainder = (size + before + after - span) % stride
        if remainder:
            raise ValueError(
                f"stride: expected windows that end at the edge of the padded x, "
                f"got a remainder of {remainder} on spatial axis {axis}: "
                f"(size {size} + padding {before} + {after} - window {span}) / stride {stride}"
            )


def _kernel_options(
    x_shape: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any, x_name: str
) -> Options:
    """Canonical options of windows whose size is an argument, for images of this shape."""
    kernel = axis_ints("kernel_size", kernel_size)
    if isinstance(kernel, tuple) and len(kernel) in (len(x_shape), len(x_shape) - 1) and kernel:
        _wrong_axes(x_name, x_shape, len(kernel), f"for the {len(kernel)}-D kernel_size {kernel}")
    if len(x_shape) < 3:
        _wrong_axes(x_name, x_shape, 1, "or more")
    return window_options(kernel, stride, padding, dilation, len(x_shape) - 2)


# Canonical arguments to geometry, cached


@lru_cache(CACHED)
def _patch(x_shape: Shape, options: Options, x_name: str) -> PatchGeometry:
    n, c, *size = x_shape
    windows = _windows(tuple(size), options, "kernel_size")
    name = "padding" if any(sum(pair) for pair in windows.padding) else "kernel_size"
    check_count(name, "columns", (n, c, *windows.kernel_size, *windows.output_size))
    return PatchGeometry(n, c, windows)


@lru_cache(CACHED)
def _conv(
    x_shape: Shape, w_shape: Shape, options: Options, groups: int, names: tuple[str, str]
) -> ConvGeometry:
    x_name, w_name = names
    if len(x_shape) != len(w_shape):
        _wrong_axes(x_name, x_shape, len(w_shape) - 2, f"for {w_name} of shape {w_shape}")
    n, c, *size = x_shape
    k, per_group = w_shape[:2]
    if c % groups:
        raise ValueError(f"groups: expected a divisor of the {c} channels of {x_name}, got {groups}")
    if per_group * groups != c:
        share = f"{c} of {x_name} in {plural(groups, 'group')}"
        text = f"{w_name}: expected {c // groups} channels per filter ({share}), got {per_group}: {w_shape}"
        if c and per_group and c % per_group == 0 and k % (c // per_group) == 0:
            text += f"; groups={c // per_group} would fit"
        raise ValueError(text)
    windows = _windows(tuple(size), options, w_name)
    name = "padding" if any(sum(pair) for pair in windows.padding) else x_name
    geometry = ConvGeometry(n, c, k, groups, windows)
    check_count(name, "a result", geometry.y_shape)
    return geometry


@lru_cache(CACHED)
def _transposed(
    x_shape: Shape,
    w_shape: Shape,
    options: Options,
    groups: int,
    extra: Shape,
    wanted: Shape | None,
    size_name: str,
) -> ConvGeometry:
    if len(x_shape) != len(w_shape):
        _wrong_axes("x", x_shape, len(w_shape) - 2, f"for w of shape {w_shape}")
    n, c, *size = x_shape
    if w_shape[0] != c:
        raise ValueError(f"w: expected {c} channels in front, those of x, got {w_shape[0]}: {w_shape}")
    if 0 in size:
        raise ValueError(f"x: expected spatial sizes of at least 1, got 0: {x_shape}")
    pairs: list[tuple[int, int]] = []
    result: list[int] = []
    for axis, length in enumerate(size):
        kernel, stride, dilation = options.kernel_size[axis], options.stride[axis], options.dilation[axis]
        span = dilation * (kernel - 1) + 1
        pads = 0 if isinstance(options.padding, str) else sum(options.padding[axis])
        why = f"stride {stride}, dilation {dilation}"
        least = usual = (length - 1) * stride + span - pads
        # Beyond the stride the convolution would have more windows; PyTorch too goes on up to the dilation.
        most = least + max(stride, dilation) - 1
        if options.padding in ("same", "same_lower"):  # of a convolution that brings them to `length`
            least, usual, most = (length - 1) * stride + 1, length * stride, length * stride
            why = f"padding={options.padding!r}, whose results have size * stride positions"
        if extra[axis] > most - usual:
            raise ValueError(
                f"output_padding: expected at most {most - usual} on spatial axis {axis} ({why}), "
                f"got {extra[axis]}"
            )
        if wanted is not None and not least <= wanted[axis] <= most:
            sizes = f"{least}" if least == most else f"{least} to {most}"
            raise ValueError(
                f"{size_name}: expected {sizes} on spatial axis {axis} for x of shape {x_shape}, "
                f"got {wanted[axis]}"
            )
        out = usual + extra[axis] if wanted is None else wanted[axis]
        if out < 0:
            raise ValueError(
                f"padding: expected at most {out + pads} on both sides of spatial axis {axis}, "
                f"the size of the result without it, got {pads}"
            )
        if out > MAX_PADDED:
            raise ValueError(
                f"stride: expected results of at most {MAX_PADDED} on an axis, "
                f"got {out} on spatial axis {axis}"
            )
        before, after = _sides(options.padding, axis, out, stride, span)
        _check_padded(axis, out, before, after)
        pairs.append((before, after))
        result.append(out)
    windows = Windows(
        tuple(result), options.kernel_size, options.stride, options.dilation, tuple(pairs), tuple(size)
    )
    geometry = ConvGeometry(n, w_shape[1] * groups, c, groups, windows)
    check_count("x", "a result", geometry.x_shape)
    return geometry


@lru_cache(CACHED)
def _windows(size: Shape, options: Options, kernel_name: str, ceil_mode: bool = False) -> Windows:
    pairs: list[tuple[int, int]] = []
    output: list[int] = []
    for axis, length in enumerate(size):
        kernel, stride, dilation = options.kernel_size[axis], options.stride[axis], options.dilation[axis]
        span = dilation * (kernel - 1) + 1
        before, after = _sides(options.padding, axis, length, stride, span)
        padded = length + before + after
        _check_padded(axis, length, before, after)
        whole = f"size {length} + padding {before} + {after}"
        count = (padded - span + (stride - 1 if ceil_mode else 0)) // stride + 1
        if ceil_mode and (count - 1) * stride >= length + before:
            count -= 1  # the last one would begin in the padding after the image
        # An empty axis has no windows under "same", which asks for ceil(size / stride) of them: no error.
        if count < 1 and (length or options.padding not in ("same", "same_lower")):
            window = f"{span} (kernel {kernel}, dilation {dilation})"
            raise ValueError(
                f"{kernel_name}: expected a window of at most {padded} on spatial axis {axis} ({whole}), "
                f"got {window}: {span - padded} too large"
            )
        pairs.append((before, after))
        output.append(count)
    return Windows(size, options.kernel_size, options.stride, options.dilation, tuple(pairs), tuple(output))


def _sides(padding: Pairs | Mode, axis: int, length: int, stride: int, span: int) -> tuple[int, int]:
    """Padding before and after one axis."""
    if not isinstance(padding, str):
        return padding[axis]
    if padding == "valid":
        return 0, 0
    # ceil(length / stride) positions; the odd element goes after, or before for "same_lower".
    total = max((-(-length // stride) - 1) * stride + span - length, 0)
    less, more = total // 2, total - total // 2
    return (more, less) if padding == "same_lower" else (less, more)


def _check_padded(axis: int, length: int, before: int, after: int) -> None:
    """Refuse an axis on which offsets in the core could overflow."""
    padded = length + before + after
    if padded > MAX_PADDED:
        raise ValueError(
            f"padding: expected padded sizes of at most {MAX_PADDED}, "
            f"got {padded} on spatial axis {axis}: size {length} + padding {before} + {after}"
        )


def _wrong_axes(name: str, shape: Shape, rank: int, why: str) -> NoReturn:
    axes = f"N, C and {rank} spatial"
    hint = _missing_axes(name, shape, (0,) * (rank + 2))
    raise ValueError(f"{name}: expected {rank + 2} axes ({axes}) {why}, got {len(shape)}: {shape}{hint}")


def _missing_axes(name: str, shape: Shape, expected: Shape) -> str:
    """The suggestion for an array that lacks the image axis, or the channel axis too."""
    missing = len(expected) - len(shape)
    if missing not in (1, 2):
        return ""
    what = "N" if missing == 1 else "N and C"
    if name.endswith("_shape"):
        return f"; for one image without {what} pass ({'1, ' * missing}*{name})"
    return f"; for one image without {what} pass {name}[{', '.join(['None'] * missing)}]"
