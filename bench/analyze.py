"""Measures how fast flows are read statically, against Python's own parser and Metaflow, side by side in one run.

Generates 1,000 flows of ten steps with their first-party modules and reads all of them in one process, one after
another, nothing kept from one to the next. The variants take turns; each round is a new process.

* static: `read_flow` to the flow spec, with packages and imports
* parse: `ast.parse` of the same flows, without their modules: the least that reading from the source can cost
* Metaflow: executing a few of the flows' files and building their graphs, with third-party modules stubbed

Figures: flows per second of processor time (so per core), the ratio of each variant to `static`, and the largest
resident memory of the process (10^6 bytes), its interpreter included. Exits with 1 when the static reader is below 200
flows per second and core, or takes 200 MB or more.

    ./bazelw run //bench:analyze
    python bench/analyze.py --profile  # where the time goes
"""

from __future__ import annotations

import argparse
import ast
import cProfile
import importlib.abc
import importlib.machinery
import json
import os
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.analyze_flows import write_flows
from mfbazel.analyze import ReadOptions, read_flow

FLOWS_PER_SECOND = 200.0
"""The least, per core."""
MEGABYTES = 200.0
"""More than the static reader may take, in 10^6 bytes."""

_STATIC = "static"
_METAFLOW = "Metaflow"
_FEW = 20
"""Flows that Metaflow loads; it is too slow for all of them."""


@dataclass
class Result:
    """One variant: flows per second of processor time, per second of wall time and peak memory (MB), per round."""

    flows: int
    rate: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median of the flows per second and core."""
        return statistics.median(self.rate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when the static reader misses a gate, else 0."""
    options = _parser().parse_args(arguments)
    if options.measure:
        print(json.dumps(_measure(options.measure, [Path(line) for line in sys.stdin.read().splitlines()])))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-analyze-") as name:
        files = write_flows(Path(name), options.flows)
        if options.profile:
            return _profile(files)
        results = _run(files, options.runs)
    Console(width=None if sys.stdout.isatty() else 120).print(_table(results, files))
    return _judge(results[_STATIC])


def _run(files: Sequence[Path], rounds: int) -> dict[str, Result]:
    results = {name: Result(len(_of_variant(name, files))) for name in _VARIANTS}
    for _ in range(rounds):
        for name, result in results.items():
            measured = _child(name, _of_variant(name, files))
            if measured:
                result.rate.append(result.flows / measured["cpu"])
                result.wall.append(result.flows / measured["wall"])
                result.memory.append(measured["memory"] / 1e6)
    return {name: result for name, result in results.items() if result.rate}


def _of_variant(name: str, files: Sequence[Path]) -> Sequence[Path]:
    return files[:: max(1, len(files) // _FEW)] if name == _METAFLOW else files


def _child(variant: str, files: Sequence[Path]) -> dict[str, float] | None:
    """Measure ``variant`` in a new process; return ``None`` when what it needs is not installed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)}
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", variant]
    text = "\n".join(map(str, files))
    output = subprocess.run(command, input=text, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured: dict[str, float] | None = json.loads(output.splitlines()[-1])
    return measured


def _measure(variant: str, files: Sequence[Path]) -> dict[str, float] | None:
    """Run ``variant`` on every file; return seconds of processor and wall time, and the peak memory in bytes."""
    try:
        work = _VARIANTS[variant]()
    except ImportError:
        return None
    wall, cpu = time.perf_counter(), time.process_time()
    for file in files:
        work(file)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0}


def _static() -> Callable[[Path], object]:
    options = ReadOptions(reading="static", python="3.14")
    return lambda file: read_flow(file, [file.parent.parent], options)


def _parse() -> Callable[[Path], object]:
    return lambda file: ast.parse(file.read_bytes())


def _metaflow() -> Callable[[Path], object]:
    from metaflow import FlowSpec
    from metaflow.graph import FlowGraph

    sys.meta_path.append(_Stubs())

    def load(file: Path) -> object:
        sys.path[:0] = [str(file.parent), str(file.parent.parent)]
        for name in ("helpers", "shared", "shared.base", "shared.versions"):
            sys.modules.pop(name, None)
        module = types.ModuleType(file.stem)
        module.__file__ = str(file)
        sys.modules[file.stem] = module
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
        flow = next(
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, FlowSpec) and value.__module__ == file.stem
        )
        del sys.path[:2]
        return FlowGraph(flow)

    return load


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for what is not installed."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: types.ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec:
        return importlib.machinery.ModuleSpec(fullname, self)

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave ``module`` empty."""


_VARIANTS: dict[str, Callable[[], Callable[[Path], object]]] = {_STATIC: _static, "parse": _parse, _METAFLOW: _metaflow}


def _table(results: dict[str, Result], files: Sequence[Path]) -> Table:
    lines = sum(file.read_text().count("\n") for file in files[:50]) / min(50, len(files)) if files[0].exists() else 0
    table = Table(
        title=f"Reading {len(files):,} flows of 10 steps{f' and {lines:.0f} lines' if lines else ''}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"
    )
    table.add_column("")
    for heading in ("flows", "flows/s/core", "min-max", "flows/s", "to static", "peak MB"):
        table.add_column(heading, justify="right")
    for name, result in results.items():
        table.add_row(
            name,
            f"{result.flows:,}",
            f"{result.median:.0f}",
            f"{min(result.rate):.0f}-{max(result.rate):.0f}",
            f"{statistics.median(result.wall):.0f}",
            f"{result.median / results[_STATIC].median:.2f}",
            f"{max(result.memory):.0f}",
        )
    return table


def _judge(static: Result) -> int:
    failed = 0
    if static.median < FLOWS_PER_SECOND:
        print(f"static: {static.median:.0f} flows per second and core; {FLOWS_PER_SECOND:.0f} are required")
        failed = 1
    if max(static.memory) >= MEGABYTES:
        print(f"static: {max(static.memory):.0f} MB at the peak; less than {MEGABYTES:.0f} is required")
        failed = 1
    return failed


def _profile(files: Sequence[Path]) -> int:
    work = _static()
    with cProfile.Profile() as profile:
        for file in files:
            work(file)
    pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/analyze.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flows", type=int, default=1_000, metavar="N", help="flows to generate (default: 1000)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--profile", action="store_true", help="profile one pass of the static reader instead")
    parser.add_argument("--measure", choices=list(_VARIANTS), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
