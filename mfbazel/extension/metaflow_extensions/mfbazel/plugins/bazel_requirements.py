"""What the steps of a live flow declare, compared with what was locked for them.

The meaning of the decorators, and the hash, are those of ``mfbazel.analyze``, which wrote the lock. It is imported
late, since only the process that launches has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .bazel_errors import DependenciesException, NotStartedByBazelException, StaleLockException
from .bazel_lock import Lock, LockedStep, command


@dataclass(frozen=True)
class Requirements:
    """What one step declares, after Metaflow merged the decorators of the step and of the flow."""

    sha256: str
    """The hash that ``flow.json`` and ``images.json`` hold."""
    python: str | None = None
    declared: Mapping[str, str] = field(default_factory=dict)
    """Version specifier by package as the decorators name it (the Python index may have another name for it); empty
    for a disabled step."""


def of_step(step: Any) -> Requirements:
    """Return what ``step``, an initialised step of a live flow, declares.

    Raises:
        DependenciesException: both @pypi and @conda name packages.
        NotStartedByBazelException: the package ``mfbazel`` cannot be imported.
    """
    analyze = _analyze()
    attributes = {deco.name: _attributes(deco) for deco in step.decorators if deco.name in ("pypi", "conda")}
    try:
        found = analyze.live_requirements(attributes)
        python, packages = (None, {}) if found.disabled else (found.python, found.packages)
        declared = dict(analyze.said(name, str(version)) for name, version in packages.items())
        return Requirements(analyze.requirements_sha256(python, packages), python, declared)
    except analyze.AnalyzeError as error:
        raise DependenciesException(f"Step *{step.name}*: {error}") from error


def check(step: str, live: Requirements, lock: Lock) -> None:
    """Compare what ``step`` declares with what was locked for it.

    Raises:
        StaleLockException: they differ, or the lock does not know the step.
    """
    locked = lock.steps.get(step)
    if locked is None:
        raise StaleLockException(f"Step *{step}* is not in the lock of the flow {lock.flow} ({lock.path}). {_remedy()}")
    if live.sha256 != locked.requirements_sha256:
        raise StaleLockException(
            f"Step *{step}* of the flow {lock.flow} does not declare what was locked for it: "
            f"{_difference(live, locked)}. {_remedy()}"
        )


def _analyze() -> ModuleType:
    """Return the module that gives the decorators their meaning."""
    try:
        from mfbazel.analyze import requirements
    except ImportError as error:
        raise NotStartedByBazelException(
            f"The lock cannot be compared with the code ({error}). Start the flow with `bazel run`."
        ) from error
    return requirements


def _attributes(deco: Any) -> dict[str, Any]:
    """Return the attributes of @pypi or @conda, with the Python that the flow's author wrote."""
    return {**deco.attributes, "python": getattr(deco, "declared_python", deco.attributes["python"])}


def _difference(live: Requirements, locked: LockedStep) -> str:
    """Say what differs, in the words of the decorators."""
    now, then = live.declared, {} if locked.disabled else locked.declared
    said = [f"{name}{now[name]} is new" for name in sorted(now.keys() - then.keys())]
    said += [f"{name}{then[name]} is gone" for name in sorted(then.keys() - now.keys())]
    said += [
        f"{name} was {then[name] or 'of any version'}, is {now[name] or 'of any version'}"
        for name in sorted(now.keys() & then.keys())
        if now[name] != then[name]
    ]
    if not locked.disabled and live.python != locked.python:
        said.append(f"python was {locked.python or 'not declared'}, is {live.python or 'not declared'}")
    return "; ".join(said) or "the hash of its requirements differs"


def _remedy() -> str:
    return f"Run `{command('lock')}` and then `{command('push')}`."
