"""Result files: one JSON document, one cell per line so that versions compare well."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import machine
from .timing import Times

RESULTS = Path(__file__).parent / "results"
SCHEMA = 1


def number(value: float) -> float:
    """Five significant digits: more is noise."""
    return float(f"{value:.5g}")


def header(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": kind,
        "created": machine.now(),
        "commit": commit(),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "load_at_start": machine.load(),
        "settings": settings,
    }


def commit() -> str | None:
    """The commit of this checkout, "-dirty" where files differ from it; None outside a repository."""
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def times(taken: Times) -> dict[str, Any]:
    return {
        "median": number(taken.median),
        "spread": round(taken.spread, 4),
        "samples": [None if s is None else number(s) for s in taken.samples],
        "inner": taken.inner,
        "disturbed": taken.disturbed,
    }


def write(path: Path, document: dict[str, Any]) -> None:
    head = {key: value for key, value in document.items() if key != "cells"}
    lines = json.dumps(head, indent=1)[:-2]
    cells = ",\n".join("  " + json.dumps(cell, separators=(",", ":")) for cell in document["cells"])
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and moved: an interrupted run leaves the former file whole.
    draft = path.with_name(path.name + ".part")
    draft.write_text(f'{lines},\n "cells": [\n{cells}\n ]\n}}\n')
    draft.replace(path)


def read(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text())
    if document.get("schema") != SCHEMA:
        raise SystemExit(f"{path}: expected a result of schema {SCHEMA}, got {document.get('schema')!r}")
    return document
