"""Resolving environments: one resolution per distinct Python, requirement set and platform, several at once."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from mfbazel.lock.errors import LockError
from mfbazel.lock.explain import explain
from mfbazel.lock.kept import Kept
from mfbazel.lock.model import (
    LAUNCHER,
    OVERRIDE_SOURCE,
    RESOLVERS,
    RUNTIME_SOURCE,
    BuildPolicy,
    Contents,
    Environment,
    FirstPartyWheel,
    Index,
    LockedEnvironment,
    LockedWheel,
    Pin,
    Platform,
    Recorded,
    Settings,
)
from mfbazel.lock.origin import BUILD_PREFIX, is_label
from mfbazel.lock.requirements_txt import rename_sources
from mfbazel.lock.resolver.finder import WheelFinder
from mfbazel.lock.resolver.piptools import PipTools
from mfbazel.lock.resolver.request import OVERRIDES, RUNTIME, WANTED, Request, Resolver, ResolverFailure
from mfbazel.lock.resolver.uv import FoundWheel, Uv
from mfbazel.lock.sources.building import BuildRequirements
from mfbazel.lock.sources.localized import Sources, check_allowed
from mfbazel.lock.wheels.modules import Modules
from mfbazel.lock.wheels.sizes import Sizes

_AT_ONCE = max(4, os.cpu_count() or 1)
_Pins = dict[str, Pin]
_Versions = Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """Everything that decides a resolution: two environments that ask the same are resolved once.

    Attributes:
        python: ``X.Y``.
        wanted, runtime: PEP 508 requirements.
        launcher: versions that the runtime requirements must have.
        preferences: versions that are kept where nothing forces others.
        constraints, overrides, indexes, build: of the repository's policy.
        recorded: what the old lock knows of wheels that were built from source, and is not to be forgotten.
        building: what holds for build requirements.
        wheels: those of this workspace.
    """

    python: str
    platforms: tuple[Platform, ...]
    glibc: str
    resolver: str
    wanted: tuple[str, ...]
    runtime: tuple[str, ...] = ()
    launcher: tuple[tuple[str, str], ...] = ()
    preferences: tuple[tuple[str, str], ...] = ()
    dependencies: bool = True
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    build: frozenset[str] = frozenset()
    upgrade: bool = False
    upgrade_packages: tuple[str, ...] = ()
    recorded: tuple[Recorded, ...] = ()
    building: BuildPolicy = field(default_factory=BuildPolicy)
    wheels: tuple[FirstPartyWheel, ...] = ()

    def request(self, platform: Platform) -> Request:
        """Return the question about one platform, as a resolver takes it."""
        return Request(
            self.python,
            platform,
            self.glibc,
            self.wanted,
            self.runtime,
            (*self.constraints, *(f"{name}=={version}" for name, version in self.launcher)),
            dict(self.preferences),
            self.upgrade,
            self.upgrade_packages,
            self.dependencies,
            self.overrides,
            self.indexes,
            self.build,
            recorded=self.recorded,
            building=self.building,
            wheels=self.wheels,
        )


@dataclass(frozen=True)
class Answer:
    """Pins and wheels of one resolution, per platform.

    ``built``: what building some of the wheels required.
    """

    pins: Mapping[str, _Pins]
    wheels: Mapping[str, Mapping[str, FoundWheel]]
    built: tuple[BuildRequirements, ...] = ()


@dataclass(frozen=True)
class _Found:
    """An answer about one platform."""

    pins: _Pins
    wheels: Mapping[str, FoundWheel]
    built: tuple[BuildRequirements, ...]


class _UnansweredError(Exception):
    """A resolver failed at ``request``."""

    def __init__(self, failure: ResolverFailure, request: Request) -> None:
        super().__init__(failure.text)
        self.failure = failure
        self.request = request


@dataclass
class Resolutions:
    """The resolutions of one command, each made once, whichever lock asks for it; safe to use from several threads.

    Attributes:
        made: how many there are.
        sources: builds what has no wheel.
        finder: finds the wheels of pins.
    """

    uv: Uv = field(default_factory=Uv)
    sources: Sources = field(init=False)
    finder: WheelFinder = field(init=False)
    _answers: dict[Question, Future[Answer]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_AT_ONCE))

    def __post_init__(self) -> None:
        self.sources = Sources(self.uv)
        self.finder = WheelFinder(self.uv)

    @property
    def made(self) -> int:
        """Count the resolutions."""
        return len(self._answers)

    def answer(self, question: Question, report: Callable[[Platform, int], None]) -> Answer:
        """Resolve ``question``, or return what has been answered before.

        Args:
            report: called with each platform that is resolved now, and the number of its packages.

        Raises:
            LockError: the resolver cannot be used.
            _UnansweredError: there is no answer.
        """
        with self._lock:
            future = self._answers.get(question)
            mine = future is None
            if future is None:
                future = self._answers[question] = Future()
        if mine:
            try:
                with self._running:
                    future.set_result(self._resolve(question, report))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def _resolve(self, question: Question, report: Callable[[Platform, int], None]) -> Answer:
        pins: dict[str, _Pins] = {}
        wheels: dict[str, Mapping[str, FoundWheel]] = {}
        built: list[BuildRequirements] = []
        for platform in question.platforms:
            # The versions of the first platform are preferred on the next ones.
            settled = {name: pin.version for chosen in pins.values() for name, pin in chosen.items()}
            request = question.request(platform)
            request = replace(request, preferences={**request.preferences, **settled})
            if settled:
                request = replace(request, upgrade=False, upgrade_packages=())
            found = self._one(question.resolver, request)
            pins[str(platform)], wheels[str(platform)] = found.pins, found.wheels
            built += found.built
            report(platform, len(found.pins))
        return Answer(pins, wheels, tuple(built))

    def _one(self, name: str, request: Request) -> _Found:
        resolver: Resolver = self.uv if name == "uv" else PipTools()
        local = self.sources.localized(request)
        asked = local.request
        try:
            pins = resolver.pins(asked) if asked.wanted or asked.runtime else {}
            wheels, built = self.sources.complete(local, pins, self.finder.wheels(asked, pins))
            return _Found(pins, wheels, built)
        except ResolverFailure as failure:
            raise _UnansweredError(failure, request) from failure


@dataclass
class Locker:
    """Resolves the environments of one lock as ``settings`` say.

    Attributes:
        kept: what of the old lock still holds is taken from it.
        previous: per environment the versions by name of the old lock, which are kept where possible.
        sizes: sizes known from the old lock.
        modules: the same for what wheels tell of themselves; ``None`` when that is not wanted.
        report: called with one line when something is done.
        resolutions: shared by all locks of a command.
    """

    settings: Settings
    kept: Kept | None = None
    previous: Mapping[str, _Versions] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)
    modules: Modules | None = None
    report: Callable[[str], None] = lambda _line: None
    resolutions: Resolutions = field(default_factory=Resolutions)
    _built: dict[str, LockedEnvironment] = field(default_factory=dict)

    def lock(self, environments: Sequence[Environment]) -> list[LockedEnvironment]:
        """Resolve ``environments``, the launcher's first: its pins hold for runtime requirements elsewhere.

        Raises:
            LockError: no solution, no wheel for a platform, or an index is unreachable; or an environment that is not
                among those to resolve has changed.
        """
        _check_resolver(self.settings)
        check_allowed(environments, self.settings.policy)
        launchers = [environment for environment in environments if environment.name == LAUNCHER]
        others = [environment for environment in environments if environment.name != LAUNCHER]
        locked = self._lock_all(launchers, {})
        versions = {item.environment.python: _versions(item) for item in locked.values()}
        locked.update(self._lock_all(others, versions))
        return [*(locked[environment.name] for environment in environments), *self._build_environments(locked)]

    def _build_environments(self, locked: Mapping[str, LockedEnvironment]) -> list[LockedEnvironment]:
        """Return the environments of what building the wheels of ``locked`` required: as made now, else as kept."""
        wheels = (wheel for item in locked.values() for found in item.wheels.values() for wheel in found)
        names = {wheel.source.requires for wheel in wheels if wheel.source and wheel.source.requires}
        found = []
        for name in sorted(names):
            made = self._built.get(name) or (self.kept.build_environment(name) if self.kept else None)
            assert made is not None  # a wheel that was built is made now or kept
            found.append(made)
        return found

    def _lock_all(
        self, environments: Sequence[Environment], launcher: Mapping[str, _Versions]
    ) -> dict[str, LockedEnvironment]:
        locked = {}
        groups: dict[Question, list[Environment]] = {}
        for environment in environments:
            pins = launcher.get(environment.python, {})
            kept = self.kept.take(environment, pins) if self.kept else None
            if kept:
                locked[environment.name] = kept
            else:
                groups.setdefault(self._question(environment, launcher), []).append(environment)
        self._refuse_others(groups)
        answers = self._answer(groups)
        wheels = [wheel for answer in answers.values() for found in answer.wheels.values() for wheel in found.values()]
        built = [requirements for answer in answers.values() for requirements in answer.built]
        wheels += [wheel for requirements in built for wheel in requirements.wheels.values()]
        # What a target makes says for itself what it is, and nobody may remember it.
        wheels = [wheel for wheel in wheels if not is_label(wheel.sha256)]
        sizes = self.sizes.complete(wheels)
        contents = self.modules.complete(wheels, sizes) if self.modules else {}
        for question, members in groups.items():
            for member in members:
                locked[member.name] = _locked(member, answers[question], sizes, contents)
        for item in built:
            answer = Answer({str(item.platform): dict(item.pins)}, {str(item.platform): item.wheels})
            self._built[item.environment.name] = _locked(item.environment, answer, sizes, contents)
        return locked

    def _refuse_others(self, groups: Mapping[Question, Sequence[Environment]]) -> None:
        """Refuse to leave an environment behind that the lock would not fit any more."""
        only = self.settings.only
        if not only:
            return
        left = sorted(member.name for members in groups.values() for member in members if member.name not in only)
        if left:
            raise LockError(
                f"--step {', '.join(only)}: {_names(left)} changed as well, or never was locked; name it with --step, "
                f"too, or run `{self.settings.command}`"
            )

    def _answer(self, groups: Mapping[Question, Sequence[Environment]]) -> dict[Question, Answer]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            futures = {
                question: pool.submit(self._answer_one, question, members) for question, members in groups.items()
            }
            failures = [error for error in (future.exception() for future in futures.values()) if error]
        for error in failures:
            if not isinstance(error, LockError):
                raise error
        if failures:
            raise LockError("\n\n".join(dict.fromkeys(str(error) for error in failures)))
        return {question: future.result() for question, future in futures.items()}

    def _answer_one(self, question: Question, members: Sequence[Environment]) -> Answer:
        names = ", ".join(member.name for member in members)

        def report(platform: Platform, count: int) -> None:
            self.report(f"resolved {names}: {count} packages for {platform}, Python {question.python}")

        try:
            return self.resolutions.answer(question, report)
        except _UnansweredError as error:
            raise explain(error.failure, error.request, members, self.settings) from error

    def _question(self, environment: Environment, launcher: Mapping[str, _Versions]) -> Question:
        """Steps with equal requirements are resolved once, unless their old pins differ."""
        settings, policy = self.settings, self.settings.policy
        runtime = {wanted.name for wanted in environment.kept_runtime}
        pinned = {name: version for pins in launcher.values() for name, version in pins.items()}
        preferences = {**pinned, **self.previous.get(environment.name, {})}
        pins = launcher.get(environment.python, {})
        constraints = tuple(sorted({item.text for item in (*policy.constraints, *settings.limits)}))
        overrides = tuple(sorted({item.text for item in policy.overrides}))
        building = BuildPolicy(constraints, overrides, policy.indexes_for(Environment(BUILD_PREFIX, "", ())))
        return Question(
            environment.python,
            settings.platforms,
            settings.glibc,
            settings.resolver,
            tuple(environment.requirements),
            tuple(environment.runtime_requirements),
            tuple(sorted((name, version) for name, version in pins.items() if name in runtime)),
            () if settings.upgrade else tuple(sorted(preferences.items())),
            environment.dependencies,
            constraints,
            overrides,
            policy.indexes_for(environment),
            frozenset(policy.build),
            settings.upgrade,
            settings.upgrade_packages,
            self.kept.recorded() if self.kept and policy.build else (),
            building if policy.build else BuildPolicy(),
            settings.wheels,
        )


def _check_resolver(settings: Settings) -> None:
    if settings.resolver not in RESOLVERS:
        raise LockError(f"attribute `resolver`: '{settings.resolver}' is unknown; choose from {', '.join(RESOLVERS)}")


def _versions(locked: LockedEnvironment) -> dict[str, str]:
    return {name: pin.version for pins in locked.pins.values() for name, pin in pins.items()}


def _names(names: Sequence[str]) -> str:
    return f"{'step' if len(names) == 1 else 'steps'} {', '.join(repr(name) for name in names)}"


def _locked(
    environment: Environment, result: Answer, sizes: Mapping[str, int], contents: Mapping[str, Contents]
) -> LockedEnvironment:
    sources = {WANTED: environment.source, RUNTIME: RUNTIME_SOURCE, OVERRIDES: OVERRIDE_SOURCE}
    return LockedEnvironment(
        environment,
        {platform: rename_sources(pins, sources) for platform, pins in result.pins.items()},
        {
            platform: [_locked_wheel(wheels[name], sizes, contents) for name in sorted(wheels)]
            for platform, wheels in result.wheels.items()
        },
    )


def _locked_wheel(wheel: FoundWheel, sizes: Mapping[str, int], contents: Mapping[str, Contents]) -> LockedWheel:
    sha256 = wheel.sha256
    return LockedWheel(
        wheel.name,
        wheel.version,
        wheel.file,
        sha256,
        sizes.get(sha256, wheel.size),
        wheel.contents or contents.get(sha256),
        wheel.source,
    )


def resolve_platforms(texts: Sequence[str]) -> tuple[Platform, ...]:
    """Return the platforms named by ``texts``, each once, sorted.

    Raises:
        LockError: a platform is not supported, or there is none.
    """
    if not texts:
        raise LockError("attribute `platforms` is empty: name at least one, for example linux/amd64")
    return tuple(platform for platform, _ in itertools.groupby(sorted(Platform.parse(text) for text in texts)))
