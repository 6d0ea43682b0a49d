"""`python -m benchmarks COMMAND`, one of those below: see README.md."""

import argparse
import sys
from pathlib import Path

from . import machine

DTYPES = ("float32", "float64")
PASSES = ("y", "dx", "dw")
PEERS = ("windrow", "torch", "onnxruntime", "jax", "openvino", "numpy")


def _list(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _numbers(text: str) -> list[int]:
    return [int(part) for part in _list(text)]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "python -m benchmarks", description="windrow and its peers, interleaved in one run"
    )
    commands = top.add_subparsers(dest="command", required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--threads", type=int, default=1, help="cores to pin to and threads to allow (default 1)"
    )
    common.add_argument("--cpus", type=_numbers, help="which cores, e.g. 1 or 0,1 (default: the last ones)")
    common.add_argument("--dtype", type=_list, default=list(DTYPES), help="float32,float64")
    common.add_argument(
        "--peers", type=_list, default=list(PEERS), help="who takes part (default: all installed)"
    )
    common.add_argument("--rounds", type=int, help="rounds per cell (default 7; 3 with --quick)")
    common.add_argument(
        "--quick", action="store_true", help="fewer rounds, shorter samples, lost cells are not raced again"
    )
    common.add_argument(
        "--only", type=_list, default=[], help="cases whose file/name contains one of these texts"
    )
    common.add_argument(
        "--default-malloc", action="store_true", help="let fresh results of peers cost page faults"
    )
    common.add_argument("--out", type=Path, help="the JSON file (default: benchmarks/results/local/...)")
    common.add_argument("--plot", type=Path, help="also draw the plot into this file")

    conv = commands.add_parser("conv", parents=[common], help="convolution: forward and both gradients")
    conv.add_argument("--layers", type=_list, default=[], help="files of shapes/, or paths (default: all)")
    conv.add_argument("--pass", dest="passes", type=_list, default=list(PASSES), help="y,dx,dw")
    conv.add_argument("--batch", type=_numbers, default=[], help="batches for layers of batch 1, e.g. 1,8")
    conv.add_argument(
        "--again",
        action=argparse.BooleanOptionalAction,
        help="race lost cells again (default: not with --quick)",
    )
    conv.add_argument(
        "--algorithm", choices=("auto", "direct"), default="auto", help="ours; direct leaves Winograd out"
    )
    patches = commands.add_parser("patches", parents=[common], help="unfold and fold")
    patches.add_argument("--operation", type=_list, default=["unfold", "fold"], help="unfold,fold")
    patches.add_argument("--layout", action="append", default=[], help="one layout; may be repeated")
    commands.add_parser("pool", parents=[common], help="maxima and means of windows, forward and backward")
    commands.add_parser("overhead", parents=[common], help="tiny calls, first call, import time")
    commands.add_parser("networks", parents=[common], help="all convolutions of a network in sequence")
    commands.add_parser("adapters", parents=[common], help="adapters against what they stand in for")
    calibrate = commands.add_parser(
        "calibrate", parents=[common], help="the constants of the core's choice, and what its choices cost"
    )
    calibrate.add_argument(
        "--layers", type=_list, default=[], help="files of shapes/, or paths (default: all)"
    )
    calibrate.add_argument("--target", type=_list, default=[], help="default: all that run here")
    calibrate.add_argument(
        "--write", type=Path, metavar="TABLE", help="replace the rows in it: core/plan/costs_table.hpp"
    )
    behind = commands.add_parser(
        "behind", parents=[common], help="cells that races lost: every way of computing them, and what binds"
    )
    behind.add_argument("files", type=Path, nargs="+", help="results of conv")
    behind.add_argument("--limit", type=int, help="only so many cells, most lost first")
    scaling = commands.add_parser(
        "scaling", parents=[common], help="each layer on one thread and on all of --threads"
    )
    scaling.add_argument("--layers", type=_list, default=[], help="files of shapes/, or paths (default: all)")
    scaling.add_argument("--pass", dest="passes", type=_list, default=list(PASSES), help="y,dx,dw")
    commands.add_parser("limits", parents=[common], help="FMA peak, fill and read rates of this machine")
    report = commands.add_parser("report", help="Markdown and plot from a result file")
    report.add_argument("file", type=Path)
    report.add_argument("--full", action="store_true", help="every cell, lost ones first")
    report.add_argument("--plot", type=Path, help="also draw the plot into this file")
    return top


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.command != "report":
        for name, known in (("dtype", DTYPES), ("peers", PEERS), ("passes", PASSES)):
            unknown = set(getattr(options, name, ())) - set(known)
            if unknown:
                raise SystemExit(
                    f"--{name}: expected some of {', '.join(known)}, got {', '.join(sorted(unknown))}"
                )
        # Before anything that imports NumPy or a peer: their pools read these when they load.
        options.cpus = machine.limit_threads(options.threads, options.cpus)
        options.kept_pages = not options.default_malloc and machine.keep_pages()
    from . import commands  # noqa: PLC0415  (imports NumPy: threads must be limited before)

    return commands.COMMANDS[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
