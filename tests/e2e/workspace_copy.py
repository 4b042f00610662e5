"""A copy of this workspace, built on what is as good as another machine."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.other_workspace import SHORT_LIVED, WORKSPACE

NOBODY = 65534
"""User and group that have no rights, as Linux numbers them where a number is needed."""


@dataclass(frozen=True)
class Conditions:
    """What another machine has otherwise.

    Attributes:
        one_core: the processes may run on one core only.
        variables: environment variables of Bazel and of its actions.
        umask: of the processes.
        host_name: of the machine, where this process may change it for its children (Linux, root).
        user: number of user and group, where this process may change it.
    """

    one_core: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o022
    host_name: str | None = None
    user: int | None = None

    def enter(self) -> None:
        """Put the calling process, which is about to become Bazel, under these conditions."""
        os.umask(self.umask)
        if sys.platform == "linux" and sys.version_info >= (3, 12):
            if self.host_name:
                os.unshare(os.CLONE_NEWUTS)
                socket.sethostname(self.host_name)
            if self.one_core:
                os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        if self.user is not None:
            os.setgroups([])
            os.setgid(self.user)
            os.setuid(self.user)


@dataclass(frozen=True)
class WorkspaceCopy:
    """The copy; everything that is written lies below ``scratch``.

    Attributes:
        scratch: an empty directory.
        conditions: under which its Bazel runs.
        variables: environment variables of Bazel alone.
    """

    scratch: Path
    conditions: Conditions = field(default_factory=Conditions)
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """Its root."""
        return self.scratch / "elsewhere" / "sources"

    def begin(self) -> None:
        """Copy the sources for the user who builds them, readable by no one else where his umask says so."""
        # The settings of the person who works here may name a disk cache.
        ignored = shutil.ignore_patterns("bazel-*", "__pycache__", ".git", "user.bazelrc")
        shutil.copytree(WORKSPACE, self.directory, ignore=ignored, symlinks=True)
        (self.scratch / "home").mkdir()
        if _IN_TOOLBOX:
            # Where Bazel's settings are written. The toolbox itself is this one.
            toolbox = self._toolboxes / self._toolbox_key()
            toolbox.mkdir(parents=True)
            (toolbox / "root").symlink_to("/")
        for parent, _, files in os.walk(self.scratch):
            for path in (Path(parent), *(Path(parent, name) for name in files)):
                if path.is_symlink():
                    continue
                path.chmod(path.stat().st_mode & ~self.conditions.umask)
                if self.conditions.user is not None:
                    os.chown(path, self.conditions.user, self.conditions.user)

    def bazel(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the copy's Bazel, with an output base of its own."""
        actions = [f"--{kind}={name}={value}" for name, value in self.conditions.variables.items() for kind in _ACTIONS]
        startup = [f"--output_user_root={self.scratch / 'output'}", "--max_idle_secs=60", *SHORT_LIVED]
        options = [*actions, "--symlink_prefix=/"] if command in ("build", "cquery") else []
        return subprocess.run(
            [str(self.directory / "bazelw"), *startup, command, *options, *arguments],
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=self.conditions.enter,
        )

    def built(self, command: str, *arguments: str) -> str:
        """Run Bazel, which must succeed; return its standard output."""
        done = self.bazel(command, *arguments)
        assert done.returncode == 0, f"{done.stdout}{done.stderr[-4000:]}"
        return done.stdout

    def files(self, *arguments: str) -> list[Path]:
        """Return the outputs of targets under the options that they were built with."""
        execution_root = Path(self.built("info", "execution_root").strip())
        found = self.built("cquery", "--output=files", *arguments).split()
        return [execution_root / path for path in found]

    def close(self) -> None:
        """Stop the server and remove everything."""
        self.bazel("shutdown")
        for parent, names, _ in os.walk(self.scratch):
            for path in (Path(parent, name) for name in names):
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(self.scratch)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "RUNFILES"))}
        kept |= self.conditions.variables
        if _IN_TOOLBOX:
            # Elsewhere the home directory says where Bazel itself is, and which registries it asks.
            home = str(self.scratch / "home")
            kept = {name: value for name, value in kept.items() if not name.startswith("XDG_")}
            kept |= {"HOME": home, "TMPDIR": home}
            kept |= {"MFBAZEL_IN_TOOLBOX": "1", "MFBAZEL_TOOLBOX_DIR": str(self._toolboxes)}
        return {**kept, **self.variables}

    @property
    def _toolboxes(self) -> Path:
        return self.scratch / "home" / "toolbox"

    def _toolbox_key(self) -> str:
        script = f". {shlex.quote(str(self.directory / 'tools/toolbox/lib.sh'))}; toolbox_key"
        environment = {"PATH": os.environ["PATH"], "workspace": str(self.directory)}
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
        return done.stdout.strip()


_IN_TOOLBOX = Path("/usr/share/mfbazel/base").is_dir()
_ACTIONS = ("action_env", "host_action_env")


@contextmanager
def workspace_copy(copy: WorkspaceCopy) -> Iterator[WorkspaceCopy]:
    """Make the copy; remove it in the end."""
    copy.begin()
    try:
        yield copy
    finally:
        copy.close()


def shared_wheels(cache: Path, wheels: Sequence[tuple[str, str]], directory: Path) -> None:
    """Bring the wheels (sha256, file name) that ``cache`` has into a cache that every user can read."""
    for sha256, file in wheels:
        if (cache / sha256 / file).is_file():
            target = directory / sha256 / file
            target.parent.mkdir(parents=True)
            shutil.copyfile(cache / sha256 / file, target)
            target.chmod(0o644)
