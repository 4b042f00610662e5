"""Which directories a container must have so that files read through symlinks are there at their own paths.

A runfiles tree of Bazel's is made of symlinks: to the output base, and from there to the workspace and to the checkouts
of modules. A link leads nowhere in a container that lacks any directory on the way.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mfbazel.container.model import Mount, tidy


def readable(roots: Iterable[Path], trees: Iterable[Path] = ()) -> tuple[Mount, ...]:
    """Return what to mount so that ``roots``, and all that their symlinks lead to, can be read.

    Args:
        roots: absolute paths of files and directories; those that do not exist are left out.
        trees: directories that are mounted whole where anything in them is needed; besides them Bazel's output bases.
    """
    found = _Places(tuple(trees))
    for root in roots:
        if root.exists():
            found.add(root)
    return tidy(sorted(found.mounts, key=lambda mount: str(mount.place)))


class _Places:
    """What is needed so far."""

    def __init__(self, trees: tuple[Path, ...]) -> None:
        self.mounts: set[Mount] = set()
        self._trees = trees
        self._walked: set[Path] = set()
        self._real: dict[Path, Path] = {}

    def add(self, root: Path) -> None:
        """Need ``root``, and whatever the links in it lead to."""
        real = self._follow(root)
        self._need(real)
        waiting = [real] if real.is_dir() else []
        while waiting:
            directory = waiting.pop()
            if directory in self._walked:
                continue
            self._walked.add(directory)
            with os.scandir(directory) as entries:
                for entry in entries:
                    path = Path(entry.path)
                    if entry.is_symlink() and path.exists():
                        target = self._follow(path)
                        self._need(target if target.is_dir() else target.parent)
                        path = target
                    if path.is_dir():
                        waiting.append(path)

    def _follow(self, path: Path) -> Path:
        """Return the real path of ``path``, which exists; the directory of every link on the way is needed."""
        known = self._real.get(path)
        if known is not None:
            return known
        if path == path.parent:
            return path
        here = self._follow(path.parent)
        here = here.parent if path.name == ".." else here / path.name
        if here.is_symlink():
            target = self._follow(here.parent / here.readlink())
            if here.parent == here.parent.parent:  # nobody mounts the root directory
                self.mounts.add(Mount(target, target=here))
            else:
                self._need(here.parent)
            here = target
        self._real[path] = here
        return here

    def _need(self, place: Path) -> None:
        if not any(place.is_relative_to(mount.place) for mount in self.mounts):
            whole = next((tree for tree in self._trees if place.is_relative_to(tree)), None) or _output_base(place)
            self.mounts.add(Mount(whole or place))


def _output_base(place: Path) -> Path | None:
    """Return the output base of Bazel's that ``place`` lies in."""
    for directory in (place, *place.parents):
        if directory.joinpath("execroot").is_dir() and directory.joinpath("external").is_dir():
            return directory
    return None
