"""Many small flows of a repository, as ``//:lock_all`` gets them from Bazel."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mfbazel.lock.repository.bazel import FlowFiles
from tests.lock.wheelhouse import wheel

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_FLOW = """
from metaflow import FlowSpec, pypi, step

class Flow(FlowSpec):
    @step
    def start(self):
        self.next(self.train)

    @pypi(packages={packages})
    @step
    def train(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def make_wheels(directory: Path) -> Path:
    """Make a wheelhouse: what the launcher needs, and ``alpha`` to ``epsilon``, each 1.0 and 2.0."""
    for name in ("metaflow", "packaging", "boto3", "requests"):
        wheel(directory, name, "3.0")
    for name in ("alpha", "beta", "gamma", "delta", "epsilon"):
        wheel(directory, name, "1.0")
        wheel(directory, name, "2.0")
    return directory


@dataclass(frozen=True)
class Repository:
    """A workspace with flows ``//flows:NAME``."""

    directory: Path

    def add(self, name: str, packages: Mapping[str, str], options: Sequence[str] = ()) -> FlowFiles:
        """Add a flow whose step ``train`` declares ``packages``; ``options`` of its lock besides the usual ones."""
        flows = self.directory / "flows"
        flows.mkdir(parents=True, exist_ok=True)
        source = flows / f"{name}.py"
        source.write_text(_FLOW.replace("{packages}", repr(dict(packages))), encoding="utf-8")
        built = self.directory / "built" / f"_{name}.locking.args"
        built.parent.mkdir(exist_ok=True)
        words = ["--flow", f"flows/{name}.py", "--first-party", ".", "--python", _PYTHON, "--read", "static"]
        words += ["--lock-dir", f"flows/{name}.lock", "--label", f"//flows:{name}", "--metaflow", "metaflow==3.0"]
        words += ["--runtime", "boto3", "--runtime", "requests", *options]
        built.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
        return FlowFiles(f"//flows:{name}", built, {PurePosixPath(f"flows/{name}.py"): source})

    def lock(self, name: str) -> Path:
        """Return the lock directory of the flow ``name``."""
        return self.directory / "flows" / f"{name}.lock"

    def contents(self) -> dict[str, bytes]:
        """Return all files of all locks by path."""
        locks = sorted((self.directory / "flows").glob("*.lock/*"))
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in locks}
