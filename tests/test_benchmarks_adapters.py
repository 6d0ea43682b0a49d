"""Adapters are raced on equal results: the network is LeNet-5, and what differs is not timed."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the package

from benchmarks import adapters, tables, timing  # noqa: E402

METHOD = timing.Method(rounds=1, sample=1e-6, budget=0.1, least=1)


def test_the_network_is_that_of_the_paper():
    pytest.importorskip("onnx")
    sizes = [np.prod(tensor.dims) for tensor in adapters.lenet().graph.initializer]
    assert sum(sizes) == 150 + 2400 + 48000 + 10080 + 840


@pytest.mark.parametrize("case", adapters.CASES, ids=[case.call for case in adapters.CASES])
def test_every_case_gives_the_same_and_is_timed(case):
    pytest.importorskip({"scikit-learn": "sklearn"}.get(case.library, case.library))
    [cell] = adapters.run([case], METHOD)
    assert set(cell["candidates"]) == {"windrow", case.library}
    assert cell["ratio"] > 0
    [row] = tables.adapters({"cells": [cell]}).rows
    assert row[3] == case.library


def test_a_wrong_result_is_shown_and_not_timed():
    calls = {"windrow": lambda: np.zeros(3), "slow": lambda: np.ones(3)}
    [cell] = adapters.run([adapters.Case("zeros", "slow", lambda: calls)], METHOD)
    assert cell["candidates"] == {}
    assert cell["absent"] == {"windrow": "wrong: not what slow gives"}


def test_a_library_that_is_missing_is_said():
    def make():
        raise ImportError("No module named 'slow'")

    [cell] = adapters.run([adapters.Case("zeros", "slow", make)], METHOD)
    assert cell == {"layer": "zeros", "skipped": "slow: No module named 'slow'"}


def test_a_volume_larger_than_memory_goes_through_in_blocks(monkeypatch, tmp_path, capsys):
    pytest.importorskip("dask.array")
    pytest.importorskip("zarr")
    larger = pytest.importorskip("benchmarks.larger")
    monkeypatch.setattr(larger, "BLOCK", (4, 8, 8))
    found = larger.run(tmp_path, 8 * 4 * 4 * 32 * 32, 2)
    assert found["shape"] == (1, 4, 8, 32, 32)
    assert list(found["steps"]) == ["write x", "y", "dx", "dw"]
    arguments = ["--gigabytes", "1e-4", "--folder", str(tmp_path), "--budget"]
    assert larger.main([*arguments, "1000"]) == 0
    assert larger.main([*arguments, "0.001"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "over the budget of 0.001 GiB"
