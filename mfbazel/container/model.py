"""What runs in a container, whatever engine starts it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Mount:
    """A file or directory of this machine that the container has at the same path, or at ``target``."""

    source: Path
    writable: bool = False
    target: Path | None = None

    @property
    def place(self) -> Path:
        """Where the container has it."""
        return self.target or self.source


@dataclass(frozen=True)
class Image:
    """An image that an engine can start without asking anybody."""

    engine: str
    """Name of the engine that has it."""
    handle: str
    """How that engine calls it: an ID; for bubblewrap the path of the unpacked root directory."""
    name: str
    """What people call it: a reference, or the digest of a layout."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """The image's environment variables, where the engine does not set them itself."""
    user: str | None = None
    """User and group of the container, ``1000:1000``; None where the engine's are the user's own."""
    overlay: bool = False
    """Whether the engine can lay a writable file system over the root (bubblewrap)."""


@dataclass(frozen=True)
class Plan:
    """A container but for its command: what all tasks of a step have in common."""

    image: Image
    workdir: Path
    mounts: Sequence[Mount] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables besides those that are forwarded; they win."""

    def to_json(self) -> str:
        """Return the plan as one line of JSON."""
        content = asdict(self)
        content["mounts"] = [
            [str(mount.source), mount.writable, str(mount.target) if mount.target else None] for mount in self.mounts
        ]
        return json.dumps({**content, "workdir": str(self.workdir)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan that :meth:`to_json` wrote."""
        content = json.loads(text)
        return cls(
            image=Image(**content["image"]),
            workdir=Path(content["workdir"]),
            mounts=tuple(
                Mount(Path(source), writable, Path(target) if target else None)
                for source, writable, target in content["mounts"]
            ),
            variables=content["variables"],
        )


def tidy(mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """Return ``mounts`` in an order in which parents come first, without those that another one already shows.

    A directory that is also mounted writable stays writable, and so does what lies in it.
    """
    kept: list[Mount] = []
    for mount in sorted(mounts, key=lambda mount: (len(mount.place.parts), str(mount.place), not mount.writable)):
        shown = [other for other in kept if _shows(other, mount)]
        if not shown or (mount.writable and not shown[-1].writable):
            kept.append(mount)
    return tuple(kept)


def _shows(outer: Mount, inner: Mount) -> bool:
    """Say whether ``inner`` is already there, at its place, where ``outer`` is mounted."""
    if not inner.place.is_relative_to(outer.place):
        return False
    return outer.source / inner.place.relative_to(outer.place) == inner.source
