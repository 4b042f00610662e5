"""What the steps of a live flow declare, compared with what was locked for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .bazel_errors import ConflictingDependenciesException, NotStartedByBazelException, StaleLockException
from .bazel_lock import Lock, LockedStep, command

_VERBATIM = ("<", ">", "!", "~", "@")
"""First characters of a version that Metaflow takes as a whole specifier."""


@dataclass(frozen=True)
class Requirements:
    """What one step declares, after Metaflow merged the decorators of the step and of the flow."""

    python: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    """Version by package, as written in the decorator."""

    def sha256(self) -> str:
        """Return the hash that ``flow.json`` and ``images.json`` hold.

        Raises:
            NotStartedByBazelException: the package ``mfbazel`` cannot be imported.
        """
        try:
            from mfbazel.analyze import requirements_sha256
        except ImportError as error:
            raise NotStartedByBazelException(
                f"The lock cannot be compared with the code ({error}). Start the flow with `bazel run`."
            ) from error
        return str(requirements_sha256(self.python, self.packages))

    def specifiers(self) -> dict[str, str]:
        """Return the version specifier by package, as ``flow.json`` writes it."""
        return {name: specifier(version) for name, version in self.packages.items()}


def specifier(version: str) -> str:
    """Return what ``version`` in ``packages=`` means: verbatim after an operator, any where empty, else ``==``."""
    version = version.strip()
    return version if not version or version.startswith(_VERBATIM) else f"=={version}"


def of_step(step: Any) -> Requirements:
    """Return what ``step``, an initialised step of a live flow, declares.

    Raises:
        ConflictingDependenciesException: both @pypi and @conda name packages.
    """
    found = [_of_decorator(deco) for deco in step.decorators if deco.name in ("pypi", "conda")]
    named = [requirements for requirements in found if requirements.packages]
    if len(named) > 1:
        raise ConflictingDependenciesException(
            f"Step *{step.name}* names packages in @pypi and in @conda: {', '.join(sorted(named[0].packages))} and "
            f"{', '.join(sorted(named[1].packages))}. Name them all in one of the two."
        )
    pythons = [requirements.python for requirements in (*named, *found) if requirements.python]
    return Requirements(pythons[0] if pythons else None, named[0].packages if named else {})


def check(step: str, live: Requirements, lock: Lock) -> None:
    """Compare what ``step`` declares with what was locked for it.

    Raises:
        StaleLockException: they differ, or the lock does not know the step.
    """
    locked = lock.steps.get(step)
    if locked is None:
        raise StaleLockException(f"Step *{step}* is not in the lock of the flow {lock.flow} ({lock.path}). {_remedy()}")
    if live.sha256() != locked.requirements_sha256:
        raise StaleLockException(
            f"Step *{step}* of the flow {lock.flow} does not declare what was locked for it: "
            f"{_difference(live, locked)}. {_remedy()}"
        )


def _of_decorator(deco: Any) -> Requirements:
    """Return what one @pypi or @conda declares; a disabled one names no package."""
    python = getattr(deco, "declared_python", deco.attributes["python"])
    disabled = str(deco.attributes.get("disabled")).lower() == "true"
    packages = {} if disabled else {str(name): str(version) for name, version in deco.attributes["packages"].items()}
    return Requirements(str(python) if python else None, packages)


def _difference(live: Requirements, locked: LockedStep) -> str:
    """Say what differs, in the words of the decorators."""
    now, then = live.specifiers(), locked.declared
    said = [f"{name}{now[name]} is new" for name in sorted(now.keys() - then.keys())]
    said += [f"{name}{then[name]} is gone" for name in sorted(then.keys() - now.keys())]
    said += [
        f"{name} was {then[name] or 'of any version'}, is {now[name] or 'of any version'}"
        for name in sorted(now.keys() & then.keys())
        if now[name] != then[name]
    ]
    if live.python != locked.python:
        said.append(f"python was {locked.python or 'not declared'}, is {live.python or 'not declared'}")
    return "; ".join(said) or "the requirements' hash differs"


def _remedy() -> str:
    return f"Run `{command('lock')}` and then `{command('push')}`."
