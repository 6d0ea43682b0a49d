"""The command line: ``windrow demo | check | info | explain``."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import windrow

EXAMPLES = """\
examples:
  windrow demo          filter a photograph, train a network, draw a report
  windrow check         is this installation right?
  windrow info --json   version, compiler, targets, threads, for a program
  windrow explain conv 1x64x56x56 64x64x3x3 --padding 1
                        what would this layer do?
  windrow explain unfold 2x1x3x4 2x2 --layout "(c k) (l n)" --draw columns.png
                        which pixel goes where?
"""

FAILED, MISUSED = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 0: it went well; 1: something is wrong; 2: the command was misused."""
    arguments = parser().parse_args(argv)
    run: Any = arguments.run
    try:
        code = int(run(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has read enough, as in `windrow explain ... | head -3`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="windrow",
        description="Convolution layers, their exact gradients and patch extraction for NumPy arrays.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"windrow {windrow.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="filter a photograph, train a small network on real digits, draw a report",
        description="Check the installation, filter a photograph, train a small network on real handwritten "
        "digits and draw a report, whose path is the last line printed. Works offline. Needs scikit-learn "
        "and matplotlib (pip install 'windrow[demo]') and leaves out what is missing.",
    )
    demo.add_argument("--output", default="windrow-report.png", help="the picture (%(default)s)")
    demo.add_argument("--epochs", type=positive, help="train for so long only, whatever the accuracy")
    demo.set_defaults(run=run_demo)

    check = commands.add_parser(
        "check",
        help="compare with known answers, numerical gradients and the reference",
        description="Compare every operation with known answers, with numerical gradients and with the NumPy "
        "reference. Exit code 1 if any line does not hold.",
    )
    check.add_argument("--json", action="store_true", help="print the table as JSON")
    check.set_defaults(run=run_check)

    info = commands.add_parser(
        "info",
        help="version, compiler, targets, cores, threads, NumPy",
        description="What this installation is and what it found on this machine.",
    )
    info.add_argument("--json", action="store_true", help="print as JSON")
    info.set_defaults(run=run_info)

    explain = commands.add_parser(
        "explain",
        help="what a given layer would do: algorithm, kernel, blocks, FLOPs, bytes",
        description="What a call would do, without doing it: algorithm, kernel, blocks, FLOPs, bytes.",
        epilog="example: windrow explain conv 1x64x56x56 128x64x3x3 --stride 2 --padding 0:1,1:1",
    )
    explain.add_argument(
        "operation",
        help="conv, conv_grad_input, conv_grad_weight, conv_transpose, unfold, or a pooling such as max_pool",
    )
    explain.add_argument("x_shape", type=sizes, metavar="X", help="shape of x, such as 1x64x56x56")
    explain.add_argument(
        "w_shape",
        type=sizes,
        metavar="W",
        help="shape of w, such as 128x64x3x3; for unfold and poolings kernel_size",
    )
    explain.add_argument("--dtype", default="float32", help="float32 or float64 (%(default)s)")
    explain.add_argument("--stride", type=int_or_sizes, metavar="N[,N]", help="(1; for poolings kernel_size)")
    explain.add_argument(
        "--padding",
        type=padding,
        default=0,
        metavar="P",
        help="same, valid, or a number; per axis 1,2; per side 0:1,1:1 (0)",
    )
    explain.add_argument("--dilation", type=int_or_sizes, default=1, metavar="N[,N]", help="(1)")
    explain.add_argument("--groups", type=positive, default=1, metavar="N", help="(1)")
    explain.add_argument(
        "--memory-format", default="channels_first", help="of x: channels_first, channels_last"
    )
    explain.add_argument("--algorithm", default="auto", help="auto, direct or winograd (%(default)s)")
    explain.add_argument("--max-workspace", type=positive, metavar="BYTES", help="(no limit)")
    explain.add_argument("--threads", type=positive, metavar="N", help="(all)")
    explain.add_argument("--layout", metavar="L", help="of unfold: the order of the columns (n (c k) l)")
    explain.add_argument(
        "--draw", metavar="PATH", help="of unfold: a picture of where every pixel goes; needs matplotlib"
    )
    explain.add_argument("--json", action="store_true", help="print as JSON")
    explain.set_defaults(run=run_explain)
    return top


# The commands


def run_demo(arguments: argparse.Namespace) -> int:
    """A short check, then the demo among the examples."""
    from .verify import comparisons  # noqa: PLC0415 - loads the reference

    rows = comparisons()
    wrong = sum(not row.holds for row in rows)
    print(f"windrow {windrow.__version__}")
    print(f"check       {len(rows) - wrong} of {len(rows)} comparisons hold (windrow check lists them)")
    sys.stdout.flush()
    script = examples_folder() / "demo.py"
    command = [sys.executable, str(script), "--output", arguments.output]
    if arguments.epochs is not None:
        command += ["--epochs", str(arguments.epochs)]
    code = subprocess.run(command, check=False).returncode
    return FAILED if wrong else code


def examples_folder() -> Path:
    """The examples, which an installed package carries along and a checkout has beside ``src``."""
    package = Path(windrow.__file__).parent
    installed = package / "_examples"
    return installed if installed.is_dir() else package.parents[1] / "examples"


def run_check(arguments: argparse.Namespace) -> int:
    """One line per comparison."""
    from .verify import as_table, comparisons  # noqa: PLC0415 - loads the reference

    rows = comparisons()
    wrong = sum(not row.holds for row in rows)
    if arguments.json:
        print(json.dumps({"holds": wrong == 0, "rows": [row.as_dict() for row in rows]}, indent=2))
    else:
        print(as_table(rows))
        print(f"\n{len(rows) - wrong} of {len(rows)} comparisons hold.")
    return FAILED if wrong else 0


def run_info(arguments: argparse.Namespace) -> int:
    """What ``windrow.show_config`` knows."""
    if arguments.json:
        print(json.dumps(windrow.show_config("dict"), indent=2))
    else:
        windrow.show_config()
    return 0


def run_explain(arguments: argparse.Namespace) -> int:
    """What ``windrow.explain`` says; its refusals are misuse of the command."""
    try:
        if arguments.operation == "unfold":
            return explain_unfold(arguments)
        for name in ("layout", "draw"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"--{name}: expected the operation unfold, got {arguments.operation}")
        return explain_conv(arguments)
    except (TypeError, ValueError) as error:
        print(f"windrow explain: {error}", file=sys.stderr)
        return MISUSED


def explain_unfold(arguments: argparse.Namespace) -> int:
    """The columns' shape and size, and with ``--draw`` a picture of them."""
    from .geometry import patch_geometry  # noqa: PLC0415
    from .layout import column_shape, parse_layout  # noqa: PLC0415

    x_shape, kernel = arguments.x_shape, arguments.w_shape
    windows = {name: getattr(arguments, name) for name in ("padding", "dilation")}
    windows["stride"] = 1 if arguments.stride is None else arguments.stride
    geometry = patch_geometry(x_shape, kernel, **windows, x_name="x_shape")
    layout = parse_layout(arguments.layout or "n (c k) l", geometry.windows.rank)
    shape = column_shape(layout, geometry)
    facts = {
        "operation": "unfold",
        "layout": layout.spec,
        "x_shape": x_shape,
        "columns_shape": shape,
        "output_size": geometry.windows.output_size,
        "bytes": prod(shape) * np.dtype(arguments.dtype).itemsize,
    }
    if arguments.draw is not None:
        from .drawing import draw_layout  # noqa: PLC0415

        try:
            figure = draw_layout(x_shape, kernel, **windows, layout=layout.spec)
        except ImportError as error:
            print(f"windrow explain: --draw: {error}; pip install matplotlib", file=sys.stderr)
            return FAILED
        figure.savefig(arguments.draw, dpi=80)
        facts["picture"] = arguments.draw
    lines = (f"{name.replace('_', ' '):14}{value}" for name, value in facts.items())
    print(json.dumps(facts, indent=2) if arguments.json else "\n".join(lines))
    return 0


def explain_conv(arguments: argparse.Namespace) -> int:
    """The plan of a convolution or of one of its gradients."""
    options = {
        name: getattr(arguments, name)
        for name in (
            "dtype",
            "memory_format",
            "stride",
            "padding",
            "dilation",
            "groups",
            "algorithm",
            "max_workspace",
            "threads",
        )
    }
    plan = windrow.explain(arguments.operation, arguments.x_shape, arguments.w_shape, **options)
    print(json.dumps(plan.as_dict(), indent=2) if arguments.json else plan)
    return 0


# What people type


def sizes(text: str) -> tuple[int, ...]:
    """A shape or one number per axis.

    >>> sizes("1x64x56x56"), sizes("2,1")
    ((1, 64, 56, 56), (2, 1))
    """
    return tuple(int(part) for part in text.replace("x", ",").split(","))


def int_or_sizes(text: str) -> int | tuple[int, ...]:
    """One number for all axes, or one per axis.

    >>> int_or_sizes("2"), int_or_sizes("2,1")
    (2, (2, 1))
    """
    return sizes(text) if "," in text or "x" in text else int(text)


def padding(text: str) -> str | int | tuple[int, ...] | tuple[tuple[int, ...], ...]:
    """A mode, a number, one per axis, or one before:after pair per axis.

    >>> padding("same"), padding("1"), padding("1,2"), padding("0:1,1:1")
    ('same', 1, (1, 2), ((0, 1), (1, 1)))
    """
    if text.isalpha() or "_" in text:
        return text
    if ":" not in text:
        return int_or_sizes(text)
    return tuple(tuple(int(side) for side in axis.split(":")) for axis in text.split(","))


def positive(text: str) -> int:
    """A number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value
