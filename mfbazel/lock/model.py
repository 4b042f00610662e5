"""What a lock is made of: platforms, environments, pins and wheels.

Names of distributions are normalized as the packaging specifications say (lower case, runs of ``-_.`` become ``-``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name

from mfbazel.build.errors import BuildError
from mfbazel.build.git import parse_git_url
from mfbazel.lock.errors import LockError
from mfbazel.lock.origin import BUILD_PREFIX, LABEL, Source
from mfbazel.plan import BUDGET
from mfbazel.policy import Rules
from mfbazel.wheel.fetch import redact

LAUNCHER = "_launcher"
"""The environment that runs Metaflow's command line on the machine that launches; it is no image."""

RUNTIME_SOURCE = "metaflow (runtime)"
"""What the ``# via`` annotations call the origin of what Metaflow needs in images."""

OVERRIDE_SOURCE = "mfbazel.toml (overrides)"
"""What the ``# via`` annotations call the overrides of the repository's policy."""

RESOLVERS = ("uv", "pip-tools")

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_LOWEST_GLIBC_MINOR = {"amd64": 5, "arm64": 17}
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
UV_GLIBCS = ("2.17", "2.28", *(f"2.{minor}" for minor in range(31, 41)))
"""The glibc versions that uv can resolve for."""


@dataclass(frozen=True, order=True)
class Platform:
    """An image platform in the notation of OCI, ``linux/amd64`` or ``linux/arm64``."""

    architecture: str

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``text``.

        Raises:
            LockError: it is not a platform that images are built for.
        """
        system, _, architecture = text.partition("/")
        if system != "linux" or architecture not in _MACHINES:
            choices = ", ".join(f"linux/{name}" for name in _MACHINES)
            raise LockError(f"attribute `platforms`: '{text}' is not supported; choose from {choices}")
        return cls(architecture)

    def __str__(self) -> str:
        return f"linux/{self.architecture}"

    @property
    def machine(self) -> str:
        """``platform_machine`` of environment markers."""
        return _MACHINES[self.architecture]

    def for_uv(self, glibc: str) -> str:
        """Return the value of uv's ``--python-platform``.

        Raises:
            LockError: uv does not know the glibc version.
        """
        if glibc not in UV_GLIBCS:
            raise LockError(f"attribute `glibc`: '{glibc}' is not supported; choose from {', '.join(UV_GLIBCS)}")
        return f"{self.machine}-manylinux_{glibc.replace('.', '_')}"

    def tags(self, python: str, glibc: str) -> list[Tag]:
        """Return the tags of wheels that CPython ``python`` (X.Y) accepts here, best first (PEP 425, PEP 600)."""
        version = tuple(int(part) for part in python.split("."))
        platforms = list(self._platform_tags(glibc))
        digits = "".join(python.split("."))
        native = cpython_tags(version, abis=[f"cp{digits}"], platforms=platforms)
        return [*native, *compatible_tags(version, interpreter=f"cp{digits}", platforms=platforms)]

    def _platform_tags(self, glibc: str) -> Iterator[str]:
        yield f"linux_{self.machine}"
        for minor in range(int(glibc.partition(".")[2]), _LOWEST_GLIBC_MINOR[self.architecture] - 1, -1):
            yield f"manylinux_2_{minor}_{self.machine}"
            if minor in _LEGACY:
                yield f"{_LEGACY[minor]}_{self.machine}"


@dataclass(frozen=True)
class Wanted:
    """One requirement of an environment and where it was written.

    ``text`` is a PEP 508 requirement, ``where`` what a person looks up (``churn_flow.py:40 (@pypi)``); ``imported`` is
    the name of the import that it was added for.
    """

    text: str
    where: str
    imported: str | None = None

    @property
    def name(self) -> str:
        """The normalized name of the distribution."""
        return canonicalize_name(Requirement(self.text).name)

    def concerns(self, environment: Environment, names: Collection[str]) -> bool:
        """Say whether it is about one of the distributions ``names`` and its marker, if any, is true for
        ``environment`` on some platform (PEP 508)."""
        marker = Requirement(self.text).marker
        return self.name in names and (marker is None or any(map(marker.evaluate, _marker_values(environment.python))))


@dataclass(frozen=True)
class Environment:
    """One environment to lock.

    Attributes:
        name: the step's name, :data:`LAUNCHER`, or any name of a lock without a flow.
        python: ``X.Y``.
        wanted: what the environment declares.
        runtime: what Metaflow needs in an image; left out where ``wanted`` names the same distribution.
        source: what the ``# via`` annotations call the origin of ``wanted``.
        dependencies: whether what the distributions need is locked, too.
        gpu: whether the step requests a GPU.
    """

    name: str
    python: str
    wanted: tuple[Wanted, ...]
    runtime: tuple[Wanted, ...] = ()
    source: str = ""
    dependencies: bool = True
    gpu: bool = False

    @property
    def builds(self) -> bool:
        """Whether it holds the build requirements of a source."""
        return self.name.startswith(BUILD_PREFIX)

    @property
    def kept_runtime(self) -> tuple[Wanted, ...]:
        """``runtime`` without the distributions that the environment declares itself."""
        declared = {wanted.name for wanted in self.wanted}
        return tuple(wanted for wanted in self.runtime if wanted.name not in declared)

    @property
    def requirements(self) -> list[str]:
        """The declared requirements, sorted."""
        return sorted({wanted.text for wanted in self.wanted})

    @property
    def runtime_requirements(self) -> list[str]:
        """The runtime requirements that apply, sorted."""
        return sorted({wanted.text for wanted in self.kept_runtime})


def _marker_values(python: str) -> Iterator[dict[str, str]]:
    """Yield what the variables of markers are on each platform, as far as a lock knows."""
    for machine in _MACHINES.values():
        yield {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "sys_platform": "linux",
        }


@dataclass(frozen=True)
class Pin:
    """One resolved distribution. ``via``: the distributions (and sources, as the resolver wrote them) that
    asked for it."""

    name: str
    version: str
    via: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """What a wheel tells of itself.

    Attributes:
        modules: what can be imported from it (see :func:`mfbazel.lock.wheels.modules.modules_of`).
        license: see :func:`mfbazel.lock.wheels.licenses.license_in`.
    """

    modules: tuple[str, ...]
    license: str


@dataclass(frozen=True)
class LockedWheel:
    """The wheel that one pin means on one platform.

    Attributes:
        size: in bytes; -1 while it is not known.
        contents: ``None``: not asked for.
        source: where it comes from when that is no index.
    """

    name: str
    version: str
    file: str
    sha256: str
    size: int = -1
    contents: Contents | None = None
    source: Source | None = None

    @property
    def modules(self) -> tuple[str, ...] | None:
        """What can be imported from it; ``None``: not asked for."""
        return self.contents.modules if self.contents else None


@dataclass(frozen=True)
class FirstPartyWheel:
    """A wheel of this workspace.

    Attributes:
        label: as ``//package:name``.
        kind: ``FILE``: it is checked in; ``LABEL``: a target makes it (see :mod:`mfbazel.lock.origin`).
        path: where it lies now.
        dependencies: its ``Requires-Dist``.
    """

    label: str
    kind: str
    path: Path
    name: str
    version: str
    sha256: str
    size: int
    dependencies: tuple[str, ...]
    contents: Contents

    @property
    def file(self) -> str:
        """Its file name."""
        return self.path.name

    @property
    def made(self) -> bool:
        """Whether a target makes it: then nothing is locked that changes with every edit."""
        return self.kind == LABEL

    @property
    def source(self) -> Source:
        """What a lock says of its origin."""
        return Source(self.kind, label=self.label, dependencies=self.dependencies if self.made else ())


@dataclass(frozen=True)
class Recorded:
    """A ``wheel`` with a source, as an old lock has it, and the wheels of what building it required."""

    wheel: LockedWheel
    requirements: tuple[LockedWheel, ...]

    @property
    def source(self) -> Source:
        """What it was built from."""
        assert self.wheel.source is not None
        return self.wheel.source


@dataclass(frozen=True)
class LockedEnvironment:
    """An environment with what was chosen for it.

    Attributes:
        pins: per platform the pins by name.
        wheels: per platform the wheels, ordered by distribution name.
    """

    environment: Environment
    pins: Mapping[str, Mapping[str, Pin]]
    wheels: Mapping[str, Sequence[LockedWheel]]


@dataclass(frozen=True)
class Index:
    """An index from which some distributions come, and nothing else does.

    Attributes:
        name: what flow.json calls it.
        url: of the simple repository API (PEP 503), with ``${VARIABLE}`` for what differs between machines.
        packages: patterns (:mod:`fnmatch`) on normalized names.
        gpu: ``True``: for steps that request a GPU; ``False``: for the others; ``None``: for all.
        where: what a person looks up.
    """

    name: str
    url: str
    packages: tuple[str, ...]
    gpu: bool | None = None
    where: str = ""

    def takes(self, distribution: str) -> bool:
        """Say whether the normalized name ``distribution`` is one of ``packages``."""
        return any(fnmatchcase(distribution, pattern) for pattern in self.packages)


@dataclass(frozen=True)
class Policy:
    """What all flows of a repository share (see :func:`mfbazel.lock.policy.read_policy`).

    Attributes:
        constraints: limits for the versions of what is required anyway.
        overrides: requirements that replace what distributions say of the same distribution.
        indexes: where some distributions come from; of several that take one, the first counts.
        build: normalized names of the distributions that are built from source.
        defaults: ``platforms``, ``glibc``, ``resolver`` and ``budget`` of flows that do not say.
        rules: what is allowed.
    """

    constraints: tuple[Wanted, ...] = ()
    overrides: tuple[Wanted, ...] = ()
    indexes: tuple[Index, ...] = ()
    build: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)

    def indexes_for(self, environment: Environment) -> tuple[Index, ...]:
        """Return the indexes that count for ``environment``."""
        return tuple(index for index in self.indexes if index.gpu in (None, environment.gpu))

    def concerning(self, environment: Environment, names: Collection[str]) -> dict[str, Any]:
        """Return what of the policy concerns the distributions ``names`` locked for ``environment``, as flow.json
        has it: a change of anything else does not touch the lock."""
        indexes = self.indexes_for(environment)
        pinned = {name: next((index.name for index in indexes if index.takes(name)), "") for name in sorted(names)}
        found: dict[str, Any] = {
            "constraints": sorted({item.text for item in self.constraints if item.concerns(environment, names)}),
            "overrides": sorted({item.text for item in self.overrides if item.concerns(environment, names)}),
            "indexes": {name: index for name, index in pinned.items() if index},
            # What builds is itself installed from wheels.
            "build": [] if environment.builds else sorted(set(self.build) & set(names)),
        }
        return {key: value for key, value in found.items() if value}


@dataclass(frozen=True)
class BuildPolicy:
    """What of a policy holds for build requirements: requirements, and the indexes of steps without a GPU."""

    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()


@dataclass(frozen=True)
class Settings:
    """How to resolve.

    Attributes:
        label: of the flow, ``//package:name``.
        platforms: in the order to write them.
        glibc: the oldest C library of the images, ``2.Y``.
        resolver: ``uv`` or ``pip-tools``.
        budget: layers of packages per image, at most.
        policy: what the repository says; ``build`` includes what the flow says itself.
        upgrade: forget the locked versions; ``upgrade_packages``: of these distributions.
        limits: requirements that the versions of upgraded packages must meet this time.
        only: the environments to resolve, the others are kept; empty for all.
        wheels: those of this workspace, one per distribution; no other wheel of these distributions is taken.
    """

    label: str
    platforms: tuple[Platform, ...]
    glibc: str = "2.28"
    resolver: str = "uv"
    budget: int = BUDGET
    policy: Policy = field(default_factory=Policy)
    upgrade: bool = False
    upgrade_packages: tuple[str, ...] = ()
    limits: tuple[Wanted, ...] = ()
    only: tuple[str, ...] = ()
    wheels: tuple[FirstPartyWheel, ...] = ()

    @property
    def command(self) -> str:
        """The command that makes the lock."""
        return f"bazel run {self.label}.lock"


def parse_wanted(text: str, where: str) -> Wanted:
    """Check and normalize the requirement ``text`` that stands at ``where``.

    Raises:
        LockError: it is not a PEP 508 requirement, or names a URL that is not that of a git repository.
    """
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise LockError(f"{where}: '{text}' is not a requirement: {str(error).splitlines()[0]}") from error
    if requirement.url:
        try:
            parse_git_url(requirement.url)
        except BuildError as error:
            raise LockError(
                f"{where}: '{requirement.name}' is required from the URL {redact(requirement.url)}: {error}. Of URLs, "
                "a lock takes those of git repositories. Otherwise put a wheel on your index or into pip's "
                "`find-links` and require its version, or name its label in the attribute `wheels`."
            ) from error
    requirement.name = canonicalize_name(requirement.name)
    return Wanted(str(requirement), where)


def parse_python(text: str, where: str) -> str:
    """Return ``X.Y`` of the Python version ``text`` (``X.Y`` or ``X.Y.Z``) that stands at ``where``.

    Raises:
        LockError: it is something else.
    """
    match = re.fullmatch(r"(3\.\d+)(\.\d+)?", text)
    if not match:
        raise LockError(f"{where}: Python version '{text}' is not of the form 3.Y or 3.Y.Z")
    return match.group(1)
