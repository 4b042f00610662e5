"""Measures what images cost besides their layers: analysis, planning and assembling, in seconds of processor time.

Copies the workspace, adds 40 flows of five steps whose images share about 60 wheels, locks them and builds all images
once with the native assembler. Then an annotation of all images changes, so that every image is analysed,
described and assembled again while every layer is there, by a Bazel server that runs; and, the same, by one that has to
start. Planning is the planner's own time for all locks.

Counts the processor time of the server and of everything that it started, per image, and the actions executed by
mnemonic. Exits with 1 when an image costs more than the gate, a layer was made, or a build with nothing changed
executed an action.

    ./bazelw run //bench:many_images
    ./bazelw run //bench:many_images -- --flows 10 --repeat 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.workspace import Workspace, executed_actions
from mfbazel.plan import PlannedWheel, plan_layers

GATE = 0.1
"""Seconds of processor time per image."""

_PACKAGE = "bench_images"
_ALWAYS = "BazelWorkspaceStatusAction"  # which every build executes
_STEPS = ("start", "prepare", "train", "report", "end")
_SETS = 20
_NAMES = (
    "aiohttp",
    "alembic",
    "arrow",
    "beautifulsoup4",
    "cachetools",
    "cattrs",
    "cloudpickle",
    "dask",
    "fastapi",
    "httpx",
    "humanize",
    "jsonschema",
    "networkx",
    "openpyxl",
    "orjson",
    "pendulum",
    "pydantic",
    "rich",
    "tabulate",
    "tenacity",
)
_BUILD = """\
load("//rules:defs.bzl", "metaflow_flow")
load("//{package}:changing.bzl", "CHANGING")

metaflow_flow(
    name = "{name}",
    src = "{name}.py",
    base = "@python_base",
    annotations = CHANGING,
    read = "static",
)
"""


@dataclass(frozen=True)
class Measured:
    """A build of all images: processor seconds of the server and of what it started, wall seconds, and the actions that
    it executed by mnemonic."""

    name: str
    server: float
    actions_cpu: float
    seconds: float
    executed: Mapping[str, int]

    @property
    def cpu(self) -> float:
        """All processor seconds."""
        return self.server + self.actions_cpu


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a gate is not met, else 0."""
    options = _parser().parse_args(arguments)
    source = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    with tempfile.TemporaryDirectory(prefix="bench-many-images-") as name:
        workspace = Workspace(source, Path(name))
        try:
            bench = _Bench(workspace, options.flows)
            results = bench.measure(options.repeat)
        finally:
            workspace.close()
    images, planning = options.flows * len(_STEPS), bench.planning()
    _print(results, images, len(bench.wheels()), planning)
    failures = list(_failures(results, images, planning))
    for failure in failures:
        print(f"gate: {failure}", file=sys.stderr)
    return 1 if failures else 0


class _Bench:
    """The generated flows, and builds of their images."""

    def __init__(self, workspace: Workspace, flows: int) -> None:
        self._workspace = workspace
        self._names = [f"flow_{number}" for number in range(flows)]
        self._root = workspace.directory / _PACKAGE
        self._locks: list[dict[str, object]] = []
        for number, name in enumerate(self._names):
            directory = self._root / name
            directory.mkdir(parents=True)
            (directory / f"{name}.py").write_text(_flow(number), encoding="utf-8")
            (directory / "BUILD.bazel").write_text(_BUILD.format(package=_PACKAGE, name=name), encoding="utf-8")
        (self._root / "BUILD.bazel").write_text("", encoding="utf-8")
        self._change(0)

    def measure(self, repeat: int) -> list[Measured]:
        self._workspace.bazel("run", "//:lock_all", "--", f"//{_PACKAGE}/...")
        locks = sorted(self._root.glob("*/*.lock/flow.json"))
        self._locks = [json.loads(lock.read_text(encoding="utf-8")) for lock in locks]
        results = [self._build("everything"), self._build("nothing changed")]
        changed = []
        for number in range(1, repeat + 1):
            self._change(number)
            changed.append(self._build("every image, the server runs"))
        results.append(statistics_of(changed))
        started = []
        for number in range(repeat + 1, 2 * repeat + 1):
            self._change(number)
            self._workspace.bazel("shutdown")
            started.append(self._build("every image, the server starts"))
        return [*results, statistics_of(started)]

    def wheels(self) -> set[str]:
        """The wheels that images have."""
        return {
            sha
            for lock in self._locks
            for name, environment in lock["environments"].items()  # type: ignore[attr-defined]
            if not name.startswith("_")
            for wheels in environment["wheels"].values()
            for sha in wheels
        }

    def planning(self) -> float:
        """Return the processor seconds of planning the layers of all locks."""
        before = time.process_time()
        for lock in self._locks:
            wheels = {
                sha: PlannedWheel(wheel["name"], wheel["version"], wheel["size"])
                for sha, wheel in lock["wheels"].items()  # type: ignore[attr-defined]
            }
            for platform in lock["layers"]:  # type: ignore[attr-defined]
                environments = {
                    name: environment["wheels"].get(platform, [])
                    for name, environment in lock["environments"].items()  # type: ignore[attr-defined]
                }
                plan_layers(environments, wheels)
        return time.process_time() - before

    def _change(self, number: int) -> None:
        text = f'"""What all images are told."""\n\nCHANGING = {{"com.example.run": "{number}"}}\n'
        (self._root / "changing.bzl").write_text(text, encoding="utf-8")

    def _build(self, name: str) -> Measured:
        targets = [f"//{_PACKAGE}/{flow}:{flow}.images" for flow in self._names]
        options = ["--//rules:assembler=native", "--disk_cache=", f"--build_event_json_file={self._workspace.events}"]
        before, started = self._cpu(), time.monotonic()
        self._workspace.bazel("build", *options, *targets)
        seconds, after = time.monotonic() - started, self._cpu()
        if after[0] < before[0]:  # another server
            before = (0.0, 0.0)
        executed = executed_actions(self._workspace.events)
        executed.pop(_ALWAYS, None)
        return Measured(name, after[0] - before[0], after[1] - before[1], seconds, executed)

    def _cpu(self) -> tuple[float, float]:
        """Return the processor seconds of the Bazel server, and of all processes that it started."""
        file = self._workspace.output_base / "server" / "server.pid.txt"
        if not file.exists() or not Path(f"/proc/{file.read_text()}/stat").exists():
            return 0.0, 0.0
        server = int(file.read_text())
        own, ended = _times(server)
        return own, ended + sum(sum(_times(pid)) for pid in _descendants(server))


def statistics_of(runs: Sequence[Measured]) -> Measured:
    """Return the run with the median of processor time."""
    middle = statistics.median_low(run.cpu for run in runs)
    return next(run for run in runs if run.cpu == middle)


def _times(pid: int) -> tuple[float, float]:
    """Return a process's own processor seconds, and those of its children that have ended (proc(5), ``stat``)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0.0
    ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:15]]
    return ticks[0] + ticks[1], ticks[2] + ticks[3]


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from _descendants(child)


def _flow(number: int) -> str:
    """Return the source of a flow whose steps have five different requirement sets of the twenty that there are."""
    lines = ["from metaflow import FlowSpec, pypi, step", "", "", f"class Flow{number}(FlowSpec):"]
    for place, (step, after) in enumerate(zip(_STEPS, [*_STEPS[1:], None], strict=True)):
        chosen = (number * len(_STEPS) + place) % _SETS
        packages = dict.fromkeys(sorted({_NAMES[chosen], _NAMES[(chosen + 7) % _SETS]}), ">=0")
        lines += [
            f"    @pypi(packages={packages!r})",
            "    @step",
            f"    def {step}(self):",
            f"        self.next(self.{after})" if after else "        pass",
        ]
    return "\n".join([*lines, "", "", 'if __name__ == "__main__":', f"    Flow{number}()", ""])


def _failures(results: Sequence[Measured], images: int, planning: float) -> Iterator[str]:
    _, unchanged, *changed = results
    if sum(unchanged.executed.values()):
        yield f"a build with nothing changed executed {dict(unchanged.executed)}"
    for result in changed:
        if result.executed.get("WheelLayer"):
            yield f"{result.name}: {result.executed['WheelLayer']} layers were made again"
    cpu = changed[0].cpu + planning
    if cpu > GATE * images:
        yield f"an image costs {cpu / images * 1000:.0f} ms of processor time; {GATE * 1000:.0f} ms are allowed"


def _print(results: Sequence[Measured], images: int, wheels: int, planning: float) -> None:
    title = (
        f"{images} images of {wheels} wheels, {os.cpu_count()} cores; planning {planning / images * 1000:.2f} ms each"
    )
    titles = ("build", "CPU ms per image", "of the server", "of actions", "seconds", "executed")
    table = Table(*titles, title=title)
    for result in results:
        per_image = [f"{value / images * 1000:.0f}" for value in (result.cpu, result.server, result.actions_cpu)]
        executed = ", ".join(f"{count} {name}" for name, count in sorted(result.executed.items()) if count)
        table.add_row(result.name, *per_image, f"{result.seconds:.1f}", executed or "nothing")
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/many_images.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flows", type=int, default=40, metavar="N", help="flows to generate (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
