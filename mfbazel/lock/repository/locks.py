"""The locks of a repository, found as the module extension finds them, without Bazel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.errors import MfbazelError
from mfbazel.lock.document import FILE, Lock, read
from mfbazel.lock.errors import LockError

_SKIPPED = ("node_modules", "__pycache__")
_SUFFIX = ".lock"
_BUILD_FILES = ("BUILD.bazel", "BUILD")
_MANY = ("all", "*", "all-targets")


@dataclass(frozen=True)
class Locks:
    """Locks of flows by label, and what could not be read, in words by label."""

    found: Mapping[str, Lock] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def read_locks(workspace: Path, patterns: Sequence[str], directory: Path | None = None) -> Locks:
    """Read the locks of the flows that ``patterns`` name.

    Args:
        workspace: root of the workspace.
        patterns: Bazel's target patterns: ``//a/...``, ``//a:all``, ``//a:flow``, ``//a``; or relative ones.
        directory: where relative patterns count from (default: ``workspace``).

    Raises:
        LockError: there is no such lock.
    """
    package = (directory or workspace).resolve().relative_to(workspace.resolve()).as_posix()
    wanted = [absolute(pattern, "" if package == "." else package) for pattern in patterns]
    found: dict[str, Lock] = {}
    problems: dict[str, str] = {}
    for label, path in find_locks(workspace).items():
        if not any(matches(label, pattern) for pattern in wanted):
            continue
        try:
            lock = read(path, f"bazel run {label}.lock")
        except MfbazelError as error:
            problems[label] = str(error)
            continue
        if lock is not None and lock.document.get("flow"):
            found[label] = lock
    if not found and not problems:
        raise LockError(f"there is no lock of a flow in {', '.join(patterns)}; make them: `bazel run //:lock_all`")
    return Locks(found, problems)


def find_locks(workspace: Path) -> dict[str, Path]:
    """Return all lock directories below ``workspace``, by the label that they are the lock of, sorted."""
    found = {}
    for path in _lock_directories(workspace):
        found[_label(workspace, path)] = path
    return dict(sorted(found.items()))


def _lock_directories(workspace: Path) -> Iterator[Path]:
    for name, directories, _ in os.walk(workspace):
        locks = [Path(name, entry) for entry in directories if entry.endswith(_SUFFIX)]
        yield from (path for path in locks if (path / FILE).is_file())
        directories[:] = [
            entry
            for entry in directories
            if not entry.startswith((".", "bazel-")) and entry not in _SKIPPED and not entry.endswith(_SUFFIX)
        ]


def _label(workspace: Path, path: Path) -> str:
    """Return the label of the target beside whose BUILD file the lock ``path`` lies."""
    package = path.parent
    while package != workspace and not any((package / name).is_file() for name in _BUILD_FILES):
        package = package.parent
    name = path.relative_to(package).as_posix().removesuffix(_SUFFIX)
    below = package.relative_to(workspace).as_posix()
    return f"//{'' if below == '.' else below}:{name}"


def absolute(pattern: str, package: str) -> str:
    """Return the target pattern ``pattern``, relative to ``package``, from the workspace's root."""
    pattern = pattern.removeprefix("@@").removeprefix("@") if pattern.startswith(("@//", "@@//")) else pattern
    if pattern.startswith("//"):
        return pattern
    separator = "" if not package or pattern.startswith(":") or not pattern else "/"
    return f"//{package}{separator}{pattern}"


def matches(label: str, pattern: str) -> bool:
    """Say whether the absolute target ``pattern`` names the flow ``label``."""
    package, _, name = label.removeprefix("//").partition(":")
    place, colon, wanted = pattern.removeprefix("//").partition(":")
    if place == "..." or place.endswith("/..."):
        above = place.removesuffix("...").rstrip("/")
        return not above or package == above or package.startswith(f"{above}/")
    if not colon:
        wanted = place.rpartition("/")[2]
    return package == place and (wanted in _MANY or wanted.removesuffix(_SUFFIX) == name)
