"""A pytest fixture for gradient checks that leaves a report behind when one fails.

In a test module or conftest.py::

    pytest_plugins = ["windrow.gradcheck.pytest_plugin"]


    def test_my_layer(check_gradients):
        check_gradients(forward, backward, (x, w, b))

Each test has a seed of its own that follows from its name, so it checks the same thing every time. A failing
check saves its JSON, and its picture where matplotlib is installed, in the test's `tmp_path` and says where.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .checking import check
from .pair import Call
from .report import Report


@pytest.fixture
def check_gradients(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Report]:
    """`assert_gradients` with the test's own seed and title, which saves the report of a failure."""
    seed = zlib.crc32(request.node.nodeid.encode())

    def checked(forward: Call, backward: Call, inputs: Any, **options: Any) -> Report:
        __tracebackhide__ = True
        report = check(forward, backward, inputs, **{"seed": seed, "title": request.node.name, **options})
        if not report:
            (tmp_path / "gradients.json").write_text(report.to_json())
            saved = [tmp_path / "gradients.json"]
            if report.arguments:
                try:
                    report.picture(tmp_path / "gradients.png")
                    saved.append(tmp_path / "gradients.png")
                except ImportError:
                    pass
            print("saved:", *saved)
        report.raise_if_failed()
        return report

    return checked
