"""Where a wheel comes from that no index has: an sdist, a commit, a file or a target of this workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SDIST, GIT, FILE, LABEL = "sdist", "git", "file", "label"

BUILD_PREFIX = "_build."
"""How the names of environments begin that hold the build requirements of a source; they are no images."""


def is_label(key: str) -> bool:
    """Say whether the ``key`` of a wheel in a lock is the label of a target, and not a hash."""
    return key.startswith("//")


@dataclass(frozen=True)
class Source:
    """The origin of one wheel; fields that its kind does not have are empty.

    Attributes:
        kind: :data:`SDIST` (``file``, ``sha256`` and ``size`` in bytes of the archive), :data:`GIT` (``url`` as git
            takes it, ``revision`` as required, ``commit``, ``subdirectory``), :data:`FILE` (a wheel checked in at
            ``label``) or :data:`LABEL` (the wheel that the target ``label`` makes).
        requires: the environment that has the build requirements.
        dependencies: what the wheel of a target required when it was locked.
    """

    kind: str
    file: str = ""
    sha256: str = ""
    size: int = -1
    url: str = ""
    revision: str = ""
    commit: str = ""
    subdirectory: str = ""
    label: str = ""
    requires: str = ""
    dependencies: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two sources the same, however they were found and built."""
        return (self.kind, self.sha256, self.url, self.commit, self.subdirectory, self.label)

    def to_json(self) -> dict[str, Any]:
        """Return it as flow.json has it: what is empty is left out."""
        return {name: value for name, value in asdict(self).items() if value not in ("", -1, ())}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Source:
        """Read what :meth:`to_json` returned."""
        return cls(**{**entry, "dependencies": tuple(entry.get("dependencies", ()))})

    def __str__(self) -> str:
        """Say it to a person."""
        if self.kind == SDIST:
            return self.file
        return f"git+{self.url}@{self.commit}" if self.kind == GIT else self.label
