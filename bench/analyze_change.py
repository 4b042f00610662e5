"""Measures what a change costs the reading of flows: actions executed by Bazel.

Copies the workspace, adds packages of generated flows, each a `metaflow_flow`, and builds all their specs; then again
with nothing changed, with one flow changed, and with a module that the flows of one package share. Prints a table and
exits with 1 unless one changed flow reads one flow anew, and no change none.

    ./bazelw run //bench:analyze_change
    ./bazelw run //bench:analyze_change -- --flows 200
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.analyze_flows import write_flows
from bench.workspace import Workspace, executed_actions

_MNEMONIC = "FlowSpec"
_PACKAGE = "bench_flows"
_SHARED = """\
load("@rules_python//python:defs.bzl", "py_library")

py_library(
    name = "shared",
    srcs = glob(["shared/*.py"]),
    imports = ["."],
    visibility = ["//visibility:public"],
)
"""
_HEAD = """\
load("@rules_python//python:defs.bzl", "py_library")
load("//rules:defs.bzl", "metaflow_flow")

py_library(
    name = "helpers",
    srcs = ["helpers.py"],
    imports = ["."],
)
"""
_FLOW = """
metaflow_flow(
    name = "{name}",
    src = "{name}.py",
    base = "@python_base",
    read = "static",
    deps = [
        ":helpers",
        "//{package}:shared",
    ],
)
"""


@dataclass(frozen=True)
class Measured:
    """One build: flows read (executed actions), flows there are, wall time in seconds."""

    name: str
    read: int
    flows: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a change reads more or fewer flows than it must, else 0."""
    options = _parser().parse_args(arguments)
    source = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    with tempfile.TemporaryDirectory(prefix="bench-change-") as name:
        workspace = Workspace(source, Path(name))
        try:
            results = _measure(workspace, options.flows)
        finally:
            workspace.close()
    _print(results)
    return 0 if [result.read for result in results[:3]] == [options.flows, 0, 1] else 1


def _measure(workspace: Workspace, count: int) -> list[Measured]:
    files = _add_flows(workspace.directory / _PACKAGE, count)
    first = files[0]
    helpers = first.with_name("helpers.py")
    results = [_build(workspace, "all flows", count), _build(workspace, "nothing changed", count)]
    _append(first, "CHANGED = 1")
    results.append(_build(workspace, "one flow changed", count))
    _append(helpers, "CHANGED = 1")
    package = sum(file.parent == first.parent for file in files)
    results.append(_build(workspace, f"a module of {package} flows changed", count))
    return results


def _add_flows(directory: Path, count: int) -> list[Path]:
    files = write_flows(directory, count)
    (directory / "BUILD.bazel").write_text(_SHARED)
    for package in sorted({file.parent for file in files}):
        flows = [_FLOW.format(name=file.stem, package=_PACKAGE) for file in files if file.parent == package]
        (package / "BUILD.bazel").write_text(_HEAD + "".join(flows))
    return files


def _append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write(f"\n{line}\n")


def _build(workspace: Workspace, name: str, count: int) -> Measured:
    """Build the specs of all flows."""
    started = time.monotonic()
    targets = [
        f"//{file.parent.relative_to(workspace.directory)}:{file.stem}.spec"
        for file in sorted((workspace.directory / _PACKAGE).glob("*/flow_*.py"))
    ]
    workspace.bazel("build", "--disk_cache=", f"--build_event_json_file={workspace.events}", *targets)
    return Measured(name, executed_actions(workspace.events).get(_MNEMONIC, 0), count, time.monotonic() - started)


def _print(results: Sequence[Measured]) -> None:
    table = Table("build of the specs of all flows", "flows read", "of", "seconds")
    for result in results:
        table.add_row(result.name, str(result.read), str(result.flows), f"{result.seconds:.1f}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/analyze_change.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flows", type=int, default=50, metavar="N", help="flows to generate (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
