"""What the kernel does to hold the flow: namespaces without network, and limits."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
MAX_FILE = 64 * 1024 * 1024
"""Bytes that the flow may write to one file."""


def limit(seconds: float, memory: int) -> None:
    """Limit this process: CPU time in ``seconds``, address space in ``memory`` bytes, size of files, no core dumps."""
    cpu = int(seconds) + 2
    wanted = {
        resource.RLIMIT_CPU: (cpu, cpu + 1),
        resource.RLIMIT_AS: (memory, memory),
        resource.RLIMIT_FSIZE: (MAX_FILE, MAX_FILE),
        resource.RLIMIT_CORE: (0, 0),
    }
    for name, value in wanted.items():
        # macOS refuses some of them; the parent's own limits may be lower already.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(name, value)


def leave_network() -> bool:
    """Move this process to namespaces without network, and what it starts to a process namespace of its own.

    Returns:
        Whether the kernel did it; where it does not, the guard alone keeps the flow from the network.
    """
    if not sys.platform.startswith("linux"):
        return False
    user, group = os.getuid(), os.getgid()
    if _unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWPID):
        _map_ids(user, group)
    elif not _unshare(_CLONE_NEWNET | _CLONE_NEWPID):  # for root where user namespaces are switched off
        return False
    return True


def in_own_processes() -> None:
    """Go on in a grandchild: with it and the process between, everything that it starts ends, whoever ends first.

    To be called after :func:`leave_network` succeeded: the child is the first process of the new process namespace.
    This process waits, and leaves with the status of the grandchild.
    """
    _continue_in_child()
    end_with_parent()
    _continue_in_child()


def end_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when the one that started it is gone, however that ended.

    Where the process ``parent`` is gone already, this one ends at once.
    """
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if parent is not None:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        except OSError:
            pass  # it is there, and another user's in this namespace


def _continue_in_child() -> None:
    child = os.fork()
    if child == 0:
        return
    while True:
        ended, status = os.wait()  # orphans of the namespace come here, too
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _unshare(flags: int) -> bool:
    try:
        if sys.version_info >= (3, 12):
            os.unshare(flags)
            return True
        return bool(ctypes.CDLL(None, use_errno=True).unshare(flags) == 0)
    except (OSError, AttributeError):
        return False


def _map_ids(user: int, group: int) -> None:
    """Keep user and group in the new user namespace; where the kernel refuses, they are shown as ``nobody``."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(text)
