"""The tables of docs/numerics.md beyond plain layers: their script on each operation, and the page itself."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from windrow import _core

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))  # the script imports error_tables, which lies beside it

import error_operations as tool  # noqa: E402

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="long double is no wider than double"
)


def rows():
    """By dtype; bounds are those of the target in use."""
    return {
        np.float32: [*tool.layers(), *tool.others()],
        np.complex128: list(tool.converted("complex")),
        np.float16: list(tool.converted("halves")),
    }


CASES = [(dtype, operation) for dtype, operations in rows().items() for operation in operations]


@pytest.mark.parametrize(
    ("dtype", "operation"), CASES, ids=[f"{dtype.__name__} {operation.name}" for dtype, operation in CASES]
)
def test_errors_are_within_their_bounds(dtype, operation):
    found = tool.errors(operation, "positive", dtype, None)
    assert found["PyTorch"] is None
    assert 0 < found["windrow"] <= operation.bound


def test_a_wrong_result_is_not_within_them():
    operation = next(tool.layers())
    off = operation._replace(windrow=lambda *arrays: operation.windrow(*arrays) + np.float32(1e-4))
    assert tool.errors(off, "positive", np.float32, None)["windrow"] > operation.bound


def test_the_page_has_every_operation_within_its_bound():
    page = (ROOT / "docs" / "numerics.md").read_text()
    text = page.split(tool.MARKERS[0])[1].split(tool.MARKERS[1])[0]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    table = [row for row in table if row[0] and not re.fullmatch("-+", row[0])]
    target = re.search(r"Target (\w+),", text)[1]
    if target not in _core.targets_available():
        pytest.skip(f"the page was made on {target}")
    before = _core.target()
    _core.set_target(target)
    expected = [operation for operations in rows().values() for operation in operations]
    _core.set_target(before)
    assert [row[0] for row in table] == [operation.name for operation in expected]
    for row, operation in zip(table, expected, strict=True):
        assert row[-1] == f"{operation.bound:.4g}"
        assert max(float(cell) for cell in row[1:-1:2]) <= operation.bound
