"""Layouts: the order and grouping of the axes of patches, by nothing but ``transpose`` and ``reshape``.

The other modules of this package hold patches in one plain form, an array with one axis per name:

    patches[n, c, k0, k1, ..., l0, l1, ...]

``n`` counts images, ``c`` channels, ``k0 k1 ...`` the taps of the window and ``l0 l1 ...`` its positions. A
layout such as ``"n (c k) l"`` lists these names in the order wanted; names in parentheses share one axis, the
last of them fastest.
"""

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LETTERS = {1: "w", 2: "hw", 3: "dhw"}


def axis_groups(layout: str, rank: int) -> list[list[str]]:
    """One list of names per axis of the arranged array.

    >>> axis_groups("n (c k) lh lw", rank=2)
    [['n'], ['c', 'k0', 'k1'], ['l0'], ['l1']]
    """
    names = {"n": ["n"], "c": ["c"]}
    for name in "kl":
        names[name] = [f"{name}{axis}" for axis in range(rank)]
        names |= {part: [part] for part in names[name]}
        names |= {name + letter: [f"{name}{axis}"] for axis, letter in enumerate(LETTERS.get(rank, ""))}

    groups: list[list[str]] = []
    together = False
    for word in layout.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            together = True
            groups.append([])
        elif word == ")":
            together = False
        elif together:
            groups[-1] += names[word]
        elif word in "kl":
            groups.append(names[word])  # a whole named by itself is one axis
        else:
            groups.append(list(names[word]))
    return groups


def plain_names(rank: int) -> list[str]:
    """The axes of plain patches, in order.

    >>> plain_names(2)
    ['n', 'c', 'k0', 'k1', 'l0', 'l1']
    """
    return ["n", "c", *(f"k{axis}" for axis in range(rank)), *(f"l{axis}" for axis in range(rank))]


def arrange(patches: Array, layout: str) -> Array:
    """Plain patches in the order of ``layout``.

    >>> patches = np.zeros((2, 3, 5, 5, 8, 9))
    >>> arrange(patches, "n (c k) l").shape, arrange(patches, "(n l) kh kw c").shape
    ((2, 75, 72), (144, 5, 5, 3))
    """
    rank = (patches.ndim - 2) // 2
    names = plain_names(rank)
    groups = axis_groups(layout, rank)
    order = [names.index(name) for group in groups for name in group]
    sizes = dict(zip(names, patches.shape, strict=True))
    return patches.transpose(order).reshape([math.prod(sizes[name] for name in group) for group in groups])


def restore(cols: Array, layout: str, sizes: dict[str, int]) -> Array:
    """Plain patches from an arranged array: the inverse of ``arrange``.

    ``sizes`` has the size of every name; "n" and "c" may be left out where they can be read off ``cols``.

    >>> sizes = {"k0": 5, "k1": 5, "l0": 8, "l1": 9}
    >>> restore(np.zeros((2, 75, 72)), "n (c k) l", sizes).shape
    (2, 3, 5, 5, 8, 9)
    """
    rank = (len(sizes) - len({"n", "c"} & set(sizes))) // 2
    groups = axis_groups(layout, rank)
    sizes = dict(sizes)
    for group, total in zip(groups, cols.shape, strict=True):
        for name in group:
            if name not in sizes:
                sizes[name] = total // math.prod(sizes[other] for other in group if other != name)
    order = [name for group in groups for name in group]
    return cols.reshape([sizes[name] for name in order]).transpose(
        [order.index(name) for name in plain_names(rank)]
    )
