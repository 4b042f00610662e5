"""Another workspace that uses mfbazel, with a Bazel server of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# The sources are data of the tests, which run again when one changes; Bazel needs the workspace that they are in.
WORKSPACE = (Path(__file__).absolute().parents[2] / "MODULE.bazel").resolve().parent

_MODULE = """\
module(name = "another")

bazel_dep(name = "mfbazel", version = "0.1.0")
bazel_dep(name = "rules_oci", version = "2.2.0")
bazel_dep(name = "rules_pkg", version = "0.9.1")
bazel_dep(name = "rules_python", version = "0.22.1")
local_path_override(module_name = "mfbazel", path = "{workspace}")
"""

SHORT_LIVED = ("--host_jvm_args=-XX:TieredStopAtLevel=1", "--host_jvm_args=-XX:+UseSerialGC")
"""Startup options of a Bazel that lives for minutes: without Java's second compiler it takes half of the processor."""
BAZELRC = f"startup {' '.join(SHORT_LIVED)}\n"
"""The same for a workspace's own file: commands that ask the running server are started with them, too."""


@dataclass(frozen=True)
class OtherWorkspace:
    """The other workspace.

    Attributes:
        directory: its root.
        output_base: of its Bazel.
        variables: of the environment, besides those of the test.
    """

    directory: Path
    output_base: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> None:
        """Write a file of it."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def begin(self) -> None:
        """Remove what another test made, and make the files that every workspace which uses mfbazel has."""
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self.write("MODULE.bazel", _MODULE.format(workspace=WORKSPACE))
        self.write(".bazelversion", (WORKSPACE / ".bazelversion").read_text(encoding="utf-8"))
        self.write(".bazelrc", BAZELRC)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that its user has."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "RUNFILES"))}
        if Path("/usr/share/mfbazel/base").is_dir():
            kept["MFBAZEL_IN_TOOLBOX"] = "1"
        return {**kept, **self.variables}

    def bazel(self, *arguments: str, directory: str = ".") -> subprocess.CompletedProcess[str]:
        """Run Bazel in it, as its user would, from ``directory``."""
        return subprocess.run(
            [str(WORKSPACE / "bazelw"), f"--output_base={self.output_base}", "--max_idle_secs=60", *arguments],
            cwd=self.directory / directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def built(self, *arguments: str, directory: str = ".") -> subprocess.CompletedProcess[str]:
        """Run Bazel; it must succeed."""
        done = self.bazel(*arguments, directory=directory)
        assert done.returncode == 0, f"{done.stdout}{done.stderr[-4000:]}"
        return done

    def git(self, *arguments: str) -> str:
        """Run git in it; return what it says."""
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def begin_history(self) -> None:
        """Commit everything to the branch ``main``."""
        self.write(".gitignore", "bazel-*\n")
        self.git("init", "-q", "-b", "main")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "before")

    def close(self) -> None:
        """Stop the Bazel server and remove what it made."""
        self.bazel("clean", "--expunge")
