"""The command line: a flow and its lock in, an explanation out."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfbazel.analyze import read_flow
from mfbazel.analyze.arguments import READ_ATTRIBUTES, add_read_arguments, read_arguments
from mfbazel.console import make_console
from mfbazel.errors import MfbazelError
from mfbazel.explain.layer_tables import show_layers
from mfbazel.explain.layers import explain_layers
from mfbazel.explain.report import Package, Report, explain
from mfbazel.explain.tables import say_lock, show
from mfbazel.lock.document import Lock, read
from mfbazel.usage import show_target

_ATTRIBUTES = frozenset(["lock_dir", "label", *READ_ATTRIBUTES])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Raises:
        MfbazelError: the flow or its lock cannot be read, or an option names a step or package that is not there.
    """
    arguments = _parser().parse_args(argv)
    flow = read_flow(*read_arguments(arguments))
    command = f"bazel run {arguments.label}.lock"
    lock = read(_in_workspace(arguments.lock_dir), command)
    report = explain(flow, lock, arguments.platform)
    packages = _named(report, arguments.package)
    steps = arguments.step or [step.name for step in flow.steps]
    for name in steps:
        if name not in {step.name for step in flow.steps}:
            raise MfbazelError(
                f"--step {name}: flow '{flow.name}' has no such step; it has {', '.join(s.name for s in flow.steps)}"
            )
    if arguments.layers:
        _layers(report, lock, steps, arguments, command)
    elif arguments.json:
        table = {**report.to_json(), "packages": [package.to_json() for package in packages]}
        _print(table)
    else:
        show(report, make_console(), steps, packages, command)
    return 0


def _layers(
    report: Report, lock: Lock | None, steps: Sequence[str], arguments: argparse.Namespace, command: str
) -> None:
    """Print the layers that ``steps`` have, those with the named packages where some are named."""
    if lock is None or report.platform is None:
        raise MfbazelError(
            f"--layers: {report.flow.name} is not locked yet, and the lock plans the layers: `{command}`"
        )
    layers = explain_layers(lock, report.platform, [step.name for step in report.flow.steps])
    shown = [
        layer
        for layer in layers.layers
        if {*layer.steps} & {*steps}
        and (not arguments.package or {wheel.name for wheel in layer.wheels} & {*arguments.package})
    ]
    if arguments.json:
        table = layers.to_json()
        table["layers"] = [layer.to_json() for layer in shown]
        table["steps"] = [step for step in table["steps"] if step["step"] in steps]
        _print({**table, "flow": report.flow.name, "stale": list(report.stale)})
    else:
        console = make_console()
        show_layers(layers, console, steps, shown)
        say_lock(report, console, command)


def _print(table: Mapping[str, Any]) -> None:
    print(json.dumps(table, indent=2, sort_keys=True, ensure_ascii=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mfbazel.explain",
        description="Show the steps of a flow, their packages, and why each package is there; or their images' layers.",
        fromfile_prefix_chars="@",
    )
    add_read_arguments(parser)
    parser.add_argument("--lock-dir", required=True, type=Path, metavar="DIR", help="the lock directory")
    parser.add_argument("--label", required=True, metavar="//PKG:NAME", help="the flow's target")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="the layers of the images instead: what is in each, why, and what it costs",
    )
    parser.add_argument("--step", action="append", metavar="NAME", help="only this step; repeatable")
    parser.add_argument("--package", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--platform", metavar="OS/ARCH", help="of the packages and layers (default: the lock's first)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    show_target(parser, _ATTRIBUTES)
    return parser


def _named(report: Report, names: Sequence[str]) -> list[Package]:
    """Return the packages ``names`` of ``report``, all where none is named."""
    known = {package.name for package in report.packages}
    for name in names:
        if name not in known:
            changed = f"; not locked as declared: {', '.join(report.stale)}" if report.stale else ""
            raise MfbazelError(
                f"--package {name}: no step has it; the packages are {', '.join(sorted(known))}{changed}"
            )
    return [package for package in report.packages if not names or package.name in names]


def _in_workspace(path: Path) -> Path:
    """Resolve a relative ``path`` against the workspace when ``bazel run`` started this."""
    return Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / path
