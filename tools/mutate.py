"""Break one line at a time, and see that the tests notice: `make mutate`.

    python tools/mutate.py                       # all of tools/mutations.py
    python tools/mutate.py core/kernels/pad.hpp  # those of one file

Everything happens in a copy of the tree. Each entry of the list names what should notice it: the seeded
driver of the core, or files of tests. Where only Python files are chosen nothing is built: the extension is
that of this environment. Exit code 1 if a mutation survives or is out of date.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import targets
from mutations import MUTATIONS, SEEDED, Mutation
from windrow import _core

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 600  # seconds for a run of tests: what hangs has been noticed
CASES = "300"  # of the seeded driver


def needed(tests: Sequence[str]) -> str:
    """What must be built for tests to run."""
    return "seeded" if tests == SEEDED else "extension"


class Bench:
    """A copy of the tree, in which the seeded driver and the extension can be built."""

    def __init__(self, place: Path, cmake: str) -> None:
        self.tree = place / "tree"
        self.cmake = cmake
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.tree / name)
        venv.create(place / "venv", with_pip=False)
        self.python = place / "venv" / "bin" / "python"
        packages = next((place / "venv").glob("lib/python*/site-packages"))
        # The copy first, then what this Python sees; an editable install of windrow is left behind.
        paths = [self.tree / "src", *(path for path in sys.path if path.endswith("site-packages"))]
        (packages / "bench.pth").write_text("".join(f"{path}\n" for path in paths))
        self.whole = place / Path(_core.__file__).name  # the extension without a mutation
        self.take(Path(_core.__file__))
        # Hardly optimised, and with assertions: built in half the time, and the sums are the same.
        common = ["-DCMAKE_BUILD_TYPE=Bench", "-DCMAKE_CXX_FLAGS=-O1", "-DWINDROW_WERROR=OFF"]
        common += [f"-D{setting}" for setting in targets.settings()]
        nanobind = self.output(sys.executable, "-m", "nanobind", "--cmake_dir")
        self.builds = {
            "seeded": [*common, "-DWINDROW_SEEDED=ON"],
            "extension": [
                *common,
                f"-Dnanobind_DIR={nanobind}",
                f"-DPython_EXECUTABLE={sys.executable}",
                "-DSKBUILD_PROJECT_VERSION=0.1.0",
            ],
        }

    def output(self, *command: object) -> str:
        return subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=True
        ).stdout.strip()

    def quietly(self, *command: object, limit: float | None = None) -> bool:
        """Whether a command ends well, and in time."""
        words = [str(word) for word in command]
        try:
            done = subprocess.run(words, cwd=self.tree, capture_output=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def take(self, extension: Path) -> None:
        """Have an extension that is no mutation's, in the tree and beside it."""
        shutil.copy(extension, self.whole)
        shutil.copy(extension, self.tree / "src" / "windrow")

    def build(self, name: str) -> bool:
        place = self.tree / "build" / name
        if not place.is_dir():
            self.quietly(self.cmake, "-S", self.tree, "-B", place, *self.builds[name])
        if not self.quietly(self.cmake, "--build", place, "--parallel", 2):
            return False
        for extension in place.glob("_core*.so"):
            shutil.copy(extension, self.tree / "src" / "windrow")
        return True

    def build_whole(self, name: str) -> bool:
        """Build what has no mutation."""
        if not self.build(name):
            return False
        for extension in (self.tree / "build" / name).glob("_core*.so"):
            self.take(extension)
        return True

    def passes(self, tests: Sequence[str]) -> bool:
        """Whether the tests pass; False too where the tree does not build."""
        if tests == SEEDED:
            driver = self.tree / "build" / "seeded" / "windrow_seeded"
            return self.quietly(driver, "--cases", CASES, limit=LIMIT)
        pytest = (self.python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
        return self.quietly(*pytest, *tests, limit=LIMIT)

    def verdict(self, mutation: Mutation) -> str:
        path = self.tree / mutation.path
        before = path.read_text()
        if before.count(mutation.old) != 1:
            return "stale"
        path.write_text(before.replace(mutation.old, mutation.new))
        try:
            compiled = path.suffix != ".py"
            if compiled and not self.build(needed(mutation.tests)):
                return "does not build"
            return "SURVIVES" if self.passes(mutation.tests) else "noticed"
        finally:
            path.write_text(before)
            shutil.copy(self.whole, self.tree / "src" / "windrow")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="only the mutations of these files")
    options = parser.parse_args()
    chosen = [m for m in MUTATIONS if not options.paths or m.path in options.paths]
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None:
        sys.exit("mutate: cmake is needed, and not there")
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), cmake)
        compiled = [mutation for mutation in chosen if not mutation.path.endswith(".py")]
        if not all(bench.build_whole(name) for name in {needed(mutation.tests) for mutation in compiled}):
            sys.exit("mutate: the tree does not build as it is")
        for tests in sorted({m.tests for m in chosen}):
            if not bench.passes(tests):
                sys.exit(f"mutate: {' '.join(tests)} fails on the tree as it is")
        for mutation in chosen:
            begin = time.monotonic()
            verdict = bench.verdict(mutation)
            counts[verdict] += 1
            change = f"{' '.join(mutation.old.split())!r} -> {' '.join(mutation.new.split())!r}"
            print(f"{verdict:14} {time.monotonic() - begin:5.0f} s  {mutation.path}: {change}", flush=True)
    print(f"mutate: {len(chosen)} mutations: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    return int(counts["SURVIVES"] + counts["stale"] > 0)


if __name__ == "__main__":
    sys.exit(main())
