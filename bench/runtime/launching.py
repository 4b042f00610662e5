"""Measures what the environment ``bazel`` costs the process that launches a flow.

* ``init_environment`` of a flow of 50 steps on Batch, each with packages and an image of its own, without asking the
  registry: processor time.
* A foreach of 500 tasks on Batch (a simulated AWS, no containers) under ``--environment=bazel``, and the same flow with
  an explicit image under Metaflow's own environment: processor time and memory of the launching process, and how they
  grow with the number of tasks. Memory is counted in Python's allocated blocks too, which vary less than what the
  system counts.

Tasks run in forks of a process that has Metaflow loaded (:mod:`bench.runtime.fork_server`). Prints tables and exits
with 1 unless the figures are reached.

    ./bazelw run //bench/runtime:launching
    ./bazelw run //bench/runtime:launching -- --tasks 100
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.gates import Gate, verdicts
from bench.runtime import generated
from bench.runtime.fork_server import write_client
from tests.extension.aws import s3, simulated_aws

HERE = Path(__file__).absolute().parent
_INIT_LIMIT = 200
"""Milliseconds of processor time."""
_GROWTH_LIMIT = 110
"""Processor time of a task more under ``bazel``, in percent of that under Metaflow's own environment; less is noise."""
_BLOCKS_LIMIT = 2
"""Blocks of memory of a task more, beyond Metaflow's own. A text for each task is one; some tens in all are noise,
which few tasks do not even out."""
_OWN_LIMIT = 0.1
"""Milliseconds of processor time of ours for one task."""
_FEWER = 5
"""The smaller foreach has so many times fewer tasks."""
_MIB = 1024


@dataclass(frozen=True)
class Launched:
    """What a run cost the launching process."""

    tasks: int
    seconds: float
    """Processor time."""
    peak_kib: int
    own_seconds: float
    """Processor time of what the extension does for each task."""
    blocks: int
    """Blocks of memory that Python has allocated at the end."""


@dataclass(frozen=True)
class Growth:
    """What one more task of a foreach costs the launching process."""

    milliseconds: float
    kib: float
    blocks: float

    @classmethod
    def between(cls, few: Launched, many: Launched) -> Growth:
        """Return the growth from ``few`` tasks to ``many``."""
        more = many.tasks - few.tasks
        return cls(
            (many.seconds - few.seconds) * 1000 / more,
            (many.peak_kib - few.peak_kib) / more,
            (many.blocks - few.blocks) / more,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a figure is missed, else 0."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory(prefix="bench-launching-") as name, simulated_aws() as endpoint:
        scratch, aws = Path(name), {**s3(endpoint), "METAFLOW_USER": "bench"}
        init = _init(scratch, aws, options.steps, options.runs)
        console.print(f"init_environment of {options.steps} steps: {', '.join(f'{ms:.0f}' for ms in init)} ms")
        own, default = (_foreach(scratch, aws, kind, options.tasks, console) for kind in ("bazel", "local"))
    gates = [
        Gate(f"init_environment of {options.steps} steps", statistics.median(init), _INIT_LIMIT, "ms", at_most=True),
        *_growth_gates(own, default, console),
    ]
    console.print(verdicts(gates))
    return 0 if all(gate.reached for gate in gates) else 1


def _growth_gates(own: Sequence[Launched], default: Sequence[Launched], console: Console) -> list[Gate]:
    table = Table("environment", "tasks", "processor time", "peak memory", "blocks", title="launching process")
    growths = []
    for kind, launched in (("bazel", own), ("local", default)):
        for run in launched:
            memory = f"{run.peak_kib / _MIB:.1f} MiB"
            table.add_row(kind, str(run.tasks), f"{run.seconds:.2f} s", memory, f"{run.blocks:,}")
        growths.append(growth := Growth.between(*launched))
        time_more, memory_more = f"{growth.milliseconds:.2f} ms", f"{growth.kib:.2f} KiB"
        table.add_row(kind, "one more", time_more, memory_more, f"{growth.blocks:.1f}", end_section=True)
    console.print(table)
    ours, metaflows = growths
    ratios = f"{ours.kib / metaflows.kib:.2f}, blocks {ours.blocks / metaflows.blocks:.2f}"
    console.print(f"a task more, bazel / local: peak memory {ratios}")
    time_ratio = 100 * ours.milliseconds / metaflows.milliseconds
    return [
        Gate("processor time of a task more, bazel / local", time_ratio, _GROWTH_LIMIT, "%", at_most=True),
        Gate("blocks of a task more, bazel - local", ours.blocks - metaflows.blocks, _BLOCKS_LIMIT, "", at_most=True),
        Gate("time of ours for a task", own[-1].own_seconds * 1000 / own[-1].tasks, _OWN_LIMIT, "ms", at_most=True),
    ]


def _init(scratch: Path, aws: dict[str, str], steps: int, runs: int) -> list[float]:
    """Return the processor time of ``init_environment`` in several runs, in milliseconds."""
    flow = generated.write_chain(scratch / "chain", steps)
    result = scratch / "init.json"
    found = []
    for _ in range(runs):
        _run(["init", str(result), "--", str(flow), "--no-pylint", "run"], flow, aws | generated.variables(flow.parent))
        found.append(json.loads(result.read_text())["seconds"] * 1000)
    return found


def _foreach(scratch: Path, aws: dict[str, str], kind: str, tasks: int, console: Console) -> tuple[Launched, Launched]:
    """Return what a foreach of fewer and of all tasks costs under the environment ``kind``."""
    flow = generated.write_foreach(scratch / kind, None if kind == "bazel" else "python:3.14")
    variables = aws | (generated.variables(flow.parent) if kind == "bazel" else {})
    with _fork_server(scratch / f"{kind}.socket", flow.parent, variables):
        client, result = scratch / f"{kind}-python", scratch / f"{kind}.json"
        write_client(client, os.path.realpath(sys.executable), scratch / f"{kind}.socket")
        launched = []
        for count in (max(1, tasks // _FEWER), tasks):
            began = time.monotonic()
            limits = ["--max-num-splits", str(count), "--max-workers", "4"]
            command = ["all", str(result), str(client), "--", str(flow), "--no-pylint", "run", *limits]
            _run(command, flow, {**variables, "TASKS": str(count)})
            launched.append(Launched(count, **json.loads(result.read_text())))
            console.print(f"{kind}: {count} tasks in {time.monotonic() - began:.0f} s")
    return launched[0], launched[1]


def _run(command: Sequence[str], flow: Path, variables: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "measured.py", *command],
        cwd=flow.parent,
        env=_environ(variables),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


@contextmanager
def _fork_server(address: Path, directory: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Run the process whose forks are tasks, in ``directory``: Metaflow keeps files of tasks where it was loaded."""
    command = [sys.executable, str(HERE / "fork_server.py"), str(address)]
    server = subprocess.Popen(command, cwd=directory, env=_environ(variables))
    try:
        while not address.exists():
            if server.poll() is not None:
                raise SystemExit(f"error: the server of forks ended with {server.returncode}")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait()


def _environ(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process with Metaflow and the extension in it."""
    extension = HERE.parents[1] / "mfbazel" / "extension"
    kept = {name: os.environ[name] for name in ("HOME", "LD_LIBRARY_PATH", "PATH", "TMPDIR") if name in os.environ}
    paths = [str(extension), str(HERE.parents[1]), *filter(None, sys.path)]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **variables}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/runtime/launching.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of the first flow (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=500, metavar="N", help="of the foreach (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of the first figure (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
