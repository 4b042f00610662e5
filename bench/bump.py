"""Measures what one bumped package costs: actions executed by Bazel, and bytes sent by the push.

Copies the workspace, builds and pushes the images of the churn flow through a proxy that counts, then asks for another
version of one package of one step, locks, builds and pushes again. Prints a table; exits with 1 when the bump made more
than one layer of wheels.

    ./bazelw run //bench:bump
    ./bazelw run //bench:bump -- --package pandas --version 3.1.0
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.push_rig import Counts, Proxy, find_crane, serve_registry

_FLOW = "//examples/churn:churn_flow"
_SOURCE = Path("examples/churn/churn_flow.py")
_LAYERS = "WheelLayer"


@dataclass(frozen=True)
class Measured:
    """One build and push: actions executed by mnemonic, what the proxy counted, wall time in seconds."""

    name: str
    actions: Mapping[str, int]
    counts: Counts
    seconds: float


class Workspace:
    """A copy of the workspace with an output base of its own, and the commands that work on it."""

    def __init__(self, source: Path, scratch: Path) -> None:
        self.directory = scratch / "workspace"
        self.output_base = scratch / "output_base"
        self.events = scratch / "events.json"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BUILD_", "RUNFILES_"))},
            "MFBAZEL_STATE_DIR": str(scratch / "state"),
        }
        tracked = _output(["git", "ls-files", "--cached", "--others", "--exclude-standard"], source).splitlines()
        for name in tracked:
            target = self.directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (source / name).is_file():
                shutil.copy2(source / name, target)

    def bazel(self, *arguments: str) -> None:
        """Run Bazel; its output goes to standard error."""
        command = ["./bazelw", f"--output_base={self.output_base}", *arguments]
        subprocess.run(command, cwd=self.directory, env=self.environment, stdout=sys.stderr, check=True)

    def build(self) -> dict[str, int]:
        """Build the images of the flow; return the number of executed actions by mnemonic."""
        self.bazel("build", f"--build_event_json_file={self.events}", f"{_FLOW}.images")
        return executed_actions(self.events)

    def push(self, repository: str) -> None:
        """Push the images that were built."""
        self.bazel("run", f"{_FLOW}.push", "--", "--repository", repository)

    def bump(self, package: str, version: str) -> None:
        """Ask for another version of ``package``, and lock."""
        source = self.directory / _SOURCE
        text, changes = re.subn(rf'("{re.escape(package)}": )"[^"]*"', rf'\1"{version}"', source.read_text())
        if not changes:
            raise SystemExit(f"error: {_SOURCE} does not ask for {package}")
        source.write_text(text)
        self.bazel("run", f"{_FLOW}.lock")

    def close(self) -> None:
        """Stop the Bazel server and remove what it made."""
        self.bazel("clean", "--expunge")


def executed_actions(events: Path) -> dict[str, int]:
    """Return the number of executed actions by mnemonic, from a file of Bazel's build events."""
    executed: Counter[str] = Counter()
    for line in events.read_text().splitlines():
        for action in json.loads(line).get("buildMetrics", {}).get("actionSummary", {}).get("actionData", []):
            executed[action["mnemonic"]] += int(action.get("actionsExecuted", 0))
    return dict(executed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when the bump made more than one layer of wheels, else 0."""
    options = _parser().parse_args(arguments)
    source = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    with tempfile.TemporaryDirectory(prefix="bench-bump-") as name:
        workspace = Workspace(source, Path(name))
        try:
            results = _measure(workspace, Path(name), options)
        finally:
            workspace.close()
    _print(results)
    return 0 if results[-1].actions.get(_LAYERS, 0) == 1 else 1


def _measure(workspace: Workspace, scratch: Path, options: argparse.Namespace) -> list[Measured]:
    results = []
    store = scratch / "registry"
    store.mkdir()
    with serve_registry(find_crane(), store) as registry, Proxy(registry) as proxy:
        repository = f"{proxy.host}/bench/churn"
        for name in ("first", f"{options.package} {options.version}"):
            if name != "first":
                workspace.bump(options.package, options.version)
            proxy.take()
            started = time.monotonic()
            actions = workspace.build()
            workspace.push(repository)
            results.append(Measured(name, actions, proxy.take(), time.monotonic() - started))
    return results


def _print(results: Sequence[Measured]) -> None:
    table = Table("build and push", *_COLUMNS)
    for result in results:
        cells = (
            str(result.actions.get(_LAYERS, 0)),
            str(result.actions.get("OCIImage", 0)),
            f"{result.counts.blob_bytes:,}",
            f"{result.counts.manifest_bytes:,}",
            str(len(result.counts.requests)),
            f"{result.seconds:.1f}",
        )
        table.add_row(result.name, *cells)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


_COLUMNS = ("wheel layers made", "images assembled", "blob bytes sent", "manifest bytes sent", "requests", "seconds")


def _output(command: Sequence[str], directory: Path) -> str:
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="pandas", help="package of the churn flow (default: %(default)s)")
    parser.add_argument("--version", default="3.1.0", help="version to ask for (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
