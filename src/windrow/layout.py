"""The `layout` grammar: where each axis of the patches goes in the column array.

A layout names every axis once, separated by spaces, with one level of parentheses for axes that share an axis
of the columns (the last name in the parentheses varies fastest):

    n (c k) l        PyTorch's unfold
    (c k) (l n)      the notebook's and CS231n's im2col
    n l c kh kw      a stack of patches

n is the image, c the channel, k the position in the window, l the window's position in the image. Instead of
the whole k or l its parts may be named: k0 k1 ..., l0 l1 ..., or kw | kh kw | kd kh kw and lw | lh lw | ld lh
lw in ranks 1 | 2 | 3. The result of parsing is in elementary axes only (n, c, k0, k1, ..., l0, l1, ...), so
that nothing after this module knows which form the user wrote.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, NoReturn

from .arguments import Shape, show
from .geometry import CACHED, PatchGeometry, Windows

_ALIASES = ("w", "hw", "dhw")  # of the spatial axes in ranks 1, 2, 3


class Layout(NamedTuple):
    """A parsed layout: for each axis of the columns, its elementary axes from slowest to fastest."""

    spec: str
    rank: int
    axes: tuple[tuple[str, ...], ...]

    @property
    def ndim(self) -> int:
        """Number of axes of the columns."""
        return len(self.axes)


def elementary_axes(rank: int) -> tuple[str, ...]:
    """Names of the elementary axes in their canonical order: n, c, k0, k1, ..., l0, l1, ..."""
    return ("n", "c", *(f"{whole}{axis}" for whole in "kl" for axis in range(rank)))


def parse_layout(spec: Any, rank: int) -> Layout:
    """Parse a layout for windows of `rank` axes; errors show the text with a caret under the place.

    >>> parse_layout("n (c k) l", 2).axes
    (('n',), ('c', 'k0', 'k1'), ('l0', 'l1'))
    """
    if type(spec) is not str:
        if not isinstance(spec, str):
            raise TypeError(
                f"layout: expected a string such as 'n (c k) l', got {type(spec).__name__}: {show(spec)}"
            )
        spec = str(spec)
    return _parse(spec, rank)


def column_shape(layout: Layout, geometry: PatchGeometry) -> Shape:
    """Shape of the columns.

    >>> from windrow.geometry import patch_geometry
    >>> geometry = patch_geometry((1, 3, 8, 8), kernel_size=3, stride=1, padding=0, dilation=1)
    >>> column_shape(parse_layout("n (c k) l", 2), geometry)
    (1, 27, 36)
    """
    sizes = _sizes(geometry.n, geometry.c, geometry.windows)
    return tuple(prod(sizes[name] for name in group) for group in layout.axes)


def check_columns(name: str, shape: Shape, layout: Layout, geometry: PatchGeometry) -> None:
    """Refuse columns whose shape is not what the layout and the geometry give."""
    expected = column_shape(layout, geometry)
    if shape != expected:
        windows = geometry.windows
        kernel, output = ("x".join(map(str, sizes)) for sizes in (windows.kernel_size, windows.output_size))
        counts = f"n={geometry.n}, c={geometry.c}, k={kernel}, l={output}"
        raise ValueError(
            f"{name}: expected shape {expected} for layout {layout.spec!r} ({counts}), got {shape}"
        )


def elementary_strides(layout: Layout, geometry: PatchGeometry, strides: Shape) -> Shape:
    """Strides of the elementary axes, in canonical order, from the strides of the columns (in the same unit).

    An axis of the columns that holds several elementary axes is split row-major.

    >>> from windrow.geometry import patch_geometry
    >>> geometry = patch_geometry((1, 3, 8, 8), kernel_size=3, stride=1, padding=0, dilation=1)
    >>> elementary_strides(parse_layout("n (c k) l", 2), geometry, (972, 36, 1))
    (972, 324, 108, 36, 6, 1)
    """
    sizes = _sizes(geometry.n, geometry.c, geometry.windows)
    found: dict[str, int] = {}
    for group, stride in zip(layout.axes, strides, strict=True):
        step = stride
        for name in reversed(group):
            found[name] = step
            step *= sizes[name]
    return tuple(found[name] for name in sizes)


def infer_images(name: str, shape: Shape, layout: Layout, windows: Windows) -> tuple[int, int]:
    """The n and c of columns of this shape; an error that names `col2im` where they cannot be read off."""
    if len(shape) != layout.ndim:
        text = f"{name}: expected {layout.ndim} axes for layout {layout.spec!r}, got {len(shape)}: {shape}"
        if len(shape) == layout.ndim - 1 and layout.axes[0] == ("n",):
            text += f"; for one image without n pass {name}[None]"
        raise ValueError(text)
    sizes = _sizes(0, 0, windows)
    found: dict[str, int] = {}
    for axis, (group, length) in enumerate(zip(layout.axes, shape)):
        unknown = [axis_name for axis_name in group if axis_name in ("n", "c")]
        known = prod(sizes[axis_name] for axis_name in group if axis_name not in ("n", "c"))
        if len(unknown) == 2:
            raise ValueError(
                f"layout: n and c cannot be told apart in an axis that holds both: {layout.spec!r}; "
                "use col2im, which takes x_shape"
            )
        where = f"on axis {axis} for layout {layout.spec!r}"
        if not unknown:
            if length != known:
                raise ValueError(f"{name}: expected {known} {where}, got {length}: {shape}")
        elif length % known if known else length:
            raise ValueError(
                f"{name}: expected {f'a multiple of {known}' if known else 0} {where}, got {length}: {shape}"
            )
        elif not known:
            raise ValueError(
                f"{name}: {unknown[0]} cannot be read off an axis that holds no window positions: {shape} "
                f"for layout {layout.spec!r}; use col2im, which takes x_shape"
            )
        else:
            found[unknown[0]] = length // known
    return found["n"], found["c"]


def _sizes(n: int, c: int, windows: Windows) -> dict[str, int]:
    """Length of each elementary axis, in canonical order."""
    return dict(
        zip(elementary_axes(windows.rank), (n, c, *windows.kernel_size, *windows.output_size), strict=True)
    )


@lru_cache(CACHED)
def _parse(spec: str, rank: int) -> Layout:
    names = _names(rank)
    axes: list[tuple[str, ...]] = []
    group: list[str] | None = None
    opened = 0  # where the open parenthesis is
    taken: dict[str, str] = {}  # elementary axis -> the name that brought it
    for place, token in _tokens(spec):
        if token == "(":
            if group is not None:
                _refuse(spec, place, "parentheses do not nest")
            group, opened = [], place
        elif token == ")":
            if group is None:
                _refuse(spec, place, "no parenthesis is open here")
            if not group:
                _refuse(spec, place, "expected a name inside the parentheses")
            axes.append(tuple(group))
            group = None
        else:
            if token not in names:
                _refuse(spec, place, _unknown(token, rank))
            for axis in names[token]:
                if axis in taken:
                    _refuse(spec, place, _repeated(token, taken[axis]))
                taken[axis] = token
            if group is None:
                axes.append(names[token])
            else:
                group.extend(names[token])
    if group is not None:
        _refuse(spec, opened, "this parenthesis is not closed")
    missing = [axis for axis in elementary_axes(rank) if axis not in taken]
    if missing:
        _refuse(spec, len(spec), f"missing {_as_written(missing, rank)}")
    return Layout(spec, rank, tuple(axes))


def _names(rank: int) -> dict[str, tuple[str, ...]]:
    """Every name of this rank with the elementary axes it stands for."""
    names: dict[str, tuple[str, ...]] = {"n": ("n",), "c": ("c",)}
    for whole in "kl":
        parts = tuple(f"{whole}{axis}" for axis in range(rank))
        names[whole] = parts
        names.update({part: (part,) for part in parts})
        if rank <= len(_ALIASES):
            names.update({whole + letter: (part,) for letter, part in zip(_ALIASES[rank - 1], parts)})
    return names


def _tokens(spec: str) -> Iterator[tuple[int, str]]:
    """Parentheses and names, each with its place."""
    place = 0
    while place < len(spec):
        character = spec[place]
        if character == " ":
            place += 1
        elif character in "()":
            yield place, character
            place += 1
        else:
            end = place
            while end < len(spec) and spec[end] not in " ()":
                if not (spec[end].isascii() and spec[end].isalnum()):
                    _refuse(spec, end, f"expected names, spaces and parentheses, got {spec[end]!r}")
                end += 1
            yield place, spec[place:end]
            place = end


def _unknown(token: str, rank: int) -> str:
    known = []
    for whole in "kl":
        parts = " ".join(f"{whole}{axis}" for axis in range(rank))
        if rank <= len(_ALIASES):
            parts += " | " + " ".join(whole + letter for letter in _ALIASES[rank - 1])
        known.append(f"{whole} ({parts})")
    return f"no axis {token!r} for a {rank}-D window, expected n, c, {known[0]}, {known[1]}"


def _repeated(token: str, before: str) -> str:
    if token == before:
        return f"{token!r} is named twice"
    return f"{before!r} and {token!r} name the same axis"


def _as_written(missing: list[str], rank: int) -> str:
    """Missing elementary axes, a whole where all its parts are missing."""
    words = []
    for axis in missing:
        whole = axis[0]
        entire = all(f"{whole}{part}" in missing for part in range(rank))
        word = whole if whole in "nc" or entire else axis
        if repr(word) not in words:
            words.append(repr(word))
    return ", ".join(words)


def _refuse(spec: str, place: int, problem: str) -> NoReturn:
    # What cannot be printed in one column is shown as "?", so that the caret stays under its place.
    line = "".join(character if character.isprintable() else "?" for character in spec)
    raise ValueError(f"layout: {problem}\n    {line}\n    {' ' * place}^")
