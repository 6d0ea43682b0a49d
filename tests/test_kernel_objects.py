"""The one-definition rule of kernel objects: nothing in them may be linked in place of another target's code.

An inline function that two kernel objects share would be a weak symbol in each, and the linker would keep
any one of them: the portable target could then run AVX-512.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels import with_own_kernels
from windrow import _core

ROOT = Path(__file__).resolve().parent.parent
NM = shutil.which("nm")
CALLABLE = {"memset", "memcpy", "memmove"}  # what a compiler may make of a loop


def newest_build():
    """The latest build folder (without sanitizers, which add symbols of their own), if there is one."""
    builds = []
    for cache in ROOT.glob("build/*/CMakeCache.txt"):
        objects = list(cache.parent.glob("CMakeFiles/windrow_*.dir/core/kernels/*.o"))
        if objects and re.search(r"^WINDROW_SANITIZE:\w+=$", cache.read_text(), re.MULTILINE):
            builds.append((max(path.stat().st_mtime for path in objects), objects))
    return max(builds)[1] if builds else []


def faults(listing, target):
    """What is wrong in the output of `nm` for a target's object."""
    found = []
    for line in listing.splitlines():
        kind, name = line[17:].split(" ", 1)
        if kind == "U":
            if name not in CALLABLE and not name.startswith("_GLOBAL_OFFSET_TABLE_"):
                found.append(f"calls {name}")
        elif kind in "WwVvuC":
            found.append(f"weak {name}")
        elif kind.isupper() and not name.startswith(f"windrow::{target}::"):
            found.append(f"global {name}")
    return found


@pytest.mark.skipif(NM is None, reason="nm is not installed")
def test_kernel_objects_share_nothing():
    objects = newest_build()
    if not objects:
        pytest.skip("no build folder: windrow was installed from elsewhere")
    seen = set()
    for path in objects:
        target = re.search(r"windrow_(\w+)\.dir", str(path))[1]
        listing = subprocess.run([NM, "-C", path], capture_output=True, text=True, check=True).stdout
        table = "patches" if path.name.startswith("patch_target") else "float32"
        assert f"windrow::{target}::{table}" in listing
        assert faults(listing, target) == [], target
        seen.add((target, table))
    built = with_own_kernels(_core.targets_built())
    assert seen == {(target, table) for target in built for table in ("float32", "patches")}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("0000000000000040 D windrow::x86_v3::float32", None),
        ("0000000000000000 t (anonymous namespace)::helper(int)", None),
        ("                 U memset", None),
        ("                 U _GLOBAL_OFFSET_TABLE_", None),
        ("0000000000000000 W int std::min<int>(int, int)", "weak int std::min<int>(int, int)"),
        ("0000000000000000 V vtable for X", "weak vtable for X"),
        ("0000000000000000 u X::once", "weak X::once"),
        ("0000000000000000 T windrow::helper(int)", "global windrow::helper(int)"),
        ("0000000000000040 D windrow::x86_v4::float32", "global windrow::x86_v4::float32"),
        ("                 U operator new(unsigned long)", "calls operator new(unsigned long)"),
    ],
)
def test_what_is_a_fault(line, fault):
    assert faults(line, "x86_v3") == ([fault] if fault else [])
