"""What a flow must not do while it is read: reach the network, start programs, change files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .code import Code

NETWORK = "reach the network"
PROGRAM = "start a program"
WRITE = "change a file"
SIGNAL = "send a signal"

_EVENTS = {
    **dict.fromkeys(("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"), NETWORK),
    **dict.fromkeys(("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"), NETWORK),
    **dict.fromkeys(("socket.getnameinfo", "webbrowser.open"), NETWORK),
    **dict.fromkeys(("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"), PROGRAM),
    **dict.fromkeys(("os.fork", "os.forkpty", "pty.spawn", "os.startfile"), PROGRAM),
    **dict.fromkeys(("os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown"), WRITE),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink", "os.utime", "os.setxattr", "os.removexattr"), WRITE),
    **dict.fromkeys(("os.kill", "os.killpg"), SIGNAL),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_MOST = 20
"""Refusals that are remembered."""


class Refused(PermissionError):
    """The flow tried what it must not do while it is read."""


@dataclass(frozen=True)
class Refusal:
    """What was refused, to whom (file and line), and what the system was asked for."""

    what: str
    detail: str
    file: str
    line: int


@dataclass
class Guard:
    """Refuses by an audit hook, which no code can take away again.

    Attributes:
        code: tells the flow's own code from Metaflow's.
        writable: the absolute directory below which files may be changed.
        refusals: what first-party code tried, whether or not it went on without.
    """

    code: Code
    writable: str
    refusals: list[Refusal] = field(default_factory=list)

    def install(self) -> None:
        """Refuse from now on."""
        sys.addaudithook(self._hook())

    def _hook(self) -> Callable[[str, tuple[Any, ...]], None]:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open":
                if _writes(arguments) and not self._is_writable(arguments[0]):
                    self._refuse(WRITE, arguments[0])
            elif event in _EVENTS and not self._allowed(_EVENTS[event], arguments):
                self._refuse(_EVENTS[event], _subject(event, arguments))

        return hook

    def _allowed(self, what: str, arguments: tuple[Any, ...]) -> bool:
        if what == SIGNAL:
            return bool(arguments and arguments[0] == os.getpid())
        return what == WRITE and bool(arguments) and self._is_writable(arguments[0])

    def _is_writable(self, path: Any) -> bool:
        if isinstance(path, int) or path == os.devnull:
            return True
        try:
            absolute = os.path.realpath(os.fsdecode(path))
        except (TypeError, ValueError):
            return True  # no path: the call itself fails
        return absolute == self.writable or absolute.startswith(self.writable + os.sep)

    def _refuse(self, what: str, subject: Any) -> None:
        detail = _shown(subject)
        caller = self.code.caller()
        if caller and len(self.refusals) < _MOST:
            self.refusals.append(Refusal(what, detail, *caller[:2]))
        raise Refused(f"a flow must not {what} while it is read: {detail}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = (*arguments, None, None)[:3]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & _WRITING)


def _subject(event: str, arguments: tuple[Any, ...]) -> Any:
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        return arguments[1] if len(arguments) > 1 else ""
    if event == "socket.getaddrinfo":
        return arguments[:2]
    if event == "subprocess.Popen" and len(arguments) > 1:
        return arguments[1]
    return arguments[0] if arguments else ""


def _shown(subject: Any) -> str:
    """Return what was asked for, on one line: host and port, command line, or path."""
    try:
        if isinstance(subject, tuple) and subject and isinstance(subject[0], str | bytes):
            text = ":".join(os.fsdecode(part) if isinstance(part, bytes) else str(part) for part in subject[:2])
        elif isinstance(subject, list | tuple):
            text = " ".join(os.fsdecode(part) for part in subject)
        else:
            text = os.fsdecode(subject) if isinstance(subject, str | bytes | os.PathLike) else str(subject)
    except Exception:  # an object of the flow's own
        text = type(subject).__name__
    return " ".join(text.split())[:200]
