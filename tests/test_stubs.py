"""The types that windrow ships: the stub of the compiled core is what the generator makes of it."""

import ast
import importlib.resources
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "src" / "windrow" / "_core.pyi"

pytest.importorskip("nanobind", reason="the stub generator is nanobind's")


def test_the_stub_is_current():
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / "stubs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"run `make stubs`:\n{run.stdout}{run.stderr}"


def test_the_check_sees_a_difference(tmp_path):
    changed = tmp_path / "_core.pyi"
    changed.write_text(STUB.read_text().replace("get_num_threads() -> int", "get_num_threads() -> str"))
    code = f"""
import runpy, sys, pathlib
tool = runpy.run_path({str(ROOT / "tools" / "stubs.py")!r})
tool["main"].__globals__["TARGET"] = pathlib.Path({str(changed)!r})
sys.argv = ["stubs.py", "--check"]
sys.exit(tool["main"]())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "-def get_num_threads() -> str: ..." in run.stdout.splitlines()


def test_no_type_is_left_open():
    stub = ast.parse(STUB.read_text())
    functions = [node for node in ast.walk(stub) if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 10
    for function in functions:
        for argument in function.args.args:
            if argument.arg != "self":
                assert argument.annotation is not None, f"{function.name}({argument.arg})"
                assert ast.unparse(argument.annotation) not in ("object", "list", "dict", "Any")
        assert ast.unparse(function.returns) not in ("object", "list", "dict", "Any"), function.name


def test_the_package_says_that_it_is_typed():
    files = importlib.resources.files("windrow")
    assert files.joinpath("py.typed").is_file()
    assert files.joinpath("_core.pyi").is_file()
