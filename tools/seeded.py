"""Build the seeded driver of the core and run it: `make seeded`, or with options, such as

    python tools/seeded.py --sanitize address,undefined -- --seconds 30
    python tools/seeded.py --aarch64 -- --cases 50

tests/core/ has its cases: kernels, packers and operations between pages that may not be touched, against
plain loops, and every allocation refused in turn. Needs CMake, and for --aarch64 Debian's packages
g++-aarch64-linux-gnu and qemu-user. What follows `--` goes to the driver.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import targets

ROOT = Path(__file__).resolve().parent.parent
CROSS = "aarch64-linux-gnu"


def tool(name: str) -> str:
    """A program beside this Python, or on the path."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        sys.exit(f"seeded: {name} is needed, and not there")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sanitize", default="", metavar="NAMES", help="address,undefined or thread")
    parser.add_argument("--aarch64", action="store_true", help="cross-compile, and run under emulation")
    parser.add_argument("--valgrind", action="store_true", help="run under memcheck")
    parser.add_argument("driver", nargs="*", help="options of the driver, after --")
    options = parser.parse_args()
    name = options.sanitize.split(",", maxsplit=1)[0] or "plain"
    settings = ["-DWINDROW_SEEDED=ON", f"-DWINDROW_SANITIZE={options.sanitize}"]
    settings += [f"-D{setting}" for setting in targets.settings()]
    run: list[str] = []
    if options.aarch64:
        name += "-aarch64"
        settings += ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
        settings += [f"-DCMAKE_CXX_COMPILER={tool(f'{CROSS}-g++')}"]
        run = [tool("qemu-aarch64"), "-L", f"/usr/{CROSS}"]
    if options.valgrind:
        run = [tool("valgrind"), "--error-exitcode=9", "--quiet"]
    if options.sanitize:  # little optimised: built in half the time; and warnings may be wrong (sanitized.py)
        settings += ["-DCMAKE_BUILD_TYPE=Sanitized", "-DCMAKE_CXX_FLAGS=-O1", "-DWINDROW_WERROR=OFF"]
    build = ROOT / "build" / "seeded" / name
    subprocess.run([tool("cmake"), "-S", ROOT, "-B", build, *settings], check=True, stdout=subprocess.DEVNULL)
    jobs = str(os.cpu_count() or 1)
    subprocess.run(
        [tool("cmake"), "--build", build, "--parallel", jobs], check=True, stdout=subprocess.DEVNULL
    )
    return subprocess.run([*run, build / "windrow_seeded", *options.driver], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
