"""Build windrow with a sanitizer and run a command of the test environment on it.

    python tools/sanitized.py address,undefined -m pytest tests

Run by the Python of the test environment, whose packages are used; the sanitized windrow goes to an
environment of its own, .venv-NAME. Sanitizers see the memory of NumPy's arrays too, since they
replace malloc: an array of n bytes ends after exactly n bytes.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import targets

ROOT = Path(__file__).resolve().parent.parent
RUNTIMES = {"address": "libasan.so", "thread": "libtsan.so"}
# By sanitizer; tests tell by what is set which one they run under.
OPTIONS = {
    # Python keeps memory until it ends: leaks are not looked for. A refused allocation is null, as usual.
    "address": ("ASAN_OPTIONS", "detect_leaks=0:allocator_may_return_null=1:handle_segv=0"),
    "undefined": ("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1"),
    "thread": (
        "TSAN_OPTIONS",
        f"halt_on_error=1:die_after_fork=0:suppressions={ROOT / 'tools' / 'tsan.txt'}",
    ),
}


def build(sanitizers: str, home: Path) -> None:
    """Install into a virtual environment that sees the packages of this one behind its own."""
    if not home.is_dir():
        venv.create(home, with_pip=False)
    packages = next(home.glob("lib/python*/site-packages"))
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "test_environment.pth").write_text("".join(f"{path}\n" for path in others))
    shutil.rmtree(packages / "windrow", ignore_errors=True)
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--upgrade",
        "--target",
        packages,
    ]
    if importlib.util.find_spec("scikit_build_core"):  # then only what has changed is built again
        install.append("--no-build-isolation")
    settings = [f"build-dir=build/{home.name}", f"cmake.define.WINDROW_SANITIZE={sanitizers}"]
    # A build type of its own, so that nothing defines NDEBUG: assertions are on. With a sanitizer's code in
    # between, GCC 12 takes values for unset that are set: its warnings are no errors here.
    settings += ["cmake.build-type=Sanitized", "cmake.define.CMAKE_CXX_FLAGS=-O1", "install.strip=false"]
    settings += ["cmake.define.WINDROW_WERROR=OFF"]
    settings += [f"cmake.define.{setting}" for setting in targets.settings()]
    subprocess.run([*install, *(f"-C{setting}" for setting in settings), ROOT], check=True)


def main(sanitizers: str, *command: str) -> int:
    first = sanitizers.split(",", maxsplit=1)[0]
    home = ROOT / f".venv-{first}"
    build(sanitizers, home)
    compiler = os.environ.get("CXX", "c++")
    # The C++ library too: the runtime looks for its exceptions when it is loaded itself.
    runtimes = [
        subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        for name in (RUNTIMES[first], "libstdc++.so")
    ]
    variables = {
        **os.environ,
        **dict(OPTIONS[name] for name in sanitizers.split(",")),
        "LD_PRELOAD": " ".join(found.stdout.strip() for found in runtimes),
        "PYTHONMALLOC": "malloc",
    }
    python = [str(home / "bin" / "python"), *command]
    if shutil.which("setarch"):  # the thread sanitizer's map of memory has no room for random addresses
        python = ["setarch", platform.machine(), "-R", *python]
    return subprocess.run(python, env=variables, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
