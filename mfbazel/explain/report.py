"""What a flow's spec and its lock say together about every package of every step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from packaging.utils import canonicalize_name

from mfbazel.analyze import FlowSpec, Step
from mfbazel.errors import MfbazelError
from mfbazel.lock.document import Lock
from mfbazel.lock.requirements_txt import parse_resolved

_SOURCE = re.compile(r".+ \((?P<what>.+)\)")


@dataclass(frozen=True)
class Reason:
    """Why a package is in a step.

    Attributes:
        kind: ``declared`` (by a decorator), ``project`` (by the project), ``imported`` (added because the code imports
            it), ``runtime`` (Metaflow needs it in every image), or ``needed`` (by another package).
        where: ``file:line (@decorator)``; for ``needed`` the other package, for ``runtime`` ``metaflow``.
    """

    kind: str
    where: str

    def __str__(self) -> str:
        if self.kind == "needed":
            return f"needed by {self.where}"
        return "Metaflow needs it in every image" if self.kind == "runtime" else f"{self.kind} in {self.where}"


@dataclass(frozen=True)
class Package:
    """One version of a distribution.

    Attributes:
        version: ``None`` where it is not locked yet.
        size: of the wheel, in bytes; ``None`` where it is not locked yet.
        steps: why it is there, by step.
    """

    name: str
    version: str | None
    size: int | None
    steps: Mapping[str, tuple[Reason, ...]]

    @property
    def declared(self) -> bool:
        """Whether a step asks for it, and not only another package."""
        return any(reason.kind not in ("needed", "runtime") for why in self.steps.values() for reason in why)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        steps = {step: [asdict(reason) for reason in why] for step, why in self.steps.items()}
        return {"name": self.name, "version": self.version, "size": self.size, "steps": steps}


@dataclass(frozen=True)
class Report:
    """A flow explained.

    Attributes:
        platform: the platform that the packages are of, ``None`` without a lock.
        packages: ordered by name and version.
        stale: steps that do not declare what was locked for them.
    """

    flow: FlowSpec
    platform: str | None
    packages: tuple[Package, ...]
    stale: tuple[str, ...]

    def of_step(self, step: str) -> list[Package]:
        """Return the packages of ``step``."""
        return [package for package in self.packages if step in package.steps]

    def size(self, step: str) -> int | None:
        """Return the size of the step's wheels in bytes, ``None`` without a lock."""
        return None if self.platform is None else sum(package.size or 0 for package in self.of_step(step))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "flow": self.flow.to_json(),
            "platform": self.platform,
            "packages": [package.to_json() for package in self.packages],
            "stale": list(self.stale),
        }


def explain(flow: FlowSpec, lock: Lock | None, platform: str | None = None) -> Report:
    """Explain ``flow`` with its ``lock``, when there is one.

    Args:
        flow: as it is now.
        lock: as it was written; it may be older than ``flow``.
        platform: of the packages to show; default: the lock's first.

    Raises:
        MfbazelError: the lock is not for ``platform``.
    """
    locked = sorted(lock.document["layers"]) if lock else []
    if platform and lock and platform not in locked:
        raise MfbazelError(f"--platform {platform}: the lock is for {', '.join(locked)}")
    platform = (platform or min(locked, default=None)) if lock else None
    found: dict[tuple[str, str | None], dict[str, tuple[Reason, ...]]] = {}
    sizes: dict[tuple[str, str | None], int | None] = {}
    for step in flow.steps:
        for name, version, size, reasons in _of_step(step, lock, platform):
            found.setdefault((name, version), {})[step.name] = reasons
            sizes[name, version] = size
    packages = tuple(
        Package(*key, sizes[key], found[key]) for key in sorted(found, key=lambda key: (key[0], key[1] or ""))
    )
    return Report(flow, platform, packages, _stale(flow, lock))


def _of_step(
    step: Step, lock: Lock | None, platform: str | None
) -> Iterator[tuple[str, str | None, int | None, tuple[Reason, ...]]]:
    """Yield name, version, size and reasons of each package of ``step``: of the lock, else those that are declared."""
    locked = lock.environments.get(step.name) if lock else None
    if lock is None or locked is None:
        declared = {canonicalize_name(item.name.partition("[")[0]) for item in step.effective_declared}
        for name in sorted(declared):
            yield name, None, None, tuple(_written(step, name))
        return
    pins = parse_resolved(lock.texts.get(locked["file"], ""))
    for sha256 in locked["wheels"].get(platform, ()):
        wheel = lock.document["wheels"][sha256]
        via = pins[wheel["name"]].via if wheel["name"] in pins else ()
        yield wheel["name"], wheel["version"], wheel["size"], tuple(_reasons(step, wheel["name"], via))


def _reasons(step: Step, name: str, via: Sequence[str]) -> Iterator[Reason]:
    """Yield why ``name`` is in ``step``: first what is written in the flow, then what the resolver noted (``via``)."""
    yield from _written(step, name)
    others = sorted(other for other in via if not _SOURCE.fullmatch(other))
    if "metaflow (runtime)" in via:
        yield Reason("runtime", "metaflow")
    yield from (Reason("needed", other) for other in others)


def _written(step: Step, name: str) -> Iterator[Reason]:
    """Yield where the flow asks for ``name``."""
    for item in step.effective_declared:
        if canonicalize_name(item.name.partition("[")[0]) == name:
            kind = "project" if item.decorator == "project" else "declared"
            place = f"{item.file}:{item.line}"
            yield Reason(kind, place if kind == "project" else f"{place} (@{item.decorator})")


def _stale(flow: FlowSpec, lock: Lock | None) -> tuple[str, ...]:
    recorded = (lock.document["flow"] or {}).get("steps", []) if lock else []
    locked = {step["name"]: step["requirements_sha256"] for step in recorded}
    return tuple(step.name for step in flow.steps if lock and locked.get(step.name) != step.requirements_sha256)
