"""A shell, or a command, with what one step has: in its image, or in its virtual environment on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mfbazel.container.errors import ContainerError
from mfbazel.container.images import Wanted
from mfbazel.container.images import prepare as prepare_images
from mfbazel.container.model import Image
from mfbazel.container.start import become, start
from mfbazel.container.tasks import plan
from mfbazel.launch.flow import LAUNCHER, FlowLaunch, prepare, working_directory

_SHELL = ("bash", "--norc")  # what the user's own files set up is for another Python
_METAFLOW = Path("metaflow", "__init__.py")


@dataclass(frozen=True)
class Shell:
    """What the user asked for."""

    step: str
    layouts: Mapping[str, Path]
    """The layout of each step's image."""
    launch: FlowLaunch
    engine: str
    """One of the engines, or ``auto``."""
    local: bool
    """Whether to use the virtual environment and not the image."""
    command: Sequence[str]
    """Empty for a shell."""


def open_shell(shell: Shell, environ: Mapping[str, str]) -> int:
    """Run the shell or the command and return its status as :mod:`subprocess` does.

    On a terminal, and without a container, this process becomes that of the command, and does not return.

    Raises:
        ContainerError: the step does not exist, or no container can be started here.
        LaunchError: the virtual environments cannot be made.
    """
    if shell.step not in shell.layouts:
        raise ContainerError(
            f"{shell.launch.label} has no step {shell.step!r}; its steps are {', '.join(shell.layouts)}."
        )
    workdir = working_directory(environ)
    python, variables = prepare(shell.launch, environ)
    os.chdir(workdir)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    command = tuple(shell.command) or _SHELL
    variables = {**variables, "PS1": f"({shell.step}) \\w \\$ "}
    if shell.local:
        _become_local(shell, command, Path(python[0]).parents[2], variables)
    container = plan(
        _prepare(Wanted(shell.engine, f"oci:{shell.layouts[shell.step]}"), environ),
        workdir=Path.cwd(),
        code=[*_import_roots(variables), *_metaflow(shell.launch)],
        import_roots=[*_import_roots(variables), *_metaflow(shell.launch)],
        environ=environ,
    )
    if terminal:
        become(container, command, variables)
    return start(container, command, variables, reads_input=True)


def _become_local(shell: Shell, command: Sequence[str], venvs: Path, variables: Mapping[str, str]) -> NoReturn:
    """Become the command, with the step's virtual environment first on PATH."""
    directory = venvs / _environment(shell) / "bin"
    if not directory.is_dir():
        raise ContainerError(
            f"step {shell.step} is locked for another Python than the one here, so that it has no virtual environment "
            "on this machine; open the shell in its image, without --local."
        )
    path = os.pathsep.join(filter(None, [str(directory), variables.get("PATH", "")]))
    environ = {**variables, "PATH": path, "VIRTUAL_ENV": str(directory.parent)}
    sys.stdout.flush()
    try:
        os.execvpe(command[0], list(command), environ)
    except OSError as error:
        raise ContainerError(f"{command[0]} cannot be started: {error.strerror}.") from error


def _environment(shell: Shell) -> str:
    """Return the environment of the lock that the step has."""
    content = json.loads(shell.launch.lock.read_text(encoding="utf-8"))
    for step in content["flow"]["steps"]:
        if step["name"] == shell.step:
            return str(step.get("environment") or shell.step)
    return shell.step


def _import_roots(variables: Mapping[str, str]) -> list[Path]:
    return [Path(entry) for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _metaflow(launch: FlowLaunch) -> list[Path]:
    """Return the directory that Metaflow is imported from."""
    listed = json.loads(launch.sites.read_text(encoding="utf-8"))[LAUNCHER]
    sites = [Path(os.path.normpath(launch.runfiles / site)) for site in listed]
    return [site for site in sites if site.joinpath(_METAFLOW).is_file()]


def _prepare(wanted: Wanted, environ: Mapping[str, str]) -> Image:
    """Return the one image that is asked for."""
    return prepare_images({"": wanted}, dict, environ, _say)[""]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
