"""A copy of the workspace for benchmarks that change it, with a Bazel of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


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

    def build(self, flow: str) -> dict[str, int]:
        """Build the images of ``flow`` (``//package:name``); return the number of executed actions by mnemonic."""
        self.bazel("build", f"--build_event_json_file={self.events}", f"{flow}.images")
        return executed_actions(self.events)

    def push(self, flow: str, repository: str) -> None:
        """Push the images of ``flow`` that were built."""
        self.bazel("run", f"{flow}.push", "--", "--repository", repository)

    def bump(self, flow: str, source: Path, package: str, version: str) -> None:
        """Let ``source`` ask for another version of ``package``, and lock ``flow``."""
        file = self.directory / source
        text, changes = re.subn(rf'("{re.escape(package)}": )"[^"]*"', rf'\1"{version}"', file.read_text())
        if not changes:
            raise SystemExit(f"error: {source} does not ask for {package}")
        file.write_text(text)
        self.bazel("run", f"{flow}.lock")

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


def _output(command: Sequence[str], directory: Path) -> str:
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout
