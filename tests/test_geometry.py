"""Sizes, padding and shapes: the formulas against counting by hand, and the exact text of every error."""

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.errors import raises
from windrow.geometry import (
    ConvGeometry,
    PatchGeometry,
    Windows,
    check_exact,
    check_shape,
    conv_geometry,
    conv_options,
    fold_geometry,
    fold_windows,
    patch_geometry,
    transposed_geometry,
)

X = (2, 3, 8, 9)
MAX = 2**63 - 1


def patches(x_shape=X, kernel_size=3, stride=1, padding=0, dilation=1, **names):
    return patch_geometry(x_shape, kernel_size, stride, padding, dilation, **names)


def conv(x_shape=(2, 4, 8, 9), w_shape=(6, 4, 3, 3), **options):
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    return conv_geometry(x_shape, w_shape, **(defaults | options))


# What comes out


def test_patch_geometry_of_a_known_problem():
    geometry = patches(stride=(2, 1), padding=((1, 0), (2, 2)), dilation=(1, 2))
    assert geometry == PatchGeometry(2, 3, Windows((8, 9), (3, 3), (2, 1), (1, 2), ((1, 0), (2, 2)), (4, 9)))
    assert (geometry.windows.rank, geometry.windows.taps, geometry.windows.positions) == (2, 9, 36)
    assert geometry.x_shape == X
    assert geometry.elements == 2 * 3 * 9 * 36


def test_conv_geometry_of_a_known_problem():
    geometry = conv(stride=2, padding=1, groups=2, w_shape=(6, 2, 3, 3))
    assert geometry == ConvGeometry(
        2, 4, 6, 2, Windows((8, 9), (3, 3), (2, 2), (1, 1), ((1, 1), (1, 1)), (4, 5))
    )
    assert geometry.x_shape == (2, 4, 8, 9)
    assert geometry.w_shape == (6, 2, 3, 3)
    assert geometry.y_shape == (2, 6, 4, 5)
    assert geometry.flops == 2 * 2 * 6 * 20 * 2 * 9


def test_everything_is_an_exact_int():
    geometry = patches(
        X, np.int8(3), np.array([1, 2]), np.array([[1, 0], [0, 1]]), (np.int64(1), np.uint8(2))
    )

    def leaves(value):
        return [leaf for entry in value for leaf in leaves(entry)] if isinstance(value, tuple) else [value]

    assert {type(leaf) for leaf in leaves(geometry)} == {int}


def test_equal_problems_share_one_description():
    assert patches(padding=1) is patches(stride=[1, 1], padding=((1, 1), [1, 1]), dilation=np.int64(1))
    assert conv(padding=1) is conv(padding=(1, 1), groups=np.int8(1))


def test_empty_axes_are_fine():
    assert patches((0, 0, 8, 9)).elements == 0
    assert conv((0, 0, 8, 9), (0, 0, 3, 3)).y_shape == (0, 0, 6, 7)
    assert conv((2, 4, 8, 9), (0, 2, 3, 3), groups=2).y_shape == (2, 0, 6, 7)
    assert patches((1, 1, 0, 9), 3, 1, (2, 0)).windows.output_size == (2, 7)
    for mode in ("same", "same_lower"):
        assert patches((1, 1, 0, 9), 3, 2, mode).windows.output_size == (0, 5)


# Formulas against counting

axis = st.tuples(
    st.integers(1, 12),  # size
    st.integers(1, 5),  # kernel
    st.integers(1, 6),  # stride
    st.integers(1, 4),  # dilation
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
)


def count_positions(size, kernel, stride, dilation, padding):
    """Windows that fit, counted one by one on the padded axis."""
    start = count = 0
    while start + dilation * (kernel - 1) < size + sum(padding):
        count += 1
        start += stride
    return count


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(axis, min_size=1, max_size=4))
def test_output_size_is_the_number_of_windows_that_fit(axes):
    size, kernel, stride, dilation, padding = zip(*axes)
    expected = tuple(count_positions(*one) for one in axes)
    if 0 in expected:
        with pytest.raises(
            ValueError, match=r"^kernel_size: expected a window of at most \d+ on spatial axis"
        ):
            patches((1, 1, *size), kernel, stride, padding, dilation)
        return
    windows = patches((2, 3, *size), kernel, stride, padding, dilation).windows
    assert windows.output_size == expected
    assert windows.positions == len(list(product(*map(range, expected))))
    assert (
        conv((2, 3, *size), (5, 3, *kernel), stride=stride, padding=padding, dilation=dilation).windows
        == windows
    )
    assert fold_windows(size, kernel, stride, padding, dilation) == windows


@settings(max_examples=200, derandomize=True, deadline=None)
@given(axis)
def test_same_is_ceil_size_over_stride_with_the_least_padding(one):
    size, kernel, stride, dilation, _ = one
    upper = patches((1, 1, size), kernel, stride, "same", dilation).windows
    lower = patches((1, 1, size), kernel, stride, "same_lower", dilation).windows
    wanted = len(range(0, size, stride))
    assert upper.output_size == lower.output_size == (wanted,)
    (before, after) = upper.padding[0]
    assert lower.padding == ((after, before),)
    assert after - before in (0, 1)
    if before + after:
        assert count_positions(size, kernel, stride, dilation, (0, before + after - 1)) < wanted


@settings(max_examples=100, derandomize=True, deadline=None)
@given(axis)
def test_strict_is_an_error_exactly_where_a_padded_element_is_left_over(one):
    size, kernel, stride, dilation, padding = one
    positions = count_positions(size, kernel, stride, dilation, padding)
    if not positions:
        return
    windows = patches((1, 1, size), kernel, stride, (padding,), dilation).windows
    end = (positions - 1) * stride + dilation * (kernel - 1) + 1
    if end == size + sum(padding):
        check_exact(windows)
    else:
        with pytest.raises(ValueError, match=rf"got a remainder of {size + sum(padding) - end} on"):
            check_exact(windows)


# Errors, word for word


def test_errors_of_windows_that_do_not_fit_say_by_how_much():
    raises(
        ValueError,
        "kernel_size: expected a window of at most 9 on spatial axis 0 (size 8 + padding 1 + 0), "
        "got 11 (kernel 6, dilation 2): 2 too large",
        patches,
        kernel_size=(6, 1),
        padding=((1, 0), (0, 0)),
        dilation=2,
    )
    raises(
        ValueError,
        "w: expected a window of at most 3 on spatial axis 1 (size 3 + padding 0 + 0), "
        "got 5 (kernel 5, dilation 1): 2 too large",
        conv,
        (1, 1, 8, 3),
        (1, 1, 5, 5),
    )
    raises(
        ValueError,
        "kernel_size: expected a window of at most 0 on spatial axis 0 (size 0 + padding 0 + 0), "
        "got 1 (kernel 1, dilation 1): 1 too large",
        patches,
        (1, 1, 0, 4),
        1,
    )


def test_errors_of_rank_suggest_the_missing_axes():
    text = "expected 4 axes (N, C and 2 spatial) for the 2-D kernel_size (3, 3), got"
    hint = "; for one image without N pass"
    raises(ValueError, f"x: {text} 3: (3, 8, 8){hint} x[None]", patches, (3, 8, 8), (3, 3))
    raises(ValueError, f"x: {text} 2: (8, 8){hint[:-5]} and C pass x[None, None]", patches, (8, 8), (3, 3))
    raises(
        ValueError,
        f"x_shape: {text} 3: (3, 8, 8){hint} (1, *x_shape)",
        patches,
        (3, 8, 8),
        (3, 3),
        x_name="x_shape",
    )
    raises(
        ValueError,
        f"x_shape: {text} 2: (8, 8){hint[:-5]} and C pass (1, 1, *x_shape)",
        patches,
        (8, 8),
        (3, 3),
        x_name="x_shape",
    )
    text = "x: expected 3 axes (N, C and 1 spatial) or more, got"
    raises(ValueError, f"{text} 2: (3, 8){hint} x[None]", patches, (3, 8), 3)
    raises(ValueError, f"{text} 1: (8,){hint[:-5]} and C pass x[None, None]", patches, (8,), 3)
    raises(ValueError, f"{text} 0: ()", patches, (), 3)
    raises(
        ValueError,
        "kernel_size: expected 2 values for a 2-D window, got 1: (3,)",
        patches,
        (1, 3, 8, 8),
        (3,),
    )
    text = "x: expected 4 axes (N, C and 2 spatial) for w of shape (6, 4, 3, 3), got"
    raises(ValueError, f"{text} 3: (4, 8, 8){hint} x[None]", conv, (4, 8, 8))
    raises(ValueError, f"{text} 5: (1, 4, 8, 8, 8)", conv, (1, 4, 8, 8, 8))


def test_errors_of_weights_and_groups():
    text = "w: expected at least 3 axes (K, C / groups and a kernel axis), got 2: (6, 4)"
    raises(ValueError, text, conv, w_shape=(6, 4))
    raises(
        ValueError, "w: expected kernel sizes of at least 1, got 0: (6, 4, 0, 3)", conv, w_shape=(6, 4, 0, 3)
    )
    raises(
        ValueError,
        "w: expected 4 channels per filter (4 of x in 1 group), got 3: (6, 3, 3, 3)",
        conv,
        w_shape=(6, 3, 3, 3),
    )
    raises(
        ValueError,
        "w_shape: expected 4 channels per filter (4 of x_shape in 1 group), got 2: (6, 2, 3, 3); "
        "groups=2 would fit",
        conv,
        w_shape=(6, 2, 3, 3),
        x_name="x_shape",
        w_name="w_shape",
    )
    raises(
        ValueError,
        "w: expected 2 channels per filter (4 of x in 2 groups), got 4: (6, 4, 3, 3); groups=1 would fit",
        conv,
        groups=2,
    )
    raises(ValueError, "groups: expected a divisor of the 6 filters of w, got 4", conv, groups=4)
    raises(ValueError, "groups: expected a divisor of the 4 channels of x, got 3", conv, groups=3)
    raises(ValueError, "groups: expected at least 1, got 0", conv, groups=0)
    raises(TypeError, "groups: expected an int, got bool: True", conv, groups=True)
    raises(TypeError, "groups: expected an int, got float: 1.0", conv, groups=1.0)
    raises(TypeError, "groups: expected an int, got tuple: (1,)", conv, groups=(1,))


def test_the_suggestion_of_groups_survives_zeros():
    text = "w: expected 0 channels per filter (0 of x in 1 group), got 4: (6, 4, 3, 3)"
    raises(ValueError, text, conv, (2, 0, 8, 9))
    text = "w: expected 4 channels per filter (4 of x in 1 group), got 0: (6, 0, 3, 3)"
    raises(ValueError, text, conv, w_shape=(6, 0, 3, 3))


def test_options_are_checked_before_x_is_known():
    options, groups = conv_options((6, 2, 3, 3), 2, "same", (1, 2), 2)
    assert options == ((3, 3), (2, 2), (1, 2), "same")
    assert groups == 2
    raises(ValueError, "stride: expected at least 1, got 0", conv_options, (6, 2, 3, 3), 0, 0, 1, 1)


def test_the_largest_padded_size():
    """One more is refused; no memory is asked for here."""
    most = 2**48
    windows = patches((1, 1, 8), 1, 2**40, ((most - 8, 0),)).windows
    assert windows.output_size == (2**8,)
    text = f"padding: expected padded sizes of at most {most}, got {most + 1} on spatial axis 0: "
    raises(
        ValueError, text + f"size 8 + padding {most - 8} + 1", patches, (1, 1, 8), 1, 2**40, ((most - 8, 1),)
    )
    w = (1, 1, 1)
    result = transposed_geometry((1, 1, 2), w, most - 1, 0, 1, 1).x_shape
    assert result == (1, 1, most)
    text = f"stride: expected results of at most {most} on an axis, got {most + 1} on spatial axis 0"
    raises(ValueError, text, transposed_geometry, (1, 1, 2), w, most, 0, 1, 1)


def test_errors_of_sizes_past_int64():
    half = 2**62
    raises(
        ValueError,
        f"padding: expected padded sizes of at most {2**48}, got {8 + 2 * half} on spatial axis 0: "
        f"size 8 + padding {half} + {half}",
        patches,
        padding=half,
    )
    side = 2**32
    raises(
        ValueError,
        f"kernel_size: expected columns of at most {MAX} elements, got {2**64}: (1, 1, 1, 1, {side}, {side})",
        patches,
        (1, 1, side, side),
        1,
    )
    out = 2 * side + 6
    raises(
        ValueError,
        f"padding: expected columns of at most {MAX} elements, got {9 * out * (out + 1) * 6}: "
        f"(2, 3, 3, 3, {out}, {out + 1})",
        patches,
        padding=side,
    )
    raises(
        ValueError,
        f"padding: expected a result of at most {MAX} elements, got {12 * out * (out + 1)}: "
        f"(2, 6, {out}, {out + 1})",
        conv,
        padding=side,
    )
    raises(
        ValueError,
        f"x: expected a result of at most {MAX} elements, got {2**64}: ({2**62}, 4, 1)",
        conv,
        (2**62, 1, 1),
        (4, 1, 1),
    )
    # NumPy refuses an empty array whose other axes overflow, and so must we.
    raises(
        ValueError,
        f"padding: expected a result of at most {MAX} elements, got {6 * out * (out + 1)}: "
        f"(0, 6, {out}, {out + 1})",
        conv,
        (0, 4, 8, 9),
        padding=side,
    )


def test_errors_of_strict():
    raises(
        ValueError,
        "stride: expected windows that end at the edge of the padded x, got a remainder of 1 on "
        "spatial axis 1: "
        "(size 9 + padding 1 + 0 - window 3) / stride 3",
        check_exact,
        patches(stride=(1, 3), padding=((0, 0), (1, 0))).windows,
    )


def test_errors_of_shapes():
    check_shape("dy", (2, 6, 4, 5), (2, 6, 4, 5))
    raises(
        ValueError,
        "dy: expected shape (2, 6, 4, 5), got (2, 6, 4, 4)",
        check_shape,
        "dy",
        (2, 6, 4, 4),
        (2, 6, 4, 5),
    )
    raises(
        ValueError,
        "dy: expected shape (1, 6, 4, 5), got (6, 4, 5); for one image without N pass dy[None]",
        check_shape,
        "dy",
        (6, 4, 5),
        (1, 6, 4, 5),
    )


def test_output_size_of_fold():
    windows = fold_windows([np.int64(8), 9], 3, 1, 0, 1)
    assert windows == patches().windows
    assert fold_geometry(2, 3, windows) == patches()
    fold = fold_windows
    text = "output_size: expected a sequence of one int per spatial axis, since its length is the rank, "
    text += "got int: 8; write (8,) for 1-D, (8, 8) for 2-D"
    raises(TypeError, text, fold, 8, 3, 1, 0, 1)
    text = "output_size: expected a sequence of one int per spatial axis, got"
    raises(TypeError, f"{text} str: '88'", fold, "88", 3, 1, 0, 1)
    raises(TypeError, f"{text} bool True in (8, True)", fold, (8, True), 3, 1, 0, 1)
    raises(ValueError, "output_size: expected at least 1 spatial axis, got 0: ()", fold, (), 3, 1, 0, 1)
    raises(
        ValueError, "output_size: expected sizes of at least 0, got -8: (8, -8)", fold, (8, -8), 3, 1, 0, 1
    )
    raises(
        ValueError,
        "kernel_size: expected 1 value for a 1-D window, got 2: (3, 3)",
        fold,
        (8,),
        (3, 3),
        1,
        0,
        1,
    )
    raises(
        ValueError,
        f"output_size: expected an image of at most {MAX} elements, got {2**64}: ({2**61}, 1, 8)",
        fold_geometry,
        2**61,
        1,
        fold_windows((8,), 1, 1, 0, 1),
    )


def test_properties_are_products():
    windows = patches((1, 1, 7, 8, 9), (1, 2, 3)).windows
    assert windows.taps == prod(windows.kernel_size) == 6
    assert windows.positions == prod(windows.output_size) == 7 * 7 * 7
