"""Calling Bazel from within `bazel run`: the same server, which `bazel run` has let go of by then."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from mfbazel.bazel import NoBazelError, bazel_command, outer_environment, output_base
from mfbazel.errors import MfbazelError

QUIET = ("--ui_event_filters=-info", "--noshow_progress")
"""Options of a command of which only the result and errors are wanted."""
SOME_PACKAGES_FAILED = 3
"""Exit code of ``bazel query --keep_going`` that could not load everything."""
TARGETS_FAILED = 1
"""Exit code of ``bazel build`` that could not build everything."""

_SHOWN_LINES = 40
_MANY = ("all", "*", "all-targets")


@dataclass(frozen=True)
class InnerBazel:
    """Bazel, as the person calls it who started this.

    Attributes:
        command: its words.
        directory: where relative target patterns count from.
        environment: the variables that it gets.
        error: what is raised; packages have errors of their own.
        target: how a person starts what needs Bazel.
    """

    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    error: ClassVar[type[MfbazelError]] = NoBazelError
    target: ClassVar[str] = "//:TARGET"

    @classmethod
    def find(cls, command: str | None = None, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the Bazel that started this process, with the same server.

        Args:
            command: what to call, as in a shell; default: ``bazelw`` where that started Bazel, else what is on PATH.
            environ: the environment variables.

        Raises:
            MfbazelError: of the class :attr:`error`: this was not started by ``bazel run``, or there is no Bazel.
        """
        if "BUILD_WORKSPACE_DIRECTORY" not in environ:
            raise cls.error(f"the flows of a repository are found by Bazel: run this as `bazel run {cls.target}`")
        try:
            found = shlex.split(command) if command else bazel_command(_workspace(environ), environ)
        except NoBazelError as error:
            raise cls.error(f"{error}, or `--bazel COMMAND`") from error
        base = output_base(Path.cwd())
        return cls(
            [*found, *([f"--output_base={base}"] if base else [])],
            Path(environ.get("BUILD_WORKING_DIRECTORY", _workspace(environ))),
            outer_environment(environ),
        )

    def run(self, *arguments: str, shown: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command of Bazel; what it writes on standard error is ``shown`` to the person, or returned.

        Raises:
            MfbazelError: of the class :attr:`error`: it cannot be started.
        """
        try:
            return subprocess.run(
                [*self.command, *arguments],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None if shown else subprocess.PIPE,
                text=True,
                check=False,
            )
        except OSError as error:
            raise self.error(
                f"cannot start Bazel: {self.command[0]}: {error.strerror}; name it with --bazel"
            ) from error


def _workspace(environ: Mapping[str, str]) -> Path:
    return Path(environ["BUILD_WORKSPACE_DIRECTORY"])


def built_files(lines: Iterable[str], group: str) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Return the targets of which Bazel built everything, each with the files of an output group.

    Args:
        lines: build events (JSON), one a line.
        group: name of the output group.

    Returns:
        the labels of the targets, and the files as the events have them.
    """
    events = [json.loads(line) for line in lines if line.strip()]
    sets = {event["id"]["namedSet"]["id"]: event["namedSetOfFiles"] for event in events if "namedSetOfFiles" in event}
    for event in events:
        completed = event.get("completed", {})
        if "targetCompleted" in event["id"] and completed.get("success"):
            groups = [one for one in completed.get("outputGroup", ()) if one["name"] == group]
            files = [file for one in groups for file in _files_of(one.get("fileSets", ()), sets)]
            yield event["id"]["targetCompleted"]["label"], files


def _files_of(
    references: Iterable[Mapping[str, str]], sets: Mapping[str, Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Return the files of build events, each as an event has it.

    Args:
        references: ``fileSets`` of an output group.
        sets: the ``namedSetOfFiles`` by their ids.
    """
    waiting, seen = [reference["id"] for reference in references], set()
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting += [reference["id"] for reference in sets[key].get("fileSets", [])]
            yield from sets[key].get("files", [])


def of_flow(pattern: str, rename: Callable[[str], str]) -> str:
    """Return the target pattern for a target that every flow has.

    A pattern for many targets stays; of one that names a single target, ``rename`` gets the last component of the name.
    """
    package, colon, name = pattern.rpartition(":")
    if not colon:
        if not pattern.startswith("//") or pattern.endswith("..."):
            return pattern
        package, name = pattern, pattern.rpartition("/")[2]
    if name in _MANY:
        return pattern
    directory, slash, last = name.rpartition("/")
    return f"{package}:{directory}{slash}{rename(last)}"


def names_many(pattern: str) -> bool:
    """Whether a target pattern names what there is, and no single target."""
    return pattern.endswith("...") or pattern.rpartition(":")[2] in _MANY


def kinds_in(patterns: Iterable[str], *rules: str) -> str:
    """Return the query for the targets of ``rules`` that ``patterns`` name."""
    return f"kind('^({'|'.join(rules)}) rule$', {' + '.join(map(quoted, patterns))})"


def quoted(pattern: str) -> str:
    """Return a target pattern as a word of a query."""
    return f'"{pattern}"'


def tail(text: str) -> str:
    """Return the last lines of what Bazel said, indented."""
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-_SHOWN_LINES:])
