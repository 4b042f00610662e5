"""The virtual environment that a build runs in: the build requirements that were given as wheels, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from mfbazel.build.errors import BuildError
from mfbazel.build.sandbox import Sandbox, tail


@dataclass(frozen=True)
class BuildEnvironment:
    """A virtual environment in ``directory`` and the versions that it has by normalized name."""

    directory: Path
    versions: dict[NormalizedName, Version]

    @property
    def binaries(self) -> Path:
        """The directory of its programs."""
        return self.directory / "bin"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.binaries / "python"

    def missing(self, requirements: Iterable[str]) -> list[str]:
        """Return those of ``requirements`` (PEP 508) that apply to this interpreter and are not met, sorted.

        Raises:
            BuildError: one of them is no requirement.
        """
        return sorted(text for text in requirements if applies(text) and not self._has(Requirement(text)))

    def _has(self, requirement: Requirement) -> bool:
        version = self.versions.get(canonicalize_name(requirement.name))
        return version is not None and requirement.specifier.contains(version, prereleases=True)


def applies(text: str) -> bool:
    """Say whether the marker of the requirement ``text`` holds for this interpreter, without an extra.

    Raises:
        BuildError: it is no requirement.
    """
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise BuildError(f"the source's build requirement '{text}' is not a requirement: {error}") from error
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def place_of(sandbox: Sandbox) -> Path:
    """Return where the environment of a sandbox is."""
    return sandbox.directory / "env"


def make_environment(wheels: Sequence[Path], sandbox: Sandbox) -> BuildEnvironment:
    """Make the environment of ``wheels``, with the running interpreter.

    Raises:
        BuildError: a wheel is not for this interpreter, or cannot be installed.
    """
    directory = place_of(sandbox)
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = base if base.is_file() else Path(sys.executable)
    _uv(["venv", "--quiet", "--python", str(python), str(directory)], sandbox)
    environment = BuildEnvironment(directory, dict(map(_version, wheels)))
    if wheels:
        install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--link-mode", "copy"]
        _uv(
            [*install, "--python", str(environment.python), *sorted(str(wheel.absolute()) for wheel in wheels)], sandbox
        )
    return environment


def _version(wheel: Path) -> tuple[NormalizedName, Version]:
    try:
        name, version, _, _ = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename as error:
        raise BuildError(f"{wheel}: not the file name of a wheel: {error}") from error
    return name, version


def _uv(arguments: Sequence[str], sandbox: Sandbox) -> None:
    """Run uv, which is no foreign code, without network and configuration."""
    command = [_find_uv(), *arguments, "--offline", "--no-config", "--no-cache", "--color", "never"]
    result = subprocess.run(
        command,
        cwd=sandbox.directory,
        env=sandbox.environment(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode != 0:
        raise BuildError(f"the environment of build requirements cannot be made:\n{tail(result.stderr)}")


def _find_uv() -> str:
    try:
        from uv import find_uv_bin

        return os.fspath(find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise BuildError("uv was not found, which makes the environments of builds: `pip install uv`") from error
