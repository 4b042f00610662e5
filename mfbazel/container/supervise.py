"""Running a container as a child that behaves like the command in it: signals, exit code, and nothing left behind.

The container's process is in a session of its own, so that Ctrl-C reaches the command once, from here, and not the
engine's program, which would end without it. Where this process is killed, what it left is removed by a second one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from mfbazel.container.engines import Process

_FORWARDED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_GRACE_SECONDS = 3.0
_APPEARS_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1  # prctl(2)
_SIGNALLED = 128  # exit codes above are 128 and a signal, as a shell's


def run(process: Process) -> int:
    """Run ``process`` and return its status as :mod:`subprocess` does: negative where a signal ended it.

    Of this process's signals the command gets what it would have got without a container. SIGTERM and SIGHUP end the
    container after three seconds; so does the end of the process that started this one.
    """
    _end_with_parent()
    with _Watcher(process.remove, process.environ), _Child(process) as child:
        return child.wait()


def end_like(status: int) -> NoReturn:
    """End this process with the status that :func:`run` returned."""
    sys.stdout.flush()
    sys.stderr.flush()
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no disposition
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status if status >= 0 else _SIGNALLED - status)


class _Child:
    """The engine's process, and the signals that are passed on."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ended_by: int | None = None
        self._waiting: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._status = -1
        self._inside: int | None = None

    def __enter__(self) -> _Child:
        for number in _FORWARDED:
            signal.signal(number, self._take)
        signal.signal(signal.SIGALRM, self._force)
        command, passed = list(self._process.command), []
        if not self._process.remove:
            self._status, write = os.pipe()
            command[1:1] = ["--json-status-fd", str(write)]
            passed = [write]
        self._child = subprocess.Popen(
            command, env=self._process.environ, start_new_session=True, pass_fds=passed, stdin=_input(self._process)
        )
        for descriptor in passed:
            os.close(descriptor)
        for waiting in self._waiting:
            self._pass_on(waiting)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def wait(self) -> int:
        """Wait for the end, and return the status."""
        assert self._child is not None
        status = self._child.wait()
        if status < 0 and self._process.remove:  # the engine's program was ended, and not by the container's end
            _quietly(self._process.remove, self._process.environ)
        if self._ended_by is not None:
            return -self._ended_by
        number = status - _SIGNALLED
        return -number if number in signal.valid_signals() else status

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if number in _ENDING:
            self._ended_by = number
            signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)
        if self._child is None:
            self._waiting.append(number)
        else:
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        assert self._child is not None
        if self._process.remove:  # the engine's program passes it on
            self._child.send_signal(number)
            return
        for command in self._commands():
            with contextlib.suppress(ProcessLookupError):
                os.kill(command, number)

    def _force(self, _number: int, _frame: FrameType | None) -> None:
        if self._process.remove:
            _quietly(self._process.remove, self._process.environ)
        elif self._child is not None:
            self._child.kill()

    def _commands(self) -> list[int]:
        """Return the processes that bubblewrap's first process in the container has started."""
        deadline = time.monotonic() + _APPEARS_SECONDS
        while time.monotonic() < deadline and self._child is not None and self._child.poll() is None:
            if self._inside is None:
                self._inside = _first_process(self._status)
            with contextlib.suppress(OSError, ValueError):
                children = Path(f"/proc/{self._inside}/task/{self._inside}/children").read_text(encoding="ascii")
                if children.strip():
                    return [int(child) for child in children.split()]
            time.sleep(0.01)
        return []


def _first_process(status: int) -> int | None:
    """Return the process that bubblewrap's status (JSON, one object a line) names first."""
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(status, 1)
        if not data:
            return None
        line += data
    return int(json.loads(line)["child-pid"])


class _Watcher:
    """A process that outlives this one where it is killed, and then removes the container."""

    def __init__(self, remove: Sequence[str], environ: Mapping[str, str]) -> None:
        self._remove = remove
        self._environ = environ
        self._process = 0
        self._write = -1

    def __enter__(self) -> None:
        if not self._remove:
            return
        read, self._write = os.pipe()
        self._process = os.fork()
        if self._process:
            os.close(read)
            return
        with contextlib.suppress(BaseException):
            os.close(self._write)
            self._watch(read)
        os._exit(1)

    def __exit__(self, *_: object) -> None:
        if self._process:
            os.write(self._write, b"\n")
            os.close(self._write)
            os.waitpid(self._process, 0)

    def _watch(self, read: int) -> None:
        """Wait until the other end says that all is well, or is gone."""
        os.setsid()
        for number in _FORWARDED:
            signal.signal(number, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # Metaflow waits until nobody can write to its pipes
            os.dup2(nothing, descriptor)
        if os.read(read, 1):
            os._exit(0)
        # The engine may be on the way to start it.
        for _ in range(2):
            _quietly(self._remove, self._environ)
            time.sleep(1)
        os._exit(0)


def _input(process: Process) -> int | None:
    return None if process.reads_input else subprocess.DEVNULL


def _quietly(command: Sequence[str], environ: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError):
        subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=False,
        )


def _end_with_parent() -> None:
    """Get SIGTERM when the process that started this one ends, however it ends."""
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
