"""A package index of small wheels, made by the tests, and a pip and uv configuration that knows nothing else."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)")


def wheel(
    directory: Path,
    name: str,
    version: str,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    *,
    modules: Sequence[str] | None = None,
    python: str = "",
    license: str = "",
) -> None:
    """Make a wheel that holds ``modules``, by default one called ``name``; ``python``: what it requires of Python;
    ``license``: an SPDX expression.

    A module with a slash lies in a namespace package; ``pkg/__init__`` makes a regular one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    metadata += [f"Requires-Python: {python}"] if python else []
    metadata += [f"License-Expression: {license}"] if license else []
    metadata += [f"Provides-Extra: {extra}" for extra in dict.fromkeys(_EXTRA.findall(" ".join(requires)))]
    files = {f"{module}.py": f"version = {version!r}\n" for module in ([name] if modules is None else modules)}
    files[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
    files[f"{info}/RECORD"] = "".join(f"{path},{_hash(text)},\n" for path, text in files.items()) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(directory / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def _hash(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return f"sha256={digest.decode().rstrip('=')}"


def use_only(directory: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pip and uv find wheels in ``directory`` alone, with caches and configuration below ``home``."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "BUILD_WORKSPACE")):
            monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "UV_CACHE_DIR"):
        monkeypatch.setenv(name, str(home / name))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    return directory
