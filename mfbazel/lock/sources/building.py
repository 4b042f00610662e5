"""Locking how a source becomes a wheel: its build requirements, pinned, and the wheel that they make of it.

The build requirements are what the source's ``pyproject.toml`` names and what its backend asks for besides (PEP 517,
PEP 518), resolved by uv to wheels like everything else, for the Python that builds and a machine like the images'. The
wheel is made by the code that the build's action runs (:mod:`mfbazel.build`), so that both make the same bytes.
"""

from __future__ import annotations

import platform as host
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfbazel.build.normalise import Built
from mfbazel.build.pep517 import Recipe, build_wheel, check_built, requirements_of
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Environment, LockedWheel, Pin, Platform, Recorded, Wanted
from mfbazel.lock.origin import BUILD_PREFIX, GIT, Source
from mfbazel.lock.resolver.request import Request, ResolverFailure
from mfbazel.lock.resolver.uv import FoundWheel, Uv, local_path
from mfbazel.wheel.fetch import Wheel, fetch

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class BuildRequirements:
    """What building a source requires: the ``environment``, the ``platform`` that builds, pins and wheels by name."""

    environment: Environment
    platform: Platform
    pins: Mapping[str, Pin]
    wheels: Mapping[str, FoundWheel]


@dataclass
class Builder:
    """Builds wheels from source archives in ``directory``.

    Attributes:
        uv: resolves build requirements.
        directory: exists; wheels and archives are put there, each into a directory of its own.
    """

    uv: Uv
    directory: Path

    def build(self, archive: Path, source: Source, who: str, request: Request) -> tuple[Built, BuildRequirements]:
        """Lock the build requirements of ``archive`` and build it.

        Args:
            archive: of ``source``.
            who: what messages call it.
            request: the resolution that needs it; its floor of the C library holds for build requirements, too.

        Raises:
            LockError: the build requirements cannot be had.
            mfbazel.build.errors.BuildError: it cannot be built.
        """
        static = requirements_of(self._recipe(archive, source, who)).static
        locked = self._locked(static, source, who, request)
        recipe = self._recipe(archive, source, who, self._wheels(locked.wheels.values()))
        asked = requirements_of(recipe)
        if set(asked.all) != set(static):
            locked = self._locked(asked.all, source, who, request)
            recipe = self._recipe(archive, source, who, self._wheels(locked.wheels.values()))
        return build_wheel(recipe, self.place()), locked

    def build_again(self, archive: Path, recorded: Recorded) -> Built:
        """Build the wheel that an old lock has, from the build requirements that it has.

        Raises:
            mfbazel.build.errors.BuildError: it cannot be built, or becomes another one.
            mfbazel.wheel.fetch.FetchError: a requirement cannot be had.
        """
        wheel = recorded.wheel
        recipe = self._recipe(
            archive,
            recorded.source,
            f"{wheel.name} {wheel.version}",
            [self._fetch(requirement, None) for requirement in recorded.requirements],
        )
        built = build_wheel(recipe, self.place())
        check_built(built, wheel.name, wheel.version, wheel.file, wheel.sha256)
        return built

    def place(self) -> Path:
        """Make a directory of its own."""
        return Path(tempfile.mkdtemp(dir=self.directory))

    def _recipe(self, archive: Path, source: Source, who: str, wheels: Sequence[Path] = ()) -> Recipe:
        return Recipe(archive, tuple(wheels), who, source.subdirectory)

    def _locked(self, requirements: Sequence[str], source: Source, who: str, request: Request) -> BuildRequirements:
        platform = building_platform(request)
        asked = Request(
            _PYTHON,
            platform,
            request.glibc,
            tuple(requirements),
            constraints=request.building.constraints,
            overrides=request.building.overrides,
            indexes=request.building.indexes,
        )
        origin = f"{who} (build requirements)"
        try:
            pins = self.uv.pins(asked) if requirements else {}
            wheels = self.uv.wheels(asked, pins)
        except ResolverFailure as failure:
            raise LockError(
                f"{who}: its build requirements ({', '.join(requirements)}) cannot be had as wheels for Python "
                f"{_PYTHON} on {platform}:\n" + "\n".join(f"  | {line}" for line in failure.text.splitlines())
            ) from failure
        wanted = tuple(Wanted(text, origin) for text in requirements)
        return BuildRequirements(Environment(source.requires, _PYTHON, wanted, source=origin), platform, pins, wheels)

    def _wheels(self, found: Iterable[FoundWheel]) -> list[Path]:
        return [local_path(wheel.url) or self._fetch(wheel, wheel.origin) for wheel in found]

    def _fetch(self, wheel: FoundWheel | LockedWheel, index: tuple[str, str] | None) -> Path:
        asked = Wheel(wheel.name, wheel.version, wheel.file, wheel.sha256)
        return fetch(asked, self.place() / wheel.file, index=index)


def building_platform(request: Request) -> Platform:
    """Return the platform of the machine that builds: this one, or on another system than Linux the request's."""
    architecture = _MACHINES.get(host.machine().lower(), "")
    return Platform(architecture) if sys.platform.startswith("linux") and architecture else request.platform


def environment_name(source: Source, name: str, version: str) -> str:
    """Return the name of the environment of build requirements of ``source``, which no other source of a lock has."""
    return f"{BUILD_PREFIX}{name}-{source.commit[:12] if source.kind == GIT else version}"
