"""Turning a resolver's failure into an error about steps, decorators and attributes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from packaging.utils import canonicalize_name

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import LAUNCHER, Environment, Settings, Wanted
from mfbazel.lock.resolver.request import Request, ResolverFailure

_PIP_HINT = "see `python3 -m pip config list` and the PIP_* and UV_* environment variables"
_HAS_SDIST = re.compile(r"Wheels are required for `([^`]+)`")
_NO_SDIST = re.compile(r"A source distribution is required for `([^`]+)`")
_NO_VERSION = re.compile(r"No matching distribution found for ([A-Za-z0-9][A-Za-z0-9._-]*)")
_NO_WHEEL = re.compile(
    r"has no wheels|no usable wheels|no wheels with a matching|Wheels are required for|has no wheels that fit|"
    r"wheels? .{0,40}not compatible"
)


def explain(
    failure: ResolverFailure, request: Request, members: Sequence[Environment], settings: Settings
) -> LockError:
    """Return the error for ``failure`` of ``request``, which stands for the environments ``members``."""
    who = _who(members)
    if failure.unreachable:
        return LockError(
            f"{who}: a package index could not be reached, so nothing was locked\n{_indented(failure.text)}\n"
            f"Your pip (or uv) configuration decides which indexes are asked: {_PIP_HINT}{_of_policy(request)}."
        )
    policy = (*settings.policy.constraints, *settings.policy.overrides, *settings.limits)
    named = _named_in(failure.text, (*_all(members), *policy))
    if _NO_WHEEL.search(failure.text):
        headline = f"{who}: no wheel for {request.platform} and Python {request.python}{_packages(named)}"
        advice = (
            "Only wheels are installed. Require a version that has a wheel for this platform (attribute `platforms`, "
            f"`glibc` = {request.glibc}) and Python (attribute `python`), or build one and add it to your "
            f"index or to pip's "
            "`find-links`."
        )
    else:
        headline = f"{who}: the requirements cannot be met{_packages(named)}"
        advice = f"Change one of the requirements above, then run `{settings.command}`."
    lines = [headline, *_origins(named or _all(members)), _indented(failure.text), advice]
    lines += [*_building(failure.text, request.build), *_renaming(named)]
    return LockError("\n".join(lines))


def _building(text: str, build: Collection[str]) -> list[str]:
    """Say how to allow building what has an sdist, and what is built and has none; uv says so, pip does not tell."""
    found = [*_HAS_SDIST.findall(text), *_NO_SDIST.findall(text)] or _NO_VERSION.findall(text)
    names = list(dict.fromkeys(map(canonicalize_name, found)))
    lines = [
        f"`build` (attribute, or mfbazel.toml) has {name}: it is built from its sdist, and no index has one that fits."
        for name in names
        if name in build
    ]
    said = ", ".join(f'"{name}"' for name in names if name not in build)
    if said:
        lines.append(
            "If the index has an sdist of it and you trust that, it can be built, which runs its code: attribute "
            f"`build = [{said}]` of the flow, or `build` below [lock] in mfbazel.toml."
        )
    return lines


def _of_policy(request: Request) -> str:
    names = ", ".join(index.name for index in request.indexes)
    return f"; and mfbazel.toml, for what it takes from {names}" if names else ""


def _renaming(named: Sequence[Wanted]) -> list[str]:
    """Say how to name the package of an import."""
    names = dict.fromkeys(item.imported for item in named if item.imported)
    if not names:
        return []
    said = ", ".join(f'"{name}": "…"' for name in names)
    return [f"If another package provides an import, name it: `imports = {{{said}}}`."]


def _who(members: Sequence[Environment]) -> str:
    names = ["the launcher" if member.name == LAUNCHER else f"'{member.name}'" for member in members]
    if names == ["the launcher"]:
        return "the launcher's environment"
    return f"step {names[0]}" if len(names) == 1 else f"steps {', '.join(names)}"


def _all(members: Sequence[Environment]) -> list[Wanted]:
    wanted = [item for member in members for item in (*member.wanted, *member.kept_runtime)]
    return list(dict.fromkeys(wanted))


def _named_in(text: str, candidates: Sequence[Wanted]) -> list[Wanted]:
    """Return the requirements whose distribution the resolver's text mentions."""
    words = {canonicalize_name(word) for word in re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)}
    words |= {canonicalize_name(word.rstrip(".")) for word in re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)}
    return [wanted for wanted in candidates if wanted.name in words]


def _packages(named: Sequence[Wanted]) -> str:
    names = list(dict.fromkeys(wanted.name for wanted in named))
    return f": {', '.join(names)}" if names else ""


def _origins(wanted: Sequence[Wanted]) -> list[str]:
    return [f"  {item.where}: {item.text}" for item in wanted]


def _indented(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.splitlines())
