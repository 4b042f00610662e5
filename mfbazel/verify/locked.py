"""What the lock of the workspace says that a step's image holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfbazel.lock_hash import environments_hash
from mfbazel.verify.errors import VerifyError

_SCHEMA = 1

Packages = Mapping[tuple[str, str], frozenset[str]]
"""Name and version of a package → sha256 of its wheels, one for each platform; empty for one that a target makes."""


@dataclass(frozen=True)
class Locked:
    """A lock.

    Attributes:
        path: of its ``flow.json``.
        includes: step to the steps whose images its image is derived from.
    """

    path: Path
    _document: Mapping[str, Any] = field(repr=False)
    includes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def flow(self) -> str:
        """The flow's name."""
        return str(self._document["flow"]["name"])

    @property
    def steps(self) -> dict[str, str]:
        """Step to its environment, in topological order."""
        return {step["name"]: step["environment"] for step in self._document["flow"]["steps"]}

    def hash(self, step: str) -> str:
        """Return what ``images.json`` calls the packages of ``step``."""
        return environments_hash(self._document["environments"], self._environments(step))

    def platforms(self, step: str) -> list[str]:
        """Return the platforms that ``step`` is locked for."""
        return sorted(self._document["environments"][self.steps[step]]["wheels"])

    def packages(self, step: str, platforms: Iterable[str]) -> Packages:
        """Return the packages of the image of ``step`` for ``platforms`` (``os/architecture``)."""
        return gather(
            ((wheel["name"], wheel["version"]), "" if key.startswith("//") else key)
            for platform in platforms
            for name in self._environments(step)
            for key in self._document["environments"][name]["wheels"].get(platform, ())
            for wheel in [self._document["wheels"][key]]
        )

    def _environments(self, step: str) -> list[str]:
        steps = self.steps
        return [steps[step], *(steps[other] for other in self.includes.get(step, ()))]


def read_lock(path: Path, includes: Mapping[str, Sequence[str]]) -> Locked:
    """Read ``flow.json``.

    Raises:
        VerifyError: it cannot be read, or is no lock of a flow.
    """
    try:
        document = json.loads(path.read_bytes())
        locked = Locked(path, document, includes)
        if document["schema"] != _SCHEMA:
            raise ValueError(f"schema {document['schema']}")
        for step in locked.steps:
            locked.hash(step)
        _ = locked.flow
    except OSError as error:
        raise VerifyError(f"the lock {path} cannot be read: {error.strerror}.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise VerifyError(
            f"{path} is no lock of a flow that this version reads ({error!r}). Lock the flow anew."
        ) from error
    return locked


def gather(wheels: Iterable[tuple[tuple[str, str], str]]) -> Packages:
    """Return the packages of ``wheels``, each a name and version with a sha256."""
    found: dict[tuple[str, str], set[str]] = {}
    for key, sha256 in wheels:
        found.setdefault(key, set()).add(sha256)
    return {key: frozenset(sums) for key, sums in found.items()}


def difference(found: Packages, locked: Packages) -> str:
    """Say how the packages ``found`` differ from those that are ``locked``; empty when they agree."""
    lacks = [_named(key) for key in sorted(locked.keys() - found.keys())]
    more = [_named(key) for key in sorted(found.keys() - locked.keys())]
    other = [
        f"{_named(key)} with sha256 {_sums(found[key])} instead of {_sums(locked[key])}"
        for key in sorted(found.keys() & locked.keys())
        if not (found[key] == locked[key] or ("" in locked[key] and locked[key] - {""} <= found[key]))
    ]
    parts = [("lacks", lacks), ("has", more), ("has", other)]
    return "; ".join(f"{verb} {_some(names)}" for verb, names in parts if names)


def _sums(sums: frozenset[str]) -> str:
    return " and ".join(sha256 or "none" for sha256 in sorted(sums))


def _named(package: tuple[str, str]) -> str:
    return " ".join(package)


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
