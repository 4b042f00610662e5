"""Servers that a test starts on loopback and stops by process id."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

LOOPBACK = "127.0.0.1"

_START_SECONDS = 60.0
_STOP_SECONDS = 3.0


class ServiceError(RuntimeError):
    """A server did not start; the message holds the end of its log."""


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def tail(path: Path, lines: int = 40) -> str:
    """Return the last lines of a log; empty where there is none."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


class Service:
    """A server process with a log; a context manager that starts it, waits until it answers, and stops it.

    It stays in the test's process group, so that it also ends where Bazel ends the whole group.
    """

    def __init__(
        self, command: Sequence[str | Path], environ: Mapping[str, str], log: Path, ready: Callable[[], bool]
    ) -> None:
        """Describe the process: its command, its whole environment, where its output goes, and how to ask for it.

        ``ready`` returns whether the server answers; an OSError means that it does not yet.
        """
        self.command = [str(word) for word in command]
        self.environ = dict(environ)
        self.log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        """Start the process.

        Raises:
            ServiceError: it ended, or did not answer within a minute.
        """
        with self.log.open("wb") as stream:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=self.environ
            )
        try:
            self._wait(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the process."""
        self.stop()

    def stop(self) -> None:
        """End the process, first kindly; nothing happens where it has ended."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError):
                if self._ready():
                    return
            time.sleep(0.05)
        ended = process.poll()
        what = f"did not answer within {_START_SECONDS:.0f} s" if ended is None else f"ended with exit code {ended}"
        raise ServiceError(f"`{' '.join(self.command)}` {what}; its log ends with:\n{tail(self.log)}")
