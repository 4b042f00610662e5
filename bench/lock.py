"""Measures locking a five-step flow against pip-compile, side by side in one run.

mfbazel's side is the whole command: it reads the flow, resolves the launcher's environment and those of the five steps
with uv, finds the exact wheels, plans layers and writes the lock, with no lock there before. The other side is five
runs of pip-compile for the same five requirement sets (what a step declares and what Metaflow needs in its image), with
hashes, which a lock has; for comparison also without. Both sides run once unmeasured, so that the caches of mfbazel, uv
and pip are warm, and then see the same index. Where an index lacks PyPI's JSON API, or names no hashes, pip-compile
downloads files to hash them: the row without hashes tells what resolving alone takes it.

Then `--check` on the finished lock, where nothing has changed: seconds of processor time, children included.

Exits with 1 when locking is not 30 times as fast, or `--check` takes a second of processor time or more.

    bazel run //bench:lock
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RATIO = 30.0
"""How many times as fast as pip-compile locking must be."""

CHECK_SECONDS = 1.0
"""The processor time that `--check` must stay below, in seconds."""

STEPS = {
    "start": ["pandas>=2.2", "pyarrow>=15", "sqlalchemy>=2"],
    "features": ["numpy>=2", "pandas>=2.2", "scikit-learn>=1.4"],
    "train": ["lightgbm>=4", "numpy>=2", "scikit-learn>=1.4", "mlflow-skinny>=2.10"],
    "report": ["matplotlib>=3.8", "pandas>=2.2", "jinja2>=3"],
    "end": ["fastapi>=0.110", "httpx>=0.27"],
}
"""What each step of the flow declares."""

_FLOW = '''"""A flow of five steps, as a team may have one."""

from metaflow import FlowSpec, pypi, step


class BenchFlow(FlowSpec):
{steps}'''
_STEP = """    @pypi(packages={packages})
    @step
    def {name}(self):
        {body}

"""
_MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
_PIP_BARE, _PIP = f"pip-compile, {len(STEPS)} runs, without hashes", f"pip-compile, {len(STEPS)} runs"
_UV, _CHECK = "mfbazel with uv", "mfbazel --check, unchanged"
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


@dataclass
class Result:
    """One side: wall and processor seconds of each round."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds of wall time."""
        return statistics.median(self.seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a gate is missed or a side fails, else 0."""
    options = _parser().parse_args(arguments)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="bench-lock-") as name:
        directory = Path(name)
        (directory / "flow.py").write_text(flow_text(), encoding="utf-8")
        try:
            results = _measure(directory, options, console)
        except subprocess.CalledProcessError as error:
            print(f"error: {' '.join(map(str, error.cmd))} failed:\n{error.stderr}", file=sys.stderr)
            return 1
        packages, same = _compared(directory)
    console.print(_table(results, packages))
    console.print(f"equal pins in {same} of {len(STEPS)} steps (//bench:lock_agreement explains differences)")
    return _judge(results, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/lock.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=int, default=3, metavar="N", help="rounds of locking and of --check (default: 3)"
    )
    parser.add_argument("--pip-runs", type=int, default=1, metavar="N", help="rounds of pip-compile (default: 1)")
    parser.add_argument("--gate", type=float, default=RATIO, metavar="RATIO", help=f"least ratio (default: {RATIO:g})")
    return parser


def flow_text() -> str:
    """Return the source of the flow."""
    names = list(STEPS)
    steps = []
    for name, after in zip(names, [*names[1:], None], strict=True):
        packages = {re.split(r"[<>=]", text)[0]: text[len(re.split(r"[<>=]", text)[0]) :] for text in STEPS[name]}
        steps.append(_STEP.format(packages=packages, name=name, body=f"self.next(self.{after})" if after else "pass"))
    return _FLOW.format(steps="".join(steps))


def _measure(directory: Path, options: argparse.Namespace, console: Console) -> dict[str, Result]:
    lock = directory / "flow.lock"

    def lock_anew() -> None:
        shutil.rmtree(lock, ignore_errors=True)
        _lock(directory)

    with console.status("locking once, to fill the caches"):
        lock_anew()
    sets = _sets(lock)
    for name, texts in sets.items():
        (directory / f"{name}.in").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    with console.status("pip-compile once, to fill the caches"):
        _pip_compile(directory, "--generate-hashes")
    results = {name: Result() for name in (_PIP_BARE, _PIP, _UV, _CHECK)}
    for number in range(max(options.runs, options.pip_runs)):
        if number < options.pip_runs:
            with console.status("pip-compile"):
                _timed(results[_PIP_BARE], lambda: _pip_compile(directory))
                _timed(results[_PIP], lambda: _pip_compile(directory, "--generate-hashes"))
        if number < options.runs:
            with console.status("locking"):
                _timed(results[_UV], lock_anew)
                _timed(results[_CHECK], lambda: _lock(directory, "--check"))
    return results


def _lock(directory: Path, *options: str) -> None:
    command = [sys.executable, "-m", "mfbazel.lock", "flow", "--flow", str(directory / "flow.py"), "--infer", "off"]
    command += ["--lock-dir", str(directory / "flow.lock"), "--label", "//bench:flow", "--python", _python()]
    _run([*command, "--platform", _MACHINES[platform.machine()], *options], directory)


def _sets(lock: Path) -> dict[str, list[str]]:
    """Return the requirements of each step's environment, those of Metaflow included."""
    environments: dict[str, Any] = json.loads((lock / "flow.json").read_bytes())["environments"]
    return {name: [*environments[name]["requirements"], *environments[name]["runtime"]] for name in STEPS}


def _pip_compile(directory: Path, *more: str) -> None:
    options = ["--quiet", "--no-header", "--strip-extras", "--allow-unsafe", "--no-emit-index-url", *more]
    for name in STEPS:
        (directory / f"{name}.txt").unlink(missing_ok=True)
        command = [sys.executable, "-m", "piptools", "compile", *options, "--pip-args", "--only-binary :all:"]
        _run([*command, "--output-file", f"{name}.txt", f"{name}.in"], directory)


def _run(command: Sequence[str], directory: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)}
    environment.pop("BUILD_WORKSPACE_DIRECTORY", None)
    subprocess.run(command, cwd=directory, env=environment, check=True, capture_output=True, text=True)


def _timed(result: Result, work: Callable[[], None]) -> None:
    begin, cpu = time.perf_counter(), _children_cpu()
    work()
    result.seconds.append(time.perf_counter() - begin)
    result.cpu.append(_children_cpu() - cpu)


def _children_cpu() -> float:
    """Return the processor seconds of all ended child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _compared(directory: Path) -> tuple[int, int]:
    """Return how many packages the steps have together, and in how many steps both sides have equal pins."""
    ours = {name: _pins(directory / "flow.lock" / f"{name}.txt") for name in STEPS}
    theirs = {name: _pins(directory / f"{name}.txt") for name in STEPS}
    return sum(map(len, ours.values())), sum(ours[name] == theirs[name] for name in STEPS)


def _pins(path: Path) -> dict[str, str]:
    return dict(_PIN.findall(path.read_text(encoding="utf-8")))


def _table(results: Mapping[str, Result], packages: int) -> Table:
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {_python()}"
    table = Table(title=f"Lock of {len(STEPS)} steps, {packages} pins, {machine}")
    for heading in ("", "s", "min-max", "CPU s", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for name, result in results.items():
        spread = f"{min(result.seconds):.2f}-{max(result.seconds):.2f}"
        ratio = results[_PIP].median / result.median
        table.add_row(name, f"{result.median:.2f}", spread, f"{statistics.median(result.cpu):.2f}", f"{ratio:.1f}")
    return table


def _judge(results: Mapping[str, Result], options: argparse.Namespace) -> int:
    missed = []
    ratio, cpu = results[_PIP].median / results[_UV].median, statistics.median(results[_CHECK].cpu)
    if ratio < options.gate:
        missed.append(f"locking is {ratio:.1f} times as fast; {options.gate:g} times is required")
    if cpu >= CHECK_SECONDS:
        missed.append(f"--check takes {cpu:.2f} s of processor time; less than {CHECK_SECONDS:g} s is required")
    for line in missed:
        print(line)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
