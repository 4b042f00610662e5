"""Wheels that no index has: built from sdists and from commits of git repositories.

An sdist is chosen by the resolver like a wheel, and built afterwards. What a requirement names by ``git+…`` is built
before, so that the resolver sees a wheel of it. Either happens only for names that ``build`` has: it runs foreign code.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from mfbazel.build.errors import BuildError
from mfbazel.build.fetch import fetch_sdist
from mfbazel.build.git import GitSource, fetch_commit, parse_git_url, resolve
from mfbazel.build.pep517 import check_built
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Environment, FirstPartyWheel, Pin, Policy, Recorded
from mfbazel.lock.origin import GIT, Source
from mfbazel.lock.resolver.request import Request
from mfbazel.lock.resolver.uv import FoundWheel, Uv, local_path
from mfbazel.lock.sources.building import Builder, BuildRequirements, environment_name
from mfbazel.wheel.fetch import FetchError, Wheel, cache_directory, cached, place


def _first_party(wheel: FirstPartyWheel) -> FoundWheel:
    """Return a wheel of this workspace: under its label where a target makes it, else under its hash."""
    key, size, contents = (wheel.label, 0, wheel.contents) if wheel.made else (wheel.sha256, wheel.size, None)
    url = wheel.path.as_uri()
    return FoundWheel(wheel.name, wheel.version, wheel.file, key, size, url, source=wheel.source, contents=contents)


def _found(recorded: Recorded, path: Path | None) -> FoundWheel:
    """Return a recorded wheel, which lies at ``path``, if anywhere."""
    wheel = recorded.wheel
    url = path.as_uri() if path else ""
    return FoundWheel(wheel.name, wheel.version, wheel.file, wheel.sha256, wheel.size, url, source=wheel.source)


def check_allowed(environments: Iterable[Environment], policy: Policy) -> None:
    """Check that ``build`` has everything that the ``environments`` require from git.

    Raises:
        LockError: it has not; names the place and the attribute.
    """
    for environment in environments:
        for wanted in (*environment.wanted, *environment.runtime):
            url = Requirement(wanted.text).url
            if url and wanted.name not in policy.build:
                raise LockError(
                    f"{wanted.where}: '{wanted.name}' is required from {url}: a wheel must be built of it, which runs "
                    f"code of that repository on this machine. If you trust it, allow that: attribute `build = "
                    f'["{wanted.name}"]` of the flow, or `build` below [lock] in mfbazel.toml.'
                )


@dataclass(frozen=True)
class Made:
    """A wheel that was built, or that an old lock has: then nothing else is said.

    Attributes:
        glibc: see :class:`mfbazel.build.normalise.Built`.
        dependencies: its ``Requires-Dist``.
        requirements: what building it required.
    """

    wheel: FoundWheel
    glibc: str = ""
    dependencies: tuple[str, ...] | None = None
    requirements: BuildRequirements | None = None


@dataclass(frozen=True)
class Localized:
    """A request that a resolver can answer, and the wheels by name that were made for that."""

    request: Request
    made: Mapping[str, Made] = field(default_factory=dict)


_Key = tuple[object, ...]


@dataclass
class Sources:
    """Builds what a command's locks need, each source once; safe to use from several threads.

    Attributes:
        uv: resolves build requirements.
        report: called with a line when something is built.
    """

    uv: Uv = field(default_factory=Uv)
    report: Callable[[str], None] = lambda _line: None
    _made: dict[_Key, Future[Made]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _temporary: tempfile.TemporaryDirectory[str] | None = None
    _builder: Builder | None = None

    def localized(self, request: Request) -> Localized:
        """Return ``request`` with every requirement from git replaced by a wheel that is built of it, and with the
        wheels of this workspace.

        Raises:
            LockError: the commit cannot be had, or cannot be built.
        """
        made = {wheel.name: Made(_first_party(wheel)) for wheel in request.wheels}
        texts = [self._localized(text, request, made) for text in (*request.wanted, *request.runtime)]
        if not made:
            return Localized(request)
        asked = replace(
            request,
            wanted=tuple(texts[: len(request.wanted)]),
            runtime=tuple(texts[len(request.wanted) :]),
            local={name: made[name].wheel.url for name in sorted(made)},
            preferences={name: version for name, version in request.preferences.items() if name not in made},
        )
        return Localized(asked, made)

    def _localized(self, text: str, request: Request, made: dict[str, Made]) -> str:
        requirement = Requirement(text)
        if not requirement.url:
            return text
        name = canonicalize_name(requirement.name)
        with _lock_errors(name):
            built = self._of_git(name, parse_git_url(requirement.url), request)
        if made.setdefault(name, built).wheel.source != built.wheel.source:
            raise LockError(f"'{name}' is required from two places: {made[name].wheel.source}, {built.wheel.source}")
        requirement.url = None
        return str(requirement)

    def complete(
        self, local: Localized, pins: Mapping[str, Pin], wheels: Mapping[str, FoundWheel]
    ) -> tuple[dict[str, FoundWheel], tuple[BuildRequirements, ...]]:
        """Return ``wheels`` with sdists replaced by what is built of them, and with the local ones that ``pins`` have;
        and what building them required, as far as no old lock says it.

        Raises:
            LockError: an sdist cannot be built, or what is built does not fit the request or the pins.
        """
        made = {name: built for name, built in local.made.items() if name in pins}
        for built in made.values():
            _check_fits(built, local.request)
        for name, found in wheels.items():
            if found.source is not None:  # an sdist
                with _lock_errors(name):
                    made[name] = self._of_sdist(found, found.source, local.request)
                _check_fits(made[name], local.request)
                _check_dependencies(made[name], local.request, pins)
        result = {**wheels, **{name: built.wheel for name, built in made.items()}}
        return result, tuple(built.requirements for built in made.values() if built.requirements)

    def _of_sdist(self, sdist: FoundWheel, source: Source, request: Request) -> Made:
        recorded = next((item for item in request.recorded if item.source.sha256 == source.sha256), None)
        if recorded:
            return Made(_found(recorded, None))

        def make() -> Made:
            archive = self._download(sdist)
            requires = environment_name(source, sdist.name, sdist.version)
            known = replace(source, size=archive.stat().st_size, requires=requires)
            return self._build(archive, known, sdist.name, sdist.version, request)

        return self._once((source.key, request.glibc, request.building), make)

    def _of_git(self, name: str, git: GitSource, request: Request) -> Made:
        recorded = next((item for item in request.recorded if _is_of(item, name, git)), None)
        if recorded:
            return self._once(("recorded", recorded), lambda: self._again(recorded, git))
        commit = resolve(git)
        source = Source(GIT, url=git.url, revision=git.revision, commit=commit, subdirectory=git.subdirectory)
        source = replace(source, requires=environment_name(source, name, ""))

        def make() -> Made:
            archive = self._place() / "source.tar"
            fetch_commit(git, commit, archive)
            return self._build(archive, source, name, "", request)

        return self._once((source.key, source.revision, request.glibc, request.building), make)

    def _again(self, recorded: Recorded, git: GitSource) -> Made:
        """Have the wheel that an old lock names: from the wheel cache, else by building it again."""
        wheel = recorded.wheel
        expected = Wheel(wheel.name, wheel.version, wheel.file, wheel.sha256)
        entry = cached(expected, cache_directory())
        if entry is None:
            archive = self._place() / "source.tar"
            fetch_commit(git, recorded.source.commit, archive)
            self.report(f"building {wheel.name} {wheel.version} again from {recorded.source}")
            entry = self._tools().build_again(archive, recorded).path
            _enter(entry, wheel.sha256)
        return Made(_found(recorded, entry))

    def _download(self, sdist: FoundWheel) -> Path:
        target = self._place() / sdist.file
        local = local_path(sdist.url)
        if local and local.is_file():
            shutil.copyfile(local, target)
            return target
        asked = Wheel(sdist.name, sdist.version, sdist.file, sdist.sha256)
        return fetch_sdist(asked, target, index=sdist.origin)

    def _build(self, archive: Path, source: Source, name: str, version: str, request: Request) -> Made:
        who = f"{name} {version or source.commit[:12]}"
        self.report(f"building {name} from {source}")
        built, requirements = self._tools().build(archive, source, who, request)
        check_built(built, name, version or built.version)
        _enter(built.path, built.sha256)
        wheel = FoundWheel(
            built.name, built.version, built.path.name, built.sha256, built.size, built.path.as_uri(), source=source
        )
        return Made(wheel, built.glibc, built.requires, requirements)

    def _once(self, key: _Key, make: Callable[[], Made]) -> Made:
        with self._lock:
            future = self._made.get(key)
            mine = future is None
            if future is None:
                future = self._made[key] = Future()
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def _place(self) -> Path:
        return self._tools().place()

    def _tools(self) -> Builder:
        with self._lock:
            if self._builder is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="mfbazel-sources-", ignore_cleanup_errors=True)
                self._builder = Builder(self.uv, Path(self._temporary.name).resolve())
            return self._builder


@contextmanager
def _lock_errors(name: str) -> Iterator[None]:
    """Turn the errors of building and fetching into those of locking."""
    try:
        yield
    except (BuildError, FetchError) as error:
        raise LockError(f"'{name}', which is built from source: {error}") from error


def _is_of(recorded: Recorded, name: str, git: GitSource) -> bool:
    source = recorded.source
    return recorded.wheel.name == name and (source.kind, source.url, source.revision, source.subdirectory) == (
        GIT,
        git.url,
        git.revision,
        git.subdirectory,
    )


def _enter(wheel: Path, sha256: str) -> None:
    """Enter a wheel into the wheel cache; one that cannot be written is no reason to fail."""
    with suppress(OSError):
        place(wheel, cache_directory() / sha256 / wheel.name)


def _check_fits(made: Made, request: Request) -> None:
    """Check that the wheel can be installed where the request says.

    Raises:
        LockError: it cannot.
    """
    _, _, _, tags = parse_wheel_filename(made.wheel.file)
    who = f"{made.wheel.name} {made.wheel.version} ({made.wheel.source})"
    advice = "Publish a wheel of it on your index, and require that."
    if not tags & set(request.platform.tags(request.python, request.glibc)):
        raise LockError(
            f"{who}, is {made.wheel.file}: its compiled code is for the Python and platform that built it, not for "
            f"Python {request.python} on {request.platform}. {advice}"
        )
    if made.glibc and _minor(made.glibc) > _minor(request.glibc):
        raise LockError(
            f"{who}: its compiled code needs glibc {made.glibc}, images may have {request.glibc} (attribute `glibc`). "
            f"If all of them have {made.glibc}, set `glibc` to it. {advice}"
        )


def _minor(glibc: str) -> int:
    return int(glibc.partition(".")[2])


def _check_dependencies(made: Made, request: Request, pins: Mapping[str, Pin]) -> None:
    """Check that the resolver, which asked the sdist for its requirements in its own way, saw those of the wheel.

    Raises:
        LockError: the wheel requires something else.
    """
    if not request.dependencies:
        return
    replaced = {canonicalize_name(Requirement(text).name) for text in request.overrides}
    for text in made.dependencies or ():
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name in replaced or (requirement.marker and not requirement.marker.evaluate(_target(request))):
            continue
        pin = pins.get(name)
        if pin is None or not requirement.specifier.contains(pin.version, prereleases=True):
            raise LockError(
                f"{made.wheel.name} {made.wheel.version}, built from {made.wheel.source}, requires {text}; the "
                f"resolver {'left that out' if pin is None else f'chose {pin.version}'}: what it requires depends on "
                f"the machine. Require {text} yourself."
            )


def _target(request: Request) -> dict[str, str]:
    """Return the environment of markers (PEP 508) of the images, without an extra."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{request.python}.0",
        "os_name": "posix",
        "platform_machine": request.platform.machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{request.python}.0",
        "python_version": request.python,
        "sys_platform": "linux",
        "extra": "",
    }
