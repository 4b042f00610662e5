"""Which Bazel to call from within what Bazel started, and with which environment variables.

Nothing here needs more than the standard library: the module is also shipped to where Metaflow launches a flow.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from mfbazel.errors import MfbazelError

BAZEL_VARIABLE = "MFBAZEL_BAZEL"
"""Environment variable: the command that is Bazel, as a shell reads it, startup options included."""

_WRAPPER = "bazelw"
_INNER_PREFIXES = ("BUILD_", "RUNFILES_", "JAVA_RUNFILES", "PYTHON_RUNFILES", "MFBAZEL_TARGET")
_INNER_NAMES = (
    "MFBAZEL_FIRST_PARTY",
    "MFBAZEL_FLOW_LABEL",
    "MFBAZEL_FLOW_LOCK",
    "MFBAZEL_PUSH",
    "MFBAZEL_RUNFILES",
    "MFBAZEL_STEP_PYTHON_DIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONSAFEPATH",
)


class NoBazelError(MfbazelError):
    """There is no Bazel to call."""


def bazel_command(workspace: Path | None, environ: Mapping[str, str]) -> list[str]:
    """Return the words that call Bazel.

    ``$MFBAZEL_BAZEL``; else ``$MFBAZEL_BAZELW``, the ``bazelw`` that started Bazel; else the ``bazelw`` of the
    workspace; else bazelisk or bazel on PATH.

    Args:
        workspace: the root directory of the workspace, where it is known.
        environ: the environment variables.

    Raises:
        NoBazelError: there is none.
    """
    if named := shlex.split(environ.get(BAZEL_VARIABLE, "")):
        return named
    if started := environ.get("MFBAZEL_BAZELW"):
        return [started]
    if workspace is not None and os.access(wrapper := workspace / _WRAPPER, os.X_OK):
        return [str(wrapper)]
    for name in ("bazelisk", "bazel"):
        if found := shutil.which(name, path=environ.get("PATH")):
            return [found]
    raise NoBazelError(f"neither bazelisk nor bazel is on PATH: name yours in {BAZEL_VARIABLE}")


def output_base(place: Path) -> Path | None:
    """Return the output base of the Bazel whose executable was started in ``place``: the server that is running.

    Executables start in ``<output base>/execroot/<repository>/bazel-out/…``; one Bazel may run within another's.
    """
    ways = [place, *place.parents]
    for repository, outputs in zip(ways[1:], ways, strict=False):
        if outputs.name == "bazel-out" and repository.parent.name == "execroot":
            return repository.parent.parent
    return None


def outer_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` as it was for the Bazel that started this process: without what is about this executable."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_INNER_PREFIXES) and name not in _INNER_NAMES
    }
    paths = [path for path in kept.pop("PYTHONPATH", "").split(os.pathsep) if path and ".runfiles" not in path]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)} if paths else kept
