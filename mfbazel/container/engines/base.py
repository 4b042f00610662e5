"""What engines have in common."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mfbazel.container.errors import ContainerError
from mfbazel.container.gpu import Gpu
from mfbazel.container.layout import LayoutImage
from mfbazel.container.model import Image, Plan

Say = Callable[[str], None]


@dataclass(frozen=True)
class Start:
    """A command to start in a container."""

    plan: Plan
    command: Sequence[str]
    environ: Mapping[str, str]
    """All variables that are forwarded, the plan's among them."""
    name: str
    """Name of the container, which no other has."""
    gpu: Gpu | None = None
    reads_input: bool = False
    """Whether the command reads this process's standard input."""
    terminal: bool = False
    """Whether that is a terminal, and the command's as well."""

    @property
    def new_home(self) -> Path | None:
        """The home directory that has to be made, empty; None where a mount shows one."""
        home = Path(self.environ.get("HOME") or "/")
        shown = home == home.parent or any(home.is_relative_to(mount.place) for mount in self.plan.mounts)
        return None if shown else home


@dataclass(frozen=True)
class Process:
    """A process of this machine that is, or speaks for, a container."""

    command: Sequence[str]
    environ: Mapping[str, str]
    remove: Sequence[str] = ()
    """Command that ends the container and removes it, whatever its state; empty where it ends with the process, which
    is bubblewrap then."""
    reads_input: bool = False
    """Whether it gets this process's standard input."""


class Engine(Protocol):
    """A program that starts containers."""

    name: str
    program: str

    def why_not(self) -> str:
        """Return why the engine does not work here; empty where it answers."""
        ...

    def why_not_start(self, image: Image) -> str:
        """Return why no container of ``image``, which the engine has, starts; empty where one did."""
        ...

    def take_layout(self, image: LayoutImage, cache: Path, say: Say) -> Image:
        """Return ``image`` as the engine has it, after giving it what it lacks.

        Raises:
            ContainerError: the engine refuses it.
        """
        ...

    def take_reference(self, reference: str, say: Say) -> Image:
        """Return the image that ``reference`` names, pulled where the engine lacks it.

        Raises:
            ContainerError: it cannot be pulled.
        """
        ...

    def process(self, start: Start) -> Process:
        """Return the process that runs ``start``."""
        ...


def find_program(name: str, path: str | None = None) -> str | None:
    """Return the path of an engine's program; None where it is not installed."""
    return shutil.which(name, path=path)


def ask(command: Sequence[str], doing: str) -> str:
    """Run an engine's command and return its standard output.

    Raises:
        ContainerError: it fails; the message holds what it said.
    """
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ContainerError(f"{command[0]} cannot be started: {error.strerror}.") from error
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise ContainerError(f"{doing} failed: `{' '.join(command)}`: {said}")
    return done.stdout


def answers(command: Sequence[str]) -> str:
    """Return why an engine's command fails; empty where it succeeds."""
    try:
        ask(command, "asking the engine")
    except ContainerError as error:
        return str(error)
    return ""
