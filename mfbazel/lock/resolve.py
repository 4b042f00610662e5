"""Resolving environments: one resolution per distinct Python, requirement set and platform, several at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from mfbazel.lock.errors import LockError
from mfbazel.lock.explain import explain
from mfbazel.lock.model import LAUNCHER, Environment, LockedEnvironment, LockedWheel, Pin, Platform, Settings
from mfbazel.lock.modules import Modules
from mfbazel.lock.piptools import PipTools
from mfbazel.lock.request import RUNTIME, WANTED, Request, Resolver, ResolverFailure
from mfbazel.lock.requirements_txt import rename_sources
from mfbazel.lock.sizes import Sizes
from mfbazel.lock.uv import FoundWheel, Uv

RESOLVERS = ("uv", "pip-tools")
_AT_ONCE = 4
_Pins = dict[str, Pin]
_Preferences = Mapping[str, str]


@dataclass(frozen=True)
class _Key:
    """What makes two environments the same resolution."""

    python: str
    wanted: tuple[str, ...]
    runtime: tuple[str, ...]
    preferences: tuple[tuple[str, str], ...]
    dependencies: bool
    launcher: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Result:
    """Pins and wheels of one resolution, per platform."""

    pins: Mapping[str, _Pins]
    wheels: Mapping[str, Mapping[str, FoundWheel]]


@dataclass
class Locker:
    """Resolves environments as ``settings`` say.

    Attributes:
        previous: per environment the versions by name of the old lock, which are kept where possible.
        sizes: sizes known from the old lock.
        modules: the same for the names of modules; ``None`` when they are not wanted.
        report: called with one line when something is done.
    """

    settings: Settings
    previous: Mapping[str, _Preferences] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)
    modules: Modules | None = None
    report: Callable[[str], None] = lambda _line: None
    uv: Uv = field(default_factory=Uv)
    _results: dict[_Key, _Result] = field(default_factory=dict)

    def lock(self, environments: Sequence[Environment]) -> list[LockedEnvironment]:
        """Resolve ``environments``, the launcher's first: its pins hold for runtime requirements elsewhere.

        What has been resolved by this object is not resolved again.

        Raises:
            LockError: no solution, no wheel for a platform, or an index is unreachable.
        """
        launchers = [environment for environment in environments if environment.name == LAUNCHER]
        others = [environment for environment in environments if environment.name != LAUNCHER]
        results = self._resolve_all(launchers, {})
        results.update(self._resolve_all(others, self._launcher_pins(launchers, results)))
        wheels = [wheel for result in results.values() for found in result.wheels.values() for wheel in found.values()]
        sizes = self.sizes.complete(wheels)
        modules = self.modules.complete(wheels, sizes) if self.modules else {}
        return [_locked(environment, results[environment.name], sizes, modules) for environment in environments]

    def _launcher_pins(
        self, launchers: Sequence[Environment], results: Mapping[str, _Result]
    ) -> dict[str, _Preferences]:
        """Return the launcher's pins under its Python version."""
        return {
            launcher.python: {
                name: pin.version for pins in results[launcher.name].pins.values() for name, pin in pins.items()
            }
            for launcher in launchers
        }

    def _resolve_all(
        self, environments: Sequence[Environment], launcher: Mapping[str, _Preferences]
    ) -> dict[str, _Result]:
        groups: dict[_Key, list[Environment]] = {}
        for environment in environments:
            groups.setdefault(self._key(environment, launcher), []).append(environment)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            futures = {
                key: pool.submit(self._resolve, key, members, launcher.get(key.python, {}))
                for key, members in groups.items()
                if key not in self._results
            }
            failures = [error for error in (future.exception() for future in futures.values()) if error]
        for error in failures:
            if not isinstance(error, LockError):
                raise error
        if failures:
            raise LockError("\n\n".join(dict.fromkeys(str(error) for error in failures)))
        self._results.update((key, future.result()) for key, future in futures.items())
        return {member.name: self._results[key] for key, members in groups.items() for member in members}

    def _key(self, environment: Environment, launcher: Mapping[str, _Preferences]) -> _Key:
        """Steps with equal requirements are resolved once, unless their old pins differ."""
        pinned = {name: version for pins in launcher.values() for name, version in pins.items()}
        preferences = {**pinned, **self.previous.get(environment.name, {})}
        if self.settings.upgrade:
            preferences = {}
        return _Key(
            environment.python,
            tuple(environment.requirements),
            tuple(environment.runtime_requirements),
            tuple(sorted(preferences.items())),
            environment.dependencies,
            tuple(sorted(launcher.get(environment.python, {}).items())),
        )

    def _resolve(self, key: _Key, members: Sequence[Environment], launcher: _Preferences) -> _Result:
        pins: dict[str, _Pins] = {}
        wheels: dict[str, Mapping[str, FoundWheel]] = {}
        runtime = {wanted.name for member in members for wanted in member.kept_runtime}
        request = Request(
            key.python,
            self.settings.platforms[0],
            self.settings.glibc,
            key.wanted,
            key.runtime,
            tuple(sorted(f"{name}=={version}" for name, version in launcher.items() if name in runtime)),
            dict(key.preferences),
            self.settings.upgrade,
            self.settings.upgrade_packages,
            key.dependencies,
        )
        for platform in self.settings.platforms:
            # The versions of the first platform are preferred on the next ones.
            settled = {name: pin.version for chosen in pins.values() for name, pin in chosen.items()}
            asked = replace(request, platform=platform, preferences={**request.preferences, **settled})
            if settled:
                asked = replace(asked, upgrade=False, upgrade_packages=())
            pins[str(platform)], wheels[str(platform)] = self._one(asked, members)
            count = len(pins[str(platform)])
            self.report(f"resolved {_names(members)}: {count} packages for {platform}, Python {key.python}")
        return _Result(pins, wheels)

    def _one(self, request: Request, members: Sequence[Environment]) -> tuple[_Pins, Mapping[str, FoundWheel]]:
        try:
            pins = self._resolver().pins(request) if request.wanted or request.runtime else {}
            return pins, self.uv.wheels(pins, request.python, request.platform, request.glibc)
        except ResolverFailure as failure:
            raise explain(failure, request, members, self.settings) from failure

    def _resolver(self) -> Resolver:
        if self.settings.resolver not in RESOLVERS:
            raise LockError(
                f"attribute `resolver`: '{self.settings.resolver}' is unknown; choose from {', '.join(RESOLVERS)}"
            )
        return self.uv if self.settings.resolver == "uv" else PipTools()


def _names(members: Sequence[Environment]) -> str:
    return ", ".join(member.name for member in members)


def _locked(
    environment: Environment, result: _Result, sizes: Mapping[str, int], modules: Mapping[str, tuple[str, ...]]
) -> LockedEnvironment:
    sources = {WANTED: environment.source, RUNTIME: "metaflow (runtime)"}
    return LockedEnvironment(
        environment,
        {platform: rename_sources(pins, sources) for platform, pins in result.pins.items()},
        {
            platform: [_locked_wheel(wheels[name], sizes, modules) for name in sorted(wheels)]
            for platform, wheels in result.wheels.items()
        },
    )


def _locked_wheel(wheel: FoundWheel, sizes: Mapping[str, int], modules: Mapping[str, tuple[str, ...]]) -> LockedWheel:
    sha256 = wheel.sha256
    return LockedWheel(wheel.name, wheel.version, wheel.file, sha256, sizes[sha256], modules.get(sha256))


def resolve_platforms(texts: Sequence[str]) -> tuple[Platform, ...]:
    """Return the platforms named by ``texts``, each once, sorted.

    Raises:
        LockError: a platform is not supported, or there is none.
    """
    if not texts:
        raise LockError("attribute `platforms` is empty: name at least one, for example linux/amd64")
    return tuple(platform for platform, _ in itertools.groupby(sorted(Platform.parse(text) for text in texts)))
