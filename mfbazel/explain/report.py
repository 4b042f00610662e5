"""What a flow's spec and its lock say together about every package of every step."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mfbazel.analyze import FlowSpec, Step
from mfbazel.errors import MfbazelError
from mfbazel.lock.distributions import import_names
from mfbazel.lock.document import Lock
from mfbazel.lock.imports import Packages
from mfbazel.lock.model import RUNTIME_SOURCE
from mfbazel.lock.requirements_txt import parse_resolved
from mfbazel.lock.runtime import for_metaflow_alone

_SOURCE = re.compile(r".+ \((?P<what>.+)\)")


@dataclass(frozen=True)
class Reason:
    """Why a package is in a step.

    Attributes:
        kind: ``declared`` (by a decorator), ``project`` (by the project), ``added`` (required because the code imports
            it), ``imported`` (the code imports it), ``runtime`` (Metaflow needs it in every image), or ``needed`` (by
            another package).
        where: ``file:line``, for ``declared`` with the decorator; for ``needed`` the other package, for ``runtime``
            ``metaflow``.
    """

    kind: str
    where: str

    def __str__(self) -> str:
        match self.kind:
            case "needed":
                return f"needed by {self.where}"
            case "runtime":
                return "Metaflow needs it in every image"
            case "added":
                return f"added for the import in {self.where}"
        return f"{self.kind} in {self.where}"

    @property
    def asks(self) -> bool:
        """Whether it makes the package a requirement of the step itself."""
        return self.kind in ("declared", "project", "added")


@dataclass(frozen=True)
class Package:
    """One version of a distribution.

    Attributes:
        version: ``None`` where it is not locked yet.
        size: of the wheel, in bytes; ``None`` where it is not locked yet.
        steps: why it is there, by step.
        runtime: the steps in which it is there for Metaflow alone.
    """

    name: str
    version: str | None
    size: int | None
    steps: Mapping[str, tuple[Reason, ...]]
    runtime: tuple[str, ...] = ()

    @property
    def declared(self) -> bool:
        """Whether a step asks for it, and not only another package."""
        return any(reason.asks for why in self.steps.values() for reason in why)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        steps = {step: [asdict(reason) for reason in why] for step, why in self.steps.items()}
        return {**asdict(self), "runtime": list(self.runtime), "steps": steps}


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
    alone = {step: for_metaflow_alone(lock, step) for step in lock.environments} if lock else {}
    packages = tuple(
        Package(*key, sizes[key], found[key], tuple(_runtime(key[0], found[key], alone)))
        for key in sorted(found, key=lambda key: (key[0], key[1] or ""))
    )
    return Report(flow, platform, packages, _stale(flow, lock))


def _runtime(name: str, steps: Mapping[str, tuple[Reason, ...]], alone: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield the steps that have the package for Metaflow alone: nor do they import it."""
    for step, why in steps.items():
        if name in alone.get(step, ()) and not any(reason.asks or reason.kind == "imported" for reason in why):
            yield step


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
    imported = _imported(step, lock)
    required = {canonicalize_name(Requirement(text).name) for text in locked.get("requirements", ())}
    for sha256 in locked["wheels"].get(platform, ()):
        wheel = lock.document["wheels"][sha256]
        name = wheel["name"]
        via = pins[name].via if name in pins else ()
        reasons = tuple(_reasons(step, name, imported.get(name, ()), name in required, via))
        yield name, wheel["version"], wheel["size"], reasons


def _reasons(step: Step, name: str, imports: Sequence[str], required: bool, via: Sequence[str]) -> Iterator[Reason]:
    """Yield why ``name`` is in ``step``.

    First what is written in the flow; then where its code imports the distribution, which is why it is there when it is
    required though nothing declares it; then what the resolver noted (``via``).
    """
    written = list(_written(step, name))
    yield from written
    kind = "added" if required and not written else "imported"
    yield from (Reason(kind, where) for where in imports)
    others = sorted(other for other in via if not _SOURCE.fullmatch(other))
    if RUNTIME_SOURCE in via:
        yield Reason("runtime", "metaflow")
    yield from (Reason("needed", other) for other in others)


def _imported(step: Step, lock: Lock) -> dict[str, list[str]]:
    """Return where ``step`` imports each distribution, as the locked wheels' own modules tell it."""
    provided = Packages.of_lock(lock, step.name).provided
    found: dict[str, list[str]] = {}
    for item in step.inferred:
        answers = (provided.look_up(name) for name in import_names(item.module, item.members))
        for distribution in sorted({name for answer in answers if answer for name in answer.candidates}):
            places = found.setdefault(distribution, [])
            if f"{item.file}:{item.line}" not in places:
                places.append(f"{item.file}:{item.line}")
    return found


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
