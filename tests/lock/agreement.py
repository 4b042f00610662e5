"""Whether uv and pip-tools choose the same versions, and if not, why: an explanation counts only when it is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from packaging.version import Version

from mfbazel.lock.resolver.request import Request, Resolver, ResolverFailure

Versions = Mapping[str, str]
_UNSOLVED = re.compile(
    r"No solution found|ResolutionImpossible|No matching distribution found|Could not find a version that"
)


@dataclass(frozen=True)
class Answer:
    """What a resolver says. ``versions``: by name, ``None`` when there is no solution; ``failure``: why not."""

    versions: Versions | None
    failure: str = ""


@dataclass(frozen=True)
class Comparison:
    """The answers of both resolvers to the same request.

    Attributes:
        explanation: why they differ, checked; empty when they are equal, or when the reason is not known.
    """

    uv: Answer
    pip: Answer
    explanation: str = ""

    @property
    def equal(self) -> bool:
        """Whether both have the same versions, or neither has a solution."""
        return self.uv.versions == self.pip.versions

    @property
    def differences(self) -> list[str]:
        """One line per package whose versions differ."""
        uv, pip = self.uv.versions or {}, self.pip.versions or {}
        names = sorted(name for name in {*uv, *pip} if uv.get(name) != pip.get(name))
        return [f"{name}: uv {uv.get(name, 'none')}, pip-tools {pip.get(name, 'none')}" for name in names]


def ask(resolver: Resolver, request: Request) -> Answer:
    """Return what ``resolver`` answers to ``request``.

    Raises:
        mfbazel.lock.errors.LockError: it cannot be asked.
        ResolverFailure: it failed in another way than by finding no solution.
    """
    try:
        return Answer({name: pin.version for name, pin in resolver.pins(request).items()})
    except ResolverFailure as failure:
        if failure.unreachable or not _UNSOLVED.search(failure.text):
            raise
        return Answer(None, failure.text)


def compare(request: Request, uv: Resolver, pip: Resolver) -> Comparison:
    """Ask ``uv`` and ``pip`` (pip-tools), and look for the reason when they differ. Raises as :func:`ask`."""
    found = Comparison(ask(uv, request), ask(pip, request))
    return found if found.equal else replace(found, explanation=_explain(found, request, uv, pip))


def _explain(found: Comparison, request: Request, uv: Resolver, pip: Resolver) -> str:
    """Return a reason that has been checked, else nothing."""
    if ask(uv, request).versions == found.pip.versions:
        return "the index changed between the two questions: asked again, uv answers as pip-tools does"
    if found.uv.versions is None or found.pip.versions is None:
        return ""
    early = [line for line in found.differences if _has_prerelease(line)]
    accepted = _accepts(uv, request, found.pip.versions), _accepts(pip, request, found.uv.versions)
    if all(accepted):
        traded = _traded(found.uv.versions, found.pip.versions)
        return f"both are solutions, each resolver accepts that of the other: {traded}"
    if early and any(accepted):
        who = "uv" if accepted[0] else "pip-tools"
        return f"pre-releases are taken by one resolver only ({'; '.join(early)}); {who} accepts both solutions"
    return ""


def _accepts(resolver: Resolver, request: Request, versions: Versions) -> bool:
    """Say whether exactly ``versions`` are a solution for ``resolver``, too."""
    pinned = tuple(f"{name}=={version}" for name, version in sorted(versions.items()))
    return ask(resolver, replace(request, constraints=(*request.constraints, *pinned))).versions == versions


def _traded(uv: Versions, pip: Versions) -> str:
    """Say what each resolver has newer, or has and the other has not."""
    newer = {name: Version(uv[name]) > Version(pip[name]) for name in uv.keys() & pip.keys() if uv[name] != pip[name]}
    sides = {
        "uv": [*(name for name, own in newer.items() if own), *(uv.keys() - pip.keys())],
        "pip-tools": [*(name for name, own in newer.items() if not own), *(pip.keys() - uv.keys())],
    }
    said = [f"{side} has {', '.join(sorted(names))} newer" for side, names in sides.items() if names]
    return "; ".join(said) if len(said) > 1 else f"{said[0]}, which the other gave up while it searched"


def _has_prerelease(difference: str) -> bool:
    words = difference.replace(",", "").split()
    return any(Version(word).is_prerelease for word in words if word[0].isdigit())
