"""The picture of a layout."""

import numpy as np
import pytest

from tests.errors import raises

pytest.importorskip("matplotlib")

from windrow.drawing import draw_layout


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("shape", [(1, 1, 3, 4), (2, 2, 3, 3), (2, 1, 6)])
def test_every_cell_is_shown(shape, tmp_path):
    figure = draw_layout(shape, 2, padding=1, layout="(n l) (c k)")
    *images, columns = figure.axes
    assert sorted(int(text) for axes in images for text in texts(axes)) == list(range(np.prod(shape)))
    assert set(texts(columns)) == {"·", *map(str, range(np.prod(shape)))}
    figure.savefig(tmp_path / "layout.png")
    assert (tmp_path / "layout.png").stat().st_size > 1000


def test_cells_are_in_place():
    figure = draw_layout((1, 1, 2, 3), 2)
    assert texts(figure.axes[-1]) == ["0", "1", "1", "2", "3", "4", "4", "5"]


def test_what_cannot_be_drawn():
    raises(
        ValueError,
        "shape: expected columns of at most 4000 elements to draw, got 8100",
        draw_layout, (1, 1, 32, 32), 3,
    )  # fmt: skip
    raises(
        ValueError,
        "shape: expected N, C and 1 or 2 spatial axes to draw, got 5: (1, 1, 2, 2, 2)",
        draw_layout, (1, 1, 2, 2, 2), 2,
    )  # fmt: skip
