"""Which files of a workspace changed since a revision, as git tells it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mfbazel.push.errors import PushError

Kind = Literal["added", "changed", "deleted"]
_KINDS: dict[str, Kind] = {"A": "added", "D": "deleted"}


@dataclass(frozen=True)
class Change:
    """A file that changed.

    Attributes:
        path: from the workspace's root, with ``/``; of a file of the same git repository outside of it, ``../…``.
        kind: what happened to it; a renamed file is a deleted and an added one.
    """

    path: str
    kind: Kind = "changed"

    def __str__(self) -> str:
        return f"{self.path} {self.kind}"


def changes_since(workspace: Path, revision: str) -> list[Change]:
    """Return what differs between the working tree and the merge base of ``revision`` and ``HEAD``.

    What is not committed counts, and so do new files that git does not ignore: Bazel builds the working tree.

    Raises:
        PushError: there is no git or no repository, ``revision`` is unknown, or the history does not reach back to the
            merge base.
    """
    commit = _git(
        workspace, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", asked=revision
    )
    base = _git(workspace, "merge-base", commit.strip(), "HEAD", asked=revision).strip()
    root = Path(_git(workspace, "rev-parse", "--show-toplevel", asked=revision).rstrip("\n"))
    options = ("--name-status", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=none")
    differing = _git(root, "diff", *options, base, "--", asked=revision)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", asked=revision)
    found = {**dict(_status(differing)), **{path: "A" for path in new.split("\0") if path}}
    here = os.path.realpath(workspace)
    return [
        Change(os.path.relpath(root / path, here), _KINDS.get(status[:1], "changed"))
        for path, status in sorted(found.items())
    ]


def _status(text: str) -> Iterator[tuple[str, str]]:
    """Return path and status from ``git diff --name-status -z``."""
    fields = text.split("\0")
    yield from zip(fields[1::2], fields[0::2], strict=False)


def _git(directory: Path, *arguments: str, asked: str) -> str:
    """Run git; return its output."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
    except OSError as error:
        raise PushError(f"--since {asked} needs git, which cannot be started: {error.strerror}.") from error
    if done.returncode:
        said = f" ({done.stderr.strip()})" if done.stderr.strip() else ""
        raise PushError(
            f"git cannot say what changed since {asked}{said}: `git {arguments[0]}` failed in {directory}. The "
            "revision and the commits since the merge base must be there: in CI, fetch the history (fetch-depth: 0, "
            "GIT_DEPTH: 0). What a forced push left behind is in no history: push every flow then, without --since."
        )
    return done.stdout
