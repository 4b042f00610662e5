"""Measures cold starts: from the start of a container to the first line of the step's code.

Every container is started from the command with which Metaflow registered the job at Batch (moto, on loopback), by the
same podman, one kind after the other in every round:

* mfbazel: the step's image, ``--environment=bazel``;
* Metaflow alone: the same image, without mfbazel; its packages are there, and nothing has to be installed;
* installed at start: a default image with pip, in which Metaflow installs what it needs itself, and pip the step's
  packages without resolving, both from a warm index on loopback. That is what @pypi does when a task starts, but for
  its download of micromamba and of a Python from conda channels: a lower bound of it.

Prints medians and ratios; exits with 1 when one misses what is asked.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pip
from rich.console import Console
from rich.table import Table

from bench.gates import Gate, verdicts
from bench.mirror import Mirror, mirrored
from tests.e2e.cloud import QUEUE
from tests.e2e.flows import CommandLine
from tests.e2e.machine import Machine, started_machine

HERE = Path(__file__).absolute().parent
WORKSPACE = HERE.parents[1]
OURS, ALONE, INSTALLED = "mfbazel", "Metaflow alone, same image", "installed at start"

_ENTRY = 'echo "CONTAINER $(date +%s%N)"; exec "$@"'
_SITE = "/usr/local/lib/python3.14/dist-packages"
_LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Job:
    """What a container runs, and with which further options podman starts it."""

    image: str
    command: Sequence[str]
    variables: Mapping[str, str]
    options: Sequence[str] = ()


@dataclass
class Started:
    """Seconds from the container's start to the step's first line, per round."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Their median."""
        return statistics.median(self.seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a gate is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of every kind of start (default: 7)")
    parser.add_argument("--base", type=Path, required=True, metavar="DIR", help="OCI layout of the default image")
    options = parser.parse_args(arguments)
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="bench-cold-") as scratch,
        mirrored(Path(scratch)) as mirror,
        started_machine(
            WORKSPACE / "rules" / "private" / "crane", lambda text: console.print(text, style="dim")
        ) as machine,
    ):
        jobs = _jobs(machine, mirror, options.base)
        starts = {kind: Started() for kind in jobs}
        for number in range(options.rounds + 1):
            for kind, job in jobs.items():
                seconds = _start(machine, job)
                console.print(f"{'warm-up' if number == 0 else f'round {number}'}: {kind} {seconds:.2f} s", style="dim")
                if number:
                    starts[kind].seconds.append(seconds)
    return _report(console, starts)


def _jobs(machine: Machine, mirror: Mirror, layout: Path) -> dict[str, Job]:
    """Let Metaflow register the jobs, and return those of the step `start` by kind."""
    launcher = CommandLine.read(HERE / "run_cold_flow.json")
    push = CommandLine.read(HERE / "run_cold_flow.push.json")
    machine.run(push, "--repository", f"{machine.registry.host}/cold", name="push").require_success()
    finished = machine.run(launcher, "run", "--with", "batch", name="run in our image").require_success()
    ours = _registered(machine, finished.output)
    alone = _registered(machine, _run_alone(machine, ours.image, name="run without mfbazel"))
    base = machine.engine.pull(f"oci:{layout.absolute()}")
    # It has no pip, and fails; the container of the benchmark has one.
    default = _registered(machine, _run_alone(machine, base, name="run in a default image"))
    return {OURS: ours, ALONE: alone, INSTALLED: _installing(default, mirror)}


def _run_alone(machine: Machine, image: str, name: str) -> str:
    """Run the flow, without its packages, by Metaflow alone, in ``image``; return what Metaflow said."""
    flow = machine.directory / "work" / "cold_flow.py"
    text = (HERE / "cold_flow.py").read_text(encoding="utf-8")
    flow.write_text(re.sub(r"(?m)^ *@pypi.*\n", "", text), encoding="utf-8")
    path = [str(Path(entry).absolute()) for entry in sys.path if not entry.endswith("mfbazel/extension")]
    done = subprocess.run(
        [sys.executable, flow, "run", "--with", f"batch:image={image}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**machine.environ, "PYTHONPATH": os.pathsep.join(path)},
        cwd=flow.parent,
        timeout=_LIMIT_SECONDS,
    )
    machine.say(f"{name}: exit code {done.returncode}")
    return done.stdout


def _registered(machine: Machine, said: str) -> Job:
    """Return the job of the step `start` of the run that Metaflow told of."""
    number = re.search(r"\(run-id (\d+)\)", said)
    if number is None:
        raise SystemExit(f"cold_start: Metaflow started no run:\n{said}")
    batch = machine.cloud.client("batch")
    jobs = [
        job
        for status in ("SUCCEEDED", "FAILED")
        for job in batch.list_jobs(jobQueue=QUEUE, jobStatus=status)["jobSummaryList"]
        if f"-{number[1]}-start-" in job["jobName"]
    ]
    if not jobs:
        raise SystemExit(f"cold_start: Metaflow registered no job for the step start:\n{said}")
    job = batch.describe_jobs(jobs=[jobs[0]["jobId"]])["jobs"][0]
    definition = batch.describe_job_definitions(jobDefinitions=[job["jobDefinition"]])["jobDefinitions"][0]
    container = job["container"]
    variables = {entry["name"]: entry["value"] for entry in container["environment"]}
    return Job(definition["containerProperties"]["image"], container["command"], variables)


def _installing(job: Job, mirror: Mirror) -> Job:
    """Return ``job`` with pip in its container, and the step's packages installed before it."""
    pins = " ".join(_pins(HERE / "cold_flow.lock" / "start.txt"))
    install = f"python -m pip install -qqq --no-compile --no-cache-dir --no-deps --disable-pip-version-check {pins}"
    link = "test -e /usr/local/bin/python || ln -s python3.14 /usr/local/bin/python"
    (shell, option, script) = job.command
    return Job(
        job.image,
        [shell, option, f"{link}; {install} && {script}"],
        {
            **job.variables,
            "PIP_BREAK_SYSTEM_PACKAGES": "1",
            "PIP_INDEX_URL": mirror.address + mirror.index,
            "PIP_ROOT_USER_ACTION": "ignore",
        },
        [f"--volume={Path(pip.__file__).resolve().parent}:{_SITE}/pip:ro"],
    )


def _pins(requirements: Path) -> list[str]:
    """Return what a requirements file pins."""
    return re.findall(r"(?m)^([A-Za-z0-9._-]+==[^ \\]+)", requirements.read_text(encoding="utf-8"))


def _start(machine: Machine, job: Job) -> float:
    """Start a container and return the seconds until the step's first line."""
    variables = [f"--env={name}={value}" for name, value in job.variables.items()]
    done = machine.engine.run_with([*job.options, *variables], job.image, "bash", "-c", _ENTRY, "--", *job.command)
    times = {name: int(value) for name, value in re.findall(r"(CONTAINER|FIRST-LINE) (\d+)", done.stdout)}
    if len(times) < 2:
        raise SystemExit(f"cold_start: the step did not start in {job.image}:\n{done.stdout}\n{done.stderr}")
    return (times["FIRST-LINE"] - times["CONTAINER"]) / 1e9


def _report(console: Console, starts: Mapping[str, Started]) -> int:
    """Print the table and the gates."""
    ours = starts[OURS].median
    table = Table()
    for heading in ("from the container's start to the step's first line", "median, s", "least to most", "of ours"):
        table.add_column(heading, justify="left" if heading.startswith("from") else "right", no_wrap=True)
    for kind, started in starts.items():
        spread = f"{min(started.seconds):.2f} to {max(started.seconds):.2f}"
        table.add_row(kind, f"{started.median:.2f}", spread, f"{started.median / ours:.2f}")
    gates = [
        Gate(f"{INSTALLED}, of ours", starts[INSTALLED].median / ours, 10, "times"),
        Gate(f"ours, beyond {ALONE}", 100 * (ours / starts[ALONE].median - 1), 5, "%", at_most=True),
    ]
    console.print(table, verdicts(gates))
    return 0 if all(gate.reached for gate in gates) else 1


if __name__ == "__main__":
    sys.exit(main())
