"""tools/check_includes.py sees what it is for."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
violations = runpy.run_path(str(ROOT / "tools" / "check_includes.py"))["violations"]


@pytest.fixture
def tree(tmp_path):
    for folder in ("api", "drivers", "kernels", "base"):
        (tmp_path / "core" / folder).mkdir(parents=True)
    (tmp_path / "CMakeLists.txt").write_text("windrow_target(x86_v3 -march=x86-64-v3)\n")
    return tmp_path


def test_the_project_keeps_its_rules():
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("api/a.cpp", '#include "drivers/d.hpp"'),
        ("api/a.cpp", '#include "api/a.hpp"'),
        ("api/a.cpp", "#include <vector>"),
        ("kernels/k.hpp", "#include <immintrin.h>"),
        ("kernels/k.hpp", "__m512 v = _mm512_setzero_ps();"),
        ("base/b.cpp", "__builtin_ia32_pause();"),
        ("drivers/d.cpp", "// as _mm256_add_ps does"),
        ("drivers/d.cpp", "/* unlike\n_mm256_add_ps\n*/"),
    ],
)
def test_allowed(tree, path, line):
    (tree / "core" / path).write_text(line + "\n")
    assert violations(tree) == []


@pytest.mark.parametrize(
    ("path", "line", "fault"),
    [
        (
            "base/b.cpp",
            '#include "kernels/k.hpp"',
            "core/base is below core/kernels and may not include kernels/k.hpp",
        ),
        (
            "drivers/d.hpp",
            '  #  include "api/a.hpp"',
            "core/drivers is below core/api and may not include api/a.hpp",
        ),
        ("drivers/d.hpp", '#include "d2.hpp"', "expected a path from core/, got d2.hpp"),
        ("kernels/k.hpp", '#include "base/b.hpp"', "kernels include only kernels, got base/b.hpp"),
        ("kernels/k.hpp", "#include <Python.h>", "only bindings/ may include Python.h"),
        (
            "api/a.cpp",
            "#include <nanobind/nanobind.h>",
            "only bindings/ may include nanobind/nanobind.h",
        ),
        ("api/a.cpp", "#include <numpy/arrayobject.h>", "only bindings/ may include numpy/arrayobject.h"),
        ("drivers/d.cpp", "#include <immintrin.h>", "only core/kernels/ may include immintrin.h"),
        ("drivers/d.cpp", "#include <arm_neon.h>", "only core/kernels/ may include arm_neon.h"),
        ("drivers/d.cpp", "x = _mm256_add_ps(x, y);", "only core/kernels/ may use _mm256_add_ps"),
        ("drivers/d.cpp", "__m512d v;", "only core/kernels/ may use __m512d"),
        ("drivers/d.cpp", "f(vld1q_f32(p));", "only core/kernels/ may use vld1q_f32"),
        ("base/b.cpp", "__builtin_ia32_rdtsc();", "only core/kernels/ may use __builtin_ia32_rdtsc"),
    ],
)
def test_refused(tree, path, line, fault):
    (tree / "core" / path).write_text("// a comment\n" + line + "\n")
    assert violations(tree) == [f"core/{path}:2: {fault}"]


def test_an_unknown_folder(tree):
    (tree / "core" / "misc").mkdir()
    (tree / "core" / "misc" / "m.cpp").write_text("")
    assert violations(tree) == [
        "core/misc/m.cpp: core/misc has no place in the order of folders: "
        "api, plan, drivers, pack, dispatch, kernels, base"
    ]


def test_flags_of_an_instruction_set(tree):
    with (tree / "CMakeLists.txt").open("a") as build:
        build.write("target_compile_options(all INTERFACE -O3 -march=native -mavx2)\n")
    assert violations(tree) == ["CMakeLists.txt:2: only the kernels' targets may have -march=native, -mavx2"]
