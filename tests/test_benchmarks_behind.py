"""Cells behind: which are taken from races, what binds them by rule, and the table; and a smoke run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import behind, commands, layers, results, tables  # noqa: E402

LAYER = layers.Layer("test", "conv", 1, 8, (9, 9), 16, (3, 3), (1, 1), (1, 1), (1, 1), 1)


def entry(*samples):
    return {"median": sorted(samples)[len(samples) // 2], "samples": list(samples)}


def raced(ratio, again=None, **changes):
    """A cell of a race: torch takes `ratio` seconds, ours one."""
    cell = {
        "layer": "test/conv",
        "shape": json.loads(json.dumps(LAYER._asdict())),
        "n": 1,
        "dtype": "float32",
        "pass": "y",
        "tiny": False,
        "flops": 1000,
        "bytes_read": 100,
        "bytes_written": 50,
        "limits": None,
        "candidates": {"windrow": entry(1.0), "torch": entry(ratio)},
        "absent": {},
        **changes,
    }
    return cell if again is None else {**cell, "again": raced(again)}


def test_cells_behind_are_those_lost_twice_worst_first():
    race = [
        raced(0.9, again=0.9),
        raced(0.9, again=1.0, dtype="float64"),
        raced(1.2, **{"pass": "dx"}),
        raced(0.8, **{"pass": "dw"}),
    ]
    found = behind.cells([{"cells": race}])
    assert [(cell.which, cell.dtype, cell.ratio, cell.peer) for cell in found] == [
        ("dw", "float32", 0.8, "torch"),
        ("y", "float32", 0.9, "torch"),
    ]
    assert found[0].layer == LAYER
    assert found[0].peer_seconds == 0.8


def test_the_last_race_of_a_cell_counts():
    lost, won = {"cells": [raced(0.5)]}, {"cells": [raced(1.5)]}
    assert behind.cells([lost, won]) == []
    assert len(behind.cells([won, lost])) == 1


@pytest.mark.parametrize(
    ("fma", "moved", "tiny", "word"),
    [
        (0.9, 0.9, False, "FMA"),
        (0.7, 0.2, False, "FMA"),
        (0.4, 0.5, False, "bytes"),
        (0.5, 0.3, False, "FMA + bytes"),
        (0.6, 0.1, False, "overhead"),
        (0.6, 0.1, True, "latency"),
    ],
)
def test_what_binds_follows_from_the_shares(fma, moved, tiny, word):
    assert behind.binds(behind.Shares(fma, moved), tiny) == word
    assert behind.binds(None) == ""


def measured(**changes):
    """The ways of a cell: the choice is panels and tiles; after the first round all takes twice as long."""
    return {
        **raced(0.8),
        "limits": {"fma": 2000.0, "read": 2000.0, "fill": 1000.0},
        "taken": {"windrow": "window_product", "windrow channels-last": "winograd_4x4"},
        "ratio": 0.8,
        "peer": "torch",
        "peer_seconds": 0.8,
        "candidates": {
            "windrow": entry(1.0, 2.0, 2.0),
            "windrow channels-last": entry(2.0, 4.0, 4.0),
            "strip_product": entry(1.5, 3.0, 3.0),
            "filter_product channels-last": entry(1.8, 3.6, 3.6),
            "windrow prepared": entry(0.9, 1.8, 1.8),
        },
        **changes,
    }


def test_ways_are_compared_round_by_round():
    row = behind.row(measured())
    assert (row.seconds, row.peer_factor, row.prepared) == (1.0, 0.8, 0.9)
    assert row.formats == {
        "C order": [("window_product", 1.0, True), ("strip_product", 1.5, False)],
        "channels-last": [("filter_product", 1.8, False), ("winograd_4x4", 2.0, True)],
    }
    assert row.regrets == [("channels-last", "filter_product", "winograd_4x4", 0.9)]
    # Half a second of multiply-adds, 0.05 of reading and 0.05 of writing, in one.
    assert row.shares == (0.5, 0.1)
    assert row.binds == "overhead"


def test_multiply_adds_of_tiles_are_their_own():
    tiles = measured(taken={"windrow": "winograd_2x2"})
    assert behind.shares(tiles).fma == pytest.approx(0.5 * 16 / 36, rel=1e-15)


def test_a_faster_way_must_be_so_in_both_runs():
    assert behind.row(measured(again=measured())).regrets == behind.row(measured()).regrets
    calm = measured()
    calm["candidates"]["filter_product channels-last"] = entry(2.0, 4.0, 4.0)
    row = behind.row(measured(again=calm))
    assert row.regrets == []
    assert row.formats["channels-last"][0].factor == 2.0  # the longer run is shown


def test_what_was_left_out_is_not_shown():
    cell = measured(limits=None)
    for name in ("windrow channels-last", "filter_product channels-last", "windrow prepared"):
        del cell["candidates"][name]
    row = behind.row(cell)
    assert (row.formats["channels-last"], row.prepared, row.shares, row.binds) == ([], None, None, "")
    (line,) = tables.behind([row]).rows
    assert line[6:] == ["-", "-", "-", "-"]


def test_the_table_has_a_row_for_each_cell():
    row = behind.row(measured(n=4))
    table = tables.behind(behind.rows([measured(ratio=0.9), measured(n=4)]))
    assert [line[2] for line in table.rows] == ["0.80", "0.90"]
    assert table.rows[0] == [
        "test/conv n=4", "y f32", "0.80", "torch 0.80", "1 s", "**panels** 1.00, strips 1.50",
        "filter lanes 1.80, **tiles 4x4** 2.00", "0.90", "50 + 10 %", "overhead",
    ]  # fmt: skip
    assert tables.regrets([row]).rows == [
        ["test/conv", "y f32", "channels-last", "tiles 4x4", "filter lanes", "0.90"]
    ]


def test_what_binds_is_counted_by_pass():
    tiles = measured(taken={"windrow": "winograd_2x2"}, **{"pass": "dx"})
    table = tables.bounds(behind.rows([measured(), measured(), tiles, measured(limits=None)]))
    assert table.columns == ["pass", "cells", "-", "overhead"]
    assert table.rows == [["dx f32", "1", "0", "1"], ["y f32", "3", "1", "2"]]


@pytest.mark.parametrize(
    ("page", "pattern"),
    [
        ("behind.md", "behind-1t-*.json"),
        ("behind_batches.md", "behind-n8-1t-*.json"),
        ("behind_two_threads.md", "behind-2t-*.json"),
    ],
)
def test_the_page_is_that_of_the_newest_result(page, pattern):
    newest = max((results.RESULTS / "others").glob(pattern))
    text = (ROOT / "docs" / page).read_text()
    assert text == commands.markdown(results.read(newest), full=True) + "\n"


def test_a_page_says_where_its_cells_are_behind():
    heads = [behind.page(*where).split("\n")[0] for where in ((1, [1, 64]), (1, [8, 64]), (2, [1, 64]))]
    expected = ["# Cells behind", "# Cells behind in batches", "# Cells behind on 2 threads"]
    assert heads == expected


def test_smoke_behind(tmp_path):
    """Every pass of a small layer, and the report of it."""
    race, out = tmp_path / "race.json", tmp_path / "out.json"
    cells = [raced(0.5, **{"pass": which}) for which in layers.PASSES]
    race.write_text(json.dumps({"schema": results.SCHEMA, "kind": "conv", "cells": cells}))
    command = [sys.executable, "-m", "benchmarks"]
    options = [str(race), "--rounds", "3", "--out", str(out)]
    subprocess.run([*command, "behind", *options], cwd=ROOT, check=True, capture_output=True)
    document = results.read(out)
    assert [cell["pass"] for cell in document["cells"]] == list(layers.PASSES)
    for cell in document["cells"]:
        assert cell["absent"] == {}
        assert len(cell["candidates"]) > len(cell["taken"]) == 2
    assert {"windrow prepared", "window_product"} <= set(document["cells"][0]["candidates"])
    done = subprocess.run(
        [*command, "report", str(out), "--full"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.count("| test/conv |") >= len(layers.PASSES)
    done = subprocess.run(
        [*command, "behind", *options, "--only", "nothing"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr.strip() == "no such cell is behind in these results"
