"""The programs that start containers, and which of them this machine has."""

from __future__ import annotations

from collections.abc import Callable

from mfbazel.container.engines.base import Engine, Process, Say, Start, find_program
from mfbazel.container.engines.bubblewrap import Bubblewrap
from mfbazel.container.engines.docker import Docker
from mfbazel.container.engines.podman import Podman
from mfbazel.container.errors import ContainerError

__all__ = ["AUTO", "ENGINES", "Engine", "Process", "Say", "Start", "choose", "engine_of"]

AUTO = "auto"
ENGINES = ("podman", "docker", "bubblewrap")
"""The engines, in the order in which ``auto`` tries them."""

_PROGRAMS = {"podman": "podman", "docker": "docker", "bubblewrap": "bwrap"}


def choose(name: str, path: str | None = None, runs: Callable[[Engine], str] | None = None) -> Engine:
    """Return the engine ``name``; for ``auto`` the first that works here.

    Args:
        name: ``auto`` or one of :data:`ENGINES`.
        path: where programs are looked for, instead of PATH.
        runs: called for engines that answer; returns why one starts no containers, empty where it does.

    Raises:
        ContainerError: there is no such engine, it is not installed, or it does not work; the message says why of each.
    """
    if name not in (AUTO, *ENGINES):
        raise ContainerError(f"engine={name!r} is none of {', '.join((AUTO, *ENGINES))}.")
    refused = []
    for candidate in ENGINES if name == AUTO else (name,):
        program = find_program(_PROGRAMS[candidate], path)
        if program is None:
            refused.append(f"{candidate}: {_PROGRAMS[candidate]} is not on PATH")
            continue
        engine = _make(candidate, program)
        reason = engine.why_not() or (runs(engine) if runs else "")
        if not reason:
            return engine
        refused.append(f"{candidate}: {reason}")
    raise ContainerError(
        "there is nothing here that starts containers:\n  "
        + "\n  ".join(refused)
        + "\nInstall podman, docker or bubblewrap; bubblewrap needs neither root nor a daemon."
    )


def engine_of(name: str, path: str | None = None) -> Engine:
    """Return the engine ``name``, which was chosen before, without asking whether it works.

    Raises:
        ContainerError: its program is gone.
    """
    program = find_program(_PROGRAMS[name], path)
    if program is None:
        raise ContainerError(f"{name}: {_PROGRAMS[name]} is not on PATH")
    return _make(name, program)


def _make(name: str, program: str) -> Podman | Docker | Bubblewrap:
    if name == "podman":
        return Podman(program)
    return Docker(program) if name == "docker" else Bubblewrap(program)
