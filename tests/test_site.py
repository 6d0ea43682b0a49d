"""The site's generated parts: drawings and the page of the race."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # tools/ and benchmarks/ are no part of the package

from benchmarks import results  # noqa: E402
from tools import drawings, race_page  # noqa: E402


@pytest.mark.parametrize("name", drawings.PICTURES)
def test_pictures_of_the_page_are_drawn_and_kept(name, tmp_path):
    drawings.PICTURES[name]().savefig(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 0
    assert f"(images/{name})" in (ROOT / "docs" / "how_it_works.md").read_text()
    assert (ROOT / "docs" / "images" / name).is_file()


def test_the_page_of_the_race_has_the_newest_result_of_each_kind(tmp_path):
    page = race_page.write(tmp_path).read_text()
    assert (tmp_path / "race.png").stat().st_size > 0
    kinds = {results.read(path)["kind"] for path in results.RESULTS.glob("*.json")}
    assert page.count("\n## ") == len(kinds)
    for path, _ in race_page.newest(results.RESULTS).values():
        assert f"From `{path.name}`" in page
    older, newer = {"kind": "pool", "created": "2026-01-01"}, {"kind": "pool", "created": "2026-02-01"}
    for name, document in (("z.json", older), ("a.json", newer)):
        results.write(tmp_path / name, {**document, "schema": results.SCHEMA, "cells": []})
    assert race_page.newest(tmp_path)["pool"][0].name == "a.json"
