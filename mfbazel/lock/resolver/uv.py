"""The resolver uv, and the wheels that pins mean, which uv finds for every resolver."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Contents, Pin
from mfbazel.lock.origin import SDIST, Source
from mfbazel.lock.resolver.indexes import Credentials
from mfbazel.lock.resolver.pinned import PROJECT, Pinned, settle
from mfbazel.lock.resolver.request import OUTPUT, OVERRIDES, Request, ResolverFailure, words
from mfbazel.lock.resolver.scratch import scratch
from mfbazel.lock.resolver.uv_process import UvProcess, say
from mfbazel.wheel.fetch import sha256_of

_PINS, _PYLOCK = "pins.in", "pylock.toml"


@dataclass(frozen=True)
class FoundWheel:
    """A wheel on an index.

    Attributes:
        size: in bytes, -1 when the index does not say.
        url: with credentials, when the policy names the index; never leaves this process.
        index: the policy's name of the index, empty for one of the user's configuration; ``index_url``: its URL as the
            policy has it.
        source: what it is built from; the ``file`` of an sdist that is to be built is the sdist.
        contents: what it tells of itself, where that is known already.
    """

    name: str
    version: str
    file: str
    sha256: str
    size: int
    url: str
    index: str = ""
    index_url: str = ""
    source: Source | None = None
    contents: Contents | None = None

    @property
    def origin(self) -> tuple[str, str] | None:
        """What :func:`mfbazel.wheel.fetch.fetch` has to know of the index."""
        return (self.index, self.index_url) if self.index else None


@dataclass(frozen=True)
class Uv:
    """uv, run with the user's configuration.

    Attributes:
        environment: variables to start from (default: those of this process).
        say: called with a line that a person should read (default: writes it to standard error).
    """

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    say: Callable[[str], None] = say

    @cached_property
    def _process(self) -> UvProcess:
        return UvProcess(self.environment, self.say)

    def pins(self, request: Request) -> dict[str, Pin]:
        """See :class:`mfbazel.lock.resolver.request.Resolver`.

        uv prefers the pins in its output file, which holds nothing else back. But where the first of several indexes
        has no wheel of one for the target, it drops that pin, or fails, although another index has: such pins are left
        out, and what moved is asked for again.
        """
        preferred = request.kept
        while True:
            try:
                found = self._resolve(request, preferred, {})
            except ResolverFailure as failure:
                if failure.unreachable or not preferred:
                    raise
                named = words(failure.text) & preferred.keys()
                preferred = {name: version for name, version in preferred.items() if named and name not in named}
            else:
                return self._kept(request, found)

    def _kept(self, request: Request, found: Mapping[str, Pin]) -> dict[str, Pin]:
        """Return ``found`` with more of the preferences kept, where nothing else would move for that."""
        preferred = request.kept
        moved = {
            name: preferred[name]
            for name, pin in found.items()
            if name not in request.local and preferred.get(name, pin.version) != pin.version
        }
        self._say_gone(request, moved)
        moved = self._fitting(request, moved)
        while moved:
            rest = {name: pin.version for name, pin in found.items() if name not in moved}
            try:
                return self._resolve(request, {}, {**moved, **rest})
            except ResolverFailure as failure:
                if failure.unreachable:
                    raise
                named = words(failure.text) & moved.keys()
                moved = {name: version for name, version in moved.items() if name not in named} if named else {}
        return dict(found)

    def _fitting(self, request: Request, versions: Mapping[str, str]) -> dict[str, str]:
        """Return those of ``versions`` that some index has for the target: of each, uv takes the newest up to there."""
        if not versions or not self._process.several_indexes():
            return {}
        wanted = tuple(f"{name}<={version}" for name, version in versions.items())
        alone = replace(request, wanted=wanted, runtime=(), constraints=(), overrides=(), dependencies=False)
        try:
            pins = self._resolve(alone, {}, {})
        except ResolverFailure:
            return {}
        return {name: version for name, version in versions.items() if name in pins and pins[name].version == version}

    def _say_gone(self, request: Request, versions: Mapping[str, str]) -> None:
        """Say which of ``versions`` is on no index any more, for whichever target."""
        if not versions:
            return
        pinned = Pinned(request.indexes, self.environment)
        exact = {name: f"{name}=={version}" for name, version in versions.items()}
        carried = {name: exact.pop(name) for name in sorted(pinned.among(exact))}
        try:
            with scratch() as directory:
                (directory / _PINS).write_text("".join(f"{line}\n" for line in exact.values()), encoding="utf-8")
                self._compile(request, ["--no-deps", _PINS], OUTPUT, directory, pinned, carried)
        except ResolverFailure as failure:
            for name, version in sorted(versions.items()):
                if f"there is no version of {name}=={version}" in failure.text:
                    self._process.say_once(f"warning: {name} {version}, which was locked, is on no index any more")

    def _resolve(self, request: Request, output: Mapping[str, str], constraints: Mapping[str, str]) -> dict[str, Pin]:
        """Resolve once; with indexes of a policy, as often as it takes until all of theirs come from them."""
        pinned = Pinned(request.indexes, self.environment)
        pinned.refuse_overrides(request)

        def ask(carried: frozenset[str], banned: frozenset[str]) -> str:
            limits = (*request.constraints, *(f"{name}<0.dev0" for name in sorted(banned)))
            return self._once(replace(request, constraints=limits), output, constraints, pinned, carried)

        direct = pinned.among(Requirement(text).name for text in (*request.wanted, *request.runtime))
        guessed = direct | pinned.among(output)
        if guessed != direct:
            try:
                return settle(pinned, guessed, guessed, ask)
            except ResolverFailure as failure:
                if failure.unreachable:
                    raise
        return settle(pinned, direct, direct, ask)

    def _once(
        self,
        request: Request,
        output: Mapping[str, str],
        constraints: Mapping[str, str],
        pinned: Pinned,
        carried: frozenset[str],
    ) -> str:
        """Return the requirements file that uv writes."""
        with scratch() as directory:
            arguments = [*_target(request), *request.write(directory, output, constraints)]
            arguments += [] if request.dependencies else ["--no-deps"]
            arguments += ["--override", OVERRIDES] if request.overrides else []
            self._compile(request, arguments, OUTPUT, directory, pinned, {name: name for name in carried})
            return (directory / OUTPUT).read_text(encoding="utf-8")

    def wheels(self, request: Request, pins: Mapping[str, Pin]) -> dict[str, FoundWheel]:
        """Return, per name, the wheel of each of ``pins`` that an installer would take on the request's platform; of
        what is built from source the sdist.

        Raises:
            ResolverFailure: a pin has no wheel there, or an index is unreachable.
            LockError: an index names no sha256 for a wheel.
        """
        pins = {name: pin for name, pin in pins.items() if name not in request.local}
        if not pins:
            return {}
        pinned = Pinned(request.indexes, self.environment)
        exact = {name: f"{pin.name}=={pin.version}" for name, pin in pins.items()}
        carried = {name: exact.pop(name) for name in sorted(pinned.among(pins))}
        with scratch() as directory:
            (directory / _PINS).write_text("".join(f"{line}\n" for line in exact.values()), encoding="utf-8")
            arguments = [*_target(request), "--no-deps", _PINS]
            if pinned.indexes:
                self._compile(request, arguments, OUTPUT, directory, pinned, carried)
                pinned.verify((directory / OUTPUT).read_text(encoding="utf-8"))
            self._compile(request, ["--format", "pylock.toml", *arguments], _PYLOCK, directory, pinned, carried)
            table = tomllib.loads((directory / _PYLOCK).read_text(encoding="utf-8"))
            return {
                canonicalize_name(package["name"]): self._found(request, package, pinned, directory)
                for package in table.get("packages", [])
            }

    def _found(self, request: Request, package: Mapping[str, Any], pinned: Pinned, directory: Path) -> FoundWheel:
        ranks = {tag: rank for rank, tag in enumerate(request.platform.tags(request.python, request.glibc))}
        built = canonicalize_name(package["name"]) in request.build
        wheel = _sdist(package, directory) if built else _best(package, ranks, directory)
        index = pinned.of(wheel.name)
        if index is None:
            return wheel
        url = self._credentials(pinned).in_url(wheel.url)
        return replace(wheel, index=index.name, index_url=index.url, url=url)

    def _credentials(self, pinned: Pinned) -> Credentials:
        return Credentials(self._process.settings(), self.environment, pinned.urls, pinned.hidden)

    def _compile(
        self,
        request: Request,
        arguments: Sequence[str],
        output: str,
        directory: Path,
        pinned: Pinned,
        carried: Mapping[str, str],
    ) -> None:
        """Run uv; ``carried``: the requirements of pinned distributions by name."""
        every = ["--only-binary", ":all:", *arguments]
        for name in sorted(request.build - request.local.keys()):
            every += ["--no-binary", name]
        if carried:
            (directory / PROJECT).write_text(pinned.project(carried), encoding="utf-8")
            every.append(PROJECT)
        if pinned.indexes and output == OUTPUT:
            every.append("--emit-index-annotation")
        self._process.compile(every, output, directory, self._credentials(pinned))


def _target(request: Request) -> list[str]:
    return ["--python-version", request.python, "--python-platform", request.platform.for_uv(request.glibc)]


def best_wheel(files: Iterable[str], ranks: Mapping[Tag, int]) -> str | None:
    """Return which of the wheels ``files`` of one version an installer takes, ``None`` when none fits: the one with the
    best tag, of several the one with the highest build tag, then the last by name.

    ``ranks``: the tags that fit (PEP 425), 0 is best.
    """
    ranked = []
    for file in files:
        try:
            _, _, build, tags = parse_wheel_filename(file)
        except InvalidWheelFilename:
            continue
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if rank is not None:
            ranked.append((-rank, build, file))
    return max(ranked)[2] if ranked else None


def _best(package: Mapping[str, Any], ranks: Mapping[Tag, int], directory: Path) -> FoundWheel:
    name, version = canonicalize_name(package["name"]), str(package["version"])
    entries = {_file_name(entry): entry for entry in reversed(package.get("wheels", []))}
    file = best_wheel(entries, ranks)
    if file is None:
        raise ResolverFailure(f"{name}=={version} has no wheels that fit, only: {_names(package)}")
    entry = entries[file]
    return FoundWheel(
        name, version, file, _sha256(entry, file, directory), int(entry.get("size", -1)), entry.get("url", "")
    )


def _sdist(package: Mapping[str, Any], directory: Path) -> FoundWheel:
    name, version = canonicalize_name(package["name"]), str(package["version"])
    entry = package.get("sdist")
    if not entry:
        raise ResolverFailure(f"{name}=={version} has no sdist, and `build` says to build it from source")
    file = _file_name(entry)
    source = Source(SDIST, file, _sha256(entry, file, directory), int(entry.get("size", -1)))
    return FoundWheel(name, version, file, source.sha256, source.size, entry.get("url", ""), source=source)


def _names(package: Mapping[str, Any]) -> str:
    return ", ".join(sorted(_file_name(entry) for entry in package.get("wheels", []))) or "none"


def _file_name(entry: Mapping[str, Any]) -> str:
    location = entry.get("name") or urlsplit(entry.get("url", "")).path or entry.get("path", "")
    return unquote(str(location).rpartition("/")[2])


def _sha256(entry: Mapping[str, Any], file: str, directory: Path) -> str:
    """Return the sha256 that the index names, or compute it where the wheel is a local file."""
    named = entry.get("hashes", {}).get("sha256")
    if named:
        return str(named)
    local = local_path(entry.get("url", "")) or (directory / entry["path"] if "path" in entry else None)
    if local and local.is_file():
        return sha256_of(local)
    raise LockError(f"the index names no sha256 for {file}: a lock needs one. Ask for it where the index is run.")


def local_path(url: str) -> Path | None:
    """Return the path that a ``file:`` URL means, else ``None``."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
