"""The subcommands of `python -m benchmarks`, after the process has been limited to its threads."""

import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import (
    adapters,
    layers,
    machine,
    networks,
    overhead,
    patches,
    plot,
    pool,
    race,
    results,
    summary,
    tables,
    timing,
)
from .peers import OURS

WRITE_EVERY = 60.0  # seconds
MOST_PAUSE = 0.2  # seconds: longer than workers spin after their work


def _method(options: Namespace) -> timing.Method:
    method = timing.Method(alone=options.threads == 1, pause=0.0 if options.threads == 1 else MOST_PAUSE)
    if options.quick:
        method = method._replace(rounds=3, sample=1e-3, budget=2.0, least=2, slow=3.0)
    return method if options.rounds is None else method._replace(rounds=options.rounds)


def _settings(options: Namespace, method: timing.Method) -> dict[str, Any]:
    return {
        "threads": options.threads,
        "cpus": options.cpus,
        "kept_pages": options.kept_pages,
        "method": method._asdict(),
    }


def _start(options: Namespace) -> tuple[timing.Method, dict[str, Any], dict[str, Any]]:
    """The method, the loaded peers and the head of the result."""
    method = _method(options)
    rivals, missing = race.load_peers(options.peers, options.threads)
    document = results.header(options.command, _settings(options, method))
    document["peers"] = {name: {"version": p.version, "settings": p.settings} for name, p in rivals.items()}
    document["missing"] = missing
    for name, reason in missing.items():
        print(f"missing: {name}: {reason}")
    return method, rivals, document


def _collect(options: Namespace, document: dict[str, Any], cells: Iterator[dict[str, Any]]) -> None:
    """Runs a race into its document and file, which is written every minute: a long run may be cut short."""
    stamp = document["created"].replace(":", "").replace("-", "")
    path = options.out or results.RESULTS / "local" / f"{options.command}-{options.threads}t-{stamp}.json"
    document["skipped"], document["cells"] = [], []
    written = time.monotonic()
    for cell in cells:
        _progress(cell)
        document["skipped" if "skipped" in cell else "cells"].append(cell)
        if time.monotonic() - written > WRITE_EVERY:
            results.write(path, document)
            written = time.monotonic()
    document["load_at_end"], document["ended"] = machine.load(), machine.now()
    results.write(path, document)
    print(f"written: {path}")


def _limits(options: Namespace, document: dict[str, Any]) -> Any:
    measured, reason = race.measured_limits(options.threads)
    if reason:
        document["missing"]["limits"] = reason
        print(f"missing: limits: {reason}")
    return measured


def _progress(cell: dict[str, Any]) -> None:
    """One line per cell while a race runs."""
    if "skipped" in cell:
        print(f"{cell['layer']:40} {cell.get('dtype', '')} skipped: {cell['skipped']}", flush=True)
        return
    what = cell.get("pass") or f"{cell.get('operation', '')} {cell.get('layout', '')}"
    name = cell.get("layer") or cell.get("call") or f"{cell['network']} {cell['work']}"
    times = sorted((entry["median"], who) for who, entry in cell["candidates"].items())
    best = "  ".join(f"{who} {tables.seconds(t)}" for t, who in times[:3])
    value = cell["ratio"] if "ratio" in cell else race.ratio(cell)
    mark = "" if value is None else f"{value:5.2f} "
    print(f"{name:36} n={cell.get('n', '-')!s:4}{cell['dtype'][-2:]} {what:18} {mark} {best}", flush=True)
    for who, reason in cell["absent"].items():
        if reason.startswith(("wrong", "failed")):
            print(f"    {who}: {reason}", flush=True)


def _layers(options: Namespace) -> list[layers.Layer]:
    chosen = layers.load(options.layers, options.only)
    if not chosen:
        raise SystemExit("--only: no layer has such a name")
    return chosen


def conv(options: Namespace) -> int:
    chosen = layers.batches(_layers(options), options.batch)
    method, rivals, document = _start(options)
    measured = _limits(options, document)
    again = not options.quick if options.again is None else options.again
    course = race.Course(chosen, options.dtype, options.passes, method, again, options.algorithm)
    _collect(options, document, race.run(course, rivals, measured))
    _show_conv(document, full=True)
    if options.plot:
        plot.conv(document, options.plot)
    return 0


def _show_conv(document: dict[str, Any], full: bool) -> None:
    found = summary.rows(document["cells"])
    if full:
        tables.cells(found).show()
    for line in tables.complaints(found):
        print("refused or failed:", line)
    heads = ["file", "dtype", "pass"]
    tables.means(summary.groups(found, summary.by_file), heads, "Geometric means by file").show()
    tables.means(summary.groups(found, summary.by_pass), heads[1:], "Geometric means").show()
    lost = sum(r.lost for r in found)
    print(f"{lost} of {len(found)} cells lost (ratio below {race.LOST}, and again in the longer re-race)")


def patches_command(options: Namespace) -> int:
    method, rivals, document = _start(options)
    measured = _limits(options, document)
    course = patches.Course(
        patches.cases(options.only),
        options.dtype,
        options.layout or patches.LAYOUTS,
        options.operation,
        method,
    )
    _collect(options, document, patches.run(course, rivals, measured))
    tables.patch_cells(document).show()
    tables.patch_means(document).show()
    if options.plot:
        plot.patch(document, options.plot)
    return 0


def pool_command(options: Namespace) -> int:
    method, rivals, document = _start(options)
    measured = _limits(options, document)
    cells = pool.run(options.dtype, options.only, list(rivals), method, measured)
    _collect(options, document, cells)
    tables.pool_cells(document).show()
    return 0


def overhead_command(options: Namespace) -> int:
    method, rivals, document = _start(options)
    method = method._replace(slow=50.0)
    if OURS in rivals:
        document["first_call"] = overhead.first_call()
        document["imports"] = overhead.imports()
    _collect(options, document, overhead.calls(rivals, options.dtype, method))
    _show_overhead(document)
    return 0


def _show_overhead(document: dict[str, Any]) -> None:
    tables.overhead(document).show()
    if "imports" in document:
        got = document["imports"]
        print(
            f"import windrow adds {1e3 * got['added']:.1f} ms to NumPy's {1e3 * got['numpy']:.1f} ms",
            end="; ",
        )
        print(f"new standard modules: {', '.join(got['new_stdlib_modules']) or 'none'}")
        print(f"first call of a process: {tables.seconds(document['first_call'])}")


def networks_command(options: Namespace) -> int:
    chosen = [n for n in networks.networks() if not options.only or any(t in n.name for t in options.only)]
    if not chosen:
        raise SystemExit("--only: no network has such a name")
    method, rivals, document = _start(options)
    method = method._replace(budget=max(method.budget, 30.0), slow=50.0)
    cells = networks.cells(chosen, rivals, options.dtype, options.threads, method)
    _collect(options, document, cells)
    tables.networks(document).show()
    return 0


def adapters_command(options: Namespace) -> int:
    method = _method(options)._replace(slow=1000.0)  # an evaluator that is slower by this much is the point
    document = results.header(options.command, _settings(options, method))
    chosen = [c for c in adapters.CASES if not options.only or any(text in c.call for text in options.only)]
    _collect(options, document, adapters.run(chosen, method))
    tables.adapters(document).show()
    return 0


def calibrate_command(options: Namespace) -> int:
    from . import calibrate  # noqa: PLC0415  (needs windrow: to everything else it is a peer like others)

    chosen = layers.load(options.layers, options.only)
    method = _method(options)
    document = results.header(options.command, _settings(options, method))
    targets = options.target or calibrate.targets()
    document["cells"] = calibrate.cells(chosen, options.dtype, targets, method.rounds)
    if options.out:
        results.write(options.out, document)
    found = calibrate.rows(document["cells"])
    written = options.write.read_text() if options.write else ""
    table = tables.calibration()
    for target in targets:
        for dtype in options.dtype:
            rows = [row for row in found if row.cell[:2] == (target, dtype)]
            cost = calibrate.fit(rows, calibrate.floors(document["cells"]))
            built = {(row.cell, row.name): row.built for row in rows}
            fitted = {(row.cell, row.name): calibrate.seconds(row, cost) for row in rows}
            for which, predicted in (("built in", built), ("fitted now", fitted)):
                tables.add_calibration(table, target, dtype, which, calibrate.quality(rows, predicted))
            name = calibrate.name_of(target, dtype)
            line = calibrate.line_of(name, cost, calibrate.origin(target, dtype, document["created"]))
            if options.write:
                written = calibrate.replaced(written, name, line)
            print(line)
    table.show()
    if options.write:
        options.write.write_text(written)
        print(f"written: {options.write}")
    return 0


def behind_command(options: Namespace) -> int:
    from . import behind  # noqa: PLC0415  (needs windrow, as calibrate does)

    found = [
        cell
        for cell in behind.cells([results.read(path) for path in options.files])
        if cell.dtype in options.dtype
        and (not options.only or any(t in f"{cell.layer.source}/{cell.layer.name}" for t in options.only))
    ][: options.limit]
    if not found:
        raise SystemExit("no such cell is behind in these results")
    method = _method(options)._replace(sample=1e-3, budget=3.0, slow=2.0)
    document = results.header(options.command, _settings(options, method))
    document["missing"] = {}
    measured = _limits(options, document)
    _collect(options, document, behind.run(found, method, measured))
    _show_behind(document)
    return 0


def _show_behind(document: dict[str, Any]) -> None:
    from . import behind  # noqa: PLC0415

    found = behind.rows(document["cells"])
    tables.behind(found).show()
    tables.bounds(found).show()
    tables.regrets(found).show()


def scaling_command(options: Namespace) -> int:
    from . import scaling  # noqa: PLC0415  (needs windrow, as calibrate does)

    if options.threads < 2:
        raise SystemExit(f"--threads: expected 2 or more, got {options.threads}")
    chosen = _layers(options)
    method = _method(options)
    document = results.header(options.command, _settings(options, method))
    document["missing"] = {}
    several = _limits(options, document)
    peaks = [] if several is None else [race.measured_limits(1)[0], several]
    cells = scaling.run(chosen, options.dtype, options.passes, options.threads, method, peaks)
    _collect(options, document, cells)
    _show_scaling(document)
    return 0


def _show_scaling(document: dict[str, Any]) -> None:
    from . import scaling  # noqa: PLC0415

    found = scaling.rows(document)
    tables.scaling_cells(found).show()
    tables.scaling(found).show()


def limits(options: Namespace) -> int:
    measured, reason = race.measured_limits(options.threads)
    if measured is None:
        print(f"missing: {reason}")
        return 1
    table = tables.Table(f"Limits of this machine, {options.threads} thread(s)", ["limit", "measured"])
    for dtype in options.dtype:
        table.add(f"FMA peak, {dtype}", f"{measured.fma_peak(dtype, 0.1) / 1e9:.1f} GFLOP/s")
    for mib in (0.25, 4, 512):
        buffer = np.full(int(mib * 2**17), 1.5)
        table.add(f"fill, {mib:g} MiB", f"{measured.fill_rate(buffer, 0.1) / 1e9:.1f} GB/s")
        table.add(f"read, {mib:g} MiB", f"{measured.read_rate(buffer, 0.1) / 1e9:.1f} GB/s")
    table.show()
    return 0


def report(options: Namespace) -> int:
    document = results.read(options.file)
    sys.stdout.write(markdown(document, options.full) + "\n")
    if options.plot and document["kind"] in ("conv", "patches"):
        {"conv": plot.conv, "patches": plot.patch}[document["kind"]](document, options.plot)
    return 0


def _report_conv(document: dict[str, Any], full: bool) -> str:
    found = summary.rows(document["cells"])
    heads = ["layers", "dtype", "pass"]
    parts = [
        tables.machine(document),
        tables.means(summary.groups(found, summary.by_pass), heads[1:], "").markdown(),
        tables.means(summary.groups(found, summary.by_file), heads, "").markdown(),
    ]
    shown = found if full else [r for r in found if r.lost]
    if shown:
        parts.append(tables.cells(shown, "").markdown())
    return "\n\n".join(parts)


def _report_patches(document: dict[str, Any], full: bool) -> str:
    parts = [tables.machine(document), tables.patch_means(document).markdown()]
    if full:
        parts.append(tables.patch_cells(document).markdown())
    return "\n\n".join(parts)


def _report_pool(document: dict[str, Any], full: bool) -> str:
    return f"{tables.machine(document)}\n\n{tables.pool_cells(document).markdown()}"


def _report_overhead(document: dict[str, Any], full: bool) -> str:
    return f"{tables.machine(document)}\n\n{tables.overhead(document, '').markdown()}"


def _report_networks(document: dict[str, Any], full: bool) -> str:
    return f"{tables.machine(document)}\n\n{tables.networks(document, '').markdown()}"


def _report_behind(document: dict[str, Any], full: bool) -> str:
    from . import behind  # noqa: PLC0415

    found = behind.rows(document["cells"])
    faster = "Ways that were faster than the choice in their memory format, by 5 % or more in two runs:"
    parts = [
        behind.page(document["settings"]["threads"], [row.n for row in found]),
        tables.machine(document) + ".",
        tables.bounds(found, "").markdown(),
        tables.behind(found, "").markdown(),
    ]
    if full:
        parts += [faster, tables.regrets(found).markdown()]
    return "\n\n".join(parts)


def _report_scaling(document: dict[str, Any], full: bool) -> str:
    from . import scaling  # noqa: PLC0415

    found = scaling.rows(document)
    parts = [tables.machine(document), tables.scaling(found, "").markdown()]
    shown = found if full else [row for row in found if row.large and row.gain < tables.WANTED_GAIN]
    if shown:
        parts.append(tables.scaling_cells(shown, "").markdown())
    return "\n\n".join(parts)


def _report_adapters(document: dict[str, Any], full: bool) -> str:
    return f"{tables.machine(document)}\n\n{tables.adapters(document, '').markdown()}"


def markdown(document: dict[str, Any], full: bool = False) -> str:
    """A result as Markdown."""
    show = {
        "conv": _report_conv,
        "patches": _report_patches,
        "pool": _report_pool,
        "overhead": _report_overhead,
        "networks": _report_networks,
        "adapters": _report_adapters,
        "behind": _report_behind,
        "scaling": _report_scaling,
    }
    return show[document["kind"]](document, full)


COMMANDS = {
    "conv": conv,
    "patches": patches_command,
    "pool": pool_command,
    "overhead": overhead_command,
    "networks": networks_command,
    "adapters": adapters_command,
    "calibrate": calibrate_command,
    "behind": behind_command,
    "scaling": scaling_command,
    "limits": limits,
    "report": report,
}
