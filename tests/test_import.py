"""What `import windrow` costs beside `import numpy`: few modules of its own, none of the standard library."""

import json
import subprocess
import sys
from pathlib import Path

from tests import programs

ROOT = Path(__file__).resolve().parent.parent

ADDED = """
import sys
import numpy
if any("_editable" in getattr(finder, "__module__", "") for finder in sys.meta_path):
    import importlib.util  # the finder of an editable install needs it
before = set(sys.modules)
import windrow
print(*sorted(set(sys.modules) - before - set(sys.builtin_module_names)))
"""


def test_import_loads_nothing_but_windrow():
    added = programs.output(ADDED).split()
    assert "windrow._core" in added
    foreign = [name for name in added if name.split(".")[0] != "windrow"]
    assert foreign == [], "modules that NumPy does not load: move their imports to where they are used"


def test_rare_parts_load_on_first_use():
    added = programs.output(ADDED).split()
    assert not [name for name in added if name.startswith(("windrow.reference", "windrow.gradcheck"))]
    assert "windrow.cli" not in added
    use = ADDED + "print(windrow.reference.conv is not None, windrow.gradcheck.relative_error is not None)"
    assert programs.output(use).splitlines()[-1] == "True True"


def test_an_unknown_name_is_an_attribute_error():
    error = programs.last_error("import windrow; windrow.qqqqqqqq")
    assert error == "AttributeError: module 'windrow' has no attribute 'qqqqqqqq'"


def test_every_public_name_is_there():
    shown = programs.output("import windrow; print(*(n for n in windrow.__all__ if n not in dir(windrow)))")
    assert shown == ""
    star = programs.output("from windrow import *; print(conv is not None, num_threads is not None)")
    assert star == "True True"


def test_the_measuring_tool_measures():
    """Times are not judged here: they belong to the machine and what else it does."""
    tool = [sys.executable, str(ROOT / "tools" / "import_time.py"), "--pairs", "1", "--json"]
    done = subprocess.run(tool, capture_output=True, text=True, check=True)
    times = json.loads(done.stdout)
    assert set(times) == {"pairs", "numpy_ms", "windrow_ms", "median_added_ms"}
    assert times["pairs"] == 1
    assert times["numpy_ms"] > 0
