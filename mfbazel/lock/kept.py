"""What of an old lock still holds: an environment of which nothing that decides it has changed is not resolved again.

So a lock command without changes asks nobody, and steps that a change does not touch stay as they were reviewed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from mfbazel.lock.document import Lock
from mfbazel.lock.model import Environment, LockedEnvironment, Pin, Settings
from mfbazel.lock.requirements_txt import parse_annotations
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
        wheels = {platform: [self.lock.wheel(sha) for sha in shas] for platform, shas in entry["wheels"].items()}
        if any(wheel.contents is None for found in wheels.values() for wheel in found) and self.lock.document["flow"]:
            return None
        via = parse_annotations(self.lock.texts[entry["file"]])
        if not _annotated(environment, via):
            return None
        pins = {
            platform: {wheel.name: Pin(wheel.name, wheel.version, via[wheel.name, wheel.version]) for wheel in found}
            for platform, found in wheels.items()
        }
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
