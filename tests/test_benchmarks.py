"""The race's own arithmetic: layers, FLOPs, statistics, order of rounds, checks, tables; and a smoke run."""

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    calibrate,
    layers,
    limits,
    overhead,
    patches,
    pool,
    results,
    scaling,
    summary,
    tables,
    timing,
)  # fmt: skip
from benchmarks.peers import MODULES, numpy_views  # noqa: E402
from benchmarks.problem import Check, make  # noqa: E402
from benchmarks.race import calmest  # noqa: E402

from windrow import _core  # noqa: E402

HEAD_2D = "name,n,c,h,w,k,kh,kw,stride,pad,dilation,groups"
HEAD_ND = "name,n,c,size,k,kernel,stride,pad,dilation,groups"


def layer(line, head=HEAD_ND):
    (found,) = layers.parse([head, line], "test")
    return found


def test_the_two_forms_describe_the_same_layer():
    flat = layer("conv1,1,3,224,224,64,7,7,2,3,1,1", HEAD_2D)
    assert flat == layer("conv1,1,3,224x224,64,7x7,2,3,1,1")
    assert (flat.x_shape, flat.w_shape, flat.y_shape) == ((1, 3, 224, 224), (64, 3, 7, 7), (1, 64, 112, 112))
    assert flat.flops == 2 * 64 * 112 * 112 * 3 * 49
    assert flat.traffic("dx") == (math.prod(flat.y_shape) + math.prod(flat.w_shape), math.prod(flat.x_shape))


def test_ranks_per_axis_values_and_groups():
    line = layer("tasnet,2,512,3200,512,3,1,64,64,512")
    assert (line.rank, line.w_shape, line.y_shape) == (1, (512, 1, 3), (2, 512, 3200))
    assert line.flops == 2 * 2 * 512 * 3200 * 3
    wide = layer("w,1,128,17x17,192,1x7,1,0x3,1,1")
    assert (wide.pad, wide.stride, wide.out_size) == ((0, 3), (1, 1), (17, 17))
    assert layer("v,1,2,4x6x8,3,2x2x2,2,0,1,1").out_size == (2, 3, 4)


@pytest.mark.parametrize(
    ("head", "line", "message"),
    [
        ("name,n", "a,1", "test: expected the columns of the 2-D or the N-D form, got ['n', 'name']"),
        (
            HEAD_ND,
            "a,1,3,8x8,4,3,1,1x1x1,1,1",
            "test/a: pad: expected 1 or 2 values joined by x, got '1x1x1'",
        ),
        (HEAD_ND, "a,1,3,8x8,4,3,1,1,1,2", "test/a: groups=2 must divide c=3 and k=4"),
        (HEAD_ND, "a,1,3,2x2,4,3,1,0,1,1", "test/a: the window does not fit the padded image"),
    ],
)
def test_bad_layers_are_named(head, line, message):
    with pytest.raises(ValueError) as error:
        layers.parse([head, line], "test")
    assert str(error.value) == message


def test_every_shape_file_parses_and_names_are_unique():
    found = layers.load()
    assert len({(x.source, x.name) for x in found}) == len(found) > 100
    assert {x.rank for x in found} == {1, 2, 3}
    assert all(x.k is None for x in patches.cases())
    with pytest.raises(ValueError, match="is a patch case: it has no filters"):
        _ = patches.cases()[0].filters
    with pytest.raises(ValueError, match=r"layers: no file .*nowhere.csv \(there are: convnext, "):
        layers.load(["nowhere"])


def test_batches_replace_ones_only():
    own = layers.load(["small", "vgg16"], ["digits_conv1", "conv5_1"])
    got = [(x.name, x.n) for x in layers.batches(own, [1, 8])]
    assert got == [("digits_conv1", 64), ("conv5_1", 1), ("conv5_1", 8)]


def test_statistics():
    assert timing.geometric_mean([1.0, 4.0]) == pytest.approx(2.0, rel=1e-15)
    assert timing.geometric_mean([]) is None
    assert timing.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3, rel=1e-15)
    assert timing.spread([3.0]) == 0.0
    assert timing.Times([3.0, None, 1.0, 2.0], 1, 0).median == 2.0


def test_every_candidate_comes_first_in_some_round_and_last_in_some():
    names = ["a", "b", "c", "d"]
    orders = [timing.rotated(names, turn) for turn in range(8)]
    assert all(sorted(order) == names for order in orders)
    assert {order[0] for order in orders} == set(names) == {order[-1] for order in orders}
    assert timing.rotated([], 3) == []


def test_slow_candidates_sit_out_after_the_least_rounds():
    def busy(count):
        return lambda: sum(range(count))

    method = timing.Method(rounds=5, sample=1e-4, least=2, slow=20.0, alone=False)
    turns = []
    taken = timing.interleave({"fast": busy(10), "slow": busy(100_000)}, method, lambda: turns.append(1))
    assert len(turns) == 5
    order = []
    candidates = {name: partial(order.append, name) for name in ("a", "b", "c")}
    timing.interleave(candidates, method, lambda: order.append("limits"), beside="b")
    after = [i for i, name in enumerate(order) if name == "limits"]
    assert [order[i - 1] for i in after] == ["b"] * 5
    assert None not in taken["fast"].samples
    assert [s is None for s in taken["slow"].samples] == [False, False, True, True, True]
    assert taken["fast"].inner > taken["slow"].inner == 1
    assert taken["slow"].median > taken["fast"].median


def test_preempted_samples_are_taken_again_within_bounds(monkeypatch):
    def settled(samples, **method):
        rest = iter(timing.Sample(*sample) for sample in samples)
        monkeypatch.setattr(timing, "take", lambda call, inner: next(rest))
        return timing.settled(print, 1, timing.Method(**method))

    slow, clean, half = (3e-3, 0.5), (2e-3, 1.0), (2.5e-3, 0.8)
    assert settled([slow, clean]) == (clean, 1)
    assert settled([slow, half, slow, slow]) == ((2.5e-3 * 0.8, 1.0), 4)
    assert settled([slow], alone=False) == (slow, 0)
    assert settled([(0.2, 0.5)]) == ((0.1, 1.0), 1)  # too long to be taken again


CASES = [
    "plain,2,3,9x7,4,3x2,1,1x0,1,1",
    "strided,1,4,9x9,6,3,2x3,1,1,2",
    "dilated,2,2,11,3,3,1,2,2,1",
    "depthwise,1,5,8x8,10,3,1,1,1,5",
    "volume,1,2,4x5x6,3,2x3x1,1,1x1x0,1,1",
]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are seen on Linux only")
def test_threads_that_still_work_are_waited_for():
    values, stop = np.random.default_rng(0).random(1 << 18), threading.Event()

    def work():
        while not stop.is_set():
            np.sort(values)  # without the interpreter's lock

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert any(not timing.others_sleep() for _ in range(1000))
    finally:
        stop.set()
        worker.join()
    start = time.perf_counter()
    timing.wait_for_workers(10.0)
    assert time.perf_counter() - start < 5.0


@pytest.mark.parametrize("line", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("which", layers.PASSES)
def test_numpy_peer_passes_the_check_and_a_wrong_result_does_not(line, dtype, which):
    problem = make(layer(line), dtype)
    (candidate,) = numpy_views.load(1).conv(problem, which)
    got = candidate.value(candidate.call())
    check = Check(problem, which)
    assert check.complaint(got, dtype) is None
    # Less exact than stated, a wrong entry, a wrong shape: each is refused.
    rounded = (got.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(dtype)
    assert "times the tolerance" in check.complaint(rounded, dtype)
    got = got.copy()
    got.flat[0] += 1
    assert "times the tolerance" in check.complaint(got, dtype)
    assert check.complaint(got[:0], dtype).startswith("gives (0, ")
    got.flat[0] = np.nan
    assert check.complaint(got, dtype) is not None


@pytest.mark.parametrize("layout", patches.LAYOUTS)
@pytest.mark.parametrize("operation", patches.OPERATIONS)
def test_patch_check(layout, operation):
    single = layers.load([layers.PATCH_FILE], ["dilated"])[0]._replace(n=2, c=2, size=(9, 8), stride=(2, 1))
    shape = patches.layout_shape(single, layout)
    x, columns = patches.filled(single.x_shape, "float32"), patches.filled(shape, "float32")
    case = patches.Patches(single, "float32", layout, x, columns, x.copy())
    peer = numpy_views.load(1)
    (candidate,) = peer.unfold(case) if operation == "unfold" else peer.fold(case)
    got = candidate.value(candidate.call())
    expected = patches.Expected(case, operation)
    assert expected.complaint(got) is None
    got.flat[-1] += 1
    assert expected.complaint(got) is not None


def test_numpy_unfold_and_fold_are_adjoint_in_every_layout():
    single = layers.load([layers.PATCH_FILE], ["cs231n_fast"])[0]._replace(n=3, c=2, size=(7, 6))
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, single.x_shape).astype("float64")
    for layout in patches.LAYOUTS:
        columns = rng.integers(-9, 9, patches.layout_shape(single, layout)).astype("float64")
        case = patches.Patches(single, "float64", layout, x, columns, x.copy())
        written = case._replace(columns=np.empty_like(columns))
        (unfold,), (fold,) = numpy_views.load(1).unfold(written), numpy_views.load(1).fold(case)
        assert (unfold.call() * columns).sum() == (x * fold.call()).sum()


def test_peers_are_left_out_of_cases_that_memory_is_too_small_for(monkeypatch):
    (case,) = patches.cases(["cs231n_fast"])
    size = patches.column_bytes(case, "float32")
    method = timing.Method(rounds=1, sample=1e-4, least=1)
    course = patches.Course([case], ["float32"], patches.LAYOUTS[:1], patches.OPERATIONS, method)
    rivals = {"windrow": numpy_views.load(1), "numpy": numpy_views.load(1)}

    def raced(free):
        monkeypatch.setattr(patches, "available_memory", lambda: int(free))
        return list(patches.run(course, rivals, None))

    assert all(set(c["absent"]) == set() for c in raced(6 * size))
    for cell in raced(6 * size - 1):
        assert len(cell["candidates"]) == 1
        assert cell["absent"] == {"numpy": "needs 0.0 GiB of free memory, there are 0.0"}
        assert (cell["ratio"], patches.score(cell)) == (None, None)
    (skipped,) = raced(2 * size - 1)
    assert skipped["skipped"] == "needs 0.0 GiB of free memory, there are 0.0"


def test_disturbed_cells_are_raced_again_and_the_calmest_stays():
    def raced(*peaks):
        rest = iter(peaks)

        def attempt():
            return {"dtype": "float32", "limit_samples": {"fma": [next(rest)]}}

        result = calmest(attempt, SimpleNamespace(best_peak={"float32": 100.0}))
        return result["calm"], list(rest)

    assert raced(95.0, 99.0) == (0.95, [99.0])
    assert raced(50.0, 91.0, 99.0) == (0.91, [99.0])
    assert raced(80.0, 70.0, 99.0) == (0.8, [99.0])
    assert calmest(lambda: {"limit_samples": None}, None) == {"limit_samples": None}


def test_scores_of_the_patches_are_taken_round_by_round():
    # The second round ran at half the speed, limits and all, and the third one's fill rate was disturbed.
    cell = {
        "bytes_written": 30e9,
        "bytes_read": 10e9,
        "limit_samples": {"fill": [30e9, 15e9, 10e9], "read": [10e9, 5e9, 10e9]},
        "candidates": {"windrow": {"median": 2.5, "samples": [2.5, 5.0, 2.5]}},
    }
    assert patches.bounds(cell) == [2.0, 4.0, 4.0]
    assert patches.score(cell) == 0.8
    assert patches.score({**cell, "limit_samples": None}) is None
    assert timing.paired([1.0, None], [None, 2.0]) is None


def entry(median, **more):
    return {"median": median, "samples": [median] * 3, "spread": 0.0, "inner": 1, "disturbed": 0, **more}


def a_cell(**candidates):
    names = {name.replace("__", " ").replace("_", "-"): value for name, value in candidates.items()}
    return {
        "layer": "vgg16/conv1",
        "n": 1,
        "dtype": "float32",
        "pass": "y",
        "tiny": False,
        "flops": 2_000_000_000,
        "bytes_read": 4_000_000,
        "bytes_written": 8_000_000,
        "limits": {"fma": 1e11, "fill": 2e10, "read": 2e10},
        "candidates": names,
        "absent": {"numpy": "wrong: off by 3 times the tolerance", "jax": "not asked"},
    }


def test_a_row_compares_our_better_format_with_the_best_peer():
    row = summary.row(
        a_cell(
            windrow=entry(0.03),
            windrow__channels_last=entry(0.02),
            windrow__prepared=entry(0.01, prepared=True),
            torch=entry(0.05),
            onnxruntime=entry(0.04, prepared=True),
        )
    )
    assert (row.peer, row.ratio, row.ratio_prepared) == ("onnxruntime", 2.0, 4.0)
    assert row.ratio_first == pytest.approx(4 / 3, rel=1e-15)
    assert row.share == 1.0  # 2 GFLOP at 100 GFLOP/s take 20 ms; the bytes far less
    assert row.complaints == {"numpy": "wrong: off by 3 times the tolerance"}
    assert not row.lost


def test_a_cell_is_lost_when_it_loses_twice():
    first = a_cell(windrow=entry(2.0), torch=entry(1.0))
    assert summary.row(first).lost
    won_again = {**first, "again": a_cell(windrow=entry(1.0), torch=entry(1.0))}
    assert not summary.row(won_again).lost
    assert summary.row(won_again).ratio == 0.5  # the means keep what was measured first
    lost_again = {**first, "again": first}
    rows = summary.rows([a_cell(torch=entry(1.0)), a_cell(windrow=entry(0.1), torch=entry(1.0)), lost_again])
    assert [r.ratio for r in rows] == [0.5, 10.0, None]
    (group,) = summary.groups(rows, summary.by_pass)
    assert (group.cells, group.lost) == (3, 1)
    assert group.ratio == pytest.approx(math.sqrt(5), rel=1e-15)


def test_what_is_missing_is_shown_as_missing():
    cell = {**a_cell(torch=entry(1.0)), "limits": None}
    table = tables.cells(summary.rows([cell]))
    assert table.rows[0][4:7] == ["-", "-", "-"]
    assert table.rows[0][-1] == "-"
    assert table.rows[0][7:9] == ["torch", "2"]


def test_tables_and_figures():
    table = tables.Table("t", ["name", "value"])
    table.add("a", "1")
    assert table.markdown() == "| name | value |\n| :--- | ---: |\n| a | 1 |"
    assert table.plain() == "t\nname  value\na         1"
    with pytest.raises(ValueError, match="table: expected 2 values, got 1"):
        table.add("a")
    assert [tables.seconds(t) for t in (2.0, 0.0031, 4.2e-6, 5e-9, None)] == [
        "2 s",
        "3.1 ms",
        "4.2 us",
        "5 ns",
        "-",
    ]
    assert [tables.giga(v) for v in (123.4e9, 12.34e9, 1.234e8, None)] == ["123", "12.3", "0.123", "-"]


def test_limits_are_measured_or_said_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    limits.library.cache_clear()
    try:
        measured = limits.Limits(2)
    except limits.Missing as reason:
        pytest.skip(str(reason))
    for dtype in ("float32", "float64"):
        assert measured.fma_peak(dtype, 1e-4) > 1e8
    buffer = np.full(1 << 16, np.nan)
    assert measured.read_rate(buffer, 1e-4) > 1e7
    assert measured.fill_rate(buffer, 1e-4) > 1e7
    assert set(np.unique(buffer)) == {1.25, -2.5}
    with pytest.raises(ValueError, match="limits: expected a contiguous array"):
        measured.fill_rate(buffer[::2])
    monkeypatch.setenv("CC", "/nowhere/cc")
    limits.library.cache_clear()
    with pytest.raises((limits.Missing, OSError)):
        limits.Limits(1)
    limits.library.cache_clear()


def test_import_times_are_measured():
    got = overhead.imports("wave", pairs=1)
    assert got["module"] == "wave"
    assert got["numpy"] > 0
    assert "wave" in got["new_stdlib_modules"]


def race(tmp_path, *arguments, peers="numpy"):
    command = [sys.executable, "-m", "benchmarks", *arguments, "--quick", "--rounds", "2", "--peers", peers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_smoke_conv(tmp_path):
    out = tmp_path / "result.json"
    said = race(tmp_path, "conv", "--layers", "small", "--only", "cs231n_gradcheck", "--out", str(out))
    assert "Geometric means" in said
    document = results.read(out)
    assert document["kind"] == "conv"
    assert {(c["dtype"], c["pass"]) for c in document["cells"]} == {
        (dtype, which) for dtype in ("float32", "float64") for which in layers.PASSES
    }
    for cell in document["cells"]:
        assert cell["tiny"]
        assert cell["flops"] == 2 * 4 * 2 * 25 * 27
        assert list(cell["candidates"]) == ["numpy"]
        assert cell["candidates"]["numpy"]["median"] > 0
    assert document["settings"]["threads"] == 1
    assert document["machine"]["affinity"] == document["settings"]["cpus"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "report", str(out), "--full"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| small/cs231n_gradcheck | 4 | float32 | y |" in done.stdout
    out.write_text(json.dumps({"schema": 0}))
    with pytest.raises(SystemExit, match="expected a result of schema 1, got 0"):
        results.read(out)


def test_smoke_patches_and_overhead(tmp_path):
    out = tmp_path / "result.json"
    race(tmp_path, "patches", "--only", "seed_tiny", "--dtype", "float32", "--out", str(out))
    document = results.read(out)
    assert len(document["cells"]) == len(patches.LAYOUTS) * len(patches.OPERATIONS)
    assert all(list(cell["candidates"]) for cell in document["cells"])
    said = race(tmp_path, "overhead", "--dtype", "float32", "--out", str(out))
    assert "conv dw 4x3x5x5" in said


def test_smoke_pool(tmp_path):
    out = tmp_path / "result.json"
    options = ("--only", "avg 2x2 s2 64x56", "--dtype", "float32", "--out", str(out))
    said = race(tmp_path, "pool", *options, peers="windrow")
    document = results.read(out)
    assert [(cell["operation"], cell["layout"]) for cell in document["cells"]] == [
        (operation, memory_format) for memory_format in pool.FORMATS for operation in ("y", "dx")
    ]
    assert all(list(cell["candidates"]) == ["windrow"] for cell in document["cells"])
    assert "avg 2x2 s2 64x56x56" in said


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
def test_smoke_scaling(tmp_path):
    out = tmp_path / "result.json"
    options = ("--threads", "2", "--layers", "small", "--only", "cs231n_gradcheck", "--dtype", "float32")
    said = race(tmp_path, "scaling", *options, "--out", str(out))
    assert "Gain by threads" in said
    cells = results.read(out)["cells"]
    assert [cell["pass"] for cell in cells] == list(layers.PASSES)
    for cell in cells:
        least = {name: min(entry["samples"]) for name, entry in cell["candidates"].items()}
        assert cell["ratio"] == pytest.approx(least["1"] / least["2"], rel=1e-3)


def test_scaling_tells_large_layers_from_others():
    def cell(layer, flops, per_byte, times):
        candidates = {name: {"least": least} for name, least in times.items()}
        return {
            "layer": layer, "dtype": "float32", "pass": "y", "flops": flops, "flops_per_byte": per_byte,
            "candidates": candidates, "peak_ratio": 1.9,
        }  # fmt: skip

    cells = [
        cell("wide", 2e8, 30.0, {"1": 2.0, "4": 1.0}),
        cell("deep", 2e8, 30.0, {"1": 1.8, "4": 1.0}),
        cell("read", 2e8, 19.0, {"1": 0.9, "4": 1.0}),
        cell("short", 9e7, 30.0, {"1": 3.0, "4": 1.0}),
    ]
    found = scaling.rows({"settings": {"threads": 4}, "cells": cells})
    assert [(r.layer, r.large, r.gain) for r in found] == [
        ("read", False, 0.9), ("deep", True, 1.8), ("wide", True, 2.0), ("short", False, 3.0)
    ]  # fmt: skip
    (line,) = tables.scaling(found).rows
    assert line == ["float32", "y", "2", "1.90", "1.80", "2", "2", "1.64", "0.90", "1", "1.90"]


def test_scaling_wants_several_threads():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "scaling"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == "--threads: expected 2 or more, got 1\n"


def test_unknown_choices_are_named():
    command = [sys.executable, "-m", "benchmarks", "conv", "--peers", "nobody"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"--peers: expected some of {', '.join(MODULES)}, got nobody"


def test_constants_that_made_the_times_are_found():
    """And a candidate that was disturbed does not move them much."""
    rng = np.random.default_rng(3)
    cost = np.array([0.2, 5.0, 0.0, 1.5])
    rows = []
    for i in range(60):
        work = rng.integers(1, 10**6, 4) * np.array([1000, 1, 0, 10])
        time = 1e-9 * float(work @ cost) * (5 if i == 7 else 1)
        rows.append(calibrate.Row(("t", "d", str(i // 2), "y", "f", "False"), "ab"[i % 2], time, work))
    found = calibrate.fit(rows)
    np.testing.assert_allclose(found, cost, rtol=0.02)


def test_regret_is_the_time_of_what_is_taken_over_the_fastest():
    cell = ("t", "float32", "file/layer", "y", "channels_first", "False")
    names = ("window_product", "filter_product", "winograd_2x2")
    rows = [calibrate.Row(cell, name, t, np.ones(1)) for name, t in zip(names, (3.0, 2.0, 1.0), strict=True)]
    predicted = {(cell, name): t for name, t in zip(names, (2.0, 3.0, 1.9), strict=True)}
    found = calibrate.quality(rows, predicted)
    # Tiles would be 5 % faster than the direct sum by the predictions: not enough to be taken.
    assert (found.cells, found.regret, found.worst) == (1, pytest.approx(3.0), 3.0)
    assert found.where == "file/layer y channels_first False: window_product instead of winograd_2x2"


def test_smoke_calibrate(tmp_path):
    """Every constant of this target is replaced, and no other row."""
    before = (ROOT / "core" / "plan" / "costs_table.hpp").read_text()
    table, out = tmp_path / "table.hpp", tmp_path / "out.json"
    table.write_text(before)
    target = _core.targets_available()[-1]
    said = race(
        tmp_path, "calibrate", "--layers", "small", "--only", "cifar", "--dtype", "float32", "--rounds", "1",
        "--target", target, "--write", str(table), "--out", str(out),
    )  # fmt: skip
    rows = (re.findall(r"(?m)^constexpr .*$", text) for text in (before, table.read_text()))
    changed = {new.split("{")[0] for old, new in zip(*rows, strict=True) if old != new}
    assert changed == {f"constexpr Nanoseconds {calibrate.name_of(target, 'float32')}"}
    assert "regret" in said
    assert results.read(out)["kind"] == "calibrate"


def test_a_table_without_the_row_is_not_written():
    with pytest.raises(ValueError, match=r"^--write: the table has no row kZen9Float32$"):
        calibrate.replaced("nothing", "kZen9Float32", "")
