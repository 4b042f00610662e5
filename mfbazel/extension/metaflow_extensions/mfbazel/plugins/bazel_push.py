"""``MFBAZEL_PUSH=auto``: build and push the images before a run, as the user asks."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from .bazel_errors import BazelException, PushFailedException
from .bazel_lock import IMAGES_VARIABLE, LABEL_VARIABLE
from .bazel_package import RUNFILES_VARIABLE

PUSH_VARIABLE = "MFBAZEL_PUSH"
"""Environment variable: ``auto`` builds and pushes before a run; by default nothing is built."""


def push_if_asked(echo: Callable[..., None], environ: Mapping[str, str] | None = None) -> None:
    """Run ``<label>.push`` of the flow where ``MFBAZEL_PUSH`` is ``auto``; Bazel's progress goes to standard error.

    Args:
        echo: Metaflow's.
        environ: stands in for the process's environment.

    Raises:
        BazelException: ``MFBAZEL_PUSH`` is something else, or cannot be followed.
        PushFailedException: the push fails; what it said is on standard error.
    """
    environ = os.environ if environ is None else environ
    asked = environ.get(PUSH_VARIABLE, "")
    if not asked:
        return
    if asked != "auto":
        raise BazelException(f"{PUSH_VARIABLE} is {asked!r}; it can be `auto`, or unset.")
    label = environ.get(LABEL_VARIABLE)
    if not label:
        raise BazelException(f"{PUSH_VARIABLE}=auto needs the flow's label: start the flow with `bazel run`.")
    if environ.get(IMAGES_VARIABLE):
        raise BazelException(
            f"{PUSH_VARIABLE}=auto builds the images, and {IMAGES_VARIABLE} names others: unset one of them."
        )
    _push(label, echo, environ)


def _push(label: str, echo: Callable[..., None], environ: Mapping[str, str]) -> None:
    from mfbazel.bazel import bazel_command, outer_environment, output_base
    from mfbazel.errors import MfbazelError
    from mfbazel.state import workspace_dir

    try:
        workspace = Path(workspace_dir(environ))
        # Another server, in the usual output base, would build everything anew.
        base = output_base(Path(environ.get(RUNFILES_VARIABLE, "")))
        server = [f"--output_base={base}"] if base else []
        command = [*bazel_command(workspace, environ), *server, "run", f"{label}.push"]
    except MfbazelError as error:
        raise BazelException(f"{PUSH_VARIABLE}=auto: {error}") from error
    echo(f"{PUSH_VARIABLE}=auto: {shlex.join(command)}", err=True)
    sys.stderr.flush()
    try:
        # Standard output is Metaflow's: it may be the JSON of a deployment.
        done = subprocess.run(command, cwd=workspace, env=outer_environment(environ), stdout=sys.stderr, check=False)
    except OSError as error:
        raise PushFailedException(f"`{shlex.join(command)}` cannot be started: {error}.") from error
    if done.returncode:
        raise PushFailedException(
            f"`{shlex.join(command)}` ended with exit code {done.returncode}; what it said is above. Nothing was "
            "scheduled."
        )
