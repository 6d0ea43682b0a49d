"""The page of the race, made from the newest result of each kind in benchmarks/results.

    python tools/race_page.py FOLDER

It writes FOLDER/race.md and its plot. The site's build runs it; nobody copies figures by hand.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import commands, plot, results  # noqa: E402

HEAD = """# The race

Every figure of this page comes from a result file, by `python -m benchmarks report`; each build of the site
makes it anew. A ratio is the time of the fastest peer over that of windrow in its better memory format: above
1 windrow is faster. [Performance](../performance.md) says what binds where it is not, and the
[method](../benchmarks.md) of the race how it is measured.
"""

# What is shown of each kind of result, in order: its heading and what to say about it.
KINDS = {
    "conv": (
        "Layers",
        "Forward pass (y) and both gradients (dx, dw). `without tiny` leaves out layers under 2 MFLOP, "
        "`of limit` is the share of what the machine can do, and a layer is lost below 0.97; the lost ones "
        "are listed.",
    ),
    "networks": ("Whole networks", "All convolutions of a network in sequence."),
    "scaling": (
        "Several threads",
        "What a layer gains by all threads: the least time on one over the least on all, beside what bare "
        "multiply-adds gain. Large layers have over 0.1 GFLOP, and over 20 for each byte of x, w and y; "
        "those that gain less than 1.8 are listed.",
    ),
    "patches": ("Patches", "`unfold` and `fold` against the time that the memory takes for the bytes."),
    "pool": ("Pools", "Forward and backward, in both memory formats."),
    "overhead": ("Tiny calls", "Where there is next to nothing to compute."),
    "adapters": ("Adapters", "Against the functions that they stand in for."),
}


def newest(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Of each kind of result the file that was measured last."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        document = results.read(path)
        kind = document["kind"]
        if kind not in found or document["created"] > found[kind][1]["created"]:
            found[kind] = path, document
    return found


def write(folder: Path, source: Path = results.RESULTS) -> Path:
    """The page and its plot, in a folder two levels below the root."""
    folder.mkdir(exist_ok=True)
    parts = [HEAD]
    found = newest(source)
    for kind, (title, about) in KINDS.items():
        if kind not in found:
            continue
        path, document = found[kind]
        parts.append(f"## {title}\n\n{about} From `{path.name}`:\n")
        if kind == "conv":
            plot.conv(document, folder / "race.png")
            parts.append("![GFLOP/s of every layer, pass and data type, with the machine's peak](race.png)\n")
        parts.append(commands.markdown(document) + "\n")
    page = folder / "race.md"
    page.write_text("\n".join(parts))
    return page


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
