"""Measures locking a five-step flow against pip-compile, side by side in one run.

mfbazel's side is the whole command: it reads the flow, resolves the launcher's environment and those of the five steps
with uv, finds the exact wheels, plans layers and writes the lock, with no lock there before. The other side is five
runs of pip-compile for the same five requirement sets (what a step declares and what Metaflow needs in its image), with
hashes, which a lock has; for comparison also without. Both sides see one mirror on loopback of the index that pip's
`index-url` names, and no other index of the user's configuration. Both run once unmeasured, so that the mirror has all
answers and the caches of uv and pip are warm; what goes to the network after that is counted, and should be nothing.
Where an index lacks PyPI's JSON API, pip-compile downloads files to hash them: the row without hashes tells what
resolving alone takes it.

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

from bench.mirror import Mirror, mirrored

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
_TIMEOUT_SECONDS = 600
"""For an answer of the mirror, which has a whole file from the index before it answers."""
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
        (directory / "mirror").mkdir()
        try:
            with mirrored(directory / "mirror") as mirror:
                results, asked = _measure(directory, mirror, options, console)
        except subprocess.CalledProcessError as error:
            print(f"error: {' '.join(map(str, error.cmd))} failed:\n{error.stderr}", file=sys.stderr)
            return 1
        packages, same = _compared(directory)
    console.print(_table(results, packages, asked))
    if mirror.others:
        console.print(f"of the user's configuration the first index alone; {mirror.others} other places left out")
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


@dataclass(frozen=True)
class _Sides:
    """Both sides, in one directory and with the same variables."""

    directory: Path
    environment: Mapping[str, str]

    def lock(self, *options: str) -> None:
        directory = self.directory
        command = [sys.executable, "-m", "mfbazel.lock", "flow", "--flow", str(directory / "flow.py"), "--infer", "off"]
        command += ["--lock-dir", str(directory / "flow.lock"), "--label", "//bench:flow", "--python", _python()]
        self._run([*command, "--platform", _MACHINES[platform.machine()], *options])

    def lock_anew(self) -> None:
        shutil.rmtree(self.directory / "flow.lock", ignore_errors=True)
        self.lock()

    def write_sets(self) -> None:
        """Write the requirements of each step's environment, those of Metaflow included, as the lock has them."""
        locked: dict[str, Any] = json.loads((self.directory / "flow.lock" / "flow.json").read_bytes())["environments"]
        for name in STEPS:
            texts = [*locked[name]["requirements"], *locked[name]["runtime"]]
            (self.directory / f"{name}.in").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")

    def pip_compile(self, *more: str) -> None:
        options = ["--quiet", "--no-header", "--strip-extras", "--allow-unsafe", "--no-emit-index-url", *more]
        for name in STEPS:
            (self.directory / f"{name}.txt").unlink(missing_ok=True)
            command = [sys.executable, "-m", "piptools", "compile", *options, "--pip-args", "--only-binary :all:"]
            self._run([*command, "--output-file", f"{name}.txt", f"{name}.in"])

    def _run(self, command: Sequence[str]) -> None:
        subprocess.run(command, cwd=self.directory, env=self.environment, check=True, capture_output=True, text=True)


def _environment(directory: Path, mirror: Mirror) -> dict[str, str]:
    """Return the variables of both sides: the mirror is their index, and their proxy, which counts what goes elsewhere;
    their caches are new."""
    ours = {"BUILD_WORKSPACE_DIRECTORY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    kept = {name: value for name, value in os.environ.items() if not {name, name.lower()} & ours}
    return {
        **{name: value for name, value in kept.items() if not name.startswith(("PIP_", "UV_"))},
        **dict.fromkeys(("http_proxy", "https_proxy"), mirror.address),
        "no_proxy": "127.0.0.1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": mirror.address + mirror.index,
        "PIP_TRUSTED_HOST": "127.0.0.1",  # from any other, pip keeps nothing without TLS
        "PIP_DEFAULT_TIMEOUT": str(_TIMEOUT_SECONDS),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        **{f"{tool}_CACHE_DIR": str(directory / f"{tool}.cache") for tool in ("PIP", "PIP_TOOLS", "UV")},
        "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path),
    }


def _measure(
    directory: Path, mirror: Mirror, options: argparse.Namespace, console: Console
) -> tuple[dict[str, Result], int]:
    """Return what was measured, and how many requests went to the network meanwhile."""
    sides = _Sides(directory, _environment(directory, mirror))
    with console.status("locking once, to fill the caches"):
        sides.lock_anew()
    sides.write_sets()
    with console.status("pip-compile once, to fill the caches"):
        sides.pip_compile("--generate-hashes")
    results = {name: Result() for name in (_PIP_BARE, _PIP, _UV, _CHECK)}
    asked = mirror.asked
    for number in range(max(options.runs, options.pip_runs)):
        if number < options.pip_runs:
            with console.status("pip-compile"):
                _timed(results[_PIP_BARE], sides.pip_compile)
                _timed(results[_PIP], lambda: sides.pip_compile("--generate-hashes"))
        if number < options.runs:
            with console.status("locking"):
                _timed(results[_UV], sides.lock_anew)
                _timed(results[_CHECK], lambda: sides.lock("--check"))
    return results, mirror.asked - asked


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


def _table(results: Mapping[str, Result], packages: int, asked: int) -> Table:
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {_python()}"
    network = f"{asked} requests to the network in the measured rounds (expected: 0)"
    table = Table(title=f"Lock of {len(STEPS)} steps, {packages} pins, {machine}", caption=network)
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
