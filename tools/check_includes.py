"""The rules of the source tree that no compiler checks; part of `make lint`.

1. A folder of core/ includes only itself and the folders below it. Kernels include nothing but kernels: what
   they shared with other sources could be linked from a target that the machine cannot run.
2. Instruction sets (intrinsics, their headers and types, -m flags, target attributes) are the business of
   core/kernels/ alone.
3. Python, NumPy and nanobind are known to bindings/ alone.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("api", "plan", "drivers", "pack", "dispatch", "kernels", "base")  # from top to bottom

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
PYTHON = re.compile(r"^(Python\.h|(numpy|nanobind|pybind11)/.*)$")
INSTRUCTION_SET_HEADER = re.compile(r"^(\w*intrin|cpuid|arm_\w+)\.h$")
INSTRUCTION_SET = re.compile(
    r"\b(_mm\d*_\w+|__m(128|256|512)\w*|__mmask\d+|v(ld|st|add|fma|dup)\d?q?_\w+|float(32x4|64x2)_t"
    r"|__builtin_(ia32|neon|aarch64)_\w+|__attribute__\s*\(\(\s*target\b.*|target_clones\b.*)"
)
# The pause of a waiting loop is of every x86 processor, and part of no kernel.
EVERYWHERE = {"__builtin_ia32_pause"}
FLAG = re.compile(r"(?<![\w-])-m\w+(=\S+)?")


def code_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a source, without comments."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), path.read_text(), flags=re.DOTALL)
    for number, line in enumerate(text.splitlines(), 1):
        yield number, line.split("//")[0]


def include_fault(folder: str, quoted: str | None, system: str | None) -> str | None:
    """What is wrong with an include in a folder of core/, if anything."""
    name = quoted or system or ""
    if PYTHON.match(name):
        return f"only bindings/ may include {name}"
    if INSTRUCTION_SET_HEADER.match(name) and folder != "kernels":
        return f"only core/kernels/ may include {name}"
    if quoted is None:
        return None
    other = quoted.split("/")[0]
    if other not in FOLDERS:
        return f"expected a path from core/, got {quoted}"
    if FOLDERS.index(other) < FOLDERS.index(folder):
        return f"core/{folder} is below core/{other} and may not include {quoted}"
    if folder == "kernels" and other != "kernels":
        return f"kernels include only kernels, got {quoted}"
    return None


def violations(root: Path) -> list[str]:
    found = []
    sources = sorted(path for path in (root / "core").rglob("*") if path.suffix in (".cpp", ".hpp"))
    for path in sources:
        where = path.relative_to(root)
        folder = where.parts[1]
        if folder not in FOLDERS:
            found.append(f"{where}: core/{folder} has no place in the order of folders: {', '.join(FOLDERS)}")
            continue
        for number, line in code_lines(path):
            include = INCLUDE.match(line)
            if include:
                fault = include_fault(folder, include[1], include[2])
                if fault:
                    found.append(f"{where}:{number}: {fault}")
            elif folder != "kernels":
                found += [
                    f"{where}:{number}: only core/kernels/ may use {use[0]}"
                    for use in INSTRUCTION_SET.finditer(line)
                    if use[0] not in EVERYWHERE
                ]
    build = root / "CMakeLists.txt"
    for number, line in enumerate(build.read_text().splitlines(), 1):
        flags = [flag[0] for flag in FLAG.finditer(line.split("#")[0])]
        if flags and not line.lstrip().startswith("windrow_target("):
            found.append(f"{build.name}:{number}: only the kernels' targets may have {', '.join(flags)}")
    return found


def main() -> int:
    found = violations(Path(__file__).resolve().parent.parent)
    print("\n".join(found), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
