"""Write src/windrow/_core.pyi from the compiled module: `make stubs`. With --check, only compare.

nanobind's stub generator knows the signatures. The bindings take plain handles, which it can only call
`object`, so the types that it cannot know are named here, once for each word: a name means the same thing in
every function of the core.
"""

import argparse
import ast
import difflib
import sys
from pathlib import Path

from nanobind.stubgen import StubGen

from windrow import _core

TARGET = Path(__file__).resolve().parent.parent / "src" / "windrow" / "_core.pyi"

HEADER = '''"""The compiled core. Made by tools/stubs.py (`make stubs`): do not edit."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

__version__: str
_testing: ModuleType  # kernels by name, for the project's own tests
'''

ARRAYS = ("x", "w", "b", "dy", "cols", "weights", "divisor", "uncovered", "indices", "image")
SIZES = ("size", "kernel_size", "stride", "dilation", "before", "beyond", "output_size", "order", "shape")
SHAPES = ("x_shape", "w_shape")

PARAMETERS = {
    **dict.fromkeys(ARRAYS, "Array"),
    **dict.fromkeys(SIZES, "Sequence[int]"),
    **dict.fromkeys(SHAPES, "Sequence[int]"),
    "padding": "int | str | Sequence[int] | Sequence[tuple[int, int]]",
    "groups": "int",
    "layout": "str",
    "padding_mode": "str",
    "reduce": "str",
    "window": "Any",
    "fill": "Any",
    "accumulate": "bool",
    "problem": "Conv",
    "axes": "Sequence[Sequence[int]]",
    "channels_last": "bool",
    "out": "Array | None",
}
RESULTS = {"object": "Array | None", "list": "list[str]", "dict": "dict[str, Any]"}


def complete(source: str) -> str:
    """The generator's stub with every `object`, `list` and `dict` replaced by what it stands for."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        for argument in (*node.args.args, *node.args.kwonlyargs):
            annotation = argument.annotation
            if annotation is None or "object" not in ast.unparse(annotation):
                continue
            if argument.arg not in PARAMETERS:
                sys.exit(f"tools/stubs.py: name the type of {argument.arg!r}, an argument of {node.name}")
            known = PARAMETERS[argument.arg]
            if "None" in ast.unparse(annotation) and "None" not in known:
                known += " | None"
            argument.annotation = ast.parse(known, mode="eval").body
        if node.args.vararg is not None:
            node.args.vararg.annotation = ast.Name("object")
        if node.returns is not None:
            returned = ast.unparse(node.returns)
            node.returns = ast.parse(RESULTS.get(returned, returned), mode="eval").body
    lines = [HEADER]
    for part in tree.body:
        if isinstance(part, ast.AnnAssign):
            lines.append(f"{ast.unparse(part.target)}: {ast.unparse(part.annotation)}")
        elif isinstance(part, ast.FunctionDef):
            lines.append(ast.unparse(part))
        elif isinstance(part, ast.ClassDef):
            methods = [f"    {ast.unparse(method)}" for method in part.body]
            lines.append("\n".join([f"\nclass {part.name}:", *methods]))
    return "\n".join(lines).replace(":\n        ...", ": ...").replace(":\n    ...", ": ...") + "\n"


def generate() -> str:
    generator = StubGen(_core, recursive=False, include_docstrings=False, quiet=True)
    generator.put(_core)
    return complete(generator.get())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if the stub is not current"
    )
    check = parser.parse_args().check
    stub = generate()
    if not check:
        TARGET.write_text(stub)
        return 0
    present = TARGET.read_text()
    sys.stdout.writelines(
        difflib.unified_diff(present.splitlines(True), stub.splitlines(True), str(TARGET), "generated")
    )
    return int(present != stub)


if __name__ == "__main__":
    sys.exit(main())
