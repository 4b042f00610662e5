"""What a resolver is asked, and what it answers when it cannot."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from packaging.utils import canonicalize_name

from mfbazel.lock.model import BuildPolicy, FirstPartyWheel, Index, Pin, Platform, Recorded

WANTED, RUNTIME, CONSTRAINTS, OUTPUT = "wanted.in", "runtime.in", "constraints.in", "resolved.txt"
OVERRIDES = "overrides.in"


@dataclass(frozen=True)
class Request:
    """One resolution.

    Attributes:
        python: ``X.Y``.
        wanted, runtime, constraints: PEP 508 requirements.
        overrides: requirements that replace what distributions say of the same distribution.
        indexes: where some distributions come from, and nothing else does.
        build: normalized names of the distributions that are built from source.
        local: URLs of wheels on this machine, by normalized name: no other wheel of these distributions is taken.
        recorded: what an old lock knows of wheels that were built from source.
        building: what holds for the build requirements of others.
        wheels: of this workspace; no other wheel of these distributions is taken.
        preferences: pins to keep where nothing forces another version.
        dependencies: whether what the distributions need is wanted, too.
        upgrade: forget ``preferences``; ``upgrade_packages``: forget them for these distributions.
    """

    python: str
    platform: Platform
    glibc: str
    wanted: tuple[str, ...]
    runtime: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    preferences: Mapping[str, str] = field(default_factory=dict)
    upgrade: bool = False
    upgrade_packages: tuple[str, ...] = ()
    dependencies: bool = True
    overrides: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    build: frozenset[str] = frozenset()
    local: Mapping[str, str] = field(default_factory=dict)
    recorded: tuple[Recorded, ...] = ()
    building: BuildPolicy = field(default_factory=BuildPolicy)
    wheels: tuple[FirstPartyWheel, ...] = ()

    @property
    def kept(self) -> dict[str, str]:
        """The preferences that remain after ``upgrade`` and ``upgrade_packages``."""
        if self.upgrade:
            return {}
        upgraded = set(map(canonicalize_name, self.upgrade_packages))
        return {name: version for name, version in sorted(self.preferences.items()) if name not in upgraded}

    def write(self, directory: Path, output: Mapping[str, str], constraints: Mapping[str, str]) -> list[str]:
        """Write the input files into ``directory``; return the arguments that name them, relative to it.

        ``output`` are the pins of the output file, which resolvers prefer; ``constraints`` are added to those of the
        request.
        """
        _write(directory / WANTED, self.wanted)
        _write(directory / RUNTIME, self.runtime)
        _write(directory / OUTPUT, _pinned(output))
        _write(directory / OVERRIDES, self.overrides)
        limits = [*self.constraints, *_pinned(constraints), *(f"{name} @ {url}" for name, url in self.local.items())]
        _write(directory / CONSTRAINTS, limits)
        arguments = [WANTED, RUNTIME] if self.runtime else [WANTED]
        return [*arguments, "--constraint", CONSTRAINTS] if limits else arguments


def _pinned(versions: Mapping[str, str]) -> list[str]:
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def words(text: str) -> frozenset[str]:
    """Return what may be a distribution's name in a resolver's ``text``, normalized."""
    return frozenset(map(canonicalize_name, re.findall(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", text)))


class Resolver(Protocol):
    """Chooses versions."""

    def pins(self, request: Request) -> dict[str, Pin]:
        """Return the pins by normalized name, annotations as the resolver wrote them.

        Raises:
            ResolverFailure: there is no solution, an index is unreachable, or the tool failed otherwise.
            LockError: the resolver cannot resolve for this Python or platform.
        """
        ...


class ResolverFailure(Exception):
    """A resolver's own words, credentials redacted. ``unreachable``: an index could not be asked."""

    def __init__(self, text: str, *, unreachable: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.unreachable = unreachable
