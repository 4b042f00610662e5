"""The options that podman and docker share."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from mfbazel.container.engines.base import Start
from mfbazel.container.model import Image, Mount

_ALWAYS = ("--rm", "--pull=never", "--log-driver=none", "--network=host", "--ipc=host", "--security-opt=label=disable")


def trial(image: Image) -> list[str]:
    """Return the words that start a container which does nothing."""
    return ["run", *_ALWAYS, "--entrypoint", "true", image.handle]


def run_options(start: Start) -> Iterator[str]:
    """Yield the options of ``run``, up to those for GPUs; variables are named, their values are the process's.

    The container has the machine's network and shared memory, as a process without a container would. Labels of
    SELinux would keep it from the user's files, and giving these a label is not asked for.
    """
    plan = start.plan
    yield from (*_ALWAYS, "--name", start.name)
    if start.reads_input:
        yield "--interactive"
    if start.terminal:
        yield "--tty"
    if plan.image.user:
        yield from ("--user", plan.image.user)
    for name in sorted(start.environ):
        yield from ("--env", name)
    if start.new_home:
        yield from ("--mount", _fields("type=tmpfs", f"destination={start.new_home}", "tmpfs-mode=1777"))
    for mount in plan.mounts:
        yield from ("--mount", bind(mount))
    yield from ("--workdir", str(plan.workdir))


def bind(mount: Mount) -> str:
    """Return the value of ``--mount`` for a file or directory."""
    fields = ["type=bind", f"source={mount.source}", f"destination={mount.place}"]
    return _fields(*fields, *([] if mount.writable else ["readonly"]))


def command_options(start: Start) -> Iterator[str]:
    """Yield the last words of ``run``: the image and the command, instead of the entrypoint that the image has."""
    first, *rest = start.command
    yield from ("--entrypoint", first, start.plan.image.handle, *rest)


def _fields(*fields: str) -> str:
    """Return one line of comma-separated values, as the option ``--mount`` is read."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(fields)
    return stream.getvalue()
