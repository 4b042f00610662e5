"""The command line: a flow and its lock in, an explanation out."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from mfbazel.analyze import read_flow
from mfbazel.analyze.arguments import READ_ATTRIBUTES, add_read_arguments, read_arguments
from mfbazel.console import make_console
from mfbazel.errors import MfbazelError
from mfbazel.explain.report import Package, Report, explain
from mfbazel.explain.tables import show
from mfbazel.lock.document import read
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
    report = explain(flow, read(_in_workspace(arguments.lock_dir), command), arguments.platform)
    packages = _named(report, arguments.package)
    steps = arguments.step or [step.name for step in flow.steps]
    for name in steps:
        if name not in {step.name for step in flow.steps}:
            raise MfbazelError(
                f"--step {name}: flow '{flow.name}' has no such step; it has {', '.join(s.name for s in flow.steps)}"
            )
    if arguments.json:
        table = {**report.to_json(), "packages": [package.to_json() for package in packages]}
        print(json.dumps(table, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        show(report, make_console(), steps, packages, command)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mfbazel.explain",
        description="Show the steps of a flow, their packages, and why each package is there.",
        fromfile_prefix_chars="@",
    )
    add_read_arguments(parser)
    parser.add_argument("--lock-dir", required=True, type=Path, metavar="DIR", help="the lock directory")
    parser.add_argument("--label", required=True, metavar="//PKG:NAME", help="the flow's target")
    parser.add_argument("--step", action="append", metavar="NAME", help="only this step; repeatable")
    parser.add_argument("--package", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    parser.add_argument("--platform", metavar="OS/ARCH", help="of the packages (default: the lock's first)")
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
