"""What of an old lock still holds: an environment of which nothing that decides it has changed is not resolved again.

So a lock command without changes asks nobody, and steps that a change does not touch stay as they were reviewed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from mfbazel.lock.document import Lock
from mfbazel.lock.model import Environment, LockedEnvironment, LockedWheel, Pin, Recorded, Settings, Wanted
from mfbazel.lock.origin import GIT
from mfbazel.lock.requirements_txt import parse_annotations
from mfbazel.lock.sources.first_party import differences
from mfbazel.lock.stale import check_environment_file


@dataclass(frozen=True)
class Kept:
    """An old ``lock``, read for the ``settings`` of the new one."""

    lock: Lock
    settings: Settings

    def take(self, environment: Environment, launcher: Mapping[str, str]) -> LockedEnvironment | None:
        """Return ``environment`` as the old lock has it, or ``None`` when it has to be resolved.

        ``launcher``: versions by name that Metaflow's runtime requirements must have.
        """
        entry = self.lock.environments.get(environment.name)
        if entry is None or not self._says(entry, environment) or check_environment_file(self.lock, environment.name):
            return None
        versions = self.lock.versions(environment.name)
        if self._upgraded(environment, versions) or not _follows(environment, versions, launcher):
            return None
        kept = self._read(environment)
        if self.lock.document["flow"] and any(wheel.contents is None for wheel in _wheels(kept)):
            return None
        if not all(self._builds(wheel) for wheel in _wheels(kept)):
            return None
        if any(line for wheel in _wheels(kept) for line in differences(wheel, self.settings.wheels)):
            return None
        return kept if _annotated(environment, parse_annotations(self.lock.texts[entry["file"]])) else None

    def build_environment(self, name: str) -> LockedEnvironment | None:
        """Return the environment ``name`` of build requirements as the old lock has it, ``None`` when it does not
        hold."""
        entry = self.lock.environments.get(name)
        if entry is None or check_environment_file(self.lock, name):
            return None
        wanted = tuple(Wanted(text, name) for text in entry["requirements"])
        environment = Environment(name, entry["python"], wanted)
        policy = self.settings.policy.concerning(environment, self.lock.versions(name))
        return self._read(environment) if entry.get("policy", {}) == policy else None

    def recorded(self) -> tuple[Recorded, ...]:
        """Return the wheels that the old lock has from sources, but those that are to be made anew."""
        wheels = [self.lock.wheel(key) for key in sorted(self.lock.document["wheels"])]
        found = []
        for wheel in wheels:
            required = self._build_requirements(wheel)
            if required is not None and not self._forgotten(wheel):
                found.append(Recorded(wheel, tuple(dict.fromkeys(_wheels(required)))))
        return tuple(found)

    def _forgotten(self, wheel: LockedWheel) -> bool:
        """Say whether a built wheel is to be made anew: a branch or tag is looked up again, a build repeated."""
        settings = self.settings
        moves = wheel.source is not None and wheel.source.kind == GIT
        return wheel.name in settings.upgrade_packages or (settings.upgrade and (moves or not settings.only))

    def _build_requirements(self, wheel: LockedWheel) -> LockedEnvironment | None:
        return self.build_environment(wheel.source.requires) if wheel.source and wheel.source.requires else None

    def _builds(self, wheel: LockedWheel) -> bool:
        """Say whether what building ``wheel`` requires still holds."""
        required = wheel.source is not None and wheel.source.requires
        return not required or self._build_requirements(wheel) is not None

    def _read(self, environment: Environment) -> LockedEnvironment:
        entry = self.lock.environments[environment.name]
        wheels = {platform: [self.lock.wheel(sha) for sha in shas] for platform, shas in entry["wheels"].items()}
        via = parse_annotations(self.lock.texts[entry["file"]])

        def pin(wheel: LockedWheel) -> Pin:
            return Pin(wheel.name, wheel.version, via.get((wheel.name, wheel.version), ()))

        pins = {platform: {wheel.name: pin(wheel) for wheel in found} for platform, found in wheels.items()}
        return LockedEnvironment(environment, pins, wheels)

    def _says(self, entry: Mapping[str, Any], environment: Environment) -> bool:
        """Compare everything that decides a resolution."""
        document, settings = self.lock.document, self.settings
        names = self.lock.versions(environment.name)
        return (
            entry["python"] == environment.python
            and entry["requirements"] == environment.requirements
            and entry["runtime"] == environment.runtime_requirements
            and entry.get("dependencies", True) == environment.dependencies
            and entry.get("policy", {}) == settings.policy.concerning(environment, names)
            and set(entry["wheels"]) == set(map(str, settings.platforms))
            and (document["glibc"], document["resolver"]) == (settings.glibc, settings.resolver)
        )

    def _upgraded(self, environment: Environment, versions: Mapping[str, str]) -> bool:
        if self.settings.only and environment.name not in self.settings.only:
            return False
        names = set(map(canonicalize_name, self.settings.upgrade_packages))
        return self.settings.upgrade or bool(names & versions.keys())


def _follows(environment: Environment, versions: Mapping[str, str], launcher: Mapping[str, str]) -> bool:
    names = {wanted.name for wanted in environment.kept_runtime}
    return all(versions.get(name) == launcher[name] for name in names & launcher.keys())


def _annotated(environment: Environment, annotations: Mapping[tuple[str, str], tuple[str, ...]]) -> bool:
    """Say whether the annotations name the origin of the requirements as it is called now."""
    names = {wanted.name for wanted in environment.wanted}
    return all(environment.source in via for (name, _version), via in annotations.items() if name in names)


def _wheels(locked: LockedEnvironment) -> list[LockedWheel]:
    return [wheel for found in locked.wheels.values() for wheel in found]
