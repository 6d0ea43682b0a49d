"""What the pages claim, as far as a program can tell: links, constants, and examples that run."""

import doctest
import re
from pathlib import Path

import pytest

from tests.kernels import TARGETS
from windrow import _core

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
each_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])

LINK = re.compile(r"\]\(([^)\s]+)\)")
MENTION = re.compile(
    r"\b(?:core|bindings|src/windrow|tests|tools|benchmarks|examples)/[\w/]+\.(?:py|cpp|hpp|c|csv)\b"
)
CONSTANT = re.compile(r"^\| `(k\w+)` \| (\d+) \|", re.MULTILINE)
DEFINITION = re.compile(r"constexpr\s+(?:[\w:]+\s+)+(k\w+)\s*=\s*([^;]+);")


def anchors(page):
    """The names under which a page's headings can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_files_that_are_mentioned_exist(page):
    for name in MENTION.findall(page.read_text()):
        assert (ROOT / name).exists(), name


def constants():
    """The integer constants of the core: by name, the values of all definitions under that name."""
    found = {"kChunk": {_core._testing.CHUNK}}
    for path in sorted((ROOT / "core").rglob("*.[ch]pp")):
        known = {name: max(values) for name, values in found.items()}
        for name, expression in DEFINITION.findall(path.read_text()):
            plain = re.sub(r"\b(?:Index|std::size_t)\{(\d+)\}", r"\1", expression)
            plain = re.sub(r"k[A-Z]\w*", lambda m, known=known: str(known.get(m[0], m[0])), plain)
            if re.fullmatch(r"[\d\s*+<()]+", plain):
                known[name] = eval(plain)
                found.setdefault(name, set()).add(known[name])
    return found


@each_page
def test_constants_are_those_of_the_code(page):
    stated = CONSTANT.findall(page.read_text())
    code = constants()
    for name, value in stated:
        assert int(value) in code[name], name
    assert stated or page.name != "numerics.md"


def test_the_chunk_of_the_page_is_that_of_the_code():
    page = " ".join((ROOT / "docs" / "numerics.md").read_text().split())
    assert f"`kChunk` = {_core._testing.CHUNK} terms" in page


def test_tiles_are_those_of_the_build():
    """The table of kernel_contract.md, for the targets that this machine can run."""
    page = (ROOT / "docs" / "kernel_contract.md").read_text()
    rows = re.findall(
        r"^\| (\w+) \| (float32|float64) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \+ (\d+) \+ 1 of \d+ \|$",
        page,
        re.MULTILINE,
    )
    stated = {(target, dtype): tuple(map(int, numbers)) for target, dtype, *numbers in rows}
    for target in TARGETS:
        for dtype in ("float32", "float64"):
            rows, vectors, lanes = _core._testing.tile(target, dtype == "float64")
            assert stated[target, dtype] == (lanes, rows, vectors * lanes, rows * vectors, vectors)


@each_page
def test_examples_run(page):
    failures, _ = doctest.testfile(
        str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False
    )
    assert failures == 0


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_trees_are_the_tree(page):
    """Every file and folder of the tree exists, and every module at the package's top is in it."""
    folder, listed = ROOT, set()
    tree = next(block for block in (ROOT / page).read_text().split("```")[1::2] if "src/windrow/  " in block)
    for line in tree.strip().splitlines():
        names = re.match(r" *((?:[\w.]+/?, )*[\w./]+)", line)[1].split(", ")
        if not line.startswith("  "):
            folder = ROOT / names[0]
            names = ["."]
        for name in names:
            assert (folder / name).exists(), line
            listed.add((folder / name).resolve())
    package = ROOT / "src" / "windrow"
    assert {path for path in package.glob("*.py") if path.stem != "__main__"} <= listed
