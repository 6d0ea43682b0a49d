"""Layouts: every permutation and grouping against NumPy's transpose and reshape; errors word for word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.errors import raises
from windrow.geometry import fold_windows, patch_geometry
from windrow.layout import (
    check_columns,
    column_shape,
    elementary_axes,
    elementary_strides,
    infer_images,
    parse_layout,
)

PARTS = {1: "w", 2: "hw", 3: "dhw"}


def geometry(rank=2, n=2, c=3):
    sizes = (5, 7, 4, 6)[:rank]
    kernel = (2, 3, 1, 2)[:rank]
    return patch_geometry((n, c, *sizes), kernel, (1, 2, 1, 3)[:rank], 0, 1)


@pytest.mark.parametrize(
    ("spec", "rank", "axes"),
    [
        ("n (c k) l", 1, (("n",), ("c", "k0"), ("l0",))),
        ("n (c k) l", 2, (("n",), ("c", "k0", "k1"), ("l0", "l1"))),
        ("(c k) (l n)", 2, (("c", "k0", "k1"), ("l0", "l1", "n"))),
        ("(c k)(l n)", 2, (("c", "k0", "k1"), ("l0", "l1", "n"))),
        ("  ( n l )  ( c k ) ", 2, (("n", "l0", "l1"), ("c", "k0", "k1"))),
        ("n l (k c)", 2, (("n",), ("l0", "l1"), ("k0", "k1", "c"))),
        ("n l c kh kw", 2, (("n",), ("l0", "l1"), ("c",), ("k0",), ("k1",))),
        ("n c k1 k0 lw lh", 2, (("n",), ("c",), ("k1",), ("k0",), ("l1",), ("l0",))),
        ("n c kd k1 kw (ld lh) l2", 3, (("n",), ("c",), ("k0",), ("k1",), ("k2",), ("l0", "l1"), ("l2",))),
        ("(n c k l)", 1, (("n", "c", "k0", "l0"),)),
        ("kw n c lw", 1, (("k0",), ("n",), ("c",), ("l0",))),
        (
            "k3 n c k2 k1 k0 l",
            4,
            (("k3",), ("n",), ("c",), ("k2",), ("k1",), ("k0",), ("l0", "l1", "l2", "l3")),
        ),
    ],
)
def test_parsing(spec, rank, axes):
    layout = parse_layout(spec, rank)
    assert layout == (spec, rank, axes)
    assert layout.ndim == len(axes)
    assert parse_layout(spec, rank) is layout


class Spec(str):
    """A string, but not an exact one: its hash and equality are the subclass's own."""

    __slots__ = ()

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


def test_a_str_subclass_is_taken_by_its_text():
    layout = parse_layout(Spec("n l (c k)"), 2)
    assert layout.axes == (("n",), ("l0", "l1"), ("c", "k0", "k1"))
    assert type(layout.spec) is str


def test_known_shapes():
    problem = geometry()  # k = 2x3, l = 4x3
    assert elementary_axes(2) == ("n", "c", "k0", "k1", "l0", "l1")
    for spec, shape in [
        ("n (c k) l", (2, 18, 12)),
        ("(c k) (l n)", (18, 24)),
        ("(n l) (c k)", (24, 18)),
        ("n l c kh kw", (2, 12, 3, 2, 3)),
        ("lw (lh n) k c", (3, 8, 6, 3)),
    ]:
        assert column_shape(parse_layout(spec, 2), problem) == shape


@st.composite
def specs(draw, rank):
    """A random permutation and grouping, wholes or parts, parts under either of their names."""
    names = ["n", "c"]
    for whole in "kl":
        if draw(st.booleans()):
            names.append(whole)
        else:
            for axis in range(rank):
                alias = rank in PARTS and draw(st.booleans())
                names.append(whole + (PARTS[rank][axis] if alias else str(axis)))
    names = draw(st.permutations(names))
    spec, start = [], 0
    while start < len(names):
        length = draw(st.integers(1, 3))
        group = names[start : start + length]
        spec.append(f"({' '.join(group)})" if len(group) > 1 or draw(st.booleans()) else group[0])
        start += length
    return " ".join(spec)


def brute_force(spec, rank, problem):
    """A column array in the given layout whose values number the elementary axes in canonical order.

    It follows the text of the layout on its own: transpose the elementary axes, then merge the groups.
    """
    windows = problem.windows
    sizes = {"n": problem.n, "c": problem.c}
    for whole, lengths in (("k", windows.kernel_size), ("l", windows.output_size)):
        sizes.update({f"{whole}{axis}": length for axis, length in enumerate(lengths)})
    order = list(sizes)
    numbers = np.arange(np.prod(list(sizes.values()))).reshape(list(sizes.values()))

    def elementary(name):
        if name in "nc":
            return [name]
        if name in "kl":
            return [f"{name}{axis}" for axis in range(rank)]
        return [name if name[1].isdigit() else f"{name[0]}{PARTS[rank].index(name[1])}"]

    text = spec.replace("(", " ( ").replace(")", " ) ").split()
    permutation, shape, inside = [], [], False
    for token in text:
        if token == "(":
            inside = True
            shape.append(1)
        elif token == ")":
            inside = False
        else:
            axes = elementary(token)
            permutation += [order.index(axis) for axis in axes]
            length = int(np.prod([sizes[axis] for axis in axes]))
            if inside:
                shape[-1] *= length
            else:
                shape.append(length)
    return np.ascontiguousarray(numbers.transpose(permutation).reshape(shape))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_layouts_are_transposes_and_reshapes(data):
    rank = data.draw(st.integers(1, 4))
    spec = data.draw(specs(rank))
    problem = geometry(rank)
    layout = parse_layout(spec, rank)
    columns = brute_force(spec, rank, problem)
    assert column_shape(layout, problem) == columns.shape
    check_columns("cols", columns.shape, layout, problem)

    # Through the elementary strides the same memory is the array in canonical order, holes and flips and all.
    steps = data.draw(st.lists(st.sampled_from([1, 2, -1]), min_size=columns.ndim, max_size=columns.ndim))
    room = np.full([length * abs(step) for length, step in zip(columns.shape, steps)], -1)
    view = room[tuple(slice(None, None, step) for step in steps)]
    view[...] = columns
    strides = elementary_strides(layout, problem, view.strides)
    windows = problem.windows
    lengths = (problem.n, problem.c, *windows.kernel_size, *windows.output_size)
    canonical = np.lib.stride_tricks.as_strided(view, lengths, strides)
    assert np.array_equal(canonical.ravel(), np.arange(canonical.size))


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.data())
def test_images_are_read_off_the_columns_or_col2im_is_named(data):
    rank = data.draw(st.integers(1, 3))
    spec = data.draw(specs(rank))
    problem = geometry(rank, n=data.draw(st.integers(0, 3)), c=data.draw(st.integers(0, 3)))
    layout = parse_layout(spec, rank)
    shape = column_shape(layout, problem)
    if any("n" in group and "c" in group for group in layout.axes):
        with pytest.raises(ValueError, match="use col2im, which takes x_shape"):
            infer_images("cols", shape, layout, problem.windows)
    else:
        assert infer_images("cols", shape, layout, problem.windows) == (problem.n, problem.c)


@pytest.mark.parametrize(
    ("spec", "rank", "problem", "caret"),
    [
        (
            "n (c q) l",
            2,
            "no axis 'q' for a 2-D window, expected n, c, k (k0 k1 | kh kw), l (l0 l1 | lh lw)",
            5,
        ),
        ("N c k l", 1, "no axis 'N' for a 1-D window, expected n, c, k (k0 | kw), l (l0 | lw)", 0),
        ("n c k4 l", 4, "no axis 'k4' for a 4-D window, expected n, c, k (k0 k1 k2 k3), l (l0 l1 l2 l3)", 4),
        ("n c kh l", 1, "no axis 'kh' for a 1-D window, expected n, c, k (k0 | kw), l (l0 | lw)", 4),
        ("n c k00 l", 1, "no axis 'k00' for a 1-D window, expected n, c, k (k0 | kw), l (l0 | lw)", 4),
        ("nck l", 1, "no axis 'nck' for a 1-D window, expected n, c, k (k0 | kw), l (l0 | lw)", 0),
        ("n (c (k)) l", 2, "parentheses do not nest", 5),
        ("n c) k l", 2, "no parenthesis is open here", 3),
        ("n () c k l", 2, "expected a name inside the parentheses", 3),
        ("n (c k l", 2, "this parenthesis is not closed", 2),
        ("n c k l (", 2, "this parenthesis is not closed", 8),
        ("n c k k l", 2, "'k' is named twice", 6),
        ("n c k n l", 2, "'n' is named twice", 6),
        ("n c k kh l", 2, "'k' and 'kh' name the same axis", 6),
        ("n c kh k l", 2, "'kh' and 'k' name the same axis", 7),
        ("n c k0 kh l", 2, "'k0' and 'kh' name the same axis", 7),
        ("n c kh l", 2, "missing 'k1'", 8),
        ("n c kd l", 3, "missing 'k1', 'k2'", 8),
        ("n c l", 2, "missing 'k'", 5),
        ("k l", 2, "missing 'n', 'c'", 3),
        ("", 2, "missing 'n', 'c', 'k', 'l'", 0),
        ("n,c k l", 2, "expected names, spaces and parentheses, got ','", 1),
        ("n c\tk l", 2, "expected names, spaces and parentheses, got '\\t'", 3),
        ("n [c k] l", 2, "expected names, spaces and parentheses, got '['", 2),
        ("n -> c k l", 2, "expected names, spaces and parentheses, got '-'", 2),
        ("n c k\u0661 l", 2, "expected names, spaces and parentheses, got '\u0661'", 5),
    ],
)
def test_errors_show_the_place(spec, rank, problem, caret):
    shown = spec.replace("\t", "?")
    raises(ValueError, f"layout: {problem}\n    {shown}\n    {' ' * caret}^", parse_layout, spec, rank)


def test_errors_of_type():
    text = "layout: expected a string such as 'n (c k) l', got"
    raises(TypeError, f"{text} NoneType: None", parse_layout, None, 2)
    raises(TypeError, f"{text} bytes: b'n c k l'", parse_layout, b"n c k l", 2)
    raises(TypeError, f"{text} tuple: ('n', 'c')", parse_layout, ("n", "c"), 2)


def test_errors_of_columns():
    layout = parse_layout("n (c k) l", 2)
    check_columns("cols", (2, 18, 12), layout, geometry())
    text = "cols: expected shape (2, 18, 12) for layout 'n (c k) l' (n=2, c=3, k=2x3, l=4x3), got"
    raises(ValueError, f"{text} (2, 18, 13)", check_columns, "cols", (2, 18, 13), layout, geometry())
    raises(ValueError, f"{text} (18, 12)", check_columns, "cols", (18, 12), layout, geometry())


def test_errors_of_reading_images_off():
    windows = geometry().windows
    layout = parse_layout("n (c k) l", 2)
    read = infer_images
    assert read("cols", (2, 18, 12), layout, windows) == (2, 3)
    text = "cols: expected 3 axes for layout 'n (c k) l', got"
    raises(
        ValueError,
        f"{text} 2: (18, 12); for one image without n pass cols[None]",
        read,
        "cols",
        (18, 12),
        layout,
        windows,
    )
    raises(ValueError, f"{text} 1: (12,)", read, "cols", (12,), layout, windows)
    rows = parse_layout("(n l) (c k)", 2)
    text = "cols: expected 2 axes for layout '(n l) (c k)', got 1: (12,)"
    raises(ValueError, text, read, "cols", (12,), rows, windows)
    text = "cols: expected a multiple of 6 on axis 1 for layout 'n (c k) l', got 19: (2, 19, 12)"
    raises(ValueError, text, read, "cols", (2, 19, 12), layout, windows)
    text = "cols: expected 12 on axis 2 for layout 'n (c k) l', got 13: (2, 18, 13)"
    raises(ValueError, text, read, "cols", (2, 18, 13), layout, windows)
    for spec in ("(n c) k l", "(c k n) l"):
        text = (
            f"layout: n and c cannot be told apart in an axis that holds both: {spec!r}; "
            "use col2im, which takes x_shape"
        )
        both = parse_layout(spec, 2)
        raises(ValueError, text, read, "cols", column_shape(both, geometry()), both, windows)


def test_images_of_columns_without_positions():
    windows = fold_windows((0, 4), 3, 1, "same", 1)
    assert windows.positions == 0
    assert infer_images("cols", (2, 27, 0), parse_layout("n (c k) l", 2), windows) == (2, 3)
    notebook = parse_layout("(c k) (l n)", 2)
    raises(
        ValueError,
        "cols: n cannot be read off an axis that holds no window positions: (27, 0) "
        "for layout '(c k) (l n)'; use col2im, which takes x_shape",
        infer_images,
        "cols",
        (27, 0),
        notebook,
        windows,
    )
    raises(
        ValueError,
        "cols: expected 0 on axis 1 for layout '(c k) (l n)', got 5: (27, 5)",
        infer_images,
        "cols",
        (27, 5),
        notebook,
        windows,
    )
