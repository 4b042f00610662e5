"""Running the targets of a flow as ``bazel run`` does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import tail

_LIMIT_SECONDS = 600.0


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    command: tuple[str, ...]
    status: int
    """Exit code."""
    log: Path
    """Standard output and standard error."""

    @property
    def output(self) -> str:
        """Standard output and standard error."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def require_success(self) -> Finished:
        """Return this.

        Raises:
            AssertionError: the command failed; the message holds the end of what it said.
        """
        if self.status:
            raise AssertionError(f"`{' '.join(self.command)}` ended with {self.status}:\n{tail(self.log, 120)}")
        return self


@dataclass(frozen=True)
class CommandLine:
    """What ``bazel run`` executes for a target; made by the rule ``command_line``."""

    words: tuple[str, ...]
    """Program and arguments, paths relative to the workspace's directory in the runfiles tree."""

    @classmethod
    def read(cls, path: Path) -> CommandLine:
        """Read the file that the rule wrote."""
        return cls(tuple(json.loads(path.read_text(encoding="utf-8"))))

    def with_option(self, option: str, value: str | Path) -> CommandLine:
        """Return the command line with another value for ``option``, which it has."""
        position = self.words.index(option) + 1
        return CommandLine((*self.words[:position], str(value), *self.words[position + 1 :]))

    def run(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> Finished:
        """Run the target with ``arguments`` after its own, and with exactly the environment ``environ``.

        Raises:
            subprocess.TimeoutExpired: it did not end within ten minutes; it is killed with all that it started.
        """
        command = (os.path.abspath(self.words[0]), *self.words[1:], *arguments)  # noqa: PTH100 - it may be a symlink
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environ, start_new_session=True
            )
            try:
                status = process.wait(_LIMIT_SECONDS)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        return Finished(command, status, log)
