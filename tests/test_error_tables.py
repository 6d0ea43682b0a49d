"""The error tables of docs/numerics.md: their script on one small layer, and the page as it stands."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from windrow import _core

ROOT = Path(__file__).resolve().parent.parent
tool = runpy.run_path(str(ROOT / "tools" / "error_tables.py"), run_name="error_tables")
SMALL = tool["Layer"]("small", (2, 20, 6, 6), (3, 20, 3, 3), {"stride": 1, "padding": 1})

wide_enough = pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="long double is no wider than double"
)


@wide_enough
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", tool["KINDS"])
def test_errors_are_within_their_bounds(dtype, kind):
    found = tool["errors"](SMALL, kind, dtype, None)
    bounds = tool["roundings"](SMALL, dtype)
    for name, values in found.items():
        assert values["PyTorch"] is None
        assert 0 < values["direct"] <= bounds[name]


@wide_enough
def test_missing_columns_say_so():
    lines = list(tool["lines"](None, (SMALL,)))
    assert "PyTorch missing" in lines[0]
    rows = [line for line in lines if line.startswith("|") and " | missing | " in line]
    assert len(rows) == 2 * len(tool["KINDS"])
    assert {line.count("|") for line in lines if line.startswith("|")} == {9}


def test_the_page_has_every_layer_and_class_within_its_bounds():
    """A table left behind by a change of layers or plans is found here: make it again with --write."""
    page = (ROOT / "docs" / "numerics.md").read_text()
    begin, end = tool["MARKERS"]
    table = page.split(begin)[1].split(end)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "|" in line]
    rows = [row for row in rows if row[1] not in ("data", "---")]
    expected = [kind for layer in tool["LAYERS"] for kind in (*tool["KINDS"], "bound n")] * 2
    assert [row[1] for row in rows] == expected
    assert [row[0] for row in rows if row[0]] == [layer.name for layer in tool["LAYERS"]] * 2
    measured = []
    for row in rows:
        if row[1] == "bound n":
            bounds = row[2::2]
            assert all(float(m) <= float(b) for line in measured for m, b in zip(line, bounds, strict=True))
            measured = []
        else:
            measured.append(row[2::2])
    dtypes = [np.float32] * len(tool["LAYERS"]) + [np.float64] * len(tool["LAYERS"])
    # Of the target that the page names: a plan of dw depends on its lanes.
    target = re.search(r"target (\w+)\)", table)[1]
    if target not in _core.targets_available():
        pytest.skip(f"the page was made on {target}")
    before = _core.target()
    _core.set_target(target)
    stated = [row[2::2] for row in rows if row[1] == "bound n"]
    now = [
        [str(n) for n in tool["roundings"](layer, dtype).values()]
        for dtype, layer in zip(dtypes, tool["LAYERS"] * 2, strict=True)
    ]
    _core.set_target(before)
    assert stated == now
