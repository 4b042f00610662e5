"""The resolver uv, and the wheels that pins mean, which uv finds for every resolver."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mfbazel.lock.errors import LockError
from mfbazel.lock.indexes import pip_settings, uv_arguments, uv_environment
from mfbazel.lock.model import Pin
from mfbazel.lock.request import OUTPUT, OVERRIDES, Request, ResolverFailure
from mfbazel.lock.requirements_txt import parse_resolved
from mfbazel.wheel.fetch import redact, sha256_of

_PYLOCK = "pylock.toml"
_UNREACHABLE = re.compile(
    r"Failed to fetch|error sending request|Request failed after|client error \(Connect\)|timed out"
)


@dataclass(frozen=True)
class FoundWheel:
    """A wheel on an index. ``size`` in bytes, -1 when the index does not say; ``url`` never leaves this
    process; ``index``: the policy's name of the index, empty for one of the user's configuration."""

    name: str
    version: str
    file: str
    sha256: str
    size: int
    url: str
    index: str = ""


@dataclass(frozen=True)
class Uv:
    """uv, run with the user's configuration. ``environment``: variables to start from (default: those of
    this process)."""

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @cached_property
    def _binary(self) -> str:
        return find_uv()

    @cached_property
    def _settings(self) -> dict[str, str]:
        return pip_settings()

    @cached_property
    def _variables(self) -> dict[str, str]:
        return uv_environment(self._settings, self.environment)

    @cached_property
    def _options(self) -> list[str]:
        return uv_arguments(self._settings, self.environment)

    def pins(self, request: Request) -> dict[str, Pin]:
        """See :class:`mfbazel.lock.request.Resolver`.

        uv's own preferences (the pins in its output file) drop a version when the first of several indexes has no
        wheel of it for the target, although another index has one. So preferences are given as constraints, and those
        that uv names in a conflict are given up until there is a solution.
        """
        preferences = request.kept
        fixed = self._upgraded(request, preferences)
        while True:
            try:
                return self._resolve(request, {}, {**preferences, **fixed})
            except ResolverFailure as failure:
                if failure.unreachable or not (preferences or fixed):
                    raise
                words = set(
                    map(canonicalize_name, re.findall(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", failure.text))
                )
                rest = {name: version for name, version in preferences.items() if name not in words}
                preferences, fixed = (rest, fixed) if len(rest) < len(preferences) else ({}, {})

    def _upgraded(self, request: Request, preferences: Mapping[str, str]) -> dict[str, str]:
        """Return the newest versions of the packages to upgrade; what they need may move with them."""
        if not request.upgrade_packages or not preferences:
            return {}
        names = set(map(canonicalize_name, request.upgrade_packages))
        free = self._resolve(request, preferences, {})
        return {name: pin.version for name, pin in free.items() if name in names}

    def _resolve(self, request: Request, output: Mapping[str, str], constraints: Mapping[str, str]) -> dict[str, Pin]:
        with tempfile.TemporaryDirectory(prefix="mfbazel-uv-") as temporary:
            directory = Path(temporary)
            arguments = request.write(directory, output, constraints)
            alone = [] if request.dependencies else ["--no-deps"]
            overrides = ["--override", OVERRIDES] if request.overrides else []
            self._compile([*_target(request), *alone, *overrides, *arguments], OUTPUT, directory)
            return parse_resolved((directory / OUTPUT).read_text(encoding="utf-8"))

    def wheels(self, request: Request, pins: Mapping[str, Pin]) -> dict[str, FoundWheel]:
        """Return, per name, the wheel of each of ``pins`` that an installer would take on the request's platform.

        Raises:
            ResolverFailure: a pin has no wheel there, or an index is unreachable.
            LockError: an index names no sha256 for a wheel.
        """
        if not pins:
            return {}
        with tempfile.TemporaryDirectory(prefix="mfbazel-uv-") as temporary:
            directory = Path(temporary)
            lines = "".join(f"{pin.name}=={pin.version}\n" for pin in pins.values())
            (directory / "pins.in").write_text(lines, encoding="utf-8")
            arguments = ["--format", "pylock.toml", "--no-deps", "pins.in"]
            self._compile([*_target(request), *arguments], _PYLOCK, directory)
            table = tomllib.loads((directory / _PYLOCK).read_text(encoding="utf-8"))
            ranks = {tag: rank for rank, tag in enumerate(request.platform.tags(request.python, request.glibc))}
            return {
                canonicalize_name(package["name"]): _best(package, ranks, directory)
                for package in table.get("packages", [])
            }

    def _compile(self, arguments: Sequence[str], output: str, directory: Path) -> None:
        """Run ``uv pip compile`` in ``directory``; paths are relative, so that no text holds a path of this machine."""
        command = [self._binary, "pip", "compile", "--quiet", "--color", "never", "--no-header", "--no-progress"]
        command += ["--python", sys.executable, "--only-binary", ":all:", "--output-file", output]
        command += [*self._options, *arguments]
        result = subprocess.run(
            command, cwd=directory, env=self._variables, capture_output=True, text=True, errors="replace", check=False
        )
        if result.returncode != 0:
            text = redact(result.stderr.strip() or result.stdout.strip())
            raise ResolverFailure(text, unreachable=bool(_UNREACHABLE.search(text)))


def find_uv() -> str:
    """Return the path of uv: of the installed package ``uv``, else from PATH.

    Raises:
        LockError: there is none.
    """
    try:
        from uv import find_uv_bin

        return os.fspath(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if not found:
        raise LockError("uv was not found, neither as the Python package `uv` nor on PATH: `pip install uv`")
    return found


def _target(request: Request) -> list[str]:
    return ["--python-version", request.python, "--python-platform", request.platform.for_uv(request.glibc)]


def _best(package: Mapping[str, Any], ranks: Mapping[Tag, int], directory: Path) -> FoundWheel:
    """Return the wheel with the best tag; among equals the highest build tag, then the first file name."""
    name, version = canonicalize_name(package["name"]), str(package["version"])
    ranked = []
    for entry in package.get("wheels", []):
        file = _file_name(entry)
        try:
            _, _, build, tags = parse_wheel_filename(file)
        except InvalidWheelFilename:
            continue
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if rank is not None:
            ranked.append((rank, tuple(-part if isinstance(part, int) else part for part in build), file, entry))
    if not ranked:
        raise ResolverFailure(f"{name}=={version} has no wheels that fit, only: {_names(package)}")
    _, _, file, entry = min(ranked, key=lambda item: item[:3])
    return FoundWheel(
        name, version, file, _sha256(entry, file, directory), int(entry.get("size", -1)), entry.get("url", "")
    )


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
