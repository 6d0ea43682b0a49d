"""A report's text, JSON and picture, from made-up results."""

import dataclasses
import json
import math

import numpy as np
import pytest
from tests.errors import raises

from windrow.gradcheck.entries import Entry
from windrow.gradcheck.patterns import Pattern
from windrow.gradcheck.picture import mosaic
from windrow.gradcheck.report import Checked, GradientError, Report, Row
from windrow.gradcheck.taylor import Taylor

ENTRIES = (
    Entry(0, "dx[n=0, c=0]", 1.0, 1.0, 1e-12, 1e-9, 0, True),
    Entry(3, "dx[n=1, c=1]", 2.0, 0.5, -1.5, 1e-9, 0, False),
    Entry(2, "dx[n=1, c=0]", 0.0, 0.5, 0.5, 1e-9, 1, False),
)
TAYLOR = Taylor((0.25, 0.0625), (1e-2, 2.5e-3), (1e-9, 1e-9), 1.0, "fails")


def checked(entries=ENTRIES, taylor=TAYLOR, dtype="float64", affine=False):
    gradient = np.zeros((2, 2))
    return Checked("x", (2, 2), dtype, affine, "float64", gradient, tuple(entries), taylor, 1e-7)


FAILED = Report(
    "gradients of f",
    7,
    (
        Row("forward", "same bits twice", None, None, "holds"),
        Row("x", "random directions", 1.25e-3, 2e-9, "fails", "1 outputs at a kink"),
        Row("x", "Taylor remainder", None, None, "kink", "rate 1.00"),
    ),
    (checked(),),
    (Pattern("entry", "x", "only dx[n=1, c=1] is wrong"),),
    {"n": 2, "c": 2},
)
HELD = Report(
    "gradients of f", 0, (Row("x", "random directions", 0.0, 1e-9, "holds"),), (checked(ENTRIES[:1]),)
)

TEXT = """\
gradients of f: FAILS

argument  test               error    bound    verdict
forward   same bits twice                      holds
x         random directions  1.3e-03  2.0e-09  FAILS  1 outputs at a kink
x         Taylor remainder                     kink  rate 1.00

worst entries
  dx[n=1, c=1]  expected 2  got 0.5  error 1.5  bound 1e-09
  dx[n=1, c=0]  expected 0  got 0.5  error 0.5  bound 1e-09

what it looks like
  only dx[n=1, c=1] is wrong

at a kink (right between the one-sided derivatives): dx: 1 of 3 entries

smallest failing case: n=2, c=2"""


def test_the_text_of_a_failure():
    assert str(FAILED) == TEXT


def test_the_text_of_a_success():
    assert str(HELD).splitlines() == [
        "gradients of f: holds",
        "",
        "argument  test               error    bound    verdict",
        "x         random directions  0.0e+00  1.0e-09  holds",
    ]


def test_the_text_says_how_it_was_measured():
    ways = (
        checked(ENTRIES[:1], affine=True),
        dataclasses.replace(checked(ENTRIES[:1], dtype="float32"), name="w"),
    )
    assert str(Report("f", 0, HELD.rows, ways)).splitlines()[4:] == [
        "",
        "affine in x: measured with steps of the inputs' own size",
        "",
        "differentiated in float64: w",
    ]


def test_truth_and_raising():
    assert HELD
    HELD.raise_if_failed()
    assert not FAILED
    assert [row.test for row in FAILED.failures] == ["random directions"]
    raises(GradientError, f"\n{TEXT}", FAILED.raise_if_failed)


def test_json_says_everything_but_the_arrays():
    said = json.loads(FAILED.to_json())
    assert said["holds"] is False
    assert said["seed"] == 7
    assert said["rows"][1] == {
        "argument": "x", "test": "random directions", "error": 1.25e-3, "bound": 2e-9, "verdict": "fails",
        "note": "1 outputs at a kink",
    }  # fmt: skip
    assert said["patterns"] == [{"kind": "entry", "argument": "x", "text": "only dx[n=1, c=1] is wrong"}]
    assert said["sizes"] == {"n": 2, "c": 2}
    argument = said["arguments"][0]
    assert argument["entries_measured"] == 3
    assert argument["kinks"] == 1
    assert [entry["flat"] for entry in argument["worst"]] == [3, 2]
    assert argument["taylor"]["rate"] == 1.0


def test_json_holds_what_json_cannot():
    row = Row("x", "random directions", math.nan, math.inf, "fails")
    said = json.loads(Report("f", 0, (row,)).to_json())
    assert (said["rows"][0]["error"], said["rows"][0]["bound"]) == ("nan", "inf")


# Pictures


def test_a_mosaic_shows_every_entry_where_it_says():
    values = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    picture, where = mosaic(values)
    assert picture.shape == (2 * 5 - 1, 3 * 6 - 1)
    for flat in range(values.size):
        assert picture[where(flat)] == flat
    assert np.isnan(picture).sum() == picture.size - values.size


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4), (2, 1, 2, 3, 4)])
def test_mosaics_of_every_rank(shape):
    values = np.arange(float(math.prod(shape))).reshape(shape)
    picture, where = mosaic(values)
    assert [picture[where(flat)] for flat in range(values.size)] == list(range(values.size))


def test_a_picture_is_saved(tmp_path):
    path = tmp_path / "error.png"
    figure = FAILED.picture(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    places, remainders, _ = figure.axes
    assert places.get_title() == "dx (2 x 2): 2 wrong entries, dark: not measured"
    assert places.images[1].get_array().shape == (2, 2)
    assert remainders.get_legend().get_texts()[0].get_text() == "remainder, rate 1.00"
    assert figure.get_suptitle() == "gradients of f: fails"


def test_a_picture_of_a_success_and_of_no_remainder():
    assert HELD.picture().axes[0].get_title() == "dx (2 x 2): 0 wrong entries, dark: not measured"
    still = Report("f", 0, (), (checked(taylor=None),))
    assert still.picture(argument="x").axes[1].texts[0].get_text() == "rounding at every step"


def test_what_cannot_be_drawn():
    raises(ValueError, "argument: expected one of x, got 'w'", lambda: FAILED.picture(argument="w"))
    text = "picture: expected a report of measured gradients, got one that stopped before"
    raises(ValueError, text, lambda: Report("f", 0, ()).picture())


def test_without_matplotlib_the_picture_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    text = "picture: expected matplotlib to be installed (pip install matplotlib)"
    raises(ImportError, text, FAILED.picture)
