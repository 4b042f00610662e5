"""Asking Bazel from within ``bazel run``: which flows there are, and the files that locking them reads."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from mfbazel.inner_bazel import (
    QUIET,
    SOME_PACKAGES_FAILED,
    TARGETS_FAILED,
    InnerBazel,
    built_files,
    kinds_in,
    of_flow,
    tail,
)
from mfbazel.lock.errors import LockError
from mfbazel.lock.resolver.scratch import scratch

RULE = "flow_locking"
"""The rule that says how a flow is locked, and the output group with the files for that."""

_OUTPUT_GROUP = "locking"
_ARGUMENTS = ".locking.args"
_PRIVATE = re.compile(r"(?<![\w.+-])_([\w+-][\w.+-]*)\.locking\b")
_EXTERNAL = "external"


@dataclass(frozen=True)
class FlowFiles:
    """The flow ``label`` and the files that locking it reads.

    Attributes:
        arguments: the file with its options, one per line.
        files: where each file lies, by its path in the execution root, which options name, and by its path among
            runfiles (``../REPOSITORY/…`` of other repositories), which imports find.
    """

    label: str
    arguments: Path
    files: Mapping[PurePosixPath, Path] = field(default_factory=dict)

    def link(self, directory: Path) -> Path:
        """Make a tree of links to the files in ``directory``, so that nothing else is read, as in a runfiles tree.

        Returns:
            The directory of the workspace in it, from which the options name files.
        """
        base = directory / "workspace"
        base.mkdir(parents=True)
        for name, path in self.files.items():
            place = Path(os.path.normpath(base / name))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
        return base


@dataclass(frozen=True)
class Found:
    """The flows of a workspace, sorted by label.

    Attributes:
        unbuilt: labels of flows whose files Bazel could not build.
        problems: what could not be loaded or built, in words.
    """

    flows: Sequence[FlowFiles]
    unbuilt: Sequence[str] = ()
    problems: Sequence[str] = ()


class Bazel(InnerBazel):
    """Bazel, asked for flows and for what locking them reads."""

    error = LockError
    target = "//:lock_all"

    def find_flows(self, patterns: Sequence[str]) -> Found:
        """Find the flows that ``patterns`` name, and build what locking them reads.

        Args:
            patterns: Bazel's target patterns; a flow's own name means the flow.

        Raises:
            LockError: Bazel fails, or a pattern names nothing.
        """
        labels, problems = self._query([locking_pattern(pattern) for pattern in patterns])
        if not labels:
            raise LockError("\n".join([*problems, f"there is no flow in {', '.join(patterns)}"]))
        found = self._build(labels)
        return replace(found, problems=[*problems, *found.problems])

    def _query(self, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
        done = self.run("query", "--keep_going", "--order_output=no", *QUIET, kinds_in(patterns, RULE))
        if done.returncode not in (0, SOME_PACKAGES_FAILED):
            raise LockError(f"Bazel cannot find the flows ({_shown(done.args)}):\n{_tail(done.stderr)}")
        problems = []
        if done.returncode:
            problems.append(f"Bazel cannot look at everything:\n{_tail(done.stderr)}")
        return sorted(done.stdout.split()), problems

    def _build(self, labels: Sequence[str]) -> Found:
        with scratch() as directory:
            targets, events = directory / "targets.txt", directory / "events.json"
            targets.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
            done = self.run(
                "build",
                "--keep_going",
                f"--output_groups={_OUTPUT_GROUP}",
                f"--target_pattern_file={targets}",
                f"--build_event_json_file={events}",
                "--build_event_json_file_path_conversion",
                "--remote_download_outputs=toplevel",
                "--show_result=0",
                "--verbose_failures",
                *QUIET,
            )
            if done.returncode not in (0, TARGETS_FAILED) or not events.exists():
                raise LockError(f"Bazel cannot build what locking reads:\n{_tail(done.stderr)}")
            built = {flow.label: flow for flow in read_events(events.read_text(encoding="utf-8").splitlines())}
        wanted = [flow_label(label) for label in labels]
        missing = [label for label in wanted if label not in built]
        problems = [f"Bazel cannot build what {', '.join(missing)} reads:\n{_tail(done.stderr)}"] if missing else []
        return Found([built[label] for label in wanted if label in built], missing, problems)


def locking_pattern(pattern: str) -> str:
    """Return the target pattern for the rule :data:`RULE` of the flows that ``pattern`` names.

    A pattern for many targets stays; the name of a flow, or of its target ``.lock``, becomes that of its private rule.
    """

    def rename(name: str) -> str:
        return name if name.endswith(".locking") else f"_{name.removesuffix('.lock')}.locking"

    return of_flow(pattern, rename)


def flow_label(label: str) -> str:
    """Return the label of the flow of which ``label`` is the rule :data:`RULE`."""
    package, _, name = label.lstrip("@").rpartition(":")
    directory, slash, last = name.rpartition("/")
    return f"{package}:{directory}{slash}{last.removeprefix('_').removesuffix('.locking')}"


def read_events(lines: Iterable[str]) -> Iterator[FlowFiles]:
    """Return the flows of which Bazel built everything, from the lines of its build events (JSON).

    Raises:
        LockError: what was built is not on this machine.
    """
    for target, found in built_files(lines, _OUTPUT_GROUP):
        label = flow_label(target)
        files = [_File.of(file, label) for file in found]
        arguments = [file for file in files if file.name.name.endswith(_ARGUMENTS)]
        if arguments:
            root = arguments[0].root
            named = {name: file.path for file in files for name in file.names(root)}
            yield FlowFiles(label, arguments[0].path, named)


@dataclass(frozen=True)
class _File:
    """A file of build events: ``name`` and ``prefix`` as they have it, and the ``path`` where it lies."""

    name: PurePosixPath
    prefix: tuple[str, ...]
    path: Path

    @classmethod
    def of(cls, file: Mapping[str, Any], label: str) -> _File:
        parts = urlsplit(file.get("uri", ""))
        if parts.scheme != "file":
            raise LockError(f"{label}: Bazel built {file['name']}, but left it at {file.get('uri')}: it is needed here")
        return cls(PurePosixPath(file["name"]), tuple(file.get("pathPrefix", [])), Path(unquote(parts.path)))

    @property
    def root(self) -> Path:
        """The execution root, of a file that was built."""
        return self.path.parents[len(self.prefix) + len(self.name.parts) - 1]

    def names(self, root: Path) -> Iterator[PurePosixPath]:
        """Return the paths in the execution root ``root`` and among runfiles."""
        name = self.name
        repositories = root.parents[1] / _EXTERNAL
        if self.path.is_relative_to(repositories):  # a source of another repository, named by its path in that one
            name = PurePosixPath(_EXTERNAL, *self.path.relative_to(repositories).parts)
        yield PurePosixPath(*self.prefix, name)
        yield PurePosixPath("..", *name.parts[1:]) if name.parts[0] == _EXTERNAL else name


def _shown(arguments: Any) -> str:
    return shlex.join(map(str, arguments))


def _tail(text: str) -> str:
    """Return the last lines of Bazel's ``text``, with the names of flows for those of their private rules."""
    return tail(_PRIVATE.sub(r"\1", text))
