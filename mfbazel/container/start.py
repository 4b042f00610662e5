"""Starting a command in a planned container."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import NoReturn

from mfbazel.container import gpu
from mfbazel.container.engines import Start, engine_of
from mfbazel.container.model import Plan
from mfbazel.container.supervise import run
from mfbazel.container.variables import forwarded

# Ctrl-C is for the command; bubblewrap itself would end of it, and leaves to others what it ignores.
_INTERRUPTIBLE = (
    "import os, signal, sys; "
    "[signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGQUIT)]; "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


def start(plan: Plan, command: Sequence[str], environ: Mapping[str, str], *, reads_input: bool = False) -> int:
    """Run ``command`` in the container and return its status as :mod:`subprocess` does."""
    process = engine_of(plan.image.engine, environ.get("PATH")).process(
        _start(plan, command, environ, reads_input=reads_input, terminal=False)
    )
    return run(process)


def become(plan: Plan, command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Give this process's terminal to ``command`` in the container; this process becomes the engine's program."""

    if plan.image.engine == "bubblewrap":
        command = ("python", "-c", _INTERRUPTIBLE, *command)
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
    started = _start(plan, command, environ, reads_input=True, terminal=True)
    process = engine_of(plan.image.engine, environ.get("PATH")).process(started)
    sys.stdout.flush()
    os.execve(process.command[0], list(process.command), dict(process.environ))


def _start(
    plan: Plan, command: Sequence[str], environ: Mapping[str, str], *, reads_input: bool, terminal: bool
) -> Start:
    return Start(
        plan=plan,
        command=command,
        environ={**forwarded(environ), **plan.variables},
        name=f"mfbazel-{uuid.uuid4().hex}",
        gpu=gpu.find(path=environ.get("PATH")),
        reads_input=reads_input,
        terminal=terminal,
    )
