"""Measures `//:lock_all`: how the time of many flows grows with their distinct requirement sets.

Copies the workspace, adds a package of generated flows of five steps, and locks them, without locks to begin with and
with the caches of the index warm: one flow alone, then all flows with 1, 5 and 20 distinct requirement sets among them.
Then once more with nothing changed. Times are those that the command prints, which include asking Bazel for the flows;
medians.

Prints a table and exits with 1 unless, for every number of sets k,
* k resolutions are made, and two that all flows share: the launcher's, and that of the steps that declare nothing;
* all flows with k sets take at most k times as long as all flows with one set;
* from 5 sets on, all flows with k sets take at most as long as k flows locked alone, one after the other.

    ./bazelw run //bench:lock_all
    ./bazelw run //bench:lock_all -- --flows 30 --sets 1,3 --repeat 1
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.workspace import Workspace

_PACKAGE = "bench_locks"
_SHARED_RESOLUTIONS = 2
# The number of sets from which all flows may take no longer than as many flows alone.
_SEVERAL = 5
# Every requirement set is of the first and one of the others: they are of about the same size.
_COMMON = "pandas"
_NAMES = (
    "httpx",
    "pydantic",
    "sqlalchemy",
    "jinja2",
    "rich",
    "attrs",
    "orjson",
    "pyyaml",
    "lxml",
    "pillow",
    "beautifulsoup4",
    "tqdm",
    "tenacity",
    "networkx",
    "click",
    "tabulate",
    "cloudpickle",
    "joblib",
    "msgpack",
    "psutil",
)
_BUILD = """\
load("//rules:defs.bzl", "metaflow_flow")

[
    metaflow_flow(
        name = "flow_{}".format(number),
        src = "flow_{}.py".format(number),
        base = "@python_base",
        read = "static",
    )
    for number in range({count})
]
"""
_SUMMARY = re.compile(r"flows?: .*; (?P<resolutions>\d+) resolutions?; (?P<seconds>[\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """``flows`` flows with ``sets`` requirement sets: resolutions made, and seconds without locks and with nothing
    changed."""

    flows: int
    sets: int
    resolutions: int
    seconds: float
    unchanged_seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a gate is not met, else 0."""
    options = _parser().parse_args(arguments)
    source = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    with tempfile.TemporaryDirectory(prefix="bench-lock-all-") as name:
        workspace = Workspace(source, Path(name))
        try:
            results = [_measure(workspace, 1, 1, options)]
            results += [_measure(workspace, options.flows, sets, options) for sets in options.sets]
        finally:
            workspace.close()
    _print(results)
    failures = list(_failures(results))
    for failure in failures:
        print(f"gate: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _measure(workspace: Workspace, flows: int, sets: int, options: argparse.Namespace) -> Measured:
    directory = workspace.directory / _PACKAGE
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for number in range(flows):
        (directory / f"flow_{number}.py").write_text(_flow(number, number % sets), encoding="utf-8")
    (directory / "BUILD.bazel").write_text(_BUILD.replace("{count}", str(flows)), encoding="utf-8")
    _lock(workspace)  # warms the caches
    runs = []
    for _ in range(options.repeat):
        for lock in directory.glob("*.lock"):
            shutil.rmtree(lock)
        runs.append(_lock(workspace))
    unchanged = [_lock(workspace)[1] for _ in range(options.repeat)]
    (resolutions,) = {resolutions for resolutions, _ in runs}
    seconds = statistics.median(seconds for _, seconds in runs)
    return Measured(flows, sets, resolutions, seconds, statistics.median(unchanged))


def _flow(number: int, chosen: int) -> str:
    """Return the source of a flow of five steps, of which three declare the requirement set ``chosen``."""
    packages = {_COMMON: ">=0", _NAMES[chosen]: ">=0"}
    steps = ("start", "prepare", "train", "report", "end")
    lines = ["from metaflow import FlowSpec, pypi, step", "", "", f"class Flow{number}(FlowSpec):"]
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if step not in ("start", "end"):
            lines.append(f"    @pypi(packages={packages!r})")
        lines += [
            "    @step",
            f"    def {step}(self):",
            f"        self.next(self.{after})" if after else "        pass",
        ]
    return "\n".join([*lines, "", "", 'if __name__ == "__main__":', f"    Flow{number}()", ""])


def _lock(workspace: Workspace) -> tuple[int, float]:
    """Run the command; return the resolutions that it made, and its seconds."""
    command = ["./bazelw", f"--output_base={workspace.output_base}", "run", "//:lock_all", "--", f"//{_PACKAGE}/..."]
    done = subprocess.run(
        command, cwd=workspace.directory, env=workspace.environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found = _SUMMARY.search(done.stdout)
    if not found:
        raise SystemExit(f"error: //:lock_all said something else than usual:\n{done.stdout}")
    return int(found["resolutions"]), float(found["seconds"])


def _failures(results: Sequence[Measured]) -> Iterator[str]:
    alone, *together = results
    one = next(result for result in together if result.sets == 1)
    for result in together:
        if result.resolutions != result.sets + _SHARED_RESOLUTIONS:
            yield f"{result.resolutions} resolutions of {result.sets} requirement sets"
        if result.seconds > result.sets * one.seconds:
            yield f"{result.sets} sets take {result.seconds / one.seconds:.1f} times as long as one"
        if result.sets >= _SEVERAL and result.seconds > result.sets * alone.seconds:
            yield f"{result.sets} sets take longer than {result.sets} flows one after the other"


def _print(results: Sequence[Measured]) -> None:
    alone = results[0]
    one = next(result for result in results[1:] if result.sets == 1)
    titles = ("flows", "requirement sets", "resolutions", "seconds", "of one set", "of one flow", "nothing changed, s")
    table = Table(*titles)
    for result in results:
        table.add_row(
            str(result.flows),
            str(result.sets),
            str(result.resolutions),
            f"{result.seconds:.1f}",
            f"{result.seconds / one.seconds:.2f}" if result is not alone else "",
            f"{result.seconds / alone.seconds:.2f}",
            f"{result.unchanged_seconds:.1f}",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _sets(text: str) -> list[int]:
    found = sorted({int(word) for word in text.split(",")})
    if found[0] != 1 or found[-1] > len(_NAMES):
        raise argparse.ArgumentTypeError(f"numbers from 1, which is among them, to {len(_NAMES)}: {text}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/lock_all.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flows", type=int, default=100, metavar="N", help="flows to generate (default: %(default)s)")
    parser.add_argument(
        "--sets", type=_sets, default="1,5,20", metavar="K,…", help="distinct requirement sets (default: %(default)s)"
    )
    parser.add_argument("--repeat", type=int, default=2, metavar="N", help="runs of each (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
