"""Run tests under valgrind's memcheck: `make valgrind`.

    python tools/memcheck.py tests/test_minimal.py

An error counts if windrow's extension is on its stack: Python's and NumPy's own are theirs to judge. Needs
valgrind, whose processor has AVX2 and no AVX-512: targets up to x86_v3 run.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from windrow import _core

SKIPPED = "not forked and not command_line"  # children would be watched too, for minutes


def ours(error: ElementTree.Element) -> bool:
    """Whether a frame of windrow's extension is on the stack of an error."""
    extension = Path(_core.__file__).name
    return any(extension in (frame.findtext("obj") or "") for frame in error.iter("frame"))


def described(error: ElementTree.Element) -> str:
    what = error.findtext("what") or error.findtext("xwhat/text") or "?"
    frames = [frame.findtext("fn") or frame.findtext("obj") or "?" for frame in error.iter("frame")][:8]
    return f"{what}\n    " + "\n    ".join(frames)


def main(tests: list[str]) -> int:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("memcheck: valgrind is needed, and not there", file=sys.stderr)
        return 1
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        command = [valgrind, "--tool=memcheck", "--error-limit=no"]
        command += ["--num-callers=30", "--xml=yes", f"--xml-file={report}"]
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SKIPPED]
        done = subprocess.run([*command, *pytest, *tests], env=environment, check=False)
        text = re.sub(r"[^\t\n\x20-\x7e]", "?", report.read_text(errors="replace"))
    # Valgrind looks for leaks whenever it writes XML; Python keeps memory until it ends, as our threads do.
    errors = [
        error
        for error in ElementTree.fromstring(text).iter("error")
        if not (error.findtext("kind") or "").startswith("Leak_")
    ]
    mine = [error for error in errors if ours(error)]
    for error in mine:
        print(described(error))
    verdict = "passed" if done.returncode == 0 else "FAILED"
    others = len(errors) - len(mine)
    print(f"memcheck: {len(mine)} errors of windrow's, {others} of others'; tests {verdict}")
    return int(bool(mine) or done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
